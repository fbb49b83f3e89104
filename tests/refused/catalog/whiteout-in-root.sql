-- whiteout in root
UPDATE inode SET mode = 8192, size = 0, content_id = 0 WHERE ino = 3;
