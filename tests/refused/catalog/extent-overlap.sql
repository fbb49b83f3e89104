-- extent overlap
INSERT INTO extent SELECT content_id, 1, object_id, 0, 3 FROM extent;
