CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL);
CREATE TABLE graphs (
    hash TEXT PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    prompt_id TEXT NOT NULL UNIQUE,
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    client_id TEXT,
    status TEXT NOT NULL,
    number REAL,
    prompt_hash TEXT NOT NULL REFERENCES graphs (hash),
    workflow_hash TEXT REFERENCES graphs (hash),
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    execution_time REAL,
    record TEXT NOT NULL
);
CREATE INDEX runs_by_status ON runs (status, id);
CREATE INDEX runs_by_client ON runs (client_id);
INSERT INTO migrations VALUES ('runs', '2026-01-01T00:00:00.000Z');
INSERT INTO graphs (hash, body) VALUES (
    '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31',
    X'7801AB563254B2AA564ACE492C2E8E2FA92C4855B25272CD2D28A9F4CC4D4C4F55D251CACC2B282D2906A929CF4C29C950B23233D151CA48CD4CCF2881B093124B9233E28B33AB805A0D759492F373F28B94AC8C4C4D6B6B75948C300C0F284A2DCB4C2DC7343E136421D0A268A08B740C626B6B6B01ACA03315'
);
INSERT INTO graphs (hash, body) VALUES (
    '942a368ff1fdad2a658ffb22fa27eef1831c66c4d6b02211f82983c3e6eb809e',
    X'78018D90416BC3300C85FF8BCE62D859DB436E3B94D14361F7108259DC6096D8C676D2B521FF7D52EA6E8CEE3048C0D693FCF4BD19261DA271164AF1B441E8554C8D75AD6E4C0B65910BBDB11F6B4122B018A1AC66E00E2AA48BD750C27EF0E9721854A701C13B6E11286A8468AEA45785102805174EBDEA489E1704175A1DC81A61A067D783B17E4C3C4D9D6E4CF932835503DB1C8E2FAF7B72C8AEF72B6FC843B25E68CE07E775488617659BB3693B9D6233A97E5C97DF6D903E89C5765B2F784321D8FCE85BD093D1E7DF30CFB4FF3F712894479C6F02C319C5BF112850DEFF87FB0186E53B6C25094160417FCEA526B50B6EF439C077674FA6BB85A03F53507C5CBE00316A9C28'
);
INSERT INTO runs (id, prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record) VALUES (
    1, 'era-1-done', 'local', '5e551011', 'tab', 'success', 3.0, '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31', '942a368ff1fdad2a658ffb22fa27eef1831c66c4d6b02211f82983c3e6eb809e', '2026-01-02T03:04:05.678Z', '2026-01-02T03:04:06.000Z', '2026-01-02T03:04:07.250Z', 1.25, '{"outputs": {"2": {"images": [{"filename": "ComfyUI_00001_.png", "subfolder": "", "type": "temp"}]}}, "error": null, "node_errors": {}, "seeds": {"1.seed": 7}, "next_seeds": {"1.seed": 8}, "cached_nodes": [], "node_times": {"1": 0.5, "2": 0.75}, "front": false, "attempts": 0}'
);
INSERT INTO runs (id, prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record) VALUES (
    2, 'era-1-failed', 'local', '5e551011', NULL, 'failed', -1.0, '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31', NULL, '2026-01-02T04:00:00.000Z', NULL, '2026-01-02T04:00:01.000Z', NULL, '{"outputs": {}, "error": {"type": "MemoryError", "message": "out of memory", "node_id": "1", "node_type": "EmptyImage"}, "node_errors": {}, "seeds": {}, "next_seeds": {}, "cached_nodes": [], "node_times": {}, "front": true, "attempts": 1}'
);
INSERT INTO runs (id, prompt_id, machine, session, client_id, status, number, prompt_hash, workflow_hash, created_at, started_at, finished_at, execution_time, record) VALUES (
    3, 'era-1-queued', 'local', '5e551011', NULL, 'queued', 9.0, '1e27f8e1743c9dfa61feccddc8d52868427371ec443fd49a186a39a24127be31', '942a368ff1fdad2a658ffb22fa27eef1831c66c4d6b02211f82983c3e6eb809e', '2026-01-02T05:00:00.000Z', NULL, NULL, NULL, '{"outputs": {}, "error": null, "node_errors": {}, "seeds": {}, "next_seeds": {}, "cached_nodes": [], "node_times": {}, "front": false, "attempts": 0}'
);
