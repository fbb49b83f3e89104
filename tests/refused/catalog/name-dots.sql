-- name dots
UPDATE entry SET name = x'2e2e' WHERE ino = 3;
