"""The sessions that all requests are made with."""

from __future__ import annotations

import aiohttp
import pytest

from comfydeploy_jupyter.net.sessions import CONNECT_WITHIN, new_session

from ..comfyui_server import REPOSITORY


async def test_a_session_has_no_cookies_and_no_limit_of_the_whole_request():
    async with new_session() as session:
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert session.timeout == aiohttp.ClientTimeout(sock_connect=CONNECT_WITHIN)
        assert session.connector is not None
        assert session.connector.limit == 0


async def test_limits_and_a_connector_that_are_given():
    connector = aiohttp.TCPConnector()
    async with new_session(connector, connect=None, total=3, silence=2) as session:
        assert session.timeout == aiohttp.ClientTimeout(total=3, sock_read=2)
        assert session.connector is connector


@pytest.mark.parametrize("name", ["cloud", "comfyui", "machines", "transfers", "tunnel"])
def test_sessions_are_made_in_one_place(name):
    folder = REPOSITORY / "comfydeploy_jupyter" / name
    texts = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert [name for name, text in texts.items() if "ClientSession(" in text] == []
