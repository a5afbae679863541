CREATE TABLE environments (
    hash TEXT PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE provenance (
    run INTEGER PRIMARY KEY,
    state TEXT NOT NULL DEFAULT 'wanted',
    environment TEXT REFERENCES environments (hash),
    body BLOB
);
CREATE INDEX provenance_by_state ON provenance (state, run) WHERE state <> 'complete';
CREATE INDEX provenance_by_environment ON provenance (environment);
CREATE TRIGGER provenance_wanted AFTER UPDATE OF status ON runs
WHEN NEW.status IS NOT OLD.status
AND NEW.status IN ('success', 'failed', 'cancelled') BEGIN
    INSERT OR IGNORE INTO provenance (run) VALUES (NEW.id);
END;
CREATE TRIGGER provenance_of_ended AFTER INSERT ON runs
WHEN NEW.status IN ('success', 'failed', 'cancelled') BEGIN
    INSERT OR IGNORE INTO provenance (run) VALUES (NEW.id);
END;
CREATE TRIGGER provenance_deleted AFTER DELETE ON runs BEGIN
    DELETE FROM provenance WHERE run = OLD.id;
END;
CREATE TRIGGER environment_unused AFTER DELETE ON provenance
WHEN OLD.environment IS NOT NULL BEGIN
    DELETE FROM environments WHERE hash = OLD.environment
    AND NOT EXISTS (SELECT 1 FROM provenance WHERE environment = OLD.environment);
END;
INSERT INTO migrations VALUES ('provenance', '2026-02-01T00:00:00.000Z');
INSERT INTO provenance (run, state) SELECT id, 'complete' FROM runs WHERE prompt_id = 'era-9-done';
