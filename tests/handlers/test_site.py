"""ComfyDeploy's web site through Jupyter: a real site, and single bytes of the requests."""

import asyncio
import json
from urllib.parse import quote

import pytest
from aiohttp import web

from comfydeploy_jupyter.compat.comfydeploy import WebProxy
from comfydeploy_jupyter.errors import CloudError
from tests.helpers.bodies import Wire

MIB = 1024 * 1024
MUCH = 256 * MIB  # more than the kernel's buffers hold, by far


class FakeSite:
    """A web site that records the path as it was sent, method, headers and body of requests."""

    def __init__(self):
        self.seen = []
        self.read = asyncio.Event()
        self.stuck = asyncio.Event()
        self.answer = asyncio.Event()
        self.requested = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def start(self):
        app = web.Application(client_max_size=2 * MUCH)
        for path, handler in {
            "/hold": self._hold,
            "/never": self._never,
            "/much": self._much,
            "/half": self._half,
            "/half-chunked": self._half,
            "/drip": self._drip,
            "/refuse": self._refuse,
            "/{tail:.*}": self._echo,
        }.items():
            app.router.add_route("*", path, handler)
        self.runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _echo(self, request):
        body, headers = await request.read(), request.headers.copy()
        seen = {"path": request.raw_path, "method": request.method, "headers": headers}
        self.seen.append({**seen, "body": body})
        status = int(request.query.get("status", 200))
        headers = {
            "Content-Type": request.query.get("type", "text/html"),
            "Set-Cookie": "session=theirs",
            "Clear-Site-Data": '"*"',
            "Strict-Transport-Security": "max-age=1",
            "Access-Control-Allow-Origin": "*",
            "Content-Security-Policy": "script-src *",
            "Service-Worker-Allowed": "/",
            "ETag": '"7"',
        }
        if "to" in request.query:
            headers["Location"] = request.query["to"]
        body = None if status in (204, 304) else b"<b>page</b>"
        return web.Response(status=status, body=body, headers=headers)

    async def _hold(self, request):
        await self.read.wait()
        length = 0
        async for chunk in request.content.iter_any():
            length += len(chunk)
        return web.Response(text=str(length))

    async def _never(self, _):
        self.requested.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        return web.Response()

    async def _refuse(self, _):
        return web.json_response({"error": "too much"}, status=413)

    async def _much(self, request):
        response = web.StreamResponse(headers={"Content-Length": str(MUCH)})
        await response.prepare(request)
        for _ in range(MUCH // MIB):
            writing = asyncio.ensure_future(response.write(b"x" * MIB))
            if not (await asyncio.wait({writing}, timeout=1))[0]:
                self.stuck.set()
            await writing
        return response

    async def _half(self, request):
        headers = {} if "chunked" in request.path else {"Content-Length": "100"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"half")
        await self.answer.wait()
        request.transport.close()
        return response

    async def _drip(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await self.answer.wait()
        await response.write(b"data: 2\n\n")
        return response


@pytest.fixture
def site(jp_asyncio_loop):
    made = FakeSite()
    jp_asyncio_loop.run_until_complete(made.start())
    yield made
    made.answer.set()
    jp_asyncio_loop.run_until_complete(made.runner.cleanup())


@pytest.fixture
def extension_config(without_comfyui, site, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    config = {**without_comfyui, "comfydeploy_url": site.url, "allowed_api_urls": [site.url]}
    return {**config, "api_key": "the-configured-key"}


@pytest.fixture
def wire(wire):
    return Wire(wire.port, f"{wire.root}comfydeploy/", wire.token)


async def test_a_request_arrives_as_it_was_sent(wire, site):
    body = bytes(range(256)) * 300
    headers = {"Content-Type": "application/x-thing", "Accept": "text/x", "User-Agent": "me"}
    status, found, content = await wire.call("POST", "a%20b/c/?x=1&y=%2F+z&x=2", headers, body)
    assert (status, content) == (200, b"<b>page</b>")
    assert (found["content-type"], found["etag"]) == ("text/html", '"7"')
    (seen,) = site.seen
    assert (seen["method"], seen["path"]) == ("POST", "/a%20b/c/?x=1&y=%2F+z&x=2")
    assert seen["body"] == body
    length = {"Content-Length": str(len(body))}
    expected = {**headers, **length, "Host": site.url.removeprefix("http://")}
    assert {name: seen["headers"][name] for name in expected} == expected
    for status in (201, 204, 304, 400, 401, 404, 418, 429, 500, 503):
        found, headers, content = await wire.call("GET", f"x?status={status}&type=text/plain")
        assert found == status
        if status not in (204, 304):
            assert (headers["content-type"], content) == ("text/plain", b"<b>page</b>")


async def test_a_body_without_a_length(wire, site):
    headers = {"Transfer-Encoding": "chunked"}
    reader, writer = await wire.send("POST", "x", headers)
    writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (await wire.head(reader))[0] == 200
    writer.close()
    assert site.seen[0]["body"] == b"abcde"


async def test_jupyters_credentials_are_not_sent(wire, site, jp_base_url):
    token = wire.token
    secrets = {
        "Cookie": "_xsrf=cookie-secret; username-localhost=cookie-secret",
        "X-XSRFToken": "cookie-secret",
        "X-Xsrf-Token": "cookie-secret",
        "Referer": f"http://localhost{jp_base_url}lab?token={token}",
        "Origin": f"http://localhost:{wire.port}",
        "X-Forwarded-User": "ada",
        "X-Forwarded-For": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "Proxy-Authorization": "Basic cookie-secret",
        "X-Auth-Request-Access-Token": "cookie-secret",
        "Sec-Fetch-Site": "same-origin",
        "Te": "trailers",
        "Upgrade": "h2c",
        "Keep-Alive": "timeout=5",
    }
    for tail, authorization in (
        ("x?a=1", f"token {token}"),
        ("x?a=1", f"Bearer {token}"),
        ("x?a=1", f"bEARER  {token}"),
        (f"x?token={token}&a=1", ""),
        (f"x?a=1&%74oken={token}", f"token {token}"),
        (f"x?a=1&token={token}&token={token}", ""),
        (f"x?a=1&_xsrf={token}", f"token {token}"),
    ):
        for method in ("GET", "POST"):
            site.seen.clear()
            headers = {**secrets, "Authorization": authorization}
            assert (await wire.call(method, tail, headers))[0] == 200
            (seen,) = site.seen
            text = json.dumps([seen["path"], *map(list, seen["headers"].items())]).lower()
            assert token not in text
            assert "cookie-secret" not in text
            assert "ada" not in text
            assert "localhost" not in text
            assert "10.0.0.1" not in text
            assert set(seen["headers"]) <= {"Host", "Accept-Encoding", "Content-Length", "Accept",
                "User-Agent", "Content-Type", "Transfer-Encoding"}  # fmt: skip
            assert seen["path"] == "/x?a=1"


async def test_a_key_in_the_request_is_sent(wire, site):
    await wire.call("GET", "x")
    await wire.call("GET", "x", {"X-ComfyDeploy-Token": "cd-key"})
    await wire.call("GET", f"x?token={wire.token}", {"Authorization": "Bearer not-jupyters"})
    keys = [seen["headers"].get("Authorization") for seen in site.seen]
    assert keys == [None, "Bearer cd-key", "Bearer not-jupyters"]


class TestSiteThatIsNotListed:
    @pytest.fixture
    def extension_config(self, without_comfyui, site):
        return {**without_comfyui, "comfydeploy_url": site.url}

    async def test_the_key_is_not_sent_there(self, wire, site):
        status, _, body = await wire.call("GET", "x", {"X-ComfyDeploy-Token": "cd-key"})
        assert (status, json.loads(body)["code"]) == (403, "forbidden_api_url")
        assert (await wire.call("GET", "x"))[0] == 200
        assert [seen["headers"].get("Authorization") for seen in site.seen] == [None]


async def test_responses_cannot_run_scripts_in_jupyters_origin(wire):
    for kind in ("text/html", "image/svg+xml", "text/javascript"):
        _, found, _ = await wire.call("GET", f"x?type={quote(kind)}")
        assert found["content-type"] == kind
        assert found["content-security-policy"] == "default-src 'none'; sandbox"
        assert found["x-content-type-options"] == "nosniff"
        assert found["cross-origin-resource-policy"] == "same-origin"
        assert "theirs" not in json.dumps(found)
        assert found.get("access-control-allow-origin", "") != "*"
        for name in ("clear-site-data", "strict-transport-security", "service-worker-allowed"):
            assert name not in found


async def test_redirects_are_passed_back(wire, site, jp_base_url):
    for to, seen_as in (
        ("/sign-in?next=/a", "{base}comfydeploy/sign-in?next=/a"),
        ("other#part", "{base}comfydeploy/deep/other#part"),
        ("{site}/x", "{base}comfydeploy/x"),
        ("https://elsewhere.example/x?y", "https://elsewhere.example/x?y"),
        ("//elsewhere.example/x", "http://elsewhere.example/x"),
        ("/%252e%252e/%252E./lab", "{base}comfydeploy/lab"),
        ("/x\\..\\lab", "{base}comfydeploy/x%5C..%5Clab"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
    ):
        site.seen.clear()
        target = to.format(site=site.url).replace("#", "%23").replace("?", "%3F")
        status, found, _ = await wire.call("GET", f"deep/x?status=307&to={target}")
        assert (status, len(site.seen)) == (307, 1)
        assert found.get("location") == (seen_as and seen_as.format(base=jp_base_url)), to


REFUSED = [
    *("/{evil}/x", "//{evil}/x", "///{evil}/x", "/x", "%2F{evil}/x", "%2f%2f{evil}/x"),
    *("%252f%252f{evil}/x", "%25252f{evil}/x", "\\\\{evil}/x", "\\{evil}/x", "/\\{evil}/x"),
    *("\\/{evil}/x", "%5c%5c{evil}/x", "%5C{evil}", "%255c%255c{evil}/x", "a\\..\\b"),
    *("..", "../x", "a/../../x", "a/..", "./x", "a/./x", "%2e%2e/x", "%2E%2e%2fx", ".%2e/x"),
    *("%252e%252e/x", "%252e%252e%252fx", "%25252e%25252e/x", "..%2f..%2fx", "..%5c..%5cx"),
    *("..;/x", "a/..;b=c/x", "a/%2e%2e;/x", "..%3fx", "%2e%2e%23", "%00", "x%00.html"),
    *("x%0d%0aHost:%20{evil}", "x%0aX:y", "x%0d", "x%250d%250aSet-Cookie:a", "%09//{evil}/x"),
    *("x%1f", "x%7f"),
]
KEPT = [
    ("@{evil}/x", "/@{evil}/x"),
    ("user:pw@{evil}", "/user:pw@{evil}"),
    ("%40{evil}/x", "/%40{evil}/x"),
    (":80@{evil}/x", "/:80@{evil}/x"),
    (":99999/x", "/:99999/x"),
    (".{evil}/x", "/.{evil}/x"),
    ("http://{evil}/x", "/http://{evil}/x"),
    ("http:{evil}", "/http:{evil}"),
    ("x#@{evil}/", "/x%23@{evil}/"),
    ("x?@{evil}/", "/x?@{evil}/"),
    ("x?u=//{evil}/&b=../..", "/x?u=//{evil}/&b=../.."),
    ("x?u=a\\b", "/x?u=a%5Cb"),
    ("a//b", "/a//b"),
    ("...", "/..."),
    ("a..b/c.", "/a..b/c."),
    ("100%25", "/100%25"),
    ("%zz", "/%zz"),
    ("caf\xc3\xa9", "/caf%C3%A9"),
    ("caf%C3%A9", "/caf%C3%A9"),
    ("_next/static/[id].js", "/_next/static/%5Bid%5D.js"),
    ("", "/"),
]


@pytest.fixture
def evil(jp_asyncio_loop):
    """Another host: its address, and the clients that connected."""
    came = []

    async def greet(_, writer):
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = jp_asyncio_loop.run_until_complete(asyncio.start_server(greet, "127.0.0.1", 0))
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    server.close()
    jp_asyncio_loop.run_until_complete(server.wait_closed())


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_path_cannot_lead_to_another_host(wire, site, evil, method):
    host, came = evil
    for tail in REFUSED:
        status, _, body = await wire.call(method, tail.format(evil=host))
        assert (status, json.loads(body)["details"]["field"]) == (400, "tail"), tail
    assert site.seen == []
    for tail, path in KEPT:
        site.seen.clear()
        status, _, _ = await wire.call(method, tail.format(evil=host))
        assert status == 200, tail
        assert [seen["path"] for seen in site.seen] == [path.format(evil=host)], tail
        assert site.seen[0]["headers"]["Host"] == site.url.removeprefix("http://")
    # Values that no HTTP request can contain are refused before they reach this package.
    for tail in ("x\r\nX: y", "x y", "x\n\n", "\tx"):
        status, _, _ = await wire.call(method, tail)
        assert status in (0, 200, 400)
    assert came == []


def test_every_address_is_below_the_site():
    for url in ("https://h", "https://h/", "https://h:8443/deep", "https://h/deep/"):
        for tail, _ in KEPT:
            path, _, query = tail.format(evil="evil.example").partition("?")
            address = WebProxy(url).address(path, query)
            assert (address.scheme, address.host) == ("https", "h")
            assert str(address).startswith(url)
            assert ".." not in address.raw_path.split("/")
    for url in ("", "nowhere", "ftp://h", "http://", "http://["):
        with pytest.raises(CloudError, match="comfydeploy_url"):
            WebProxy(url).address("x")


@pytest.mark.thorough
async def test_a_large_answer_waits_for_the_client(wire, site):
    reader, writer = await wire.send("GET", "much")
    status, headers = await wire.head(reader)
    assert (status, headers["content-length"]) == (200, str(MUCH))
    # The site can send only as much as fits into the buffers in between.
    await asyncio.wait_for(site.stuck.wait(), 60)
    length = 0
    while chunk := await reader.read(MIB):
        length += len(chunk)
    assert length == MUCH
    writer.close()


@pytest.mark.thorough
async def test_a_large_request_waits_for_the_site(wire, site):
    reader, writer = await wire.send("POST", "hold", {"Content-Length": str(MUCH)})
    for sent in range(MIB, MUCH + MIB, MIB):
        writer.write(b"x" * MIB)
        draining = asyncio.ensure_future(writer.drain())
        if not (await asyncio.wait({draining}, timeout=1))[0] and not site.read.is_set():
            assert sent < MUCH
            site.read.set()
        await draining
    assert site.read.is_set(), "it had to wait"
    assert (await wire.head(reader))[0] == 200
    assert (await reader.read()) == str(MUCH).encode()
    writer.close()


async def test_an_event_stream_is_passed_on_without_delay(wire, site):
    reader, writer = await wire.send("GET", "drip")
    status, headers = await wire.head(reader)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert b"data: 1" in await asyncio.wait_for(reader.readuntil(b"\n\n"), 20)
    site.answer.set()
    assert b"data: 2" in await asyncio.wait_for(reader.read(), 20)
    writer.close()


@pytest.mark.parametrize("tail", ["half", "half-chunked"])
async def test_an_interrupted_response_does_not_look_complete(wire, site, tail):
    reader, writer = await wire.send("GET", tail)
    assert (await wire.head(reader))[0] == 200
    assert b"half" in await reader.readuntil(b"half")
    site.answer.set()
    assert b"0\r\n\r\n" not in await reader.read()
    writer.close()


async def test_a_reply_before_the_body_was_read_is_passed_on(wire):
    status, _, body = await wire.call("POST", "refuse", body=b"x" * (8 * MIB))
    assert (status, json.loads(body)) == (413, {"error": "too much"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_disconnected_client_ends_the_request_to_the_site(wire, site, method):
    _, writer = await wire.send(method, "never", {"Content-Length": "5"}, b"abc")
    await site.requested.wait()
    writer.close()
    await site.disconnected.wait()


async def test_unreachable(wire, site):
    await site.runner.cleanup()
    for method in ("GET", "POST"):
        status, found, body = await wire.call(method, "x", body=b"abc")
        assert (status, json.loads(body)["code"]) == (502, "cloud_error")
        assert "cannot be reached" in json.loads(body)["error"]
        assert found["content-type"] == "application/json"


class TestSilentSite:
    @pytest.fixture
    def extension_config(self, extension_config):
        return {**extension_config, "cloud_timeout": 0.3}

    @pytest.mark.parametrize("tail", ["never", "hold"])
    async def test_a_site_that_never_answers(self, wire, tail):
        status, _, body = await wire.call("GET", tail)
        assert (status, json.loads(body)["code"]) == (502, "cloud_error")
        status, _, body = await wire.call("POST", tail, body=b"x" * (16 * MIB))
        assert (status, json.loads(body)["code"]) == (502, "cloud_error")
