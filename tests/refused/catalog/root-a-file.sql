-- root a file
UPDATE inode SET mode = 33188 WHERE ino = 1;
