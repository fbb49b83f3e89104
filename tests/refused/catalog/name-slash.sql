-- name slash
UPDATE entry SET name = x'612f62' WHERE ino = 3;
