-- opaque in root
UPDATE inode SET flags = 1 WHERE ino = 2;
