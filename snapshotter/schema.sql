-- The snapshotter's own memory. One writer at a time (BEGIN IMMEDIATE), readers beside it (WAL).
-- What a row means on disk, and in which order rows and directories come and go:
-- docs/snapshotter.md.

-- One row per snapshot that clients know. A directory snapshots/<id> without a row is garbage.
CREATE TABLE snapshot (
    id          INTEGER PRIMARY KEY,        -- from id_block; names the directory
    key         TEXT    NOT NULL UNIQUE,    -- key (view, active) or name (committed); opaque
    parent      INTEGER REFERENCES snapshot (id), -- a committed snapshot; NULL for none
    kind        INTEGER NOT NULL CHECK (kind IN (1, 2, 3)), -- 1 view, 2 active, 3 committed
    created_ns  INTEGER NOT NULL,           -- since 1970; set again by commit
    updated_ns  INTEGER NOT NULL,           -- since 1970; >= created_ns but for a clock set back
    labels      TEXT    NOT NULL,           -- JSON object of strings, none empty
    size_bytes  INTEGER NOT NULL DEFAULT 0, -- allocated bytes, measured at commit; 0 before
    inodes      INTEGER NOT NULL DEFAULT 0, -- measured at commit; 0 before
    recipe      TEXT    REFERENCES recipe (digest), -- thin layer: what it says; NULL for the rest
    CHECK (recipe IS NULL OR (kind = 3 AND parent IS NULL))
) STRICT;
CREATE INDEX snapshot_by_parent ON snapshot (parent) WHERE parent IS NOT NULL;
CREATE INDEX snapshot_by_recipe ON snapshot (recipe) WHERE recipe IS NOT NULL;

-- The thin.json of thin layers, as they came. Goes with the last snapshot that has it.
CREATE TABLE recipe (
    digest      TEXT PRIMARY KEY,           -- "sha256:" and 64 hex digits, of text as UTF-8
    text        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Snapshots for which the daemon was asked to hold a root. Written before the daemon is asked
-- and deleted after it let go, so that no claim is ever forgotten; there may be no row in
-- snapshot (yet, or any more).
CREATE TABLE claim (
    snapshot    INTEGER PRIMARY KEY         -- snapshot.id
) STRICT;

-- One row. Ids below next are given away or lost; none is ever given twice.
CREATE TABLE id_block (
    next        INTEGER NOT NULL
) STRICT;
INSERT INTO id_block (next) VALUES (1);

-- One row. Tells this snapshotter's claims at the daemon from another's.
CREATE TABLE instance (
    name        TEXT NOT NULL               -- 8 hex digits, random
) STRICT;
INSERT INTO instance (name) VALUES (lower(hex(randomblob(4))));
