"""The progress of a sweep."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from ..events import FINAL, RunProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .points import Job, Point
    from .sweep import Sweep

SHORTEST = 0.001
"""The shortest duration of a run that estimates assume, s."""


class Changes:
    """Calls functions after changes."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[], object]] = []

    def watch(self, changed: Callable[[], object]) -> None:
        """Have a function called after each change."""
        self._watchers.append(changed)

    def leave(self, changed: Callable[[], object]) -> None:
        """Do not call a function any more."""
        self._watchers.remove(changed)

    def notify(self) -> None:
        """Call the functions."""
        for changed in list(self._watchers):
            changed()


class SweepProgress:
    """The progress of a sweep.

    Attributes
    ----------
    sweep : Sweep
        The sweep.
    started : float
        When it was started, s of `time.monotonic`.
    ended : float or None
        When it ended, s of `time.monotonic`; None while it runs.
    blocking : bool
        Whether the kernel waits for it; then the kernel cannot react to buttons.
    """

    def __init__(self, sweep: Sweep, *, blocking: bool = False) -> None:
        self.sweep = sweep
        self.blocking = blocking
        self.started = time.monotonic()
        self.ended: float | None = None
        self._changes = 0

    @property
    def status(self) -> str:
        """The status of the sweep."""
        return self.sweep.status

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        return self._changes + sum(p.version for p in self._running())

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        return self.sweep.counts

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1."""
        ended = sum(point.status in FINAL for point in self.sweep)
        running = sum(progress.fraction for progress in self._running())
        return min(1.0, (ended + running) / len(self.sweep))

    @property
    def elapsed(self) -> float:
        """Time since the start, or from the start to the end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    @property
    def time_left(self) -> float | None:
        """How long it will probably take from now on, s; None if that is not known.

        It is known once a point has ended.
        """
        return None if self.ended is not None else self.sweep._time_left()

    @property
    def summary(self) -> str:
        """The counts as text, e.g. ``"5 of 16 points, 1 failed"``."""
        counts = self.counts
        words = [f"{counts.get('success', 0)} of {counts['total']} points"]
        words += [f"{counts[name]} {name}" for name in ("failed", "cancelled") if name in counts]
        return ", ".join(words)

    @property
    def current(self) -> tuple[Point, RunProgress | None] | None:
        """The point that runs now, else one that is queued, with its progress; else None."""
        found = None
        for point in self.sweep:
            if point.status == "running":
                return point, point.progress
            if point.status == "queued" and found is None:
                found = point, point.progress
        return found

    def changed(self) -> None:
        """Record that something has changed."""
        self._changes += 1

    def finish(self, status: str) -> None:
        """Record the end; ``status`` is ignored, because the sweep has its own status."""
        self.ended = time.monotonic()
        self._changes += 1
        self.sweep.changes.notify()

    def _running(self) -> list[RunProgress]:
        return [job.progress for job in self.sweep._active_jobs() if job.progress is not None]


def time_left(jobs: Iterable[Job], machines: int) -> float | None:
    """Return how long the jobs that have not ended will take, s.

    It is estimated from the durations of those that have ended, on each machine by itself. A
    machine that has not executed any is taken to be as fast as the others.

    Parameters
    ----------
    jobs : iterable of Job
        All jobs of the sweep.
    machines : int
        How many machines execute them.

    Returns
    -------
    float or None
        None if no job has ended with success.
    """
    durations: dict[object, list[float]] = defaultdict(list)
    left, unfinished = 0.0, 0
    for job in jobs:
        if job.status not in FINAL:
            unfinished += 1
            left += 1 - (job.progress.fraction if job.progress is not None else 0)
        seconds = job.record.get("execution_time")
        if job.status == "success" and isinstance(seconds, (int, float)):
            durations[job.record.get("machine")].append(seconds)
    if not durations:
        return None
    speed = fmean(1 / max(SHORTEST, fmean(times)) for times in durations.values())
    return left / min(machines, max(1, unfinished)) / speed
