"""HTTP requests of transfers: which failed ones are worth another attempt."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from ..net import sessions
from ..net.backoff import retry_after
from ..net.responses import parse, read_whole, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


def new_session(connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """Return a session for transfers.

    No time limit is set on a whole request, which may carry gigabytes: whoever starts one watches
    that bytes arrive. Addresses are used as they are given, since some are signed.

    Parameters
    ----------
    connector : aiohttp.BaseConnector, optional
        Makes the connections.
    """
    return sessions.new_session(connector, requote_redirect_url=False, auto_decompress=False)


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
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        message = f"{what} does not answer properly: {reason_of(error)}"
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
    # S3 answers in XML. Only the code is used: the rest repeats the signed address.
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return TransferError(
        f"{what} answered {phrase}{f' ({found.group(1)})' if found else ''}",
        again=status >= 500 or status in PASSING_STATUSES,
        after=retry_after(response.headers.get("Retry-After"), response.headers.get("Date")),
    )
