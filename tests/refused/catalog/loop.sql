-- loop
INSERT INTO entry VALUES (2, x'78', 2);
