"""The HTTP sessions of all requests."""

from __future__ import annotations

import re
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from comfydeploy_jupyter.util.http import CONNECT_TIMEOUT, new_session, reason_of


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


@pytest.mark.parametrize(
    ("kind", "cause", "said"),
    [
        (aiohttp.ClientConnectorError, ConnectionRefusedError(111, "x"), "refuses the connection"),
        (
            aiohttp.ClientConnectorError,
            OSError(101, "x"),
            "no connection to port 443 of site.test: ",
        ),
        (aiohttp.ClientConnectorDNSError, OSError(None, "x"), "the name site.test cannot be found"),
        (aiohttp.ClientConnectorSSLError, ssl.SSLError(1, "too old"), "site.test: .*too old"),
        (
            aiohttp.ClientConnectorCertificateError,
            ssl.SSLCertVerificationError(1, "it has expired"),
            "the certificate of site.test is not accepted: .*expired",
        ),
    ],
)
def test_a_failed_connection_is_told_in_words(kind: Any, cause: OSError, said: str) -> None:
    key = SimpleNamespace(host="site.test", port=443, is_ssl=True, ssl=True)
    text = reason_of(kind(key, cause))
    assert re.search(said, text)
    assert "ssl:" not in text
