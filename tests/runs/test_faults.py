"""A ComfyUI that is killed, and servers at its address that are no usable ComfyUI."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import uuid
from typing import Any

import pytest
from aiohttp import web

from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from tests.helpers.comfyui_proxies import FaultyComfyUI
from tests.helpers.waiting import until_async

from .conftest import until_reconnected


@pytest.fixture
def killable(start_comfyui):
    return start_comfyui()


class TestKilledComfyUI:
    @pytest.fixture
    def extension_config(self, killable, tmp_path):
        return {
            "comfyui_url": killable.url.replace("127.0.0.1", "localhost"),
            "comfyui_lost_after": 120.0,  # a busy machine may need that long to start ComfyUI
            "data_dir": str(tmp_path / "data"),
        }

    async def test_killed_during_a_run_and_started_again(
        self, api, events, chain, killable, scrape
    ):
        graph = chain(("TestSleep", {"seconds": 120}))
        running = asyncio.ensure_future(api.post("run", {"workflow_api": graph}))
        await until_queue(api, running=1, pending=0)
        (record,) = (await api.get("runs"))[1]
        stream = asyncio.ensure_future(events("GET", params={"prompt_id": record["prompt_id"]}))
        queued = asyncio.gather(
            *(api.post("run", {"workflow_api": chain(), "client_id": "c"}) for _ in range(3)),
            events(body={"workflow_api": chain()}),
        )
        await until_queue(api, running=1, pending=4)
        before = await until_taken(scrape)
        assert before.of("comfyui_up", machine="local") == 1
        assert before.of("open_runs", machine="local", status="running") == 1
        assert before.of("open_runs", machine="local", status="queued") == 4
        await asyncio.to_thread(killable.kill)
        killed = time.monotonic()
        code, body = await running
        assert time.monotonic() - killed < 2
        assert (code, body["success"], body["status"]) == (200, False, "failed")
        assert body["error"]["type"] == "ComfyUIEnded"
        assert "ComfyUI has ended: it refuses connections" in body["error"]["message"]
        assert body["error"]["node_type"] == "TestSleep"
        assert body["finished_at"] >= body["started_at"]
        assert (await stream)[-1][1]["data"]["status"] == "failed"
        code, status = await api.get("check-status")
        assert (code, status["status"]) == (200, "degraded")
        assert status["comfyui"]["reachable"] is False
        assert status["comfyui"]["error"]
        assert status["queue"] == {"running": 0, "pending": 4}
        dead = await scrape()
        assert dead.of("comfyui_up", machine="local") == 0
        assert dead.of("comfyui_queue_length", machine="local") is None
        lost = "comfyui_disconnects_total"
        assert dead.of(lost, machine="local") == before.of(lost, machine="local") + 1
        begin = time.monotonic()
        code, body = await api.post("run", {"workflow_api": chain()})
        assert time.monotonic() - begin < 10
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert f"localhost:{killable.port}" in body["hint"]

        assert (await api.get("check-status"))[1]["queue"] == {"running": 0, "pending": 4}
        await asyncio.to_thread(killable.start)
        *posts, messages = await queued
        for code, body in posts:
            assert (code, body["status"]) == (200, "success")
            assert body["outputs"] == {"1": {"text": ["done"]}}
        assert messages[-1][1]["data"]["status"] == "success"
        assert sum(d.get("event") == "execution_start" for _, d in messages) == 1
        assert (await api.get("check-status"))[1]["status"] == "ok"
        back = await scrape()
        assert back.of("comfyui_up", machine="local") == 1
        for status, count in (("success", 4), ("failed", 1), ("cancelled", 0)):
            series = {"machine": "local", "status": status}
            ended = back.of("runs_total", **series) - before.of("runs_total", **series)
            assert ended == count, status


class TestManyRuns:
    @pytest.fixture
    def proxy(self, killable):
        proxy = FaultyComfyUI(killable.url)
        proxy.start()
        yield proxy
        proxy.close()

    @pytest.fixture
    def extension_config(self, proxy, tmp_path):
        return {
            "comfyui_url": proxy.url,
            "comfyui_lost_after": 120.0,
            "data_dir": str(tmp_path / "data"),
        }

    async def test_finish_after_a_restart_of_comfyui(self, api, chain, killable, proxy):
        """Each is requested once; the whole queue, which has all graphs, is not read each time."""
        graph = chain(("TestSleep", {"seconds": 120}))
        await api.post("run", {"workflow_api": graph, "wait": False})
        await until_queue(api, running=1, pending=0)
        for _ in range(10):
            posts = (api.post("run", {"workflow_api": chain(), "wait": False}) for _ in range(25))
            assert {code for code, _ in await asyncio.gather(*posts)} == {200}
        await until_queue(api, running=1, pending=250)
        await asyncio.to_thread(killable.kill)
        proxy.requests.clear()
        await asyncio.to_thread(killable.start)
        await until_queue(api, running=0, pending=0, timeout=60)
        ended = [record["status"] for record in (await api.get("runs", limit="300"))[1]]
        assert (ended.count("success"), ended.count("failed"), len(ended)) == (250, 1, 251)
        assert proxy.requests["GET /queue"] < 25
        histories = sum(
            n for route, n in proxy.requests.items() if route.startswith("GET /history/")
        )
        assert 250 <= histories < 500


async def until_queue(api, *, timeout: float = 60, **wanted: int) -> None:
    await until_async(
        lambda: api.get("check-status"),
        lambda answer: answer[1]["queue"] == wanted,
        timeout=timeout,
    )


async def until_taken(scrape, *, timeout: float = 10):
    """Wait until ComfyUI has answered each prompt; those that it has not count as pending, too."""
    deadline = time.monotonic() + timeout
    while (found := await scrape()).of("open_runs", machine="local", status="not-started"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return found


class Impostor:
    """A server at ComfyUI's address; ``mode`` is its error."""

    def __init__(self) -> None:
        self.mode = ""
        self.url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.transports: list[asyncio.Transport] = []
        self._over = asyncio.Event()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/prompt", self._remaining)
        app.router.add_post("/prompt", self._prompt)
        app.router.add_get("/{tail:.*}", self._anything)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        self._over.set()
        for socket in self.sockets:
            await socket.close()
        await self._runner.cleanup()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        assert request.transport is not None
        self.transports.append(request.transport)
        async for _ in socket:
            pass
        return socket

    async def _remaining(self, request: web.Request) -> web.Response:
        self._break_off(request)
        if self.mode == "no exec_info":
            return web.json_response({"exec_info": None})
        return web.json_response({"exec_info": {"queue_remaining": 0}})

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        refusal = web.Response(status=413)
        if self.mode == "too large at once":
            await refusal.prepare(request)
            await refusal.write_eof()
        try:
            await request.read()
        except ConnectionResetError:  # only half of the request came
            return refusal
        if self.mode == "too large at once":
            return refusal
        answer: dict[str, Any] = {"prompt_id": str(uuid.uuid4()), "number": 1, "node_errors": {}}
        if self.mode == "silence":
            await self._over.wait()
        self._break_off(request)
        if self.mode == "closed":
            assert request.transport is not None
            request.transport.abort()
        if self.mode == "error page":
            return web.Response(status=502, text="<html>Bad gateway</html>")
        if self.mode == "text":
            return web.Response(text="hello")
        if self.mode == "deep":
            return web.Response(text="[" * 50_000)
        return web.json_response(answer)

    def _break_off(self, request: web.Request) -> None:
        """Close the connection without a reply, if no HTTP request gets one."""
        if self.mode == "no answers":
            assert request.transport is not None
            request.transport.abort()

    async def _anything(self, request: web.Request) -> web.Response:
        self._break_off(request)
        if self.mode == "another id" and request.path == "/queue":
            return web.json_response({"queue_running": 5, "queue_pending": [[]]})
        if request.path == "/queue":
            return web.json_response({"queue_running": [], "queue_pending": []})
        return web.json_response({})


@pytest.fixture
def false_comfyui(jp_asyncio_loop):
    server = Impostor()
    jp_asyncio_loop.run_until_complete(server.start())
    yield server
    jp_asyncio_loop.run_until_complete(server.close())


class TestFalseComfyUI:
    @pytest.fixture
    def extension_config(self, false_comfyui, tmp_path):
        return {
            "comfyui_url": false_comfyui.url,
            "comfyui_timeout": 0.5,
            "data_dir": str(tmp_path / "data"),
        }

    @pytest.mark.parametrize(
        "mode", ["silence", "closed", "error page", "text", "deep", "another id"]
    )
    async def test_a_prompt_without_a_valid_reply(self, api, chain, false_comfyui, mode):
        false_comfyui.mode = mode
        prompt_id = str(uuid.uuid4())
        begin = time.monotonic()
        code, body = await api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        assert time.monotonic() - begin < 15
        assert (code, body["code"]) == (503, "comfyui_unavailable"), body
        assert body["hint"]
        assert body["prompt_id"] == prompt_id
        _, record = await api.get("check-status", prompt_id=prompt_id)
        assert record["status"] == "not-started"
        if mode in ("text", "deep", "error page"):
            return  # what becomes of the record is the same for all
        false_comfyui.mode = ""
        record = await api.until(prompt_id, "failed", timeout=10)
        assert record["error"]["type"] == "NotQueued"
        assert record["error"]["message"] == "ComfyUI did not accept the run"

    async def test_a_refusal_before_the_run_is_stored(
        self, api, chain, false_comfyui, extension, connected
    ):
        false_comfyui.mode = "too large at once"
        prompt_id = str(uuid.uuid4())
        await extension.open_services()
        database = extension.services.database
        busy = database.begin_write(lambda connection: time.sleep(0.3))
        code, body = await api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        assert (code, body["code"], body["prompt_id"]) == (413, "too_large", prompt_id)
        await busy
        stored = await RunRepository(database).get(prompt_id)
        assert stored is not None
        assert (stored.status, stored.error["type"]) == ("failed", "too_large")

    @pytest.mark.parametrize("mode", ["", "too large at once"])
    async def test_run_that_cannot_be_stored(
        self, api, chain, false_comfyui, extension, connected, mode
    ):
        """Another server has stored a run with this id in the meantime, which is not changed."""
        false_comfyui.mode = mode
        prompt_id = str(uuid.uuid4())
        await extension.open_services()
        database = extension.services.database
        other = RunRecord(prompt_id, "local", "other", "2026-01-01T00:00:00.000Z", status="queued")
        await asyncio.sleep(0.1)
        gate = threading.Event()
        held = database.begin_write(lambda connection: gate.wait(10))
        adding = RunRepository(database).add(other, b"{}", None)
        posting = asyncio.ensure_future(
            api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        )
        await asyncio.sleep(0.3)
        code, body = await api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        assert (code, body["code"]) == (409, "conflict"), "it is on its way already"
        gate.set()
        await held
        await adding
        code, body = await posting
        assert (code, body["code"]) == (409, "conflict")
        assert await RunRepository(database).get(prompt_id) == other
        assert (await api.get("check-status", prompt_id=prompt_id))[1]["status"] == "queued"

    async def test_a_slow_database_does_not_shorten_comfyuis_time_limit(
        self, api, chain, false_comfyui, extension, connected
    ):
        """ComfyUI's time limit of half a second begins when it has the prompt."""
        false_comfyui.mode = "error page"
        await extension.open_services()
        busy = extension.services.database.begin_write(lambda connection: time.sleep(1.5))
        code, body = await api.post("run", {"workflow_api": chain()})
        await busy
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert "502" in body["error"], "not: no answer in time"

    async def test_a_server_that_is_not_comfyui_is_refused(self, api, chain, false_comfyui):
        false_comfyui.mode = "no exec_info"
        code, body = await api.post("run", {"workflow_api": chain()})
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert "ComfyUI" in body["error"]
        assert body["hint"]
        assert (await api.get("check-status"))[1]["status"] == "degraded"

    async def test_invalid_messages_are_ignored(self, api, false_comfyui, connected):
        (socket,) = false_comfyui.sockets
        for text in (
            *("", "null", "[]", "{}", "{", "[" * 100_000, '{"type": 1}', '{"type": "status"}'),
            '{"type": "status", "data": {"status": 5}}',
            '{"type": "progress", "data": [1]}',
            '{"type": "progress_state", "data": {"prompt_id": "p", "nodes": [1]}}',
            '{"type": "execution_cached", "data": {"nodes": 5, "prompt_id": "p"}}',
            json.dumps({"type": "executed", "data": {"output": "x" * 3_000_000}}),
        ):
            await socket.send_str(text)
        metadata = struct.pack(">II", 4, 100_000) + b"[" * 100_000
        for frame in (b"", b"\0", b"\0\0\0\1", struct.pack(">I", 99), metadata, b"\xff" * 50):
            await socket.send_bytes(frame)
        await socket.send_json({"type": "status", "data": {"status": {}}})
        await asyncio.sleep(0.3)
        _, body = await api.get("check-ws-status")
        assert body["connected"] is True
        assert len(false_comfyui.sockets) == 1, "the socket is still the same"

    async def test_an_invalid_websocket_frame(self, api, false_comfyui, connected):
        false_comfyui.transports[0].write(b"\xff\xff not a frame of the WebSocket protocol")
        await until_reconnected(api, lambda: len(false_comfyui.sockets), 1)
        assert len(false_comfyui.sockets) == 2


class TestNoReplies:
    """A ComfyUI whose WebSocket is open, but which answers no HTTP request."""

    @pytest.fixture
    def extension_config(self, false_comfyui, tmp_path):
        return {
            "comfyui_url": false_comfyui.url,
            "comfyui_timeout": 0.5,
            "comfyui_lost_after": 1.0,
            "comfyui_gone_after": 3.0,
            "data_dir": str(tmp_path / "data"),
        }

    async def test_its_runs_end_as_failed(self, api, chain, false_comfyui, connected):
        false_comfyui.mode = "no answers"
        code, body = await api.post("run", {"workflow_api": chain()})
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        record = await api.until(body["prompt_id"], "failed", timeout=60)
        assert "ComfyUI has not answered for" in record["error"]["message"]
        assert (await api.get("check-ws-status"))[1]["connected"] is True
        _, reply = await api.get("runs", story=body["prompt_id"])
        assert [entry["cause"] for entry in reply] == [
            "received",
            "stored and handed to ComfyUI",
            "not answered by ComfyUI",
            "given up",
        ]
