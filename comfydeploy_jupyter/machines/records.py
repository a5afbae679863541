"""The records of all machines and pools, in memory and in the store."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, InvalidRequestError, NotFoundError
from ..store.database import Repository, readable
from ..util.timestamps import utc_now
from .registry import AUTO, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class MachineRecord:
    """The record of one machine."""

    id: str
    name: str  # name of the machine; unique, ignoring case
    kind: str  # `local`, `managed`, `comfyui` or `cloud`
    config: dict[str, Any]  # the settings that were changed
    created_at: str = ""  # times in ISO 8601, UTC; set by the store
    updated_at: str = ""  # times in ISO 8601, UTC; set by the store


class MachineRepository(Repository):
    """Reads and writes machine records."""

    async def all(self) -> list[MachineRecord]:
        """Return all machines, oldest first."""
        return await self._database.read(_all)

    async def add(self, record: MachineRecord) -> MachineRecord:
        """Store a new machine."""
        return await self._database.write(_add, record)

    async def save(self, record: MachineRecord) -> MachineRecord:
        """Write the name and the config of a machine."""
        return await self._database.write(_save, record)

    async def delete(self, machine_id: str) -> None:
        """Delete a machine."""
        await self._database.write(_delete, machine_id)


def _record(row: sqlite3.Row) -> MachineRecord:
    return MachineRecord(
        row["id"],
        row["name"],
        row["kind"],
        json.loads(row["config"]),
        row["created_at"],
        row["updated_at"],
    )


def _all(connection: sqlite3.Connection) -> list[MachineRecord]:
    rows = connection.execute("SELECT * FROM machines ORDER BY position")
    return readable(rows, _record, "Machine", "id")


def _get(connection: sqlite3.Connection, machine_id: str) -> MachineRecord | None:
    row = connection.execute("SELECT * FROM machines WHERE id = ?", (machine_id,)).fetchone()
    return None if row is None else _record(row)


def _add(connection: sqlite3.Connection, record: MachineRecord) -> MachineRecord:
    now = utc_now()
    try:
        connection.execute(
            "INSERT INTO machines (id, name, name_key, kind, created_at, updated_at, config)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.name,
                record.name.casefold(),
                record.kind,
                now,
                now,
                json.dumps(record.config),
            ),
        )
    except sqlite3.IntegrityError:
        raise name_taken(record.name) from None
    kept = _get(connection, record.id)
    assert kept is not None
    return kept


def _save(connection: sqlite3.Connection, record: MachineRecord) -> MachineRecord:
    try:
        changed = connection.execute(
            "UPDATE machines SET name = ?, name_key = ?, config = ?, updated_at = ? WHERE id = ?",
            (
                record.name,
                record.name.casefold(),
                json.dumps(record.config),
                utc_now(),
                record.id,
            ),
        )
    except sqlite3.IntegrityError:
        raise name_taken(record.name) from None
    if not changed.rowcount:
        if record.kind == "local":
            return _add(connection, record)
        raise NotFoundError(
            f"machine_id: there is no machine {record.id!r} any more",
            details={"field": "machine_id"},
        )
    kept = _get(connection, record.id)
    assert kept is not None
    return kept


def _delete(connection: sqlite3.Connection, machine_id: str) -> None:
    connection.execute("DELETE FROM machines WHERE id = ?", (machine_id,))


def name_taken(name: str) -> ConflictError:
    """Return the error for a name that another machine has."""
    return ConflictError(
        f"name: a machine {name!r} exists already", details={"field": "name", "name": name}
    )


class MachineRecords:
    """The records of machines and pools, in memory and in the store."""

    def __init__(self, repository: MachineRepository) -> None:
        self._repository = repository
        self._records: dict[str, MachineRecord] = {}

    async def load(self) -> None:
        """Read all records; `local`, which is first, has one even if none is stored."""
        records = {record.id: record for record in await self._repository.all()}
        local = records.pop(LOCAL, MachineRecord(LOCAL, LOCAL, "local", {}))
        self._records = {LOCAL: local, **records}

    def __iter__(self) -> Iterator[MachineRecord]:
        return iter(list(self._records.values()))

    def __getitem__(self, machine_id: str) -> MachineRecord:
        return self._records[machine_id]

    def find(self, machine_id: str) -> MachineRecord | None:
        """Return a record by its id, or None."""
        return self._records.get(machine_id)

    async def keep(self, record: MachineRecord) -> MachineRecord:
        """Store a new or changed record, and return it with its times."""
        known = record.id in self._records
        stored = await (self._repository.save if known else self._repository.add)(record)
        self._records[record.id] = stored
        return stored

    async def delete(self, machine_id: str) -> None:
        """Delete a record."""
        await self._repository.delete(machine_id)
        self._records.pop(machine_id, None)

    def check_name(self, name: str, *, but: str | None = None) -> None:
        """Raise unless a machine or pool can have this name."""
        if name.casefold() == AUTO:
            raise InvalidRequestError.of_field("name", f"{AUTO!r} means the least busy machine")
        for record in self._records.values():
            taken = (record.id, record.name.casefold())
            if record.id != but and (name in taken or name.casefold() in taken):
                raise name_taken(name)

    def free_id(self, name: str) -> str:
        """Return an unused id that is made from a name."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "machine"
        numbered = (slug if n == 1 else f"{slug}-{n}" for n in itertools.count(1))
        return next(found for found in numbered if found not in self._records)
