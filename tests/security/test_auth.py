"""Permissions: every route, with both values of Jupyter's ``allow_unauthenticated_access``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from comfydeploy_jupyter.handlers import all_routes
from comfydeploy_jupyter.handlers.ws import EventSocket

from .conftest import EVIL, METHODS, is_refusal, routes

SAFE = ("GET", "HEAD")
SOCKETS = ("comfyui-deploy/ws", "comfyui/ws", "comfyui/api/ws")
SIGN_IN = "comfyui-deploy/auth-response"  # a GET that changes something
INVALID_CREDENTIALS = ({}, {"Authorization": "token wrong"}, {"Authorization": "Bearer wrong"})


@pytest.fixture(params=[True, False], ids=["open", "closed"])
def allow_unauthenticated(request):
    return request.param


async def test_requests_without_credentials_are_refused(call, recorder):
    for path in dict.fromkeys(path for _, path in routes()):
        for method in METHODS:
            for headers in INVALID_CREDENTIALS[: 1 + 2 * (method == "POST")]:
                response = await call(method, path, dict(headers))
                assert is_refusal(response), (method, path, headers, response.code)
    assert recorder.calls == []


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "QUERY"])
async def test_other_methods_are_refused(call, recorder, method):
    """``OPTIONS``, which browsers send before other requests, does nothing and returns no data."""
    for path in dict.fromkeys(path for _, path in routes()):
        response = await call(method, path, {})
        if method != "OPTIONS":
            assert response.code in (403, 405), (path, response.code)
        elif path.startswith("comfyui/") or path in SOCKETS:
            assert is_refusal(response)
        else:
            assert response.code in (200, 204, 405), (path, response.code)
            assert "Access-Control-Allow-Origin" not in response.headers
            assert not response.body or response.code == 405
    assert recorder.calls == []


async def test_the_authorizer_is_called_once_with_our_resource(
    call, recorder, extension, jp_auth_header
):
    await call("GET", "comfyui-deploy/check-status", dict(jp_auth_header))
    before = await _state(extension)
    recorder.allowed = ()
    for method, path in routes():
        recorder.calls.clear()
        response = await call(method, path, dict(jp_auth_header))
        action = "read" if method in SAFE and path != SIGN_IN else "write"
        if path in SOCKETS or path.startswith("comfyui/"):
            action = "execute"
        calls = [(action, resource) for _, action, resource in recorder.calls]
        assert calls == [(action, "comfydeploy")], (method, path)
        assert is_refusal(response), (method, path)
    assert await _state(extension) == before


async def _state(extension: Any) -> Any:
    """Return the data that the routes could have changed."""
    services = extension.services
    return (
        await services.runs.newest(),
        await services.transfers.queue.status(None),
        services.tunnels.summary(),
        [machine.id for machine in services.machines],
    )


async def test_xsrf_token_beside_a_cookie(call, recorder, cookie, xsrf, jp_auth_header):
    assert (await call("GET", "comfyui-deploy/runs", dict(cookie))).code == 200
    recorder.calls.clear()
    recorder.allowed = ()
    for method, path in routes():
        if method in SAFE:
            continue
        wrong = {**xsrf, "X-XSRFToken": "wrong"}
        for headers in (cookie, wrong, {**cookie, "Content-Type": "text/plain"}):
            assert is_refusal(await call(method, path, dict(headers))), (method, path)
        assert recorder.calls == []
        for headers in (xsrf, jp_auth_header):
            await call(method, path, dict(headers))
            assert len(recorder.calls) == 1, (method, path, headers)
            recorder.calls.clear()


async def test_refusals_say_why(call, recorder, cookie, jp_auth_header):
    async def sentence(headers: dict[str, str], path: str = "comfyui-deploy/runs") -> str:
        method = "POST" if path.endswith("/run") else "GET"
        response = await call(method, path, headers)
        assert is_refusal(response)
        return json.loads(response.body)["error"]

    run = "comfyui-deploy/run"
    for path in (run, "comfyui-deploy/runs"):
        assert "token or login is needed" in await sentence({}, path)
        assert "token or login is needed" in await sentence({"Origin": EVIL}, run)
        foreign = {**cookie, "Origin": EVIL}
        assert "page of another origin" in await sentence(foreign, path)
        host = {**jp_auth_header, "Host": "rebound.example:8888"}
        assert "does not accept the host name 'rebound.example'" in await sentence(host, path)
    assert "X-XSRFToken" in await sentence(dict(cookie), run)


async def test_other_names_of_this_server_are_refused(call, recorder, jp_auth_header, cookie):
    """Otherwise a page whose host name resolves to this server would have our origin."""
    for method, path in routes():
        for headers in (jp_auth_header, {**cookie, "Origin": "http://rebound.example"}):
            response = await call(method, path, {**headers, "Host": "rebound.example"})
            assert is_refusal(response), (method, path)
    assert recorder.calls == []


FOREIGN = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: "-".join(h.values()))
async def test_pages_of_other_sites_cannot_use_the_login(call, recorder, cookie, xsrf, headers):
    """This includes pages that can set our cookies, such as those on a sibling domain."""
    for method, path in routes():
        page = cookie if method in SAFE else xsrf
        response = await call(method, path, {**page, **headers})
        assert is_refusal(response), (method, path)
    assert recorder.calls == []


async def test_links_from_other_sites_show_but_do_nothing(call, cookie):
    link = {
        **cookie,
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert (await call("GET", "comfyui-deploy/runs", dict(link))).code == 200
    framed = {**link, "Sec-Fetch-Dest": "iframe"}
    assert is_refusal(await call("GET", "comfyui-deploy/runs", framed))
    # Else a link could sign a user in to the account of somebody else.
    assert is_refusal(await call("GET", f"{SIGN_IN}?request_id=theirs", dict(link)))


async def test_a_sign_in_is_checked_like_a_post_request(call, recorder, cookie, xsrf, origin):
    """A link, or a page that has only the cookie, cannot start a sign-in."""
    path = f"{SIGN_IN}?request_id=theirs"
    recorder.allowed = ()
    same = {"Sec-Fetch-Site": "same-origin", "Referer": f"{origin}/lab"}
    host = {"Host": origin.removeprefix("http://")}
    token = xsrf["X-XSRFToken"]
    for headers in (
        {},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {**same, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {**same, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {**same, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {**same, "X-XSRFToken": "wrong"},
    ):
        given = {"Cookie": xsrf["Cookie"], **host, **headers}
        answer = await call("GET", path, given)
        assert is_refusal(answer), headers
        assert "_xsrf" in json.loads(answer.body)["error"]
    assert recorder.calls == []
    own = {"Cookie": xsrf["Cookie"], **host, **same, "Sec-Fetch-Mode": "cors"}
    for address, headers in ((path, {"X-XSRFToken": token}), (f"{path}&_xsrf={token}", {})):
        assert is_refusal(await call("GET", address, {**own, **headers}))
        assert [action for _, action, _ in recorder.calls] == ["write"]
        recorder.calls.clear()


@pytest.mark.parametrize("server_settings", [{}, {"allow_origin": "*"}], ids=["own", "all"])
async def test_a_page_at_another_port_cannot_sign_in(call, recorder, xsrf, origin):
    """It sets the cookie of the XSRF token, since cookies know no ports, and follows a link."""
    recorder.allowed = ()
    token = xsrf["X-XSRFToken"]
    path = f"{SIGN_IN}?request_id=theirs&_xsrf={token}"
    given = {"Cookie": xsrf["Cookie"], "Host": origin.removeprefix("http://")}
    opened = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for site in ("same-site", "cross-site"):
        answer = await call("GET", path, {**given, **opened, "Sec-Fetch-Site": site})
        assert is_refusal(answer), site
        assert "page of another origin" in json.loads(answer.body)["error"]
    # over http to another host, browsers do not report who sends a request
    for headers in ({}, {"Referer": f"{origin}/lab"}):
        answer = await call("GET", path, {**given, **headers})
        assert is_refusal(answer), headers
        assert "X-XSRFToken" in json.loads(answer.body)["error"]
    assert recorder.calls == []
    for headers in (
        {"X-XSRFToken": token},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", **opened},
    ):
        assert is_refusal(await call("GET", path, {**given, **headers}))
        assert [action for _, action, _ in recorder.calls] == ["write"], headers
        recorder.calls.clear()


async def test_programs_and_our_own_pages_are_accepted(call, cookie, origin, jp_auth_header):
    host = {"Host": origin.removeprefix("http://")}
    sites = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    for headers in (
        cookie,
        {**cookie, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {**cookie, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {**cookie, **host, "Origin": origin},
        {**jp_auth_header, **sites, "Origin": EVIL},
    ):
        assert (await call("GET", "comfyui-deploy/runs", dict(headers))).code == 200, headers


@pytest.mark.parametrize("path", SOCKETS)
async def test_sockets(call, extension, recorder, xsrf, origin, jp_base_url, jp_auth_header, path):
    port = origin.rpartition(":")[2]
    url = f"ws://127.0.0.1:{port}{jp_base_url}{path}"
    cookie = {"Cookie": xsrf["Cookie"]}
    own = {**xsrf, "Host": origin.removeprefix("http://"), "Origin": origin}
    for headers in (
        {},
        {"Authorization": "token wrong"},
        {"Origin": origin},
        {**own, "Origin": EVIL},
        {**own, "Origin": "null"},
        {**own, "Host": "rebound.example", "Origin": "http://rebound.example"},
        # other pages may be of the same origin, and programs that have a cookie have its token
        {**own, "X-XSRFToken": ""},
        {**own, "X-XSRFToken": "wrong"},
        {**own, "X-XSRFToken": "", "Referer": f"{origin}/lab"},
        cookie,
    ):
        with pytest.raises(HTTPClientError) as refused:
            await websocket_connect(HTTPRequest(url, headers=headers))
        assert refused.value.code == 403, headers
    assert recorder.calls == []
    in_query = f"{url}?_xsrf={xsrf['X-XSRFToken']}"  # browsers can set no header
    for address, headers in ((url, jp_auth_header), (url, own), (url, xsrf), (in_query, cookie)):
        socket = await websocket_connect(HTTPRequest(address, headers=headers))
        socket.close()
        while await socket.read_message() is not None:
            pass
    assert [action for _, action, _ in recorder.calls] == ["execute"] * 4


async def test_there_are_no_other_sockets(call, recorder, xsrf, origin, jp_auth_header):
    """JupyterHub lets a page of another user open one with the cookie alone: a GET may act."""
    recorder.allowed = ()
    own = {**xsrf, "Host": origin.removeprefix("http://"), "Origin": origin}
    key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    upgrade = {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}
    of_browser = {"Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "websocket"}
    for method, path in routes():
        if method != "GET" or path in SOCKETS:
            continue
        for headers in ({**upgrade, **key}, {**upgrade, **of_browser}, key, of_browser):
            for known in ({"Cookie": xsrf["Cookie"]}, own, jp_auth_header):
                answer = await call("GET", path, {**known, **headers})
                assert is_refusal(answer), (path, headers)
    assert recorder.calls == []


class TestAllowedOrigin:
    """The administrator of the server allows the pages of one other site."""

    @pytest.fixture
    def server_settings(self):
        return {"allow_origin": "https://friend.example"}

    async def test_only_its_pages_are_accepted(self, call, cookie):
        sites = {**cookie, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        friend = {**sites, "Origin": "https://friend.example"}
        assert (await call("GET", "comfyui-deploy/runs", friend)).code == 200
        for headers in (sites, {**sites, "Origin": EVIL}, {**cookie, "Origin": EVIL}):
            assert is_refusal(await call("GET", "comfyui-deploy/runs", dict(headers)))


def test_the_list_above_has_every_route():
    assert ("POST", "comfyui-deploy/run") in routes()
    assert ("GET", "comfyui-deploy/ws") in routes()
    assert ("DELETE", "comfyui/no-such-route") in routes()
    patterns = dict(all_routes())
    bare = {pattern for pattern in patterns if f"{pattern}/.*" in patterns}
    assert len({path for _, path in routes()}) == len(patterns.keys() - bare)
    assert EventSocket.auth_action == "execute"
