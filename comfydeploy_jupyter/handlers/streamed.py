"""Requests whose body is taken while it arrives, and what becomes of one that nobody wants."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tornado import web
from tornado.iostream import StreamClosedError

from .base import ENDLESS, Base

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable

SMALL_REST = 1024 * 1024  # bytes of a body that are read past to keep the connection
LINGER = 64 * 1024 * 1024  # bytes, and
LINGER_WITHIN = 20.0  # seconds, that a client which sends more has to see the reply


@web.stream_request_body
class Streamed(Base):
    """Base of handlers that take their body in pieces: `begin`, `take`, then the verb's method.

    Where one of the first two fails, the rest of the body is of no use. A small one is read past,
    and the connection stays. Else the reply comes at once and says ``Connection: close``; some
    more is read then, since a connection that is closed while its client sends may lose the reply.
    A client that waits for ``100 Continue`` gets the reply instead.
    """

    _is_preparing = True  # tornado closes the connection once a reply is sent meanwhile
    _rest: int | None = 0  # bytes of the body that have not arrived; None: it does not say
    _fault: Exception | None = None
    _is_told = False  # the reply was sent before the body was complete
    _passed = 0
    _lingering: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Get ready for the body of a request that is let in."""

    async def take(self, chunk: bytes) -> None:
        """Take the next piece of the body."""

    def check_body(self) -> None:
        """Note that the body is complete; called first in the verb's method.

        Raises
        ------
        Exception
            What was wrong with the request.
        """
        self._rest = 0
        if self._fault is not None:
            raise self._fault

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with an error, unless that was done before the body was complete."""
        if self._is_told:
            self.finish()
            return
        if self._fault is not None:  # tornado raises its own for a method that the route lacks
            kwargs["exc_info"] = type(self._fault), self._fault, self._fault.__traceback__
        super().send_error(status_code, **kwargs)

    async def prepare(self) -> None:  # type: ignore[override]  # as in Handler
        """Check who asks, then get ready for a body of any size."""
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        chunked = "Transfer-Encoding" in headers
        self._rest = int(length) if length.isdecimal() and not chunked else None
        try:
            await cast("Awaitable[None]", super().prepare())
            self.extension.requests.discard(self)  # until its body is there
            if not self.has_begun:
                await self.begin()
        except Exception as fault:
            if self._rest == 0 or "Expect" in headers:
                raise
            await self._refuse(fault)
        self._is_preparing = False

    async def data_received(self, chunk: bytes) -> None:
        """Take the next piece, or read past it."""
        self.note_activity()
        if self._rest is not None:
            self._rest -= len(chunk)
        if self._fault is not None:
            self._passed += len(chunk)
            if self._is_told and self._passed > LINGER:
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
        if self._is_told:
            connection: Any = self.request.connection
            connection.close()
        return done

    def on_finish(self) -> None:
        """Wait no longer for a client to see the reply."""
        super().on_finish()
        if self._lingering is not None:
            self._lingering.cancel()

    def on_connection_close(self) -> None:
        """Wait no longer for a client that has left."""
        super().on_connection_close()
        if self._lingering is not None:
            self._lingering.cancel()

    async def _refuse(self, fault: Exception) -> None:
        self._fault = fault
        connection: Any = self.request.connection
        connection.set_max_body_size(ENDLESS)  # how much is read of it is decided here
        if self._rest is not None and self._rest <= SMALL_REST:
            return
        error = self.describe(fault, 500)
        reply = json.dumps(error.to_reply()).encode()
        self.clear()
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Length", str(len(reply)))
        self.set_header("Connection", "close")
        self.write(reply)
        self._is_told = True
        self._lingering = asyncio.get_running_loop().call_later(LINGER_WITHIN, self.finish)
        with suppress(StreamClosedError):
            await self.flush()
