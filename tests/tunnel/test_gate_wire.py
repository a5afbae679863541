"""The gate, byte for byte: paths, requests and connections as no browser sends them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from comfydeploy_jupyter.tunnel.gate import COOKIE

from . import test_gate

if TYPE_CHECKING:
    from comfydeploy_jupyter.tunnel.gate_process import GateProcess

behind = test_gate.behind
gate = test_gate.gate
visitor = test_gate.visitor


SILENCE = 0.3  # s after an answer, in which a second one would come


async def send(gate: GateProcess, *requests: bytes) -> bytes:
    """Send some bytes on one connection; return what comes back until it ends, or is silent.

    One that refuses what it has not read whole may break off before its answer has arrived.
    """
    parts = urlsplit(gate.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    answer = b""
    with contextlib.suppress(asyncio.TimeoutError, ConnectionResetError):
        for request in requests:
            writer.write(request)
            await writer.drain()
        while piece := await asyncio.wait_for(reader.read(65536), SILENCE if answer else 60):
            answer += piece
    writer.close()
    return answer


def head(method: str, target: str, *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: calm.example", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def key(gate: GateProcess) -> str:
    return f"Authorization: Bearer {gate.secret}"


STRANGE = (
    ("GET", "//evil.example/x"),
    ("GET", "/%2e%2e/%2f/x"),
    ("GET", "/..;/x"),
    ("GET", "/\\evil.example"),
    ("GET", "/x?access"),
    ("GET", "/x#?access=1"),
    ("GET", "/?%61ccess=1"),
    ("HEAD", "/"),
    ("OPTIONS", "/"),
    ("OPTIONS", "*"),
    ("TRACE", "/"),
    ("PROPFIND", "/"),
    ("CONNECT", "127.0.0.1:8188"),
    ("GET", "http://127.0.0.1:8188/prompt"),
    ("POST", "http://evil.example/prompt"),
)


@pytest.mark.parametrize(("method", "target"), STRANGE)
async def test_without_the_secret_nothing_gets_through(gate, behind, method, target):
    answer = await send(gate, head(method, target, "Connection: close"))
    status = int(answer.split()[1])
    assert status in (400, 401, 405), answer
    assert behind.requests == []


@pytest.mark.parametrize(("method", "target"), STRANGE[:6] + STRANGE[-3:])
async def test_with_it_nothing_leads_elsewhere(gate, behind, method, target):
    answer = await send(gate, head(method, target, key(gate), "Connection: close"))
    for request in behind.requests:
        assert request.raw_path.startswith("/"), request.raw_path
    if not target.startswith("/"):
        assert answer.split()[1] == b"400"
        assert behind.requests == []


@pytest.mark.parametrize("start", ["//", "/\\", "/\\/\\", "\\/".rjust(3, "/")])
async def test_the_way_without_the_secret_stays_on_the_host(gate, start):
    target = f"{start}evil.example/?access={gate.secret}"
    answer = await send(gate, head("GET", target, "Accept: text/html", "Connection: close"))
    assert answer.split()[1] == b"303"
    assert b"\r\nLocation: /evil.example/\r\n" in answer


SMUGGLED = head("GET", "/smuggled")
AMBIGUOUS = (
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding : chunked",),
    ("Transfer-Encoding:\x0bchunked",),
    ("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"),
    ("Content-Length: +0",),
    ("Content-Length: -1",),
    (f"Content-Length: {'9' * 30}",),
    ("Connection: Content-Length", f"Content-Length: {len(SMUGGLED)}"),
)


@pytest.mark.parametrize("headers", AMBIGUOUS, ids=lambda h: "+".join(h)[:40])
@pytest.mark.parametrize("known", [True, False])
async def test_no_request_hides_in_another(gate, behind, headers, known):
    """Whether or not the first one may pass, the second has no secret and does not."""
    first = head("POST", "/first", *headers, *([key(gate)] if known else []))
    await send(gate, first + b"0\r\n\r\n" * (len(headers) > 1) + SMUGGLED)
    assert [request.path for request in behind.requests] in ([], ["/first"])


async def test_each_request_of_a_connection_is_judged(gate, behind):
    answer = await send(
        gate,
        head("GET", "/one", key(gate)),
        head("GET", "/two"),
        head("GET", "/three", "Cookie: a=1", "Authorization: Bearer wrong"),
        head("GET", "/four", key(gate), "Connection: close"),
    )
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
    assert statuses == [b"207", b"401", b"401", b"207"]
    assert [request.path for request in behind.requests] == ["/one", "/four"]


async def test_what_was_passed_on_is_answered_to_who_asked(gate, behind):
    """An upgrade that is refused leaves no open way to what is behind."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    wrong = (*upgrade, "Sec-WebSocket-Version: 777", "Sec-WebSocket-Key: x")
    for headers in (wrong, ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")):
        behind.requests.clear()
        await send(gate, head("GET", "/ws", key(gate), *headers) + SMUGGLED)
        assert "/smuggled" not in [request.path for request in behind.requests]
    answer = await send(gate, head("GET", "/ws", *upgrade, "Connection: close"))
    assert answer.split()[1] == b"401"


async def test_headers_that_open_the_gate_stay_at_it(gate, behind):
    spoiled = (
        f"X-Copy: {gate.secret}",
        f"Referer: https://calm.example/?access={gate.secret}",
        f"Cookie: {COOKIE}=x; a=b; {COOKIE} = y",
        "Connection: close, Cookie2",
        "Cookie2: 1",
    )
    await send(gate, head("GET", "/x", key(gate), *spoiled))
    (request,) = behind.requests
    assert gate.secret not in str(request.headers)
    assert COOKIE not in str(request.headers)
    assert "Cookie2" not in request.headers


async def test_too_much_of_a_head_is_refused(gate, behind):
    for headers in ([f"X: {'a' * 200_000}"], [f"Cookie: {COOKIE}={'=' * 70_000}"]):
        answer = await send(gate, head("GET", "/", *headers, "Connection: close"))
        assert answer.split()[1:2] in ([], [b"400"], [b"431"]), answer[:100]
    assert behind.requests == []


async def test_who_sends_slowly_holds_up_nobody(gate, behind):
    """Half a request, or half of a large body of a stranger, costs one idle connection each."""
    parts = urlsplit(gate.url)
    slow = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(100)]
    for number, (_, writer) in enumerate(slow):
        body = head("POST", "/", "Content-Length: 1000000") + b"x"
        writer.write(b"GET / HTTP/1.1\r\nHost: c" if number % 2 else body)
        await writer.drain()
    answer = await send(gate, head("GET", "/x", key(gate), "Connection: close"))
    assert answer.split()[1] == b"207"
    for _, writer in slow:
        writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), 403),
        (("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"), 403),
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), 403),
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"), 207),
        (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"), 207),
    ],
)
async def test_other_sites_may_link_and_nothing_else(gate, visitor, behind, headers, status):
    async with visitor.get(f"/?access={gate.secret}") as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    answer = await send(gate, head("GET", "/x", f"Cookie: {cookie}", *headers, "Connection: close"))
    assert int(answer.split()[1]) == status
