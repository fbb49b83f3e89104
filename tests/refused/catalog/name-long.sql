-- name long
UPDATE entry SET name = zeroblob(256) WHERE ino = 3;
