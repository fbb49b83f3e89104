-- xattr overlay
INSERT INTO xattr VALUES (1, CAST('trusted.overlay.opaque' AS BLOB), x'79'); UPDATE inode SET xattr_id = 1 WHERE ino = 2;
