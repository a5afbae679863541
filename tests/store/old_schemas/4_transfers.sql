CREATE TABLE transfers (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    direction TEXT NOT NULL,
    kind TEXT NOT NULL,
    session TEXT NOT NULL,
    prompt_id TEXT,
    node_id TEXT,
    path TEXT,
    filename TEXT NOT NULL,
    size INTEGER,
    sent INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    facts TEXT NOT NULL,
    private TEXT NOT NULL
);
CREATE INDEX transfers_by_state ON transfers (state, position);
CREATE INDEX transfers_by_prompt ON transfers (prompt_id);
CREATE INDEX transfers_by_path ON transfers (path);
INSERT INTO migrations VALUES ('transfers', '2026-01-04T00:00:00.000Z');
INSERT INTO transfers (position, id, direction, kind, session, prompt_id, node_id, path, filename, size, sent, state, attempts, error, created_at, finished_at, facts, private) VALUES (
    1, 'era-4-done', 'down', 'download', '5e551011', NULL, NULL, '/models/checkpoints/small.safetensors', 'small.safetensors', 4096, 4096, 'done', 1, NULL, '2026-02-01T00:00:00.000Z', '2026-02-01T00:00:09.000Z', '{"origin": "https://example.org/small.safetensors"}', '{}'
);
INSERT INTO transfers (position, id, direction, kind, session, prompt_id, node_id, path, filename, size, sent, state, attempts, error, created_at, finished_at, facts, private) VALUES (
    2, 'era-4-failed', 'up', 'presigned', '5e551011', 'era-1-done', '2', '/output/a.png', 'a.png', 10, 0, 'failed', 5, 'it answered 503', '2026-02-01T00:01:00.000Z', '2026-02-01T00:02:00.000Z', '{}', '{"url": "https://example.org/put"}'
);
INSERT INTO transfers (position, id, direction, kind, session, prompt_id, node_id, path, filename, size, sent, state, attempts, error, created_at, finished_at, facts, private) VALUES (
    3, 'era-4-queued', 'up', 'presigned', '5e551011', NULL, NULL, '/output/b.png', 'b.png', 10, 0, 'queued', 0, NULL, '2026-02-01T00:03:00.000Z', NULL, '{}', '{"url": "https://example.org/put"}'
);
