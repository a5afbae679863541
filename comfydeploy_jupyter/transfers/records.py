"""The records of all transfers, so that a new process can continue them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..store.database import Repository, readable, storable
from ..util.timestamps import days_ago

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence


OPEN = ("queued", "active", "retrying")
ENDED = ("done", "failed", "cancelled")
KEPT = 1000  # ended transfers that are kept
KEPT_PRIVATE = 3  # days


@dataclass
class TransferRecord:
    """The record of one transfer."""

    id: str
    direction: str
    kind: str
    session: str
    filename: str
    created_at: str
    path: str | None = None
    prompt_id: str | None = None
    node_id: str | None = None
    size: int | None = None
    sent: int = 0
    state: str = "queued"
    attempts: int = 0
    error: str | None = None
    finished_at: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether the transfer has ended."""
        return self.state in ENDED

    @property
    def log_fields(self) -> dict[str, Any]:
        """The ``extra`` of log lines about the transfer."""
        whose = {"prompt_id": self.prompt_id, "machine": self.facts.get("machine")}
        return {
            "transfer_id": self.id,
            "direction": self.direction,
            "kind": self.kind,
            **{name: value for name, value in whose.items() if value is not None},
        }


_JSON = ("facts", "private")
_COLUMNS = (
    "id",
    "direction",
    "kind",
    "session",
    "filename",
    "created_at",
    "path",
    "prompt_id",
    "node_id",
    "size",
    "sent",
    "state",
    "attempts",
    "error",
    "finished_at",
)


class TransferRepository(Repository):
    """Reads and writes transfer records."""

    async def add(self, records: Sequence[TransferRecord]) -> None:
        """Store new transfers in one transaction."""
        await self._database.write(_add, [_row(record) for record in records])

    async def save(self, record: TransferRecord) -> None:
        """Write the present state of a transfer."""
        await self._database.write(_save, _row(record))

    async def get(self, transfer_id: str) -> TransferRecord | None:
        """Return one transfer, or None."""
        found = await self._database.read(_find, "id = ?", (transfer_id,), 1)
        return found[0] if found else None

    async def failed(self, direction: str, prompt_id: str | None) -> list[TransferRecord]:
        """Return the transfers, of one run or of all, that have failed, oldest first."""
        condition, values = "state = 'failed' AND direction = ?", [direction]
        if prompt_id is not None:
            condition += " AND prompt_id = ?"
            values.append(prompt_id)
        return await self._database.read(_find, condition, tuple(values), -1)

    async def reopen(self, record: TransferRecord) -> bool:
        """Queue a failed transfer again; return False if its state is not failed any more.

        If several callers try this at the same time, only one of them succeeds.
        """
        return await self._database.write(_reopen, _row(record))

    async def recover(self, sessions: Iterable[str], session: str) -> list[TransferRecord]:
        """Assign the open transfers of other sessions to a session; return them, oldest first.

        Records that ended long ago, and old tokens of failed transfers, are deleted as well.
        """
        return await self._database.write(_recover, tuple(sessions), session)

    async def of_run(self, prompt_id: str) -> list[TransferRecord]:
        """Return the transfers of a run, oldest first."""
        return await self._database.read(_find, "prompt_id = ?", (prompt_id,), -1)

    async def of_path(self, path: str) -> TransferRecord | None:
        """Return the newest transfer to or from a local file."""
        found = await self._database.read(_find, "path = ?", (path,), 1)
        return found[0] if found else None

    async def origins(self) -> dict[str, str]:
        """Return the sources of downloaded files, by their path."""
        found = await self._database.read(_find, "kind = ? AND state = ?", ("download", "done"), -1)
        origins = {record.path: record.facts.get("origin") for record in found}
        return {path: origin for path, origin in origins.items() if path and origin}

    async def newest_ended(self, limit: int) -> list[TransferRecord]:
        """Return the last ended transfers, oldest first."""
        return await self._database.read(_find, f"state IN ({_marks(ENDED)})", ENDED, limit)

    async def count_ended(self, prompt_id: str | None) -> dict[str, int]:
        """Return the number of ended transfers by state, of one run or of all."""
        return await self._database.read(_count_ended, prompt_id)


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _row(record: TransferRecord) -> dict[str, Any]:
    """Copy a record to a row before the writer runs, since the record may change until then."""
    values = ((name, getattr(record, name)) for name in _COLUMNS)
    row = {name: storable(value) if isinstance(value, str) else value for name, value in values}
    return {**row, **{name: json.dumps(getattr(record, name)) for name in _JSON}}


def _record(row: sqlite3.Row) -> TransferRecord:
    return TransferRecord(
        **{name: row[name] for name in _COLUMNS},
        **{name: json.loads(row[name]) for name in _JSON},
    )


def _add(connection: sqlite3.Connection, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO transfers ({', '.join(row)}) VALUES ({marks})", row)  # noqa: S608 - our own column names


def _save(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in row)
    connection.execute(f"UPDATE transfers SET {changes} WHERE id = :id", row)  # noqa: S608 - our own column names


def _reopen(connection: sqlite3.Connection, row: dict[str, Any]) -> bool:
    found = connection.execute("SELECT state FROM transfers WHERE id = ?", (row["id"],)).fetchone()
    if found is None or found["state"] != "failed":
        return False
    _save(connection, row)
    return True


def _recover(
    connection: sqlite3.Connection, sessions: tuple[str, ...], session: str
) -> list[TransferRecord]:
    connection.execute(
        f"DELETE FROM transfers WHERE state IN ({_marks(ENDED)}) AND position NOT IN"  # noqa: S608 - only marks are put in
        f" (SELECT position FROM transfers WHERE state IN ({_marks(ENDED)})"
        "  ORDER BY position DESC LIMIT ?)",
        (*ENDED, *ENDED, KEPT),
    )
    connection.execute(
        "UPDATE transfers SET private = '{}' WHERE state = 'failed' AND finished_at < ?",
        (days_ago(KEPT_PRIVATE),),
    )
    condition = f"session IN ({_marks(sessions)}) AND state IN ({_marks(OPEN)})"
    found = _find(connection, condition, (*sessions, *OPEN), -1)
    for record in found:
        record.session = session
        connection.execute("UPDATE transfers SET session = ? WHERE id = ?", (session, record.id))
    return found


def _find(
    connection: sqlite3.Connection, condition: str, values: tuple[str, ...], limit: int
) -> list[TransferRecord]:
    rows = connection.execute(
        f"SELECT * FROM transfers WHERE {condition} ORDER BY position DESC LIMIT ?",  # noqa: S608 - conditions are ours
        (*values, limit),
    )
    return readable(rows, _record, "Transfer", "id")[::-1]


def _count_ended(connection: sqlite3.Connection, prompt_id: str | None) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT state, count(*) FROM transfers WHERE state IN ({_marks(ENDED)})"  # noqa: S608 - only marks are put in
        " AND (? IS NULL OR prompt_id = ?) GROUP BY state",
        (*ENDED, prompt_id, prompt_id),
    )
    return {row[0]: row[1] for row in rows}
