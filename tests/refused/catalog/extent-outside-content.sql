-- extent outside content
UPDATE extent SET length = 5;
