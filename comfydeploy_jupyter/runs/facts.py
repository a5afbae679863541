"""What is known of a run while it is followed, and what is told of it."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from .log import SHORT, EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..comfyui.events import Preview
    from ..store.runs import RunRecord
    from .log import RunEvent

UPLOADING: dict[str, Any] = {
    "live_status": "Uploading outputs",
    "progress": 1.0,
    "current_node": None,
    "time_left": None,
}


class Told(Enum):
    """What the readers of a run's events are told by a transition."""

    NOTHING = ""
    FIRST = "the first message"
    UPLOADING = "live_status"
    END = "result, status"
    CLOSED = "result, status; not to followers"


class Facts:
    """What is known of a run beside its state. `Lifecycle.transition` alone sets it.

    Parameters
    ----------
    record : RunRecord
        Its record.
    nodes : mapping of str to object
        The nodes of its graph.
    events_complete : bool
        Whether all of its events reach us. If not, its end and its outputs are read from ComfyUI's
        history.

    Attributes
    ----------
    answered : asyncio.Event
        Set while ComfyUI is not being asked to queue it.
    released : asyncio.Event
        Set when ComfyUI is done with it, or nothing tells any more whether it is.
    settled : asyncio.Event
        Set when it has ended, or when all that is left of it are uploads.
    ended : asyncio.Event
        Set when it has ended.
    """

    def __init__(
        self, record: RunRecord, nodes: Mapping[str, object], *, events_complete: bool
    ) -> None:
        self.record = record
        self.outcome: RunRecord | None = None  # the record that is being stored as its end
        self.events_complete = events_complete
        self.promised = False  # somebody was told its id before ComfyUI has answered
        self.success_told = False  # by ComfyUI, which may not be done with it yet
        self.missed_at: float | None = None  # when it was first looked for in vain, monotonic
        self.was_next = False  # it was the next one to be executed when the connection broke
        self.comfyui_exit: str | None = None  # how the ComfyUI that had it ended, where known
        self.keys: dict[str, str] = {}  # of a Comfy account; never stored
        self.outputs_size = 0  # characters of its outputs, as ComfyUI has told them
        self.answered = asyncio.Event()
        self.released = asyncio.Event()
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()
        self.log = EventLog(record.first_id)
        self.first_told = False  # the message that comes before all events is in the log
        self.listener: Callable[[Any, RunEvent], None] | None = None
        self._early: list[tuple[str, dict[str, Any], Preview | None, int | None]] = []
        self._size_of_end = SHORT * (len(nodes) + 4)

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return self.record.prompt_id

    @property
    def comfyui_id(self) -> str:
        """The id of its prompt in ComfyUI."""
        return self.record.comfyui_id

    def emit(
        self,
        event: str,
        data: dict[str, Any],
        preview: Preview | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Add an event for all readers; one that comes before the first message waits for that."""
        if not self.first_told:
            self._early.append((event, data, preview, size))
            return
        entry = self.log.append(event, data, preview, size=size)
        if self.listener is not None:
            self.listener(self, entry)

    def tell(self, told: Told, reply: dict[str, Any] | None) -> None:
        """Tell the readers what a transition has for them.

        Parameters
        ----------
        told : Told
            What that is. The first message comes before all else.
        reply : dict or None
            For an end: the body that ``POST run`` answers.
        """
        if told is Told.NOTHING:
            return
        if told is Told.CLOSED:
            self.listener = None
        if not self.first_told:
            self._tell_first()
        if told is Told.UPLOADING:
            self.emit("live_status", {"prompt_id": self.prompt_id, **UPLOADING})
        elif told in (Told.END, Told.CLOSED):
            self.emit("result", reply or {}, size=self.outputs_size + self._size_of_end)
            status = {"prompt_id": self.prompt_id, "status": self.record.status}
            self.emit("status", status, size=SHORT)
            self.log.close()
            self.ended.set()

    def _tell_first(self) -> None:
        """Tell that ComfyUI has the prompt, and then the events that have waited for that."""
        self.first_told = True
        record = self.record
        first = {"number": record.number, "node_errors": record.node_errors}
        self.emit("", {"prompt_id": record.prompt_id, **first})
        for event, data, preview, size in self._early:
            self.emit(event, data, preview, size=size)
        self._early.clear()
