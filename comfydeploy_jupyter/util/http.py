"""Requests to other servers: sessions, certificates, and responses with limits.

Responses may be damaged, or come from an unexpected program. The errors for them do not contain
addresses, whose parameters may be secret.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

from ..errors import ComfyUIUnavailableError, InvalidRequestError

if TYPE_CHECKING:
    from .sockets import Peers

CONNECT_TIMEOUT = 15.0  # seconds in which a connection must open
KEEP_ALIVE = 30.0  # seconds for which an idle connection is kept open
DISCARD = struct.pack("ii", 1, 0)  # a ``struct linger``: on, 0 seconds
NOTICED = 0.01  # seconds after which the end of a connection is certainly known
TAIL = 1024 * 1024  # bytes that are kept of the end of a body that is too large

# The messages of these errors contain only host and port, or the reason. Messages of other errors
# contain full addresses, whose parameters may be secret, and their `repr` also the headers.
_WITHOUT_SECRETS = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
)


def new_session(
    connector: aiohttp.BaseConnector | None = None,
    *,
    connect: float | None = CONNECT_TIMEOUT,
    total: float | None = None,
    silence: float | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return a session: a pool without a limit for the number of connections.

    It stores no cookies: otherwise cookies that a server sets for one user would be sent with the
    requests of another. aiohttp's default limit of five minutes for a whole request is not used,
    because requests may transfer gigabytes. ``connect``, ``total`` and ``silence`` (between two
    chunks of a response) are in seconds.
    """
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
        timeout=aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        **options,
    )


class Pooled:
    """A client whose session is made at its first request; the options are `new_session`'s."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = new_session(**self._options)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


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
    """

    def __init__(self, peers: Peers, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=True if tls is None else tls)
        self._peers = peers
        self._checked: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Return a connection for a request.

        ComfyUIUnavailableError if the process at the other end may not answer; ClientPayloadError
        if it closes the connection before the request: it does not use HTTP.
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


def client_context(*, client_cert: str, client_key: str, ca: str) -> ssl.SSLContext | None:
    """Return the TLS context of connections; None without any of these PEM files. Blocks.

    ``ca`` has the authorities that are trusted instead of those of the system; the key may be in
    the file of the certificate. InvalidRequestError names the setting that is wrong.
    """
    if not (client_cert or client_key or ca):
        return None
    if client_key and not client_cert:
        raise InvalidRequestError.of_field(
            "comfyui_client_cert", "is needed beside comfyui_client_key"
        )
    try:
        context = ssl.create_default_context(cafile=_file("comfyui_ca", ca))
    except (ssl.SSLError, OSError) as error:
        raise _unreadable("comfyui_ca", ca, error) from None
    certificate = _file("comfyui_client_cert", client_cert)
    key = _file("comfyui_client_key", client_key)
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _unreadable("comfyui_client_cert", client_cert, error) from None
    return context


def _file(name: str, given: str) -> str | None:
    if not given:
        return None
    if "\0" in given:
        raise InvalidRequestError.of_field(name, "contains a NUL")
    return str(Path(given).expanduser())


def _no_password() -> str:
    raise ValueError("its key has a password, which cannot be given")


def _unreadable(name: str, given: str, error: Exception) -> InvalidRequestError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidRequestError.of_field(name, f"{given} cannot be used: {reason}")


async def read(
    response: aiohttp.ClientResponse, limit: int, *, to_the_end: bool = False
) -> tuple[bytes, bool]:
    """Return the body of a response, and whether it is complete.

    Of a body that is larger than ``limit`` bytes, the rest is read only with ``to_the_end``, and
    about the last `TAIL` bytes are returned.
    """
    body, size = bytearray(), 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        body += chunk
        if size > limit:
            if not to_the_end:
                return b"", False
            if len(body) > 2 * TAIL:
                del body[:-TAIL]
    return bytes(body), size <= limit


async def read_whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of a response; ClientPayloadError if it has more (decompressed) bytes."""
    body, whole = await read(response, limit)
    if not whole:
        raise aiohttp.ClientPayloadError(f"the answer has more than {limit} bytes")
    return body


def text_of(error: BaseException) -> str:
    """Return the text of an error for people, else its class."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause: BaseException = error.certificate_error
        reason = getattr(cause, "verify_message", "") or str(cause)
        return f"the certificate of {error.host} is not accepted: {reason}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return (
            f"the name {error.host} cannot be found; it is wrong, or this machine has no connection"
            " to that network"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        where = f"port {error.port} of {error.host}"
        if isinstance(error.os_error, ConnectionRefusedError):
            return f"{where} refuses the connection"
        known = os.strerror(error.os_error.errno) if error.os_error.errno else ""
        # the texts of TLS say more than their numbers
        is_tls = isinstance(error.os_error, ssl.SSLError)
        reason = str(error.os_error) if is_tls else known or str(error.os_error)
        return f"no connection to {where}: {reason}"
    return str(error) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return the reason why a request failed, without address and headers, which may be secret."""
    if isinstance(error, _WITHOUT_SECRETS) and str(error):
        return text_of(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    status = f" ({error.status})" if isinstance(error, aiohttp.ClientResponseError) else ""
    return f"{type(error).__name__}{status}"
