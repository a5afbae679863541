"""The HTTP sessions of all requests."""

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


@pytest.mark.parametrize(
    ("call", "others"),
    [
        ("ClientSession(", []),
        ("asyncio.wait_for(", []),
        ("parsedate_to_datetime(", ["conditions.py"]),  # the date of a file, not a pause
    ],
)
def test_only_net_makes_sessions_and_similar_objects(call, others):
    package = REPOSITORY / "comfydeploy_jupyter"
    modules = [path for path in sorted(package.rglob("*.py")) if path.parent != package / "net"]
    assert len(modules) > 50
    assert [path.name for path in modules if call in path.read_text()] == others
