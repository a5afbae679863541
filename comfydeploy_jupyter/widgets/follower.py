"""The runs that a panel follows, one after another."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from ..client import Result, RunProgress
from ..display import Live
from .progress import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import EventStream, Run
    from .base import Panel
    from .progress import ProgressView


class Follower:
    """Follows runs in a thread, which ends when none is left.

    Parameters
    ----------
    panel : Panel
        Runs the thread and shows its errors.
    view : ProgressView
        Shows the run that is followed.
    on_change : callable
        Called when there is another run to follow, or none.
    on_end : callable
        Called with the `Result` of each run that ended.
    """

    def __init__(
        self,
        panel: Panel,
        view: ProgressView,
        on_change: Callable[[], object],
        on_end: Callable[[Result], object],
    ) -> None:
        self._panel = panel
        self._view = view
        self._on_change = on_change
        self._on_end = on_end
        self._lock = threading.Lock()
        self._waiting: deque[Run] = deque()
        self._current: Run | None = None
        self._stream: EventStream | None = None
        self._working = False

    @property
    def runs(self) -> list[Run]:
        """The run that is followed now, and those that wait for it."""
        with self._lock:
            return self._all()

    def _all(self) -> list[Run]:
        current = [] if self._current is None else [self._current]
        return [*current, *self._waiting]

    def add(self, run: Run) -> None:
        """Follow another run; one that is followed already stays so."""
        with self._lock:
            if any(other.prompt_id == run.prompt_id for other in self._all()):
                return
            self._waiting.append(run)
            start = not self._working
            self._working = True
        if start:
            self._panel.start(self._work)
        self._view.wait_behind(len(self._waiting))

    def stop(self) -> None:
        """Stop listening; the runs go on."""
        stream = self._stream
        if stream is not None:
            stream.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._current = None
                if self._panel.closing or not self._waiting:
                    self._working = False
                    break
                run = self._current = self._waiting.popleft()
            self._view.wait_behind(len(self._waiting))
            self._on_change()
            self._panel.attempt(self._follow, run)
        if not self._panel.closing:
            self._on_change()

    def _follow(self, run: Run) -> None:
        clock = Clock(run)
        progress = RunProgress(run.workflow)
        self._view.begin(clock)
        with run.events(previews=True) as stream:
            self._stream = stream
            if self._panel.closing:
                return
            with Live(progress, self._view, on_error=self._panel.show_error):
                for event in stream:
                    clock.feed(event)
                    progress.feed(event)
        self._stream = None
        if not self._panel.closing:
            result = run.result
            if result is not None:
                self._on_end(result)
