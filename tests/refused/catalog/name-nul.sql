-- name nul
UPDATE entry SET name = x'6100' WHERE ino = 3;
