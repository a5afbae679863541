"""Pools of two real ComfyUIs, one of which is broken, lacks a node class, or is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.machines import placement
from tests.helpers.comfyui import ComfyUIServer
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def broken(installed_comfyui, tmp_path_factory) -> Iterator[ComfyUIServer]:
    server = ComfyUIServer(tmp_path_factory.mktemp("broken"), env={"COMFYDEPLOY_TEST_BROKEN": "1"})
    server.start()
    yield server
    server.kill()


@pytest.fixture
def pool(api, extension, broken, jp_asyncio_loop) -> Any:
    """The machine ``broken``, which is the first one of a pool with `local`."""

    async def create() -> None:
        body: dict[str, Any] = {"name": "broken", "comfyui_url": broken.url}
        assert (await api.post("machine/create", body))[0] == 200
        body = {"kind": "pool", "name": "both", "members": ["broken", "local"]}
        assert (await api.post("machine/create", body))[0] == 200
        await until_async(statuses, lambda found: found == {"broken": "ready", "local": "ready"})

    async def statuses() -> dict[str, str]:
        _, reply = await api.get("machine", machine_id="both")
        return {member["id"]: member["status"] for member in reply["members"]}

    jp_asyncio_loop.run_until_complete(create())
    return statuses


async def run(api, count: int, node: str) -> list[tuple[str, str]]:
    """Execute some runs at once; return the status and the machine of each."""

    async def one() -> tuple[str, str]:
        sleep = {"seconds": 0.2, "token": uuid.uuid4().hex}
        text = {"text": "", "anything": ["1", 0]}
        graph = {
            "1": {"class_type": "TestSleep", "inputs": sleep},
            "2": {"class_type": node, "inputs": text},
        }
        body = {"workflow_api": graph, "machine": "both", "wait": False}
        code, reply = await api.post("run", body)
        assert code == 200, reply
        record = await api.until(reply["prompt_id"], "success", "failed")
        return record["status"], record["machine"]

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_a_member_that_fails_all_runs_is_paused_and_tried_with_one(api, pool, monkeypatch):
    monkeypatch.setattr(placement, "FIRST_PAUSE", 2.0)
    ends = await run(api, 8, "TestTextUnlessBroken")
    assert len([machine for status, machine in ends if status == "failed"]) <= placement.IN_A_ROW
    assert {machine for status, machine in ends if status == "success"} == {"local"}
    assert (await pool())["broken"] == "paused"
    assert await run(api, 2, "TestTextUnlessBroken") == [("success", "local")] * 2

    await asyncio.sleep(2.0)
    # One of them is the trial: it fails there, and is executed again.
    assert await run(api, 4, "TestTextUnlessBroken") == [("success", "local")] * 4
    assert (await pool())["broken"] == "paused"


async def test_a_member_without_a_node_class_gets_no_run_with_it(api, pool):
    assert await run(api, 6, "TestTextUnlessLacking") == [("success", "local")] * 6
    assert (await pool())["broken"] == "ready"


async def test_a_member_that_answers_no_ping_gets_no_run(api, pool, broken, extension):
    machine = extension.services.machines.get("broken")
    os.kill(broken.pid, signal.SIGSTOP)
    try:
        await until_async(lambda: not machine.answers, timeout=20)
        assert machine.connected
        assert await run(api, 4, "TestText") == [("success", "local")] * 4
    finally:
        os.kill(broken.pid, signal.SIGCONT)
    await until_async(lambda: machine.answers)
    assert {machine for _, machine in await run(api, 8, "TestText")} == {"broken", "local"}
