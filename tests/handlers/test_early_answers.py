"""Requests that are refused before their body has arrived: the reply arrives, and its header
``Connection`` is correct."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from itertools import product
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

MIB = 1024 * 1024
FORM = "multipart/form-data; boundary=x"
LIMIT = 32 * MIB
LINGER = 64 * MIB


@pytest.fixture(scope="module")
def server(start_jupyter, comfyui):
    """A Jupyter server that takes small uploads only."""
    return start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "max_upload_size": LIMIT,
            "max_json_size": LIMIT,
            "comfydeploy_url": "http://127.0.0.1:9",
        }
    )


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self):
        return str(json.loads(self.body)["code"])

    @property
    def closes(self):
        return self.headers.get("connection", "") == "close"


class Connection:
    """A connection on which the test writes and reads bytes."""

    def __init__(self, server):
        self.server = server
        address = urlsplit(server.url)
        self.path = address.path
        self.socket = socket.create_connection((address.hostname, address.port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send_head(self, method, route, *headers, token=True):
        lines = [f"{method} {self.path}{route} HTTP/1.1", "Host: 127.0.0.1", *headers]
        if token:
            lines.append(f"Authorization: token {self.server.token}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def read(self, *, body=True):
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0")) if body else 0
        return Reply(status, headers, self.file.read(length))

    def has_ended(self):
        """Whether the server closes it properly: no byte follows, and no reset."""
        return self.file.read() == b""

    def is_usable(self):
        self.send_head("GET", "comfyui-deploy/check-ws-status")
        reply = self.read()
        return reply.status == 200 and "connected" in json.loads(reply.body)

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def connection(server):
    with closing(Connection(server)) as connection:
        yield connection


class Refused(NamedTuple):
    """A request that is rejected because of its head."""

    method: str
    route: str
    token: bool
    status: int
    code: str

    def send(self, connection, *headers):
        kind = f"Content-Type: {FORM}"
        connection.send_head(self.method, self.route, kind, *headers, token=self.token)

    def check(self, reply):
        assert (reply.status, reply.code) == (self.status, self.code)


REFUSED = [
    Refused("POST", "comfyui-deploy/upload-file", False, 403, "unauthorized"),
    Refused("POST", "comfyui-deploy/upload-file?machine=none", True, 404, "not_found"),
    Refused("PUT", "comfyui-deploy/upload-file", True, 405, "method_not_allowed"),
    Refused("POST", "comfydeploy/api/x", False, 403, "unauthorized"),
    Refused("PUT", "comfydeploy/api/x", True, 405, "method_not_allowed"),
    Refused("POST", "comfyui/upload/image", False, 403, "unauthorized"),
]


each_refused = pytest.mark.parametrize(
    "refused", REFUSED, ids=lambda r: f"{r.status}-{r.method}-{r.route}"
)


@each_refused
def test_small_bodies_are_read_and_the_connection_stays(connection, refused):
    for size in (1, 1000, MIB, MIB):
        refused.send(connection, f"Content-Length: {size}")
        connection.socket.sendall(bytes(size))
        reply = connection.read()
        refused.check(reply)
        assert not reply.closes
    assert connection.is_usable()


@each_refused
@pytest.mark.parametrize("length", [(), ("Content-Length: 0",)], ids=["none", "0"])
def test_without_a_body_the_connection_header_is_true(connection, refused, length):
    refused.send(connection, *length)
    reply = connection.read()
    refused.check(reply)
    assert connection.has_ended() if reply.closes else connection.is_usable()


def test_the_body_of_an_options_request_is_skipped(connection):
    for route in ("comfyui-deploy/upload-file", "comfydeploy/api/x"):
        for kind in (FORM, "application/json"):
            connection.send_head("OPTIONS", route, f"Content-Type: {kind}", "Content-Length: 1000")
            connection.socket.sendall(bytes(1000))
            reply = connection.read()
            assert reply.status in (200, 204)
            assert not reply.closes
    assert connection.is_usable()


@each_refused
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_bodies_are_answered_at_once_and_end_the_connection(connection, refused, framing):
    size = 16 * MIB
    refused.send(
        connection,
        f"Content-Length: {size}" if framing == "length" else "Transfer-Encoding: chunked",
    )
    reply = connection.read()  # nothing of the body has been sent
    refused.check(reply)
    assert reply.closes
    if framing == "length":
        connection.socket.sendall(bytes(size))
    else:
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        connection.socket.sendall(chunk * (size // 0x10000) + b"0\r\n\r\n")
    assert connection.has_ended()


@each_refused
def test_a_client_that_expects_100_continue_gets_the_refusal_instead(connection, refused):
    refused.send(connection, "Content-Length: 5000", "Expect: 100-continue")
    reply = connection.read()
    refused.check(reply)
    assert reply.closes
    assert connection.has_ended()


@pytest.mark.parametrize("kind", [FORM, "application/json"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_too_large_bodies(connection, kind, framing):
    length = f"Content-Length: {1 << 40}" if framing == "length" else "Transfer-Encoding: chunked"
    connection.send_head("POST", "comfyui-deploy/upload-file", f"Content-Type: {kind}", length)
    if framing == "chunked":
        start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        connection.socket.sendall(b"%x\r\n%s\r\n" % (len(start), start))
        chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
        connection.socket.sendall(chunk * (LIMIT // MIB + 2))
    reply = connection.read()
    assert (reply.status, reply.code, reply.closes) == (413, "too_large", True)


def test_a_wrong_field_near_the_end_of_the_body(connection):
    body = b'--x\r\nContent-Disposition: form-data; name="type"\r\n\r\nnowhere\r\n--x--\r\n'
    head = (f"Content-Type: {FORM}", f"Content-Length: {len(body)}")
    connection.send_head("POST", "comfyui-deploy/upload-file", *head)
    connection.socket.sendall(body)
    reply = connection.read()
    assert (reply.status, reply.code, reply.closes) == (400, "invalid_request", False)
    assert connection.is_usable()


def test_a_client_that_expects_100_continue_gets_it_and_sends(connection):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="early.txt"\r\n\r\n'
        b"hello\r\n--x--\r\n"
    )
    head = (f"Content-Type: {FORM}", f"Content-Length: {len(body)}", "Expect: 100-continue")
    connection.send_head("POST", "comfyui-deploy/upload-file", *head)
    assert connection.file.readline().startswith(b"HTTP/1.1 100 ")
    assert connection.file.readline() == b"\r\n"
    connection.socket.sendall(body)
    reply = connection.read()
    assert (reply.status, reply.closes) == (200, False), reply.body
    assert connection.is_usable()


def test_endless_bodies_are_not_read_to_their_end(connection):
    length = f"Content-Length: {1 << 40}"
    connection.send_head("POST", "comfyui-deploy/upload-file", length, token=False)
    assert connection.read().closes
    sent = 0
    with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012 - one of many fails
        while sent < 2 * LINGER:
            connection.socket.sendall(bytes(MIB))
            sent += MIB
    assert sent < 2 * LINGER


@pytest.mark.thorough
def test_a_silent_client_does_not_keep_the_connection_open_forever(connection):
    length = f"Content-Length: {1 << 40}"
    connection.send_head("POST", "comfyui-deploy/upload-file", length, token=False)
    assert connection.read().closes
    began = time.monotonic()
    assert connection.has_ended()
    assert time.monotonic() - began < 30


def test_the_connection_header_is_true_without_reading_a_body(server):
    """A proxy would use the connection again otherwise, and report a broken server."""
    for method, route, token, site in product(
        ("GET", "HEAD"),
        ("comfyui/api/queue", "comfyui", "comfydeploy/x"),
        (True, False),
        ("cross-site", "same-origin"),
    ):
        with closing(Connection(server)) as connection:
            connection.send_head(method, route, f"Sec-Fetch-Site: {site}", token=token)
            reply = connection.read(body=method == "GET")
            assert connection.has_ended() if reply.closes else connection.is_usable()
