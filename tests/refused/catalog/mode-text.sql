-- mode text
UPDATE inode SET mode = 'rwx' WHERE ino = 3;
