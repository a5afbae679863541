ALTER TABLE runs ADD COLUMN starred INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT '';
INSERT INTO migrations VALUES ('stars', '2026-01-16T00:00:00.000Z');
UPDATE runs SET starred = 1, note = 'the best' WHERE prompt_id = 'era-9-done';
