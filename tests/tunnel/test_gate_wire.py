"""The bytes of the gate: paths, requests and connections that no browser sends."""

import asyncio
import contextlib
import itertools
import re
import time
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.tunnel.gate import COOKIE, HALF_HEADS, HEAD_TIMEOUT
from tests.helpers.selection import THOROUGH, examples

SILENCE = 0.3  # s after an answer, in which a second one would come


async def send(gate, *requests):
    """Send some bytes on one connection; return the received bytes until it ends, or is silent.

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


def head(method, target, *headers):
    lines = [f"{method} {target} HTTP/1.1", "Host: calm.example", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def key(gate):
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


async def test_strange_requests_reach_the_service_only_with_the_secret_and_nobody_else(
    gate, behind
):
    for method, target in STRANGE:
        answer = await send(gate, head(method, target, "Connection: close"))
        assert int(answer.split()[1]) in (400, 401, 405), answer
        assert behind.requests == []
    for method, target in STRANGE[:6] + STRANGE[-3:]:
        behind.requests.clear()
        answer = await send(gate, head(method, target, key(gate), "Connection: close"))
        for request in behind.requests:
            assert request.raw_path.startswith("/"), request.raw_path
        if not target.startswith("/"):
            assert (answer.split()[1], behind.requests) == (b"400", [])
    for start in ("//", "/\\", "/\\/\\", "/\\/"):
        target = f"{start}evil.example/?access={gate.secret}"
        answer = await send(gate, head("GET", target, "Accept: text/html", "Connection: close"))
        assert answer.split()[1] == b"303", "the redirect that removes the secret"
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


async def test_a_request_inside_the_body_of_another_is_not_passed_on(gate, behind):
    """The second request has no secret, and is rejected also if the first one is allowed."""

    async def smuggle(headers, known):
        first = head("POST", "/first", *headers, *known)
        await send(gate, first + b"0\r\n\r\n" * (len(headers) > 1) + SMUGGLED)

    await asyncio.gather(
        *(smuggle(headers, known) for headers in AMBIGUOUS for known in ([], [key(gate)]))
    )
    assert {request.path for request in behind.requests} <= {"/first"}


async def test_each_request_of_a_connection_is_checked(gate, behind):
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


async def test_a_rejected_upgrade_does_not_open_the_connection_to_the_service(gate, behind):
    """After a rejected upgrade, the connection does not reach the server behind the gate."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    wrong = (*upgrade, "Sec-WebSocket-Version: 777", "Sec-WebSocket-Key: x")
    for headers in (wrong, ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")):
        behind.requests.clear()
        await send(gate, head("GET", "/ws", key(gate), *headers) + SMUGGLED)
        assert "/smuggled" not in [request.path for request in behind.requests]
    answer = await send(gate, head("GET", "/ws", *upgrade, "Connection: close"))
    assert answer.split()[1] == b"401"


async def test_headers_with_the_secret_are_not_passed_on(gate, behind):
    headers_with_secret = (
        f"X-Copy: {gate.secret}",
        f"Referer: https://calm.example/?access={gate.secret}",
        f"Cookie: {COOKIE}=x; a=b; {COOKIE} = y",
        "Connection: close, Cookie2",
        "Cookie2: 1",
        "Cf-Access-Jwt-Assertion: who it is",
        "cf-access-authenticated-user-email: who@it.is",
        "Cookie: CF_Authorization=who; c=d; CF_AppSession=it",
    )
    await send(gate, head("GET", "/x", key(gate), *headers_with_secret))
    (request,) = behind.requests
    assert "who" not in str(request.headers)
    assert request.headers.getall("Cookie") == ["a=b", "c=d"]
    assert gate.secret not in str(request.headers)
    assert COOKIE not in str(request.headers)
    assert "Cookie2" not in request.headers


async def test_too_large_request_heads_are_refused(gate, behind):
    for headers in ([f"X: {'a' * 200_000}"], [f"Cookie: {COOKIE}={'=' * 70_000}"]):
        answer = await send(gate, head("GET", "/", *headers, "Connection: close"))
        assert answer.split()[1:2] in ([], [b"400"], [b"431"]), answer[:100]
    assert behind.requests == []


async def test_other_sites_may_only_link_to_the_service(gate, http_client):
    async with http_client.get(f"{gate.url}/?access={gate.secret}") as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    for status, site, *more in (
        (403, "cross-site", "Sec-Fetch-Mode: no-cors"),
        (403, "same-site", "Sec-Fetch-Mode: no-cors"),
        (403, "cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        (207, "cross-site", "Sec-Fetch-Mode: navigate"),
        (207, "same-origin", "Sec-Fetch-Mode: cors"),
    ):
        headers = (f"Cookie: {cookie}", f"Sec-Fetch-Site: {site}", *more, "Connection: close")
        answer = await send(gate, head("GET", "/x", *headers))
        assert int(answer.split()[1]) == status, (site, more)


ODD = (
    head("GET", "/", f"Cookie: {COOKIE}=\x80"),
    head("GET", "/", "Authorization: Bearer \x80\xff"),
    head("GET", "/?access=\x80%ff"),
    head("GET", "/", "Accept: \x80text/html", "Cf-Connecting-Ip: \x80"),
    head("POST", "/", "Origin: http://[", "Content-Length: 0"),
    head("GET", "/ws", "Connection: Upgrade", "Upgrade: websocket", "Origin: http://]["),
    head("GET", "/", "Sec-Fetch-Site: \x80", "Host: \x80"),
)


async def test_malformed_requests_cause_no_server_error(gate, behind):
    for request, known in itertools.product(ODD, (b"", f"{key(gate)}\r\n".encode())):
        lines = request.removesuffix(b"\r\n") + known
        answer = await send(gate, lines + b"Connection: close\r\n\r\n")
        assert int(answer.split()[1]) in (207, 400, 401, 403), (request, answer)
    assert "Traceback" not in gate.log_path.read_text()
    assert gate.secret not in gate.log_path.read_text()
    answer = await send(gate, head("GET", "/x", key(gate), "X-Odd: a\x80b", "Connection: close"))
    assert answer.split()[1] == b"207"
    assert behind.requests[-1].headers["X-Odd"] == "a?b"


def bad_lines(secret):
    return [
        f"GET /?access={secret}\x00 HTTP/1.1\r\n\r\n".encode(),
        f"GET /?access={secret} HTTP/9.9\r\n\r\n".encode(),
        f"GET /?access={secret}\r\n\r\n".encode(),
        f"G\x80T /?access={secret} HTTP/1.1\r\n\r\n".encode("latin-1"),
        f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {secret}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nContent-Length: {secret}\r\n\r\n".encode(),
    ]


async def test_the_log_is_bounded_and_has_no_secret(gate):
    requests = bad_lines(gate.secret)
    for request in requests * 50:
        answer = await send(gate, request)
        assert answer == b"" or answer.split()[1] in (b"400", b"401", b"207"), answer
    log = gate.log_path.read_text()
    assert gate.secret not in log
    assert "Traceback" not in log
    assert len(log) < 10_000
    assert len(log.splitlines()) <= 8 * len(requests), "each place by powers of two"


PARTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(b"GET / HTTP/1.1\r\n", b"POST /x?access=", b"Host: a\r\n", b"\r\n", b"\r\n\r\n"),
            *(f"Cookie: {COOKIE}=".encode(), b"Authorization: Bearer ", b"Origin: http://["),
            *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: websocket"),
            *(b"Connection: Upgrade\r\n", b"Sec-Fetch-Site: ", b"Cf-Connecting-Ip: ", b"%00%ff"),
        ]
    ),
)


@pytest.mark.parametrize("known", [True, False])
def test_random_requests_do_not_end_the_gate(gate, behind, jp_asyncio_loop, known):
    """Random requests, with the secret and without it."""
    parts = urlsplit(gate.url)

    async def exchange(data):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(data)
        with contextlib.suppress(OSError):
            writer.write_eof()
        answer = b""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            answer = await asyncio.wait_for(reader.read(65536), 0.2)
        writer.close()
        return answer

    @settings(max_examples=examples(150), derandomize=True, database=None)
    @given(st.lists(PARTS, max_size=12))
    def fuzz(pieces):
        start = b"GET / HTTP/1.1\r\n" + f"{key(gate)}\r\n".encode() if known else b""
        answer = jp_asyncio_loop.run_until_complete(exchange(start + b"".join(pieces)))
        assert not re.match(rb"HTTP/1.1 500", answer), answer

    fuzz()
    answer = jp_asyncio_loop.run_until_complete(
        send(gate, head("GET", "/x", key(gate), "Connection: close"))
    )
    assert answer.split()[1] == b"207"
    log = gate.log_path.read_text()
    assert gate.secret not in log
    assert "Traceback" not in log
    assert len(log) < 20_000


async def test_incomplete_request_heads_are_limited_in_number_and_time(gate):
    parts = urlsplit(gate.url)
    starts = (b"", b"GET / HTTP/1.1\r\nHost: c", head("GET", "/") + b"GET / HTTP/1.1\r\nX: y")
    begun = time.monotonic()
    slow = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(150)]

    async def closed(reader):
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        return time.monotonic() - begun

    async def send_slowly():
        for text in [starts] + [(b"z",) * 3] * 100:
            for number, (_, writer) in enumerate(slow):
                with contextlib.suppress(OSError):
                    writer.write(text[number % 3])
            await asyncio.sleep(0.2)

    sending = asyncio.ensure_future(send_slowly())
    waiting = [asyncio.ensure_future(closed(reader)) for reader, _ in slow]
    ended, _ = await asyncio.wait(waiting, timeout=None if THOROUGH else 2)
    sending.cancel()
    early = [one.result() for one in ended if one.result() < HEAD_TIMEOUT - 1]
    assert len(early) >= len(slow) - HALF_HEADS, "the oldest connections are closed"
    if THOROUGH:
        assert max(one.result() for one in ended) < HEAD_TIMEOUT + 5
    for _, writer in slow:
        writer.close()
    await asyncio.wait(waiting)
    answer = await send(gate, head("GET", "/x", key(gate), "Connection: close"))
    assert answer.split()[1] == b"207"
