"""Creates sessions of aiohttp with the limits that this package always uses."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

from ..errors import ComfyUIUnavailableError

if TYPE_CHECKING:
    import ssl

    from .peers import Peers

CONNECT_WITHIN = 15.0  # seconds in which a connection must open
KEEP_ALIVE = 30.0  # seconds for which an idle connection is kept open
DISCARD = struct.pack("ii", 1, 0)  # a ``struct linger``: on, 0 seconds
NOTICED = 0.01  # seconds after which the end of a connection is certainly known


def new_session(
    connector: aiohttp.BaseConnector | None = None,
    *,
    connect: float | None = CONNECT_WITHIN,
    total: float | None = None,
    silence: float | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return a session: a pool without a limit for the number of connections.

    It stores no cookies: otherwise cookies that a server sets for one user would be sent with the
    requests of another. aiohttp's default limit of five minutes for a whole request is not used,
    because requests may transfer gigabytes.

    Parameters
    ----------
    connector : aiohttp.BaseConnector, optional
        Opens the connections; by default an `aiohttp.TCPConnector`.
    connect : float or None
        Seconds to open a connection.
    total : float, optional
        Seconds for a whole request.
    silence : float, optional
        Seconds that may pass between two chunks of a response.
    **options
        Further arguments of `aiohttp.ClientSession`.
    """
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
        timeout=aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        **options,
    )


def without_redirects() -> aiohttp.TraceConfig:
    """Return a trace config that refuses redirects: ``ws_connect`` has no option for that."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientPayloadError("it answered with a redirect")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


class CheckedConnector(aiohttp.TCPConnector):
    """Checks the other end of each connection before its first use.

    When a connection is closed, also by the end of this process, the bytes are discarded that the
    other end has not received. Otherwise the kernel would send them for minutes, and a prompt could
    arrive that has been given to another ComfyUI in the meantime.

    Parameters
    ----------
    peers : Peers
        The processes that may answer.
    tls : ssl.SSLContext, optional
        The certificates of connections with TLS; by default those that the system trusts.
    """

    def __init__(self, peers: Peers, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=True if tls is None else tls)
        self._peers = peers
        self._checked: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Return a connection for a request.

        Raises
        ------
        ComfyUIUnavailableError
            If the process at the other end may not answer.
        ClientPayloadError
            If the other end closes the connection before the request: it does not use HTTP.
        """
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        if transport is not None:  # called before the connection is closed, or used again
            connection.add_callback(partial(_abort_if_closed, transport))
        if transport in self._checked:
            return connection
        try:
            if transport is not None:
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DISCARD)
                await self._check(transport, str(req.url.origin()))
            if transport is None or transport.is_closing():
                raise aiohttp.ClientPayloadError("it closes the connection before the request")
        except BaseException:
            connection.close()
            raise
        self._checked.add(transport)
        return connection

    async def _check(self, transport: asyncio.BaseTransport, url: str) -> None:
        try:
            await self._peers.check(transport, url)
        except ComfyUIUnavailableError:
            await asyncio.sleep(NOTICED)  # a closed connection has no owner
            if not transport.is_closing():
                raise


def _abort_if_closed(transport: asyncio.Transport) -> None:
    """Abort a connection that is closed next: it would first send what this process has buffered.

    A connection that will be used again is left as it is.
    """

    def abort() -> None:
        if transport.is_closing():
            transport.abort()

    asyncio.get_running_loop().call_soon(abort)
