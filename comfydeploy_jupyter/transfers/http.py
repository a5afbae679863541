"""HTTP requests of transfers, and which failed requests can be repeated."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from ..schemas.base import is_key
from ..util import sessions
from ..util.backoff import retry_after
from ..util.responses import parse, read_whole, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SNIPPET = 2048  # bytes of the body of an error that are read
LARGEST_JSON = 16 * 1024 * 1024  # bytes; the response for a model with all its versions has some MB
PASSING_STATUSES = frozenset({408, 425, 429})  # refusals that may be temporary


class TransferError(Exception):
    """A step of a transfer failed."""

    def __init__(self, message: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.again = again
        self.after = after


def new_session(connector: aiohttp.BaseConnector | None = None) -> aiohttp.ClientSession:
    """Return a session for transfers.

    There is no time limit for a whole request, which may transfer gigabytes: callers check that
    bytes arrive. Addresses are not normalised, since some are signed.
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
    """Send a request and yield a response that is not an error."""
    address = _address(url, what)
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    if token:
        if not is_key(token):
            where = what[0].lower() + what[1:]
            message = f"The key for {where} contains characters that are not allowed in keys"
            raise TransferError(message, again=False)
        sent["Authorization"] = f"Bearer {token}"
    try:
        async with session.request(
            method, address, headers=sent, allow_redirects=redirects, **kwargs
        ) as response:
            if response.status >= 300 and response.status not in passes:
                raise await _refusal(response, what)
            yield response
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        message = f"{what} did not answer correctly: {reason_of(error)}"
        raise TransferError(message, again=True) from None


async def get_json(response: aiohttp.ClientResponse, what: str) -> dict[str, Any]:
    """Return the JSON object in a response."""
    try:
        answer = await parse(await read_whole(response, LARGEST_JSON))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TransferError(f"{what} did not return a JSON object", again=True)
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
    # S3 responds in XML. Only the code is used: the rest contains the signed address.
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return TransferError(
        f"{what} answered {phrase}{f' ({found.group(1)})' if found else ''}",
        again=status >= 500 or status in PASSING_STATUSES,
        after=retry_after(response.headers.get("Retry-After"), response.headers.get("Date")),
    )
