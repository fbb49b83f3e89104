-- size negative
UPDATE inode SET size = -1 WHERE ino = 3;
