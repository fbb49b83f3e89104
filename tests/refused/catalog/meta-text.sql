-- meta text
UPDATE meta SET value = 'many' WHERE key = 'inodes';
