CREATE TABLE machines (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    config TEXT NOT NULL
);
INSERT INTO migrations VALUES ('machines', '2026-01-06T00:00:00.000Z');
INSERT INTO machines (position, id, name, name_key, kind, created_at, updated_at, config) VALUES (
    1, 'era-6', 'Far away', 'far away', 'comfyui', '2026-11-24T22:27:43.802Z', '2026-11-24T22:27:43.802Z', '{"url": "http://127.0.0.1:9"}'
);
