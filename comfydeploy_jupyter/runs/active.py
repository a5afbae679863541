"""The runs that have not ended, those that ended last, and who follows the events of all runs."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from functools import partial
from itertools import chain
from sys import intern
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from .background import now
from .outputs import with_urls
from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..machines.machine import Machine
    from .feed import RunEvent
    from .run import Run

log = logging.getLogger(__name__)

KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024  # size of their events
GIVEN_UP_FOR = 86400.0  # seconds after which a machine that did not return is forgotten


class Unloaded(NamedTuple):
    """The part of an unloaded run that stays in memory; all other data is only in the store."""

    pool: str
    client_id: str | None
    order: int | None


class ActiveRuns:
    """The unfinished runs, in the order in which they were added.

    There may be many runs that wait for a pool. So such a run can be unloaded: its `Run` stays
    in memory only while other code uses it, and `Loader.load` creates it again from the store.
    """

    def __init__(self, view_url: str) -> None:
        self.view_url = view_url
        self._runs: dict[str, Run] = {}
        self._unloaded: dict[str, Unloaded] = {}
        self._unloaded_in: Counter[str] = Counter()  # their number, by pool
        self._unloaded_of: Counter[str | None] = Counter()  # by client
        self._in_use: WeakValueDictionary[str, Run] = WeakValueDictionary()  # of the unloaded runs
        self._by_comfyui_id: dict[str, Run] = {}
        self._by_machine: defaultdict[str, dict[str, Run]] = defaultdict(dict)
        self._place_of: dict[str, tuple[str, str]] = {}  # machine and id there, by the run's id
        self._given_up: dict[str, dict[str, float]] = {}
        self._needing: defaultdict[str, list[Run]] = defaultdict(list)  # by the run that they need
        self._followers: set[Callable[[Run, RunEvent], None]] = set()

    def __iter__(self) -> Iterator[Run]:
        """Iterate over all runs that are not unloaded."""
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs) + len(self._unloaded)

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self._runs or prompt_id in self._unloaded

    def add(self, run: Run) -> None:
        """Add a run, and pass its events on to the followers."""
        run.listener = self._pass_on
        self.moved(run)
        self._runs[run.prompt_id] = run
        for needed in run.record.waiting_for or ():
            self._needing[needed].append(run)

    def needed(self) -> set[str]:
        """Return the runs whose outputs are inputs of runs that wait for such."""
        waiting = (run for run in self._runs.values() if run.record.waiting_for is not None)
        return {need["run"] for run in waiting for need in run.record.needs}

    def take_needing(self, prompt_id: str) -> list[Run]:
        """Return the runs that waited for the end of a run, once."""
        return self._needing.pop(prompt_id, [])

    def unload(self, run: Run) -> None:
        """Unload a waiting run if the store has all of its data; it stays only while it is used.

        The store does not have the keys of a Comfy account, nor the events of an earlier attempt.
        A run is not unloaded either while a request waits for its end: only the run refers to the
        task of that request.
        """
        record = run.record
        events = run.log.after(record.first_id)
        if run.state is not State.WAITING or record.pool is None:
            return
        if record.own_keys or run.awaited or events:
            return
        self.remove(run)
        client_id = None if record.client_id is None else intern(record.client_id)
        self._unloaded[run.prompt_id] = Unloaded(intern(record.pool), client_id, run.order)
        self._unloaded_in[record.pool] += 1
        self._unloaded_of[client_id] += 1
        self.use(run)

    def unloaded(self, prompt_id: str) -> Unloaded | None:
        """Return the data in memory of an unloaded run; None for all other runs."""
        return self._unloaded.get(prompt_id)

    def use(self, run: Run) -> None:
        """Let `get` return an unloaded run for as long as other code uses it."""
        run.listener = self._pass_on
        self._in_use[run.prompt_id] = run

    def moved(self, run: Run) -> None:
        """Record that a run has another machine, which is in the URLs of its outputs from now on.

        An unloaded run becomes a loaded one.
        """
        if run.prompt_id in self._unloaded:
            self.remove(run)
            self.add(run)
            return
        self._take_off(run)
        if run.record.waiting_for is not None:
            return  # no machine has it yet, nor the queue of a pool
        self._place_of[run.prompt_id] = run.record.machine, run.comfyui_id
        self._by_machine[run.record.machine][run.prompt_id] = run
        self._by_comfyui_id[run.comfyui_id] = run
        self.given_up(run.record.machine).pop(run.comfyui_id, None)
        # Without a reference to the run: a reference cycle would delay its deletion.
        run.with_urls = partial(with_urls, view_url=self.view_url, machine=run.record.machine)

    def remove(self, run: Run) -> None:
        """Remove a run, and do not pass its events on any more."""
        self._take_off(run)
        self._runs.pop(run.prompt_id, None)
        unloaded = self._unloaded.pop(run.prompt_id, None)
        if unloaded is not None:
            self._unloaded_in[unloaded.pool] -= 1
            self._unloaded_of[unloaded.client_id] -= 1
            self._in_use.pop(run.prompt_id, None)

    def get(self, prompt_id: str) -> Run | None:
        """Return a run by its id; None if there is none, or if it is unloaded and not in use."""
        return self._runs.get(prompt_id) or self._in_use.get(prompt_id)

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
        return [*self._by_machine.get(machine_id, {}).values()]

    def of(self, machine: Machine) -> list[Run]:
        """Return the runs of a machine whose execution in ComfyUI has not ended yet."""
        return [run for run in self.on(machine.id) if run.record.status != "uploading"]

    def running(self, machine_id: str) -> Run | None:
        """Return the run of this server that a machine is executing now, or None."""
        for run in self.on(machine_id):
            over = run.ending and run.released.is_set()
            if run.record.status == "running" and not over:
                return run
        return None

    def count_on(self, machine_id: str) -> int:
        return sum(run.record.status != "uploading" for run in self.on(machine_id))

    def counts(self, machine_ids: Iterable[str] | None = None) -> dict[str, int]:
        """Return how many runs are executing and how many wait, on all machines or on some.

        The runs that wait for a pool are on the machine with the id of the pool.
        """
        if machine_ids is None:
            runs, unloaded = iter(self), len(self._unloaded)
        else:
            machine_ids = list(machine_ids)
            runs = chain.from_iterable(map(self.on, machine_ids))
            unloaded = sum(self._unloaded_in[machine_id] for machine_id in machine_ids)
        statuses = [run.record.status for run in runs]
        return {
            "running": statuses.count("running"),
            "pending": statuses.count("queued") + statuses.count("not-started") + unloaded,
        }

    def by_status(self) -> Counter[tuple[str, str]]:
        found = Counter((run.record.machine, run.record.status) for run in self._runs.values())
        for pool, count in self._unloaded_in.items():
            if count:
                found[pool, "queued"] += count
        return found

    def of_client(self, client_id: str) -> int:
        others = sum(run.record.client_id == client_id for run in self._runs.values())
        return others + self._unloaded_of[client_id]

    def follow(self, follower: Callable[[Run, RunEvent], None]) -> Callable[[], None]:
        """Call ``follower(run, event)`` for each event of each run; return a function to stop."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    def _take_off(self, run: Run) -> None:
        machine_id, comfyui_id = self._place_of.pop(run.prompt_id, (None, None))
        if machine_id is not None and comfyui_id is not None:
            there = self._by_machine[machine_id]
            there.pop(run.prompt_id, None)
            if not there:
                del self._by_machine[machine_id]
            self._by_comfyui_id.pop(comfyui_id, None)

    def _pass_on(self, run: Run, event: RunEvent) -> None:
        for follower in list(self._followers):
            try:
                follower(run, event)
            except Exception:  # the readers of the run, and other followers, receive the event
                log.exception("A follower of run %s failed", run.prompt_id)


class EndedRuns:
    """The last runs that ended: at most `KEPT_RUNS` and `KEPT_BYTES`, but at least one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._bytes = 0

    def add(self, run: Run) -> None:
        replaced = self._runs.pop(run.prompt_id, None)
        self._bytes += run.log.size - (replaced.log.size if replaced is not None else 0)
        self._runs[run.prompt_id] = run
        while len(self._runs) > KEPT_RUNS or (self._bytes > KEPT_BYTES and len(self._runs) > 1):
            self._bytes -= self._runs.popitem(last=False)[1].log.size

    def remove(self, prompt_id: str) -> None:
        removed = self._runs.pop(prompt_id, None)
        if removed is not None:
            self._bytes -= removed.log.size

    def get(self, prompt_id: str) -> Run | None:
        return self._runs.get(prompt_id)
