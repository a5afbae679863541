"""A ComfyUI that is killed, and answers that come before a run is stored."""

import asyncio
import threading
import time
import uuid
from contextlib import suppress

import pytest
from aiohttp import web

from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from tests.helpers.comfyui_proxies import FAULTS
from tests.helpers.waiting import until_async


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


async def until_queue(api, *, timeout=60, **wanted):
    await until_async(
        lambda: api.get("check-status"),
        lambda answer: answer[1]["queue"] == wanted,
        timeout=timeout,
    )


async def until_taken(scrape, *, timeout=10):
    """Wait until ComfyUI has answered each prompt; those that it has not count as pending, too."""
    deadline = time.monotonic() + timeout
    while (found := await scrape()).of("open_runs", machine="local", status="not-started"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return found


async def refuse_at_once(request):
    """Answer that the request is too large before it is read."""
    refusal = web.Response(status=413)
    await refusal.prepare(request)
    await refusal.write_eof()
    with suppress(ConnectionResetError):  # only half of the request came
        await request.read()
    return refusal


class TestSlowStore:
    """The answer of ComfyUI comes while the run is being stored."""

    @pytest.fixture
    def extension_config(self, faulty, tmp_path):
        data = str(tmp_path / "data")
        yield {"comfyui_url": faulty.url, "comfyui_timeout": 0.5, "data_dir": data}
        faulty.remove_faults()

    @pytest.fixture
    def database(self, connected, extension, jp_asyncio_loop):
        jp_asyncio_loop.run_until_complete(extension.open_services())
        return extension.services.database

    async def test_a_refusal_before_the_run_is_stored(self, api, chain, faulty, database):
        faulty.fail("POST", "/prompt", refuse_at_once)
        prompt_id = str(uuid.uuid4())
        busy = database.write(lambda connection: time.sleep(0.3))
        code, body = await api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        assert (code, body["code"], body["prompt_id"]) == (413, "too_large", prompt_id)
        await busy
        stored = await RunRepository(database).get(prompt_id)
        assert (stored.status, stored.error["type"]) == ("failed", "too_large")

    @pytest.mark.parametrize("refused", [False, True])
    async def test_run_that_cannot_be_stored(self, api, chain, faulty, database, refused):
        """Another server has stored a run with this id in the meantime, which is not changed."""
        if refused:
            faulty.fail("POST", "/prompt", refuse_at_once)
        prompt_id = str(uuid.uuid4())
        other = RunRecord(prompt_id, "local", "other", "2026-01-01T00:00:00.000Z", status="queued")
        gate = threading.Event()
        held = database.write(lambda connection: gate.wait(10))
        adding = RunRepository(database).add(other, b"{}", None)
        request = {"workflow_api": chain(), "prompt_id": prompt_id}
        posting = asyncio.ensure_future(api.post("run", request))
        await asyncio.sleep(0.3)
        code, body = await api.post("run", request)
        assert (code, body["code"]) == (409, "conflict"), "it is on its way already"
        gate.set()
        await asyncio.gather(held, adding)
        code, body = await posting
        assert (code, body["code"]) == (409, "conflict")
        assert await RunRepository(database).get(prompt_id) == other

    async def test_a_slow_database_does_not_shorten_comfyuis_time_limit(
        self, api, chain, faulty, database
    ):
        """ComfyUI's time limit of half a second begins when it has the prompt."""
        faulty.fail("POST", "/prompt", FAULTS["503 page"])
        busy = database.write(lambda connection: time.sleep(1.5))
        code, body = await api.post("run", {"workflow_api": chain()})
        await busy
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert "503" in body["error"], "not: no answer in time"
