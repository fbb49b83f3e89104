-- table more
CREATE TABLE more (x);
