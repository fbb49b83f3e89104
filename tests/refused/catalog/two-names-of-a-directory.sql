-- two names of a directory
INSERT INTO entry VALUES (1, x'7a', 2);
