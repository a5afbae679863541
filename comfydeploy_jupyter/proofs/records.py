"""The stored part of what runs were made with.

A trigger adds a row in the transaction that ends a run, so no end is without one; what stands in it
is found out afterwards. The environment of a ComfyUI, which many runs share, is stored once.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..runs.records import record_of
from ..store.database import DETAILS, Repository, reading, writing
from ..store.graphs import compress, read_graph

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from ..runs.records import RunRecord
    from ..store.database import Database

State = Literal["wanted", "pending", "complete"]
"""``wanted``: nothing is known yet; ``pending``: the hashes of some files are missing."""

BEFORE_RECORDS = "the run ended before this server kept records"
MAX_KEYS = 64  # of environments that are remembered
Row = tuple[int, State, "dict[str, Any]", "dict[str, Any] | None"]
"""The number of a run, and what is stored about it; without an environment, the last one stays."""


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()  # ASCII: names may be no Unicode


class Wanted(NamedTuple):
    """A run of which something has to be found out."""

    number: int  # its key in the store
    record: RunRecord
    prompt: bytes | None
    body: dict[str, Any]  # what is known already


class Stored(NamedTuple):
    """What is stored of how a run was made."""

    state: State
    record: RunRecord
    prompt: bytes | None
    workflow: bytes | None
    environment: dict[str, Any] | None
    body: dict[str, Any]


class ProvenanceRepository(Repository):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._keys: dict[int, tuple[dict[str, Any], str]] = {}  # of environments, by their objects

    @reading
    def wanted(
        self,
        db: sqlite3.Connection,
        state: State,
        sessions: Collection[str],
        limit: int,
        after: int,
    ) -> list[Wanted]:
        """Return runs of these sessions, and of editors, in this state, oldest first."""
        rows = db.execute(
            "SELECT runs.*, provenance.body AS known, graphs.body AS prompt"  # noqa: S608 - constants
            " FROM provenance INDEXED BY provenance_by_state JOIN runs ON runs.id = provenance.run"
            " LEFT JOIN graphs ON graphs.hash = runs.prompt_hash"
            " WHERE provenance.state <> 'complete' AND provenance.state = ? AND provenance.run > ?"
            " AND (runs.session IN (SELECT value FROM json_each(?))"
            f" OR json_extract({DETAILS}, '$.from_editor'))"
            " ORDER BY provenance.run LIMIT ?",
            (state, after, json.dumps(list(sessions)), limit),
        )
        return [
            Wanted(row["id"], record_of(row), read_graph(row["prompt"]), _read(row["known"]))
            for row in rows
        ]

    @writing
    def keep(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Store what was found out about runs, but for those that were deleted meanwhile."""
        used: set[str] = set()
        for number, state, body, environment in rows:
            digest = None if environment is None else self._keep_environment(db, environment, used)
            db.execute(
                "UPDATE provenance SET state = ?, environment = coalesce(?, environment), body = ?"
                " WHERE run = ?",
                (state, digest, compress(_encode(body)), number),
            )
        db.execute(
            "DELETE FROM environments WHERE hash IN (SELECT value FROM json_each(?))"
            " AND NOT EXISTS (SELECT 1 FROM provenance WHERE environment = hash)",
            (json.dumps([*used]),),
        )

    def _keep_environment(
        self, db: sqlite3.Connection, environment: dict[str, Any], used: set[str]
    ) -> str:
        """Store an environment, unless it is stored already; return its key.

        Runs share the object, so the keys of the last ones are known without reading it again.
        """
        known, digest = self._keys.get(id(environment), (None, ""))
        if known is not environment:
            digest = hashlib.sha256(_encode(environment)).hexdigest()
            if len(self._keys) >= MAX_KEYS:
                self._keys.clear()
            self._keys[id(environment)] = environment, digest
        if digest not in used:
            used.add(digest)
            found = db.execute("SELECT 1 FROM environments WHERE hash = ?", (digest,))
            if found.fetchone() is None:
                row = digest, compress(_encode(environment))
                db.execute("INSERT INTO environments (hash, body) VALUES (?, ?)", row)
        return digest

    @reading
    def get(self, db: sqlite3.Connection, prompt_id: str) -> Stored | None:
        row = db.execute(
            "SELECT runs.*, provenance.state AS known_state,"
            " provenance.body AS known, environments.body AS shared,"
            " prompts.body AS prompt, workflows.body AS workflow FROM runs"
            " LEFT JOIN provenance ON provenance.run = runs.id"
            " LEFT JOIN environments ON environments.hash = provenance.environment"
            " LEFT JOIN graphs AS prompts ON prompts.hash = runs.prompt_hash"
            " LEFT JOIN graphs AS workflows ON workflows.hash = runs.workflow_hash"
            " WHERE prompt_id = ?",
            (prompt_id,),
        ).fetchone()
        if row is None:
            return None
        is_kept = row["known_state"] is not None
        return Stored(
            row["known_state"] or "complete",
            record_of(row),
            read_graph(row["prompt"]),
            read_graph(row["workflow"]),
            _read(row["shared"]) or None,
            _read(row["known"]) if is_kept else {"notes": [BEFORE_RECORDS]},
        )


def _read(body: bytes | None) -> dict[str, Any]:
    text = read_graph(body)
    found = json.loads(text) if text is not None else {}
    return found if isinstance(found, dict) else {}
