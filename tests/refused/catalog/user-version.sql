-- user version
PRAGMA user_version = 2;
