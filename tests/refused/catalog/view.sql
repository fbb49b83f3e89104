-- view
CREATE VIEW v AS SELECT * FROM inode;
