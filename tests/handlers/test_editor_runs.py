"""Runs that ComfyUI's editor queues at ComfyUI itself: they become runs of this server."""

import asyncio
import uuid

import pytest
import requests

from comfydeploy_jupyter.graphs.dependencies import structure_of
from comfydeploy_jupyter.runs.editor import SOON
from tests.helpers.bodies import new_picture
from tests.helpers.graphs import node
from tests.helpers.waiting import until_async
from tests.proofs.test_records import recorded

EMPTY = {"nodes": [], "links": [], "version": 0.4}


@pytest.fixture
def extension_config(extension_config, listed):
    return {**extension_config, "editor_runs": listed}


@pytest.fixture
def listed():
    """Whether the runs of the editor are listed."""
    return True


def queue(
    comfyui,
    graph=None,
    *,
    client_id=None,
    workflow=EMPTY,
):
    """Queue a prompt as the editor does, by default a new picture; return its id."""
    body = {
        "prompt": graph or new_picture("of the editor"),
        "client_id": client_id or uuid.uuid4().hex,
        "extra_data": {"extra_pnginfo": {"workflow": workflow}} if workflow else {},
    }
    answer = requests.post(f"{comfyui.url}/prompt", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()["prompt_id"]


@pytest.fixture
def earlier(comfyui):
    """A run of the editor that was queued before the server starts."""
    return queue(comfyui)


async def run_of(api, prompt_id):
    """Wait until a run is listed, and return it."""

    async def listed():
        status, runs = await api.get("runs", limit=100)
        assert status == 200
        return [run for run in runs if run["prompt_id"] == prompt_id]

    [run] = await until_async(listed, bool)
    return run


async def test_runs_of_the_editor_are_listed(earlier, api, comfyui):
    before = await run_of(api, earlier)
    assert (before["status"], before["from_editor"]) == ("success", True)
    sent = new_picture("of the editor")
    prompt_id = queue(comfyui, sent)
    run = await run_of(api, prompt_id)
    assert (run["status"], run["from_editor"], run["machine"]) == ("success", True, "local")
    assert run["inputs"]["1.color"] == sent["1"]["inputs"]["color"]
    [image] = run["outputs"]["2"]["images"]
    assert image["filename"].startswith("of the editor")
    assert image["url"]
    assert run["finished_at"] >= run["started_at"] >= before["started_at"]
    status, graph = await api.get("runs", graph=prompt_id)
    assert (status, graph["workflow_api"]) == (200, sent)
    # A run of the server with the same structure is of the same workflow.
    own = await api.run(new_picture("of the editor"))
    assert "from_editor" not in own
    _, found = await api.get("runs", structure=structure_of(sent))
    assert {earlier, prompt_id, own["prompt_id"]} <= {run["prompt_id"] for run in found}


async def test_deleted_runs_do_not_return_and_prompts_of_scripts_are_not_listed(api, comfyui):
    script, prompt_id = queue(comfyui, workflow=None), queue(comfyui)
    await run_of(api, prompt_id)
    status, deleted = await api.post("runs/delete", {"prompt_ids": [prompt_id]})
    assert (status, deleted["runs"]) == (200, 1)
    await run_of(api, queue(comfyui))
    _, runs = await api.get("runs", limit=100)
    assert not {script, prompt_id} & {run["prompt_id"] for run in runs}


async def test_no_run_hides_one_of_the_editor(api, comfyui):
    queue(comfyui, client_id="\ud800")  # it cannot be stored
    prompt_id = queue(comfyui)
    await api.run(new_picture("own"))  # it is the last one in ComfyUI's history
    assert (await run_of(api, prompt_id))["from_editor"]


@pytest.mark.parametrize("listed", [False])
async def test_none_is_listed_if_the_setting_says_so(earlier, api, comfyui):
    prompt_id = queue(comfyui)
    own = await api.run(new_picture("own"))
    await asyncio.sleep(2 * SOON)
    _, runs = await api.get("runs", limit=100)
    assert [run["prompt_id"] for run in runs] == [own["prompt_id"]], (earlier, prompt_id)


@pytest.mark.thorough
async def test_each_kind_of_run_has_its_record(api, comfyui):
    pool = {"kind": "pool", "name": "p", "members": ["local"]}
    assert (await api.post("machine/create", pool))[0] == 200
    graph = {**new_picture("each"), "3": node("TestText", text="a fox")}
    code, run = await api.post("run", {"workflow_api_raw": graph})
    assert code == 200, run
    ids = [queue(comfyui, graph), run["prompt_id"], await api.start(graph, machine="p")]
    await run_of(api, ids[0])
    for prompt_id in ids:
        await api.until(prompt_id, "success")
        found = await recorded(api, prompt_id)
        assert (found["status"], found["machine"], found["notes"]) == ("success", "local", [])
        assert found["prompt"] == graph
        assert found["environment"]["packages"]["torch"]
        assert [pack["name"] for pack in found["node_packs"]] == ["comfydeploy_test_nodes"]
        assert all(each["content"]["sha256"] for each in found["outputs"])
        assert len(found["outputs"]) == 2
