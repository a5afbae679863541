"""All machines and pools, by id."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..util.tasks import close_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .machine import Machine
    from .records import MachineRecord

LOCAL = "local"
AUTO = "auto"
POOL, DASK = "pool", "dask"  # the kinds of pools: users have named its machines, or leases


@dataclass(frozen=True)
class Pool:
    """Machines that share one queue of runs."""

    id: str
    name: str
    kind: str = POOL  # else the kind of its provider, such as ``dask``
    members: tuple[str, ...] = ()
    retry: int = 0  # how often a run is executed again whose machine ended
    shared_dirs: tuple[str, ...] = ()  # that its machines share, or shared, with this server


class MachineRegistry:
    """All machines that runs can be sent to; ``local`` is the default one."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._pools: dict[str, Pool] = {}
        self.cloud: dict[str, MachineRecord] = {}  # serverless ones of ComfyDeploy, by id
        self.provided: frozenset[str] = frozenset()  # machines that providers of pools have started
        self.all_machines = Pool(AUTO, AUTO)  # the pool ``auto``: all machines but these
        # Set later; they get an id.
        self.open_runs: Callable[[str], int] = lambda _: 0  # on a machine, or being sent to it
        self.pool_runs: Callable[[str], int] = lambda _: 0  # unfinished runs of a pool
        self.activity: Callable[[str], dict[str, Any]] = lambda _: {}  # run, queue and models
        self.pause_of: Callable[[str], str | None] = lambda _: None  # why pools give it no runs
        self.why_waiting: Callable[[str], str | None] = lambda _: None  # why no machine does
        self.changed: Callable[[], None] = lambda: None  # a machine or pool was added or removed
        self.connected: Callable[[], None] = lambda: None  # a machine has connected to its ComfyUI
        self.demand: Callable[[str, int], None] = lambda *_: None  # a pool's number of runs changed

    def add(self, machine: Machine) -> None:
        """Add a machine under its id."""
        self._machines[machine.id] = machine
        metrics.add_machine(machine.id)
        self._update()

    def set_pool(self, pool: Pool) -> None:
        """Add a pool, or replace the one with its id."""
        self._pools[pool.id] = pool
        self._update()

    def remove(self, machine_id: str) -> None:
        """Remove a machine, without closing it, or a pool, without its machines."""
        if self._machines.pop(machine_id, None) is not None:
            metrics.remove_machine(machine_id)
        self.cloud.pop(machine_id, None)
        if self._pools.pop(machine_id, None) is not None:
            metrics.remove_pool(machine_id)
        self._update()

    def _update(self) -> None:
        provided = (pool.members for pool in self.pools if pool.kind != POOL)
        self.provided = frozenset(chain.from_iterable(provided))
        others = tuple(known for known in self._machines if known not in self.provided)
        self.all_machines = Pool(AUTO, AUTO, members=others)
        self.changed()

    @contextmanager
    def removed(self, *ids: str) -> Iterator[list[Machine]]:
        """Remove machines and pools at once, so that they get no run; yield the machines.

        If the block fails, they are added again.
        """
        pools = [self._pools[known] for known in ids if known in self._pools]
        machines = [self._machines[known] for known in ids if known in self._machines]
        cloud = {known: self.cloud[known] for known in ids if known in self.cloud}
        for known in ids:
            self.remove(known)
        try:
            yield machines
        except BaseException:
            for pool in pools:  # first: else `auto` would have their machines
                self.set_pool(pool)
            for machine in machines:
                self.add(machine)
            self.cloud |= cloud
            raise

    def get(self, machine_id: str | None = None) -> Machine:
        """Return a machine by its id or name; of a pool the member with the least work."""
        found = self._machines.get(machine_id or LOCAL)
        if found is not None:
            return found
        assert machine_id is not None
        known = self.resolve(machine_id)
        if known in self.cloud:
            raise InvalidRequestError.of_field(
                "machine",
                f"{machine_id!r} is a serverless machine of ComfyDeploy: its ComfyUI cannot be"
                " reached, and it runs only deployments, which are created at ComfyDeploy",
            )
        pool = self._pools.get(known)
        return self._machines[known] if pool is None else self.least_busy(pool)

    def resolve(self, machine_id: str, *, field: str = "machine") -> str:
        """Return the id of a machine or pool, given its id or its name."""
        if machine_id == AUTO:
            return self.least_busy(self.all_machines).id
        if any(machine_id in known for known in (self._machines, self._pools, self.cloud)):
            return machine_id
        named = (*self, *self._pools.values(), *self.cloud.values())
        names: dict[str, str] = {each.name.casefold(): each.id for each in named}
        if machine_id.casefold() in names:
            return names[machine_id.casefold()]
        known = sorted([*self._machines, *self._pools, *self.cloud])
        raise NotFoundError.of_field(field, f"there is no machine {machine_id!r}", known=known)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools, without ``auto``."""
        return tuple(self._pools.values())

    def pool(self, machine_id: str | None, *, field: str = "machine") -> Pool | None:
        """Return the pool with an id or name, ``auto`` included; None if it is not a pool."""
        if machine_id is None or machine_id in self._machines:
            return None
        if machine_id == AUTO:
            return self.all_machines
        return self._pools.get(self.resolve(machine_id, field=field))

    def find_pool(self, pool_id: str) -> Pool | None:
        return self.all_machines if pool_id == AUTO else self._pools.get(pool_id)

    def least_busy(self, pool: Pool) -> Machine:
        """Return the connected member of a pool with the least work.

        If none is connected, it is the default machine if that is a member, else the first member.
        """
        members = self.members(pool)
        connected = [machine for machine in members if machine.connected]
        if connected:
            return min(connected, key=lambda machine: (not machine.answers, self.work(machine)))
        if not members:
            raise ComfyUIUnavailableError(
                f"The pool {pool.id!r} has no machines now", extra={"hint": "Try again later."}
            )
        return self._machines[LOCAL] if LOCAL in pool.members else members[0]

    def members(self, pool: Pool) -> list[Machine]:
        return [self._machines[known] for known in pool.members if known in self._machines]

    def open_members(self, pool_id: str) -> None:
        """Find or start the machines of a pool in the background, if none of them is connected."""
        pool = self.find_pool(pool_id)
        members = [] if pool is None else self.members(pool)
        if not any(machine.connected for machine in members):
            for machine in members:
                machine.open()

    def work(self, machine: Machine) -> int:
        """Return the known number of waiting and executing prompts, without a request."""
        queued = machine.connection.queue_remaining if machine.connection is not None else None
        return max(self.open_runs(machine.id), queued or 0)

    def summary(self, machine: Machine) -> dict[str, Any]:
        """Return a short description of a machine, without a request."""
        known = machine.status()
        return {
            "id": machine.id,
            "name": machine.name,
            **self.state(machine),
            "url": known["url"],
            "version": known["version"],
            "work": self.work(machine),
        }

    def state(self, machine: Machine) -> dict[str, Any]:
        """Return ``status`` and ``error`` of a machine, for replies."""
        paused = self.pause_of(machine.id) if machine.connected else None
        if paused is not None:
            return {"status": "paused", "error": paused}
        return {"status": machine.state, "error": machine.status().get("error")}

    def find(self, machine_id: str) -> Machine | None:
        return self._machines.get(machine_id)

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._machines.values()))

    async def close(self) -> None:
        await asyncio.gather(*(close_each(machine.close) for machine in self))
