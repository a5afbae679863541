"""A ComfyUI that Jupyter starts, supervises and ends."""

import asyncio
import os
import signal
import sys
import time

import pytest

from comfydeploy_jupyter.machines.machine import Machine
from comfydeploy_jupyter.machines.settings import MachineSettings
from tests.helpers.jupyter import chain
from tests.helpers.processes import alive
from tests.helpers.waiting import until, until_async
from tests.transfers.conftest import IgnoringListener


@pytest.fixture
def extension_config(managed):
    return managed


@pytest.mark.thorough
@pytest.mark.timeout(300)
async def test_comfyui_that_ends_during_a_run(api, events, chain):
    """By ``kill -9``, by a node that ends its process, and because it is stopped.

    Waiting runs are executed later.
    """
    sleep = {"workflow_api": chain(("TestSleep", {"seconds": 300}))}
    stream = asyncio.ensure_future(events(body=sleep))
    await until_async(
        lambda: api.get("check-status"),
        lambda answer: answer[1]["queue"]["running"] == 1,
        timeout=120,
    )
    crash = chain(("TestCrash", {"exit_code": 70}))
    ids = []
    for graph in (chain(), crash, chain()):
        _, body = await api.post("run", {"workflow_api": graph, "wait": False})
        ids.append(body["prompt_id"])
    _, status = await api.get("check-status")
    assert status["queue"] == {"running": 1, "pending": 3}
    comfyui = status["comfyui"]
    assert (status["status"], comfyui["managed"], comfyui["state"]) == ("ok", True, "running")

    os.kill(comfyui["pid"], signal.SIGKILL)
    begin = time.monotonic()
    messages = await stream
    assert time.monotonic() - begin < 10
    assert messages[-1][1]["data"]["status"] == "failed"
    error = messages[-2][1]["data"]["error"]
    assert error["type"] == "ComfyUIEnded"
    assert "exit code 137 while" in error["message"]
    assert "it was killed, perhaps by the system because memory ran out" in error["message"]
    assert all(each in error["message"] for each in ("smaller", "--lowvram", "comfy.free()"))
    assert (error["node_id"], error["node_type"]) == ("1", "TestSleep")
    code, status = await api.get("check-status")
    assert (code, status["status"], status["comfyui"]["pid"]) == (200, "degraded", None)
    assert status["comfyui"]["last_exit"] == 137

    crashed = await api.until(ids[1], "failed", timeout=150)
    assert crashed["error"]["type"] == "ComfyUIEnded"
    assert "exit code 70" in crashed["error"]["message"]
    assert "memory" not in crashed["error"]["message"]
    for prompt_id in (ids[0], ids[2]):
        record = await api.until(prompt_id, "success", timeout=60)
        assert record["outputs"] == {"1": {"text": ["done"]}}
    _, status = await until_async(  # the crash may have come last, and ComfyUI is on its way
        lambda: api.get("check-status"), lambda answer: answer[1]["status"] == "ok", timeout=120
    )
    assert status["comfyui"]["last_exit"] == 70
    assert 2 <= status["comfyui"]["restarts"] <= 3
    code, log = await api.get("comfyui/log", lines="1000")
    assert code == 200
    assert log["path"] == status["comfyui"]["log"]
    assert sum("To see the GUI go to" in line for line in log["lines"]) >= 3

    busy = await api.start(chain(("TestSleep", {"seconds": 600})))
    await api.until(busy, "running")
    code, reply = await api.post("comfyui/stop", {})
    assert (code, reply) == (200, {"success": True, "machine": "local"})
    assert "was stopped on request" in (await api.until(busy, "failed"))["error"]["message"]
    _, status = await api.get("check-status")
    assert (status["comfyui"]["reachable"], status["comfyui"].get("error")) == (False, None)
    assert (await api.post("comfyui/stop", {}))[0] == 200, "twice changes nothing"
    assert (await api.get("machines"))[1][0]["status"] == "stopped"
    await api.run(chain())


@pytest.mark.thorough
def test_comfyui_ends_with_a_killed_jupyter(serve, managed):
    jupyter = serve(**managed)
    code, body = jupyter.post("run", {"workflow_api": chain()}, timeout=120)
    assert (code, body["status"]) == (200, "success"), body
    sleep = {"workflow_api": chain(("TestSleep", {"seconds": 300})), "wait": False}
    _, running = jupyter.post("run", sleep)
    _, queued = jupyter.post("run", {"workflow_api": chain(), "wait": False})
    jupyter.until(running["prompt_id"], "running")
    first = jupyter.get("check-status")[1]["comfyui"]["pid"]
    assert alive(first)
    jupyter.kill()
    until(lambda: not alive(first))
    jupyter.start()
    lost = jupyter.until(running["prompt_id"], "failed", timeout=120)
    assert lost["error"]["type"] == "ComfyUIEnded"
    assert jupyter.until(queued["prompt_id"], "success", timeout=120)["success"] is True
    second = jupyter.get("check-status")[1]["comfyui"]["pid"]
    assert second != first
    jupyter.stop()
    assert not alive(second)


@pytest.fixture
def starting(tmp_path, jp_asyncio_loop):
    """A machine whose ComfyUI never answers."""
    tree = tmp_path / "ComfyUI"
    (tree / "comfy").mkdir(parents=True)
    (tree / "main.py").write_text("import time; time.sleep(100)")
    settings = MachineSettings(comfyui_path=str(tree), comfyui_python=sys.executable)
    machine = Machine(
        "local", settings, client_id="x", folder=tmp_path / "data", listener=IgnoringListener()
    )
    yield machine
    jp_asyncio_loop.run_until_complete(machine.close())


async def test_it_is_started_after_a_request_for_its_folders(starting, tmp_path):
    """For example by a download that continues after a restart."""
    assert (await starting.folders()).base == tmp_path / "ComfyUI"
    starting.open()
    await until_async(lambda: starting.process.pid, what=lambda: starting.process.state)


async def test_its_folders_are_known_while_it_starts(starting, tmp_path):
    """A run of a pool with input files does not wait for it."""
    starting.open()
    await until_async(lambda: starting.process and starting.process.pid)
    assert (await asyncio.wait_for(starting.folders(), 20)).base == tmp_path / "ComfyUI"


class TestComfyUIOfSomebodyElse:
    @pytest.fixture
    def extension_config(self, tmp_path):
        return {"comfyui_url": "http://127.0.0.1:9", "data_dir": str(tmp_path / "data")}

    async def test_what_is_known_of_it_while_it_is_down(self, api):
        assert await api.refusal("comfyui/stop", {}) == (409, "machine")
        code, reply = await api.get("machine")
        assert (code, reply["kind"], reply["status"]) == (200, "comfyui", "unreachable")
        assert reply["software"]["comfyui"]["version"] is None
        assert reply["hardware"]["memory"]["total"] > 0
        assert reply["hardware"]["disks"] == []
        code, body = await api.get("comfyui/log")
        assert (code, body["code"]) == (404, "not_found")
        assert "comfyui_path" in body["hint"]
