-- What has been brought to this node on purpose: images that were warmed, and what of them is
-- pinned. Part of state.sqlite; added to an older one when it is opened.

-- One version of an image, or a part of it. A name has several while a newer version is coming.
CREATE TABLE images (
    id      INTEGER PRIMARY KEY,
    -- The image's full name, or the path it was named by.
    name    TEXT NOT NULL,
    -- 'all', 'profile', or 'path' and the patterns, separated by line breaks.
    part    TEXT NOT NULL,
    -- SHA-256 of the recipe's text.
    version BLOB NOT NULL CHECK (length(version) = 32),
    -- The text of thin.json: from where to fetch again what is damaged.
    recipe  TEXT NOT NULL,
    -- Whether its files must stay, whoever lives.
    pinned  INTEGER NOT NULL CHECK (pinned IN (0, 1)),
    UNIQUE (name, part, version)
) STRICT;

-- The files that make it up, here or not.
CREATE TABLE image_files (
    image  INTEGER NOT NULL,
    -- As in files.
    kind   TEXT NOT NULL,
    digest BLOB NOT NULL,
    -- What it counts against the quota when all of it is here.
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (image, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_files_by_file ON image_files (kind, digest);

CREATE TRIGGER images_go AFTER DELETE ON images BEGIN
    DELETE FROM image_files WHERE image = OLD.id;
END;
