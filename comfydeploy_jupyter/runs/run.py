"""One run while it is followed: how it handles ComfyUI's events."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..util.times import parse_timestamp
from .facts import UPLOADING
from .lifecycle import Cause, Lifecycle, State
from .live import LiveStatus, NodeName
from .log import SHORT
from .story import not_before
from .waiting import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.socket import Event, Preview
    from .records import RunRecord
    from .saving import StateSaver

logger = logging.getLogger(__name__)

LIVE_EVERY = 0.5  # seconds between two updates of the progress without events


def is_release(event: Event) -> bool:
    """Return whether an event is ComfyUI's last one for a prompt, for any outcome."""
    return event.type == "executing" and event.data.get("node") is None


class Run(Lifecycle):
    """A run that is followed, and for which clients may wait.

    Parameters
    ----------
    record : RunRecord
        The record of the run.
    nodes : dict of str to NodeName
        The nodes of the run's graph.
    steps : mapping of str to int, optional
        The nodes that will be executed, with the expected number of steps of each; by default all
        nodes, without expected steps.
    state, saver, events_complete
        As in `Lifecycle`.
    """

    def __init__(
        self,
        record: RunRecord,
        nodes: dict[str, NodeName],
        *,
        steps: Mapping[str, int] | None = None,
        state: State = State.RECEIVED,
        saver: StateSaver | None = None,
        events_complete: bool = True,
    ) -> None:
        super().__init__(record, nodes, state=state, saver=saver, events_complete=events_complete)
        self.nodes = nodes
        self.live_status = LiveStatus(
            record, nodes, dict.fromkeys(nodes, 0) if steps is None else steps
        )
        self.with_urls: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.error_told = False  # whether followers know that its execution has failed
        self._started: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def handle_event(self, event: Event) -> None:
        """Handle one of ComfyUI's events and emit it."""
        data, live = event.data, self.live_status
        node = data.get("node")
        output = data.get("output") if event.type == "executed" else None
        if event.type == "execution_start":
            self.begin(Cause.EXECUTION_STARTED)
        elif event.type == "execution_cached":
            listed = data.get("nodes")
            nodes = [str(node) for node in listed] if isinstance(listed, list) else []
            self.record.cached_nodes = nodes
            live.skip(nodes)
        elif event.type == "executing" and node is not None:
            live.start(str(node))
        elif event.type == "progress" and node is not None:
            live.step(str(node), data)
        elif event.type == "progress_state":
            live.note_states(data.get("nodes"))
        elif isinstance(output, dict):
            self.record.outputs[str(node)] = output
            self.outputs_size += event.size
        elif event.type == "execution_success":
            self.transition(Cause.EXECUTION_SUCCEEDED)
        elif event.type == "execution_error":
            self.error_told = True
        elif event.type == "executed":
            # ComfyUI also sends it, without output, for nodes whose outputs are cached.
            live.finish(str(node))
        self.emit(event.type, data, size=event.size)
        if isinstance(output, dict):
            linked = self.with_urls(output) if self.with_urls is not None else output
            self.emit("output_ready", {**data, "output": linked}, size=event.size)
        if event.type != "executed":
            self._emit_live(force=event.type == "executing" and node is not None)

    def handle_preview(self, preview: Preview) -> None:
        """Emit a preview."""
        self.emit("preview", {"prompt_id": self.prompt_id, "node": preview.node}, preview)

    def begin(self, cause: Cause) -> bool:
        """Record that ComfyUI has started the prompt; return False if that was known already."""
        if not self.transition(cause):
            return False
        self._started = now()
        self._look_again()
        waited = time.time() - parse_timestamp(self.record.created_at).timestamp()
        metrics.run_began(self.record.machine, self.record.pool, max(waited, 0.0))
        logger.debug("Run %s is executing", self.prompt_id, extra=self.record.log_fields)
        return True

    def stop_clock(self) -> None:
        """Set the time at which the run ended and its duration, on the first call only."""
        if self.record.finished_at is not None:
            return
        self.record.finished_at = not_before(self.record.created_at, self.record.started_at)
        if self._started is not None and self.record.execution_time is None:
            self.record.execution_time = round(now() - self._started, 4)
        self.live_status.stop()

    def restart(self) -> None:
        """Reset the progress after an attempt during which ComfyUI exited."""
        self._started, self.error_told = None, False
        self.live_status.restart()

    def live(self) -> dict[str, Any]:
        """Return the progress of the run; see `LiveStatus.read`."""
        return UPLOADING if self.record.status == "uploading" else self.live_status.read()

    def stop_timer(self) -> None:
        """Stop the periodic updates of the progress.

        The timer refers to the run and the run to the timer: without this, an ended run stays in
        memory, with its outputs, until Python looks for such cycles.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        """Schedule the next update of the progress: with known durations, time alone changes it."""
        self.stop_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LIVE_EVERY, self._emit_in_between)

    def _emit_in_between(self) -> None:
        if self.state is State.RUNNING:
            self._emit_live(force=self.live_status.is_outdated())
            self._look_again()

    def _emit_live(self, *, force: bool) -> None:
        if self.record.status != "running" or not self.nodes:
            return
        live = self.live_status.news(force=force)
        if live is not None:
            self.emit("live_status", {"prompt_id": self.prompt_id, **live}, size=SHORT)
