"""Sessions of aiohttp, with the limits that this package always sets."""

from __future__ import annotations

from typing import Any

import aiohttp

CONNECT_WITHIN = 15.0  # seconds to open a connection to a server
KEEP_ALIVE = 30.0  # seconds that a connection without a request stays open


def new_session(
    connector: aiohttp.BaseConnector | None = None,
    *,
    connect: float | None = CONNECT_WITHIN,
    total: float | None = None,
    silence: float | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return a session: a pool of any number of connections.

    It keeps no cookies: those that a server sets for one user would else be sent with the requests
    of another. aiohttp's own limit of five minutes for a whole request does not hold: requests may
    carry gigabytes.

    Parameters
    ----------
    connector : aiohttp.BaseConnector, optional
        Makes the connections; by default an `aiohttp.TCPConnector`.
    connect : float or None
        Seconds to open a connection.
    total : float, optional
        Seconds for a whole request.
    silence : float, optional
        Seconds that may pass between two pieces of a response.
    **options
        Further arguments of `aiohttp.ClientSession`.
    """
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
        timeout=aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        **options,
    )
