"""Runs on a real ComfyUI, over a network that loses, delays and changes data."""

import asyncio
import random
import socket
import time
import uuid
from pathlib import Path

import pytest
import requests

from comfydeploy_jupyter.comfyui.find import USUAL_PLACES, is_comfyui_tree
from tests.helpers.comfyui import is_today
from tests.helpers.relay import Relay

from .conftest import until_connected, until_reconnected


@pytest.fixture
def extension_config(relay, tmp_path):
    return {
        "comfyui_url": relay.url,
        "comfyui_timeout": 1.0,
        "comfyui_lost_after": 1.0,
        "comfyui_gone_after": 4.0,
        "data_dir": str(tmp_path / "data"),
    }


class TestBusyMachine:
    """ComfyUI is there the whole time, even if it does not answer for seconds."""

    @pytest.fixture
    def extension_config(self, extension_config):
        return {**extension_config, "comfyui_lost_after": 60.0, "comfyui_gone_after": 60.0}

    async def test_websocket_that_breaks_again_and_again(
        self, api, chain, relay, connected, verdict
    ):
        graphs = [chain(("TestProgress", {"steps": 5, "delay": 0.05})) for _ in range(12)]
        graphs[5] = chain(("TestFail", {"message": "real"}))
        posts = (api.post("run", {"workflow_api": graph, "wait": False}) for graph in graphs)
        ids = [body["prompt_id"] for _, body in await asyncio.gather(*posts)]
        waiting = asyncio.gather(*(api.until(i, "success", "failed", "cancelled") for i in ids))
        cuts = 0
        while not waiting.done():
            cuts += relay.cut(websockets_only=True)
            await asyncio.sleep(random.uniform(0.05, 0.4))
        assert cuts >= 3
        records = dict(zip(ids, await waiting, strict=True))
        for number, prompt_id in enumerate(ids):
            record = records[prompt_id]
            assert (
                record["status"] == verdict(prompt_id) == ("failed" if number == 5 else "success")
            )
            assert record["finished_at"] >= record["started_at"]
            if number == 5:
                assert record["error"]["message"] == "real"
            else:
                assert record["outputs"] == {"2": {"text": ["done"]}}
                assert record["execution_time"] > 0.1

    async def test_comfyuis_history_decides_how_a_run_ended(
        self, api, chain, relay, connected, comfyui
    ):
        """If the history was deleted, the result is not known: the run counts as lost."""
        graph = chain(("TestSleep", {"seconds": 0.6}))
        _, run = await api.post("run", {"workflow_api": graph, "wait": False})
        await api.until(run["prompt_id"], "running")
        relay.disconnect()
        await asyncio.sleep(0.8)
        clear_history = {"url": f"{comfyui.url}/history", "json": {"clear": True}, "timeout": 10}
        await asyncio.to_thread(requests.post, **clear_history)
        relay.reconnect()
        record = await api.until(run["prompt_id"], "failed", "success")
        assert record["status"] == "failed"
        assert "dropped the run" in record["error"]["message"]


async def test_a_stream_continues_after_a_reconnection(events, api, chain, relay, connected):
    prompt_id = str(uuid.uuid4())
    graph = chain(("TestProgress", {"steps": 40, "delay": 0.05}))
    stream = asyncio.ensure_future(events(body={"workflow_api": graph, "prompt_id": prompt_id}))
    await api.until(prompt_id, "running")
    await asyncio.sleep(0.3)
    relay.cut(websockets_only=True)
    messages = await stream
    assert [number for number, _ in messages] == list(range(1, len(messages) + 1))
    steps = [d["data"]["value"] for _, d in messages if d.get("event") == "progress"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40
    assert len(steps) > (12 if is_today() else 25), "the gap is short"
    assert messages[-1][1]["data"]["status"] == "success"
    assert messages[-2][1]["data"]["outputs"] == {"2": {"text": ["done"]}}


@pytest.mark.thorough
async def test_comfyui_that_freezes(api, chain, relay, connected, verdict):
    graph = chain(("TestSleep", {"seconds": 0.5}))
    _, before = await api.post("run", {"workflow_api": graph, "wait": False})
    await api.until(before["prompt_id"], "running")
    relay.freeze()
    begin = time.monotonic()
    code, body = await api.post("run", {"workflow_api": chain()})
    assert time.monotonic() - begin < 5.0
    assert (code, body["code"]) == (503, "comfyui_unavailable")
    assert "no answer within 1 s" in body["error"]
    assert body["hint"]
    assert (await api.get("check-status"))[0] == 200

    async def until_told(*ids):
        """Wait for the ends of runs that ComfyUI may have accepted."""
        for prompt_id in ids:
            _, record = await api.get("check-status", prompt_id=prompt_id)
            assert record["status"] == "not-started"
        relay.unfreeze()
        for prompt_id in ids:
            late = await api.until(prompt_id, "success", "failed", timeout=15)
            assert late["status"] == (verdict(prompt_id) or "failed")
            if late["status"] == "failed":
                assert late["error"]["type"] == "NotQueued"

    await until_told(body["prompt_id"])
    await api.until(before["prompt_id"], "success")

    relay.freeze()
    begin = time.monotonic()
    code, body = await api.post("run", {"workflow_api": chain(), "timeout": 0.2})
    assert time.monotonic() - begin < 0.9
    assert (code, body["code"]) == (504, "timeout")
    assert "whether it accepts the run" in body["error"]
    await until_told(body["prompt_id"])

    _, stored = await api.post("workflow", {"name": "Frozen", "workflow_api": graph})
    relay.freeze()
    replies = await asyncio.gather(
        api.post("api/v2/jobs", {"workflow": graph}),
        api.post("run/deployment/queue", {"deployment_id": stored["workflow_id"]}),
    )
    assert {code for code, _ in replies} <= {200, 201}, replies
    await until_told(*(reply.get("id") or reply["run_id"] for _, reply in replies))


async def test_a_prompt_that_arrives_after_it_was_given_up_is_not_executed(
    api, chain, relay, connected, comfyui
):
    """Something on the way delivers the request, although it was closed, after some seconds."""
    relay.delay = 8.0
    begin = time.monotonic()
    graph = chain(("TestSleep", {"seconds": 60}))
    posting = asyncio.ensure_future(api.post("run", {"workflow_api": graph}))
    await asyncio.sleep(0.5)
    relay.delay = 0.0
    assert relay.half_close(websockets=False) > 0
    code, body = await posting
    assert code == 503
    failed = await api.until(body["prompt_id"], "failed", timeout=10)
    assert failed["error"]["type"] == "NotQueued"
    assert time.monotonic() - begin < 8
    await asyncio.sleep(begin + 12 - time.monotonic())
    queue = (await asyncio.to_thread(requests.get, f"{comfyui.url}/queue", timeout=10)).json()
    assert queue == {"queue_running": [], "queue_pending": []}


async def test_requests_to_a_frozen_comfyui_do_not_wait_for_each_other(api, chain, relay):
    await relay.refuse()
    await until_connected(api, wanted=False)
    with socket.create_server(("127.0.0.1", relay.port)):  # its connections are never taken
        begin = time.monotonic()
        posts = [api.post("run", {"workflow_api": chain()}) for _ in range(5)]
        answers = await asyncio.gather(*posts)
        assert time.monotonic() - begin < 6.0
        assert {(code, body["code"]) for code, body in answers} == {(503, "comfyui_unavailable")}
        assert all(body["hint"] for _, body in answers)
        assert (await api.get("runs"))[1] == []


@pytest.mark.thorough
async def test_refused_prompt_between_connect_and_post_leaves_nothing(api, chain, relay, connected):
    """If a prompt certainly did not reach ComfyUI, its run is deleted; its id can be reused."""
    for _ in range(10):
        request = {"workflow_api": chain(), "prompt_id": str(uuid.uuid4())}
        post = asyncio.ensure_future(api.post("run", request))
        await asyncio.sleep(random.uniform(0.0, 0.02))
        await relay.refuse()
        code, body = await post
        await relay.listen()
        if code == 503 and "prompt_id" not in body:
            assert (await api.post("run", request))[1]["status"] == "success"
        else:
            await api.until(request["prompt_id"], "success", "failed", timeout=15)
        await until_connected(api)


async def test_comfyui_that_stays_unreachable(api, events, chain, relay, connected, idle):
    graph = chain(("TestSleep", {"seconds": 60}))
    _, running = await api.post("run", {"workflow_api": graph, "wait": False})
    await api.until(running["prompt_id"], "running")
    waiting = asyncio.ensure_future(api.post("run", {"workflow_api": chain()}))
    stream = asyncio.ensure_future(events("GET", params={"prompt_id": running["prompt_id"]}))
    await asyncio.sleep(0.2)
    await relay.refuse()
    begin = time.monotonic()
    lost = await api.until(running["prompt_id"], "failed")
    assert time.monotonic() - begin < 5.0
    assert lost["error"]["type"] == "ComfyUIEnded"
    assert "ComfyUI has been unreachable" in lost["error"]["message"]
    assert "TestSleep" in lost["error"]["message"]
    assert (await stream)[-1][1]["data"]["status"] == "failed"
    assert not waiting.done()
    code, body = await waiting
    assert 4.0 < time.monotonic() - begin < 8.0
    assert (code, body["success"], body["status"]) == (200, False, "failed")
    idle()


@pytest.mark.thorough
async def test_a_websocket_without_events_while_idle(api, chain, relay, connected):
    await lose_events(api, relay)
    begin = time.monotonic()
    code, body = await api.post("run", {"workflow_api": chain()})
    assert (code, body["status"]) == (200, "success")
    assert time.monotonic() - begin < 8.0
    await asyncio.sleep(0.5)
    begin = time.monotonic()
    assert (await api.post("run", {"workflow_api": chain()}))[1]["status"] == "success"
    assert time.monotonic() - begin < 2.0, "events arrive again"


async def test_a_websocket_without_events_during_a_run(api, events, chain, relay, connected):
    prompt_id = str(uuid.uuid4())
    graph = chain(("TestProgress", {"steps": 130, "delay": 0.1}))
    stream = asyncio.ensure_future(events(body={"workflow_api": graph, "prompt_id": prompt_id}))
    await api.until(prompt_id, "running")
    await lose_events(api, relay)
    messages = await stream
    steps = [d["data"]["value"] for _, d in messages if d.get("event") == "progress"]
    assert 100 not in steps or 40 not in steps, "the socket received no events for a while"
    assert 130 in steps, "events arrive again before the run ends"
    assert messages[-1][1]["data"]["status"] == "success"


async def lose_events(api, relay):
    """Let ComfyUI see the end of our first socket only after the second one was opened."""
    before = relay.websockets
    assert relay.half_close() == 1
    await until_reconnected(api, lambda: relay.websockets, before)
    await asyncio.sleep(0.1)
    assert relay.close_half_closed() == 1


class TestNothingConfigured:
    @pytest.fixture
    def extension_config(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        with socket.socket() as usual:
            usual.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                usual.bind(("127.0.0.1", 8188))
            except OSError:
                pytest.skip("something uses port 8188 of this box")
        if any(is_comfyui_tree(Path(place).expanduser()) for place in USUAL_PLACES):
            pytest.skip("this box has a ComfyUI in one of the usual places")
        return {"data_dir": str(tmp_path / "data")}

    async def test_comfyui_that_starts_later_on_the_usual_port(self, api, chain, comfyui):
        code, body = await api.post("run", {"workflow_api": chain()})
        assert (code, body["code"]) == (503, "comfyui_unavailable")
        assert "comfydeploy_jupyter.comfyui.install" in body["hint"]
        status = (await api.get("check-status"))[1]
        assert (status["status"], status["comfyui"]["reachable"]) == ("degraded", False)
        assert status["comfyui"]["hint"]
        usual = Relay(comfyui.port, 8188)
        await usual.listen()
        try:
            code, body = await api.post("run", {"workflow_api": chain()})
            assert (code, body["status"]) == (200, "success")
            await usual.refuse()
            await until_connected(api, wanted=False)
            code, body = await api.post("run", {"workflow_api": chain()})
            assert (code, body["code"]) == (503, "comfyui_unavailable")
            await usual.listen()
            code, body = await api.post("run", {"workflow_api": chain()})
            assert (code, body["status"]) == (200, "success")
        finally:
            await usual.close()


def until_known(verdict, ids):
    """Wait until the ends of these runs are in ComfyUI's own history."""
    while not all(verdict(prompt_id) for prompt_id in ids):
        time.sleep(0.05)


class TestLongTimeLimits:
    """A server that waits longer for ComfyUI than these interruptions last."""

    @pytest.fixture
    def extension_config(self, relay, tmp_path):
        return {"comfyui_url": relay.url, "data_dir": str(tmp_path / "data")}

    @pytest.mark.thorough
    async def test_a_cancel_does_not_wait_for_a_comfyui_that_freezes(
        self, api, chain, relay, connected, verdict
    ):
        body = {"workflow_api": chain(("TestSleep", {"seconds": 60})), "wait": False}
        _, run = await api.post("run", body)
        _, waiting = await api.post("run", body)
        await api.until(run["prompt_id"], "running")
        relay.freeze()
        begin = time.monotonic()
        for prompt_id, was in ((run["prompt_id"], "running"), (waiting["prompt_id"], "queued")):
            code, answer = await api.post("interrupt", {"prompt_id": prompt_id})
            assert (code, answer["was"]) == (200, was)
        assert time.monotonic() - begin < 15
        relay.unfreeze()
        for prompt_id in (run["prompt_id"], waiting["prompt_id"]):
            assert (await api.until(prompt_id, "cancelled", timeout=50))["status"] == "cancelled"
        assert verdict(run["prompt_id"]) == "cancelled"
        assert verdict(waiting["prompt_id"]) is None

    @pytest.mark.thorough
    async def test_a_closed_port_that_was_forwarded_does_not_end_runs(
        self, api, chain, relay, connected
    ):
        """Like that of ``ssh -L``: the process that listens is no ComfyUI, which may execute."""
        body = {"workflow_api": chain(("TestSleep", {"seconds": 6})), "wait": False}
        ids = [(await api.post("run", body))[1]["prompt_id"] for _ in range(2)]
        await api.until(ids[0], "running")
        await relay.refuse()
        await until_connected(api, wanted=False)
        await asyncio.sleep(4)
        statuses = [(await api.get("check-status", prompt_id=each))[1]["status"] for each in ids]
        assert statuses == ["running", "queued"]
        await relay.listen()
        for each in ids:
            await api.until(each, "success", timeout=30)

    @pytest.mark.thorough
    async def test_a_run_that_cannot_be_looked_up_does_not_hinder_the_others(
        self, api, chain, relay, connected, verdict
    ):
        ids = []
        for _ in range(3):
            graph = chain(("TestSleep", {"seconds": 0.3}))
            _, run = await api.post("run", {"workflow_api": graph, "wait": False})
            ids.append(run["prompt_id"])
        relay.disconnect()
        await asyncio.to_thread(until_known, verdict, ids)
        relay.deny = f"/history/{ids[0]}"
        relay.reconnect()
        for prompt_id in ids[1:]:
            await api.until(prompt_id, "success", timeout=60)
        _, first = await api.get("check-status", prompt_id=ids[0])
        assert first["status"] in ("queued", "running")
        relay.deny = None
        await api.until(ids[0], "success", timeout=60)

    @pytest.mark.thorough
    async def test_sizes_of_outputs_are_found_later_and_no_job_waits_for_them(
        self, api, relay, connected
    ):
        """A client gives up after 30 seconds. Nothing has asked for these sizes before."""
        size = {"width": 8, "height": 8, "batch_size": 1}
        save = {"images": ["1", 0], "filename_prefix": "size"}
        for color in range(3):
            graph = {
                "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
                "2": {"class_type": "SaveImage", "inputs": save},
            }
            _, run = await api.post("run", {"workflow_api": graph})
            assert run["status"] == "success"
        relay.freeze()
        begin = time.monotonic()
        code, page = await api.get("api/v2/jobs")
        assert time.monotonic() - begin < 10
        assert (code, [len(job["outputs"]) for job in page["jobs"]]) == (200, [1, 1, 1])
        relay.unfreeze()

        async def size_of_output():
            (output,) = (await api.get(f"api/v2/jobs/{run['prompt_id']}"))[1]["outputs"]
            return output["size_bytes"]

        relay.disconnect()
        await until_connected(api, False)
        assert await size_of_output() == 0
        relay.reconnect()
        await until_connected(api)
        assert await size_of_output() > 0
        assert await size_of_output() > 0, "from the store"
