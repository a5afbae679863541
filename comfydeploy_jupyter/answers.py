"""Reading what other servers answer: within bounds, and without telling their addresses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

LARGE = 64 * 1024  # bytes of JSON above which parsing leaves the event loop
# What these say is host and port, or what is wrong with the bytes. Others tell whole addresses,
# whose parameters may be secrets, and their `repr` the headers of the request too.
_TELLING = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientPayloadError,
    aiohttp.ServerDisconnectedError,
)


async def read_answer(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """Return the body of an answer; one that is compressed counts as what it unpacks to.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The answer, its body not yet read.
    largest : int
        Bytes that it may have.

    Raises
    ------
    aiohttp.ClientPayloadError
        It has more, or breaks off.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > largest:
            raise aiohttp.ClientPayloadError(f"the answer has more than {largest} bytes")
        parts.append(part)
    return b"".join(parts)


async def decode_answer(text: bytes) -> Any:
    """Return the JSON value in the body of an answer; a large one is parsed in a thread.

    Raises
    ------
    ValueError
        It is none, or nested too deeply.
    """
    return await asyncio.to_thread(_decode, text) if len(text) > LARGE else _decode(text)


def reason_of(fault: BaseException) -> str:
    """Return why a request failed, in words that may be told: without address and headers."""
    if isinstance(fault, _TELLING) and str(fault):
        return str(fault)
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    status = f" ({fault.status})" if isinstance(fault, aiohttp.ClientResponseError) else ""
    return f"{type(fault).__name__}{status}"


def _decode(text: bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
