-- meta lies
UPDATE meta SET value = 99 WHERE key = 'inodes';
