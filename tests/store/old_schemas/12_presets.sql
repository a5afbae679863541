CREATE TABLE workflow_presets (
    workflow INTEGER NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    revision TEXT NOT NULL,
    content TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (workflow, name_key)
) WITHOUT ROWID;
INSERT INTO migrations VALUES ('presets', '2026-01-10T00:00:00.000Z');
INSERT INTO workflow_presets (workflow, name_key, name, revision, content, updated_at) VALUES (
    1, 'softer light', 'Softer light', '09a75b9e9f4bae28',
    '{"inputs": {"3.width": 96}, "locked": ["5.seed"]}', '2026-03-03T00:00:00.000Z'
);
