ALTER TABLE job_keys ADD COLUMN deleted_at TEXT;
CREATE INDEX keys_of_deleted_jobs ON job_keys (deleted_at) WHERE deleted_at IS NOT NULL;
DROP TRIGGER run_deleted;
CREATE TRIGGER run_deleted AFTER DELETE ON runs BEGIN
    DELETE FROM assets WHERE prompt_id = OLD.prompt_id;
    UPDATE job_keys SET deleted_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
        WHERE prompt_id = OLD.prompt_id;
END;
INSERT INTO migrations VALUES ('kept_job_keys', '2026-01-12T00:00:00.000Z');
INSERT INTO job_keys VALUES ('era-18', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'era-18-deleted', '2026-01-12T00:00:00.000Z');
