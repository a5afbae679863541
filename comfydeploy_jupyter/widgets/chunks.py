"""Uploads through the kernel in chunks, for pages that cannot reach the Jupyter server."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Protocol

from ..client.files import send_chunks
from ..errors import ComfyDeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client import Comfy

SILENCE = 120.0
"""Seconds without a chunk after which the page is considered closed."""


class Sender(Protocol):
    """Sends messages about a file to the page."""

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message to the page."""


class ChunkedFile:
    """A file that is sent to the route ``upload-file`` while its chunks arrive from the page.

    It is not stored in the kernel. A chunk is confirmed once the route has taken it, and the page
    sends only a few chunks before they are confirmed. JupyterLab sends the first messages of a view
    to the kernel's main thread and later ones to a subshell, so the chunks come in any order.

    Parameters
    ----------
    message : dict
        The page's description of the file: ``id``, ``name``, ``size`` (bytes) and ``destination``
        (`UploadPanel.destination`).
    send : callable
        Called with messages for the page: ``opened`` if chunks may come, ``stored`` with the number
        of ``bytes`` that the route has taken, and one ``end`` with the ``result`` or the ``error``.
    """

    def __init__(self, message: dict[str, Any], send: Sender) -> None:
        self.id = str(message["id"])
        self._message = message
        self._send = send
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._early: dict[int, bytes] = {}  # chunks that came before an earlier one, by offset
        self._next = 0  # the offset of the next chunk
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def put(self, offset: int, chunk: bytes) -> None:
        """Add the chunk that begins at an offset, bytes."""
        with self._lock:
            self._early[offset] = chunk
            while (found := self._early.pop(self._next, None)) is not None:
                self._next += len(found)
                self._chunks.put(found)

    def stop(self) -> None:
        """Cancel the upload."""
        self._stopped.set()
        self._chunks.put(None)

    def run(self, comfy: Comfy) -> None:
        """Send the whole file; call it in a thread."""
        message, place = self._message, self._message["destination"]
        fields = {
            "type": str(place["type"]),
            "subfolder": str(place["subfolder"]),
            "overwrite": str(bool(place["overwrite"])).lower(),
        }
        try:
            result = send_chunks(
                comfy.server,
                self._arriving(int(message["size"])),
                int(message["size"]),
                str(message["name"]),
                fields,
                machine=place.get("machine") or None,
            )
        except Exception as error:
            words = error.message if isinstance(error, ComfyDeployError) else str(error)
            if not self._stopped.is_set():
                self._send({"type": "end", "id": self.id, "error": words or type(error).__name__})
        else:
            self._send({"type": "end", "id": self.id, "result": result})

    def _arriving(self, size: int) -> Iterator[bytes]:
        stored = 0
        self._send({"type": "opened", "id": self.id})
        while stored < size:
            try:
                chunk = self._chunks.get(timeout=SILENCE)
            except queue.Empty:
                raise ComfyDeployError("the page has stopped sending the file") from None
            if chunk is None:
                raise ComfyDeployError("cancelled")
            yield chunk
            stored += len(chunk)
            self._send({"type": "stored", "id": self.id, "bytes": stored})
