ALTER TABLE batches ADD COLUMN axes TEXT NOT NULL DEFAULT '[]';
UPDATE batches SET axes = coalesce(json_extract(plan, '$.axes'), '[]'),
    plan = json_remove(plan, '$.axes')
WHERE json_valid(plan);
INSERT INTO migrations VALUES ('batch_axes', '2026-01-20T00:00:00.000Z');
