"""The events that ComfyUI sends on its WebSocket.

The frames are those of ComfyUI (``server.py``, ``protocol.py``): text frames are
``{"type": …, "data": {…}}``; binary frames begin with a big-endian 32-bit type.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..util import responses
from ..util.secrets import hide

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_EVENT = 8 * 1024**2  # bytes of a frame that is parsed: the size limit of the log of a run
MAX_METADATA = 64 * 1024  # bytes of the metadata of a preview, which contain its node and prompt

PREVIEW_IMAGE = 1
PROGRESS_TEXT = 3
PREVIEW_IMAGE_WITH_METADATA = 4

_IMAGE_TYPES = {1: "image/jpeg", 2: "image/png", 3: "image/webp"}


@dataclass(frozen=True)
class Event:
    """A text frame."""

    type: str  # `status`, `execution_start`, `executing`, `progress`, `executed`, …
    data: dict[str, Any] = field(default_factory=dict)  # the data in ComfyUI's format
    size: int = field(default=0, compare=False)  # length of the frame in characters

    @property
    def prompt_id(self) -> str | None:
        """The id of the prompt that the event belongs to, or None."""
        found = self.data.get("prompt_id")
        return found if isinstance(found, str) else None

    def renamed(self, prompt_id: str) -> Event:
        """Return the same event with another prompt id at all places where it has one."""
        data = {**self.data, "prompt_id": prompt_id}
        nodes = data.get("nodes")
        if isinstance(nodes, dict):  # ``progress_state`` has the prompt id in each node
            data["nodes"] = {
                node: {**state, "prompt_id": prompt_id}
                if isinstance(state, dict) and "prompt_id" in state
                else state
                for node, state in nodes.items()
            }
        return replace(self, data=data)

    def without(self, secrets: Iterable[str]) -> Event:
        """Return the same event with all occurrences of some texts hidden."""
        hidden = list(secrets)
        return replace(self, data=hide(self.data, hidden)) if hidden else self

    @property
    def queue_remaining(self) -> int | None:
        """Number of waiting and executing prompts, if the event is a ``status`` with it."""
        found: Any = self.data
        for key in ("status", "exec_info", "queue_remaining"):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int) else None


@dataclass(frozen=True)
class OversizedEvent:
    """A text frame that is too large to be parsed; mostly an event of the executing run."""

    size: int  # length in characters


@dataclass(frozen=True)
class Preview:
    """A preview image."""

    mime: str  # MIME type, such as `image/jpeg`
    image: bytes
    frame: bytes  # the whole frame as ComfyUI sent it
    # both None in the old format of the frame
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

    A progress text becomes the event ``progress_text`` with ``node`` and ``text``. The result is
    None for a frame larger than `MAX_EVENT`: previews are frequent.
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
