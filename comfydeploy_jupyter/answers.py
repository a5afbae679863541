"""Reading what other servers answer: within bounds, and without telling their addresses.

They may be broken, or not be what they are taken for.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 64 * 1024  # bytes of JSON above which parsing leaves the event loop
TAIL = 1024 * 1024  # bytes that are kept of the end of what is too large

# What these say is host and port, or what is wrong with the bytes. Others tell whole addresses,
# whose parameters may be secrets, and their `repr` the headers of the request too.
_TELLING = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
)

_SPACE = re.compile(r"[ \t\n\r]*")


def _no_number(name: str) -> None:
    """Take ``NaN`` and ``Infinity``, which Python writes and no browser reads, for nothing."""


_decoder = json.JSONDecoder(parse_constant=_no_number)


async def read(
    response: aiohttp.ClientResponse, limit: int, *, to_the_end: bool = False
) -> tuple[bytes, bool]:
    """Return the body of an answer, or the end of it where it is too large.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The answer, of which nothing has been read.
    limit : int
        Bytes that are kept at most.
    to_the_end : bool
        Whether the end of what is too large is wanted; else it is left unread.

    Returns
    -------
    tuple of bytes and bool
        The body, and whether that is all of it.
    """
    body, size = bytearray(), 0
    async for piece in response.content.iter_any():
        size += len(piece)
        body += piece
        if size > limit:
            if not to_the_end:
                return b"", False
            if len(body) > 2 * TAIL:
                del body[:-TAIL]
    return bytes(body), size <= limit


async def read_whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of an answer; one that is compressed counts as what it unpacks to.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The answer, of which nothing has been read.
    limit : int
        Bytes that it may have.

    Raises
    ------
    aiohttp.ClientPayloadError
        It has more, or breaks off.
    """
    body, whole = await read(response, limit)
    if not whole:
        raise aiohttp.ClientPayloadError(f"the answer has more than {limit} bytes")
    return body


def loads(text: bytes | str, depth: int = 0, leaf: Callable[[Any], Any] | None = None) -> Any:
    """Parse JSON; for a thread, where it is large.

    A parser keeps the interpreter to itself until it is done, and with it the event loop. This one
    parses what is ``depth`` levels down piece by piece, and the loop has its turn between them.

    Parameters
    ----------
    text : bytes or str
        The JSON; bytes are UTF-8.
    depth : int
        Levels of objects and arrays that are taken apart.
    leaf : callable, optional
        Called with each value at that depth; what it returns is kept in place of the value.

    Raises
    ------
    ValueError
        It is not JSON, or nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        if depth == 0 and leaf is None:
            return _decoder.decode(text)
        found, end = _value(text, _skip(text, 0), depth, leaf)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _skip(text, end) != len(text):
        raise ValueError(f"there is more after the end, at {end}")
    return found


async def parse(text: bytes | str, depth: int = 3) -> Any:
    """Do what `loads` does, in a thread where that is worth the trip.

    Raises
    ------
    ValueError
        As `loads` does.
    """
    if len(text) > LARGE:
        return await asyncio.to_thread(loads, text, depth)
    return loads(text)


def reason_of(fault: BaseException) -> str:
    """Return why a request failed, in words that may be told: without address and headers."""
    if isinstance(fault, _TELLING) and str(fault):
        return str(fault)
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    status = f" ({fault.status})" if isinstance(fault, aiohttp.ClientResponseError) else ""
    return f"{type(fault).__name__}{status}"


def _value(text: str, at: int, depth: int, leaf: Callable[[Any], Any] | None) -> tuple[Any, int]:
    """Return the value that begins at ``at``, and where it ends."""
    kind = text[at : at + 1]
    if depth == 0 or kind not in ("{", "["):
        value, at = _decoder.raw_decode(text, at)
        return (leaf(value) if leaf is not None and depth == 0 else value), at
    pairs: dict[str, Any] = {}
    items: list[Any] = []
    end = "}" if kind == "{" else "]"
    at = _skip(text, at + 1)
    if text[at : at + 1] == end:
        return (pairs if kind == "{" else items), at + 1
    while True:
        if kind == "{":
            key, at = _decoder.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise ValueError(f"no key of an object at {at}")
            pairs[key], at = _value(text, _skip(text, at + 1), depth - 1, leaf)
        else:
            value, at = _value(text, at, depth - 1, leaf)
            items.append(value)
        at = _skip(text, at)
        mark = text[at : at + 1]
        if mark == end:
            return (pairs if kind == "{" else items), at + 1
        if mark != ",":
            raise ValueError(f"neither a comma nor an end at {at}")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """Return the place of the first character that is no white space."""
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
