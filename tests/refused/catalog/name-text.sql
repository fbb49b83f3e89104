-- name text
UPDATE entry SET name = 'f' WHERE ino = 3;
