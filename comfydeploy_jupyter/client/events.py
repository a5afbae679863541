"""The events of a run, and its progress."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from .graph import NodeName, Source
    from .results import Result

FINAL = frozenset({"success", "failed", "cancelled"})


@dataclass(frozen=True)
class Event:
    """One event of a run.

    Attributes
    ----------
    event : str
        ``queued`` (the first: ``prompt_id``, ``number``, ``node_errors``), an event of ComfyUI
        (``executing``, ``progress``, ``executed``, …), ``live_status``, ``output_ready``,
        ``preview``, ``result`` (the reply of the run) or ``status`` (the last).
    data : dict
        The content of the event.
    id : str or None
        Its id in the stream.
    """

    event: str
    data: dict[str, Any]
    id: str | None = None

    def __repr__(self) -> str:
        shown = {k: f"<{len(v)} characters>" if _long(v) else v for k, v in self.data.items()}
        return f"Event({self.event!r}, {shown!r})"

    @property
    def node(self) -> str | None:
        """The id of the node that the event is about, if any."""
        node = self.data.get("node", self.data.get("node_id"))
        return None if node is None else str(node)

    @property
    def is_final(self) -> bool:
        """Whether this is the ``status`` that ends the run."""
        return self.event == "status" and self.data.get("status") in FINAL

    @property
    def image_bytes(self) -> bytes:
        """The picture of a ``preview``, as an encoded file; empty for other events."""
        if self.event != "preview":
            return b""
        return base64.b64decode(str(self.data.get("image", "")))

    @property
    def image(self) -> Image | None:
        """The picture of a ``preview``; None for other events."""
        data = self.image_bytes
        if not data:
            return None
        import PIL.Image

        return PIL.Image.open(io.BytesIO(data))


def _long(value: object) -> bool:
    return isinstance(value, str) and len(value) > 200


@dataclass
class RunProgress:
    """The progress of a run, which is updated with its events.

    Attributes
    ----------
    status : str
        ``queued``, ``running``, ``uploading``, ``success``, ``failed`` or ``cancelled``.
    fraction : float
        The part of the run that is done, 0 to 1.
    node : NodeName or None
        The node that runs now.
    step, steps : int
        The step of this node and the number of its steps; both 0 if the node reports none.
    preview, preview_format : bytes, str
        The last picture of a sampler, as an encoded file, and its format (``jpeg``, ``png``).
    started : float
        When this client began to follow it, s of `time.monotonic`.
    ended : float or None
        When it ended, s of `time.monotonic`.
    version : int
        A number that grows with each change.
    result : Result or None
        The result, once the run has ended.
    """

    workflow: Source
    status: str = "queued"
    fraction: float = 0.0
    node: NodeName | None = None
    step: int = 0
    steps: int = 0
    preview: bytes = b""
    preview_format: str = "jpeg"
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    version: int = 0
    result: Result | None = None
    _left: tuple[float, float] | None = None  # the time left, and when that was reported

    @property
    def time_left(self) -> float | None:
        """How long the run will probably take from now on, s; None if that is not known."""
        if self._left is None or self.ended is not None:
            return None
        left, reported = self._left
        return max(0.0, left - (time.monotonic() - reported))

    @property
    def elapsed(self) -> float:
        """Time since this client began to follow it, or from then to its end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def feed(self, event: Event) -> None:
        """Update the progress with an event; unknown events are ignored."""
        handler = getattr(self, f"_on_{event.event}", None)
        if handler is not None:
            handler(event)
            self.version += 1

    def finish(self, status: str) -> None:
        """Record the end of the run, or that it is not followed any more."""
        self.status = status
        self.ended = time.monotonic()
        self.node, self.step, self.steps = None, 0, 0
        if status == "success":
            self.fraction = 1.0
        self.version += 1

    def _on_execution_start(self, event: Event) -> None:
        self.status = "running"

    def _on_executing(self, event: Event) -> None:
        self.status = "running"
        node = event.data.get("display_node") or event.node
        if node is None:
            self.node, self.step, self.steps = None, 0, 0
        else:
            self._enter(node)

    def _on_progress(self, event: Event) -> None:
        node = event.node
        if node is not None and (self.node is None or self.node.id != node):
            self._enter(node)
        self.step, self.steps = _integer(event.data.get("value")), _integer(event.data.get("max"))

    def _on_live_status(self, event: Event) -> None:
        progress = event.data.get("progress")
        if isinstance(progress, (int, float)):
            self.fraction = min(1.0, max(self.fraction, float(progress)))
        left = event.data.get("time_left")
        self._left = (left, time.monotonic()) if isinstance(left, (int, float)) else None

    def _on_preview(self, event: Event) -> None:
        self.preview = event.image_bytes
        self.preview_format = str(event.data.get("mime", "image/jpeg")).rpartition("/")[2]

    def _on_status(self, event: Event) -> None:
        status = str(event.data.get("status", ""))
        if event.is_final:
            self.finish(status)
        elif status:
            self.status = status

    def _enter(self, node_id: object) -> None:
        self.node = self.workflow.name(node_id)
        self.step = self.steps = 0


def _integer(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
