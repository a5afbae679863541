"""The routes that describe runs for pages, with a real ComfyUI."""

import asyncio
import uuid

from comfydeploy_jupyter.graphs.dependencies import structure_of
from comfydeploy_jupyter.util import worker
from tests.helpers.bodies import picture
from tests.helpers.graphs import node


def told(text, seed, **more):
    """Return a graph of a node that says its seed, and a picture with a title."""
    graph = picture("shown", **more)
    graph["2"]["_meta"] = {"title": "The final picture"}
    inputs = {"seed": seed, "token": text}
    return {**graph, "7": {"class_type": "TestSeed", "inputs": inputs}}


async def cards(api, **query):
    code, body = await api.get("runs/cards", **query)
    assert code == 200, body
    return body


async def test_a_list_has_its_length_and_each_page_its_runs(api):
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for number, prompt_id in enumerate(ids):
        await api.run(prompt_id=prompt_id, workflow_api=told("a", number, color=number))
    structure = structure_of(told("a", 0))
    _, form = await api.post("workflow/form", {"workflow_api": told("b", 9)})
    assert form["structure"] == structure
    first = await cards(api, structure=structure, limit=2)
    assert first["total"] == 5
    assert first["waiting"] == []
    assert [each["prompt_id"] for each in first["runs"]] == ids[:2:-1]
    last = await cards(api, structure=structure, limit=2, offset=4)
    assert [each["prompt_id"] for each in last["runs"]] == ids[:1]
    none = await cards(api, structure=structure, offset=9)
    assert (none["runs"], none["total"], none["start"], none["next"]) == ([], 5, None, None)
    older = await cards(api, structure=structure, limit=2, cursor=first["next"], count="false")
    assert [each["prompt_id"] for each in older["runs"]] == ids[2:0:-1]
    assert older["total"] is None
    (shown,) = last["runs"]
    (file,) = shown["pictures"]
    assert (file["kind"], file["small"]) == ("image", True)
    assert file["query"].startswith(f"filename={file['name']}&")
    assert shown["medium"] == "text"
    assert shown["seconds"] is not None
    failed = await cards(api, structure=structure, status="failed")
    assert failed["total"] == 0


async def test_values_are_found_as_a_form_writes_them(api):
    check = {"condition": True, "message": "", "anything": ["7", 0]}
    graph = {**told("a", 11, color=1), "8": {"class_type": "TestFailIf", "inputs": check}}
    inputs = {"1.color": 0xF06FA0, "7.seed": 11, "7.token": "Late Light", "8.condition": False}
    run = await api.run(workflow_api=graph, inputs=inputs)
    inputs = {"1.color": 3, "7.seed": 2**64 - 1, "7.token": "on air"}
    large = await api.run(workflow_api=graph, inputs=inputs)
    found = {
        "f06fa0": 1,
        "#F06FA0": 1,
        "f06fa1": 0,
        "color f06fa0": 1,
        "seed 11": 1,
        "Seed: 11": 1,
        "seed=1": 0,
        "seed 12": 0,
        "token light": 1,
        "late light": 1,
        "token on": 1,
        "condition off": 1,
        "condition on": 0,
        f"seed {2**64 - 1}": 1,
        f"seed {2**64 - 2}": 0,
        "%": 0,
        "seed '": 0,
    }
    for text, count in found.items():
        assert (await cards(api, search=text))["total"] == count, text
    (same,) = (await cards(api, search="seed 11"))["runs"]
    assert same["prompt_id"] == run["prompt_id"]
    (other,) = (await cards(api, search=str(2**64 - 1)))["runs"]
    assert other["prompt_id"] == large["prompt_id"]
    assert other["seeds"] == {"7.seed": str(2**64 - 1)}


async def test_a_search_ends_when_its_client_leaves(api, extension, wire, monkeypatch):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def search(**_):
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    await cards(api)  # the services are open
    monkeypatch.setattr(extension.services.runs, "cards", search)
    _, writer = await wire.send("GET", "comfyui-deploy/runs/cards?search=fox")
    await asyncio.wait_for(begun.wait(), 20)
    writer.close()
    await asyncio.wait_for(ended.wait(), 20)


async def test_a_sheet_ends_when_its_client_leaves(api, wire, monkeypatch):
    """Nor does the next one wait for it."""
    point = {"1": node("TestText", text="a", token="")}
    _, batch = await api.post("batch", {"prompts": [point], "paused": True})
    begun, ended, call = asyncio.Event(), asyncio.Event(), worker.call

    async def never(*_):
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    monkeypatch.setattr(worker, "call", never)
    path = f"batch/{batch['batch_id']}/sheet"
    _, writer = await wire.send("GET", f"comfyui-deploy/{path}")
    await asyncio.wait_for(begun.wait(), 20)
    writer.close()
    await asyncio.wait_for(ended.wait(), 20)
    monkeypatch.setattr(worker, "call", call)
    found = await api.raw("GET", path)
    assert (found.code, found.headers["Content-Type"]) == (200, "image/png")


async def test_a_list_names_the_workflows_of_its_runs(api):
    graph = told("named", 3, color=9)
    _, stored = await api.post("workflow", {"workflow_api": graph, "name": "My fox"})
    await api.run(workflow_id=stored["workflow_id"])
    (shown,) = (await cards(api, workflow_id=stored["workflow_id"]))["runs"]
    assert shown["workflow"] == "My fox"
    await api.run(workflow_api=told("unnamed", 4))
    assert (await cards(api, limit=1))["runs"][0]["workflow"] == ""


async def test_a_run_is_described_by_its_nodes(api):
    run = await api.run(workflow_api=told("x", 5, color=7, batch_size=2))
    code, shown = await api.get("runs/details", prompt_id=run["prompt_id"])
    assert code == 200
    assert shown["status"] == "success"
    assert shown["why"] == ""
    pictures, text = shown["outputs"]
    assert (pictures["node"], pictures["title"]) == ("2", "The final picture")
    assert len(pictures["files"]) == 2
    assert pictures["texts"] == []
    assert text["class_type"] == "TestSeed"
    assert text["texts"]
    assert {each["node"] for each in shown["times"]} <= {"1", "2", "7"}
    code, body = await api.get("runs/details", prompt_id="nothing")
    assert code == 404
    assert body["details"]["field"] == "prompt_id"


async def test_a_failure_names_the_node_by_its_title(api):
    graph = picture("fails")
    graph["9"] = {
        "class_type": "LoadImage",
        "inputs": {"image": "missing.png"},
        "_meta": {"title": "My <b>photo</b>"},
    }
    graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}}
    run = await api.run(workflow_api=graph)
    _, shown = await api.get("runs/details", prompt_id=run["prompt_id"])
    (sentence,) = shown["left_out"]
    assert sentence.startswith('node "My <b>photo</b>" (LoadImage): ')


async def test_two_runs_are_compared_in_the_words_of_the_form(api):
    first = await api.run(workflow_api=told("x", 5, color=0xF06FA0))
    second = await api.run(workflow_api=told("y", 5, color=0x0000FF, width=48))
    ids = {"first": first["prompt_id"], "second": second["prompt_id"]}
    code, body = await api.get("runs/differences", **ids)
    assert code == 200
    lines = {
        (each["text"].lower().replace(" ", ""), each["first"], each["second"], each["kind"])
        for each in body["differences"]
    }
    assert ("emptyimage:color", "#f06fa0", "#0000ff", "color") in lines
    assert ("emptyimage:width", "32", "48", "int") in lines
    assert len(lines) == 3
    _, none = await api.get("runs/differences", first=ids["first"], second=ids["first"])
    assert none == {"differences": []}
    _, body = await api.get("runs/values", prompt_id=second["prompt_id"])
    values = {each["key"]: each["value"] for each in body["values"]}
    assert values["1.color"] == "#0000ff"
    assert values["7.seed"] == "5"
    code, _ = await api.get("runs/values", prompt_id="nothing")
    assert code == 404
