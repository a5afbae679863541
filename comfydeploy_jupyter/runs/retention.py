"""Runs that have ended, whose events stay in memory for later readers."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run

KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024  # size of their events


class EndedRuns:
    """The last runs that ended: at most `KEPT_RUNS` and `KEPT_BYTES`, but at least one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._bytes = 0

    def add(self, run: Run) -> None:
        """Add a run whose last event is in its log; remove the oldest runs beyond the limits."""
        replaced = self._runs.pop(run.prompt_id, None)
        self._bytes += run.log.size - (replaced.log.size if replaced is not None else 0)
        self._runs[run.prompt_id] = run
        while len(self._runs) > KEPT_RUNS or (self._bytes > KEPT_BYTES and len(self._runs) > 1):
            self._bytes -= self._runs.popitem(last=False)[1].log.size

    def remove(self, prompt_id: str) -> None:
        """Remove a run that is deleted."""
        removed = self._runs.pop(prompt_id, None)
        if removed is not None:
            self._bytes -= removed.log.size

    def get(self, prompt_id: str) -> Run | None:
        """Return a run by its id, or None."""
        return self._runs.get(prompt_id)
