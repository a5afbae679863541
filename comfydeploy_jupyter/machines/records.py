"""The records of all machines and pools: their names and ids."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from .registry import AUTO, LOCAL
from .stored import MachineRecord, name_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stored import MachineRepository


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
