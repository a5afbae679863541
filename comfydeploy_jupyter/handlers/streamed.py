"""Requests whose body is read while it arrives, and rejecting one before it is complete."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tornado import web
from tornado.iostream import StreamClosedError

from .base import ANY_SIZE, Base

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable

SMALL_REST = 1024 * 1024  # bytes of a rejected body that are read to keep the connection
LINGER = 64 * 1024 * 1024  # bytes of a larger one that are read after the reply
LINGER_WITHIN = 20.0  # seconds after the reply for which they are read


@web.stream_request_body
class Streamed(Base):
    """Base of handlers that read bodies in chunks: `begin`, `take`, then the verb's method.

    If `begin` or `take` raises, the rest of the body is not needed. A small rest is read and
    dropped, and the connection is kept. For a larger one, the reply is sent at once with
    ``Connection: close``, and a part of the body is still read: if a connection is closed while its
    client sends, the reply may get lost. A client that waits for ``100 Continue`` gets the reply
    instead.
    """

    _is_preparing = True  # tornado closes the connection once a reply is sent meanwhile
    _rest: int | None = 0  # bytes of the body that have not arrived; None: it does not say
    _fault: Exception | None = None
    _is_refused = False  # the reply was sent before the body was complete
    _passed = 0
    _lingering: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Prepare for the body; called after `authorize`."""

    async def take(self, chunk: bytes) -> None:
        """Process the next chunk of the body."""

    def check_body(self) -> None:
        """Note that the body is complete, and raise what `begin` or `take` has raised.

        The method of each route calls this at its start.
        """
        self._rest = 0
        if self._fault is not None:
            raise self._fault

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Send an error, unless one was sent before the body was complete."""
        if self._is_refused:
            self.finish()
            return
        if self._fault is not None:  # tornado's own error for a method that the route lacks
            kwargs["exc_info"] = type(self._fault), self._fault, self._fault.__traceback__
        super().send_error(status_code, **kwargs)

    async def prepare(self) -> None:  # type: ignore[override]  # as in Handler
        """Check credentials and permission, then prepare for the body."""
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        chunked = "Transfer-Encoding" in headers
        self._rest = int(length) if length.isdecimal() and not chunked else None
        try:
            await cast("Awaitable[None]", super().prepare())
            self.extension.requests.discard(self)  # until its body has arrived
            if not self.has_begun:
                await self.begin()
        except Exception as fault:
            if self._rest == 0 or "Expect" in headers:
                raise
            await self._refuse(fault)
        self._is_preparing = False

    async def data_received(self, chunk: bytes) -> None:
        """Process the next chunk of the body, or drop it if the request is rejected."""
        self.note_activity()
        if self._rest is not None:
            self._rest -= len(chunk)
        if self._fault is not None:
            self._passed += len(chunk)
            if self._is_refused and self._passed > LINGER:
                self.finish()
            return
        try:
            await self.take(chunk)
        except Exception as fault:
            await self._refuse(fault)

    def finish(self, *args: Any, **kwargs: Any) -> Future[None]:
        """End the reply; tornado closes the connection of a request that has not been read."""
        if (self._is_preparing or self._rest != 0) and not self.has_begun:
            self.set_header("Connection", "close")
        done = super().finish(*args, **kwargs)
        if self._is_refused:
            connection: Any = self.request.connection
            connection.close()
        return done

    def on_finish(self) -> None:
        super().on_finish()
        if self._lingering is not None:
            self._lingering.cancel()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._lingering is not None:
            self._lingering.cancel()

    async def _refuse(self, fault: Exception) -> None:
        self._fault = fault
        connection: Any = self.request.connection
        connection.set_max_body_size(ANY_SIZE)  # `data_received` limits how much is read
        if self._rest is not None and self._rest <= SMALL_REST:
            return
        error = self.error_of(fault, 500)
        reply = json.dumps(error.to_reply()).encode()
        self.clear()
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Length", str(len(reply)))
        self.set_header("Connection", "close")
        self.write(reply)
        self._is_refused = True
        self._lingering = asyncio.get_running_loop().call_later(LINGER_WITHIN, self.finish)
        with suppress(StreamClosedError):
            await self.flush()
