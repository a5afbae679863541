"""A real ComfyUI behind a proxy that simulates errors: tests set one error for each route.

The proxy has its own thread and event loop, so that it works while a test waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tests.comfyui_server import ComfyUIServer

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
    """Redirect to the same address."""
    return web.Response(status=302, headers={"Location": request.path_qs})


async def unexpected_reply(request: web.Request) -> web.StreamResponse:
    """Reply with JSON in which every field has a wrong type."""
    last = request.path.rpartition("/")[2]
    entry = {"prompt": 5, "outputs": {"1": [2], "2": "x"}, "status": ["success"], "meta": None}
    return web.json_response({**UNEXPECTED_REPLY, last: entry})


async def hanging(request: web.Request) -> web.StreamResponse:
    """Accept the request and never reply."""
    await asyncio.Event().wait()
    raise AssertionError


async def aborted(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of a reply."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of the response."""
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
    """Reply with bytes that are not HTTP."""
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
    "500": answering(500, "500 Internal Server Error", "text/plain"),
    "503 page": answering(503, PAGE, "text/html"),
    "400 page": answering(400, PAGE, "text/html"),
    "page": answering(200, PAGE, "text/html"),
    "empty": answering(200, b"", "application/json"),
    "null": answering(200, "null", "application/json"),
    "list": answering(200, "[[5]]", "application/json"),
    "deep": answering(200, "[" * 100_000, "application/json"),
    "bytes": answering(200, b"\xff\xfe\x00" * 1000, "application/json"),
    "infinite": answering(200, '{"exec_info": {"queue_remaining": 1e999}}', "application/json"),
    "nonsense": unexpected_reply,
    "moved": moved,
    "hanging": hanging,
    "aborted": aborted,
    "cut short": cut_short,
    "cut chunks": cut_chunks,
    "no HTTP": no_http,
    "endless": endless,
    "bomb": bomb,
}


class FaultyComfyUI:
    """The proxy.

    Parameters
    ----------
    target : str
        Address of the real ComfyUI.

    Attributes
    ----------
    url : str
        The address of the proxy.
    delay : float
        Seconds by which every response is delayed.
    sockets_seen : int
        The number of WebSockets so far.
    requests : collections.Counter
        The number of requests so far, by method and path.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.delay = 0.0
        self.sockets_seen = 0
        self.requests: Counter[str] = Counter()
        self._faults: dict[tuple[str, str], Fault] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen at a free port."""
        self._thread.start()
        self._wait(self._start())

    def close(self) -> None:
        """End the proxy and its thread."""
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fail(self, method: str, path: str, fault: Fault) -> None:
        """Simulate an error at the route ``path`` and all below it, until `remove_faults`."""
        self._faults[method, path] = fault

    def remove_faults(self) -> None:
        """Forward everything again; close the connections of requests that hang."""
        self._faults.clear()
        self.delay = 0.0

    def ask(self, path: str) -> Any:
        """Return ComfyUI's own JSON response for a path."""
        return requests.get(self.target + path, timeout=60).json()

    def send(self, *frames: str | bytes) -> None:
        """Send frames over every open WebSocket, as if ComfyUI had sent them."""
        self._wait(self._send(frames))

    def drop_sockets(self) -> int:
        """Close every open WebSocket; return their number."""
        return self._wait(self._drop())

    # -- on the loop of the proxy

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/{tail:.*}", self._pass_on)
        self._runner = web.AppRunner(
            app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )

    async def _close(self) -> None:
        await self._drop()
        await self._runner.cleanup()
        await self._session.close()

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

    def _passer(self) -> Callable[[aiohttp.WSMessage], bool]:
        """Return a function that decides which of ComfyUI's frames one WebSocket forwards."""
        return lambda _: True

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
                await _copy(server, client, self._passer())
            finally:
                upwards.cancel()
                self._sockets.discard(client)
        return client


async def _copy(
    source: Any, target: Any, passes: Callable[[aiohttp.WSMessage], bool] = lambda _: True
) -> None:
    """Forward frames until one end is closed, then close the other one."""
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if not passes(message):
                continue
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
    await target.close()


def text_frame(event: str, **data: Any) -> str:
    """Return a text frame in ComfyUI's form."""
    return json.dumps({"type": event, "data": data})


@pytest.fixture(scope="module")
def faulty(comfyui: ComfyUIServer) -> Iterator[FaultyComfyUI]:
    """The shared ComfyUI behind a proxy that simulates errors; healed after each test."""
    proxy = FaultyComfyUI(comfyui.url)
    proxy.start()
    yield proxy
    proxy.close()
