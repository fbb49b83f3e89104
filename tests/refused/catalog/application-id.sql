-- application id
PRAGMA application_id = 1;
