"""WebSockets: the base of their routes, and the one of clients for events and commands of runs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.base.websocket import WebSocketMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from .. import request_models as fields
from ..errors import InvalidRequestError, TooLargeError
from ..request_models import Model, optional, parse
from ..runs.feed import RunEvent
from ..util import worker
from . import route
from .base import Base
from .runs import InterruptRequest, run_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..runs.run import Run


MAX_PREVIEWS = 2  # messages that wait for a slow client; older previews are dropped
MAX_WAITING = 32 * 1024 * 1024  # bytes that wait for a client that does not read
TOO_SLOW = 1013  # close code "try again later"
GRAPHS = ("workflow_api", "workflow_api_raw", "workflow", "workflow_id")  # fields of a graph


class SocketQuery(Model):
    """Query of ``GET ws``: default values for each ``queue_prompt``."""

    client_id: fields.Identifier | None = optional(
        "Send only events of this client's runs; by default those of all runs.",
        "notebook-1",
        alias="clientId",
    )
    machine: fields.MachineField = None
    workflow_id: fields.WorkflowIdField = None
    version: fields.VersionField = None


class SocketHandler(WebSocketMixin, Base, WebSocketHandler):
    """Base of the WebSocket routes: the user is authenticated and authorized before the handshake.

    A page of another user on the same host can open a socket with the login cookie of this user,
    so the XSRF token is needed, too.
    """

    auth_action = "execute"
    xsrf_on_get = True

    async def prepare(self, *args: Any, **kwargs: Any) -> None:
        await cast("Awaitable[None]", super().prepare(*args, **kwargs))
        await self.authorize()

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket; reply with a JSON error to a request that is not for a WebSocket."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequestError.of_field(
                "Upgrade", "must be websocket: connect to this route with a WebSocket client"
            )
        await super().get(*args, **kwargs)


class EventSocket(SocketHandler):
    """``GET ws``: the socket of a client; a client may have several."""

    tag = "Status"
    client_id: str = ""

    @property
    def max_message_size(self) -> int:
        """Largest message in bytes; above the limit for JSON, which has its own error."""
        return self.extension.max_json_size + 64 * 1024

    @route.get("ws", "openSocket")
    @route.opens_socket
    async def open_socket(self, query: SocketQuery) -> None:
        """WebSocket with the events of a client's runs.

        Text frames are JSON with `event` and `data`, binary frames previews as ComfyUI frames them.
        Clients may send `queue_prompt` (a body of `run`), `input` and `interrupt`.
        """
        self.asked = query
        await super().get()

    def open(self, *args: Any, **kwargs: Any) -> None:
        super().open(*args, **kwargs)
        given = self.asked.client_id
        self.client_id = given or uuid.uuid4().hex
        self._all_runs = given is None
        self._inputs: dict[str, Any] = {}
        self._waiting: deque[tuple[str | bytes | RunEvent, bool]] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._unfollow: Callable[[], None] = self.services.runs.active.follow(self._pass_on)
        self._writer = self.extension.tasks.start(
            self._write(), "Sending events to a client", when_done=self.close
        )
        self.extension.sockets.add(self)
        queue = self.services.runs.active.counts()
        self.send("status", {"sid": self.client_id, "queue": queue})

    def on_close(self) -> None:
        super().on_close()
        self.extension.sockets.discard(self)
        if hasattr(self, "_writer"):
            self._unfollow()
            self._writer.cancel()

    async def on_message(self, message: str | bytes) -> None:
        """Execute a command; after an invalid one the socket sends ``error`` and stays open."""
        try:
            await self._command(message)
        except Exception as exc:
            error = self.error_of(exc, 500)
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
            request = parse(InterruptRequest, body)
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
