-- meta missing
DELETE FROM meta WHERE key = 'inodes';
