"""Runs that are cancelled at random times, many at once, on a real ComfyUI."""

import asyncio
import random
import sqlite3
import uuid

import pytest

from tests.helpers.selection import examples


@pytest.fixture(autouse=True)
def leave_comfyui_idle(idle):
    """Empty the queue after each test."""


async def test_hundred_runs_with_random_cancels(api, connected, chain, verdict):
    """At any time of the cancellation, the record of a run agrees with ComfyUI's history."""

    async def one():
        seconds = random.choice([0.0, 0.01, 0.05])
        prompt_id = str(uuid.uuid4())
        request = {"workflow_api": chain(("TestSleep", {"seconds": seconds}))}
        post = asyncio.ensure_future(api.post("run", {**request, "prompt_id": prompt_id}))
        interrupt_code = 0
        if random.random() < 0.5:
            await asyncio.sleep(random.uniform(0.0, 2.0))
            interrupt_code, body = await api.post("interrupt", {"prompt_id": prompt_id})
            assert interrupt_code in (200, 404, 409), body
        code, body = await post
        if code == 409:  # it was not a run yet
            return "", 0
        assert code == 200
        assert body["status"] in ("success", "cancelled")
        return prompt_id, interrupt_code

    ended = dict(await asyncio.gather(*(one() for _ in range(examples(100)))))
    ended.pop("", None)
    for prompt_id, interrupt_code in ended.items():
        _, record = await api.get("check-status", prompt_id=prompt_id)
        found = verdict(prompt_id)
        assert record["status"] == (found or "cancelled"), prompt_id
        if record["status"] == "cancelled":
            assert interrupt_code == 200
        if found is None:
            assert record["started_at"] is None
        if interrupt_code == 0:
            assert record["outputs"] == {"2": {"text": ["done"]}}
    _, status = await api.get("check-status")
    assert status["queue"] == {"running": 0, "pending": 0}


async def test_cancelling_twice_and_at_once(api, chain):
    """The id of a run that was refused stays taken, too."""
    refused = {"prompt_id": str(uuid.uuid4())}
    bad = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    for graph, status in ((bad, 400), (chain(), 409)):
        assert (await api.post("run", {"workflow_api": graph, **refused}))[0] == status
    assert (await api.get("check-status", **refused))[1]["status"] == "failed"
    _, run = await api.post(
        "run", {"workflow_api": chain(("TestSleep", {"seconds": 20})), "wait": False}
    )
    _, queued = await api.post("run", {"workflow_api": chain(), "wait": False})
    for prompt_id in (queued["prompt_id"], run["prompt_id"]):
        cancels = [api.post("interrupt", {"prompt_id": prompt_id}) for _ in range(5)]
        answers = await asyncio.gather(*cancels)
        assert answers[0][0] == 200
        assert {code for code, _ in answers} <= {200, 409}
        await api.until(prompt_id, "cancelled")
        code, body = await api.post("interrupt", {"prompt_id": prompt_id})
        assert (code, body["details"]["status"]) == (409, "cancelled")


async def test_cancel_while_the_prompt_is_being_queued(api, chain, verdict):
    for _ in range(examples(20)):
        prompt_id = str(uuid.uuid4())
        request = {"workflow_api": chain(("TestSleep", {"seconds": 20})), "prompt_id": prompt_id}
        post = asyncio.ensure_future(api.post("run", request))
        code = 404
        while code == 404:
            code, _ = await api.post("interrupt", {"prompt_id": prompt_id})
        assert code == 200
        code, body = await post
        if code == 409:  # it was not a run yet
            assert body["details"]["status"] == "cancelled"
            assert (await api.get("check-status", prompt_id=prompt_id))[0] == 404
        else:
            assert (code, body["status"]) == (200, "cancelled")
        assert verdict(prompt_id) in (None, "cancelled")


async def test_a_run_reported_as_queued_is_stored_as_queued(api, chain, tmp_path):
    """Otherwise it would be lost if Jupyter and ComfyUI crashed together."""
    await api.get("runs")
    store = sqlite3.connect(f"{(tmp_path / 'data' / 'comfydeploy.db').as_uri()}?mode=ro", uri=True)
    seen = []
    for _ in range(examples(30)):
        code, run = await api.post("run", {"workflow_api": chain(), "wait": False})
        assert code == 200
        query = "SELECT status, number FROM runs WHERE prompt_id = ?"
        seen.append(store.execute(query, (run["prompt_id"],)).fetchone())
        await api.until(run["prompt_id"], "success")
    store.close()
    assert {status for status, _ in seen} <= {"queued", "running", "success"}
    assert None not in {number for _, number in seen}
