"""The data of a followed run beside its state, and the events that its transitions emit."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from .log import SHORT, EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.socket import Preview
    from .log import RunEvent
    from .records import RunRecord

UPLOADING: dict[str, Any] = {
    "live_status": "Uploading outputs",
    "progress": 1.0,
    "current_node": None,
    "time_left": None,
}


class Sends(Enum):
    """The kinds of messages that a transition sends to the readers of a run's events."""

    NOTHING = ""
    CANCELLING = "status, only to readers of the Comfy API"
    FIRST = "the first message"
    UPLOADING = "live_status"
    END = "result, status"
    CLOSED = "result, status; not to followers"


class Facts:
    """The data of a run beside its state.

    The values that a row of the table sets or takes change only in `Lifecycle.transition`.

    Parameters
    ----------
    record : RunRecord
        The record of the run.
    nodes : mapping of str to object
        The nodes of its graph.
    events_complete : bool
        Whether this server receives all events of the run. If not, its end and its outputs are read
        from ComfyUI's history.

    Attributes
    ----------
    answered : asyncio.Event
        Set unless ComfyUI is being asked to queue the run.
    released : asyncio.Event
        Set when ComfyUI has finished all work on the run, or when its events cannot show that.
    settled : asyncio.Event
        Set when the run has ended, or when only its uploads remain.
    ended : asyncio.Event
        Set when the run has ended.
    """

    def __init__(
        self, record: RunRecord, nodes: Mapping[str, object], *, events_complete: bool
    ) -> None:
        self.record = record
        self.outcome: RunRecord | None = None  # the record of its end while that is being stored
        self.events_complete = events_complete
        self.id_returned = False  # a client has received its id before ComfyUI has answered
        self.success_reported = False  # ComfyUI has reported success, but may not have finished it
        self.missed_at: float | None = None  # monotonic time at which ComfyUI first did not have it
        self.was_next = False  # it was next in the queue when the connection was lost
        self.comfyui_exit: str | None = None  # how the ComfyUI that had it exited, if known
        self.keys: dict[str, str] = {}  # keys of a Comfy account; never stored
        self.awaited = False  # the request for it is answered at its end: it stays in memory
        self.outputs_size = 0  # characters of its outputs, as ComfyUI sent them
        self.models: frozenset[str] = frozenset()  # the model files that its graph names
        self.fingerprint = b""  # the hashes of its nodes
        self.moves = 0  # how often it was sent or taken back: what was seen before is outdated then
        self.order: int | None = None  # its place in the queue of its pool
        self.graph: tuple[bytes, bytes | None] | None = None  # as stored, if it was just read
        self.answered = asyncio.Event()
        self.released = asyncio.Event()
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()
        self.log = EventLog(record.first_id)
        self.first_sent = False  # whether the first message is in the log
        self.listener: Callable[[Any, RunEvent], None] | None = None
        self._early: list[tuple[str, dict[str, Any], Preview | None, int | None]] = []
        self._size_of_end = SHORT * (len(nodes) + 4)

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return self.record.prompt_id

    @property
    def comfyui_id(self) -> str:
        """The id of the run's prompt in ComfyUI."""
        return self.record.comfyui_id

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

    def send(self, sends: Sends, reply: dict[str, Any] | None) -> None:
        """Send the readers the message of a transition.

        Parameters
        ----------
        sends : Sends
            The kind of the message. The first message of a run is sent before all others.
        reply : dict or None
            For an end: the body of the reply to ``POST run``.
        """
        if sends is Sends.NOTHING:
            return
        if sends is Sends.CANCELLING:
            self.log.wake()
            return
        if sends is Sends.CLOSED:
            self.listener = None
        if not self.first_sent:
            self._send_first()
        if sends is Sends.UPLOADING:
            self.emit("live_status", {"prompt_id": self.prompt_id, **UPLOADING})
        elif sends in (Sends.END, Sends.CLOSED):
            self.emit("result", reply or {}, size=self.outputs_size + self._size_of_end)
            status = {"prompt_id": self.prompt_id, "status": self.record.status}
            self.emit("status", status, size=SHORT)
            self.log.close()
            self.ended.set()

    def _send_first(self) -> None:
        """Emit the first message, that ComfyUI has the prompt, and then the events held back."""
        self.first_sent = True
        record = self.record
        first = {"number": record.number, "node_errors": record.node_errors}
        self.emit("", {"prompt_id": record.prompt_id, **first})
        for event, data, preview, size in self._early:
            self.emit(event, data, preview, size=size)
        self._early.clear()
