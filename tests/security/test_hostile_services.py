"""Malicious replies of ComfyUI, ComfyDeploy and storages."""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
from urllib.parse import urlsplit

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.transfers.http import TransferError, new_session, request
from comfydeploy_jupyter.util import proxy
from comfydeploy_jupyter.util.http import read_whole, reason_of
from tests.helpers.waiting import until_async

STATS = {"system": {"comfyui_version": "0.3.75", "argv": ["main.py"]}, "devices": []}


def _handshake(key):
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


class Hostile:
    """An HTTP server that replies with the bytes of a test, and records its requests."""

    def __init__(self):
        self.answers = {}  # by path: head and body
        self.requests = []  # first line, headers in small letters
        self.sent = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.json("/system_stats", STATS)
        self.json("/prompt", {"exec_info": {"queue_remaining": 0}})

    async def stop(self):
        self._server.close()

    def json(self, path, value):
        """Answer a path with JSON; text is sent as it is."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.raw(path, text.encode(), "Content-Type: application/json")

    def raw(self, path, body, *headers, status="200 OK"):
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.answers[path] = "\r\n".join(lines).encode("utf-8", "surrogateescape") + body

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                self.requests.append((first, headers))
                await reader.readexactly(int(headers.get("content-length", 0)))
                if "sec-websocket-key" in headers and "/moved" not in self.answers:
                    writer.write(_handshake(headers["sec-websocket-key"]))
                    continue
                path = urlsplit(first.split()[1]).path
                answer = self.answers.get(path) or self.answers.get("*", b"")
                if answer == b"endless":
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    piece = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
                    while True:
                        writer.write(piece)
                        await writer.drain()
                        self.sent += 1 << 20
                if not answer:
                    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
                writer.write(answer)
                await writer.drain()
        writer.close()


@pytest.fixture
def hostile(jp_asyncio_loop):
    made = Hostile()
    jp_asyncio_loop.run_until_complete(made.start())
    yield made
    jp_asyncio_loop.run_until_complete(made.stop())


@pytest.fixture
def settings(hostile, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    addresses = ("comfyui_url", "cloud_url", "comfydeploy_url", "civitai_url")
    return {
        **dict.fromkeys(addresses, hostile.url),
        "comfyui_timeout": 5.0,
        "allowed_api_urls": [hostile.url],
        "api_key": KEY,
        "civitai_token": CIVITAI_TOKEN,
    }


KEY, CIVITAI_TOKEN = "the-comfydeploy-key", "the-civitai-token"
GRAPH = {"1": {"class_type": "a", "inputs": {"x": 1}}}
EDITOR = {"nodes": [{"id": 1, "type": "a", "widgets_values": [1]}], "links": []}
CALLED_ROUTES = (
    "GET models",
    "GET models?format=folders",
    "GET filename_list_cache",
    "GET object_info",
    "GET node-options?class_type=a&input=x",
    "GET view?filename=a.png",
    "GET view?filename=a.png&thumbnail=64",
    "GET workflows?target=cloud",
    "GET workflow?target=cloud&workflow_id=a",
    "GET workflow/versions?target=cloud&workflow_id=a",
    "GET workflow/version?target=cloud&workflow_id=a",
    "GET machine?target=cloud&machine_id=a",
    "GET comfyui-version?target=cloud",
    "GET auth-response?request_id=a",
    ("workflow/validate", {"workflow_api": GRAPH}),
    ("workflow/convert", {"workflow": EDITOR}),
    ("workflow", {"target": "cloud", "name": "x", "workflow": EDITOR, "workflow_api": GRAPH}),
    ("machine/create", {"target": "cloud", "name": "x", "gpu": "T4"}),
    ("snapshot-to-docker", {"target": "cloud", "snapshot": {"comfyui": {}}}),
    ("volume/model", {"target": "cloud", "folder": "loras", "url": "http://x/y"}),
    ("volume/model", {"source": "civitai", "folder": "loras", "url": "http://x/models/1"}),
    ("volume/file/generate-upload-url", {"filename": "a"}),
    ("run", {"workflow_api": GRAPH, "timeout": 5}),
)


@pytest.fixture
def call_route(call, jp_auth_header):
    """Call a route below our prefix with Jupyter's token."""

    async def call_with_token(called):
        if isinstance(called, tuple):
            path, body = called
            return await call("POST", f"comfyui-deploy/{path}", dict(jp_auth_header), body)
        method, path = called.split()
        return await call(method, f"comfyui-deploy/{path}", dict(jp_auth_header))

    return call_with_token


async def test_malformed_replies_are_reported(hostile, call_route):
    for value in (
        *("[]", '"x"', '{"a": null}', '[{"name": 1, "folders": 1, "pathIndex": 9}, [], null]'),
        *("[" * 100_000, "1" * 5000),
    ):
        hostile.json("*", value)
        for called in CALLED_ROUTES:
            response = await call_route(called)
            assert response.code != 500, (value[:20], called, response.body)


async def test_unusual_headers_stay_one_line_and_cause_no_error(hostile, call, jp_auth_header):
    for header in (
        *("X-Odd: \udcff\udcfe \u2028", "ETag: \udcff", "Content-Range: bytes \udcff"),
        *("Last-Modified: x\u2028y", "Content-Type: text/html\x0b"),
        *("Location: /\udcff", "Location: http://["),
    ):
        for status in ("200 OK", "302 Found", "206 Partial", "200 O\x0bK"):
            hostile.raw("*", b"x", header, "Set-Cookie: theirs=1", status=status)
            for path in ("comfyui-deploy/view?filename=a.png", "comfyui/x", "comfydeploy/x"):
                response = await call("GET", path, dict(jp_auth_header))
                assert response.code != 500, (path, header, response.body)
                assert "theirs" not in "".join(response.headers.get_list("Set-Cookie"))


async def test_a_remote_file_has_the_type_of_its_name_alone(hostile, call, jp_auth_header):
    hostile.raw("/view", b"<script>", "Content-Type: text/html", "Content-Disposition: inline")
    for name, kind in (("a.png", "image/png"), ("a.html", "application/octet-stream")):
        path = f"comfyui-deploy/view?filename={name}"
        response = await call("GET", path, dict(jp_auth_header))
        assert response.headers["Content-Type"] == kind
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]


PRIVILEGES = (
    "Access-Control-Allow-Origin: https://evil.example",
    "Access-Control-Allow-Credentials: true",
    "Service-Worker-Allowed: /",
    'Clear-Site-Data: "*"',
    "Strict-Transport-Security: max-age=99999999",
    'Alt-Svc: h2="evil.example:443"',
    'NEL: {"report_to": "x", "max_age": 9}',
)


async def test_no_service_sets_headers_for_jupyters_origin(hostile, call, cookie):
    hostile.raw("*", b"x", *PRIVILEGES)
    for path in ("comfyui/x", "comfydeploy/x", "comfyui-deploy/view?filename=a"):
        response = await call("GET", path, dict(cookie))
        assert response.code == 200
        for header in PRIVILEGES:
            assert header.partition(":")[0] not in response.headers, path


async def test_no_redirect_is_followed(hostile, call_route, call, jp_auth_header):
    moved = f"Location: {hostile.url}/metadata"
    hostile.raw("*", b"", moved, status="302 Found")
    for called in CALLED_ROUTES:
        assert (await call_route(called)).code != 500, called
    await call("GET", "comfyui/x", dict(jp_auth_header))
    await call("GET", "comfydeploy/x", dict(jp_auth_header))
    client = ComfyUIClient(hostile.url)
    hostile.raw("/moved", b"", moved, status="302 Found")
    with pytest.raises(ComfyUIUnavailableError):
        await client.open_socket("/moved")
    await client.close()
    asked_for = [first.split()[1].partition("?")[0] for first, _ in hostile.requests]
    assert {"/ws", "/moved", "/models", "/x"} <= set(asked_for)
    assert "/metadata" not in asked_for


async def test_each_service_gets_its_own_credentials_alone(
    hostile, call_route, call, cookie, xsrf, jp_auth_header, jp_serverapp
):
    hostile.raw("*", b"{}", "Set-Cookie: theirs=1", "Content-Type: application/json")
    for called in CALLED_ROUTES:
        await call_route(called)
    for headers in (cookie, jp_auth_header):
        await call("GET", "comfyui/x", dict(headers))
        await call("GET", "comfydeploy/x", dict(headers))
    token = jp_serverapp.identity_provider.token
    jupyters = {token, xsrf["X-XSRFToken"], *cookie["Cookie"].split("; ")}
    credentials = {}
    for first, headers in hostile.requests:
        sent = f"{first} {headers}"
        assert not any(secret.partition("=")[2] in sent for secret in jupyters if "=" in secret)
        assert token not in sent
        assert "cookie" not in headers
        path = first.split()[1].partition("?")[0]
        credentials.setdefault(path, set()).add(headers.get("authorization", ""))
    to_civitai = {f"Bearer {CIVITAI_TOKEN}"}
    assert credentials.pop("/api/v1/models/1") == to_civitai
    keyed = {path for path, seen in credentials.items() if f"Bearer {KEY}" in seen}
    ours = {"/models", "/view", "/object_info", "/prompt", "/system_stats", "/ws", "/x"}
    assert not keyed & ours
    assert "/workflows" in keyed
    assert set().union(*(credentials[path] for path in credentials if path not in keyed)) == {""}


async def test_a_redirected_download_keeps_its_token_to_itself(hostile, bare_service):
    bare_service.files["model"] = b"weights"
    hostile.raw("/to", b"", f"Location: {bare_service.url}/files/model", status="302 Found")
    asked = {"what": "it", "token": KEY, "redirects": True}
    async with (
        new_session() as http,
        request(http, "GET", f"{hostile.url}/to", **asked) as answer,
    ):
        assert await answer.read() == b"weights"
    assert hostile.requests[-1][1]["authorization"] == f"Bearer {KEY}"
    # it is noted once all of it has left
    ((_, _, headers),) = await until_async(lambda: bare_service.sent["model"])
    assert "Authorization" not in headers


async def test_redirects_lead_to_http_addresses_only(hostile):
    for where in ("file:///etc/passwd", "ftp://x/y", "http://[", "//"):
        hostile.raw("/to", b"", f"Location: {where}?Signature=s3cret", status="302 Found")
        async with new_session() as http:
            with pytest.raises(TransferError) as refused:
                async with request(http, "GET", f"{hostile.url}/to", what="it", redirects=True):
                    pass
        assert "s3cret" not in refused.value.message, where
        assert refused.value.__cause__ is None


@pytest.mark.parametrize("packed", [False, True])
async def test_replies_are_read_up_to_a_limit(hostile, packed):
    hostile.answers["/x"] = b"endless"
    if packed:
        bomb = gzip.compress(bytes(64 << 20))
        hostile.raw("/x", bomb, "Content-Encoding: gzip")
    async with aiohttp.ClientSession() as http, http.get(f"{hostile.url}/x") as answer:
        with pytest.raises(aiohttp.ClientPayloadError, match="more than 1048576 bytes"):
            await read_whole(answer, 1 << 20)
    assert hostile.sent < 64 << 20


async def test_an_endless_reply_is_ended(hostile, call_route):
    hostile.answers["/api/v1/models/1"] = b"endless"
    called = {"source": "civitai", "folder": "loras", "url": "http://x/models/1"}
    response = await call_route(("volume/model", called))
    assert response.code == 502
    assert b"more than" in response.body


def test_the_reason_of_a_failure_has_no_url():
    url = "http://a/?Signature=s3cret"
    moved = aiohttp.RequestInfo(URL(url), "GET", CIMultiDictProxy(CIMultiDict()))
    for exc in (
        aiohttp.InvalidURL(url),
        aiohttp.NonHttpUrlClientError(url),
        aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}"),
        aiohttp.TooManyRedirects(moved, (), status=302),
        aiohttp.ClientOSError(104, "Connection reset by peer"),
    ):
        assert reason_of(exc)
        assert "s3cret" not in reason_of(exc)


def test_paths_with_dot_segments_are_recognised_in_every_spelling():
    for path in ("..", "/../x", "/%2e%2E/x", "/a/.%2e", "/a\\..\\x", "/.\x01./x", "/%2\te./x?y"):
        assert proxy.leads_upwards(path), path
    for path in ("", "/", "/...", "/a..b/", "/x?y=/../z", "/x#/..", "/%252e%252e/"):
        assert not proxy.leads_upwards(path), path
