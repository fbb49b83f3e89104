-- loop to root
INSERT INTO entry VALUES (2, x'78', 1);
