"""The records of all machines and pools, in memory and in the store."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, InvalidRequestError, NotFoundError
from ..store.database import Repository, readable, reading, writing
from ..util.times import utc_now
from .registry import AUTO, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store.database import Database


@dataclass(frozen=True)
class MachineRecord:
    id: str
    name: str  # unique, ignoring case
    kind: str  # `local`, `managed`, `comfyui`, `cloud`, `pool` or `dask`
    config: dict[str, Any]  # the settings that were changed
    created_at: str = ""  # ISO 8601, UTC; these two are set by the store
    updated_at: str = ""


class MachineRecords(Repository):
    """The records of machines and pools, in memory and in the store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._records: dict[str, MachineRecord] = {}

    async def load(self) -> None:
        """Read all records; `local`, which is first, has one even if none is stored."""
        records = {record.id: record for record in await self._all()}
        local = records.pop(LOCAL, MachineRecord(LOCAL, LOCAL, "local", {}))
        self._records = {LOCAL: local, **records}

    def __iter__(self) -> Iterator[MachineRecord]:
        return iter(list(self._records.values()))

    def __getitem__(self, machine_id: str) -> MachineRecord:
        return self._records[machine_id]

    def find(self, machine_id: str) -> MachineRecord | None:
        return self._records.get(machine_id)

    async def keep(self, record: MachineRecord) -> MachineRecord:
        """Store a new or changed record, and return it with its times.

        ConflictError: its name is in use; NotFoundError: it was deleted, as `local` cannot be.
        """
        stored = await self._store(record, new=record.id not in self._records)
        self._records[record.id] = stored
        return stored

    async def delete(self, machine_id: str) -> None:
        await self._delete(machine_id)
        self._records.pop(machine_id, None)

    def check_name(self, name: str, *, but: str | None = None) -> None:
        """Raise unless a machine or pool can have this name."""
        if name.casefold() == AUTO:
            raise InvalidRequestError.of_field("name", f"{AUTO!r} means the least busy machine")
        for record in self._records.values():
            taken = (record.id, record.name.casefold())
            if record.id != but and (name in taken or name.casefold() in taken):
                raise _name_taken(name)

    def free_id(self, name: str) -> str:
        """Return an unused id that is made from a name."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "machine"
        numbered = (slug if n == 1 else f"{slug}-{n}" for n in itertools.count(1))
        return next(found for found in numbered if found not in self._records)

    @reading
    def _all(self, db: sqlite3.Connection) -> list[MachineRecord]:
        rows = db.execute("SELECT * FROM machines ORDER BY position")
        return readable(rows, _record, "Machine", "id")

    @writing
    def _store(self, db: sqlite3.Connection, record: MachineRecord, *, new: bool) -> MachineRecord:
        names = record.name, record.name.casefold()
        config, now = json.dumps(record.config), utc_now()
        try:
            if not new:
                changed = db.execute(
                    "UPDATE machines SET name = ?, name_key = ?, config = ?, updated_at = ?"
                    " WHERE id = ?",
                    (*names, config, now, record.id),
                )
                if not changed.rowcount and record.kind != "local":
                    text = f"there is no machine {record.id!r} any more"
                    raise NotFoundError.of_field("machine_id", text)
            if new or not changed.rowcount:
                db.execute(
                    "INSERT INTO machines (id, name, name_key, kind, created_at, updated_at,"
                    " config) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (record.id, *names, record.kind, now, now, config),
                )
        except sqlite3.IntegrityError:
            raise _name_taken(record.name) from None
        return _record(db.execute("SELECT * FROM machines WHERE id = ?", (record.id,)).fetchone())

    @writing
    def _delete(self, db: sqlite3.Connection, machine_id: str) -> None:
        db.execute("DELETE FROM machines WHERE id = ?", (machine_id,))


def _record(row: sqlite3.Row) -> MachineRecord:
    names = "id", "name", "kind", "created_at", "updated_at"
    return MachineRecord(**{name: row[name] for name in names}, config=json.loads(row["config"]))


def _name_taken(name: str) -> ConflictError:
    return ConflictError.of_field("name", f"a machine {name!r} exists already", name=name)
