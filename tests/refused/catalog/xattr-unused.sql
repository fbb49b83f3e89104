-- xattr unused
INSERT INTO xattr VALUES (1, CAST('user.a' AS BLOB), x'79');
