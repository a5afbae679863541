"""Graphs of megabytes: the routes give the same replies as for small ones, by other processes."""

import asyncio
import gc
import json

import pytest

from comfydeploy_jupyter.util import worker
from comfydeploy_jupyter.workflows import convert
from tests.helpers.bodies import form
from tests.helpers.waiting import until_async

NODES = 1200


@pytest.fixture
def graph(chain):
    made = chain()
    idle = {"class_type": "TestSleep", "inputs": {"seconds": 0.0, "token": "a photo " * 120}}
    return {**made, **{f"idle {n}": {**idle, "_meta": {"title": f"T{n}"}} for n in range(NODES)}}


def new_nodes_in_memory():
    return sum(type(found) is dict and "class_type" in found for found in gc.get_objects())


async def without_parsing(work):
    """Return the result of some work; fail if a large graph is in this process during it."""
    gc.collect()
    gc.freeze()  # only what is made from now on is looked at
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait({task}, timeout=0.02))[0]:
        assert new_nodes_in_memory() < NODES / 10
    return task.result()


async def post(api, route, **body):
    text = json.dumps(body)
    headers = {"Content-Type": "application/json"}
    response = await without_parsing(api.raw("POST", route, body=text, headers=headers))
    assert response.code == 200, response.body[:500]
    return json.loads(response.body)


async def get(api, route, **params):
    response = await without_parsing(api.raw("GET", route, params=params))
    assert response.code == 200, response.body[:500]
    return response


@pytest.mark.thorough
async def test_runs(api, graph):
    await api.get("object_info")
    run = await post(api, "run", workflow_api=graph, inputs={"text": "other"})
    assert run["status"] == "success"
    (output,) = run["outputs"].values()
    assert output["text"] == ["other"]
    assert (await get(api, "check-status", prompt_id=run["prompt_id"])).code == 200


async def test_wrong_large_graphs_get_the_same_error_as_small_ones(api, graph):
    for wrong in ({**graph, "x": 1}, {**graph, "x": {"class_type": [1], "inputs": {}}}):
        code, large = await api.post("run", {"workflow_api": wrong})
        assert code == 400
        code, small = await api.post("run", {"workflow_api": {"x": wrong["x"]}})
        assert code == 400
        assert large == small
    code, reply = await api.post("run", {"workflow_api": graph, "inputs": {"texd": "other"}})
    assert (code, reply["code"]) == (400, "unknown_input"), reply


@pytest.mark.thorough
async def test_workflows(api, graph):
    made = await post(api, "workflow", name="large", workflow_api=graph)
    again = await post(api, "workflow", workflow_id=made["workflow_id"], workflow_api=graph)
    assert (made["created"], again["new_version"], again["version"]) == (True, False, 1)
    response = await get(api, "workflow", workflow_id=made["workflow_id"])
    found = json.loads(response.body)
    assert found["workflow_api"] == found["versions"][0]["workflow_api"] == graph
    assert int(response.headers["Content-Length"]) == len(response.body)
    assert response.headers["Content-Type"].startswith("application/json")
    etag = {"If-None-Match": response.headers["Etag"]}
    same = await api.raw(
        "GET", "workflow", params={"workflow_id": made["workflow_id"]}, headers=etag
    )
    assert (same.code, same.body) == (304, b"")
    graph["idle 1"]["inputs"]["seconds"] = 1.0
    version = await post(
        api, "workflow/version", workflow_id=made["workflow_id"], workflow_api=graph
    )
    assert (version["version"], version["workflow_api"]) == (2, graph)
    await api.get("object_info")
    run = await post(api, "run", workflow_id=made["workflow_id"], version=1)
    assert run["status"] == "success"


async def test_the_form_is_made_once_for_all_who_ask(api, graph, monkeypatch):
    await api.get("object_info")
    made = []
    run = worker.run
    monkeypatch.setattr(worker, "run", lambda *args: made.append(args) or run(*args))
    text = json.dumps(graph)
    body = {"workflow_api": text, "brief": True}
    asked = [api.post("workflow/form", body) for _ in range(2)]
    first, *others = await asyncio.gather(*asked)
    again = await post(api, "workflow/form", **body)
    assert ([first, *others], len(made)) == ([(200, again)] * 2, 1)
    assert len(again["values"]) > 2 * NODES
    _, form = await api.post("workflow/form", {**body, "inputs": {"idle 1.seconds": 2}})
    assert (form["values"]["idle 1.seconds"], len(made)) == ("2", 2)
    code, reply = await api.post("workflow/form", {"workflow_api": text[:-1]})
    assert (code, reply["details"]["field"]) == (400, "workflow_api")


async def test_the_last_forms_are_kept_for_some_time(monkeypatch):
    monkeypatch.setattr(convert, "FORMS_KEPT", 0.3)
    forms = convert._LargeForms()
    made = []

    async def form_of(key, seconds=0.0):
        async def make():
            made.append(key)
            await asyncio.sleep(seconds)
            if key == "wrong":
                raise ValueError(key)
            return {"key": key}

        assert await forms.get(key, make) == {"key": key}

    slow = asyncio.ensure_future(form_of("slow", 0.05))
    await asyncio.sleep(0)
    await form_of("a")
    await form_of("b")
    await slow
    for key in ("b", "slow", "a", "slow"):
        await form_of(key)
    assert made == ["slow", "a", "b", "a"]
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            await form_of("wrong")
    assert made[4:] == ["wrong", "wrong"]
    await until_async(lambda: not forms._made)


async def test_conversion_and_validation(api, graph):
    await api.get("object_info")
    ui = await post(api, "workflow/convert", workflow_api=graph)
    assert (ui["from"], ui["to"], len(ui["workflow"]["nodes"])) == ("api", "ui", len(graph))
    back = await post(api, "workflow/convert", workflow=ui["workflow"])
    assert len(back["workflow_api"]) == len(graph)
    body, headers = form(("file", "large.json", json.dumps(graph).encode()))
    dropped = await without_parsing(api.raw("POST", "workflow/convert", body=body, headers=headers))
    assert len(json.loads(dropped.body)["workflow"]["nodes"]) == len(graph)
    validation = await post(api, "workflow/validate", workflow_api=graph)
    assert (validation["valid"], validation["missing_nodes"]) == (True, [])
    run = await post(api, "run", workflow=ui["workflow"])
    assert run["status"] == "success"
    made = await post(api, "workflow", name="drawn", workflow=ui["workflow"])
    found = json.loads((await get(api, "workflow", workflow_id=made["workflow_id"])).body)
    assert len(found["workflow_api"]) == len(graph)
