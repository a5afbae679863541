"""The runs that have not ended, and the functions that follow the events of all runs."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from .outputs import with_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        self._followers: set[Callable[[Run, RunEvent], None]] = set()
        self._on_their_way: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Add a run, and pass its events on to the followers."""
        run.listener = self._pass_on
        # Without a reference to the run: a reference cycle would delay its deletion.
        run.with_urls = partial(with_urls, view_url=self.view_url, machine=run.record.machine)
        self._runs[run.prompt_id] = run
        self._by_comfyui_id[run.comfyui_id] = run

    def remove(self, run: Run) -> None:
        """Remove a run, and do not pass its events on any more."""
        self._runs.pop(run.prompt_id, None)
        self._by_comfyui_id.pop(run.comfyui_id, None)

    def get(self, prompt_id: str) -> Run | None:
        """Return a run by its id, or None."""
        return self._runs.get(prompt_id)

    def by_comfyui_id(self, comfyui_id: str) -> Run | None:
        """Return a run by the id of its prompt in ComfyUI, or None."""
        return self._by_comfyui_id.get(comfyui_id)

    def of(self, machine: Machine) -> list[Run]:
        """Return the runs of a machine whose execution in ComfyUI has not ended yet."""
        return [
            run
            for run in self._runs.values()
            if run.record.machine == machine.id and run.record.status != "uploading"
        ]

    def running(self, machine_id: str) -> Run | None:
        """Return the run of this server that a machine is executing now, or None."""
        for run in self._runs.values():
            over = run.ending and run.released.is_set()
            if run.record.machine == machine_id and run.record.status == "running" and not over:
                return run
        return None

    def on_its_way(self, machine_id: str, change: int) -> None:
        """Count a run that is being prepared for a machine; a ``change`` of -1 reverts that."""
        self._on_their_way[machine_id] += change

    def count_on(self, machine_id: str) -> int:
        """Return how many unfinished runs a machine has, including those being prepared."""
        there = sum(
            run.record.machine == machine_id and run.record.status != "uploading"
            for run in self._runs.values()
        )
        return there + self._on_their_way[machine_id]

    def counts(self, machine_id: str | None = None) -> dict[str, int]:
        """Return how many runs are executing and how many wait, on all machines or on one."""
        statuses = [
            run.record.status
            for run in self._runs.values()
            if machine_id is None or run.record.machine == machine_id
        ]
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

    def _pass_on(self, run: Run, event: RunEvent) -> None:
        for follower in list(self._followers):
            follower(run, event)
