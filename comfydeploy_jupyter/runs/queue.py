"""The queue of runs in front of pools: decides which machine gets which run, and when."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import NotFoundError
from ..machines.placement import Dispatcher
from .background import now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry, Pool
    from .active import ActiveRuns
    from .prepare import Prepared
    from .progress import NodeName
    from .records import RunRecord
    from .run import Run

log = logging.getLogger(__name__)

LOOK_INTERVAL = 0.5  # seconds between two looks for machines that do not answer
PAUSE = 1.0  # seconds that a machine gets no run after one could not be sent to it


class Placement(NamedTuple):
    """The machine of a new run, or its position in the queue of a pool."""

    machine_id: str  # the pool if no member has room
    client: ComfyUIClient | None  # None if no member has room
    order: int | None = None  # its sort key in the queue of a pool


class RunQueue:
    """Follows machines and runs, and assigns waiting runs to machines with room.

    It sends and stores nothing: the engine hands the runs over.
    """

    def __init__(self, machines: MachineRegistry, active: ActiveRuns) -> None:
        self._machines = machines
        self._active = active
        self._dispatcher = Dispatcher()
        self._members: set[str] = set()
        self._pools: set[str] = set()
        self._paused: set[str] = set()  # machines that get no runs for `PAUSE` seconds
        self._answering: set[str] = set()  # machines that are connected and answer pings
        self._looked_at = -math.inf
        self._failing: set[str] = set()  # machines that are reported as paused
        self._pool_of: dict[str, str] = {}  # the unfinished runs of pools
        self._open: Counter[str] = Counter()  # their number, by pool
        self._assigned: dict[str, str] = {}  # members, by run
        self.decided = asyncio.Event()  # set when `take` returns at least one run
        machines.changed = self._sync
        machines.activity = self._activity
        machines.pause_of = self._pause_of
        machines.open_runs = lambda name: max(
            active.count_on(name), len(self._dispatcher.member(name).handed)
        )
        machines.pool_runs = self._open.__getitem__
        self._sync()

    # -- runs --------------------------------------------------------------------------------

    def expect(self, run_id: str, pool: Pool) -> None:
        """Count a new run of a pool, which cannot be deleted from now on; raise if it was."""
        if pool.id not in self._pools:
            raise NotFoundError.of_field("machine", f"there is no machine {pool.id!r} any more")
        self._count(run_id, pool.id)

    def place(
        self,
        run_id: str,
        pool: Pool,
        prepared: Prepared,
        *,
        client: str,
        front: bool,
        later: bool,
    ) -> Placement:
        """Assign a new run of a pool to a member at once, if one has room for it.

        If none has, the run is not in the queue before `wait` is called.
        """
        order = self._dispatcher.wait(
            run_id,
            pool.id,
            structure=prepared.structure,
            models=prepared.facts.models,
            fingerprint=prepared.facts.fingerprint,
            client=client,
            later=later,
            needs=_needs(prepared.facts.models, prepared.facts.nodes),
            front=front,
        )
        self._decide()
        member_id = self._assigned.pop(run_id, None)
        if self._assigned:
            self.decided.set()
        machine = None if member_id is None else self._machines.find(member_id)
        comfyui = None if machine is None else machine.reachable_client()
        if machine is not None and comfyui is not None:
            return Placement(machine.id, comfyui, order)
        self._dispatcher.ended(run_id)
        self._dispatcher.withdraw(run_id)  # it is not stored as waiting yet
        return Placement(pool.id, None, order)

    def set_lacks(self, machine_id: str, names: Collection[str]) -> None:
        if machine_id in self._members:
            self._dispatcher.set_lacks(machine_id, names, now())

    def is_excused(self, run: Run) -> bool:
        return self._dispatcher.is_excused(run.prompt_id)

    def wait(self, run: Run, *, failed: bool = False) -> None:
        """Put a stored run into the queue of its pool, at its earlier position if it had one.

        If it was assigned to a machine, this assignment ends. If it has ``failed`` there, it is not
        assigned to this machine again. See also `open_members`.
        """
        record = run.record
        if record.pool is None or self._dispatcher.position(run.prompt_id) is not None:
            return
        avoid = self._dispatcher.member_of(run.prompt_id) if failed else None
        self._dispatcher.ended(run.prompt_id, failed=failed, now=now())
        self._report_pauses()
        self._count(run.prompt_id, record.pool)
        run.order = self._dispatcher.wait(
            run.prompt_id,
            record.pool,
            structure=record.structure,
            models=run.models,
            fingerprint=run.fingerprint,
            front=record.front,
            order=run.order,
            client=client_of(record.client_id, record.metadata, record.batch),
            later=record.batch is not None,
            avoid=avoid,
            needs=_needs(run.models, run.nodes),
        )
        self.decide()
        self._machines.open_members(record.pool)

    def leave(self, run: Run) -> bool:
        """Take a run from its place in the queue of its pool; return whether it had one."""
        if not self._dispatcher.withdraw(run.prompt_id):
            return False
        run.order = None
        return True

    def record_assigned(self, run: Run) -> None:
        record = run.record
        if record.pool is not None:
            if run.order is None:  # it may return to the queue of its pool
                run.order = self._dispatcher.reserve(front=record.front)
            self._count(run.prompt_id, record.pool)
        if record.machine in self._members:
            self._dispatcher.hand_over(
                run.prompt_id,
                record.machine,
                structure=record.structure,
                models=run.models,
                fingerprint=run.fingerprint,
                pool=record.pool,
                now=now(),
            )

    def begun(self, run: Run) -> None:
        """Record that the machine of a run executes it from now on."""
        self._dispatcher.begun(run.prompt_id, now())

    def ended(self, run: Run, seconds: float | None = None, *, failed: bool = False) -> None:
        """Record that a run has ended, or was cancelled while it waited.

        ``seconds`` is the duration of its execution, if it was successful.
        """
        run_id = run.prompt_id
        self._dispatcher.withdraw(run_id)
        self._dispatcher.ended(run_id, seconds, failed=failed, now=now())
        self._report_pauses()
        pool_id = self._pool_of.pop(run_id, None)
        if pool_id is not None:
            self._open[pool_id] -= 1
            self._machines.demand(pool_id, self._open[pool_id])
        machine = self._machines.find(run.record.machine)
        # After its success, ComfyUI first sends its new number of prompts, then the last event.
        counted = run.released.is_set() or not (run.success_reported and run.events_complete)
        if counted and machine is not None and machine.connected and machine.connection is not None:
            # ComfyUI may have sent this number before, when the run was one of its prompts.
            self._count_others(machine, machine.connection.queue_remaining)
        self.decide()

    def position(self, record: RunRecord) -> int | None:
        """Return the position of a queued run among the prompts that have not started, from 1.

        Before a run that waits for a pool are the runs before it in the pool and in those with the
        same members, and the prompts that wait on the members. Before a run that its machine has,
        or is about to get, are the runs with smaller numbers there. Prompts of other clients are
        assumed to come first.
        """
        dispatcher = self._dispatcher
        place = dispatcher.position(record.prompt_id)
        pool = None if record.pool is None else self._machines.find_pool(record.pool)
        if place is not None and pool is not None:
            return place + self._at_members(pool)
        machine_id = dispatcher.member_of(record.prompt_id) or record.machine
        if machine_id not in self._members:
            return None
        return 1 + self._active.before(machine_id, record) + self._foreign(machine_id)

    def line(self) -> Iterator[tuple[int, str]]:
        """Yield the position and the id of each run that has a `position`, in their order."""
        on_machines = map(self._line_of, self._members)
        in_pools = map(self._line_for, self._all_pools())
        return merge(*on_machines, *in_pools, key=itemgetter(0))

    def _line_of(self, machine_id: str) -> Iterator[tuple[int, str]]:
        first = 1 + self._foreign(machine_id)
        for place, (_, _, run_id) in enumerate(self._active.turns(machine_id), first):
            yield place, run_id

    def _line_for(self, pool: Pool) -> Iterator[tuple[int, str]]:
        ahead = self._at_members(pool)
        for place, run_id in self._dispatcher.line(pool.id):
            yield ahead + place, run_id

    def _at_members(self, pool: Pool) -> int:
        """Return how many prompts wait on the members of a pool."""
        return sum(max(self._dispatcher.member(each).load - 1, 0) for each in self._known(pool))

    def _foreign(self, machine_id: str) -> int:
        """Return how many prompts of other clients wait on a machine."""
        executes = self._active.executes(machine_id)
        return max(self.others(machine_id) - (not executes), 0)

    def open(self, pool_id: str) -> int:
        """Return how many runs of a pool have not ended."""
        return self._open[pool_id]

    def others(self, machine_id: str) -> int:
        """Return how many prompts a machine has that this server has not sent, as far as known."""
        return self._dispatcher.member(machine_id).others

    def take(self) -> list[tuple[Run, Machine | None]]:
        """Return the waiting runs that were assigned since the last call, and to what.

        It is None if the machine was removed in the meantime.
        """
        self.decided.clear()
        assigned, self._assigned = self._assigned, {}
        runs = ((self._active.get(run_id), member) for run_id, member in assigned.items())
        return [(run, self._machines.find(member)) for run, member in runs if run is not None]

    def decide(self) -> None:
        """Assign the waiting runs for which there is room.

        This is also called when nothing has changed: a run may wait for a faster machine, which
        then takes longer than expected.
        """
        self._decide()
        if self._assigned:
            self.decided.set()

    def _decide(self) -> None:
        if self._dispatcher.any_waits and now() - self._looked_at > LOOK_INTERVAL:
            self._looked_at = now()
            for machine in self._machines:
                if machine.answers != (machine.id in self._answering):
                    self.connected(machine)
        while self._dispatcher.any_waits:
            decision = self._dispatcher.decide(now())
            if decision is None:
                break
            self._assigned[decision.run_id] = decision.member_id

    # -- machines ----------------------------------------------------------------------------

    def connected(self, machine: Machine) -> None:
        if machine.id in self._members and machine.id not in self._paused:
            self._set_connected(machine)
            self.decide()

    def pause(self, machine: Machine) -> None:
        """Assign no runs to a machine for `PAUSE` seconds: one could not be sent to it."""
        if machine.id in self._members and machine.id not in self._paused:
            self._paused.add(machine.id)
            self._dispatcher.set_connected(machine.id, connected=False)
            asyncio.get_running_loop().call_later(PAUSE, self._end_pause, machine.id)

    def queue_changed(self, machine: Machine, remaining: int) -> None:
        """Record how many prompts, of all clients, ComfyUI has."""
        self._count_others(machine, remaining)
        self.decide()

    def _end_pause(self, machine_id: str) -> None:
        self._paused.discard(machine_id)
        machine = self._machines.find(machine_id)
        if machine is not None:
            self.connected(machine)

    def _sync(self) -> None:
        """Follow changes of the registry: new and removed machines and pools."""
        present = {machine.id for machine in self._machines}
        for machine_id in self._members - present:
            self._dispatcher.remove_member(machine_id)
        for machine in self._machines:
            if machine.id not in self._members:
                self._dispatcher.add_member(machine.id)
                self._set_connected(machine)
        self._members = present
        pools = self._all_pools()
        for pool in pools:
            self._dispatcher.set_pool(pool.id, self._known(pool))
        for pool_id in self._pools - {pool.id for pool in pools}:
            self._dispatcher.remove_pool(pool_id)
        self._pools = {pool.id for pool in pools}
        self.decide()

    def _all_pools(self) -> tuple[Pool, ...]:
        return (*self._machines.pools, self._machines.all_machines)

    def _known(self, pool: Pool) -> list[str]:
        return [member for member in pool.members if member in self._members]

    def _activity(self, machine_id: str) -> dict[str, Any]:
        """Return ``run``, ``queue`` and ``models`` of a machine, for ``GET machines``."""
        running, member = self._active.running(machine_id), self._dispatcher.member(machine_id)
        return {
            "run": None if running is None else running.prompt_id,
            "queue": member.load,
            "models": sorted(member.models),
        }

    def _pause_of(self, machine_id: str) -> str | None:
        """Return why a machine that fails runs gets none of pools, None if it gets them."""
        pause = self._dispatcher.member(machine_id).pause
        if pause is None:
            return None
        left = max(math.ceil(pause.deadline - now()), 0) if pause.holds else 0
        when = f"in {left} s" if left else "with the next run"
        return (
            f"The last {pause.failures} runs of pools on this machine have failed: pools give it no"
            f" runs, and try it again {when}"
        )

    # -- implementation ------------------------------------------------------------------------

    def _set_connected(self, machine: Machine) -> None:
        """Give a machine runs while it answers: one that is silent may not execute them."""
        (self._answering.add if machine.answers else self._answering.discard)(machine.id)
        self._dispatcher.set_connected(
            machine.id, connected=machine.answers, silent=machine.connected
        )

    def _report_pauses(self) -> None:
        """Log which machines are paused because they fail runs, and which work again."""
        paused = self._dispatcher.paused
        for machine_id in paused - self._failing:
            text = "Machine %r is paused: %s"
            log.warning(text, machine_id, self._pause_of(machine_id), extra={"machine": machine_id})
        for machine_id in self._failing - paused:
            log.info("Machine %r gets runs again", machine_id, extra={"machine": machine_id})
        self._failing = paused

    def _count_others(self, machine: Machine, remaining: int | None) -> None:
        if machine.id in self._members and remaining is not None:
            member = self._dispatcher.member(machine.id)
            others = max(remaining - len(member.handed), 0)
            if others != member.others:
                self._dispatcher.set_others(machine.id, others)

    def _count(self, run_id: str, pool_id: str) -> None:
        if run_id not in self._pool_of:
            self._pool_of[run_id] = pool_id
            self._open[pool_id] += 1
            self._machines.demand(pool_id, self._open[pool_id])


def client_of(
    client_id: str | None, labels: Mapping[str, str] | None, batch: str | None = None
) -> str:
    """Return the client of a run: its batch, its label ``client``, or the id in its request."""
    return batch or (labels or {}).get("client") or client_id or ""


def _needs(models: frozenset[str], nodes: Mapping[str, NodeName]) -> frozenset[str]:
    """Return the node classes and model files of a graph."""
    return models | {node.class_type for node in nodes.values() if node.class_type is not None}
