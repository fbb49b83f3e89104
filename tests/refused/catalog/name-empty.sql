-- name empty
UPDATE entry SET name = x'' WHERE ino = 3;
