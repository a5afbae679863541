"""A real ComfyUI behind proxies: with errors, with the behaviour of 0.33, or behind a password."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import gzip
import ipaddress
import json
import ssl
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.helpers.servers import AppServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.helpers.comfyui import ComfyUIServer

    Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]

HOP_BY_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding", "host")
PIECE = 1024 * 1024  # bytes of one write
PAGE = "<!DOCTYPE html><html><body><h1>Service Unavailable</h1></body></html>"
# Every field of ComfyUI's responses, each with a wrong type.
UNEXPECTED_REPLY = {
    "exec_info": {"queue_remaining": {}},
    "queue_running": 5,
    "queue_pending": {"a": []},
    "system": ["posix"],
    "devices": {"cpu": 1},
    "name": {"a": 1},
    "subfolder": 7,
    "type": [],
    "prompt_id": [1],
    "number": "one",
    "node_errors": [5],
    "error": 3,
    "TestText": {"input": 7, "output": "x"},
}


def answering(status: int, body: str | bytes, kind: str) -> Fault:
    """Return an error: a response that ComfyUI does not send."""

    async def answer(request: web.Request) -> web.StreamResponse:
        data = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=data, headers={"Content-Type": kind})

    answer.__name__ = f"answer_{status}"
    return answer


async def moved(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": request.path_qs})


async def unexpected_reply(request: web.Request) -> web.StreamResponse:
    last = request.path.rpartition("/")[2]
    entry = {"prompt": 5, "outputs": {"1": [2], "2": "x"}, "status": ["success"], "meta": None}
    return web.json_response({**UNEXPECTED_REPLY, last: entry})


async def hanging(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def aborted(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(b'{"system": {"os": "posix", ')
    return await _abort_later(request)


async def cut_chunks(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of a response without a length."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"\x89PNG")
    return await _abort_later(request)


async def _abort_later(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.2)  # the written bytes must be sent before the connection ends
    return await aborted(request)


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"\x16\x03\x01\x00\xff" * 100)
    await asyncio.sleep(0)
    return await aborted(request)


async def endless(request: web.Request) -> web.StreamResponse:
    """Send a JSON text that never ends."""
    return await _for_ever(request, b'{"a": "', b"x" * PIECE)


async def bomb(request: web.Request) -> web.StreamResponse:
    """Send a small compressed body whose decompressed content has no end."""
    headers = {"Content-Encoding": "gzip"}
    return await _for_ever(request, b"", gzip.compress(b"\0" * 64 * PIECE), headers)


async def _for_ever(
    request: web.Request, begin: bytes, piece: bytes, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", **(headers or {})})
    await response.prepare(request)
    await response.write(begin)
    while True:
        await response.write(piece)


FAULTS: dict[str, Fault] = {
    # one of each kind first
    "503 page": answering(503, PAGE, "text/html"),
    "page": answering(200, PAGE, "text/html"),
    "nonsense": unexpected_reply,
    "aborted": aborted,
    "hanging": hanging,
    "endless": endless,
    "500": answering(500, "500 Internal Server Error", "text/plain"),
    "400 page": answering(400, PAGE, "text/html"),
    "empty": answering(200, b"", "application/json"),
    "null": answering(200, "null", "application/json"),
    "list": answering(200, "[[5]]", "application/json"),
    "deep": answering(200, "[" * 100_000, "application/json"),
    "bytes": answering(200, b"\xff\xfe\x00" * 1000, "application/json"),
    "infinite": answering(200, '{"exec_info": {"queue_remaining": 1e999}}', "application/json"),
    "moved": moved,
    "cut short": cut_short,
    "cut chunks": cut_chunks,
    "no HTTP": no_http,
    "bomb": bomb,
}


class FaultyComfyUI(AppServer):
    def __init__(self, target: str) -> None:
        self.target = target
        self.delay = 0.0
        self.sockets_seen = 0
        self.requests: Counter[str] = Counter()
        self._faults: dict[tuple[str, str], Fault] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    def fail(self, method: str, path: str, fault: Fault) -> None:
        """Simulate an error at the route ``path`` and all below it, until `remove_faults`."""
        self._faults[method, path] = fault

    def remove_faults(self) -> None:
        """Forward everything again; close the connections of requests that hang."""
        self._faults.clear()
        self.delay = 0.0

    def ask(self, path: str) -> Any:
        return requests.get(self.target + path, timeout=60).json()

    def send(self, *frames: str | bytes) -> None:
        """Send frames over every open WebSocket, as if ComfyUI had sent them."""
        self.wait(self._send(frames))

    def drop_sockets(self) -> int:
        """Close every open WebSocket; return their number."""
        return self.wait(self._drop())

    # -- on the loop of the proxy

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/{tail:.*}", self._pass_on)
        return app

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        unlimited = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=unlimited, auto_decompress=False) as session:
            self._session = session
            async with super().serving():
                yield
                await self._drop()

    async def _send(self, frames: tuple[str | bytes, ...]) -> None:
        for socket in list(self._sockets):
            for frame in frames:
                with contextlib.suppress(ConnectionError):
                    if isinstance(frame, str):
                        await socket.send_str(frame)
                    else:
                        await socket.send_bytes(frame)

    async def _drop(self) -> int:
        sockets, self._sockets = self._sockets, set()
        for socket in sockets:
            request = socket._req
            if request is not None and request.transport is not None:
                request.transport.abort()
        return len(sockets)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path}"] += 1
        for (method, path), fault in list(self._faults.items()):
            if request.method == method and f"{request.path}/".startswith(f"{path}/"):
                await request.read()
                return await fault(request)
        await asyncio.sleep(self.delay)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        async with self._session.request(
            request.method,
            self.target + request.path_qs,
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            back = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=back)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        client = web.WebSocketResponse(max_msg_size=0, compress=False)
        await client.prepare(request)
        async with self._session.ws_connect(
            self.target + request.path_qs, max_msg_size=0, compress=0
        ) as server:
            self._sockets.add(client)
            self.sockets_seen += 1
            upwards = asyncio.ensure_future(_copy(client, server))
            try:
                await _copy(server, client)
            finally:
                upwards.cancel()
                self._sockets.discard(client)
        return client


async def _copy(source: Any, target: Any) -> None:
    """Forward frames until one end is closed, then close the other one."""
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
    await target.close()


def text_frame(event: str, **data: Any) -> str:
    return json.dumps({"type": event, "data": data})


@pytest.fixture(scope="module")
def faulty(comfyui: ComfyUIServer) -> Iterator[FaultyComfyUI]:
    """The shared ComfyUI behind a proxy that simulates errors; healed after each test."""
    proxy = FaultyComfyUI(comfyui.url)
    proxy.start()
    yield proxy
    proxy.close()


VERSION = "0.33.0"
REFUSED_ID = {
    "error": {
        "type": "invalid_prompt_id",
        "message": "prompt_id must be a valid UUID",
        "details": "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
        "omit it to let the server generate one",
        "extra_info": {},
    },
    "node_errors": {},
}


class NewerComfyUI(FaultyComfyUI):
    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.prompts: list[dict[str, Any]] = []
        self.lacks: set[str] = set()
        self.version = VERSION

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.path == "/prompt":
            body = await request.json()
            if not _is_uuid(body.get("prompt_id")):
                return web.json_response(REFUSED_ID, status=400)
            self.prompts.append(body)
        elif request.path.startswith("/api/jobs/"):
            _, _, _, prompt_id, *action = request.path.split("/")
            if "jobs" not in self.lacks and request.method == "GET" and not action:
                self.requests[f"GET {request.path}"] += 1
                return await self._job(prompt_id)
            if "cancel" not in self.lacks and request.method == "POST" and action == ["cancel"]:
                self.requests[f"POST {request.path}"] += 1
                return await self._cancel(prompt_id)
            raise web.HTTPNotFound
        elif request.path == "/system_stats":
            stats = await self._request("GET", "/system_stats")
            stats["system"]["comfyui_version"] = self.version
            return web.json_response(stats)
        return await super()._pass_on(request)

    async def _job(self, prompt_id: str) -> web.StreamResponse:
        place, entry = await self._find(prompt_id)
        if place is None:
            return web.json_response({"error": "Job not found"}, status=404)
        job = {"id": prompt_id, "status": place, "outputs_count": 0}
        if entry is not None:
            if _has_odd_names(entry["outputs"]):
                raise web.HTTPInternalServerError  # like 0.33.0, which interprets each name as text
            job["outputs"], job["execution_status"] = entry["outputs"], entry["status"]
        return web.json_response(job)

    async def _cancel(self, prompt_id: str) -> web.StreamResponse:
        place, _ = await self._find(prompt_id)
        if place == "pending":
            await self._request("POST", "/queue", {"delete": [prompt_id]})
        elif place == "in_progress":
            await self._request("POST", "/interrupt", {"prompt_id": prompt_id})
        return web.json_response({"cancelled": place in ("pending", "in_progress")})

    async def _find(self, prompt_id: str) -> tuple[str | None, dict[str, Any] | None]:
        entry = (await self._request("GET", f"/history/{prompt_id}")).get(prompt_id)
        if entry is not None:
            names = [name for name, _ in entry["status"]["messages"]]
            done = "completed" if entry["status"]["status_str"] == "success" else "failed"
            return ("cancelled" if "execution_interrupted" in names else done), entry
        queue = await self._request("GET", "/queue")
        for place, key in (("in_progress", "queue_running"), ("pending", "queue_pending")):
            if any(item[1] == prompt_id for item in queue[key]):
                return place, None
        return None, None

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self.target + path, json=body) as answer:
            text = await answer.text()
            return json.loads(text) if text else None


def _has_odd_names(outputs: dict[str, Any]) -> bool:
    items = (i for node in outputs.values() for listed in node.values() for i in listed)
    return any(isinstance(i, dict) and not isinstance(i.get("filename", ""), str) for i in items)


def _is_uuid(value: Any) -> bool:
    try:
        return value is None or str(uuid.UUID(value)) == value
    except (ValueError, AttributeError, TypeError):
        return False


@pytest.fixture
def newer(comfyui: ComfyUIServer) -> Iterator[NewerComfyUI]:
    proxy = NewerComfyUI(comfyui.url)
    proxy.start()
    yield proxy
    proxy.close()


class Certificates:
    """New certificates: an authority, a server at 127.0.0.1 and a client, in PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca = self._sign("the authority", self._ca_key, None)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))
        self.server, self.client = folder / "server.pem", folder / "client.pem"
        self.client_key = folder / "client.key"
        for name, file, key_file in (
            ("server", self.server, self.server),
            ("client", self.client, self.client_key),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            made = self._sign(name, key, self._ca).public_bytes(serialization.Encoding.PEM)
            text = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            file.write_bytes(made)
            with key_file.open("ab") as target:
                target.write(text)

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that accepts only clients with a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.server)
        return context

    def _sign(self, name: str, key: Any, issuer: x509.Certificate | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.timezone.utc)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([address]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()),
                False,
            )
        )
        return builder.sign(self._ca_key, hashes.SHA256())


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
