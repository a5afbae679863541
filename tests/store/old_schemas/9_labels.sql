ALTER TABLE runs ADD COLUMN metadata TEXT;
CREATE INDEX runs_with_labels ON runs (id) WHERE metadata IS NOT NULL;
INSERT INTO migrations VALUES ('labels', '2026-01-09T00:00:00.000Z');
INSERT INTO runs (prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record, structure, story, metadata) VALUES (
    'era-9-done', 'local', '5e551011', NULL, 'success', 12.0,
    '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31',
    '942a368ff1fdad2a658ffb22fa27eef1831c66c4d6b02211f82983c3e6eb809e',
    '2026-03-03T00:00:00.000Z', '2026-03-03T00:00:01.000Z', '2026-03-03T00:00:02.000Z', 1.0,
    '{"outputs": {}, "error": null, "node_errors": {}, "seeds": {}, "next_seeds": {}, "cached_nodes": [], "node_times": {}, "front": false, "attempts": 1, "cancelling": false, "workflow_id": null, "version": null, "warnings": [], "inputs": {}, "node_steps": {}, "first_id": 1, "targets": null, "preview_method": null, "own_keys": false, "comfyui_id": "era-9-done"}',
    'a-structure',
    '[["2026-03-03T00:00:00.000Z","received","received"]]',
    '{"client": "acme", "größe": "\"2\""}'
);
