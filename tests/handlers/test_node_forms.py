"""Requests in the forms of the ComfyUI node's clients that no other file tests."""

import uuid

import pytest

from tests.helpers.fake_comfydeploy import KEY


@pytest.fixture
def extension_config(tmp_path, comfydeploy, comfyui, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    return {
        "comfyui_url": comfyui.url,
        "data_dir": str(tmp_path / "data"),
        "allowed_api_urls": [comfydeploy.root],
    }


def seeded():
    return {"7": {"class_type": "TestSeed", "inputs": {"seed": 7, "token": uuid.uuid4().hex}}}


@pytest.fixture
def native(comfydeploy):
    """A request for a native run."""
    endpoint = f"{comfydeploy.url}/native"
    return {"is_native_run": True, "native_run_api_endpoint": endpoint, "token": KEY}


async def test_a_native_run_executes_the_services_reply(api, comfydeploy, native):
    run_id = str(uuid.uuid4())
    comfydeploy.answer({"workflow_api_json": seeded(), "inputs": {"seed": 11}, "prompt_id": run_id})
    request = {**native, "inputs": {"seed": 5}}
    code, body = await api.post("run", {**request, "prompt_id": "of the native request"})
    assert code == 400  # what the node's client sends is checked, too
    code, body = await api.post("run", request)
    assert (code, body["status"], body["prompt_id"]) == (200, "success", run_id)
    assert body["seeds"] == {"7.seed": 11}
    (seen,) = comfydeploy.seen
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    del request["token"]
    assert seen.body == request


async def test_a_native_run_waits_if_the_services_reply_says_so(api, comfydeploy, native, chain):
    comfydeploy.answer({"workflow_api_json": seeded()})
    code, body = await api.post("run", {**native, "wait": True})
    assert (code, body["status"]) == (200, "success"), "it has no field `wait`"
    slow = chain(("TestSleep", {"seconds": 1.0}))
    comfydeploy.answer({"workflow_api_json": slow, "wait": False})
    code, body = await api.post("run", {**native, "wait": True})
    assert (code, body["finished_at"]) == (200, None)
    await api.until(body["prompt_id"], "success")


async def test_native_run_on_the_stream(events, comfydeploy, native):
    run_id = str(uuid.uuid4())
    comfydeploy.answer({"workflow_api_json": seeded(), "prompt_id": run_id})
    messages = await events(body={**native, "cd_token": KEY})
    first, last = messages[0][1], messages[-1][1]
    assert set(first) == {"prompt_id", "number", "node_errors"}
    assert first["prompt_id"] == run_id
    assert last == {"event": "status", "data": {"prompt_id": run_id, "status": "success"}}


async def test_a_native_run_whose_reply_is_not_a_run(api, comfydeploy, native):
    comfydeploy.answer([1])
    code, body = await api.post("run", native)
    assert (code, body["code"]) == (502, "cloud_error")
    comfydeploy.answer({"detail": "nothing to run"})
    assert await api.refusal("run", native) == (400, "workflow_api")
    for token, error in ((None, "no_api_key"), ("wrong", "cloud_error")):
        code, body = await api.post("run", {**native, "token": token})
        assert (code, body["code"]) == (401, error)
        assert "wrong" not in str(body)


async def test_run_as_the_service_sends_it(api, events):
    run_id = str(uuid.uuid4())
    body = {
        "prompt_id": run_id,
        "workflow_api_raw": seeded(),
        "workflow": None,
        "inputs": {"not there": 1},
        "status_endpoint": "",
        "file_upload_endpoint": "",
        "cd_token": "",
        "gpu_event_id": None,
    }
    code, answer = await api.post("run", body)
    assert (code, answer["prompt_id"], answer["node_errors"]) == (200, run_id, {})
    assert answer["number"] is not None
    assert answer["seeds"] != {"7.seed": 7}
    assert (await api.until(run_id, "success"))["outputs"]
    messages = await events(body={**body, "prompt_id": str(uuid.uuid4())})
    assert messages[-1][1]["data"]["status"] == "success"


async def test_sign_in_at_an_address_of_the_request(api, comfydeploy):
    comfydeploy.approve("r")
    for api_url in (comfydeploy.root, comfydeploy.url, f"{comfydeploy.root}/"):
        comfydeploy.sign_ins["r"] = KEY
        code, body = await api.get("auth-response", request_id="r", api_url=api_url)
        assert (code, body) == (200, {"success": True, "authenticated": True, "name": "Ada"})
    code, body = await api.get("auth-response", request_id="r", api_url=comfydeploy.root)
    assert (code, body["code"]) == (410, "cloud_error")


async def test_volumes_at_an_address_of_the_request(api, comfydeploy):
    body = {"filename": "a.bin", "contentType": "application/octet-stream", "size": 3}
    route = "volume/file/generate-upload-url"
    where = {"api_url": comfydeploy.root}
    for fields, params in (({}, where), (where, {})):
        code, answer = await api.post(route, {**body, "token": KEY, **fields}, params=params)
        assert code == 200, answer
        assert comfydeploy.seen[-1].path == f"/api/{route}"
        assert comfydeploy.seen[-1].body == body, "fields for this server are not forwarded"
    body = {"source": "link", "folderPath": "loras", "filename": "a", "downloadLink": "https://h/a"}
    code, answer = await api.post("volume/model", {**body, **where, "token": KEY})
    assert code == 200, answer
    assert comfydeploy.seen[-1].body == body
