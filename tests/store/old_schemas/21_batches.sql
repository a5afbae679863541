CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    machine TEXT NOT NULL,
    key TEXT,
    state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    finished_at TEXT,
    labels TEXT NOT NULL,
    settings TEXT NOT NULL,
    plan TEXT NOT NULL,
    request TEXT NOT NULL,
    graph BLOB,
    workflow BLOB,
    total INTEGER NOT NULL,
    retry INTEGER NOT NULL,
    stop_at INTEGER,
    webhook_status TEXT,
    changes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX open_batches ON batches (id) WHERE finished_at IS NULL;
CREATE INDEX batches_by_key ON batches (key) WHERE key IS NOT NULL;
CREATE TABLE batch_points (
    batch INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    place INTEGER NOT NULL,
    level INTEGER NOT NULL,
    key TEXT NOT NULL,
    inputs TEXT NOT NULL,
    graph BLOB,
    status TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    run_id TEXT,
    error TEXT,
    changed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, position)
) WITHOUT ROWID;
CREATE INDEX points_by_status ON batch_points (batch, status, place);
CREATE INDEX points_by_key ON batch_points (batch, key);
CREATE INDEX points_by_run ON batch_points (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX points_by_change ON batch_points (batch, changed) WHERE changed > 0;
ALTER TABLE runs ADD COLUMN batch TEXT;
ALTER TABLE runs ADD COLUMN point INTEGER;
CREATE INDEX runs_by_batch ON runs (batch, id) WHERE batch IS NOT NULL;
CREATE TRIGGER point_taken BEFORE INSERT ON runs WHEN NEW.batch IS NOT NULL BEGIN
    SELECT RAISE(ABORT, 'the point does not wait') WHERE NOT EXISTS (
        SELECT 1 FROM batch_points JOIN batches ON batches.id = batch
        WHERE batch_id = NEW.batch AND position = NEW.point
        AND batch_points.status = 'waiting' AND state = 'running'
    );
END;
CREATE TRIGGER point_begun AFTER INSERT ON runs WHEN NEW.batch IS NOT NULL BEGIN
    UPDATE batch_points SET run_id = NEW.prompt_id, status = NEW.status, error = NULL,
        attempts = attempts + 1
    WHERE batch = (SELECT id FROM batches WHERE batch_id = NEW.batch)
    AND status = 'waiting' AND key = (
        SELECT key FROM batch_points
        WHERE batch = (SELECT id FROM batches WHERE batch_id = NEW.batch)
        AND position = NEW.point
    );
END;
CREATE TRIGGER point_moved AFTER UPDATE OF status ON runs
WHEN NEW.batch IS NOT NULL AND NEW.status IS NOT OLD.status
AND NEW.status NOT IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batch_points SET status = NEW.status WHERE run_id = NEW.prompt_id;
END;
CREATE TRIGGER point_ended AFTER UPDATE OF status ON runs
WHEN NEW.batch IS NOT NULL AND NEW.status IS NOT OLD.status
AND NEW.status IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batches SET changes = changes + 1 WHERE batch_id = NEW.batch;
    UPDATE batch_points SET
        changed = (SELECT changes FROM batches WHERE id = batch),
        status = CASE WHEN NEW.status = 'failed' AND EXISTS (
            SELECT 1 FROM batches WHERE id = batch AND attempts <= retry
            AND state IN ('running', 'paused')
        ) THEN 'waiting' ELSE NEW.status END
    WHERE run_id = NEW.prompt_id;
END;
CREATE TRIGGER point_dropped AFTER DELETE ON runs WHEN OLD.batch IS NOT NULL
AND OLD.status NOT IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batch_points SET run_id = NULL, attempts = attempts - 1, status = CASE
        WHEN (SELECT state FROM batches WHERE id = batch) = 'cancelled'
        THEN 'cancelled' ELSE 'waiting' END
    WHERE run_id = OLD.prompt_id AND status = OLD.status;
END;
INSERT INTO migrations VALUES ('batches', '2026-01-15T00:00:00.000Z');
INSERT INTO batches (batch_id, session, machine, key, state, created_at, finished_at, labels, settings, plan, request, total, retry, changes) VALUES (
    'era-21-batch', '5e551011', 'local', 'sunsets', 'done', '2026-03-21T00:00:00.000Z',
    '2026-03-21T00:00:03.000Z', '{"client": "acme"}',
    '{"title": "Two", "at_once": "auto", "retry": 0, "stop_after": null, "order": "cheapest", "webhook": null}',
    '{"workflow_id": null, "version": null, "axes": [{"names": ["1.width"], "values": [[64], [128]]}], "names": ["1.width"], "notes": [], "seeds": [], "shared": false, "structure": ""}',
    '{"node_form": false, "machine": "local", "inputs": {}}', 2, 0, 1
);
INSERT INTO batch_points (batch, position, place, level, key, inputs, status, attempts, run_id, changed) VALUES
    (1, 0, 0, 0, 'a', '{"1.width":64}', 'success', 1, 'era-9-done', 1),
    (1, 1, 1, 0, 'b', '{"1.width":128}', 'cancelled', 0, NULL, 1);
