"""The routes of the serverless machines of ComfyDeploy."""

import pytest

from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def extension_config(cloud_config):
    return cloud_config


def keyed():
    return {"headers": {"X-ComfyDeploy-Token": KEY}}


async def test_a_machine_is_built(api, comfydeploy, extension):
    body = {
        "name": "big",
        "gpu": "H100",
        "docker_steps": [{"id": "1", "type": "commands", "data": "RUN true"}],
        "comfyui_version": "c" * 40,
        "run_timeout": 600,
        "env": {"HF_TOKEN": "mine"},
        "api_url": comfydeploy.root,
        "cd_token": KEY,
    }
    code, made = await api.post("machine/create", body)
    assert (code, made["success"]) == (200, True)
    machine = made["machine"]
    assert (machine["kind"], machine["status"], machine["name"]) == ("cloud", "building", "big")
    assert machine["config"]["created_at"].endswith("Z")
    (sent,) = comfydeploy.seen
    assert sent.path == "/api/machine/serverless"
    assert sent.body == {
        "name": "big",
        "gpu": "H100",
        "docker_command_steps": {"steps": body["docker_steps"]},
        "comfyui_version": "c" * 40,
        "run_timeout": 600,
    }
    assert KEY not in str(made)

    await extension.stop_extension()  # it is known to the next server too, by id and by name
    for name in (made["machine_id"], "big"):
        code, reply = await api.call("GET", "machine", params={"machine_id": name}, **keyed())
        assert (code, reply["id"]) == (200, made["machine_id"])
    assert reply["status"] == "ready"
    assert reply["software"]["comfyui"]["url"] == f"{comfydeploy.root}/machine"
    assert reply["hardware"]["gpus"] == [{"name": "H100"}]
    rows = (await api.get("machines"))[1]
    assert [(row["id"], row["kind"]) for row in rows] == [
        ("local", "comfyui"),
        (made["machine_id"], "cloud"),
    ]

    change = {"machine_id": "big", "name": "bigger", "run_timeout": 900, "restart": True}
    code, reply = await api.post("machine/update", change, **keyed())
    assert (code, reply["success"], reply["restart_required"]) == (200, True, False)
    assert comfydeploy.seen[-1].method == "PATCH"
    assert comfydeploy.seen[-1].body == {"name": "bigger", "run_timeout": 900}
    assert comfydeploy.machines[made["machine_id"]]["run_timeout"] == 900
    assert (await api.get("machines"))[1][1]["name"] == "bigger"

    code, reply = await api.post("machine/delete", {"machine_id": made["machine_id"]})
    assert code == 200
    assert list(comfydeploy.machines) == [made["machine_id"]]
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local"]


async def test_machines_that_are_not_registered(api, comfydeploy):
    comfydeploy.machines["m-1"] = {
        "id": "m-1",
        "name": "other",
        "status": "ready",
        "gpu": "CPU",
        "endpoint": "https://m.example",
        "auth_token": "secret-of-the-machine",
    }
    query = {"machine_id": "m-1"}
    assert (await api.get("machine", **query))[0] == 404
    for where in ({"target": "cloud"}, {"api_url": comfydeploy.root}):
        code, reply = await api.call("GET", "machine", params={**query, **where}, **keyed())
        assert (code, reply["name"], reply["hardware"]["gpus"]) == (200, "other", [])
        assert "secret" not in str(reply)
        change = {**query, **where, "run_timeout": 30}
        code, reply = await api.post("machine/update", change, **keyed())
        assert (code, reply["machine"]["config"]["run_timeout"]) == (200, 30)
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local"]


async def test_calls_of_the_nodes_web_plug_in(api, comfydeploy):
    """It takes `id` as success, and does not send the kind of GPU."""
    steps = {"steps": [{"id": "1", "type": "commands", "data": "RUN true"}]}
    body = {"name": "new", "docker_command_steps": steps, "comfyui_version": "c" * 40}
    code, made = await api.post("machine/create", {**body, "api_url": comfydeploy.root}, **keyed())
    assert (code, made["id"]) == (200, made["machine_id"])
    assert comfydeploy.seen[-1].body == {**body, "gpu": "A10G"}
    changed = {"machine_id": made["id"], "api_url": comfydeploy.root, "comfyui_version": "d" * 40}
    code, reply = await api.post("machine/update", changed, **keyed())
    assert (code, reply["id"]) == (200, made["id"])
    code, reply = await api.post("machine/update", {"name": "mine"})
    assert (code, reply["id"]) == (200, "local")


async def test_invalid_requests_for_cloud_machines_are_refused(api, comfydeploy):
    async def refusal(**fields):
        return await api.refusal("machine/create", {"name": "x", **fields}, **keyed())

    code, body = await api.call("GET", "machine", params={"target": "cloud"}, **keyed())
    assert (code, body["details"]["field"]) == (400, "machine_id")
    machine = {"name": "x", "gpu": "H100"}
    assert await api.refusal("machine/create", machine) == (401, "no_api_key")
    assert await refusal(kind="cloud") == (400, "gpu")
    assert await refusal(gpu="H100", api_url="https://evil.example") == (403, "api_url")
    assert comfydeploy.seen == []

    assert await refusal(gpu="GTX") == (422, "cloud_error")
    assert (await api.post("machine/create", {"name": "x", "gpu": "T4"}, **keyed()))[0] == 200
    count = len(comfydeploy.seen)
    assert await refusal(name="X", gpu="T4") == (409, "name")
    assert len(comfydeploy.seen) == count
    comfydeploy.answer(["not a machine"])
    assert await refusal(name="y", gpu="T4") == (502, "cloud_error")
    assert len((await api.get("machines"))[1]) == 2
    query = {"machine_id": "no-such", "target": "cloud"}
    code, body = await api.call("GET", "machine", params=query, **keyed())
    assert (code, body["code"]) == (404, "cloud_error")


async def test_routes_that_need_a_comfyui_refuse_cloud_machines(api, comfydeploy):
    _, made = await api.post("machine/create", {"name": "big", "gpu": "T4"}, **keyed())
    for name in ("big", made["machine_id"]):
        code, body = await api.get("object_info", machine=name)
        assert (code, body["details"]["field"]) == (400, "machine")
    graph = {"1": {"class_type": "X", "inputs": {}}}
    code, body = await api.post("run", {"workflow_api": graph, "machine": "big"}, **keyed())
    assert (code, body["details"]["field"]) == (400, "machine")
    assert "deployment" in body["error"]
    (made,) = comfydeploy.seen
    assert made.path.endswith("/machine/serverless"), "nothing else was sent"


async def test_the_latest_versions(api, comfyui, comfydeploy, extension):
    await api.post("machine/update", {"comfyui_url": comfyui.url})
    code, body = await api.get("comfyui-version")
    assert (code, "latest" in body) == (200, False)
    code, body = await api.call(
        "GET", "comfyui-version", params={"api_url": comfydeploy.root}, **keyed()
    )
    assert (code, body["source"]) == (200, "running")
    assert body["comfyui_hash"] == "a" * 40, "the node's web plug-in reads it here"
    assert body["latest"] == {
        "comfyui_hash": "a" * 40,
        "comfyui_latest_release": "v0.3.75",
        "comfydeploy_hash": "b" * 40,
    }
    comfydeploy.fail(503, times=9)
    code, body = await api.call("GET", "comfyui-version", params={"target": "cloud"}, **keyed())
    assert (code, body["code"]) == (502, "cloud_error")
