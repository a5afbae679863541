ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_by_prompt ON runs (prompt_hash);
CREATE INDEX runs_by_workflow ON runs (workflow_hash);
CREATE INDEX versions_by_workflow ON workflow_versions (workflow_hash);
CREATE INDEX versions_by_api ON workflow_versions (api_hash);
CREATE TABLE doomed_files (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    root BLOB NOT NULL,
    path BLOB NOT NULL,
    state TEXT NOT NULL
);
INSERT INTO migrations VALUES ('deletions', '2026-01-11T00:00:00.000Z');
INSERT INTO runs (prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record, structure, story, pinned) VALUES (
    'era-11-pinned', 'local', '5e551011', NULL, 'success', 12.0,
    '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31',
    NULL,
    '2026-03-03T00:00:00.000Z', '2026-03-03T00:00:01.000Z', '2026-03-03T00:00:02.000Z', 1.0,
    '{"outputs": {}, "error": null, "node_errors": {}, "seeds": {}, "next_seeds": {}, "cached_nodes": [], "node_times": {}, "front": false, "attempts": 1, "cancelling": false, "workflow_id": null, "version": null, "warnings": [], "inputs": {}, "node_steps": {}, "first_id": 1, "targets": null, "preview_method": null, "own_keys": false, "comfyui_id": "era-11-pinned"}',
    'a-structure',
    '[["2026-03-03T00:00:00.000Z","received","received"]]',
    1
);
INSERT INTO doomed_files (session, root, path, state) VALUES ('5e551011', X'2f6e6f7768657265', X'612e706e67', '[7, 1767322800000000001, 42]');
