ALTER TABLE hashes ADD COLUMN ctime_ns INTEGER;
INSERT INTO migrations VALUES ('ctimes', '2026-01-13T00:00:00.000Z');
INSERT INTO hashes (path, size, mtime_ns, inode, ctime_ns, sha256, blake3) VALUES (
    '/models/checkpoints/times.safetensors', 5, 1767322800000000002, 44, 1767322800000000003,
    'efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef',
    '1212121212121212121212121212121212121212121212121212121212121212'
);
