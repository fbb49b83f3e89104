-- symlink nul
UPDATE symlink SET target = x'6100';
