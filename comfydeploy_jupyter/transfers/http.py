"""What all transfers share of HTTP: which answers are worth another try, and after what pause."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from ..net.responses import parse, read_whole, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_TIMEOUT = 15.0  # seconds
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again then
SNIPPET = 2048  # bytes of an error's body that are looked at
LARGEST_JSON = 16 * 1024 * 1024  # bytes; answers of a model site with all its versions have some
PASSING_STATUSES = frozenset({408, 425, 429})  # refusals that may be over soon


class TransferError(Exception):
    """A step of a transfer failed.

    Parameters
    ----------
    message : str
        Why, in one sentence, without addresses that are secrets.
    again : bool
        Whether another attempt may succeed.
    after : float, optional
        Seconds that the server wants to be left alone.
    """

    def __init__(self, message: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.again = again
        self.after = after


@dataclass(frozen=True)
class Backoff:
    """The pauses between attempts: doubled each time, with jitter, never shorter than asked for.

    Attributes
    ----------
    first, largest : float
        Seconds.
    attempts : int
        Fruitless attempts in a row after which a transfer is given up.
    """

    first: float = 1.0
    largest: float = 60.0
    attempts: int = 8

    def pause(self, attempt: int, after: float | None = None) -> float:
        """Return the seconds to wait after the given attempt, counted from 1."""
        limit = min(self.first * 2.0 ** min(attempt - 1, 30), self.largest)
        jittered = random.uniform(limit / 2, limit)
        return jittered if after is None else max(after + random.uniform(0, self.first), jittered)


def new_session(
    connector: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any
) -> aiohttp.ClientSession:
    """Return a connection pool for transfers.

    No time limit is set on a whole request, which may carry gigabytes; who starts one watches that
    it moves. Addresses are used as they are given: some are signed.

    Parameters
    ----------
    connector : type
        Makes the connections.
    **options
        Further options of it.
    """
    return aiohttp.ClientSession(
        connector=connector(limit=0, keepalive_timeout=30, **options),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        requote_redirect_url=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


@asynccontextmanager
async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    what: str,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    redirects: bool = False,
    passes: tuple[int, ...] = (),
    **kwargs: Any,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Make a request and hand out an answer that is not an error.

    Parameters
    ----------
    session : aiohttp.ClientSession
        See `new_session`.
    method, url : str
        As in HTTP; the address is sent as it is.
    what : str
        What to call the other side in messages, e.g. ``the upload endpoint``.
    token : str, optional
        Sent as bearer token, to this host only.
    headers : dict, optional
        Further headers.
    redirects : bool
        Whether redirects are followed; the token does not follow to another host.
    passes : tuple of int
        Error statuses that are handed out too.

    Raises
    ------
    TransferError
        If there is no such answer, or the connection breaks while the caller reads it.
    """
    address = _address(url, what)
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    try:
        async with session.request(
            method, address, headers=sent, allow_redirects=redirects, **kwargs
        ) as response:
            if response.status >= 300 and response.status not in passes:
                raise await _refusal(response, what)
            yield response
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as fault:
        message = f"{what} does not answer properly: {reason_of(fault)}"
        raise TransferError(message, again=True) from None


async def get_json(response: aiohttp.ClientResponse, what: str) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises
    ------
    TransferError
        If it is none; a proxy's error page may be gone at the next attempt.
    """
    try:
        answer = await parse(await read_whole(response, LARGEST_JSON))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TransferError(f"{what} answered something that is no JSON object", again=True)
    return answer


def _address(url: str, what: str) -> URL:
    try:
        address = URL(url, encoded=True)
        valid = address.scheme in ("http", "https") and bool(address.host)
    except ValueError:
        valid = False
    if not valid:
        raise TransferError(f"{what} has no valid http:// or https:// address", again=False)
    return address


async def _refusal(response: aiohttp.ClientResponse, what: str) -> TransferError:
    status = response.status
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    if status < 400:
        return TransferError(f"{what} answered with a redirect ({phrase})", again=False)
    text = (await response.content.read(SNIPPET)).decode(errors="replace")
    # S3 answers in XML; of it only the code, as the rest repeats the signed address.
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return TransferError(
        f"{what} answered {phrase}{f' ({found.group(1)})' if found else ''}",
        again=status >= 500 or status in PASSING_STATUSES,
        after=_retry_after(response.headers.get("Retry-After", ""), response.headers.get("Date")),
    )


def _retry_after(value: str, now: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, given as a number or a date.

    A date is meant by the server's own clock, which its header ``Date`` tells.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            here = time.time() if now is None else parsedate_to_datetime(now).timestamp()
            seconds = parsedate_to_datetime(value).timestamp() - here
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else None
