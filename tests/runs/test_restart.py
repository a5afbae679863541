"""A Jupyter server that is killed while ComfyUI runs."""

import asyncio
import json
import sqlite3
import time
import uuid

import pytest
import requests

from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from comfydeploy_jupyter.runs.state import LOST
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.store.session import Session
from tests.helpers.jupyter import chain
from tests.helpers.selection import few
from tests.helpers.waiting import until

from .test_two_servers import needing


@pytest.fixture(autouse=True)
def leave_comfyui_idle(idle):
    """Empty the queue after each test."""


def sleep(seconds):
    return {"workflow_api": chain(("TestSleep", {"seconds": seconds})), "wait": False}


def post(jupyter, request):
    code, body = jupyter.post("run", request)
    assert code == 200, body
    return str(body["prompt_id"])


def names(messages):
    return [data.get("event") for _, data in messages]


def check_job(jupyter, job):
    """Fail unless all nodes of a job are done, although its end was not seen."""
    progress = {"value": 1.0, "nodes_done": 2, "nodes_total": 2}
    assert jupyter.get(f"api/v2/jobs/{job}")[1]["progress"] == progress
    events = jupyter.raw("GET", f"api/v2/jobs/{job}/events").text
    assert f"event: progress\ndata: {json.dumps(progress)}\n\n" in events


def test_runs_are_found_again_after_kill_9_and_a_normal_restart(serve, comfyui, verdict):
    """One that has succeeded in the meantime, one that has failed, one executing, some waiting."""
    jupyter = serve(comfyui_url=comfyui.url)
    good = post(jupyter, sleep(3.0))
    bad = post(jupyter, {"workflow_api": chain(("TestFail", {"message": "bad"})), "wait": False})
    progress = chain(("TestProgress", {"steps": 150, "delay": 0.1}))
    running = post(jupyter, {"workflow_api": progress, "wait": False})
    waiting = [post(jupyter, sleep(0.05)) for _ in range(3)]
    long_run = post(jupyter, sleep(60))
    nexts = [good]
    for _ in range(3):
        nexts.append(post(jupyter, needing(nexts[-1])))
    jupyter.until(good, "running")
    jupyter.kill()
    until(lambda: verdict(bad))
    jupyter.start()
    assert jupyter.post("interrupt", {"prompt_id": nexts.pop()})[0] == 200
    assert jupyter.until(good, "success")["outputs"] == {"2": {"text": ["done"]}}
    check_job(jupyter, good)
    record = jupyter.until(bad, "failed")
    assert record["error"]["message"] == "bad"
    assert record["error"]["node_id"] == "1"
    assert record["created_at"] <= record["started_at"] <= record["finished_at"]
    jupyter.until(running, "running", timeout=10)
    assert jupyter.get("check-status", prompt_id=waiting[0])[1]["status"] == "queued"

    messages = jupyter.stream(running, last_id=100_000)
    assert messages[0][0] > 100_000, "a client that read the stream before gets larger ids"
    assert set(messages[0][1]) == {"prompt_id", "number", "node_errors"}
    steps = [d["data"]["value"] for _, d in messages if d.get("event") == "progress"]
    assert len(steps) > 3
    assert steps[-1] == 150
    assert {"executed", "output_ready", "live_status"} <= set(names(messages))
    assert messages[-1][1]["data"] == {"prompt_id": running, "status": "success"}
    record = messages[-2][1]["data"]
    assert record["outputs"] == {"2": {"text": ["done"]}}
    assert 14.5 < record["execution_time"] < 30, "as ComfyUI measured it"
    for prompt_id in waiting:
        assert jupyter.until(prompt_id, "success")["outputs"] == {"2": {"text": ["done"]}}
    jupyter.until(long_run, "running")
    jupyter.stop()
    jupyter.start()
    check_job(jupyter, good)
    code, body = jupyter.post("interrupt", {"prompt_id": long_run})
    assert (code, body["was"]) == (200, "running")
    jupyter.until(long_run, "cancelled")
    for prompt_id in nexts[1:]:
        assert jupyter.until(prompt_id, "success")["outputs"] == {"1": {"text": ["done"]}}


@pytest.mark.thorough
def test_runs_whose_outputs_make_the_jobs_api_fail_are_found(serve, newer, verdict):
    """ComfyUI 0.33.0 fails for outputs that it does not expect; the runs are found nevertheless."""
    jupyter = serve(comfyui_url=newer.url)
    output = {"odd": [{"filename": 4}], "text": ["done"]}
    graph = chain(("TestSleep", {"seconds": 0.8}))
    graph["2"] = {
        "class_type": "TestOutput",
        "inputs": {"files": "{}", "output": json.dumps(output), "anything": ["1", 0]},
    }
    failing = post(jupyter, {"workflow_api": graph, "wait": False})
    plain = post(jupyter, sleep(0.05))
    jupyter.until(failing, "running")
    jupyter.kill()
    deadline = time.monotonic() + 60
    while verdict(plain) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    requests = newer.requests[f"GET /api/jobs/{failing}"]
    jupyter.start()
    for prompt_id in (failing, plain):
        assert jupyter.until(prompt_id, "success")["outputs"]["2"]["text"] == ["done"]
    assert newer.requests[f"GET /api/jobs/{failing}"] > requests
    later = post(jupyter, sleep(0.05))
    jupyter.until(later, "success")


def prepare(data_dir, *prompt_ids, **fields):
    """Make the store of a Jupyter that was killed; by default between record and request."""

    async def insert():
        database = Database(data_dir / "comfydeploy.db")
        await database.open()
        session = Session(data_dir / "sessions")
        for prompt_id in prompt_ids:
            created = "2026-01-01T00:00:00.000Z"
            record = RunRecord(prompt_id, "local", session.id, created, attempts=1, **fields)
            await RunRepository(database).add(record, b'{"1": {"class_type": "TestText"}}', None)
        session.close()
        await database.close()

    asyncio.run(insert())


@pytest.mark.thorough
@pytest.mark.parametrize("autostart", few([True, False]))
def test_what_a_killed_server_has_stored_last(serve, comfyui, tmp_path, autostart):
    """It was killed between record and request, or had stored runs that no pool takes again.

    An older version stored ``retry`` without a pool; another server has deleted a pool.
    """
    never, queued, ended = (str(uuid.uuid4()) for _ in range(3))
    prepare(tmp_path, never, queued, ended)
    started = {"status": "running", "started_at": "2026-01-01T00:00:01.000Z", "retry": 1}
    reasons = {None: LOST, "gone": "there is no pool 'gone'"}
    runs = {pool: str(uuid.uuid4()) for pool in reasons}
    for pool, lost in runs.items():
        prepare(tmp_path, lost, pool=pool, **started)
    for prompt_id, seconds in ((ended, 0.0), (queued, 3.0)):
        graph = chain(("TestSleep", {"seconds": seconds}))
        body = {"prompt": graph, "prompt_id": prompt_id}
        requests.post(f"{comfyui.url}/prompt", json=body, timeout=10).raise_for_status()
    jupyter = serve(
        comfyui_url=comfyui.url, data_dir=str(tmp_path), comfyui_timeout=2.0, autostart=autostart
    )
    lost = jupyter.until(never, "failed")
    assert lost["error"]["type"] == "NotQueued"
    assert "Jupyter stopped while it was handed over" in lost["error"]["message"]
    for prompt_id in (ended, queued):
        assert jupyter.until(prompt_id, "success")["outputs"] == {"2": {"text": ["done"]}}
    for pool, lost in runs.items():
        assert reasons[pool] in jupyter.until(lost, "failed")["error"]["message"]


BATCHES = (  # what makes the row of a batch unreadable
    "plan = '{'",
    "labels = CAST(x'ff' AS TEXT)",
    "settings = CAST(x'7bff' AS TEXT)",
    "request = '{'",
    "why = CAST(x'ff' AS TEXT)",
)
DAMAGE = {  # what makes a row unreadable, or has been stored by a later version
    "UPDATE graphs SET body = zeroblob(9) WHERE hash ="
    " (SELECT prompt_hash FROM runs WHERE {})": "success",
    "UPDATE runs SET record = json_set(record, '$.of_a_later_version', 1) WHERE {}": "success",
    "UPDATE runs SET record = '{{' WHERE {}": "failed",
    "UPDATE runs SET record = CAST(x'7bff' AS TEXT) WHERE {}": "failed",  # no UTF-8
    "UPDATE runs SET note = CAST(x'61ff' AS TEXT) WHERE {}": "success",
    "UPDATE runs SET metadata = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE {}": "success",
    "UPDATE runs SET story = '{{' WHERE {}": "failed",
    "UPDATE runs SET record = json_set(record, '$.first_id', 'x') WHERE {}": "queued",
    "UPDATE orders SET told = '{{' WHERE {}": "success",
    "UPDATE orders SET told = json_set(told, '$.of_a_later_version', 1) WHERE {}": "success",
}


@pytest.mark.thorough
def test_a_row_that_cannot_be_read_affects_no_other(serve, comfyui, bare_service, tmp_path):
    jupyter = serve(comfyui_url=comfyui.url, data_dir=str(tmp_path))
    reported = {"status_endpoint": f"{bare_service.url}/status"}
    long_run = post(jupyter, sleep(60))
    runs = {
        post(jupyter, {**sleep(0.001 * place), **reported}): damage
        for place, damage in enumerate(DAMAGE)
    }
    good = post(jupyter, {**sleep(0.1), **reported})
    jupyter.until(long_run, "running")
    batch = {"workflow_api": chain(), "points": [{"text": "a"}], "paused": True}
    harmed = [jupyter.post("batch", batch)[1]["batch_id"] for _ in BATCHES]
    whole = jupyter.post("batch", batch)[1]["batch_id"]
    for port, name in enumerate(("odd", "worse"), 1):
        config = {"name": name, "comfyui_url": f"http://127.0.0.1:{port}"}
        assert jupyter.post("machine/create", config)[0] == 200
    jupyter.kill()
    connection = sqlite3.connect(tmp_path / "comfydeploy.db")
    with connection:
        for prompt_id, damage in runs.items():
            changed = connection.execute(damage.format("prompt_id = ?"), (prompt_id,))
            assert changed.rowcount == 1
        for batch_id, damage in zip(harmed, BATCHES, strict=True):
            connection.execute(f"UPDATE batches SET {damage} WHERE batch_id = ?", (batch_id,))
        connection.execute("UPDATE machines SET config = '{' WHERE name = 'odd'")
        connection.execute(
            """UPDATE machines SET config = '{"launch_args": 1}' WHERE name != 'odd'"""
        )
    connection.close()
    jupyter.start()
    code, _ = jupyter.post("interrupt", {"prompt_id": long_run})
    assert code == 200
    assert jupyter.until(good, "success")["outputs"] == {"2": {"text": ["done"]}}
    for prompt_id, damage in runs.items():
        assert jupyter.until(prompt_id, DAMAGE[damage]), damage
    for query in ({}, {"structure": "0" * 32}, {"labels[a]": "b"}, {"state": "paused"}):
        code, found = jupyter.get("batches", **query)
        assert code == 200, found
    assert jupyter.post(f"batch/{whole}/resume", {})[0] == 200
    until(lambda: jupyter.get(f"batch/{whole}")[1]["counts"], lambda found: "success" in found)
    found = {
        run["prompt_id"]: run["status"] for run in jupyter.get("runs", limit=100, single="true")[1]
    }
    assert found == {
        **{prompt_id: DAMAGE[damage] for prompt_id, damage in runs.items()},
        good: "success",
        long_run: "cancelled",
    }
    code, body = jupyter.post("runs/delete", {"status": "failed"})
    assert (code, body["runs"]) == (200, [*DAMAGE.values()].count("failed")), body
