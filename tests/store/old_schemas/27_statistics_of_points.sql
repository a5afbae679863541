ANALYZE batch_changes;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
('batch_points', 'batch_points', '100000 10000 1'),
('batch_points', 'points_by_key', '100000 10000 1 1'),
('batch_points', 'points_by_status', '100000 10000 3000 1 1'),
('batch_points', 'points_by_run', '100000 1 1 1'),
('batch_points', 'points_by_change', '100000 10000 1 1');
ANALYZE sqlite_master;
INSERT INTO migrations VALUES ('statistics_of_points', '2026-01-20T00:00:00.000Z');
