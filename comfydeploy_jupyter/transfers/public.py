"""Connections to public addresses only, for links from workflow files."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import psutil
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from ..util.sessions import KEEP_ALIVE
from .http import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Addresses of cloud providers that look public, but belong to services of the machine (Azure)."""

_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".localdomain", ".home.arpa")


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
            resolver=_PublicResolver(self._allowed), limit=0, keepalive_timeout=KEEP_ALIVE
        )

    async def connect(self, req: ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        """Return a connection for a request."""
        host, port = req.url.host or "", req.url.port or 0
        if (host, port) not in self._allowed:
            # aiohttp does not use the resolver for numeric addresses.
            found = _host_objection(host)
            if found is not None:
                raise TransferError(found, again=False)
        return await super().connect(req, *args, **kwargs)


class _PublicResolver(AbstractResolver):
    """Resolves names, and refuses private addresses."""

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


_DEFAULT_PORTS = {"http": 80, "https": 443}


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
        f"the link leads to {host}, which is inside this machine or its network; a workflow file"
        " may name public addresses only"
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
    """Return the addresses of this machine, including its public ones."""
    found = set()
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(one.address.partition("%")[0]))
    return frozenset(found)
