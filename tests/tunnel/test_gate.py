"""The gate in front of a small server: access, forwarded requests, and credentials."""

import asyncio
import gzip
import hashlib
import os
import re
import signal
import ssl
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from comfydeploy_jupyter.errors import TunnelFailedError
from comfydeploy_jupyter.tunnel.gate import ATTEMPTS, COOKIE, GateSettings, Upstream
from comfydeploy_jupyter.tunnel.tunnels import GateProcess
from tests.helpers.comfyui_proxies import Certificates
from tests.helpers.waiting import until_async
from tests.tunnel.conftest import MIB, Behind, bearer, pid_of

PAGE = {"Accept": "text/html,*/*"}


@pytest.fixture
def visitor(gate, jp_asyncio_loop):
    """A browser at the gate."""

    async def enter():
        return aiohttp.ClientSession(gate.url, cookie_jar=aiohttp.CookieJar(unsafe=True))

    session = jp_asyncio_loop.run_until_complete(enter())
    yield session
    jp_asyncio_loop.run_until_complete(session.close())


def peak_memory(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def assert_nowhere(gate, *secrets):
    """Check that secrets are in no argument, environment variable or file of a gate."""
    process = Path(f"/proc/{pid_of(gate)}")
    started_with = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    files = "".join(path.read_text() for path in gate.log_path.parent.iterdir())
    for secret in secrets:
        assert secret.encode() not in started_with
        assert secret not in files


async def test_access_needs_the_secret(gate, behind, visitor):
    headers = {"Cf-Connecting-Ip": "198.51.100.1"}
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        async with visitor.request(method, "/prompt", data=b"x" * 100) as answer:
            assert answer.status == 401
    for query in ("?access=", "?access=wrong", "?Access=x", f"?access={gate.secret}x"):
        async with visitor.get(f"/{query}", headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json())["code"] == "unauthorized"
    for cookie in (f"{COOKIE}=x", f"{COOKIE}={gate.secret}"):
        async with visitor.get("/", headers={"Cookie": cookie}) as answer:
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
    assert_nowhere(gate, gate.secret)


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
    with pytest.raises(aiohttp.ClientError):
        async with visitor.get("/half", headers=bearer(gate)) as answer:
            await answer.read()


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


async def test_guesses_are_limited_for_each_address_but_lock_out_nobody_with_the_secret(
    gate, visitor
):
    guesser = {"Cf-Connecting-Ip": "198.51.100.9"}  # clients can claim any address
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
    for headers in ({**guesser, **bearer(gate)}, {**bearer(gate), "Cf-Connecting-Ip": "x" * 4000}):
        async with visitor.get("/", headers=headers) as answer:
            assert answer.status == 207
    for address in (f"/?access={gate.secret}", "/"):  # then by the cookie
        async with visitor.get(address, headers=guesser) as answer:
            assert answer.status == 207


async def test_invented_addresses_give_no_new_attempts(open_gate, behind, http_client):
    url = f"{(await open_gate(behind.url)).url}/?access=x"
    for number in range(ATTEMPTS):
        async with http_client.get(url, headers={"Cf-Connecting-Ip": f"a{number}"}) as answer:
            assert answer.status == 401
    async with http_client.get(url, headers={"Cf-Connecting-Ip": "b"}) as answer:
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
    mib = 192
    chunk, digest = os.urandom(MIB), hashlib.sha256()

    async def body():
        for _ in range(mib):
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


async def test_a_killed_gate_is_restarted_at_its_address(open_gate, http_client):
    behind = Behind()
    await behind.open()
    gate = await open_gate(behind.url)
    async with http_client.get(f"{gate.url}/?access={gate.secret}") as answer:
        assert answer.status == 207
    os.kill(pid_of(gate), signal.SIGKILL)
    for attempt in range(2):
        try:
            async with http_client.get(gate.url) as answer:
                assert answer.status == 207  # the cookie still counts
                break
        except aiohttp.ClientError:
            assert attempt == 0  # a connection that was open when it died
    await behind.close()
    async with http_client.get(gate.url, headers=bearer(gate)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (502, "unreachable")


KEY, PASSWORD = "key-of-the-door-4711", "Basic YWRhOmRvb3I="
ASKED = Upstream({"X-Door-Key": KEY, "Authorization": PASSWORD})


async def test_a_service_that_asks_for_credentials(open_gate, behind, http_client):
    gate = await open_gate(behind.url, upstream=ASKED)
    mine = {"X-Door-Key": "guess", "X-Mine": "1", "Host": "calm.example"}
    page = {**bearer(gate), **mine, "Origin": "https://calm.example"}
    async with http_client.post(f"{gate.url}/x", data=b"1", headers=page) as answer:
        assert answer.status == 207
        assert not {"X-Door-Key", "Authorization"} & answer.headers.keys()
    with_password = {**mine, "Authorization": "Basic Z3Vlc3M6bWU="}
    by_link = f"access={gate.secret}"
    async with http_client.get(f"{gate.url}/y?{by_link}", headers=with_password) as answer:
        assert answer.status == 207
    http_client.cookie_jar.clear()
    for request in behind.requests:
        assert request.headers.getall("X-Door-Key") == [KEY]
        assert request.headers.getall("Authorization") == [PASSWORD]
        assert request.headers.getall("Host") == [behind.url.removeprefix("http://")]
        assert request.headers["X-Mine"] == "1"
        assert "Origin" not in request.headers
    async with http_client.get(f"{gate.url}/x", headers=mine) as answer:
        assert (answer.status, len(behind.requests)) == (401, 2)
    async with http_client.ws_connect(f"{gate.url}/ws?{by_link}", headers=mine) as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == "hello"
    assert behind.requests[-1].headers.getall("X-Door-Key") == [KEY]
    # They are never shown.
    behind.requests.clear()
    async with http_client.request("TRACE", f"{gate.url}/x", headers=bearer(gate)) as answer:
        assert (answer.status, behind.requests) == (405, [])
    async with http_client.get(f"{gate.url}/closed", headers=bearer(gate)) as answer:
        assert answer.status == 401
        assert not {"WWW-Authenticate", "Set-Cookie"} & answer.headers.keys()
    assert_nowhere(gate, KEY, PASSWORD.split()[1])
    assert KEY not in repr(GateSettings("http://127.0.0.1:1", "s", (), ASKED))
    # The service moves, and asks for more than fits into the buffer of a pipe.
    other = Behind()
    await other.open()
    try:
        for to, shown in ((f"{behind.url}/a?b", "/a?b"), (f"{other.url}/a", f"{other.url}/a")):
            url = f"{gate.url}/moved"
            async with http_client.get(
                url, params={"to": to}, headers=bearer(gate), allow_redirects=False
            ) as answer:
                assert answer.headers["Location"] == shown
        # A redirect of a WebSocket is not followed: its target would get the credentials.
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http_client.ws_connect(f"{gate.url}/ws?{by_link}&moved={other.url}/ws")
        assert (refused.value.status, other.requests) == (502, [])
        long = {f"X-Long-{n}": "l" * 8000 for n in range(10)}
        await gate.set_target(other.url, Upstream(long))
        async with http_client.get(f"{gate.url}/x", headers=bearer(gate)) as answer:
            assert answer.status == 207
        (request,) = other.requests
        assert {name: request.headers[name] for name in long} == long
        assert "X-Door-Key" not in request.headers
    finally:
        await other.close()


async def test_an_unusable_certificate_file_is_reported(behind, gate, http_client, tmp_path):
    (tmp_path / "text.pem").write_text("no certificate")
    new = GateProcess(tmp_path / "gate" / "other.log")
    pid = pid_of(gate)
    for setting, file, field in (
        ("ca", "none.pem", "comfyui_ca"),
        ("client_cert", "text.pem", "comfyui_client_cert"),
        ("client_key", "text.pem", "comfyui_client_cert"),
    ):
        upstream = Upstream(**{setting: str(tmp_path / file)})
        for attempt in (new.open, gate.set_target):
            with pytest.raises(TunnelFailedError, match="The certificates for http") as caught:
                await attempt(behind.url, upstream=upstream)
            assert f"{field}: " in caught.value.message
            assert caught.value.details["reason"] == "bad_certificate"
            assert caught.value.details["field"] == field
    assert new.port == 0
    async with http_client.get(gate.url, headers=bearer(gate)) as answer:  # nothing is changed
        assert answer.status == 207
    assert pid_of(gate) == pid


async def test_an_untrusted_server_certificate_is_reported_to_visitors(
    open_gate, tmp_path, http_client
):
    """The gate continues to run; once killed, it cannot start without the file."""
    server, other = Certificates(tmp_path / "server"), Certificates(tmp_path / "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.server)
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    gate = await open_gate(url, upstream=Upstream(ca=str(other.ca)))
    pid = pid_of(gate)
    async with http_client.get(f"{gate.url}/x", headers=bearer(gate)) as answer:
        assert answer.status == 502
        assert answer.headers["X-ComfyDeploy-Gate"] == "bad_certificate"
        assert "certificate" in (await answer.json())["error"]
    listening.close()
    assert pid_of(gate) == pid
    other.ca.unlink()
    os.kill(pid, signal.SIGKILL)
    await until_async(lambda: gate.error is not None)
    assert "comfyui_ca: " in gate.error.message
    assert pid_of(gate) == pid  # the record of the last process: no other one was started


@pytest.mark.parametrize(
    ("target", "upstream", "host"),
    [
        ("http://[::1]:8188", Upstream(), None),
        ("http://localhost:8188", Upstream(), None),
        ("http://127.0.0.1:8188", Upstream({"X": "y"}), "127.0.0.1:8188"),
        ("https://gpu.example:8443", Upstream(ca="ca.pem"), "gpu.example:8443"),
        ("http://[fd00::1]", Upstream(), "[fd00::1]"),
    ],
)
def test_a_reverse_proxy_gets_its_own_name(target, upstream, host):
    settings = GateSettings(target, "secret", (), upstream)
    assert settings.host == host
    assert GateSettings.from_json(settings.to_json()).upstream == upstream
