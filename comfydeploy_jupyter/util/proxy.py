"""Forwards requests to other servers: ComfyUI's page, ComfyDeploy's site, what is behind a gate.

Bodies are streamed in both directions: a chunk is read from one side when the other accepts it.
Only listed headers are forwarded (the gate forwards all but those of a connection). So unknown
ones never are, among them those that identify a user to Jupyter or to a proxy in front of it, and
those with which another server could act as Jupyter or control a proxy in front of it.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import aiohttp
from yarl import URL

from .tasks import close_result, wait_for

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping

_BOTH = ("Cache-Control", "Content-Encoding", "Content-Language", "Content-Length", "Content-Type")
REQUEST = (
    *_BOTH,
    *("Accept", "Accept-Encoding", "Accept-Language", "Range", "User-Agent"),
    *("If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since"),
)
RESPONSE = (
    *_BOTH,
    *("Accept-Ranges", "Age", "Content-Disposition", "Content-Range", "ETag"),
    *("Expires", "Last-Modified", "Retry-After", "Vary"),
)
# Headers of one connection, not of the message (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
    }
)
CREDENTIALS = frozenset({"token", "_xsrf"})  # query parameters that authenticate users of Jupyter

# Directives for caches that are kept in a response for one user.
_CACHING = re.compile(
    r"(no-store|no-cache|no-transform|must-revalidate|immutable"
    r"|(max-age|stale-while-revalidate|stale-if-error)=\d+)"
)
# The parts of a path that browsers treat as ``..``; they also treat a backslash as a slash.
_UPWARDS = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x20\x7f]")


def request_headers(given: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
    return {name: given[name] for name in (*REQUEST, *more) if name in given}


def response_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a response that are forwarded.

    ``Cache-Control`` always contains ``private``: a cache of several users must not send them the
    data of this user.
    """
    found = {name: given[name] for name in RESPONSE if name in given}
    directives = map(str.strip, found.get("Cache-Control", "").lower().split(","))
    found["Cache-Control"] = ", ".join(["private", *filter(_CACHING.fullmatch, directives)])
    return found


def end_to_end(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the headers of a message that are not only for one connection.

    This is for a proxy that forwards all other headers.
    """
    given = list(headers)
    named = {
        name.strip().lower()
        for header, value in given
        if header.lower() == "connection"
        for name in value.split(",")
    }
    for name, value in given:
        if name.lower() not in HOP_BY_HOP and name.lower() not in named:
            yield name, value


def leads_upwards(address: str) -> bool:
    """Return whether a browser treats a part of a path as ``..``; the query is ignored.

    Control characters are ignored too, because they are removed before a header is sent.
    """
    path = re.split(r"[?#]", _CONTROLS.sub("", address), maxsplit=1)[0]
    return any(_UPWARDS.fullmatch(part) for part in re.split(r"[/\\]", path))


def without_credentials(query: str) -> str:
    """Return a query without the parameters in `CREDENTIALS`, in any encoding of their names.

    The other bytes are unchanged.
    """
    return "&".join(
        part
        for part in query.split("&")
        if unquote_plus(part.partition("=")[0]).strip().lower() not in CREDENTIALS
    )


async def send(
    session: aiohttp.ClientSession,
    method: str,
    address: URL,
    headers: Mapping[str, str],
    body: AsyncIterable[bytes] | None,
    *,
    reply_timeout: float | None = None,
    **options: Any,
) -> aiohttp.ClientResponse:
    """Send a request unchanged; return the response, unchanged too, before its body is read.

    ``reply_timeout`` is in seconds after the complete request. Redirects are not followed. The
    caller closes the response. ``options`` are those of `aiohttp.ClientSession.request`.
    """
    complete = asyncio.Event()
    data = None if body is None else _to_the_end(body, complete)
    if body is None:
        complete.set()
    sending = asyncio.ensure_future(complete.wait())
    response = asyncio.ensure_future(
        session.request(
            method,
            address,
            headers=headers,
            data=data,
            allow_redirects=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            **options,
        )
    )
    try:
        await asyncio.wait({response, sending}, return_when=asyncio.FIRST_COMPLETED)
        return await wait_for(response, reply_timeout)
    except BaseException:
        abort(response)
        raise
    finally:
        sending.cancel()


def abort(response: Future[aiohttp.ClientResponse]) -> None:
    """Cancel a request, and close its response if there is one."""
    response.cancel()
    response.add_done_callback(close_result)


async def _to_the_end(body: AsyncIterable[bytes], complete: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield chunk
    complete.set()


class BodyPipe:
    """The body of a request that is forwarded, of which at most ``size`` chunks wait."""

    def __init__(self, size: int) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(size)

    async def put(
        self, chunk: bytes | None, answer: Future[Any], *, timeout: float | None = None
    ) -> None:
        """Add a chunk, or None at the end, when there is space; drop it after the response.

        asyncio.TimeoutError if the other server neither reads the chunk nor responds in time.
        """
        if answer.done():
            return
        putting = asyncio.ensure_future(self._waiting.put(chunk))
        await asyncio.wait({putting, answer}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            if not answer.done():
                raise asyncio.TimeoutError

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._waiting.get()) is not None:
            yield chunk


def redirect_target(
    response: aiohttp.ClientResponse, base: URL, here: str, *, as_sent: bool = True
) -> str | None:
    """Return where a redirect of a server leads: for a page below ``base``, a path below ``here``.

    Else the full address. None without a redirect, or if it leads to no web page. An address is
    unchanged, and refused if it leads upwards; unless ``as_sent``, it is normalised.
    """
    found = response.headers.get("Location")
    if found is None:
        return None
    try:
        target = response.url.join(URL(found, encoded=as_sent))
    except ValueError:
        return None
    if target.scheme not in {"http", "https"} or not target.host:
        return None
    path = base.raw_path.rstrip("/")
    if target.origin() != base.origin() or not f"{target.raw_path}/".startswith(f"{path}/"):
        return str(target)
    below = "/" + str(target.relative()).removeprefix(path).lstrip("/")
    return None if leads_upwards(below) else f"{here}{below}"


async def pump(source: AsyncIterable[Any], sink: Any, *, timeout: float | None = None) -> None:
    """Forward the messages of a WebSocket, and the pings that aiohttp leaves to us, until it ends.

    Both are WebSockets with aiohttp's methods. asyncio.TimeoutError if it does not take a
    message within so many seconds.
    """
    methods = {
        aiohttp.WSMsgType.TEXT: "send_str",
        aiohttp.WSMsgType.BINARY: "send_bytes",
        aiohttp.WSMsgType.PING: "ping",
        aiohttp.WSMsgType.PONG: "pong",
    }
    async for message in source:
        if message.type in methods:
            await wait_for(getattr(sink, methods[message.type])(message.data), timeout)
