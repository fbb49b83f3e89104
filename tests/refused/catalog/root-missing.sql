-- root missing
DELETE FROM inode WHERE ino = 1;
