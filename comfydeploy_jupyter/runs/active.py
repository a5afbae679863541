"""The runs that have not ended, and the functions that follow the events of all runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from .outputs import with_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..machines.machine import Machine
    from .log import RunEvent
    from .run import Run


class ActiveRuns:
    """The unfinished runs, in the order in which they were added.

    Parameters
    ----------
    view_url : str
        Address of the ``view`` route, for the URLs of outputs.
    """

    def __init__(self, view_url: str) -> None:
        self.view_url = view_url
        self._runs: dict[str, Run] = {}
        self._by_comfyui_id: dict[str, Run] = {}
        self._by_machine: defaultdict[str, dict[str, Run]] = defaultdict(dict)
        self._machine_of: dict[str, str] = {}
        self._followers: set[Callable[[Run, RunEvent], None]] = set()

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Add a run, and pass its events on to the followers."""
        run.listener = self._pass_on
        self.moved(run)
        self._runs[run.prompt_id] = run
        self._by_comfyui_id[run.comfyui_id] = run

    def moved(self, run: Run) -> None:
        """Note that a run has another machine, which the URLs of its outputs name from now on."""
        self._take_off(run)
        self._machine_of[run.prompt_id] = run.record.machine
        self._by_machine[run.record.machine][run.prompt_id] = run
        # Without a reference to the run: a reference cycle would delay its deletion.
        run.with_urls = partial(with_urls, view_url=self.view_url, machine=run.record.machine)

    def remove(self, run: Run) -> None:
        """Remove a run, and do not pass its events on any more."""
        self._take_off(run)
        self._runs.pop(run.prompt_id, None)
        self._by_comfyui_id.pop(run.comfyui_id, None)

    def get(self, prompt_id: str) -> Run | None:
        """Return a run by its id, or None."""
        return self._runs.get(prompt_id)

    def by_comfyui_id(self, comfyui_id: str) -> Run | None:
        """Return a run by the id of its prompt in ComfyUI, or None."""
        return self._by_comfyui_id.get(comfyui_id)

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

    def of_pool(self, pool_id: str) -> list[Run]:
        """Return the unfinished runs of a pool, those that wait included."""
        return [run for run in self._runs.values() if run.record.pool == pool_id]

    def count_on(self, machine_id: str) -> int:
        """Return how many unfinished runs a machine has."""
        return sum(run.record.status != "uploading" for run in self.on(machine_id))

    def position(self, prompt_id: str) -> int | None:
        """Return the place of a run among the waiting runs of its machine, from 1, or None."""
        run = self._runs.get(prompt_id)
        if run is None or not _waits(run):
            return None
        machine, order = run.record.machine, _order(run)
        others = self._runs.values()
        return 1 + sum(
            other.record.machine == machine and _waits(other) and _order(other) < order
            for other in others
        )

    def counts(self, machine_ids: Iterable[str] | None = None) -> dict[str, int]:
        """Return how many runs are executing and how many wait, on all machines or on some.

        The runs that wait for a pool are on the machine with the id of the pool.
        """
        runs = self if machine_ids is None else chain.from_iterable(map(self.on, machine_ids))
        statuses = [run.record.status for run in runs]
        return {
            "running": statuses.count("running"),
            "pending": statuses.count("queued") + statuses.count("not-started"),
        }

    def by_status(self) -> Counter[tuple[str, str]]:
        """Return the number of runs for each pair of machine and status."""
        return Counter((run.record.machine, run.record.status) for run in self._runs.values())

    def of_client(self, client_id: str) -> int:
        """Return the number of runs of a client."""
        return sum(run.record.client_id == client_id for run in self._runs.values())

    def follow(self, follower: Callable[[Run, RunEvent], None]) -> Callable[[], None]:
        """Call ``follower(run, event)`` for each event of each run; return a function to stop."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    def _take_off(self, run: Run) -> None:
        machine_id = self._machine_of.pop(run.prompt_id, None)
        if machine_id is not None:
            self._by_machine[machine_id].pop(run.prompt_id, None)

    def _pass_on(self, run: Run, event: RunEvent) -> None:
        for follower in list(self._followers):
            follower(run, event)


def _waits(run: Run) -> bool:
    return run.record.status in ("not-started", "queued")


def _order(run: Run) -> tuple[float, str]:
    """Return what ComfyUI orders its queue by; runs that it does not have yet are the last."""
    number = run.record.number
    return (float("inf") if number is None else number), run.record.created_at
