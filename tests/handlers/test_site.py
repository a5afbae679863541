"""ComfyDeploy's web site through Jupyter: a real site, and single bytes of the requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from comfydeploy_jupyter.compat.comfydeploy import WebProxy
from comfydeploy_jupyter.errors import CloudError

MIB = 1024 * 1024
MUCH = 256 * MIB  # more than the kernel's buffers hold, by far


class FakeSite:
    """A web site that records its requests.

    Attributes
    ----------
    seen : list of dict
        Path as it was sent, method, headers and body of each request.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.read = asyncio.Event()
        self.stuck = asyncio.Event()
        self.answer = asyncio.Event()
        self.requested = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def start(self) -> None:
        app = web.Application(client_max_size=2 * MUCH)
        app.router.add_route("*", "/hold", self._hold)
        app.router.add_route("*", "/never", self._never)
        app.router.add_get("/much", self._much)
        app.router.add_get("/half", self._half)
        app.router.add_get("/half-chunked", self._half)
        app.router.add_get("/drip", self._drip)
        app.router.add_route("*", "/refuse", self._refuse)
        app.router.add_route("*", "/{tail:.*}", self._echo)
        self.runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(
            {
                "path": request.raw_path,
                "method": request.method,
                "headers": request.headers.copy(),
                "body": await request.read(),
            }
        )
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
        if status in (204, 304):
            return web.Response(status=status, headers=headers)
        return web.Response(status=status, body=b"<b>page</b>", headers=headers)

    async def _hold(self, request: web.Request) -> web.StreamResponse:
        await self.read.wait()
        length = 0
        async for piece in request.content.iter_any():
            length += len(piece)
        return web.Response(text=str(length))

    async def _never(self, _: web.Request) -> web.StreamResponse:
        self.requested.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        return web.Response()

    async def _refuse(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "too much"}, status=413)

    async def _much(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(MUCH)})
        await response.prepare(request)
        for _ in range(MUCH // MIB):
            writing = asyncio.ensure_future(response.write(b"x" * MIB))
            done, _ = await asyncio.wait({writing}, timeout=1)
            if not done:
                self.stuck.set()
            await writing
        return response

    async def _half(self, request: web.Request) -> web.StreamResponse:
        headers = {} if "chunked" in request.path else {"Content-Length": "100"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"half")
        await self.answer.wait()
        assert request.transport is not None
        request.transport.close()
        return response

    async def _drip(self, request: web.Request) -> web.StreamResponse:
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
def extension_config(tmp_path, site, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    return {
        "comfyui_url": "http://127.0.0.1:9",
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
        "comfydeploy_url": site.url,
        "allowed_api_urls": [site.url],
        "api_key": "the-configured-key",
    }


class Wire:
    """Sends requests to Jupyter as given bytes."""

    def __init__(self, port: int, base_url: str, token: str) -> None:
        self.port = port
        self.base_url = base_url
        self.token = token

    async def send(
        self, method: str, tail: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request and return the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        sent = {"Host": "localhost", "Authorization": f"token {self.token}", "Connection": "close"}
        if body:
            sent["Content-Length"] = str(len(body))
        sent.update(headers or {})
        lines = [f"{method} {self.base_url}comfydeploy/{tail} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        return reader, writer

    async def head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        """Return status and headers, names in small letters."""
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        headers = [line.split(": ", 1) for line in lines]
        return int(first.split()[1]), {name.lower(): value for name, value in headers}

    async def call(
        self, method: str, tail: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the reply; status 0 if there is none."""
        reader, writer = await self.send(method, tail, headers, body)
        try:
            status, found = await self.head(reader)
            content = await reader.read()
        except asyncio.IncompleteReadError:
            return 0, {}, b""
        finally:
            writer.close()
        if found.get("transfer-encoding") == "chunked":
            content = _whole(content)
        return status, found, content


def _whole(chunked: bytes) -> bytes:
    found = b""
    while True:
        size, _, chunked = chunked.partition(b"\r\n")
        if int(size, 16) == 0:
            return found
        found, chunked = found + chunked[: int(size, 16)], chunked[int(size, 16) + 2 :]


@pytest.fixture
def wire(extension, http_server_client, jp_http_port, jp_base_url, jp_auth_header):
    return Wire(jp_http_port, jp_base_url, jp_auth_header["Authorization"].split()[1])


async def test_a_request_arrives_as_it_was_sent(wire, site):
    body = bytes(range(256)) * 300
    headers = {"Content-Type": "application/x-thing", "Accept": "text/x", "User-Agent": "me"}
    status, found, content = await wire.call("POST", "a%20b/c/?x=1&y=%2F+z&x=2", headers, body)
    assert (status, content) == (200, b"<b>page</b>")
    assert found["content-type"] == "text/html"
    assert found["etag"] == '"7"'
    (seen,) = site.seen
    assert (seen["method"], seen["path"]) == ("POST", "/a%20b/c/?x=1&y=%2F+z&x=2")
    assert seen["body"] == body
    for name, value in headers.items():
        assert seen["headers"][name] == value
    assert seen["headers"]["Content-Length"] == str(len(body))
    assert seen["headers"]["Host"] == site.url.removeprefix("http://")


async def test_a_body_without_a_length(wire, site):
    headers = {"Transfer-Encoding": "chunked"}
    reader, writer = await wire.send("POST", "x", headers)
    writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (await wire.head(reader))[0] == 200
    writer.close()
    assert site.seen[0]["body"] == b"abcde"


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 401, 404, 418, 429, 500, 503])
async def test_the_status_code_is_passed_on(wire, status):
    found, headers, body = await wire.call("GET", f"x?status={status}&type=text/plain")
    assert found == status
    if status not in (204, 304):
        assert (headers["content-type"], body) == ("text/plain", b"<b>page</b>")


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
    def extension_config(self, tmp_path, site):
        return {
            "comfyui_url": "http://127.0.0.1:9",
            "data_dir": str(tmp_path / "data"),
            "autostart": False,
            "comfydeploy_url": site.url,
        }

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


@pytest.mark.parametrize(
    ("to", "seen_as"),
    [
        ("/sign-in?next=/a", "{base}comfydeploy/sign-in?next=/a"),
        ("other#part", "{base}comfydeploy/deep/other#part"),
        ("{site}/x", "{base}comfydeploy/x"),
        ("https://elsewhere.example/x?y", "https://elsewhere.example/x?y"),
        ("//elsewhere.example/x", "http://elsewhere.example/x"),
        ("/%252e%252e/%252E./lab", "{base}comfydeploy/lab"),
        ("/x\\..\\lab", "{base}comfydeploy/x%5C..%5Clab"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
    ],
)
async def test_redirects_are_passed_back(wire, site, jp_base_url, to, seen_as):
    target = to.format(site=site.url).replace("#", "%23").replace("?", "%3F")
    status, found, _ = await wire.call("GET", f"deep/x?status=307&to={target}")
    assert status == 307
    assert len(site.seen) == 1
    assert found.get("location") == (seen_as and seen_as.format(base=jp_base_url))


REFUSED = [
    "/{evil}/x",
    "//{evil}/x",
    "///{evil}/x",
    "/x",
    "%2F{evil}/x",
    "%2f%2f{evil}/x",
    "%252f%252f{evil}/x",
    "%25252f{evil}/x",
    "\\\\{evil}/x",
    "\\{evil}/x",
    "/\\{evil}/x",
    "\\/{evil}/x",
    "%5c%5c{evil}/x",
    "%5C{evil}",
    "%255c%255c{evil}/x",
    "a\\..\\b",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "./x",
    "a/./x",
    "%2e%2e/x",
    "%2E%2e%2fx",
    ".%2e/x",
    "%252e%252e/x",
    "%252e%252e%252fx",
    "%25252e%25252e/x",
    "..%2f..%2fx",
    "..%5c..%5cx",
    "..;/x",
    "a/..;b=c/x",
    "a/%2e%2e;/x",
    "..%3fx",
    "%2e%2e%23",
    "%00",
    "x%00.html",
    "x%0d%0aHost:%20{evil}",
    "x%0aX:y",
    "x%0d",
    "x%250d%250aSet-Cookie:a",
    "%09//{evil}/x",
    "x%1f",
    "x%7f",
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
    came: list[str] = []

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = jp_asyncio_loop.run_until_complete(asyncio.start_server(greet, "127.0.0.1", 0))
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    server.close()
    jp_asyncio_loop.run_until_complete(server.wait_closed())


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_path_cannot_lead_to_another_host(wire, site, evil, method):
    host, came = evil
    assert len(set(REFUSED)) == len(REFUSED) > 25
    for tail in REFUSED:
        status, _, body = await wire.call(method, tail.format(evil=host))
        assert status == 400, tail
        assert json.loads(body)["details"]["field"] == "tail", tail
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


@pytest.mark.parametrize(
    "url", ["https://h", "https://h/", "https://h:8443/deep", "https://h/deep/"]
)
def test_every_address_is_below_the_site(url):
    site = WebProxy(url)
    for tail, _ in KEPT:
        path, _, query = tail.format(evil="evil.example").partition("?")
        address = site.address(path, query)
        assert (address.scheme, address.host) == ("https", "h")
        assert str(address).startswith(url)
        assert ".." not in address.raw_path.split("/")


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://h", "http://", "http://["])
def test_a_site_without_an_address(url):
    with pytest.raises(CloudError, match="comfydeploy_url"):
        WebProxy(url).address("x")


async def test_a_large_answer_waits_for_the_client(wire, site):
    reader, writer = await wire.send("GET", "much")
    status, headers = await wire.head(reader)
    assert (status, headers["content-length"]) == (200, str(MUCH))
    # The site can send only as much as fits into the buffers in between.
    await asyncio.wait_for(site.stuck.wait(), 60)
    length = 0
    while piece := await reader.read(MIB):
        length += len(piece)
    assert length == MUCH
    writer.close()


async def test_a_large_request_waits_for_the_site(wire, site):
    headers = {"Content-Length": str(MUCH)}
    reader, writer = await wire.send("POST", "hold", headers)
    sent = 0
    while sent < MUCH:
        writer.write(b"x" * MIB)
        sent += MIB
        draining = asyncio.ensure_future(writer.drain())
        done, _ = await asyncio.wait({draining}, timeout=1)
        if not done:
            break
    assert sent < MUCH
    site.read.set()
    await draining
    while sent < MUCH:
        writer.write(b"x" * MIB)
        sent += MIB
        await writer.drain()
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


async def test_requests_without_credentials_are_refused(wire, site):
    for headers in ({"Authorization": ""}, {"Authorization": "token wrong"}):
        status, _, body = await wire.call("GET", "x", headers)
        assert (status, json.loads(body)["code"]) == (403, "unauthorized")
    assert site.seen == []
