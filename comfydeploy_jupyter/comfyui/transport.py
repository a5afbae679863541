"""HTTP and WebSocket connections to one ComfyUI: sessions, limits and errors, without routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from yarl import URL

from ..errors import ComfyUIUnavailableError, NotFoundError, TooLargeError
from ..util import responses
from ..util.peers import Peers
from ..util.secrets import clean_url
from ..util.sessions import CheckedConnector, new_session, without_redirects
from .parsing import not_comfyui, parse_object, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

T = TypeVar("T")

BEFORE = 10.0  # seconds that ``after`` of `Transport.ask` may take, which is a write to the store
PIECE = 256 * 1024  # bytes of one chunk of a prompt
MAX_ANSWER = 64 * 1024**2  # bytes; the definitions of thousands of nodes take about 20 MB
UNTRUSTED = (
    "The certificate of the server at comfyui_url is not trusted: set comfyui_ca to the PEM file"
    " of the authority that has signed it."
)
UNKNOWN_JOB = b"Job not found"  # the text of ComfyUI 0.33


@dataclass(frozen=True)
class Access:
    """What each connection to a ComfyUI needs besides its address."""

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


PLAIN = Access()


class NoRouteError(Exception):
    """The ComfyUI is too old to have a route."""


class FailedJobError(NoRouteError):
    """The jobs API fails for one prompt; older routes can be used instead."""


class Transport:
    """Sends requests to one ComfyUI."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        peers: Peers | None = None,
        access: Access = PLAIN,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._peers = peers or Peers()
        self._access = access
        self._opened: tuple[aiohttp.ClientSession, aiohttp.ClientSession] | None = None
        self._closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connection pool for requests."""
        return self._sessions()[0]

    @property
    def sockets(self) -> aiohttp.ClientSession:
        """The connection pool for WebSockets, which refuses redirects."""
        return self._sessions()[1]

    async def close(self) -> None:
        """Close all connections permanently."""
        self._closed = True
        sessions, self._opened = self._opened or (), None
        for session in reversed(sessions):
            await session.close()

    def _sessions(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        if self._closed:
            raise self.unavailable(
                "its machine was changed or restarted during the request", sent=False
            )
        if self._opened is None:
            connector = CheckedConnector(self._peers, self._access.tls)
            make = partial(
                new_session,
                connector,
                connect=None,
                total=self.timeout,
                headers=dict(self._access.headers),
            )
            guard = without_redirects()
            self._opened = make(), make(connector_owner=False, trace_configs=[guard])
        return self._opened

    async def forward(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """Send a request unchanged; return the response before its body is read."""
        try:
            return await self.session.request(
                method,
                URL(self.url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            )
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self.unavailable(responses.text_of(error)) from error

    async def pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body of a response as it arrives."""
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise self.unavailable(f"the connection was lost ({error})") from error

    async def open_socket(self, target: str) -> aiohttp.ClientWebSocketResponse[bool]:
        """Open a WebSocket on behalf of another client."""
        try:
            return await self.sockets.ws_connect(
                URL(self.url + target, encoded=True), max_msg_size=0, compress=0, heartbeat=30.0
            )
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self.unavailable(responses.text_of(error)) from error

    def unavailable(
        self,
        reason: str,
        *,
        hint: str | None = None,
        fault: str = "does not answer",
        **details: Any,
    ) -> ComfyUIUnavailableError:
        """Return the error for a ComfyUI that does not answer, or has another fault."""
        url = clean_url(self.url)
        start = f"Start ComfyUI so that it listens at {url}, or set comfyui_url."
        return ComfyUIUnavailableError(
            f"ComfyUI at {url} {fault}: {reason}",
            details={"url": url, "reason": reason, **details},
            extra={"hint": hint or start},
        )

    async def get_list(self, path: str, kind: type[T], **options: Any) -> list[T]:
        """Return the JSON array in ComfyUI's reply to a GET request."""
        text = await self.request("GET", path, **options)
        try:
            found = await responses.parse(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            raise not_comfyui(path)
        return found

    async def get_object(self, path: str) -> dict[str, Any]:
        """Return the JSON object in ComfyUI's reply to a GET request."""
        return await parse_object(await self.request("GET", path))

    async def request(
        self,
        method: str,
        path: str,
        *,
        limit: int = MAX_ANSWER,
        **options: Any,
    ) -> bytes:
        """Return the body of a response of at most ``limit`` bytes; see `ask`."""
        text, whole = await self.ask(method, path, limit=limit, **options)
        if not whole:
            raise self.too_large(f"{method} {path}", limit)
        return text

    def too_large(self, what: str, limit: int) -> ComfyUIUnavailableError:
        """Return the error for a response of more than ``limit`` bytes."""
        return self.unavailable(f"its answer to {what} is larger than {limit // 1024**2} MiB")

    async def ask(
        self,
        method: str,
        path: str,
        *,
        limit: int,  # bytes of the body that are read
        body: bytes | list[bytes] | aiohttp.FormData | None = None,
        after: asyncio.Future[None] | None = None,  # before it, the last byte of a list is not sent
        passes: tuple[int, ...] = (),  # statuses whose body may say why ComfyUI refuses a graph
        timeout: aiohttp.ClientTimeout | None = None,
        within: float | None = None,  # seconds for the whole request, if less than usual
        to_the_end: bool = False,  # whether the last bytes of a body that is too large are returned
        compressed: bool = False,
        may_lack: bool = False,  # whether this ComfyUI may be too old for the route
    ) -> tuple[bytes, bool]:
        """Return the body of a response with a status below 300, and whether it is complete.

        With ``may_lack``, NoRouteError, FailedJobError and NotFoundError are the answers of the
        jobs API; ``details["sent"]`` of other errors is false if ComfyUI cannot have the request.
        """
        headers = {} if compressed else {"Accept-Encoding": "identity"}
        data: Any = body
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        elif isinstance(body, list):
            size = sum(map(len, body))
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(size)
            data = _held_back(body if size > PIECE else [b"".join(body)], after)
        patience = min(self.timeout, within or self.timeout)
        if timeout is None:
            connecting = min(patience, 5.0)
            timeout = aiohttp.ClientTimeout(total=patience, sock_connect=connecting)
            if after is not None:  # ComfyUI's time starts after the complete request
                timeout = aiohttp.ClientTimeout(
                    total=patience + BEFORE, sock_connect=connecting, sock_read=patience
                )
        try:
            async with self.session.request(
                method,
                f"{self.url}{path}",
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                auto_decompress=compressed,
            ) as response:
                text, whole = await responses.read(response, limit, to_the_end=to_the_end)
        except asyncio.TimeoutError:
            details = _sent_detail(after) or {"hangs": True}
            raise self.unavailable(f"no answer within {patience:g} s", **details) from None
        except aiohttp.ClientSSLError as error:
            raise self.unavailable(
                responses.text_of(error), hint=UNTRUSTED, sent=False, field="comfyui_ca"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise self.unavailable(responses.text_of(error), sent=False) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = responses.text_of(error)
            raise self.unavailable(reason, **_sent_detail(after)) from error
        if response.status in passes:
            refused = await refusal(response, text)
            if refused is not None:
                raise refused
        if may_lack and response.status in (404, 405):
            if UNKNOWN_JOB not in text:  # a proxy's own 404 must not end runs
                raise NoRouteError
            raise NotFoundError(f"{path} is unknown to ComfyUI at {clean_url(self.url)}")
        if may_lack and response.status == 500:
            raise FailedJobError
        if response.status == 413:
            raise TooLargeError(
                f"ComfyUI at {clean_url(self.url)} does not accept a body of this size"
            )
        if response.status >= 300:
            raise self.unavailable(f"it answered {response.status} to {method} {path}")
        return text, whole


def _sent_detail(after: asyncio.Future[None] | None) -> dict[str, Any]:
    """Return ``{"sent": False}`` if ComfyUI cannot have received the complete request."""
    if after is None or (after.done() and not after.cancelled() and after.exception() is None):
        return {}
    return {"sent": False}


async def _held_back(
    body: list[bytes], until: asyncio.Future[None] | None
) -> AsyncIterator[memoryview]:
    """Yield a body in small chunks; the last byte only when ``until`` is done."""
    for part in [*body[:-1], body[-1][:-1]]:
        whole = memoryview(part)
        for start in range(0, len(whole), PIECE):
            yield whole[start : start + PIECE]
    if until is not None:
        await asyncio.shield(until)
    yield memoryview(body[-1][-1:])
