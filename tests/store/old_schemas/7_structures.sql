ALTER TABLE runs ADD COLUMN structure TEXT;
CREATE INDEX runs_by_structure ON runs (structure, id);
INSERT INTO migrations VALUES ('structures', '2026-01-07T00:00:00.000Z');
INSERT INTO runs (prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record, structure) VALUES (
    'era-7-done', 'local', '5e551011', NULL, 'success', 10.0,
    '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31',
    '942a368ff1fdad2a658ffb22fa27eef1831c66c4d6b02211f82983c3e6eb809e',
    '2026-03-01T00:00:00.000Z', '2026-03-01T00:00:01.000Z', '2026-03-01T00:00:02.000Z', 1.0,
    '{"outputs": {"2": {"images": [{"filename": "ComfyUI_00001_.png", "subfolder": "", "type": "temp"}]}}, "error": null, "node_errors": {}, "seeds": {"1.seed": 7}, "next_seeds": {"1.seed": 8}, "cached_nodes": [], "node_times": {"1": 0.5, "2": 0.75}, "front": false, "attempts": 0, "cancelling": false, "workflow_id": "c30aa5ab-e236-4440-a0f2-fbd74bb9962a", "version": 2, "warnings": [], "inputs": {"Width.value": 128}}',
    'a-structure'
);
