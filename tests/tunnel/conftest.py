"""A gate in front of a small server; most tests of a module share both."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from jupyter_core.utils import ensure_event_loop

from comfydeploy_jupyter.tunnel.tunnels import GateProcess

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

MIB = 1024 * 1024


class Behind:
    """The server behind the gate: its routes return, discard or stream data."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.sent = 0

    async def open(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_post("/sink", self._sink)
        app.router.add_get("/flood", self._flood)
        app.router.add_get("/half", self._half)
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/{path:.*}", self._echo)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
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


@pytest.fixture(scope="module", autouse=True)
def jp_asyncio_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all tests of a module, so that they can share a gate."""
    loop = ensure_event_loop(prefer_selector_loop=True)
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def service(jp_asyncio_loop) -> Iterator[Behind]:
    found = Behind()
    jp_asyncio_loop.run_until_complete(found.open())
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


@pytest.fixture
def behind(service: Behind) -> Behind:
    service.requests.clear()
    service.sent = 0
    return service


@pytest.fixture(scope="module")
def gate(service, tmp_path_factory, jp_asyncio_loop) -> Iterator[GateProcess]:
    found = GateProcess(tmp_path_factory.mktemp("gate") / "gate.log")
    jp_asyncio_loop.run_until_complete(found.open(service.url))
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


@pytest.fixture
def open_gate(tmp_path, jp_asyncio_loop) -> Iterator[Callable[..., Awaitable[GateProcess]]]:
    """A function that opens a gate for one test."""
    opened: list[GateProcess] = []

    async def begin(*arguments: object, **options: object) -> GateProcess:
        opened.append(GateProcess(tmp_path / "gate" / f"{len(opened)}.log"))
        await opened[-1].open(*arguments, **options)
        return opened[-1]

    yield begin
    for gate in opened:
        jp_asyncio_loop.run_until_complete(gate.close())


@pytest.fixture
def http_client(jp_asyncio_loop) -> Iterator[aiohttp.ClientSession]:
    """A browser; aiohttp keeps cookies of an IP address only in an unsafe jar."""

    async def enter() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    session = jp_asyncio_loop.run_until_complete(enter())
    yield session
    jp_asyncio_loop.run_until_complete(session.close())


def bearer(gate: GateProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {gate.secret}"}


def pid_of(gate: GateProcess) -> int:
    record = gate.log_path.with_suffix(".json").read_text()
    return int(re.findall(r'"pid": (\d+)', record)[0])
