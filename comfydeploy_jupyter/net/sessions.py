"""Creates sessions of aiohttp with the limits that this package always uses."""

from __future__ import annotations

from typing import Any

import aiohttp

CONNECT_WITHIN = 15.0  # seconds in which a connection must open
KEEP_ALIVE = 30.0  # seconds for which an idle connection is kept open


def new_session(
    connector: aiohttp.BaseConnector | None = None,
    *,
    connect: float | None = CONNECT_WITHIN,
    total: float | None = None,
    silence: float | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return a session: a pool without a limit for the number of connections.

    It stores no cookies: otherwise cookies that a server sets for one user would be sent with the
    requests of another. aiohttp's default limit of five minutes for a whole request is not used,
    because requests may transfer gigabytes.

    Parameters
    ----------
    connector : aiohttp.BaseConnector, optional
        Opens the connections; by default an `aiohttp.TCPConnector`.
    connect : float or None
        Seconds to open a connection.
    total : float, optional
        Seconds for a whole request.
    silence : float, optional
        Seconds that may pass between two chunks of a response.
    **options
        Further arguments of `aiohttp.ClientSession`.
    """
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
        timeout=aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        **options,
    )


def without_redirects() -> aiohttp.TraceConfig:
    """Return a trace config that refuses redirects: ``ws_connect`` has no option for that."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientPayloadError("it answered with a redirect")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config
