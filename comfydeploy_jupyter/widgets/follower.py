"""The runs that a panel follows, one after another."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ..client import Result, RunProgress
from ..display import Live

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import EventStream, Run
    from .base import Panel
    from .progress import ProgressView

KEPT_STREAMS = 10
"""How many of the waiting runs keep the stream that started them; for others a new stream is
opened later. Each stream is an open connection."""


class _Followed(NamedTuple):
    run: Run
    stream: EventStream | None


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
        self._waiting: deque[_Followed] = deque()
        self._current: _Followed | None = None
        self._working = False

    @property
    def runs(self) -> list[Run]:
        """The run that is followed now, and those that wait for it."""
        with self._lock:
            return [followed.run for followed in self._all()]

    def _all(self) -> list[_Followed]:
        current = [] if self._current is None else [self._current]
        return [*current, *self._waiting]

    def add(self, run: Run, stream: EventStream | None = None) -> None:
        """Follow another run; do nothing if it is followed already.

        Parameters
        ----------
        run : Run
            The run.
        stream : EventStream, optional
            The stream that started it, which is closed at the end; without it, a new one is opened.
        """
        with self._lock:
            is_known = any(other.run.prompt_id == run.prompt_id for other in self._all())
            kept = stream
            if is_known or self._panel.closing or len(self._waiting) >= KEPT_STREAMS:
                kept = None
            if not is_known:
                self._waiting.append(_Followed(run, kept))
            start = not is_known and not self._working
            self._working = self._working or start
            if not is_known:
                # The thread that is started below takes one of them.
                self._view.wait_behind(len(self._waiting) - start)
        if stream is not None and kept is None:
            stream.close()
        if start:
            self._panel.start(self._work)

    def stop(self) -> None:
        """Close all streams; the runs continue."""
        with self._lock:
            streams = [followed.stream for followed in self._all()]
        for stream in streams:
            if stream is not None:
                stream.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._current = None
                if self._panel.closing or not self._waiting:
                    self._working = False
                    break
                followed = self._current = self._waiting.popleft()
                self._view.wait_behind(len(self._waiting))
            self._on_change()
            self._panel.attempt(self._follow, followed)
        if not self._panel.closing:
            self._on_change()

    def _follow(self, followed: _Followed) -> None:
        run = followed.run
        with followed.stream or run.events(previews=True) as stream:
            with self._lock:
                self._current = _Followed(run, stream)  # for `stop`
            if self._panel.closing:
                return
            progress = RunProgress(run.workflow)
            result = None
            self._view.begin(run)
            with Live(progress, self._view, on_error=self._panel.show_error):
                for event in stream:
                    progress.feed(event)
                    if event.event == "result":
                        result = Result(self._panel.comfy.server, event.data, run.workflow)
        if not self._panel.closing:
            result = result or run.result
            if result is not None:
                self._on_end(result)
