"""The HTTP sessions of all requests."""

from __future__ import annotations

import aiohttp

from comfydeploy_jupyter.util.http import CONNECT_TIMEOUT, new_session


async def test_a_session_has_no_cookies_and_no_limit_of_the_whole_request():
    async with new_session() as session:
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert session.timeout == aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT)
        assert session.connector is not None
        assert session.connector.limit == 0


async def test_limits_and_a_connector_that_are_given():
    connector = aiohttp.TCPConnector()
    async with new_session(connector, connect=None, total=3, silence=2) as session:
        assert session.timeout == aiohttp.ClientTimeout(total=3, sock_read=2)
        assert session.connector is connector
