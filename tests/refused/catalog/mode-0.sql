-- mode 0
UPDATE inode SET mode = 0 WHERE ino = 3;
