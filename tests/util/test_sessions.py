"""The HTTP sessions of all requests."""

import re
import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from comfydeploy_jupyter.util.http import reason_of


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
def test_a_failed_connection_is_told_in_words(kind, cause, said):
    key = SimpleNamespace(host="site.test", port=443, is_ssl=True, ssl=True)
    text = reason_of(kind(key, cause))
    assert re.search(said, text)
    assert "ssl:" not in text
