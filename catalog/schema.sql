-- A catalog: one tree (every name, inode, xattr and extent of a layer or of a root) as a SQLite
-- database that is written once and only read afterwards. catalog/schema.py removes these
-- comments before the statements are used, so they are not part of a catalog's bytes.
--
-- All integers are within the ranges given here and never NULL; all BLOBs are bytes, never TEXT.
-- A file whose sqlite_schema differs from these statements in anything is not a catalog.
-- catalog/check.py verifies every invariant that is marked with [check].
--
-- Same tree, same bytes: rows are inserted in the order of their keys, numbers follow from
-- the tree alone, and nothing here depends on the time, the machine or the order of the input.

-- What this file is, and the counts that CatalogSummary gives.
--   kind           TEXT 'layer' or 'root'
--   inodes, names, contents, objects    rows of inode, entry, content, object [check]
--   content_bytes  sum of content.size [check]
--   file_bytes     sum of inode.size over regular files [check]
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- One row an inode. Every inode is reachable from inode 1 [check].
CREATE TABLE inode (
    -- 1 is the root directory. Dense [check], in the order in which a depth-first walk that
    -- takes each directory's names in ascending order first meets the inode [check]; so a
    -- directory's number is larger than its parent's, and no cycle can pass unnoticed.
    ino INTEGER PRIMARY KEY,
    -- st_mode: one of the seven types of inode(7) and the twelve permission bits [check].
    -- A character device 0:0 is a whiteout: the name is absent whatever lower layers hold;
    -- only in layers [check].
    mode INTEGER NOT NULL,
    -- Owner and group, 0 to 2^32 - 1.
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    -- Nanoseconds since the epoch, the whole signed 64-bit range.
    mtime_ns INTEGER NOT NULL,
    -- Bytes: of a regular file's body, of a symlink's target; 0 for all others [check].
    size INTEGER NOT NULL,
    -- A directory: 2 + its subdirectories. All others: rows of entry with this ino [check].
    nlink INTEGER NOT NULL,
    -- Device numbers, 0 to 4095 and 0 to 2^20 - 1; 0 for what is no device [check].
    major INTEGER NOT NULL,
    minor INTEGER NOT NULL,
    -- content.id of a regular file's body; 0 exactly when size is 0 or it is no regular file
    -- [check].
    content_id INTEGER NOT NULL,
    -- xattr.set_id; 0 when there are no extended attributes [check].
    xattr_id INTEGER NOT NULL,
    -- Of directories in layers; 0 for all others [check].
    --   1  opaque: hides what lower layers hold below it
    --   2  implied: no entry named it, only paths below it; mode 0755, owner 0:0, time 0 stand
    --      for the attributes that lower layers give it
    flags INTEGER NOT NULL
);

-- Names. The parent is a directory [check], and a directory has one name [check].
CREATE TABLE entry (
    parent INTEGER NOT NULL,
    -- 1 to 255 bytes, any but '/' and NUL, not '.' or '..' [check]. Compared as bytes: the order
    -- of the primary key is the order in which directories are read, and a position in a
    -- directory (a readdir cookie) is the number of its names up to and including one.
    name BLOB NOT NULL,
    ino INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;

-- Targets of symlinks: 1 to 4095 bytes without NUL, one for each symlink and no other [check].
CREATE TABLE symlink (
    ino INTEGER PRIMARY KEY,
    target BLOB NOT NULL
);

-- Sets of extended attributes; equal sets are one set. Every set is used by an inode [check].
CREATE TABLE xattr (
    -- 1..n, dense, in the order of the first inode that has the set [check].
    set_id INTEGER NOT NULL,
    -- With its prefix, 1 to 255 bytes without NUL; never below trusted.overlay. or user.overlay.
    -- [check].
    name BLOB NOT NULL,
    -- 0 to 65536 bytes, as they are (capabilities and ACLs in the kernel's binary form).
    value BLOB NOT NULL,
    PRIMARY KEY (set_id, name)
) WITHOUT ROWID;

-- Hard links of a layer to a file that the layer itself does not hold: merging finds the file in
-- the layers below. (parent, name) is not in entry [check]; only in layers [check].
CREATE TABLE pending_link (
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    -- Path from the root, components joined by '/'; its last component is not followed when it
    -- is a symlink, the others are.
    target BLOB NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;

-- The stored objects that the contents lie in. Each is used by an extent [check].
CREATE TABLE object (
    -- 1..n, dense, in ascending order of digest [check]: a digest is found by searching the ids.
    id INTEGER PRIMARY KEY,
    -- SHA-256 of the uncompressed bytes, 32 bytes.
    digest BLOB NOT NULL,
    -- Uncompressed bytes, and bytes of the zstd frame; both at least 1.
    size INTEGER NOT NULL,
    stored_size INTEGER NOT NULL
);

-- The bodies of regular files. Each is used by an inode, of the same size [check].
CREATE TABLE content (
    -- 1..n, dense, in ascending order of digest [check]. There is no index on digest: digests do
    -- not compress, and catalogs travel over the network.
    id INTEGER PRIMARY KEY,
    -- SHA-256 of the whole body, 32 bytes.
    digest BLOB NOT NULL,
    -- Bytes, at least 1.
    size INTEGER NOT NULL
);

-- Where the bytes of contents are. What no extent covers is zero.
CREATE TABLE extent (
    content_id INTEGER NOT NULL,
    -- First byte in the content. Extents of a content do not overlap, and end inside it [check].
    offset INTEGER NOT NULL,
    object_id INTEGER NOT NULL,
    -- First byte in the uncompressed object; the extent ends inside the object [check].
    object_offset INTEGER NOT NULL,
    -- Bytes, at least 1.
    length INTEGER NOT NULL,
    PRIMARY KEY (content_id, offset)
) WITHOUT ROWID;

-- An object that has arrived brings all contents that lie in it.
CREATE INDEX extent_object ON extent (object_id);
