"""The schema, as a list of migrations.

A step is never changed after its release; a change of the schema is a new step at the end. Before
the first release, triggers and indexes that a later step made anew were left out of earlier ones.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "runs",
        (
            # Graphs are identified by their content: a graph of many runs is stored once.
            """
            CREATE TABLE graphs (
                hash TEXT PRIMARY KEY,
                body BLOB NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE runs (
                id INTEGER PRIMARY KEY,
                prompt_id TEXT NOT NULL UNIQUE,
                machine TEXT NOT NULL,
                session TEXT NOT NULL,
                client_id TEXT,
                status TEXT NOT NULL,
                number REAL,
                prompt_hash TEXT NOT NULL REFERENCES graphs (hash),
                workflow_hash TEXT REFERENCES graphs (hash),
                created_at TEXT NOT NULL,
                started_at TEXT,
                finished_at TEXT,
                execution_time REAL,
                record TEXT NOT NULL
            )
            """,
            "CREATE INDEX runs_by_status ON runs (status, id)",
            "CREATE INDEX runs_by_client ON runs (client_id)",
        ),
    ),
    (
        "hashes",
        (
            """
            CREATE TABLE hashes (
                path TEXT PRIMARY KEY,
                size INTEGER NOT NULL,
                mtime_ns INTEGER NOT NULL,
                inode INTEGER NOT NULL,
                sha256 TEXT NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
    (
        "workflows",
        (
            # Versions are never deleted, so latest_version is also their number.
            # changed gives the order within a millisecond, and after a change of the clock.
            # search contains the name and all comments, case-folded, one per line.
            """
            CREATE TABLE workflows (
                id INTEGER PRIMARY KEY,
                workflow_id TEXT NOT NULL UNIQUE,
                name TEXT NOT NULL,
                machine_id TEXT,
                latest_version INTEGER NOT NULL,
                created_at TEXT NOT NULL,
                updated_at TEXT NOT NULL,
                changed INTEGER NOT NULL,
                search TEXT NOT NULL
            )
            """,
            # The contents identify a graph independently of the formatting of its JSON.
            """
            CREATE TABLE workflow_versions (
                workflow INTEGER NOT NULL REFERENCES workflows (id),
                version INTEGER NOT NULL,
                workflow_hash TEXT REFERENCES graphs (hash),
                workflow_content BLOB,
                api_hash TEXT REFERENCES graphs (hash),
                api_content BLOB,
                comment TEXT NOT NULL,
                created_at TEXT NOT NULL,
                PRIMARY KEY (workflow, version)
            ) WITHOUT ROWID
            """,
        ),
    ),
    (
        "transfers",
        (
            # `private` contains addresses and tokens; it is emptied when the transfer ends.
            """
            CREATE TABLE transfers (
                position INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                direction TEXT NOT NULL,
                kind TEXT NOT NULL,
                session TEXT NOT NULL,
                prompt_id TEXT,
                node_id TEXT,
                path TEXT,
                filename TEXT NOT NULL,
                size INTEGER,
                sent INTEGER NOT NULL,
                state TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                error TEXT,
                created_at TEXT NOT NULL,
                finished_at TEXT,
                facts TEXT NOT NULL,
                private TEXT NOT NULL
            )
            """,
            "CREATE INDEX transfers_by_state ON transfers (state, position)",
            "CREATE INDEX transfers_by_prompt ON transfers (prompt_id)",
            "CREATE INDEX transfers_by_path ON transfers (path)",
        ),
    ),
    (
        "callbacks",
        (
            # The uploads and reports of a run; deleted when all of them are delivered.
            """
            CREATE TABLE orders (
                prompt_id TEXT PRIMARY KEY,
                session TEXT NOT NULL,
                status_endpoint TEXT,
                file_upload_endpoint TEXT,
                token TEXT,
                gpu_event_id TEXT,
                told TEXT NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE callbacks (
                prompt_id TEXT NOT NULL REFERENCES orders (prompt_id) ON DELETE CASCADE,
                number INTEGER NOT NULL,
                passing INTEGER NOT NULL,
                created_at REAL NOT NULL,
                body BLOB NOT NULL,
                PRIMARY KEY (prompt_id, number)
            ) WITHOUT ROWID
            """,
        ),
    ),
    (
        "machines",
        (
            # name_key is the case-folded name. The machine `local` has a row once changed.
            # Its config contains the changes, which override the configuration.
            """
            CREATE TABLE machines (
                position INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                name TEXT NOT NULL,
                name_key TEXT NOT NULL UNIQUE,
                kind TEXT NOT NULL,
                created_at TEXT NOT NULL,
                updated_at TEXT NOT NULL,
                config TEXT NOT NULL
            )
            """,
        ),
    ),
    (
        "structures",
        (
            "ALTER TABLE runs ADD COLUMN structure TEXT",
            "CREATE INDEX runs_by_structure ON runs (structure, id)",
        ),
    ),
    # The story of each run, in order: a JSON array, null for runs older than this column.
    ("stories", ("ALTER TABLE runs ADD COLUMN story TEXT",)),
    # The labels of each run: a JSON object, null without labels.
    (
        "labels",
        (
            "ALTER TABLE runs ADD COLUMN metadata TEXT",
            "CREATE INDEX runs_with_labels ON runs (id) WHERE metadata IS NOT NULL",
        ),
    ),
    # The pool that a run was sent to; null for a named machine.
    ("pools", ("ALTER TABLE runs ADD COLUMN pool TEXT",)),
    (
        "deletions",
        (
            "ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
            # Without these, each deletion of a graph would read all tables that may refer to it.
            "CREATE INDEX runs_by_prompt ON runs (prompt_hash)",
            "CREATE INDEX runs_by_workflow ON runs (workflow_hash)",
            "CREATE INDEX versions_by_workflow ON workflow_versions (workflow_hash)",
            "CREATE INDEX versions_by_api ON workflow_versions (api_hash)",
            # The output files of deleted runs until they are deleted, too. root and path are
            # bytes of the file system; state identifies the file, because a new one may have its
            # name.
            """
            CREATE TABLE doomed_files (
                id INTEGER PRIMARY KEY,
                session TEXT NOT NULL,
                root BLOB NOT NULL,
                path BLOB NOT NULL,
                state TEXT NOT NULL
            )
            """,
        ),
    ),
    # revision changes with the content, and name_key is the case-folded name.
    (
        "presets",
        (
            """
            CREATE TABLE workflow_presets (
                workflow INTEGER NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
                name_key TEXT NOT NULL,
                name TEXT NOT NULL,
                revision TEXT NOT NULL,
                content TEXT NOT NULL,
                updated_at TEXT NOT NULL,
                PRIMARY KEY (workflow, name_key)
            ) WITHOUT ROWID
            """,
        ),
    ),
    # Beside SHA-256; null for hashes older than this column.
    (
        "blake3",
        (
            "ALTER TABLE hashes ADD COLUMN blake3 TEXT",
            "CREATE INDEX hashes_by_blake3 ON hashes (blake3) WHERE blake3 IS NOT NULL",
        ),
    ),
    # The Comfy API. What belongs to a run is deleted with it.
    (
        "comfy_api",
        (
            """
            CREATE TABLE assets (
                position INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                created_at TEXT NOT NULL,
                machine TEXT NOT NULL,
                kind TEXT NOT NULL,
                subfolder TEXT NOT NULL,
                filename TEXT NOT NULL,
                size INTEGER NOT NULL,
                content_type TEXT NOT NULL,
                blake3 TEXT,
                file_path TEXT,
                prompt_id TEXT,
                node_id TEXT,
                text TEXT,
                owned INTEGER NOT NULL,
                deleted INTEGER NOT NULL DEFAULT 0
            )
            """,
            "CREATE INDEX assets_by_blake3 ON assets (blake3) WHERE blake3 IS NOT NULL",
            "CREATE INDEX assets_by_run ON assets (prompt_id) WHERE prompt_id IS NOT NULL",
            "CREATE INDEX assets_by_place ON assets (filename, subfolder, kind, machine)",
            # body is a hash of the request that was made with the key.
            """
            CREATE TABLE job_keys (
                key TEXT PRIMARY KEY,
                body TEXT NOT NULL,
                prompt_id TEXT NOT NULL UNIQUE
            )
            """,
            "CREATE TABLE job_secret (value BLOB NOT NULL)",
            "INSERT INTO job_secret VALUES (randomblob(32))",
        ),
    ),
    # tags is a JSON array of texts; deleted_at is null for workflows that are not deleted, and in
    # the index, so that a search still reads only the index.
    (
        "tags",
        (
            "ALTER TABLE workflows ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
            "ALTER TABLE workflows ADD COLUMN deleted_at TEXT",
            "DROP INDEX IF EXISTS workflows_by_change",
            "CREATE INDEX workflows_by_change ON workflows (changed, search, deleted_at)",
        ),
    ),
    # The files of ComfyUI's editor that are stored workflows; written is a hash of a known content.
    (
        "edited_files",
        (
            """
            CREATE TABLE edited_files (
                path TEXT PRIMARY KEY,
                workflow INTEGER NOT NULL UNIQUE REFERENCES workflows (id) ON DELETE CASCADE,
                written TEXT NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
    # The prompts of ComfyUI's editor that were stored as runs, also those whose runs are deleted.
    (
        "editor_prompts",
        (
            """
            CREATE TABLE editor_prompts (
                position INTEGER PRIMARY KEY,
                prompt_id TEXT NOT NULL UNIQUE
            )
            """,
        ),
    ),
    # deleted_at is the time at which the run was deleted.
    (
        "kept_job_keys",
        (
            "ALTER TABLE job_keys ADD COLUMN deleted_at TEXT",
            """
            CREATE INDEX keys_of_deleted_jobs ON job_keys (deleted_at)
                WHERE deleted_at IS NOT NULL
            """,
            "DROP TRIGGER IF EXISTS run_deleted",
            """
            CREATE TRIGGER run_deleted AFTER DELETE ON runs BEGIN
                DELETE FROM assets WHERE prompt_id = OLD.prompt_id;
                UPDATE job_keys SET deleted_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
                    WHERE prompt_id = OLD.prompt_id;
            END
            """,
        ),
    ),
    # Null for hashes older than this column.
    ("ctimes", ("ALTER TABLE hashes ADD COLUMN ctime_ns INTEGER",)),
    # The last ids of deleted runs, which ComfyUI's history may still have.
    ("deleted_ids", ("CREATE TABLE deleted_ids (id INTEGER PRIMARY KEY, prompt_id TEXT UNIQUE)",)),
    # The points of batches. A point has the status of its run, which the triggers keep in the same
    # transaction; a run is stored only if its point waits, so that no point runs twice. Equal
    # points have the same ``key`` and share a run. ``place`` is the order in which they run,
    # ``changed`` a number that grows with each end in a batch.
    (
        "batches",
        (
            """
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
            )
            """,
            "CREATE INDEX open_batches ON batches (id) WHERE finished_at IS NULL",
            "CREATE INDEX batches_by_key ON batches (key) WHERE key IS NOT NULL",
            """
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
            ) WITHOUT ROWID
            """,
            "CREATE INDEX points_by_status ON batch_points (batch, status, place)",
            "CREATE INDEX points_by_key ON batch_points (batch, key)",
            "CREATE INDEX points_by_run ON batch_points (run_id) WHERE run_id IS NOT NULL",
            "CREATE INDEX points_by_change ON batch_points (batch, changed) WHERE changed > 0",
            "ALTER TABLE runs ADD COLUMN batch TEXT",
            "ALTER TABLE runs ADD COLUMN point INTEGER",
            """
            CREATE TRIGGER point_taken BEFORE INSERT ON runs WHEN NEW.batch IS NOT NULL BEGIN
                SELECT RAISE(ABORT, 'the point does not wait') WHERE NOT EXISTS (
                    SELECT 1 FROM batch_points JOIN batches ON batches.id = batch
                    WHERE batch_id = NEW.batch AND position = NEW.point
                    AND batch_points.status = 'waiting' AND state = 'running'
                );
            END
            """,
            """
            CREATE TRIGGER point_begun AFTER INSERT ON runs WHEN NEW.batch IS NOT NULL BEGIN
                UPDATE batch_points SET run_id = NEW.prompt_id, status = NEW.status, error = NULL,
                    attempts = attempts + 1
                WHERE batch = (SELECT id FROM batches WHERE batch_id = NEW.batch)
                AND status = 'waiting' AND key = (
                    SELECT key FROM batch_points
                    WHERE batch = (SELECT id FROM batches WHERE batch_id = NEW.batch)
                    AND position = NEW.point
                );
            END
            """,
            """
            CREATE TRIGGER point_moved AFTER UPDATE OF status ON runs
            WHEN NEW.batch IS NOT NULL AND NEW.status IS NOT OLD.status
            AND NEW.status NOT IN ('success', 'failed', 'cancelled') BEGIN
                UPDATE batch_points SET status = NEW.status WHERE run_id = NEW.prompt_id;
            END
            """,
        ),
    ),
    # What a user says of a run.
    (
        "stars",
        (
            "ALTER TABLE runs ADD COLUMN starred INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''",
        ),
    ),
    # With what each run was made; see `proofs/records.py`.
    (
        "provenance",
        (
            """
            CREATE TABLE environments (
                hash TEXT PRIMARY KEY,
                body BLOB NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE provenance (
                run INTEGER PRIMARY KEY,
                state TEXT NOT NULL DEFAULT 'wanted',
                environment TEXT REFERENCES environments (hash),
                body BLOB
            )
            """,
            "CREATE INDEX provenance_by_state ON provenance (state, run) WHERE state <> 'complete'",
            "CREATE INDEX provenance_by_environment ON provenance (environment)",
            """
            CREATE TRIGGER provenance_wanted AFTER UPDATE OF status ON runs
            WHEN NEW.status IS NOT OLD.status
            AND NEW.status IN ('success', 'failed', 'cancelled') BEGIN
                INSERT OR IGNORE INTO provenance (run) VALUES (NEW.id);
            END
            """,
            """
            CREATE TRIGGER provenance_of_ended AFTER INSERT ON runs
            WHEN NEW.status IN ('success', 'failed', 'cancelled') BEGIN
                INSERT OR IGNORE INTO provenance (run) VALUES (NEW.id);
            END
            """,
            """
            CREATE TRIGGER provenance_deleted AFTER DELETE ON runs BEGIN
                DELETE FROM provenance WHERE run = OLD.id;
            END
            """,
            """
            CREATE TRIGGER environment_unused AFTER DELETE ON provenance
            WHEN OLD.environment IS NOT NULL BEGIN
                DELETE FROM environments WHERE hash = OLD.environment
                AND NOT EXISTS (SELECT 1 FROM provenance WHERE environment = OLD.environment);
            END
            """,
        ),
    ),
    ("ends_of_points", ()),  # it changed triggers that the next step makes
    # A point has changed when it has ended: not when it waits again, but also without a run.
    # The last ``changed`` of each batch. Its row may be long, and SQLite writes a whole row again;
    # the column ``changes`` of earlier versions is not used any more.
    (
        "batch_changes",
        (
            """
            CREATE TABLE batch_changes (
                batch INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
                number INTEGER NOT NULL
            )
            """,
            "INSERT INTO batch_changes SELECT id, changes + 1 FROM batches",
            """
            CREATE TRIGGER batch_added AFTER INSERT ON batches BEGIN
                INSERT INTO batch_changes VALUES (NEW.id, 1);
            END
            """,
            "DROP TRIGGER IF EXISTS point_ended",
            """
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
            END
            """,
            "DROP TRIGGER IF EXISTS point_dropped",
            """
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
            END
            """,
        ),
    ),
    # Whether the points of a batch were made again: a row for the newest verification of a batch
    # (``body``: what was asked for, and the differences in words), and one for each of its points.
    (
        "batch_verifications",
        (
            """
            CREATE TABLE batch_verifications (
                batch INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
                session TEXT NOT NULL,
                state TEXT NOT NULL,
                body TEXT NOT NULL
            )
            """,
            """
            CREATE TABLE batch_verdicts (
                batch INTEGER NOT NULL REFERENCES batch_verifications (batch) ON DELETE CASCADE,
                point INTEGER NOT NULL,
                run_id TEXT,
                repetition TEXT,
                verdict TEXT,
                reason TEXT NOT NULL,
                PRIMARY KEY (batch, point)
            ) WITHOUT ROWID
            """,
        ),
    ),
    # What is typical of points: else SQLite takes a batch to have ten, and reads all of its points
    # to find one by its key.
    (
        "statistics_of_points",
        (
            "ANALYZE batch_changes",  # makes the table
            """
            INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
            ('batch_points', 'batch_points', '100000 10000 1'),
            ('batch_points', 'points_by_key', '100000 10000 1 1'),
            ('batch_points', 'points_by_status', '100000 10000 3000 1 1'),
            ('batch_points', 'points_by_run', '100000 1 1 1'),
            ('batch_points', 'points_by_change', '100000 10000 1 1')
            """,
            "ANALYZE sqlite_master",  # reads it
        ),
    ),
    # The list of runs and batches is ordered by the time of their creation.
    (
        "history",
        (
            """
            CREATE INDEX ended_runs ON runs (created_at, id, batch, status)
            WHERE +status IN ('success', 'failed', 'cancelled')
            """,
            """
            CREATE INDEX ended_runs_by_structure ON runs (structure, created_at, id, batch, status)
            WHERE +status IN ('success', 'failed', 'cancelled')
            """,
            "DROP INDEX IF EXISTS runs_by_batch",
            "CREATE INDEX runs_by_batch ON runs (batch, created_at, id) WHERE batch IS NOT NULL",
            "CREATE INDEX batches_by_time ON batches (created_at)",
            """
            CREATE INDEX batches_by_structure ON batches (
                CASE WHEN json_valid(plan) THEN json_extract(plan, '$.structure') END, created_at
            )
            """,
        ),
    ),
    # Small copies of the pictures of points, of which the last ones are kept (``files/pictures``).
    (
        "run_pictures",
        (
            """
            CREATE TABLE run_pictures (
                id INTEGER PRIMARY KEY,
                run INTEGER NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
                side INTEGER NOT NULL,
                content BLOB NOT NULL
            )
            """,
        ),
    ),
    # The axes of a batch, which may have megabytes, are read only where they are needed.
    (
        "batch_axes",
        (
            "ALTER TABLE batches ADD COLUMN axes TEXT NOT NULL DEFAULT '[]'",
            """
            UPDATE batches SET axes = coalesce(json_extract(plan, '$.axes'), '[]'),
                plan = json_remove(plan, '$.axes')
            WHERE json_valid(plan)
            """,
        ),
    ),
)


def unknown_steps(connection: sqlite3.Connection) -> list[str]:
    """Return the steps in a database that this version does not have, as it is from a newer one."""
    known = {name for name, _ in MIGRATIONS}
    return [name for name in _applied(connection) if name not in known]


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing steps, each in one transaction together with its record.

    If no step is missing, nothing is written.
    """
    applied = _applied(connection)
    for name, statements in MIGRATIONS:
        if name not in applied:
            _apply(connection, name, statements)


def _applied(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the steps applied to a database, in the order of their application."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'"
    if connection.execute(there).fetchone() is None:
        return []
    return [row[0] for row in connection.execute("SELECT name FROM migrations ORDER BY rowid")]


def _apply(connection: sqlite3.Connection, name: str, statements: tuple[str, ...]) -> None:
    with transaction(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
        )
        # Another server may have applied the step in the meantime.
        if name not in _applied(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (name, applied_at)"
                " VALUES (?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
                (name,),
            )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back if the disk is full
            connection.execute("ROLLBACK")
        raise
