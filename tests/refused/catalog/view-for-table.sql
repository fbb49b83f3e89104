-- view for table
DROP TABLE symlink; CREATE VIEW symlink AS SELECT 1 AS ino, 'x' AS target;
