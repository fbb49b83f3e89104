-- extent no object
UPDATE extent SET object_id = 9;
