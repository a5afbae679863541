"""The progress of a run in a panel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client.text import counted
from ..display import activity
from ..display.page import View, script
from ..errors import ComfyDeployError
from ..util.timestamps import parse_timestamp

if TYPE_CHECKING:
    from ..client import Run, RunProgress
    from .base import Panel
    from .preview import Preview

ASK_EVERY = 2.0
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
        self._run = run
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
        self._preview.end()
        self.node_id = None
        self.state = {"phase": ""}

    def _place(self, run: Run) -> str:
        """Return the place of a run in the queue, or why it waits if no machine can execute it."""
        record = run.known
        if time.monotonic() - self._asked >= ASK_EVERY:
            self._asked = time.monotonic()
            try:
                record = run.record
            except ComfyDeployError:
                return "Waiting in the queue"
        place = record.get("queue_position")
        if record.get("live_status"):
            return str(record["live_status"])
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
