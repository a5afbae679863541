"""HTTP requests of transfers: which failed ones can be repeated, and which addresses are public.

Links from workflow files may lead to public addresses only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import psutil
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from ..util import http
from ..util.http import read_whole, reason_of
from ..util.secrets import is_key
from ..util.times import Backoff, retry_after
from ..util.worker import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

BACKOFF = Backoff(attempts=8)  # pauses between the attempts of one transfer
SNIPPET = 2048  # bytes of the body of an error that are read
MAX_JSON = 16 * 1024 * 1024  # bytes; the response for a model with all its versions has some MB
PASSING_STATUSES = frozenset({408, 425, 429})  # refusals that may be temporary

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Addresses of cloud providers that look public, but belong to services of the machine (Azure).
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".localdomain", ".home.arpa")


class TransferError(Exception):
    """A step of a transfer failed, for a reason in one sentence without secret addresses.

    ``again``: another attempt may succeed; ``after``: seconds that the server demands before it.
    """

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
    return http.new_session(connector, requote_redirect_url=False, auto_decompress=False)


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
    """Send a request and yield a response that is not an error, or has a status in ``passes``.

    The address is sent unchanged, the token to this host only. ``what`` names the server in
    messages. `TransferError` if there is no such response, or the connection breaks while the
    caller reads it.
    """
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
        is_unreached = isinstance(error, aiohttp.ClientConnectorError)
        said = "cannot be reached" if is_unreached else "did not answer correctly"
        raise TransferError(f"{what} {said}: {reason_of(error)}", again=True) from None


async def get_json(response: aiohttp.ClientResponse, what: str) -> dict[str, Any]:
    try:
        answer = await parse(await read_whole(response, MAX_JSON))
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


# -- public addresses -------------------------------------------------------------------------


def objection(url: str, allowed: Iterable[str] = ()) -> str | None:
    """Return the reason why a link from a file is refused, without any DNS request.

    Names are looked up, and redirects checked, when the connection is made: see `PublicConnector`.
    """
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
        port = parts.port
    except ValueError:
        return "the link is not a valid address"
    if scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
        return "the link is not an http:// or https:// address"
    if (host, port or _DEFAULT_PORTS[scheme]) in _origins(allowed):
        return None
    return _host_objection(host)


class PublicConnector(aiohttp.TCPConnector):
    """Connects to public addresses, and to allowed sites at any address.

    Each connection is checked by its IP address, after the name was resolved. So a name that
    resolves to a private address, at the first or at a later request, is refused, and so is a
    redirect to a private address.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = _origins(allowed)
        super().__init__(
            resolver=_PublicResolver(self._allowed), limit=0, keepalive_timeout=http.KEEP_ALIVE
        )

    async def connect(self, req: ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        host, port = req.url.host or "", req.url.port or 0
        if (host, port) not in self._allowed:
            # aiohttp does not use the resolver for numeric addresses.
            found = _host_objection(host)
            if found is not None:
                raise TransferError(found, again=False)
        return await super().connect(req, *args, **kwargs)


class _PublicResolver(AbstractResolver):
    def __init__(self, allowed: frozenset[tuple[str, int]]) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if (host, port) in self._allowed:
            return found
        own = await asyncio.to_thread(_own_addresses)
        for one in found:
            address = ipaddress.ip_address(one["host"])
            if address in own or not _is_public(address):
                raise TransferError(_inside(host), again=False)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _origins(urls: Iterable[str]) -> frozenset[tuple[str, int]]:
    parts = [urlsplit(url) for url in urls]
    return frozenset(
        (part.hostname, part.port or _DEFAULT_PORTS[part.scheme])
        for part in parts
        if part.hostname and part.scheme in _DEFAULT_PORTS
    )


def _host_objection(host: str) -> str | None:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(_LOCAL_NAMES):
        return _inside(host)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # Numeric forms that C libraries accept: 127.1, 0x7f000001, 2130706433.
            address = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return None if _is_public(address) and address not in _own_addresses() else _inside(host)


def _inside(host: str) -> str:
    return (
        f"the link leads to {host}, which is inside this machine or its network; workflow files"
        " and node definitions may name public addresses only"
    )


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and address not in _METADATA


def _own_addresses() -> frozenset[Address]:
    found = set()
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(one.address.partition("%")[0]))
    return frozenset(found)
