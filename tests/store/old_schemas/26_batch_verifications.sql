CREATE TABLE batch_verifications (
    batch INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    session TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE batch_verdicts (
    batch INTEGER NOT NULL REFERENCES batch_verifications (batch) ON DELETE CASCADE,
    point INTEGER NOT NULL,
    run_id TEXT,
    repetition TEXT,
    verdict TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (batch, point)
) WITHOUT ROWID;
INSERT INTO migrations VALUES ('batch_verifications', '2026-01-20T00:00:00.000Z');
