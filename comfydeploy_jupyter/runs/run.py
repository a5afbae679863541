"""One run while it is followed: its record, its progress, its events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import metrics
from ..timestamps import parse_timestamp, utc_now
from .log import SHORT, EventLog
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..comfyui.events import Event, Preview
    from ..store.runs import RunRecord
    from .log import RunEvent
    from .progress import NodeWork

logger = logging.getLogger(__name__)

LIVE_STEP = 0.01  # smallest change of the overall progress that is worth an event
LIVE_EVERY = 0.5  # seconds between two looks at a run whose nodes tell nothing
DRIFT = 0.2, 2.0  # part of the time that is left, and s, by which it may be off until it is told
_NODE_STARTED = "running"
_NODE_FINISHED = "finished"


def not_before(*earlier: str | None, moment: str | None = None) -> str:
    """Return a time, now unless it is given, or a later one of those that were before it.

    The clock of the machine may be set back meanwhile, and that of a ComfyUI elsewhere be slow.
    """
    return max(moment or utc_now(), *(time for time in earlier if time is not None))


def is_leave_taking(event: Event) -> bool:
    """Return whether ComfyUI says that it is done with a prompt, however that ended."""
    return event.type == "executing" and event.data.get("node") is None


class NodeName(NamedTuple):
    """What a node is called.

    Attributes
    ----------
    title : str
        Its title, else its class.
    class_type : str or None
        Its class.
    """

    title: str
    class_type: str | None


class Run:
    """A run that somebody may be waiting for.

    Parameters
    ----------
    record : RunRecord
        Its record; changed here, written to the store by the manager.
    nodes : dict of str to NodeName
        The nodes of its graph.
    whole : bool
        Whether every event since the queueing reaches us. False for a run taken over from a
        server that died: its outputs are then read from ComfyUI's history.
    first_id : int
        Id of its first event.
    steps : dict of str to int, optional
        The nodes that will be executed, and how many steps each of them probably takes; by default
        all nodes, which tell nothing of that.
    """

    def __init__(
        self,
        record: RunRecord,
        nodes: dict[str, NodeName],
        *,
        whole: bool = True,
        first_id: int = 1,
        steps: Mapping[str, int] | None = None,
    ) -> None:
        self.record = record
        self.nodes = nodes
        self.whole = whole
        self.log = EventLog(first_id)
        self.posted = asyncio.Event()  # not set while ComfyUI is being asked to queue it
        self.posted.set()
        self.promised = False  # somebody was told its id before ComfyUI has answered
        self.unanswered = False  # ComfyUI was asked to queue it, and did not say whether it did
        self.missed_at: float | None = None  # when it was first looked for in vain, monotonic
        self.accepted = False  # ComfyUI has it
        self.next = False  # it was the next one to be executed when the connection broke
        self.death: str | None = None  # how the ComfyUI that had it ended, where that is known
        self.keys: dict[str, str] = {}  # of a Comfy account; never stored
        self.succeeded = False  # ComfyUI has said so, but is not done with it yet
        self.left = asyncio.Event()  # ComfyUI is done with it, or tells nothing any more
        self.ending = False  # how its execution ended is known, and is being stored
        self.settled = asyncio.Event()  # it has ended, or what is left of it are uploads
        self.ended = asyncio.Event()
        self.current_node: str | None = None
        self.outputs_size = 0  # characters of its outputs, as ComfyUI has told them
        self.listener: Callable[[Run, RunEvent], None] | None = None
        self.with_urls: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._early: list[tuple[str, dict[str, Any], Preview | None, int | None]] = []
        self._progress = Progress(dict.fromkeys(nodes, 0) if steps is None else steps)
        self._node_started: dict[str, float] = {}
        self._started: float | None = None
        self._told: tuple[float, float | None, float] = -1.0, None, 0.0
        self._look: asyncio.TimerHandle | None = None

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return self.record.prompt_id

    @property
    def comfyui_id(self) -> str:
        """The id of its prompt in ComfyUI."""
        return self.record.comfyui_id

    @property
    def posting(self) -> bool:
        """Whether ComfyUI has been asked to queue it and has not answered yet."""
        return not self.posted.is_set()

    def accept(self, number: float | None, node_errors: dict[str, Any]) -> None:
        """Note that ComfyUI has queued the prompt, and tell so before anything else."""
        self.record.number = number
        self.record.node_errors = node_errors
        self.resume()

    def resume(self) -> bool:
        """Note that ComfyUI is known to have the prompt; return whether that is news."""
        self.unanswered = False
        self.missed_at = None
        news = self.record.status == "not-started"
        if news:
            self.record.status = "queued"
        self._open()
        return news

    def is_late(self, grace: float) -> bool:
        """Return whether ComfyUI, which does not have it, has had ``grace`` seconds to take it."""
        if self.missed_at is None:
            self.missed_at = time.monotonic()
        return time.monotonic() - self.missed_at > grace

    def tell(
        self,
        event: str,
        data: dict[str, Any],
        preview: Preview | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Add an event; one that overtakes ComfyUI's acceptance waits for it."""
        if not self.accepted:
            self._early.append((event, data, preview, size))
            return
        entry = self.log.append(event, data, preview, size=size)
        if self.listener is not None:
            self.listener(self, entry)

    def restart(self) -> None:
        """Forget the progress of an attempt that ComfyUI did not live to finish."""
        self.current_node = None
        self.next = False
        self.succeeded = False
        self.left.clear()
        self._progress.restart(time.monotonic())
        self._node_started.clear()

    def learn(self, past: Sequence[Mapping[str, NodeWork]]) -> None:
        """Take in what the nodes did in earlier runs of the same workflow, the newest first."""
        self._progress.learn(past, time.monotonic())

    def see(self, event: Event) -> bool:
        """Take in one of ComfyUI's events and pass it on.

        Returns
        -------
        bool
            Whether the record changed in a way that is to be stored.
        """
        must_store = False
        data = event.data
        if event.type == "execution_start":
            must_store = self.begin()
        elif event.type == "execution_cached":
            told = data.get("nodes")
            nodes = [str(node) for node in told] if isinstance(told, list) else []
            self.record.cached_nodes = nodes
            self._progress.skip(nodes, time.monotonic())
        elif event.type == "executing" and data.get("node") is not None:
            self.current_node = str(data["node"])
            self._progress.start(self._owner(self.current_node), time.monotonic())
        elif event.type == "progress" and data.get("node") is not None:
            self._note_progress(str(data["node"]), data)
        elif event.type == "progress_state":
            self._note_states(data.get("nodes"))
        elif event.type == "executed" and isinstance(data.get("output"), dict):
            self.record.outputs[str(data.get("node"))] = data["output"]
            self.outputs_size += event.size
        elif event.type == "execution_success":
            self.succeeded = True
        elif event.type == "executed":
            # ComfyUI also sends it, without output, for nodes it took from its cache.
            self._progress.finish(str(data.get("node")))
        self.tell(event.type, data, size=event.size)
        if event.type == "executed" and isinstance(data.get("output"), dict):
            output = data["output"]
            linked = self.with_urls(output) if self.with_urls is not None else output
            self.tell("output_ready", {**data, "output": linked}, size=event.size)
        if event.type != "executed":
            self._tell_live(force=event.type == "executing" and data.get("node") is not None)
        return must_store

    def see_preview(self, preview: Preview) -> None:
        """Pass a preview on."""
        self.tell("preview", {"prompt_id": self.prompt_id, "node": preview.node}, preview)

    def begin(self) -> bool:
        """Note that ComfyUI executes the prompt now; return whether that is news."""
        if self.record.status not in ("not-started", "queued"):
            return False
        self.record.status = "running"
        self.record.started_at = not_before(self.record.created_at)
        self._started = time.monotonic()
        self._look_on()
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
        for node in list(self._node_started):
            self._end_node(node)

    def tell_uploading(self) -> None:
        """Tell that the run was executed and its outputs are being uploaded."""
        self.settled.set()
        self._open()
        self.tell("live_status", {"prompt_id": self.prompt_id, **self.live()})

    def close(self, reply: dict[str, Any]) -> None:
        """Tell the end, after which nothing follows.

        Parameters
        ----------
        reply : dict
            The body that ``POST run`` answers for the run.
        """
        self.look_away()
        self._open()
        self.tell("result", reply, size=self.outputs_size + SHORT * (len(self.nodes) + 4))
        status = {"prompt_id": self.prompt_id, "status": self.record.status}
        self.tell("status", status, size=SHORT)
        self.log.close()
        self.settled.set()
        self.ended.set()

    def name(self, node: str) -> NodeName:
        """Return what to call a node; one that a node made while running goes by its maker's."""
        found = self.nodes.get(node) or self.nodes.get(node.split(".", 1)[0])
        return found or NodeName(f"node {node}", None)

    def _open(self) -> None:
        """Tell the first message, and then what came before its time."""
        if self.accepted:
            return
        self.accepted = True
        first = {
            "prompt_id": self.prompt_id,
            "number": self.record.number,
            "node_errors": self.record.node_errors,
        }
        self.tell("", first)
        for event, data, preview, size in self._early:
            self.tell(event, data, preview, size=size)
        self._early.clear()

    def live(self) -> dict[str, Any]:
        """Return how far it is.

        Returns
        -------
        dict
            ``live_status`` (a line), ``progress`` (0 to 1), ``current_node`` and ``time_left`` (s,
            None while nobody knows).
        """
        if self.record.status == "uploading":
            told = {"live_status": "Uploading outputs", "progress": 1.0, "current_node": None}
            return {**told, "time_left": None}
        now, node = time.monotonic(), self.current_node
        left = self._progress.seconds_left(now)
        return {
            "live_status": f"Executing {self.name(node).title}" if node else "Executing",
            "progress": round(self._progress.fraction(now), 4),
            "current_node": node,
            "time_left": None if left is None else round(left, 1),
        }

    def look_away(self) -> None:
        """Look no more at how far it is."""
        if self._look is not None:
            self._look.cancel()

    def _owner(self, node: str) -> str:
        """Return the node of the graph that a node belongs to which was made while running."""
        return node if node in self.nodes else node.split(".", 1)[0]

    def _note_progress(self, node: str, data: dict[str, Any]) -> None:
        value, maximum = data.get("value"), data.get("max")
        if isinstance(value, (int, float)) and isinstance(maximum, (int, float)):
            with contextlib.suppress(OverflowError, ValueError):  # numbers that no node has
                value, steps = float(value), int(maximum)
                self._progress.step(self._owner(node), value, steps, time.monotonic())

    def _note_states(self, states: object) -> None:
        if not isinstance(states, dict):
            return
        now = time.monotonic()
        for node, state in states.items():
            if not isinstance(state, dict) or node in self.record.node_times:
                continue
            if state.get("state") == _NODE_STARTED:
                self._node_started.setdefault(node, now)
                self._progress.start(node, now)
            elif state.get("state") == _NODE_FINISHED:
                self._end_node(node)

    def _end_node(self, node: str) -> None:
        started = self._node_started.pop(node, None)
        if started is not None:
            self.record.node_times[node] = round(time.monotonic() - started, 4)
            steps = self._progress.steps_of(node)
            if any(steps):
                self.record.node_steps[node] = list(steps)
        self._progress.finish(node)

    def _look_on(self) -> None:
        """Look again in a moment how far it is: where the past is known, time alone tells."""
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LIVE_EVERY, self._tell_in_between)

    def _tell_in_between(self) -> None:
        if self.record.status != "running" or self.ending:
            return
        self._tell_live(force=self._has_drifted())
        self._look_on()

    def _has_drifted(self) -> bool:
        """Return whether the time that is left is another one than those think who were told."""
        now = time.monotonic()
        _, told, at = self._told
        left = self._progress.seconds_left(now)
        if told is None or left is None:
            return told is not left
        return abs(told - (now - at) - left) > max(DRIFT[0] * left, DRIFT[1])

    def _tell_live(self, *, force: bool) -> None:
        """Tell how far it is, when that has changed."""
        if self.record.status != "running" or not self.nodes:
            return
        now = time.monotonic()
        if not force and self._progress.fraction(now) - self._told[0] < LIVE_STEP:
            return
        live = self.live()
        self._told = live["progress"], live["time_left"], now
        self.tell("live_status", {"prompt_id": self.prompt_id, **live}, size=SHORT)
