-- symlink missing
DELETE FROM symlink;
