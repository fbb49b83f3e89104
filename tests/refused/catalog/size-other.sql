-- size other
UPDATE inode SET size = 5 WHERE ino = 3;
