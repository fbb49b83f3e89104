-- unreachable
INSERT INTO inode SELECT 5, mode, uid, gid, mtime_ns, size, nlink, major, minor, content_id, xattr_id, flags FROM inode WHERE ino = 3;
