"""Permissions: every route, with both values of Jupyter's ``allow_unauthenticated_access``."""

import json

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from .conftest import EVIL, METHODS, is_refusal, routes

SAFE = ("GET", "HEAD")
SOCKETS = ("comfyui-deploy/ws", "comfyui-deploy/overview", "comfyui/ws", "comfyui/api/ws")
SIGN_IN = "comfyui-deploy/auth-response"  # a GET that changes something
RUNS = "comfyui-deploy/runs"
PATHS = list(dict.fromkeys(path for _, path in routes()))
INVALID_CREDENTIALS = ({}, {"Authorization": "token wrong"}, {"Authorization": "Bearer wrong"})
open_and_closed = pytest.mark.parametrize(
    "allow_unauthenticated", [True, False], ids=["open", "closed"]
)
OPENED = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
FRIEND = "https://friend.example"


@pytest.fixture
def allow_unauthenticated():
    return True


@open_and_closed
async def test_requests_without_credentials_are_refused(call, recorder):
    for path in PATHS:
        for method in METHODS:
            for headers in INVALID_CREDENTIALS[: 1 + 2 * (method == "POST")]:
                response = await call(method, path, dict(headers))
                assert is_refusal(response), (method, path, headers, response.code)
    assert recorder.calls == []


@open_and_closed
async def test_other_methods_are_refused(call, recorder):
    """``OPTIONS``, which browsers send before other requests, does nothing and returns no data."""
    for path in PATHS:
        for method in ("TRACE", "CONNECT", "PROPFIND", "QUERY"):
            response = await call(method, path, {})
            assert response.code in (403, 405), (method, path, response.code)
        response = await call("OPTIONS", path, {})
        if path.startswith("comfyui/") or path in SOCKETS:
            assert is_refusal(response)
        else:
            assert response.code in (200, 204, 405), (path, response.code)
            assert "Access-Control-Allow-Origin" not in response.headers
            assert not response.body or response.code == 405
    assert recorder.calls == []


@open_and_closed
async def test_the_authorizer_is_called_once_with_our_resource(
    call, recorder, extension, jp_auth_header
):
    async def state():
        """Return the data that the routes could have changed."""
        services = extension.services
        return (
            await services.runs.newest(),
            await services.transfers.queue.status(None),
            services.tunnels.summary(),
            [machine.id for machine in services.machines],
        )

    await call("GET", "comfyui-deploy/check-status", dict(jp_auth_header))
    before = await state()
    recorder.allowed = ()
    for method, path in routes():
        recorder.calls.clear()
        response = await call(method, path, dict(jp_auth_header))
        action = "read" if method in SAFE and path != SIGN_IN else "write"
        if path in SOCKETS or path.startswith("comfyui/"):
            action = "read" if path.endswith("/overview") else "execute"
        calls = [(action, resource) for _, action, resource in recorder.calls]
        assert calls == [(action, "comfydeploy")], (method, path)
        assert is_refusal(response), (method, path)
    assert await state() == before


async def test_xsrf_token_beside_a_cookie(call, recorder, cookie, xsrf, jp_auth_header):
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
    run, foreign = "comfyui-deploy/run", {**cookie, "Origin": EVIL}
    other_host = {**jp_auth_header, "Host": "rebound.example:8888"}
    host = "does not accept the host name 'rebound.example'"
    for method, path, headers, why in (
        ("POST", run, {}, "token or login is needed"),
        ("GET", RUNS, {}, "token or login is needed"),
        ("POST", run, {"Origin": EVIL}, "token or login is needed"),
        ("POST", run, foreign, "page of another origin"),
        ("GET", RUNS, foreign, "page of another origin"),
        ("POST", run, other_host, host),
        ("GET", RUNS, other_host, host),
        ("POST", run, cookie, "X-XSRFToken"),
    ):
        response = await call(method, path, dict(headers))
        assert is_refusal(response)
        assert why in json.loads(response.body)["error"], (path, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {"Origin": "http://rebound.example", "Host": "rebound.example"},
    ],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_pages_of_other_sites_cannot_use_the_login(
    call, recorder, cookie, xsrf, jp_auth_header, headers
):
    """Such as those on a sibling domain, which can set our cookies, or whose name leads here."""
    for method, path in routes():
        page = cookie if method in SAFE else xsrf
        for known in (page, jp_auth_header) if "Host" in headers else (page,):
            response = await call(method, path, {**known, **headers})
            assert is_refusal(response), (method, path)
    assert recorder.calls == []


async def test_who_may_read(call, cookie, origin, jp_auth_header):
    """Programs, our own pages, and links of other sites, which show but do nothing."""
    link = {**cookie, **OPENED, "Sec-Fetch-Site": "cross-site"}
    quiet = {**cookie, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"}
    for headers, accepted in (
        (cookie, True),
        ({**cookie, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, True),
        ({**cookie, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
        ({**cookie, "Host": origin.removeprefix("http://"), "Origin": origin}, True),
        ({**jp_auth_header, **CROSS_SITE, "Origin": EVIL}, True),
        # what a page shows, and what a script of another user's page could read
        ({**quiet, "Sec-Fetch-Dest": "image"}, True),
        (quiet, False),
        (link, True),
        ({**link, "Sec-Fetch-Dest": "iframe"}, False),
    ):
        response = await call("GET", RUNS, dict(headers))
        assert response.code == 200 if accepted else is_refusal(response), headers
    # Else a link could sign a user in to the account of somebody else.
    assert is_refusal(await call("GET", f"{SIGN_IN}?request_id=theirs", dict(link)))


async def test_a_sign_in_is_checked_like_a_post_request(call, recorder, cookie, xsrf, origin):
    """A link, or a page that has only the cookie, cannot start a sign-in."""
    path = f"{SIGN_IN}?request_id=theirs"
    recorder.allowed = ()
    same = {"Sec-Fetch-Site": "same-origin", "Referer": f"{origin}/lab"}
    given = {"Cookie": xsrf["Cookie"], "Host": origin.removeprefix("http://")}
    token = xsrf["X-XSRFToken"]
    for headers in (
        {},
        {"Sec-Fetch-Site": "none", **OPENED},
        {**same, **OPENED},
        {**same, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {**same, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {**same, "X-XSRFToken": "wrong"},
    ):
        answer = await call("GET", path, {**given, **headers})
        assert is_refusal(answer), headers
        assert "_xsrf" in json.loads(answer.body)["error"]
    assert recorder.calls == []
    own = {**given, **same, "Sec-Fetch-Mode": "cors"}
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
    for headers, why in (
        ({**OPENED, "Sec-Fetch-Site": "same-site"}, "page of another origin"),
        ({**OPENED, "Sec-Fetch-Site": "cross-site"}, "page of another origin"),
        # over http to another host, browsers do not report who sends a request
        ({}, "X-XSRFToken"),
        ({"Referer": f"{origin}/lab"}, "X-XSRFToken"),
    ):
        answer = await call("GET", path, {**given, **headers})
        assert is_refusal(answer), headers
        assert why in json.loads(answer.body)["error"]
    assert recorder.calls == []
    for headers in (
        {"X-XSRFToken": token},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", **OPENED},
    ):
        assert is_refusal(await call("GET", path, {**given, **headers}))
        assert [action for _, action, _ in recorder.calls] == ["write"], headers
        recorder.calls.clear()


@open_and_closed
async def test_sockets(call, extension, recorder, xsrf, origin, jp_base_url, jp_auth_header):
    cookie = {"Cookie": xsrf["Cookie"]}
    own = {**xsrf, "Host": origin.removeprefix("http://"), "Origin": origin}
    for path in SOCKETS:
        url = f"ws://127.0.0.1:{origin.rpartition(':')[2]}{jp_base_url}{path}"
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
        for address, headers in (
            (url, jp_auth_header),
            (url, own),
            (url, xsrf),
            (in_query, cookie),
        ):
            socket = await websocket_connect(HTTPRequest(address, headers=headers))
            socket.close()
            while await socket.read_message() is not None:
                pass
        needed = "read" if path.endswith("/overview") else "execute"
        assert [action for _, action, _ in recorder.calls] == [needed] * 4
        recorder.calls.clear()


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
        for headers, known in (
            ({**upgrade, **key}, {"Cookie": xsrf["Cookie"]}),
            ({**upgrade, **of_browser}, own),
            ({**upgrade, **key}, jp_auth_header),
            (key, jp_auth_header),
            (of_browser, jp_auth_header),
        ):
            answer = await call("GET", path, {**known, **headers})
            assert is_refusal(answer), (path, headers)
    assert recorder.calls == []


@pytest.mark.parametrize("server_settings", [{"allow_origin": FRIEND}])
async def test_an_administrator_may_allow_the_pages_of_another_site(call, cookie):
    sites = {**cookie, **CROSS_SITE}
    assert (await call("GET", RUNS, {**sites, "Origin": FRIEND})).code == 200
    for headers in (sites, {**sites, "Origin": EVIL}, {**cookie, "Origin": EVIL}):
        assert is_refusal(await call("GET", RUNS, dict(headers)))
