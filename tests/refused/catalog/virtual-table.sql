-- virtual table
CREATE VIRTUAL TABLE v USING fts5(x);
