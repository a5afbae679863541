"""The events that ComfyUI sends on its WebSocket.

The frames are those of ComfyUI (``server.py``, ``protocol.py``): text frames are
``{"type": …, "data": {…}}``; binary frames begin with a big-endian 32-bit type.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..net import responses
from ..secrets import hide

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_EVENT = 8 * 1024**2  # bytes of a frame that is read: what a run's log keeps in all
MAX_METADATA = 64 * 1024  # bytes that tell whose preview it is

PREVIEW_IMAGE = 1
PROGRESS_TEXT = 3
PREVIEW_IMAGE_WITH_METADATA = 4

_IMAGE_TYPES = {1: "image/jpeg", 2: "image/png", 3: "image/webp"}


@dataclass(frozen=True)
class Event:
    """A text frame.

    Attributes
    ----------
    type : str
        ``status``, ``execution_start``, ``executing``, ``progress``, ``executed``, …
    data : dict
        As ComfyUI sent it.
    size : int
        Length of the frame in characters.
    """

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    size: int = field(default=0, compare=False)

    @property
    def prompt_id(self) -> str | None:
        """The run that the event belongs to, if it belongs to one."""
        found = self.data.get("prompt_id")
        return found if isinstance(found, str) else None

    def renamed(self, prompt_id: str) -> Event:
        """Return the same event with another prompt id wherever the event names its prompt."""
        data = {**self.data, "prompt_id": prompt_id}
        nodes = data.get("nodes")
        if isinstance(nodes, dict):  # ``progress_state`` names the prompt once a node
            data["nodes"] = {
                node: {**state, "prompt_id": prompt_id}
                if isinstance(state, dict) and "prompt_id" in state
                else state
                for node, state in nodes.items()
            }
        return replace(self, data=data)

    def without(self, secrets: Iterable[str]) -> Event:
        """Return the same event with some texts hidden, wherever they are in it."""
        hidden = list(secrets)
        return replace(self, data=hide(self.data, hidden)) if hidden else self

    @property
    def queue_remaining(self) -> int | None:
        """How many prompts wait or run, where the event is a ``status`` that says so."""
        found: Any = self.data
        for key in ("status", "exec_info", "queue_remaining"):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int) else None


@dataclass(frozen=True)
class Unread:
    """A text frame that is too large to be read: an event of the run that executes, mostly.

    Attributes
    ----------
    size : int
        Its length in characters.
    """

    size: int


@dataclass(frozen=True)
class Preview:
    """A preview image.

    Attributes
    ----------
    mime : str
        Such as ``image/jpeg``.
    image : bytes
        The encoded image.
    frame : bytes
        The whole frame as ComfyUI sent it.
    node : str or None
        The node that shows it; None in the old form of the frame.
    prompt_id : str or None
        The run; None in the old form of the frame.
    """

    mime: str
    image: bytes
    frame: bytes
    node: str | None = None
    prompt_id: str | None = None

    def renamed(self, prompt_id: str) -> Preview:
        """Return the same preview with another prompt id, also in its frame."""
        if self.prompt_id is None:
            return self
        metadata = responses.loads(self.frame[8 : len(self.frame) - len(self.image)])
        text = json.dumps({**metadata, "prompt_id": prompt_id}).encode()
        head = struct.pack(">II", PREVIEW_IMAGE_WITH_METADATA, len(text))
        return replace(self, prompt_id=prompt_id, frame=head + text + self.image)


def decode_text(frame: str) -> Event | None:
    """Return the event of a text frame, or None if it is not one of ComfyUI's."""
    try:
        message = responses.loads(frame)
    except ValueError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    data = message.get("data")
    return Event(message["type"], data if isinstance(data, dict) else {}, len(frame))


def decode_binary(frame: bytes) -> Preview | Event | None:
    """Return the preview or progress text of a binary frame, or None if it is neither.

    A progress text becomes the event ``progress_text`` with ``node`` and ``text``. What is larger
    than `MAX_EVENT` is neither: the next preview is not far.
    """
    if len(frame) > MAX_EVENT:
        return None
    try:
        (kind,) = struct.unpack_from(">I", frame)
        if kind == PREVIEW_IMAGE:
            (image_type,) = struct.unpack_from(">I", frame, 4)
            return Preview(_IMAGE_TYPES[image_type], frame[8:], frame)
        if kind == PREVIEW_IMAGE_WITH_METADATA:
            (length,) = struct.unpack_from(">I", frame, 4)
            if length > MAX_METADATA:
                return None
            metadata = responses.loads(frame[8 : 8 + length])
            return Preview(
                str(metadata["image_type"]),
                frame[8 + length :],
                frame,
                node=str(metadata.get("display_node_id") or metadata["node_id"]),
                prompt_id=str(metadata["prompt_id"]),
            )
        if kind == PROGRESS_TEXT:
            (length,) = struct.unpack_from(">I", frame, 4)
            node = frame[8 : 8 + length].decode()
            text = frame[8 + length :].decode()
            return Event("progress_text", {"node": node, "text": text}, len(frame))
    except (struct.error, LookupError, TypeError, ValueError, AttributeError):
        return None
    return None
