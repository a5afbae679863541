CREATE TABLE assets (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    machine TEXT NOT NULL,
    kind TEXT NOT NULL,
    subfolder TEXT NOT NULL,
    filename TEXT NOT NULL,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    blake3 TEXT,
    file_path TEXT,
    prompt_id TEXT,
    node_id TEXT,
    text TEXT,
    owned INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX assets_by_blake3 ON assets (blake3) WHERE blake3 IS NOT NULL;
CREATE INDEX assets_by_run ON assets (prompt_id) WHERE prompt_id IS NOT NULL;
CREATE INDEX assets_by_place ON assets (filename, subfolder, kind, machine);
CREATE TABLE job_keys (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    prompt_id TEXT NOT NULL UNIQUE
);
CREATE TRIGGER run_deleted AFTER DELETE ON runs BEGIN
    DELETE FROM assets WHERE prompt_id = OLD.prompt_id;
    DELETE FROM job_keys WHERE prompt_id = OLD.prompt_id;
END;
CREATE TABLE job_secret (value BLOB NOT NULL);
INSERT INTO job_secret VALUES (x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');
INSERT INTO migrations VALUES ('comfy_api', '2026-01-11T00:00:00.000Z');
INSERT INTO job_keys VALUES ('era-11', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'era-9-done');
INSERT INTO assets (id, created_at, machine, kind, subfolder, filename, size, content_type, blake3, file_path, prompt_id, node_id, text, owned) VALUES (
    '9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b', '2026-03-04T00:00:00.000Z', 'local', 'input', 'era', 'photo.png', 5, 'image/png',
    'ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f', 'photo.png', NULL, NULL, NULL, 1
);
