CREATE TABLE batch_changes (
    batch INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    number INTEGER NOT NULL
);
INSERT INTO batch_changes SELECT id, changes + 1 FROM batches;
CREATE TRIGGER batch_added AFTER INSERT ON batches BEGIN
    INSERT INTO batch_changes VALUES (NEW.id, 1);
END;
DROP TRIGGER point_ended;
CREATE TRIGGER point_ended AFTER UPDATE OF status ON runs
WHEN NEW.batch IS NOT NULL AND NEW.status IS NOT OLD.status
AND NEW.status IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batch_changes SET number = number + 1
    WHERE batch IN (SELECT batch FROM batch_points WHERE run_id = NEW.prompt_id);
    UPDATE batch_points SET status = 'waiting', changed = 0
    WHERE run_id = NEW.prompt_id AND NEW.status = 'failed' AND EXISTS (
        SELECT 1 FROM batches WHERE id = batch AND attempts <= retry
        AND state IN ('running', 'paused')
    );
    UPDATE batch_points SET status = NEW.status, changed = (
        SELECT number FROM batch_changes AS c WHERE c.batch = batch_points.batch
    )
    WHERE run_id = NEW.prompt_id AND status != 'waiting';
END;
DROP TRIGGER point_dropped;
CREATE TRIGGER point_dropped AFTER DELETE ON runs WHEN OLD.batch IS NOT NULL
AND OLD.status NOT IN ('success', 'failed', 'cancelled') BEGIN
    UPDATE batch_changes SET number = number + 1
    WHERE batch = (
        SELECT id FROM batches WHERE batch_id = OLD.batch AND state = 'cancelled'
    );
    UPDATE batch_points SET run_id = NULL, attempts = attempts - 1, status = CASE
        WHEN (SELECT state FROM batches WHERE id = batch) = 'cancelled'
        THEN 'cancelled' ELSE 'waiting' END,
        changed = (
            SELECT number FROM batch_changes AS c WHERE c.batch = batch_points.batch
        ) * ((SELECT state FROM batches WHERE id = batch) = 'cancelled')
    WHERE run_id = OLD.prompt_id AND status = OLD.status;
END;
INSERT INTO migrations VALUES ('batch_changes', '2026-01-19T00:00:00.000Z');
