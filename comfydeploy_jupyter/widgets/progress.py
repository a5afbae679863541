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
    from ..client import Comfy, Event, Run, RunProgress
    from .base import Panel
    from .preview import Preview

ASK_EVERY = 2.0
"""Seconds between two requests for the place in the queue."""


class ProgressView(View):
    """Shows one run after another: a `comfydeploy_jupyter.display.View` for `Live`.

    Parameters
    ----------
    panel : Panel
        The panel that contains it.
    preview : Preview
        Shows the previews of the run.
    """

    _esm = script("progress")

    state: t.Dict[str, Any] = t.Dict({"phase": ""}).tag(sync=True)
    # the node that runs now; code in the kernel observes it
    node_id = t.Unicode(None, allow_none=True)

    def __init__(self, panel: Panel, preview: Preview) -> None:
        self._preview = preview
        self._clock: Clock | None = None
        self._waiting = 0
        self._ahead: int | None = None
        self._asked = 0.0
        super().__init__(panel)

    def begin(self, clock: Clock) -> None:
        """Begin to show another run."""
        self._clock, self._ahead, self._asked = clock, None, 0.0
        self._preview.begin()

    def wait_behind(self, waiting: int) -> None:
        """Set how many runs of this panel wait for the one that is shown."""
        self._waiting = waiting

    def show(self, progress: RunProgress) -> None:
        """Show the progress of the run."""
        clock = self._clock
        if clock is None:
            return
        left = progress.time_left
        text = node = activity(progress)
        if progress.status == "queued":
            text = node = self._place(clock)
        if self._waiting:
            text += f" — {self._waiting} more waiting"
        self.state = {
            "phase": progress.status,
            "text": text,
            "node": node.rpartition(" ")[0] if progress.steps > 1 else node,
            "fraction": progress.fraction,
            "step": progress.step,
            "steps": progress.steps,
            "elapsed": round(clock.elapsed(), 1),
            "left": None if left is None else round(left, 1),
        }
        self.node_id = None if progress.node is None else progress.node.id
        self._preview.show(progress.preview, progress.preview_format)

    def end(self, progress: RunProgress) -> None:
        """Hide the view until the next run begins."""
        self._clock = None
        self._preview.end()
        self.node_id = None
        self.state = {"phase": ""}

    def _place(self, clock: Clock) -> str:
        now = time.monotonic()
        if now - self._asked >= ASK_EVERY:
            self._asked = now
            try:
                self._ahead = clock.ahead(self._panel.comfy)
            except ComfyDeployError:
                self._ahead = None
        if self._ahead is None:
            return "Waiting in the queue"
        if not self._ahead:
            return "Next in the queue"
        return f"Waiting: {counted(self._ahead, 'run')} before this one"


class Clock:
    """The time for which a run has been executed, or has waited.

    Parameters
    ----------
    run : Run
        The run; its record is requested once.
    """

    def __init__(self, run: Run) -> None:
        record = run.record
        self._record = record
        self._joined = time.monotonic()
        self._base = max(0.0, _since(record.get("started_at")))
        self._started: float | None = self._joined if record.get("started_at") else None

    def feed(self, event: Event) -> None:
        """Process an event of the run."""
        if event.event == "execution_start" and self._started is None:
            self._started = time.monotonic()

    def elapsed(self) -> float:
        """Return for how long the run has been executed, s; before that, how long it has waited."""
        if self._started is None:
            return max(0.0, _since(self._record.get("created_at")))
        return self._base + time.monotonic() - self._started

    def ahead(self, comfy: Comfy) -> int | None:
        """Return how many runs of its machine are before this one; None if it has no number yet."""
        number, machine = self._record.get("number"), self._record.get("machine")
        if number is None:
            return None
        others = [
            run
            for status in ("running", "queued")
            for run in comfy.server.get("runs", status=status, limit=1000)
            if run.get("machine") == machine and run["prompt_id"] != self._record["prompt_id"]
        ]
        numbers = [run["number"] for run in others if run.get("number") is not None]
        return sum(1 for other in numbers if other < number)


def _since(timestamp: Any) -> float:
    """Return the seconds since a timestamp in ISO 8601 (UTC); 0 if there is none."""
    if not timestamp:
        return 0.0
    return time.time() - parse_timestamp(str(timestamp)).timestamp()
