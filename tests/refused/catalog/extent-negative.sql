-- extent negative
UPDATE extent SET object_offset = -1;
