"""The gate in front of a small server: access, forwarded requests, and the added time."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from comfydeploy_jupyter.errors import TunnelFailedError
from comfydeploy_jupyter.tunnel.gate import ATTEMPTS, COOKIE, GateSettings, Upstream
from comfydeploy_jupyter.tunnel.tunnels import GateProcess
from tests.helpers.comfyui_proxies import Certificates
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
PAGE = {"Accept": "text/html,*/*"}


class Behind:
    """The server behind the gate: its routes return, discard or stream data."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.sent = 0
        self.reading = asyncio.Event()
        self.reading.set()

    async def open(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_post("/sink", self._sink)
        app.router.add_get("/flood", self._flood)
        app.router.add_get("/half", self._half)
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/{path:.*}", self._echo)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        self.reading.set()
        await self._runner.cleanup()

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.path == "/moved":
            raise web.HTTPFound(request.query.get("to", "/elsewhere"))
        if request.path == "/closed":
            raise web.HTTPUnauthorized(
                headers={"WWW-Authenticate": "Basic", "Set-Cookie": "session=1"}
            )
        body = await request.read()
        headers = {"X-Raw": request.raw_path, "Cache-Control": "max-age=60"}
        return web.Response(status=207, body=body, headers=headers, content_type="text/x-echo")

    async def _sink(self, request: web.Request) -> web.StreamResponse:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            await self.reading.wait()
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        chunk = os.urandom(MIB)
        for _ in range(int(request.query["mib"])):
            await answer.write(chunk)
            self.sent += MIB
        return answer

    async def _half(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x" * 10)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if "refuse" in request.query:
            raise web.HTTPForbidden
        if "moved" in request.query:
            raise web.HTTPFound(request.query["moved"])
        socket = web.WebSocketResponse(protocols=["comfy"], max_msg_size=0)
        await socket.prepare(request)
        self.requests.append(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close(code=4001)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket


@pytest.fixture
def behind(jp_asyncio_loop) -> Iterator[Behind]:
    found = Behind()
    jp_asyncio_loop.run_until_complete(found.open())
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


@pytest.fixture
def gate(behind, tmp_path, jp_asyncio_loop) -> Iterator[GateProcess]:
    found = GateProcess(tmp_path / "gate" / "gate.log")
    jp_asyncio_loop.run_until_complete(found.open(behind.url))
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


@pytest.fixture
def http_client(jp_asyncio_loop) -> Iterator[aiohttp.ClientSession]:
    """A client for whole addresses; old sessions with a base accept no others."""

    async def enter() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = jp_asyncio_loop.run_until_complete(enter())
    yield session
    jp_asyncio_loop.run_until_complete(session.close())


@pytest.fixture
def visitor(gate, jp_asyncio_loop) -> Iterator[aiohttp.ClientSession]:
    """A browser at the gate; aiohttp keeps cookies of an IP address only in an unsafe jar."""

    async def enter() -> aiohttp.ClientSession:
        jar = aiohttp.CookieJar(unsafe=True)
        return aiohttp.ClientSession(gate.url, cookie_jar=jar)

    session = jp_asyncio_loop.run_until_complete(enter())
    yield session
    jp_asyncio_loop.run_until_complete(session.close())


def bearer(gate: GateProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {gate.secret}"}


def pid_of(gate: GateProcess) -> int:
    return int(re.findall(r'"pid": (\d+)', _record(gate))[0])


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def started_with(pid: int) -> bytes:
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()


def kept_files(gate: GateProcess) -> str:
    return "".join(path.read_text() for path in gate.log_path.parent.iterdir())


def _record(gate: GateProcess) -> str:
    return gate.log_path.with_suffix(".json").read_text()


async def test_access_needs_the_secret(gate, behind, visitor):
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        async with visitor.request(method, "/prompt", data=b"x" * 100) as answer:
            assert answer.status == 401
    for query in ("?access=", "?access=wrong", "?Access=x", f"?access={gate.secret}x"):
        async with visitor.get(f"/{query}") as answer:
            assert answer.status == 401
            assert (await answer.json())["code"] == "unauthorized"
    for headers in ({"Cookie": f"{COOKIE}=x"}, {"Cookie": f"{COOKIE}={gate.secret}"}):
        async with visitor.get("/", headers=headers) as answer:
            assert answer.status == 401
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await visitor.ws_connect("/ws")
    assert behind.requests == []


async def test_a_browser_sends_the_secret_once_and_gets_a_cookie(gate, behind, visitor):
    async with visitor.get("/", headers=PAGE) as answer:
        assert (answer.status, answer.content_type) == (401, "text/html")
        assert "<form>" in await answer.text()
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    address = f"/a%2Fb/?x=1&access={gate.secret}&y=%20"
    headers = {**PAGE, "X-Forwarded-Proto": "https"}
    async with visitor.get(address, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"] == "/a%2Fb/?x=1&y=%20"
        cookie = answer.headers["Set-Cookie"]
        for part in ("HttpOnly", "SameSite=Lax", "Secure", "Path=/"):
            assert part in cookie
        assert gate.secret not in cookie
    async with visitor.get(f"/?access={gate.secret}", headers=PAGE) as answer:
        assert (answer.status, answer.url.path_qs) == (207, "/")
    async with visitor.post("/prompt", data=b"{}") as answer:
        assert (answer.status, await answer.read()) == (207, b"{}")
    for request in behind.requests:
        assert gate.secret not in f"{request.raw_path}{request.headers}"
        assert COOKIE not in str(request.headers)


async def test_a_link_does_not_lead_to_another_host(gate, http_client):
    address = f"{gate.url}//evil.example/?access={gate.secret}"
    async with http_client.get(address, headers=PAGE, allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/evil.example/"


async def test_programs_send_the_secret_in_a_header_or_the_address(gate, behind):
    async with aiohttp.ClientSession(gate.url) as program:
        for kwargs in ({"headers": bearer(gate)}, {"params": {"access": gate.secret}}):
            async with program.get("/models", **kwargs) as answer:
                assert answer.status == 207
            program.cookie_jar.clear()
        mine = {"Authorization": "Bearer for what is behind", "Cookie": "a=b; c=d"}
        async with program.get("/x", params={"access": gate.secret}, headers=mine) as answer:
            assert answer.status == 207
    first, second, third = behind.requests
    assert "Authorization" not in first.headers
    assert second.raw_path == "/models"
    assert third.headers["Authorization"] == mine["Authorization"]
    assert third.headers["Cookie"] == "a=b; c=d"


async def test_requests_and_replies_are_passed_on_unchanged(gate, behind, visitor, http_client):
    headers = {**bearer(gate), "X-Mine": "1", "Connection": "X-Mine", "Host": "calm.example"}
    address = URL(f"{gate.url}/a%2F..%2Fb?q=%41&r", encoded=True)
    async with http_client.post(address, data=b"\x00\xff", headers=headers) as answer:
        assert answer.status == 207
        assert answer.headers["X-Raw"] == "/a%2F..%2Fb?q=%41&r"
        assert answer.headers["Content-Type"].startswith("text/x-echo")
        assert answer.headers["Cache-Control"] == "max-age=60"
        assert answer.headers["CDN-Cache-Control"] == "no-store"
        assert await answer.read() == b"\x00\xff"
    (request,) = behind.requests
    assert request.headers["Host"] == "calm.example"
    assert "X-Mine" not in request.headers
    async with visitor.get("/moved", headers=bearer(gate), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")
    async with visitor.head("/", headers=bearer(gate)) as answer:
        assert answer.status == 207
    packed = gzip.compress(b"x" * MIB)  # what is behind unpacks it; twice would not work
    zipped = {**bearer(gate), "Content-Encoding": "gzip"}
    async with visitor.post("/", data=packed, headers=zipped) as answer:
        assert await answer.read() == b"x" * MIB
    expecting = {**bearer(gate), "Expect": "100-continue"}
    async with visitor.post("/", data=b"now", headers=expecting, expect100=True) as answer:
        assert await answer.read() == b"now"


async def test_other_sites_may_not_use_the_cookie(gate, behind, visitor):
    async with visitor.get(f"/?access={gate.secret}") as answer:
        assert answer.status == 207
    foreign = {"Origin": "https://evil.example"}
    async with visitor.post("/prompt", headers=foreign) as answer:
        assert answer.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await visitor.ws_connect("/ws", headers=foreign)
    own = {"Origin": gate.url}
    async with visitor.post("/prompt", headers=own) as answer:
        assert answer.status == 207
    async with visitor.ws_connect("/ws", headers=own) as socket:
        await socket.send_str("x")
        assert await socket.receive_str() == "x"


async def test_guesses_are_limited_for_each_address(gate, visitor):
    guesser = {"Cf-Connecting-Ip": "198.51.100.9"}
    for _ in range(ATTEMPTS):
        async with visitor.get("/?access=guess", headers=guesser) as answer:
            assert answer.status == 401
    for headers in (guesser, {**guesser, "Authorization": "Bearer guess"}):
        async with visitor.get("/?access=guess", headers=headers) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) > 0
    other = {"Cf-Connecting-Ip": "198.51.100.10"}
    async with visitor.get("/?access=guess", headers=other) as answer:
        assert answer.status == 401


async def test_guesses_with_a_false_address_lock_out_nobody_with_the_secret(gate, visitor):
    """Clients can claim any address."""
    name = {"Cf-Connecting-Ip": "198.51.100.9"}
    for _ in range(2 * ATTEMPTS):
        async with visitor.get("/?access=guess", headers=name) as answer:
            assert answer.status in (401, 429)
    for headers in ({**name, **bearer(gate)}, {**bearer(gate), "Cf-Connecting-Ip": "x" * 4000}):
        async with visitor.get("/", headers=headers) as answer:
            assert answer.status == 207
    async with visitor.get(f"/?access={gate.secret}", headers=name) as answer:
        assert answer.status == 207
    async with visitor.get("/", headers=name) as answer:  # by the cookie
        assert answer.status == 207


async def test_invented_addresses_give_no_new_attempts(gate, visitor):
    for number in range(ATTEMPTS):
        async with visitor.get("/?access=x", headers={"Cf-Connecting-Ip": f"a{number}"}) as answer:
            assert answer.status == 401
    async with visitor.get("/?access=x", headers={"Cf-Connecting-Ip": "b"}) as answer:
        assert answer.status == 429


async def test_websocket(gate, behind, visitor):
    async with visitor.ws_connect(
        f"/ws?clientId=7&access={gate.secret}", protocols=["other", "comfy"], max_msg_size=0
    ) as socket:
        assert socket.protocol == "comfy"
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        large = os.urandom(8 * MIB)
        await socket.send_bytes(large)
        assert await socket.receive_bytes() == large
        await socket.send_str("bye")
        await socket.receive()
        assert socket.close_code == 4001
    assert behind.requests[0].raw_path == "/ws?clientId=7"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await visitor.ws_connect("/ws?refuse=1", headers=bearer(gate))
    assert refused.value.status == 403


async def test_large_bodies_are_not_kept_in_memory(gate, behind, visitor):
    mib = 256
    digest = hashlib.sha256()

    async def body() -> Any:
        for _ in range(mib):
            chunk = os.urandom(MIB)
            digest.update(chunk)
            yield chunk

    async with visitor.post("/sink", data=body(), headers=bearer(gate)) as answer:
        assert await answer.json() == {"size": mib * MIB, "sha256": digest.hexdigest()}
    received = 0
    async with visitor.get(f"/flood?mib={mib}", headers=bearer(gate)) as answer:
        async for chunk in answer.content.iter_any():
            received += len(chunk)
    assert received == mib * MIB
    assert peak_memory(pid_of(gate)) < 160 * MIB  # an interpreter with aiohttp has 50


async def test_a_slow_reader_slows_the_sender(gate, behind, visitor):
    async with visitor.get("/flood?mib=200", headers=bearer(gate)) as answer:
        await answer.content.readany()
        before = -1
        while behind.sent != before:  # until nothing moves any more
            before = behind.sent
            await asyncio.sleep(0.5)
        assert behind.sent < 100 * MIB


async def test_an_interrupted_response_ends_with_an_error(gate, visitor):
    with pytest.raises(aiohttp.ClientError):
        async with visitor.get("/half", headers=bearer(gate)) as answer:
            await answer.read()


async def test_no_service_behind_the_gate(gate, behind, visitor):
    await behind.close()
    async with visitor.get("/", headers=bearer(gate)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (502, "unreachable")


async def test_a_killed_gate_is_restarted_at_its_address(gate, visitor):
    async with visitor.get(f"/?access={gate.secret}") as answer:
        assert answer.status == 207
    os.kill(pid_of(gate), signal.SIGKILL)
    for attempt in range(2):
        try:
            async with visitor.get("/") as answer:
                assert answer.status == 207  # the cookie still counts
                break
        except aiohttp.ClientError:
            assert attempt == 0  # a connection that was open when it died


async def test_the_target_can_be_changed(gate, visitor, jp_asyncio_loop):
    other = Behind()
    await other.open()
    try:
        await gate.set_target(other.url)
        async with visitor.get("/", headers=bearer(gate)) as answer:
            assert answer.status == 207
        assert len(other.requests) == 1
    finally:
        await other.close()


async def test_the_secret_is_in_no_file_argument_or_environment(gate, visitor):
    async with visitor.get("/x", params={"access": gate.secret}) as answer:
        assert answer.status == 207
    assert gate.secret.encode() not in started_with(pid_of(gate))
    assert gate.secret not in kept_files(gate)


KEY, PASSWORD = "key-of-the-door-4711", "Basic YWRhOmRvb3I="
ASKED = Upstream({"X-Door-Key": KEY, "Authorization": PASSWORD})


@pytest.fixture
def gate_of_service(behind, tmp_path, jp_asyncio_loop) -> Iterator[GateProcess]:
    """A gate in front of a service that asks for credentials."""
    found = GateProcess(tmp_path / "gate" / "gate.log")
    jp_asyncio_loop.run_until_complete(found.open(behind.url, upstream=ASKED))
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


async def test_the_service_gets_the_credentials_that_it_asks_for(
    gate_of_service, behind, http_client
):
    mine = {"X-Door-Key": "guess", "X-Mine": "1", "Host": "calm.example"}
    page = {**bearer(gate_of_service), **mine, "Origin": "https://calm.example"}
    async with http_client.post(f"{gate_of_service.url}/x", data=b"1", headers=page) as answer:
        assert answer.status == 207
        assert not {"X-Door-Key", "Authorization"} & answer.headers.keys()
    async with http_client.get(
        f"{gate_of_service.url}/y",
        params={"access": gate_of_service.secret},
        headers={**mine, "Authorization": "Basic Z3Vlc3M6bWU="},
    ) as answer:
        assert answer.status == 207
    for request in behind.requests:
        assert request.headers.getall("X-Door-Key") == [KEY]
        assert request.headers.getall("Authorization") == [PASSWORD]
        assert request.headers.getall("Host") == [behind.url.removeprefix("http://")]
        assert request.headers["X-Mine"] == "1"
        assert "Origin" not in request.headers
    async with http_client.get(f"{gate_of_service.url}/x", headers=mine) as answer:
        assert (answer.status, len(behind.requests)) == (401, 2)
    url = f"{gate_of_service.url}/ws?access={gate_of_service.secret}"
    async with http_client.ws_connect(url, headers=mine) as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == "hello"
    assert behind.requests[-1].headers.getall("X-Door-Key") == [KEY]


async def test_the_credentials_of_the_service_are_never_shown(gate_of_service, behind, http_client):
    other = Behind()
    await other.open()
    try:
        async with http_client.request(
            "TRACE", f"{gate_of_service.url}/x", headers=bearer(gate_of_service)
        ) as answer:
            assert (answer.status, behind.requests) == (405, [])
        async with http_client.get(
            f"{gate_of_service.url}/closed", headers=bearer(gate_of_service)
        ) as answer:
            assert answer.status == 401
            assert not {"WWW-Authenticate", "Set-Cookie"} & answer.headers.keys()
        for to, shown in ((f"{behind.url}/a?b", "/a?b"), (f"{other.url}/a", f"{other.url}/a")):
            async with http_client.get(
                f"{gate_of_service.url}/moved",
                params={"to": to},
                headers=bearer(gate_of_service),
                allow_redirects=False,
            ) as answer:
                assert answer.headers["Location"] == shown
        # A redirect of a WebSocket is not followed: its target would get them.
        url = f"{gate_of_service.url}/ws?access={gate_of_service.secret}&moved={other.url}/ws"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http_client.ws_connect(url)
        assert (refused.value.status, other.requests) == (502, [])
    finally:
        await other.close()
    for secret in (KEY, PASSWORD.split()[1]):
        assert secret.encode() not in started_with(pid_of(gate_of_service))
        assert secret not in kept_files(gate_of_service)
        assert secret not in repr(GateSettings("http://127.0.0.1:1", "s", (), ASKED))


async def test_the_credentials_of_the_service_can_be_changed(gate_of_service, behind, http_client):
    long = {f"X-Long-{n}": "l" * 8000 for n in range(10)}  # larger than the buffer of a pipe
    await gate_of_service.set_target(behind.url, Upstream(long))
    async with http_client.get(
        f"{gate_of_service.url}/x", headers=bearer(gate_of_service)
    ) as answer:
        assert answer.status == 207
    given = behind.requests[-1].headers
    assert {name: given[name] for name in long} == long
    assert "X-Door-Key" not in given


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"ca": "none.pem"}, "comfyui_ca"),
        ({"client_cert": "text.pem"}, "comfyui_client_cert"),
        ({"client_key": "text.pem"}, "comfyui_client_cert"),
    ],
)
async def test_an_unusable_certificate_file_is_reported(
    behind, gate, visitor, tmp_path, settings, field
):
    (tmp_path / "text.pem").write_text("no certificate")
    upstream = Upstream(**{name: str(tmp_path / file) for name, file in settings.items()})
    new = GateProcess(tmp_path / "gate" / "other.log")
    pid = pid_of(gate)
    for attempt in (
        lambda: new.open(behind.url, upstream=upstream),
        lambda: gate.set_target(behind.url, upstream),
    ):
        with pytest.raises(TunnelFailedError, match="The certificates for http") as caught:
            await attempt()
        assert f"{field}: " in caught.value.message
        assert (caught.value.details["reason"], caught.value.details["field"]) == (
            "bad_certificate",
            field,
        )
    assert new.port == 0
    async with visitor.get("/", headers=bearer(gate)) as answer:  # nothing is changed
        assert answer.status == 207
    assert pid_of(gate) == pid


async def test_a_gate_with_a_missing_certificate_file_is_not_started_again(behind, tmp_path):
    """A killed gate cannot be started again; it would be tried for ever."""
    files = Certificates(tmp_path / "files")
    gate = GateProcess(tmp_path / "gate" / "gate.log")
    await gate.open(behind.url, upstream=Upstream(ca=str(files.ca)))
    try:
        pid = pid_of(gate)
        files.ca.unlink()
        os.kill(pid, signal.SIGKILL)
        await until_async(lambda: gate.error is not None)
        assert "comfyui_ca: " in gate.error.message
        assert pid_of(gate) == pid  # the record of the last process: no other one was started
    finally:
        await gate.close()


async def test_an_untrusted_server_certificate_is_reported_to_visitors(tmp_path, http_client):
    """The gate continues to run; visitors are told why the server is not reached."""
    server, other = Certificates(tmp_path / "server"), Certificates(tmp_path / "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.server)
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    gate = GateProcess(tmp_path / "gate" / "gate.log")
    try:
        await gate.open(url, upstream=Upstream(ca=str(other.ca)))
        pid = pid_of(gate)
        async with http_client.get(f"{gate.url}/x", headers=bearer(gate)) as answer:
            assert answer.status == 502
            assert answer.headers["X-ComfyDeploy-Gate"] == "bad_certificate"
            assert "certificate" in (await answer.json())["error"]
        assert pid_of(gate) == pid
    finally:
        await gate.close()
        listening.close()


@pytest.mark.parametrize(
    ("target", "upstream", "host"),
    [
        ("http://127.0.0.1:8188", Upstream(), None),
        ("http://[::1]:8188", Upstream(), None),
        ("http://localhost:8188", Upstream(), None),
        ("http://127.0.0.1:8188", Upstream({"X": "y"}), "127.0.0.1:8188"),
        ("https://gpu.example/comfyui", Upstream(), "gpu.example"),
        ("https://gpu.example:8443", Upstream(ca="ca.pem"), "gpu.example:8443"),
        ("http://[fd00::1]:8188", Upstream(), "[fd00::1]:8188"),
        ("http://[fd00::1]", Upstream(), "[fd00::1]"),
    ],
)
def test_a_reverse_proxy_gets_its_own_name(target, upstream, host):
    settings = GateSettings(target, "secret", (), upstream)
    assert settings.host == host
    assert GateSettings.from_json(settings.to_json()).upstream == upstream
