"""All machines, by id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .. import metrics
from ..errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..store.machines import MachineRecord
    from .machine import Machine

LOCAL = "local"
AUTO = "auto"


class MachineRegistry:
    """All machines that runs can be sent to; ``local`` is the default one.

    Attributes
    ----------
    open_runs : callable
        Returns the number of this server's unfinished runs on a machine, by its id; set later.
    cloud : dict of str to MachineRecord
        The serverless machines of ComfyDeploy, by id, whose ComfyUI cannot be reached directly.
    """

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self.cloud: dict[str, MachineRecord] = {}
        self.open_runs: Callable[[str], int] = lambda _: 0

    def add(self, machine: Machine) -> None:
        """Add a machine under its id."""
        self._machines[machine.id] = machine
        metrics.add_machine(machine.id)

    def remove(self, machine_id: str) -> None:
        """Remove a machine, without closing it."""
        if self._machines.pop(machine_id, None) is not None:
            metrics.remove_machine(machine_id)
        self.cloud.pop(machine_id, None)

    def get(self, machine_id: str | None = None) -> Machine:
        """Return a machine.

        Parameters
        ----------
        machine_id : str, optional
            Id or name of the machine, or ``auto``: the one with the least work.

        Raises
        ------
        NotFoundError
            If there is no such machine.
        InvalidRequestError
            If it is a serverless machine of ComfyDeploy.
        """
        found = self._machines.get(machine_id or LOCAL)
        if found is not None:
            return found
        assert machine_id is not None
        if machine_id == AUTO:
            return self.least_busy()
        known = self.resolve(machine_id)
        if known in self.cloud:
            raise InvalidRequestError.of_field(
                "machine",
                f"{machine_id!r} is a serverless machine of ComfyDeploy: its ComfyUI cannot be"
                " asked, and it runs no graphs but deployments, which are made there",
            )
        return self._machines[known]

    def resolve(self, machine_id: str, *, field: str = "machine") -> str:
        """Return the id of a machine, given its id or its name.

        Raises
        ------
        NotFoundError
            If there is no such machine.
        """
        if machine_id == AUTO:
            return self.least_busy().id
        if machine_id in self._machines or machine_id in self.cloud:
            return machine_id
        wanted = machine_id.casefold()
        names = {machine.name.casefold(): machine.id for machine in self}
        names |= {record.name.casefold(): record.id for record in self.cloud.values()}
        if wanted in names:
            return names[wanted]
        raise NotFoundError(
            f"{field}: there is no machine {machine_id!r}",
            details={"field": field, "known": sorted([*self._machines, *self.cloud])},
        )

    def least_busy(self) -> Machine:
        """Return the connected machine with the least work; if there is none, the default one."""
        connected = [machine for machine in self if machine.connected]
        return min(connected, key=self.work) if connected else self._machines[LOCAL]

    def work(self, machine: Machine) -> int:
        """Return the known number of waiting and executing prompts, without a request."""
        told = machine.connection.queue_remaining if machine.connection is not None else None
        return max(self.open_runs(machine.id), told or 0)

    def find(self, machine_id: str) -> Machine | None:
        """Return a machine by its id, or None."""
        return self._machines.get(machine_id)

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._machines.values()))

    async def close(self) -> None:
        """Close all machines."""
        await asyncio.gather(*(machine.close() for machine in self))
