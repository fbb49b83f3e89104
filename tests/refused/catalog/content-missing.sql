-- content missing
DELETE FROM content;
