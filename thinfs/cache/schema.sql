-- The node cache's book-keeping, state.sqlite. Several processes use it at once.
--
-- The files are the truth about what can be read; this database is the truth about what counts
-- against the quota. A file is served only from its final name, which it gets whole.

-- Every file of contents/, partial/, catalogs/, metadata/ and boots/ that counts against the
-- quota.
CREATE TABLE files (
    -- Ascending in the order the files came; never used twice. See about.durable_id.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The folder.
    kind        TEXT NOT NULL
        CHECK (kind IN ('content', 'partial', 'catalog', 'metadata', 'boot')),
    -- The file's name as 32 bytes: SHA-256 of the body, for a partial one of its layout
    -- (thinfs.cache.plan.layout_digest).
    digest      BLOB NOT NULL CHECK (length(digest) = 32),
    -- Bytes that count against the quota: what was written, in whole blocks of 4096. For a
    -- partial content never less than what it holds; it grows before the bytes are written.
    bytes       INTEGER NOT NULL CHECK (bytes >= 0),
    -- Last use, nanoseconds since the epoch: the order of eviction. Seconds late at most.
    last_use_ns INTEGER NOT NULL,
    -- A partial file's inode number, else 0: tells its writer that it is still this very file.
    inode       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, digest)
) STRICT;
CREATE INDEX files_by_use ON files (last_use_ns);

-- Which extents of a partial content are in its file. Goes with its row in files.
CREATE TABLE extents (
    -- files.digest of a 'partial'.
    layout BLOB NOT NULL,
    -- Position in the content's list of extents, from 0.
    extent INTEGER NOT NULL,
    PRIMARY KEY (layout, extent)
) STRICT, WITHOUT ROWID;

-- What a process is about to write: counts against the quota from before the first byte.
-- The row goes in the transaction in which the file gets its name and its row in files; of a
-- process that died, both the row and the nameless file are removed by the next that opens.
CREATE TABLE pending (
    -- Folder of the writer below tmp/, which it keeps locked while it lives.
    owner  TEXT NOT NULL,
    kind   TEXT NOT NULL,
    digest BLOB NOT NULL,
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (owner, kind, digest)
) STRICT, WITHOUT ROWID;

-- Files that must not be evicted while their owner lives: the catalogs, metadata images
-- and boot records of attached roots.
CREATE TABLE pins (
    owner  TEXT NOT NULL,
    kind   TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (owner, kind, digest)
) STRICT, WITHOUT ROWID;

-- One row.
CREATE TABLE about (
    -- /proc/sys/kernel/random/boot_id of the boot the rows were written in.
    boot_id    TEXT NOT NULL,
    -- Files up to this id have reached the disk for certain. Younger ones are dropped when the
    -- machine has been started anew: after a power cut they may hold anything.
    durable_id INTEGER NOT NULL DEFAULT 0,
    -- sum(files.bytes) + sum(pending.bytes), kept by the triggers below.
    bytes      INTEGER NOT NULL DEFAULT 0,
    -- count of files of kind 'content', kept by the triggers below.
    contents   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TRIGGER files_come AFTER INSERT ON files BEGIN
    UPDATE about SET bytes = bytes + NEW.bytes, contents = contents + (NEW.kind = 'content');
END;
CREATE TRIGGER files_grow AFTER UPDATE OF bytes ON files BEGIN
    UPDATE about SET bytes = bytes + NEW.bytes - OLD.bytes;
END;
CREATE TRIGGER files_go AFTER DELETE ON files BEGIN
    UPDATE about SET bytes = bytes - OLD.bytes, contents = contents - (OLD.kind = 'content');
    DELETE FROM extents WHERE layout = OLD.digest AND OLD.kind = 'partial';
END;
CREATE TRIGGER pending_come AFTER INSERT ON pending BEGIN
    UPDATE about SET bytes = bytes + NEW.bytes;
END;
CREATE TRIGGER pending_go AFTER DELETE ON pending BEGIN
    UPDATE about SET bytes = bytes - OLD.bytes;
END;
