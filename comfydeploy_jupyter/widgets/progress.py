"""The runs that a panel follows, one after another, with their progress and previews."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets as t

from ..client import Result, RunProgress
from ..client.text import counted
from ..display import Live, activity
from ..display.page import View, script
from ..errors import ComfyDeployError
from ..util.times import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import EventStream, Run
    from .base import Panel


class Preview(View):
    """Shows the previews of a run in place of the last result.

    Previews are sent as messages and are not part of the state, so that the notebook does not grow.
    """

    _esm = script("preview")

    shown = t.Bool(False).tag(sync=True)

    def __init__(self, panel: Panel) -> None:
        self._content = b""
        self._format = ""
        super().__init__(panel)

    def begin(self) -> None:
        """Show nothing until the next preview, which may be of another run."""
        self._content = b""
        self.shown = False

    def show(self, content: bytes | None, form: str) -> None:
        """Show a picture, unless it is the one that is shown; None changes nothing."""
        if content and content is not self._content:
            self._content, self._format = content, form
            self.shown = True
            self._send_picture()

    def _send_picture(self) -> None:
        self.send({"kind": "preview", "mime": f"image/{self._format}"}, [self._content])

    def _on_hello(self, _: object, __: object) -> None:
        if self._content:
            self._send_picture()


ASK_INTERVAL = 2.0
"""Seconds between two requests for the place in the queue."""


class ProgressView(View):
    """Shows one run after another: a `comfydeploy_jupyter.display.View` for `Live`."""

    _esm = script("progress")

    state: t.Dict[str, Any] = t.Dict({"phase": ""}).tag(sync=True)
    # the node that runs now; code in the kernel observes it
    node_id = t.Unicode(None, allow_none=True)

    def __init__(self, panel: Panel, preview: Preview) -> None:
        self._preview = preview
        self._run: Run | None = None
        self._known: dict[str, Any] = {}  # its last record; empty if the server did not answer
        self._waiting = 0
        self._started: float | None = None
        self._asked = 0.0
        super().__init__(panel)

    def begin(self, run: Run) -> None:
        """Begin to show another run."""
        record = run.record
        self._asked = time.monotonic()
        self._started = None
        if record.get("started_at"):
            self._started = self._asked - max(0.0, _since(record["started_at"]))
        self._run, self._known = run, record
        self._preview.begin()

    def wait_behind(self, waiting: int) -> None:
        """Set how many runs of this panel wait for the one that is shown."""
        self._waiting = waiting

    def show(self, progress: RunProgress) -> None:
        """Show the progress of the run."""
        run = self._run
        if run is None:
            return
        left = progress.time_left
        text = node = activity(progress)
        if progress.status == "queued":
            text = node = self._place(run)
        elif self._started is None:
            self._started = time.monotonic()
        if self._started is None:
            elapsed = max(0.0, _since(run.known.get("created_at")))
        else:
            elapsed = time.monotonic() - self._started
        if self._waiting:
            text += f" — {self._waiting} more waiting"
        self.state = {
            "phase": progress.status,
            "text": text,
            "node": node.rpartition(" ")[0] if progress.steps > 1 else node,
            "fraction": progress.fraction,
            "step": progress.step,
            "steps": progress.steps,
            "elapsed": round(elapsed, 1),
            "left": None if left is None else round(left, 1),
        }
        self.node_id = None if progress.node is None else progress.node.id
        self._preview.show(progress.preview, progress.preview_format)

    def end(self, progress: RunProgress) -> None:
        """Hide the view until the next run begins."""
        self._run = None
        self._preview.begin()
        self.node_id = None
        self.state = {"phase": ""}

    def _place(self, run: Run) -> str:
        """Return the place of a run in the queue, or why it waits if no machine can execute it."""
        if time.monotonic() - self._asked >= ASK_INTERVAL:
            self._asked = time.monotonic()
            try:
                self._known = run.record
            except ComfyDeployError:
                self._known = {}  # its place may have changed since
        place = self._known.get("queue_position")
        if self._known.get("live_status"):
            return str(self._known["live_status"])
        if place is None:
            return "Waiting in the queue"
        if place <= 1:
            return "Next in the queue"
        return f"Waiting: {counted(place - 1, 'run')} before this one"


def _since(timestamp: Any) -> float:
    """Return the seconds since a timestamp in ISO 8601 (UTC); 0 if there is none."""
    if not timestamp:
        return 0.0
    return time.time() - parse_timestamp(str(timestamp)).timestamp()


KEPT_STREAMS = 10
"""How many of the waiting runs keep the stream that started them; for others a new stream is
opened later. Each stream is an open connection."""


class _Followed(NamedTuple):
    run: Run
    stream: EventStream | None


class Follower:
    """Follows runs in a thread, which ends when none is left."""

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
        """Follow another run; do nothing if it is followed already."""
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
