CREATE TABLE hashes (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO migrations VALUES ('hashes', '2026-01-02T00:00:00.000Z');
INSERT INTO hashes (path, size, mtime_ns, inode, sha256) VALUES (
    '/models/checkpoints/small.safetensors', 4096, 1767322800000000001, 42, 'abababababababababababababababababababababababababababababababab'
);
INSERT INTO hashes (path, size, mtime_ns, inode, sha256) VALUES (
    '/models/loras/é.safetensors', 7, 1767322800000000002, -5, 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd'
);
