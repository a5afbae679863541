CREATE TABLE orders (
    prompt_id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    status_endpoint TEXT,
    file_upload_endpoint TEXT,
    token TEXT,
    gpu_event_id TEXT,
    told TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE callbacks (
    prompt_id TEXT NOT NULL REFERENCES orders (prompt_id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    passing INTEGER NOT NULL,
    created_at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (prompt_id, number)
) WITHOUT ROWID;
INSERT INTO migrations VALUES ('callbacks', '2026-01-05T00:00:00.000Z');
INSERT INTO orders (prompt_id, session, status_endpoint, file_upload_endpoint, token, gpu_event_id, told) VALUES (
    'era-1-queued', '5e551011', 'https://example.org/status', 'https://example.org/upload', 'era-token', 'gpu-1', '{"told_status": "queued", "told_outputs": ["2"], "told_error": false}'
);
INSERT INTO callbacks (prompt_id, number, passing, created_at, body) VALUES (
    'era-1-queued', 1, 1, 1769904000.0,
    X'7B22737461747573223A22717565756564227D'
);
