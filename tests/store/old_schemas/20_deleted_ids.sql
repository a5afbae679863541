CREATE TABLE deleted_ids (id INTEGER PRIMARY KEY, prompt_id TEXT UNIQUE);
INSERT INTO migrations VALUES ('deleted_ids', '2026-01-14T00:00:00.000Z');
INSERT INTO deleted_ids (prompt_id) VALUES ('0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f');
