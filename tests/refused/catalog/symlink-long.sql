-- symlink long
UPDATE symlink SET target = zeroblob(5000);
