ALTER TABLE workflows ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE workflows ADD COLUMN deleted_at TEXT;
DROP INDEX workflows_by_change;
CREATE INDEX workflows_by_change ON workflows (changed, search, deleted_at);
INSERT INTO migrations VALUES ('tags', '2026-01-10T00:00:00.000Z');
INSERT INTO workflows (workflow_id, name, machine_id, latest_version, created_at, updated_at, changed, search, tags, deleted_at) VALUES (
    '0f0e9c52-1f0b-4a55-9a3b-4f8a3a6f6d15', 'Tagged', NULL, 1, '2026-03-04T00:00:00.000Z', '2026-03-04T00:00:00.000Z',
    (SELECT max(changed) + 1 FROM workflows), 'tagged	people	grösse', '["People", "Größe"]', '2126-01-01T00:00:00.000Z'
);
INSERT INTO workflow_versions (workflow, version, workflow_hash, workflow_content, api_hash, api_content, comment, created_at)
SELECT (SELECT id FROM workflows WHERE name = 'Tagged'), 1, workflow_hash, workflow_content, api_hash, api_content, '', '2026-03-04T00:00:00.000Z'
FROM workflow_versions WHERE api_hash IS NOT NULL LIMIT 1;
