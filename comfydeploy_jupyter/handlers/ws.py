"""The WebSocket: events of runs as they happen, and commands."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.base.websocket import WebSocketMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..errors import InvalidRequestError, TooLargeError, UnauthorizedError
from ..runs.log import RunEvent
from .base import FOREIGN_PAGE, Base, bodies, schemas
from .runs import run_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..runs.run import Run

MAX_PREVIEWS = 2  # waiting for a slow client; older ones are dropped
MAX_WAITING = 32 * 1024 * 1024  # bytes waiting for a client that does not read at all
TOO_SLOW = 1013  # close code "try again later"
VERSIONS = ("7", "8", "13")  # of the protocol that tornado speaks
UPGRADE_REQUIRED = 426
KEY_SIZE = 16
GRAPHS = ("workflow_api", "workflow_api_raw", "workflow", "workflow_id")  # what names a graph


class EventSocket(WebSocketMixin, Base, WebSocketHandler):
    """``GET ws``: a client's socket. Many may be open; one client may have several."""

    auth_action = "execute"
    xsrf_on_get = True  # a page of another user on the same host can open it with this cookie

    client_id: str = ""

    @property
    def max_message_size(self) -> int:
        """Largest message in bytes: a little more than JSON may have, so that it gets its error."""
        return self.extension.max_json_size + 64 * 1024

    async def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Check who asks before the handshake."""
        await cast("Awaitable[None]", super().prepare(*args, **kwargs))
        await self.admit()

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Shake hands, once the query is known to be right."""
        self.asked = self.query(schemas.SocketQuery)
        self._check_handshake()
        await super().get(*args, **kwargs)

    def _check_handshake(self) -> None:
        """Refuse, in our own form, what tornado would refuse with a line of text or a page."""
        headers = self.request.headers
        connection = headers.get("Connection", "").lower().split(",")
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in map(
            str.strip, connection
        ):
            raise InvalidRequestError.of_field(
                "Upgrade", "this route is a WebSocket; connect to it with a WebSocket client"
            )
        if not self.check_origin():
            raise UnauthorizedError(FOREIGN_PAGE)
        if headers.get("Sec-WebSocket-Version") not in VERSIONS:
            error = InvalidRequestError.of_field("Sec-WebSocket-Version", "must be 13")
            error.status = UPGRADE_REQUIRED
            raise error
        try:
            key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_SIZE:
            raise InvalidRequestError.of_field(
                "Sec-WebSocket-Key", f"must be {KEY_SIZE} bytes in base64"
            )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say with a version of the protocol that is not ours which one would do."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, InvalidRequestError) and error.status == UPGRADE_REQUIRED:
            self.set_header("Sec-WebSocket-Version", "13")
        super().write_error(status_code, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to pass events on."""
        super().open(*args, **kwargs)
        given = self.asked.client_id
        self.client_id = given or uuid.uuid4().hex
        self._all_runs = given is None
        self._inputs: dict[str, Any] = {}
        self._waiting: deque[tuple[str | bytes | RunEvent, bool]] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._unfollow: Callable[[], None] = self.services.runs.follow(self._pass_on)
        self._writer = asyncio.ensure_future(self._write())
        self.extension.sockets.add(self)
        queue = self.services.runs.counts()
        self.send("status", {"sid": self.client_id, "queue": queue})

    def on_close(self) -> None:
        """Forget the client; its runs go on."""
        super().on_close()
        self.extension.sockets.discard(self)
        if hasattr(self, "_writer"):
            self._unfollow()
            self._writer.cancel()

    async def on_message(self, message: str | bytes) -> None:
        """Carry out a command; a bad one is answered, and the socket stays open."""
        try:
            await self._command(message)
        except Exception as fault:
            error = self.describe(fault, 500)
            self.send("error", error.to_reply())

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Send ``{"event", "data"}`` in its turn."""
        self._enqueue(json.dumps({"event": event, "data": data}))

    async def _command(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise InvalidRequestError("Binary messages are not understood; send JSON text")
        if len(message) > self.extension.max_json_size:
            raise TooLargeError(f"The message is larger than {self.extension.max_json_size} bytes")
        # The next message is read when this one is done with, so that their order stays.
        body = await bodies.read(message, graphs=True)
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
            self.log.warning("A WebSocket client does not read its events; it is cut off")
            self._waiting.clear()
            self._waiting_bytes = 0
            self.close(TOO_SLOW, "too slow")
        self._something.set()

    async def _write(self) -> None:
        """Send what waits, one after the other, each once the one before has left."""
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
