"""Requests whose body is read while it arrives, and those that are forwarded to another server."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tornado import web
from tornado.iostream import StreamClosedError

from ..errors import ComfyDeployError
from ..util import proxy
from .base import ANY_SIZE, Base, passed_header

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    import aiohttp


SMALL_REST = 1024 * 1024  # bytes of a rejected body that are read to keep the connection
LINGER = 64 * 1024 * 1024  # bytes of a larger one that are read after the reply
LINGER_TIMEOUT = 20.0  # seconds after the reply for which they are read


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
    _exc: Exception | None = None
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
        if self._exc is not None:
            raise self._exc

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Send an error, unless one was sent before the body was complete."""
        if self._is_refused:
            self.finish()
            return
        if self._exc is not None:  # tornado's own error for a method that the route lacks
            kwargs["exc_info"] = type(self._exc), self._exc, self._exc.__traceback__
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
        except Exception as exc:
            if self._rest == 0 or "Expect" in headers:
                raise
            await self._refuse(exc)
        self._is_preparing = False

    async def data_received(self, chunk: bytes) -> None:
        """Process the next chunk of the body, or drop it if the request is rejected."""
        self.note_activity()
        if self._rest is not None:
            self._rest -= len(chunk)
        if self._exc is not None:
            self._passed += len(chunk)
            if self._is_refused and self._passed > LINGER:
                self.finish()
            return
        try:
            await self.take(chunk)
        except Exception as exc:
            await self._refuse(exc)

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

    async def _refuse(self, exc: Exception) -> None:
        self._exc = exc
        connection: Any = self.request.connection
        connection.set_max_body_size(ANY_SIZE)  # `data_received` limits how much is read
        if self._rest is not None and self._rest <= SMALL_REST:
            return
        error = self.error_of(exc, 500)
        reply = json.dumps(error.to_reply()).encode()
        self.clear()
        self.set_status(error.status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Length", str(len(reply)))
        self.set_header("Connection", "close")
        self.write(reply)
        self._is_refused = True
        self._lingering = asyncio.get_running_loop().call_later(LINGER_TIMEOUT, self.finish)
        with suppress(StreamClosedError):
            await self.flush()


class ProxyHandler(Streamed):
    """Base of handlers that forward requests; bodies are streamed in both directions."""

    response: asyncio.Future[aiohttp.ClientResponse] | None = None
    chunks_ahead = 1  # chunks of a body that may wait for the other server
    take_timeout: float | None = None  # seconds that the other server has to take a chunk
    _body: proxy.BodyPipe | None = None

    def forward(
        self,
        send: Callable[[AsyncIterator[bytes] | None], Coroutine[Any, Any, aiohttp.ClientResponse]],
        *,
        has_body: bool,
    ) -> None:
        """Start to send the request; ``send`` gets its body, if it has one."""
        if has_body:
            connection: Any = self.request.connection
            connection.set_max_body_size(ANY_SIZE)
            self._body = proxy.BodyPipe(self.chunks_ahead)
        body = None if self._body is None else self._body.chunks()
        self.response = asyncio.ensure_future(send(body))

    async def take(self, chunk: bytes) -> None:
        """Forward a chunk of the body, no faster than the other server reads it."""
        await self.send_chunk(chunk)

    async def send_chunk(self, chunk: bytes | None) -> None:
        """Forward a chunk of the body, or its end, if the request is forwarded with one."""
        if self._body is not None and self.response is not None:
            await self._body.put(chunk, self.response, timeout=self.take_timeout)

    def pass_headers(self, headers: Mapping[str, str], location: str | None) -> None:
        """Set headers of the response, and the target of its redirect."""
        for name, value in headers.items():
            self.set_header(name, passed_header(value))
        if location is not None:
            self.set_header("Location", passed_header(location))

    async def stream(self, chunks: AsyncIterator[bytes] | None, **finish: Any) -> None:
        """Send the body of a response, if it has one, as it arrives, and end the reply."""
        try:
            if chunks is not None:
                async for chunk in chunks:
                    self.write(chunk)
                    await self.flush()
            await self.finish(**finish)
        except StreamClosedError:
            self.log.debug(
                "A browser closed its connection before it had received all of %s",
                self.request.path,
            )
        except ComfyDeployError as exc:
            if not self.has_begun:
                raise
            self.log.warning("%s", exc.message)
            self.detach().close()  # shows the client that the response is not complete
            self._abort()  # a detached request has no `on_finish`

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._abort()

    def on_finish(self) -> None:
        """Close the connection to the other server in any case."""
        super().on_finish()
        self._abort()

    def _abort(self) -> None:
        if self.response is not None:
            proxy.abort(self.response)
