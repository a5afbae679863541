"""Requests that are forwarded to another server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import ComfyDeployError
from ..util import proxy
from .base import ANY_SIZE
from .streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    import aiohttp


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
        """Abort the request of a client that has disconnected."""
        super().on_connection_close()
        self._abort()

    def on_finish(self) -> None:
        """Close the connection to the other server in any case."""
        super().on_finish()
        self._abort()

    def _abort(self) -> None:
        if self.response is not None:
            proxy.abort(self.response)
