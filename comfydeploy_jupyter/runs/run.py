"""One run while it is followed: what ComfyUI's events mean for it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..timestamps import parse_timestamp
from .facts import UPLOADING
from .lifecycle import Cause, Lifecycle, State
from .live import LiveStatus, NodeName
from .log import SHORT
from .story import not_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.events import Event, Preview
    from ..store.runs import RunRecord
    from .saving import StateSaver

logger = logging.getLogger(__name__)

LIVE_EVERY = 0.5  # seconds between two looks at a run whose nodes tell nothing


def is_release(event: Event) -> bool:
    """Return whether ComfyUI says that it is done with a prompt, however that ended."""
    return event.type == "executing" and event.data.get("node") is None


class Run(Lifecycle):
    """A run that somebody may be waiting for.

    Parameters
    ----------
    record : RunRecord
        Its record.
    nodes : dict of str to NodeName
        The nodes of its graph.
    steps : mapping of str to int, optional
        The nodes that will be executed, and how many steps each of them probably takes; by default
        all nodes, of which nothing is known.
    state, saver, events_complete
        As `Lifecycle` has them.
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
        self._started: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def handle_event(self, event: Event) -> None:
        """Take in one of ComfyUI's events and pass it on."""
        data, live = event.data, self.live_status
        node = data.get("node")
        output = data.get("output") if event.type == "executed" else None
        if event.type == "execution_start":
            self.begin(Cause.EXECUTION_STARTED)
        elif event.type == "execution_cached":
            told = data.get("nodes")
            nodes = [str(node) for node in told] if isinstance(told, list) else []
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
        elif event.type == "executed":
            # ComfyUI also sends it, without output, for nodes it took from its cache.
            live.finish(str(node))
        self.emit(event.type, data, size=event.size)
        if isinstance(output, dict):
            linked = self.with_urls(output) if self.with_urls is not None else output
            self.emit("output_ready", {**data, "output": linked}, size=event.size)
        if event.type != "executed":
            self._emit_live(force=event.type == "executing" and node is not None)

    def handle_preview(self, preview: Preview) -> None:
        """Pass a preview on."""
        self.emit("preview", {"prompt_id": self.prompt_id, "node": preview.node}, preview)

    def begin(self, cause: Cause) -> bool:
        """Note that ComfyUI executes the prompt now; return whether that is news."""
        if not self.transition(cause):
            return False
        self._started = time.monotonic()
        self._look_again()
        waited = time.time() - parse_timestamp(self.record.created_at).timestamp()
        metrics.run_began(self.record.machine, max(waited, 0.0))
        logger.debug("Run %s is executed now", self.prompt_id, extra=self.record.log_fields)
        return True

    def stop_clock(self) -> None:
        """Note when the run ended and how long it took, the first time."""
        if self.record.finished_at is not None:
            return
        self.record.finished_at = not_before(self.record.created_at, self.record.started_at)
        if self._started is not None and self.record.execution_time is None:
            self.record.execution_time = round(time.monotonic() - self._started, 4)
        self.live_status.stop()

    def restart(self) -> None:
        """Forget the progress of an attempt that ComfyUI did not live to finish."""
        self._started = None
        self.live_status.restart()

    def live(self) -> dict[str, Any]:
        """Return how far it is, as `LiveStatus.read` does."""
        return UPLOADING if self.record.status == "uploading" else self.live_status.read()

    def stop_timer(self) -> None:
        """Look no more at how far it is."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        """Look again in a moment how far it is: where the past is known, time alone tells."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LIVE_EVERY, self._emit_in_between)

    def _emit_in_between(self) -> None:
        if self.state is State.RUNNING:
            self._emit_live(force=self.live_status.has_drifted())
            self._look_again()

    def _emit_live(self, *, force: bool) -> None:
        if self.record.status != "running" or not self.nodes:
            return
        live = self.live_status.news(force=force)
        if live is not None:
            self.emit("live_status", {"prompt_id": self.prompt_id, **live}, size=SHORT)
