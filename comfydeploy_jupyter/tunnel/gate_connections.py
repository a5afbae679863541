"""The connections of the gate's visitors, with a limit for incomplete requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections import OrderedDict

HEAD_WITHIN = 10.0  # s that a visitor has to send the head of a request
HALF_HEADS = 64  # connections of one address with an incomplete head; further ones close the oldest
_END_OF_HEAD = b"\r\n\r\n"


class Connection(web.RequestHandler):
    """A visitor's connection, which is closed if the head of a request takes too long.

    At most `HALF_HEADS` connections of one address may have an incomplete head: if there are more,
    the oldest is closed.
    """

    def __init__(
        self, server: web.Server, half_heads: OrderedDict[Connection, str], **kwargs: Any
    ) -> None:
        super().__init__(server, **kwargs)
        self._half_heads = half_heads
        self._handling = False
        self._last = b""
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._begin_head()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes; those after the end of a request begin the next one."""
        self._last = data[-len(_END_OF_HEAD) :]
        if not self._handling and self not in self._half_heads:
            self._begin_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer."""
        self.head_is_complete()
        super().connection_lost(exc)

    def head_is_complete(self) -> None:
        """Stop the timer: the request is being handled, or the connection is closed."""
        self._handling = True
        self._half_heads.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def request_is_over(self) -> None:
        """Wait for the head of the next request, a part of which may have arrived already."""
        self._handling = False
        if self._last != _END_OF_HEAD and self.transport is not None:
            self._begin_head()

    def _begin_head(self) -> None:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._half_heads[self] = address
        self._limit = asyncio.get_running_loop().call_later(HEAD_WITHIN, self.abort)
        of_address = [one for one, where in self._half_heads.items() if where == address]
        if len(of_address) > HALF_HEADS:
            of_address[0].abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.head_is_complete()
        if self.transport is not None:
            self.transport.abort()


class Server(web.Server):
    """Creates a `Connection` for each connection of a visitor."""

    def __init__(
        self, handler: Any, half_heads: OrderedDict[Connection, str], **kwargs: Any
    ) -> None:
        super().__init__(handler, **kwargs)
        self._half_heads = half_heads
        self._options = kwargs

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        options = {k: v for k, v in self._options.items() if k != "handler_cancellation"}
        loop = asyncio.get_running_loop()
        return Connection(self, self._half_heads, loop=loop, **options)
