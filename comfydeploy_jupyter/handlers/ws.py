"""The WebSocket of clients: it sends events of runs, and receives commands."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from tornado.websocket import WebSocketClosedError

from ..errors import InvalidRequestError, TooLargeError
from ..runs.log import RunEvent
from ..util import worker
from .base import schemas
from .runs import run_request
from .sockets import SocketHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runs.run import Run

MAX_PREVIEWS = 2  # messages that wait for a slow client; older previews are dropped
MAX_WAITING = 32 * 1024 * 1024  # bytes that wait for a client that does not read
TOO_SLOW = 1013  # close code "try again later"
GRAPHS = ("workflow_api", "workflow_api_raw", "workflow", "workflow_id")  # fields of a graph


class EventSocket(SocketHandler):
    """``GET ws``: the socket of a client; a client may have several."""

    client_id: str = ""

    @property
    def max_message_size(self) -> int:
        """Largest message in bytes; above the limit for JSON, which has its own error."""
        return self.extension.max_json_size + 64 * 1024

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket, if its query is valid."""
        self.asked = self.query(schemas.SocketQuery)
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Start to send the events of runs."""
        super().open(*args, **kwargs)
        given = self.asked.client_id
        self.client_id = given or uuid.uuid4().hex
        self._all_runs = given is None
        self._inputs: dict[str, Any] = {}
        self._waiting: deque[tuple[str | bytes | RunEvent, bool]] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._unfollow: Callable[[], None] = self.services.runs.follow(self._pass_on)
        self._writer = self.extension.tasks.start(
            self._write(), "Sending events to a client", when_done=self.close
        )
        self.extension.sockets.add(self)
        queue = self.services.runs.counts()
        self.send("status", {"sid": self.client_id, "queue": queue})

    def on_close(self) -> None:
        """Remove the client; its runs continue."""
        super().on_close()
        self.extension.sockets.discard(self)
        if hasattr(self, "_writer"):
            self._unfollow()
            self._writer.cancel()

    async def on_message(self, message: str | bytes) -> None:
        """Execute a command; after an invalid one the socket sends ``error`` and stays open."""
        try:
            await self._command(message)
        except Exception as fault:
            error = self.error_of(fault, 500)
            self.send("error", error.to_reply())

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Send ``{"event", "data"}`` after the messages that are waiting."""
        self._enqueue(json.dumps({"event": event, "data": data}))

    async def _command(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise InvalidRequestError("Binary messages are not supported; send JSON as text")
        if len(message) > self.extension.max_json_size:
            raise TooLargeError(f"The message is larger than {self.extension.max_json_size} bytes")
        # tornado reads the next message when this method returns, so commands keep their order.
        body = await worker.parse_body(message, graphs=True)
        command = body.pop("event", None)
        if command == "queue_prompt":
            await self._queue_prompt(body)
        elif command == "input":
            inputs = body.get("inputs")
            if not isinstance(inputs, dict):
                raise InvalidRequestError.of_field("inputs", "must be a JSON object")
            self._inputs.update(inputs)
        elif command == "interrupt":
            request = schemas.parse(schemas.InterruptRequest, body)
            prompt_id, was = await self.services.runs.interrupt(request.prompt_id, request.machine)
            self.send("interrupted", {"prompt_id": prompt_id, "was": was})
        else:
            raise InvalidRequestError.of_field(
                "event", "must be one of queue_prompt, input, interrupt"
            )

    async def _queue_prompt(self, body: dict[str, Any]) -> None:
        chosen = self.asked.model_dump(exclude_none=True, exclude={"client_id"})
        if body.get("is_native_run") or any(body.get(field) is not None for field in GRAPHS):
            chosen.pop("workflow_id", None)
            chosen.pop("version", None)
        request = await run_request(self, {**chosen, **body})
        request.client_id = self.client_id
        request.inputs = {**self._inputs, **(request.inputs or {})}
        await self.services.runs.submit(request)
        self._inputs.clear()

    def _pass_on(self, run: Run, event: RunEvent) -> None:
        if not self._all_runs and run.record.client_id != self.client_id:
            return
        if event.preview is not None:
            self._enqueue(event.preview.frame, preview=True)
        elif event.event:
            self._enqueue(event)
        else:
            self.send("queued", event.data)

    def _enqueue(self, message: str | bytes | RunEvent, *, preview: bool = False) -> None:
        self._waiting.append((message, preview))
        self._waiting_bytes += _size(message)
        if preview and sum(is_preview for _, is_preview in self._waiting) > MAX_PREVIEWS:
            oldest = next(entry for entry in self._waiting if entry[1])
            self._waiting.remove(oldest)
            self._waiting_bytes -= _size(oldest[0])
        if self._waiting_bytes > MAX_WAITING:
            self.log.warning(
                "A WebSocket client does not read its events; its connection is closed"
            )
            self._waiting.clear()
            self._waiting_bytes = 0
            self.close(TOO_SLOW, "too slow")
        self._something.set()

    async def _write(self) -> None:
        """Send the waiting messages, each one when the previous one was written."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                message, _ = self._waiting.popleft()
                self._waiting_bytes -= _size(message)
                if isinstance(message, RunEvent):
                    await message.encode()
                    message = message.text
                try:
                    await self.write_message(message, binary=isinstance(message, bytes))
                except WebSocketClosedError:
                    return


def _size(message: str | bytes | RunEvent) -> int:
    return message.size if isinstance(message, RunEvent) else len(message)
