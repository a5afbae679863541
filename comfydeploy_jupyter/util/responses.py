"""Reads responses of other servers, with limits; its errors do not contain their addresses.

The responses may be damaged, or come from an unexpected program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp

from . import json_stream

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 64 * 1024  # bytes of JSON above which parsing leaves the event loop
PIECE = 8 * 1024  # characters of JSON that are parsed at once
LEVELS = 12  # levels of objects and arrays that are split; Python's recursion has a limit
TAIL = 1024 * 1024  # bytes that are kept of the end of a body that is too large

# The messages of these errors contain only host and port, or the reason. Messages of other errors
# contain full addresses, whose parameters may be secret, and their `repr` also the headers.
_WITHOUT_SECRETS = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
)

_NO_NUMBERS = re.compile(r"[\[\]{}\"]")  # a character that is not part of numbers and constants
_SPACE = re.compile(r"[ \t\n\r]*")


def _no_number(name: str) -> None:
    """Parse ``NaN`` and ``Infinity``, which Python writes and browsers reject, as None."""


_decoder = json.JSONDecoder(parse_constant=_no_number)


async def read(
    response: aiohttp.ClientResponse, limit: int, *, to_the_end: bool = False
) -> tuple[bytes, bool]:
    """Return the body of a response, or its end if the body is too large.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The response, of which nothing has been read.
    limit : int
        Maximum number of bytes that are kept.
    to_the_end : bool
        Whether the end of a body that is too large is needed; otherwise it is not read.

    Returns
    -------
    tuple of bytes and bool
        The body, and whether it is complete.
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
    """Return the body of a response. The limit counts the decompressed bytes.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The response, of which nothing has been read.
    limit : int
        Maximum size of the body in bytes.

    Raises
    ------
    aiohttp.ClientPayloadError
        The body is larger, or ends too early.
    """
    body, whole = await read(response, limit)
    if not whole:
        raise aiohttp.ClientPayloadError(f"the answer has more than {limit} bytes")
    return body


def loads(
    text: bytes | str,
    depth: int = 0,
    leaf: Callable[[Any], Any] | None = None,
    *,
    decoder: json.JSONDecoder = _decoder,
) -> Any:
    """Parse JSON. Call it in a thread if it is large.

    Python's parser holds the interpreter lock until it is done, and so blocks the event loop. Here,
    objects and arrays of more than `PIECE` characters are split, and their items are parsed one
    after the other; the event loop can run in between. A text counts as one value.

    Parameters
    ----------
    text : bytes or str
        The JSON; bytes are UTF-8.
    depth : int
        The level of nesting at which ``leaf`` is called.
    leaf : callable, optional
        Called with each value at that depth; its result replaces the value.
    decoder : json.JSONDecoder, optional
        Parses constants, numbers and the pairs of an object; by default ``NaN`` and ``Infinity``
        become None.

    Raises
    ------
    ValueError
        It is not JSON, or nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        if leaf is None and (len(text) <= PIECE or json_stream.in_worker):
            return decoder.decode(text)
        found, end = _Parser(text, decoder, leaf).value(_skip(text, 0), depth if leaf else 0)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _skip(text, end) != len(text):
        raise ValueError(f"there is more text after the end, at {end}")
    return found


async def parse(text: bytes | str) -> Any:
    """Parse JSON as `loads` does, in a thread if it is large.

    Raises
    ------
    ValueError
        As in `loads`.
    """
    if len(text) > LARGE:
        return await asyncio.to_thread(loads, text)
    return loads(text)


def text_of(error: BaseException) -> str:
    """Return the text of an error, else its class; without aiohttp's ``ssl:default``."""
    return re.sub(r" ssl:(<[^>]*>|\S+)(?= \[)", "", str(error)) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return the reason why a request failed, without address and headers, which may be secret."""
    if isinstance(error, _WITHOUT_SECRETS) and str(error):
        return text_of(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    status = f" ({error.status})" if isinstance(error, aiohttp.ClientResponseError) else ""
    return f"{type(error).__name__}{status}"


class _Parser:
    """Parses a text in pieces.

    Parameters
    ----------
    text : str
        The JSON.
    decoder : json.JSONDecoder
        Parses the pieces.
    leaf : callable or None
        As in `loads`.
    """

    def __init__(
        self, text: str, decoder: json.JSONDecoder, leaf: Callable[[Any], Any] | None
    ) -> None:
        self._text = text
        self._decoder = decoder
        self._leaf = leaf

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """Return the value that begins at ``at``, and the position of its end."""
        text, leaf = self._text, self._leaf
        if leaf is not None and depth == 0:
            value, at = _Parser(text, self._decoder, None).value(at, 0)
            return leaf(value), at
        kind = text[at : at + 1]
        if kind not in ("{", "["):
            return self._decoder.raw_decode(text, at)
        if leaf is None and depth == -LEVELS:
            return self._decoder.raw_decode(text, at)
        if leaf is None:
            piece = text[at : at + PIECE]
            # A value that is longer than the piece is incomplete in it, so it is split.
            with contextlib.suppress(ValueError, RecursionError):
                value, length = self._decoder.raw_decode(piece)
                return value, at + length
        return self._object(at, depth) if kind == "{" else self._array(at, depth)

    def _object(self, at: int, depth: int) -> tuple[Any, int]:
        text = self._text
        pairs: list[tuple[str, Any]] = []
        at = _skip(text, at + 1)
        while text[at : at + 1] != "}":
            key, at = self._decoder.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise ValueError(f"no key of an object at {at}")
            value, at = self.value(_skip(text, at + 1), depth - 1)
            pairs.append((key, value))
            at = self._next(at, "}")
        made: Callable[[list[tuple[str, Any]]], Any] | None = self._decoder.object_pairs_hook
        return dict(pairs) if made is None else made(pairs), at + 1

    def _array(self, at: int, depth: int) -> tuple[Any, int]:
        text = self._text
        items: list[Any] = []
        at = _skip(text, at + 1)
        while text[at : at + 1] != "]":
            piece = text[at : at + PIECE].rpartition(",")[0]
            if self._leaf is None and piece and _NO_NUMBERS.search(piece) is None:
                items += self._decoder.decode(f"[{piece}]")
                at += len(piece)
            else:
                value, at = self.value(at, depth - 1)
                items.append(value)
            at = self._next(at, "]")
        return items, at + 1

    def _next(self, at: int, end: str) -> int:
        """Return the position of the next item, or of the end of the items."""
        at = _skip(self._text, at)
        if self._text[at : at + 1] == end:
            return at
        if self._text[at : at + 1] != ",":
            raise ValueError(f"neither a comma nor an end at {at}")
        at = _skip(self._text, at + 1)
        if self._text[at : at + 1] == end:
            raise ValueError(f"a comma before an end, at {at}")
        return at


def _skip(text: str, at: int) -> int:
    """Return the position of the first character that is not white space."""
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
