CREATE TABLE edited_files (
    path TEXT PRIMARY KEY,
    workflow INTEGER NOT NULL UNIQUE REFERENCES workflows (id) ON DELETE CASCADE,
    written TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO migrations VALUES ('edited_files', '2026-01-10T00:00:00.000Z');
INSERT INTO edited_files (path, workflow, written) VALUES ('era.json', 1, 'ab');
