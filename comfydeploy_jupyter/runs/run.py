"""One run while it is followed: its state, its events for readers, and who waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..util.times import parse_timestamp
from .feed import SHORT, EventLog
from .loops import NodeEvents, add_output
from .progress import LiveStatus, NodeName
from .state import OVER, Effect, Event, Notification, RunState, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.socket import Event as ComfyUIEvent
    from ..comfyui.socket import Preview
    from .feed import RunEvent
    from .records import RunRecord

LIVE_INTERVAL = 0.5  # seconds between two updates of the progress without events
UPLOADING: dict[str, Any] = {
    "live_status": "Uploading outputs",
    "progress": 1.0,
    "current_node": None,
    "current_class": None,
    "iterations": [],
    "time_left": None,
}


class Run(RunState):
    """A run that is followed, and for which clients may wait.

    ``steps`` are the nodes that will be executed, with the expected number of steps of each; by
    default all ``nodes`` of the graph, without expected steps. ``looped``: see `Progress`.
    """

    def __init__(
        self,
        record: RunRecord,
        nodes: dict[str, NodeName],
        *,
        steps: Mapping[str, int] | None = None,
        looped: Mapping[str, str] | None = None,
        state: State = State.RECEIVED,
        events_complete: bool = True,
    ) -> None:
        if steps is None:
            steps = dict.fromkeys(nodes, 0)
        live = LiveStatus(record, nodes, steps, looped)
        super().__init__(record, live, state=state, events_complete=events_complete)
        self.nodes = nodes
        self.outputs_size = 0  # characters of its outputs, as ComfyUI sent them
        self.problem = ""  # why the outputs of others that it needs are not there yet
        self.models: frozenset[str] = frozenset()  # the model files that its graph names
        self.fingerprint = b""  # the hashes of its nodes
        self.order: int | None = None  # its place in the queue of its pool
        # The ComfyUI and the graph that it is about to be sent to and with.
        self.outgoing: tuple[ComfyUIClient, bytes, bytes | None] | None = None
        self.answered = asyncio.Event()  # set unless ComfyUI is being asked to queue it
        self.released = asyncio.Event()  # ComfyUI has finished all work on it
        self.settled = asyncio.Event()  # it has ended, or only its uploads remain
        self.ended = asyncio.Event()
        self.unstored = ""  # why its end is not stored yet
        self.log = EventLog(record.first_id)
        self.first_sent = False  # whether the first message is in the log
        self.listener: Callable[[Run, RunEvent], None] | None = None
        self.on_change: Callable[[Run], None] | None = None  # called after each change of its state
        self.with_urls: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._loops = NodeEvents(nodes)
        self._early: list[tuple[str, dict[str, Any], Preview | None, int | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._wake()

    def restart(self) -> None:
        """Forget the progress of an attempt that ended: the run is executed again."""
        self.live_status.restart()
        self._loops = NodeEvents(self.nodes)

    def handle(self, event: Event) -> list[Effect]:
        """Let an event change the state, wake those who wait for that, and return the effects."""
        effects = super().handle(event)
        self._wake()
        if self.on_change is not None:
            self.on_change(self)
        return effects

    def _wake(self) -> None:
        for known, awaited in (
            (self.is_answered, self.answered),
            (self.is_released, self.released),
        ):
            if known is not awaited.is_set():
                awaited.set() if known else awaited.clear()
        if self.state is State.UPLOADING or self.state in OVER:
            self.settled.set()

    # -- ComfyUI's events --------------------------------------------------------------------

    def show(self, event: ComfyUIEvent) -> None:
        """Follow the progress in one of ComfyUI's events, keep its output, and emit it."""
        data, live = self._loops.read(event.type, event.data), self.live_status
        if data is None:
            return
        if event.type in ("execution_error", "execution_interrupted"):
            data = live.with_culprit(data)
        node = data.get("node")
        output = data.get("output") if event.type == "executed" else None
        moves = event.type != "executed"  # whether it changes the progress
        if event.type == "execution_cached":
            listed = data.get("nodes")
            nodes = [str(node) for node in listed] if isinstance(listed, list) else []
            self.record.cached_nodes = nodes
            live.skip(nodes)
        elif event.type == "executing" and node is not None:
            live.start(str(node), self._loops.present)
        elif event.type == "progress" and node is not None:
            live.step(str(node), data)
        elif event.type == "progress_state":
            moves = live.note_states(data.get("nodes"))
        elif event.type == "progress_text":
            live.iterate(self._loops.iterations, self._loops.present)
        elif isinstance(output, dict):
            again = event.data.get("node") != node  # an iteration: its outputs are added
            merged: dict[str, Any] = {}
            if again:
                add_output(merged, self.record.outputs.get(str(node), {}))
            add_output(merged, output)
            self.record.outputs[str(node)] = merged
            self.outputs_size += event.size
        elif event.type == "executed":
            # ComfyUI also sends it, without output, for nodes whose outputs are cached.
            live.finish(str(node))
        # of the states of nodes, often a few are new
        is_whole = data is event.data or event.type != "progress_state"
        size = event.size if is_whole else None
        self.emit(event.type, data, size=size)
        if isinstance(output, dict):
            linked = self.with_urls(output) if self.with_urls is not None else output
            self.emit("output_ready", {**data, "output": linked}, size=size)
        if moves:
            self._emit_live(force=event.type == "executing" and node is not None)

    def show_preview(self, preview: Preview) -> None:
        self.emit("preview", {"prompt_id": self.prompt_id, "node": preview.node}, preview)

    def emit(
        self,
        event: str,
        data: dict[str, Any],
        preview: Preview | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Add an event for all readers; before the first message it is held back."""
        if not self.first_sent:
            self._early.append((event, data, preview, size))
            return
        entry = self.log.append(event, data, preview, size=size)
        if self.listener is not None:
            self.listener(self, entry)

    def send(self, sends: Notification, reply: dict[str, Any] | None = None) -> None:
        """Send the readers the message of a transition; ``reply`` is that to ``POST run``.

        The first message of a run, that ComfyUI has the prompt, comes before all others.
        """
        if sends is Notification.CANCELLING:
            self.log.wake()
            return
        if sends is Notification.CLOSED:
            self.listener = None
        if not self.first_sent:
            self.first_sent = True
            record = self.record
            first: dict[str, Any] = {"number": record.number, "node_errors": record.node_errors}
            if record.waiting_for:
                first["waiting_for"] = record.waiting_for
            self.emit("", {"prompt_id": record.prompt_id, **first})
            for event, data, preview, size in self._early:
                self.emit(event, data, preview, size=size)
            self._early.clear()
        if sends is Notification.UPLOADING:
            self.emit("live_status", {"prompt_id": self.prompt_id, **UPLOADING})
        elif sends in (Notification.END, Notification.CLOSED):
            size = self.outputs_size + SHORT * (len(self.nodes) + 4)
            self.emit("result", reply or {}, size=size)
            status = {"prompt_id": self.prompt_id, "status": self.record.status}
            self.emit("status", status, size=SHORT)
            self.log.close()
            self.ended.set()

    # -- progress ----------------------------------------------------------------------------

    def live(self) -> dict[str, Any]:
        if self.record.status == "uploading":
            return UPLOADING
        step = self.live_status.current_step()
        return {**self.live_status.read(), **dict(zip(("step", "steps"), step or (), strict=False))}

    def begun(self) -> None:
        """Count the start, and emit the progress from time to time."""
        self._look_again()
        waited = time.time() - parse_timestamp(self.record.created_at).timestamp()
        metrics.run_began(self.record.machine, self.record.pool, max(waited, 0.0))

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
        self._timer = loop.call_later(LIVE_INTERVAL, self._emit_in_between)

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
