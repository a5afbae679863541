CREATE INDEX ended_runs ON runs (created_at, id, batch, status)
WHERE +status IN ('success', 'failed', 'cancelled');
CREATE INDEX ended_runs_by_structure ON runs (structure, created_at, id, batch, status)
WHERE +status IN ('success', 'failed', 'cancelled');
DROP INDEX runs_by_batch;
CREATE INDEX runs_by_batch ON runs (batch, created_at, id) WHERE batch IS NOT NULL;
CREATE INDEX batches_by_time ON batches (created_at);
CREATE INDEX batches_by_structure ON batches (
    CASE WHEN json_valid(plan) THEN json_extract(plan, '$.structure') END, created_at
);
INSERT INTO migrations VALUES ('history', '2026-01-20T00:00:00.000Z');
