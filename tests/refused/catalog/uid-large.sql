-- uid large
UPDATE inode SET uid = 4294967296 WHERE ino = 3;
