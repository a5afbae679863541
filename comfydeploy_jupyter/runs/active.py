"""The runs that have not ended, those that ended last, and who follows the events of all runs."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, insort
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .background import now
from .outputs import with_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..machines.machine import Machine
    from .feed import RunEvent
    from .records import RunRecord
    from .run import Run

log = logging.getLogger(__name__)

Follower = TypeVar("Follower")

KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024  # size of their events
BEGUN = ("running", "uploading")  # the status of a run that has left its queue
GIVEN_UP_FOR = 86400.0  # seconds after which a machine that did not return is forgotten


Turn = tuple[float, int, str]  # the number of a queued run, when its machine got it, and its id


class _Entry(NamedTuple):
    """As what a run is counted."""

    machine_id: str | None  # None while it needs outputs of other runs
    status: str
    turn: Turn | None  # None if it is not queued on its machine
    in_comfyui: bool  # whether ComfyUI's queue should contain it


@dataclass
class _OnMachine:
    """The runs of a machine, counted so that no event has to look at all of them."""

    runs: dict[str, Run] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)  # of those that are queued, sorted
    uploading: int = 0
    in_comfyui: int = 0


class ActiveRuns:
    """The unfinished runs, in the order in which they were added."""

    def __init__(self, view_url: str) -> None:
        self.view_url = view_url
        self.ended = EndedRuns()
        self._runs: dict[str, Run] = {}
        self._by_comfyui_id: dict[str, Run] = {}
        self._by_machine: defaultdict[str, _OnMachine] = defaultdict(_OnMachine)
        self._place_of: dict[str, tuple[str, str, int]] = {}  # machine, id there, when it got it
        self._entries: dict[str, _Entry] = {}
        self._statuses: Counter[str] = Counter()
        self._begun: dict[str, Run] = {}  # that are executed, or upload their outputs
        self._arrivals = count()
        self._given_up: dict[str, dict[str, float]] = {}
        self._needing: defaultdict[str, list[Run]] = defaultdict(list)  # by the run that they need
        # by the name of the event; None: of all events
        self._followers: defaultdict[str | None, list[Callable[[Run, RunEvent], None]]]
        self._followers = defaultdict(list)
        self._edit_followers: list[Callable[[], None]] = []
        self.edits = 0  # how often runs in the store were deleted, or marked by users

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self._runs

    def add(self, run: Run) -> None:
        """Add a run, and pass its events on to the followers."""
        run.listener = self._pass_on
        run.on_change = self._count
        self._runs[run.prompt_id] = run
        self.moved(run)
        for needed in run.record.waiting_for or ():
            self._needing[needed].append(run)

    def needed(self) -> set[str]:
        """Return the runs whose outputs are inputs of runs that wait for such."""
        waiting = (run for run in self._runs.values() if run.record.waiting_for is not None)
        return {need["run"] for run in waiting for need in run.record.needs}

    def take_needing(self, prompt_id: str) -> list[Run]:
        """Return the runs that waited for the end of a run, once."""
        return self._needing.pop(prompt_id, [])

    def moved(self, run: Run) -> None:
        """Record that a run has another machine, which is in the URLs of its outputs."""
        self._take_off(run)
        if run.record.waiting_for is not None:
            self._count(run)
            return  # no machine has it yet, nor the queue of a pool
        machine_id = run.record.machine
        self._place_of[run.prompt_id] = machine_id, run.comfyui_id, next(self._arrivals)
        self._by_machine[machine_id].runs[run.prompt_id] = run
        self._by_comfyui_id[run.comfyui_id] = run
        self._count(run)
        self.given_up(run.record.machine).pop(run.comfyui_id, None)
        # Without a reference to the run: a reference cycle would delay its deletion.
        run.with_urls = partial(with_urls, view_url=self.view_url, machine=run.record.machine)

    def remove(self, run: Run) -> None:
        """Remove a run, and do not pass its events on any more."""
        run.on_change = None
        self._take_off(run)
        self._runs.pop(run.prompt_id, None)

    def get(self, prompt_id: str) -> Run | None:
        return self._runs.get(prompt_id)

    def find(self, prompt_id: str) -> Run | None:
        """Return a run that has not ended, or is one of the last that have."""
        return self.get(prompt_id) or self.ended.get(prompt_id)

    def by_comfyui_id(self, comfyui_id: str) -> Run | None:
        return self._by_comfyui_id.get(comfyui_id)

    def give_up(self, machine_id: str, comfyui_id: str) -> None:
        """Record that a machine must not execute a prompt, also if it receives it only later."""
        kept = {
            name: prompts
            for name, prompts in self._given_up.items()
            if any(now() - since < GIVEN_UP_FOR for since in prompts.values())
        }
        kept.setdefault(machine_id, {})[comfyui_id] = now()
        self._given_up = kept

    def given_up(self, machine_id: str) -> dict[str, float]:
        """Return the prompts that a machine must not execute, and since when (`now`)."""
        return self._given_up.get(machine_id, {})

    def on(self, machine_id: str) -> list[Run]:
        """Return the runs of a machine, also those that upload their outputs."""
        here = self._by_machine.get(machine_id)
        return [] if here is None else [*here.runs.values()]

    def of(self, machine: Machine) -> list[Run]:
        """Return the runs of a machine whose execution in ComfyUI has not ended yet."""
        return [run for run in self.on(machine.id) if run.record.status != "uploading"]

    def begun(self) -> list[Run]:
        """Return the runs that are executed, or upload their outputs."""
        return [*self._begun.values()]

    def executes(self, machine_id: str) -> bool:
        """Return whether a run of a machine has the status ``running``."""
        return any(self._is_running(run, machine_id) for run in self._begun.values())

    def running(self, machine_id: str) -> Run | None:
        """Return the run of this server that a machine is executing now, or None."""
        for run in self._begun.values():
            over = run.ending and run.released.is_set()
            if self._is_running(run, machine_id) and not over:
                return run
        return None

    def _is_running(self, run: Run, machine_id: str) -> bool:
        entry = self._entries[run.prompt_id]
        return entry.machine_id == machine_id and entry.status == "running"

    def count_on(self, machine_id: str) -> int:
        """Return how many runs of a machine have not been executed."""
        here = self._by_machine.get(machine_id)
        return 0 if here is None else len(here.runs) - here.uploading

    def in_comfyui(self, machine_id: str) -> int:
        """Return how many runs the queue of a machine's ComfyUI should contain."""
        here = self._by_machine.get(machine_id)
        return 0 if here is None else here.in_comfyui

    def turns(self, machine_id: str) -> Sequence[Turn]:
        """Return the runs that are queued on a machine, in their order; those without number last.

        The runs that wait for a pool are on the machine with the id of the pool.
        """
        here = self._by_machine.get(machine_id)
        return () if here is None else here.turns

    def before(self, machine_id: str, record: RunRecord) -> int:
        """Return how many runs that are queued on a machine have smaller numbers."""
        return bisect_left(self.turns(machine_id), (_number(record),))

    def counts(self, machine_ids: Iterable[str] | None = None) -> dict[str, int]:
        """Return how many runs are executing and how many wait, on all machines or on some.

        The runs that wait for a pool are on the machine with the id of the pool.
        """
        statuses = self._statuses
        if machine_ids is not None:
            found = (run for machine_id in machine_ids for run in self.on(machine_id))
            statuses = Counter(run.record.status for run in found)
        return {
            "running": statuses["running"],
            "pending": statuses["queued"] + statuses["not-started"],
        }

    def by_status(self) -> Counter[tuple[str, str]]:
        return Counter((run.record.machine, run.record.status) for run in self._runs.values())

    def of_client(self, client_id: str) -> int:
        return sum(run.record.client_id == client_id for run in self._runs.values())

    def follow(self, follower: Callable[[Run, RunEvent], None], *events: str) -> Callable[[], None]:
        """Call ``follower(run, event)`` for each event of each run, or for those with some names.

        Return a function to stop.
        """
        return _enter(follower, *(self._followers[name] for name in events or (None,)))

    def follow_edits(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Call a function whenever `edits` has changed; return a function to stop."""
        return _enter(follower, self._edit_followers)

    def edited(self) -> None:
        """Record that runs in the store were deleted or marked."""
        self.edits += 1
        for follower in self._edit_followers:
            follower()

    def _take_off(self, run: Run) -> None:
        self._uncount(run.prompt_id)
        machine_id, comfyui_id, _ = self._place_of.pop(run.prompt_id, (None, None, None))
        if machine_id is not None and comfyui_id is not None:
            here = self._by_machine[machine_id]
            here.runs.pop(run.prompt_id, None)
            if not here.runs:
                del self._by_machine[machine_id]
            self._by_comfyui_id.pop(comfyui_id, None)

    def _count(self, run: Run) -> None:
        """Count a run as what it is now."""
        run_id, record = run.prompt_id, run.record
        machine_id, _, arrival = self._place_of.get(run_id, (None, None, 0))
        is_queued = machine_id is not None and record.status == "queued"
        turn = (_number(record), arrival, run_id) if is_queued else None
        entry = _Entry(machine_id, record.status, turn, run.should_be_queued)
        if entry == self._entries.get(run_id):
            return
        self._uncount(run_id)
        self._entries[run_id] = entry
        self._statuses[entry.status] += 1
        if entry.status in BEGUN:
            self._begun[run_id] = run
        if machine_id is not None:
            here = self._by_machine[machine_id]
            here.uploading += entry.status == "uploading"
            here.in_comfyui += entry.in_comfyui
            if turn is not None:
                insort(here.turns, turn)

    def _uncount(self, run_id: str) -> None:
        entry = self._entries.pop(run_id, None)
        if entry is None:
            return
        self._statuses[entry.status] -= 1
        self._begun.pop(run_id, None)
        if entry.machine_id is not None:
            here = self._by_machine[entry.machine_id]
            here.uploading -= entry.status == "uploading"
            here.in_comfyui -= entry.in_comfyui
            if entry.turn is not None:
                del here.turns[bisect_left(here.turns, entry.turn)]

    def _pass_on(self, run: Run, event: RunEvent) -> None:
        for follower in (*self._followers[None], *self._followers.get(event.event, ())):
            try:
                follower(run, event)
            except Exception:  # the readers of the run, and other followers, receive the event
                log.exception("A follower of run %s failed", run.prompt_id)


def _number(record: RunRecord) -> float:
    return math.inf if record.number is None else record.number


def _enter(follower: Follower, *lists: list[Follower]) -> Callable[[], None]:
    """Add a follower to lists; return what removes it."""
    for each in lists:
        each.append(follower)

    def stop() -> None:
        for each in lists:
            if follower in each:
                each.remove(follower)

    return stop


class EndedRuns:
    """The last runs that ended: at most `KEPT_RUNS` and `KEPT_BYTES`, but at least one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._bytes = 0

    def add(self, run: Run) -> None:
        self.remove(run.prompt_id)
        self._bytes += run.log.size
        self._runs[run.prompt_id] = run
        while len(self._runs) > KEPT_RUNS or (self._bytes > KEPT_BYTES and len(self._runs) > 1):
            self.remove(next(iter(self._runs)))

    def remove(self, prompt_id: str) -> None:
        removed = self._runs.pop(prompt_id, None)
        if removed is not None:
            self._bytes -= removed.log.size

    def get(self, prompt_id: str) -> Run | None:
        return self._runs.get(prompt_id)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))
