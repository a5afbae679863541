ALTER TABLE hashes ADD COLUMN blake3 TEXT;
CREATE INDEX hashes_by_blake3 ON hashes (blake3) WHERE blake3 IS NOT NULL;
INSERT INTO migrations VALUES ('blake3', '2026-01-10T00:00:00.000Z');
INSERT INTO hashes (path, size, mtime_ns, inode, sha256, blake3) VALUES (
    '/models/checkpoints/both.safetensors', 5, 1767322800000000002, 43,
    '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
    'ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f'
);
