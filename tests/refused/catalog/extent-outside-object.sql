-- extent outside object
UPDATE extent SET object_offset = 1048575;
