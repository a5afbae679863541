"""Ids that clients choose: clients use any text, ComfyUI gets a UUID."""

import asyncio
import json
import struct
import uuid
from dataclasses import replace

import pytest
import requests

from comfydeploy_jupyter.comfyui.socket import Event, decode_binary
from tests.helpers.comfyui import is_today
from tests.helpers.selection import few

from .conftest import until_connected

ODD_IDS = [
    "my-run:1",
    "Läufe_🐎",
    "C4E40795-C2F1-483C-B0C1-D997CE12B4E1",
    "f9ac19473529496299266cce6b3ba320",
    "0",
]


@pytest.fixture
def extension_config(newer, tmp_path):
    return {"comfyui_url": newer.url, "data_dir": str(tmp_path / "data")}


@pytest.fixture(autouse=True)
def own(connected):
    """Wait for the connection first."""


def slow(chain, steps=40):
    return chain(("TestProgress", {"steps": steps, "delay": 0.05}))


async def test_a_client_given_id_is_used_everywhere(events, api, chain, newer):
    for prompt_id in ODD_IDS:
        await check_id(events, api, chain, newer, prompt_id)
    prompt_id = str(uuid.uuid4())
    await api.post("run", {"workflow_api": slow(chain, 1), "prompt_id": prompt_id})
    assert newer.prompts[-1]["prompt_id"] == prompt_id, "a UUID is kept"


async def check_id(events, api, chain, newer, prompt_id):
    messages = await events(body={"workflow_api": slow(chain, 3), "prompt_id": prompt_id})
    mine = newer.prompts[-1]["prompt_id"]
    assert mine != prompt_id
    assert mine == str(uuid.UUID(mine))
    for _, message in messages:
        assert mine not in json.dumps(message)
        if "event" in message and message["event"] != "live_status":
            assert message["data"]["prompt_id"] == prompt_id
    states = [m["data"] for _, m in messages if m.get("event") == "progress_state"]
    assert states
    assert {n["prompt_id"] for s in states for n in s["nodes"].values()} == {prompt_id}
    code, record = await api.get("check-status", prompt_id=prompt_id)
    assert (code, record["prompt_id"], record["status"]) == (200, prompt_id, "success")
    assert record["outputs"] == {"2": {"text": ["done"]}}
    assert mine not in json.dumps(record)
    code, body = await api.post("run", {"workflow_api": slow(chain, 1), "prompt_id": prompt_id})
    assert (code, body["code"]) == (409, "conflict")


async def test_the_uuid_of_a_deleted_run_is_not_used_again_in_comfyui(api, chain, newer):
    """Its entry in ComfyUI's history would be taken for that of the new run."""
    prompt_id = str(uuid.uuid4())
    for _ in range(2):
        code, reply = await api.post("run", {"workflow_api": chain(), "prompt_id": prompt_id})
        assert (code, reply["prompt_id"], reply["status"]) == (200, prompt_id, "success")
        code, _ = await api.post("runs/delete", {"prompt_ids": [prompt_id]})
        assert code == 200
    first, second = (body["prompt_id"] for body in newer.prompts[-2:])
    assert (first, second == str(uuid.UUID(second))) == (prompt_id, True)
    assert second != prompt_id


async def test_own_id_is_cancelled_queued_and_running(api, chain, newer):
    first = {"workflow_api": slow(chain), "prompt_id": "first", "wait": False}
    second = {"workflow_api": slow(chain), "prompt_id": "second", "wait": False}
    await api.post("run", first)
    await api.until("first", "running")
    await api.post("run", second)
    code, body = await api.post("interrupt", {"prompt_id": "second"})
    assert (code, body["was"], body["prompt_id"]) == (200, "queued", "second")
    code, body = await api.post("interrupt", {"prompt_id": "first"})
    assert (code, body["was"], body["prompt_id"]) == (200, "running", "first")
    for prompt_id in ("first", "second"):
        assert (await api.until(prompt_id, "cancelled", "success", "failed"))[
            "status"
        ] == "cancelled"
    # the jobs API is used, and the whole queue is never read
    assert newer.requests["GET /queue"] == 0
    assert newer.requests["POST /interrupt"] == newer.requests["POST /queue"] == 0


@pytest.mark.parametrize("lacks", few([("cancel", "jobs"), ("cancel",), ()]), ids="+".join)
async def test_a_run_with_its_own_id_is_found_again_after_a_reconnection(api, chain, newer, lacks):
    newer.lacks = set(lacks)
    ids = ["a:b", "c-d", str(uuid.uuid4())]
    for prompt_id in ids:
        graph = slow(chain, 100 if prompt_id == "a:b" else 10)  # it runs while another is cancelled
        await api.post("run", {"workflow_api": graph, "prompt_id": prompt_id, "wait": False})
    await api.until("a:b", "running")
    newer.drop_sockets()
    await until_connected(api)
    code, body = await api.post("interrupt", {"prompt_id": "c-d"})
    assert (code, body["was"]) == (200, "queued")
    ends = {i: (await api.until(i, "success", "failed", "cancelled"))["status"] for i in ids}
    assert ends == {"a:b": "success", "c-d": "cancelled", ids[2]: "success"}
    assert (newer.requests["GET /queue"] > 0) == ("jobs" in lacks)
    assert (newer.requests["POST /queue"] > 0) == ("cancel" in lacks)


async def test_runs_that_were_queued_under_their_own_id_are_found_again(
    api, chain, newer, extension
):
    """Earlier versions queued them with the id of the run as ComfyUI's id."""
    service = extension.services.runs
    await api.post("run", {"workflow_api": slow(chain, 1), "prompt_id": "now"})
    record = await service.record("now")
    graph = json.dumps(slow(chain, 20)).encode()
    body = {"prompt": json.loads(graph), "prompt_id": "of-before", "client_id": record.session}
    response = await asyncio.to_thread(
        requests.post, f"{newer.target}/prompt", json=body, timeout=10
    )
    if is_today():
        assert response.status_code == 400
        pytest.skip("this ComfyUI takes UUIDs only, so that none can have been queued otherwise")
    assert response.status_code == 200
    old = replace(record, prompt_id="of-before", comfyui_id="", status="queued")
    old = replace(old, started_at=None, finished_at=None, execution_time=None, outputs={})
    await service._context.repository.add(old, graph, None)
    await service.recover_orphans([record.session])
    assert (await api.until("of-before", "success"))["outputs"] == {"2": {"text": ["done"]}}


async def test_previews_in_frames_name_the_run():
    metadata = json.dumps({"node_id": "3", "image_type": "image/png", "prompt_id": "x"}).encode()
    frame = struct.pack(">II", 4, len(metadata)) + metadata + b"\x89PNG..."
    preview = decode_binary(frame)
    renamed = preview.renamed("my ünique id")
    again = decode_binary(renamed.frame)
    assert (again.prompt_id, again.image, again.node) == ("my ünique id", b"\x89PNG...", "3")
    assert preview.prompt_id == "x"
    old_form = decode_binary(struct.pack(">II", 1, 2) + b"\x89PNG")
    assert old_form.renamed("a") == old_form


def test_malformed_events_are_renamed_without_error():
    event = Event("progress_state", {"prompt_id": "x", "nodes": {"1": 5, "2": {"prompt_id": "x"}}})
    assert event.renamed("y").data["nodes"] == {"1": 5, "2": {"prompt_id": "y"}}
    assert Event("executed", {"prompt_id": "x", "nodes": [1]}).renamed("y").data["nodes"] == [1]
