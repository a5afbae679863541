DROP TRIGGER point_ended;
CREATE TRIGGER point_ended AFTER UPDATE OF status ON runs
WHEN NEW.batch IS NOT NULL AND NEW.status IS NOT OLD.status
AND NEW.status IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batches SET changes = changes + 1 WHERE batch_id = NEW.batch;
    UPDATE batch_points SET status = 'waiting', changed = 0
    WHERE run_id = NEW.prompt_id AND NEW.status = 'failed' AND EXISTS (
        SELECT 1 FROM batches WHERE id = batch AND attempts <= retry
        AND state IN ('running', 'paused')
    );
    UPDATE batch_points SET status = NEW.status,
        changed = (SELECT changes FROM batches WHERE id = batch)
    WHERE run_id = NEW.prompt_id AND status != 'waiting';
END;
DROP TRIGGER point_dropped;
CREATE TRIGGER point_dropped AFTER DELETE ON runs WHEN OLD.batch IS NOT NULL
AND OLD.status NOT IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batches SET changes = changes + 1
    WHERE batch_id = OLD.batch AND state = 'cancelled';
    UPDATE batch_points SET run_id = NULL, attempts = attempts - 1, status = CASE
        WHEN (SELECT state FROM batches WHERE id = batch) = 'cancelled'
        THEN 'cancelled' ELSE 'waiting' END,
        changed = (SELECT changes FROM batches WHERE id = batch)
        * ((SELECT state FROM batches WHERE id = batch) = 'cancelled')
    WHERE run_id = OLD.prompt_id AND status = OLD.status;
END;
INSERT INTO migrations VALUES ('ends_of_points', '2026-01-18T00:00:00.000Z');
INSERT INTO batches (batch_id, session, machine, key, state, created_at, labels, settings, plan, request, total, retry) VALUES (
    'era-24-waits', '5e551011', 'local', NULL, 'paused', '2026-03-24T00:00:00.000Z', '{}',
    '{"title": "", "at_once": "auto", "retry": 0, "stop_after": null, "order": "cheapest", "webhook": null}',
    '{"workflow_id": null, "version": null, "axes": [], "names": ["image"], "notes": [], "seeds": [], "shared": false, "structure": "", "waits": {"for": ["era-21-batch"], "kinds": {"image": "image"}, "take_over": false}}',
    '{"node_form": false, "machine": "local", "inputs": {"image": {"$each": [{"batch": "era-21-batch"}]}}}', 0, 0
);
