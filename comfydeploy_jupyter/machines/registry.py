"""The machines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .machine import Machine

LOCAL = "local"


class MachineRegistry:
    """All machines that runs can go to; ``local`` is the default one."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}

    def add(self, machine: Machine) -> None:
        """Add a machine under its id."""
        self._machines[machine.id] = machine

    def get(self, machine_id: str | None = None) -> Machine:
        """Return a machine.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        machine_id = machine_id or LOCAL
        try:
            return self._machines[machine_id]
        except KeyError:
            raise NotFoundError(
                f"machine: there is no machine {machine_id!r}",
                details={"field": "machine", "known": sorted(self._machines)},
            ) from None

    def find(self, machine_id: str) -> Machine | None:
        """Return a machine, or None."""
        return self._machines.get(machine_id)

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._machines.values()))

    async def close(self) -> None:
        """Close all machines."""
        for machine in self:
            await machine.close()
