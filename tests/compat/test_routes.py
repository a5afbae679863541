"""The routes of the Comfy API with requests that its published client does not send."""

import asyncio
import json
import sqlite3
import uuid
from contextlib import closing

import pytest

from tests.helpers import bodies
from tests.helpers.bodies import picture
from tests.helpers.relay import Relay

IMAGE = picture("compat")
UNKNOWN = "00000000-0000-4000-8000-000000000000"
UI = {"nodes": [], "links": [], "last_node_id": 0}
# It is read in another process.
LARGE_UI = {**UI, "nodes": [{"id": n, "type": "Note", "title": "t" * 1000} for n in range(2000)]}


@pytest.fixture
def extension_config(config_with_folders):
    return config_with_folders


async def create(api, body, key=None):
    headers = {} if key is None else {"Idempotency-Key": key}
    code, reply = await api.post("api/v2/jobs", body, headers=headers)
    return code, reply["id"] if code == 201 else reply["error"]


async def refusal(api, body, key=None):
    code, error = await create(api, body, key)
    return code, error["code"]


def store_of(extension):
    return sqlite3.connect(extension.services.database.path, isolation_level=None)


WIDE = {**IMAGE, "1": {**IMAGE["1"], "inputs": {**IMAGE["1"]["inputs"], "width": 0}}}
UNKNOWN_NODE = {"workflow": {**IMAGE, "1": {"class_type": "NoSuchNode", "inputs": {}}}}
REUSED = (422, "idempotency_key_reuse")


async def listed(api):
    code, page = await api.get("api/v2/jobs")
    assert code == 200
    return [job["id"] for job in page["jobs"]]


async def test_a_key_starts_one_job(api, caplog):
    body, key = {"workflow": IMAGE}, uuid.uuid4().hex
    for _ in range(2):  # a refused workflow frees its key
        assert await refusal(api, UNKNOWN_NODE, key) == (422, "invalid_workflow")
    replies = await asyncio.gather(*(create(api, body, key) for _ in range(3)))
    replies += [await create(api, body, key), await create(api, {**body, "priority": 1}, key)]
    [job] = [found for code, found in replies if code == 201]
    refused = [(code, error["code"], error["details"]) for code, error in replies if code != 201]
    assert refused == [(*REUSED, {"job_id": job})] * 4
    assert (await listed(api))[0] == job
    await api.until(job, "success")
    assert not [record for record in caplog.records if "cannot be stored" in record.message]


async def test_the_key_of_a_deleted_job_starts_none_for_some_days(api, extension):
    body, key = {"workflow": IMAGE}, uuid.uuid4().hex
    _, job = await create(api, body, key)
    await api.until(job, "success")
    assert (await api.post("runs/delete", {"prompt_ids": [job]}))[0] == 200
    code, error = await create(api, body, key)
    assert (code, error["code"], error["details"]) == (*REUSED, None)
    assert await listed(api) == []
    with closing(store_of(extension)) as store:
        store.execute("UPDATE job_keys SET deleted_at = '2026-01-01T00:00:00.000Z'")
        assert (await create(api, body, uuid.uuid4().hex))[0] == 201
        assert store.execute("SELECT count(*) FROM job_keys").fetchone() == (1,)
    assert (await create(api, body, key))[0] == 201


async def test_a_key_whose_job_was_not_queued_is_free(api, extension):
    """An earlier version stored it without a job, or the server ended during the refusal."""
    await create(api, UNKNOWN_NODE)
    [refused] = await listed(api)
    for key, job in (("without", "none"), ("left", refused)):
        with closing(store_of(extension)) as store:
            store.execute(
                "INSERT INTO job_keys (key, body, prompt_id) VALUES (?, '', ?)", (key, job)
            )
        assert (await create(api, {"workflow": IMAGE}, key))[0] == 201
        assert await refusal(api, {"workflow": IMAGE}, key) == REUSED


async def test_a_value_that_breaks_the_contract_is_named(api):
    status, error = await create(api, {"workflow": WIDE})
    assert (status, error["code"]) == (422, "invalid_workflow")
    (reported,) = error["details"]["node_errors"]["1"]["errors"]
    assert reported["extra_info"]["input_name"] == "width"
    (job,) = (await api.get("api/v2/jobs"))[1]["jobs"]
    assert (job["status"], job["error"]["code"]) == ("failed", error["code"]), "not in a node"
    assert job["warnings"] == []
    _, contract = await api.post("workflow/schema", {"workflow_api": IMAGE})
    assert contract["inputs"]["properties"]["1.width"]["minimum"] == 1


async def test_a_job_says_which_nodes_are_not_executed(api):
    """ComfyUI executes the outputs that do not need the node with the wrong value."""
    other = {"class_type": "PreviewImage", "inputs": {"images": ["wide", 0]}}
    _, job = await create(api, {"workflow": {**IMAGE, "wide": WIDE["1"], "other": other}})
    await api.until(job, "success")
    (warning,) = (await api.get(f"api/v2/jobs/{job}"))[1]["warnings"]
    assert warning.startswith("Node wide (EmptyImage) is not executed: ")
    assert "width" in warning
    events = (await api.raw("GET", f"api/v2/jobs/{job}/events")).body.decode()
    assert json.dumps({"level": "warning", "message": warning}) in events


async def test_a_job_without_outputs_yet_sends_its_state_alone(api, chain):
    """A comment means that nothing has happened for some time."""
    _, job = await create(api, {"workflow": chain(("TestSleep", {"seconds": 60}))})
    reading = asyncio.ensure_future(api.raw("GET", f"api/v2/jobs/{job}/events"))
    await api.until(job, "running")
    await api.post("interrupt", {"prompt_id": job})
    events = (await reading).body.decode()
    assert events.startswith("event: status\n")
    assert "keep awake" not in events


def with_asset(**info):
    """Return a body with a reference to an asset."""
    reference = {"__type": "core/ASSET", "info": info}
    return {"workflow": {"1": {"class_type": "LoadImage", "inputs": {"image": reference}}}}


async def test_wrong_jobs_are_refused_and_not_stored(api):
    for body, code in (
        ({}, "invalid_workflow"),
        ({"workflow": UI}, "workflow_format_ui"),
        ({"workflow": LARGE_UI}, "workflow_format_ui"),
        ({"workflow": {}}, "invalid_workflow"),
        ({"workflow": {"1": 7}}, "invalid_workflow"),
        *(
            ({"workflow": IMAGE, "metadata": labels}, "metadata_invalid")
            for labels in ({f"n{n}": "" for n in range(10_000)}, {"n": 7}, "n")
        ),
        ({"workflow": IMAGE, "metadata": {"machine": "no such"}}, "invalid_request"),
        ({"workflow": IMAGE, "metadata": {"machine": "x" * 300}}, "invalid_request"),
        ({"workflow": IMAGE, "webhook_url": "http://127.0.0.1/"}, "invalid_workflow"),
        ({"workflow": IMAGE, "inputs": {}}, "invalid_workflow"),
        (with_asset(id="no"), "missing_asset"),
        (with_asset(id="half \ud83d"), "missing_asset"),
    ):
        assert await refusal(api, body, uuid.uuid4().hex) == (422, code), ascii(body)[:200]
    # A large workflow is read by another process.
    body = with_asset(id=UNKNOWN)
    body["workflow"]["1"]["inputs"] |= {f"n{n}": "x" * 1000 for n in range(2000)}
    status, error = await create(api, body)
    assert (status, error["code"]) == (422, "missing_asset")
    assert error["details"] == {"asset_id": UNKNOWN}
    del body["workflow"]["1"]["inputs"]["image"]["info"]
    assert await refusal(api, body) == (422, "missing_asset")
    assert await listed(api) == []
    for path, text, expected in (
        ("jobs", "{", (400, "invalid_json")),
        ("no/such/route", "{}", (404, "not_found")),
    ):
        code, reply = await api.post(f"api/v2/{path}", text)
        assert (code, reply["error"]["code"]) == expected


async def test_the_machine_of_a_job(api):
    code, job = await create(api, {"workflow": IMAGE, "metadata": {"machine": ""}})
    assert code == 201, job
    assert (await api.until(job, "success"))["machine"] == "local"
    headers = {"X-ComfyDeploy-Machine": "no such"}
    request = form(b"content")
    request["headers"] |= headers
    upload = await api.call("POST", "api/v2/assets", **request)
    assert upload == await api.post("api/v2/jobs", {"workflow": IMAGE}, headers=headers)
    code, reply = upload
    assert (code, reply["error"]["code"]) == (422, "invalid_request")
    assert reply["error"]["details"]["field"] == "machine"


async def test_pages_and_cursors(api):
    ids = []
    for _ in range(3):
        _, job = await create(api, {"workflow": IMAGE, "metadata": {"set": "a"}})
        ids.append(job)
        await api.until(job, "success")
    query = {"limit": "2", "status": "succeeded,failed"}
    _, page = await api.get("api/v2/jobs", **query)
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    assert page["truncated"] is True
    cursor = page["next_cursor"]
    _, last = await api.get("api/v2/jobs", **query, cursor=cursor)
    assert [job["id"] for job in last["jobs"]] == ids[:1]
    assert "next_cursor" not in last
    twice = [("metadata[k]", value) for value in "ab"]
    for params, error in (
        ({"cursor": cursor}, "invalid_cursor"),
        ({"cursor": cursor, "status": "failed"}, "invalid_cursor"),
        ({"cursor": "theirs", "status": "succeeded,failed"}, "invalid_cursor"),
        ({"status": "no"}, "invalid_request"),
        ({"metadata[]": "x"}, "invalid_metadata_filter"),
        (twice, "invalid_metadata_filter"),
    ):
        code, reply = await api.call("GET", "api/v2/jobs", params=params)
        assert (code, reply["error"]["code"]) == (422, error), params
    for statuses in ("expired", ",".join(["queued"] * 1001)):
        code, page = await api.get("api/v2/jobs", status=statuses)
        assert (code, page["jobs"]) == (200, [])


async def test_unusual_ids_are_not_found(api):
    paths = ("jobs/{}", "jobs/{}/workflow", "jobs/{}/events", "assets/{}", "assets/{}/content")
    for name in ("no-such", "..%2F..", "%00", "é", "x" * 300, UNKNOWN):
        replies = [await api.call("GET", f"api/v2/{path.format(name)}") for path in paths]
        replies.append(await api.post(f"api/v2/jobs/{name}/cancel", {}))
        for code, reply in replies:
            assert (code, reply["error"]["code"]) == (404, "not_found"), name


def form(content, **fields):
    """Return a request with a file and fields."""
    parts = [(name, None, value.encode()) for name, value in fields.items()]
    body, headers = bodies.form(*parts, ("file", "f.bin", content))
    return {"body": body, "headers": headers}


async def upload(api, content=None, **fields):
    request = form(content or uuid.uuid4().bytes, **fields)
    code, asset = await api.call("POST", "api/v2/assets", **request)
    assert (code, asset["created_new"]) == (201, True), asset
    return asset


async def test_wrong_assets_are_refused(api, comfyui):
    before = sorted(comfyui.input_dir.rglob("*"))
    wrong = f"blake3:{'0' * 64}"
    for fields, expected in (
        ({"expected_hash": wrong}, (409, "hash_mismatch")),
        ({"expected_hash": "sha256:0"}, (422, "invalid_request")),
        ({"file_path": "output/x.png"}, (422, "invalid_request")),
        ({"file_path": "models/no-such-folder/x.bin"}, (422, "invalid_request")),
        ({"file_path": "../x.bin"}, (422, "invalid_request")),
        ({"file_path": "input/a/../../x.bin"}, (422, "invalid_request")),
    ):
        code, reply = await api.call("POST", "api/v2/assets", **form(b"content", **fields))
        assert (code, reply["error"]["code"]) == expected
        if "file_path" in fields:
            assert reply["error"]["details"]["field"] == "file_path"
            assert reply["error"]["message"].startswith("file_path: ")
    body, headers = bodies.form(("file", "a", b"content"), ("file", "b", b"content"))
    code, reply = await api.call("POST", "api/v2/assets", body=body, headers=headers)
    assert (code, reply["error"]["details"]["field"]) == (422, "file"), "there are two"
    assert sorted(comfyui.input_dir.rglob("*")) == before
    assert (await api.raw("HEAD", f"api/v2/assets/by-hash/{wrong}")).code == 404
    assert (await api.raw("HEAD", "api/v2/assets/by-hash/blake3:no")).code == 422
    code, reply = await api.post("api/v2/assets/from-hash", {"hash": wrong})
    assert (code, reply["error"]["code"]) == (404, "blob_not_found")
    code, reply = await api.post("api/v2/assets", {"no": "form"})
    assert (code, reply["error"]["code"]) == (422, "invalid_request")


async def test_the_content_of_an_asset_has_its_media_type_unless_it_may_be_a_page(api):
    """The name of the file says nothing about its content."""
    for given, sent in (
        ("image/png", "image/png"),
        ("text/html", "application/octet-stream"),
        ("image/SVG+xml", "application/octet-stream"),
    ):
        asset = await upload(api, file_path="upload.bin", content_type=given)
        assert asset["content_type"] == given
        content = await api.raw("GET", f"api/v2/assets/{asset['id']}/content")
        assert content.headers["Content-Type"] == sent
        shown = content.headers["Content-Disposition"].partition(";")[0]
        assert shown == ("inline" if sent == given else "attachment")


async def test_texts_and_nodes_of_any_name_are_outputs_and_can_be_read_in_parts(api):
    """A program may cut an emoji in two, and what is left is no valid Unicode."""
    half = "half \ud83d"
    _, job = await create(
        api, {"workflow": {half: {"class_type": "TestText", "inputs": {"text": half, "token": ""}}}}
    )
    await api.until(job, "success")
    code, page = await api.get("api/v2/jobs")
    assert (code, [item["id"] for item in page["jobs"]]) == (200, [job])
    (output,) = page["jobs"][0]["outputs"]
    assert (output["node_id"], output["name"]) == ("half ?", "half ?.txt")
    path = f"api/v2/assets/{output['id']}/content"
    whole = await api.raw("GET", path)
    assert (whole.code, whole.body, output["size_bytes"]) == (200, b"half ?", 6)
    part = await api.raw("GET", path, headers={"Range": "bytes=1-3"})
    assert (part.code, part.body, part.headers["Content-Range"]) == (206, b"alf", "bytes 1-3/6")
    outside = await api.raw("GET", path, headers={"Range": "bytes=6-"})
    assert (outside.code, outside.headers["Content-Range"]) == (416, "bytes */6")
    assert (await api.raw("GET", f"api/v2/jobs/{job}/events")).code == 200
    code, run = await api.get(f"run/{job}")
    assert (code, run["outputs"][0]["data"]) == (200, {"text": ["half ?"]})


async def test_an_uploaded_file_becomes_a_model_by_its_hash(api, comfyui):
    content = uuid.uuid4().bytes
    asset = await upload(api, content, file_path="m.bin")
    body = {"hash": asset["hash"], "file_path": "loras/assets/m.safetensors"}
    code, model = await api.post("api/v2/assets/from-hash", body)
    assert code == 200, model
    path = comfyui.models_dir / "loras" / "assets" / "m.safetensors"
    assert path.read_bytes() == content
    for asset_id in (asset["id"], model["id"]):
        assert (await api.raw("DELETE", f"api/v2/assets/{asset_id}")).code == 204
    assert not path.exists()
    assert not (comfyui.input_dir / "m.bin").exists()
    asset = await upload(api, file_path="changed.bin")
    (comfyui.input_dir / "changed.bin").write_bytes(b"changed since")
    assert (await api.raw("DELETE", f"api/v2/assets/{asset['id']}")).code == 204
    assert (comfyui.input_dir / "changed.bin").read_bytes() == b"changed since"
    (comfyui.input_dir / "changed.bin").unlink()


async def test_an_asset_of_a_deleted_machine_can_be_deleted(api, comfyui):
    relay = Relay(comfyui.port)
    await relay.listen()
    code, made = await api.post("machine/create", {"name": "other", "comfyui_url": relay.url})
    assert code == 200, made
    request = form(b"content")
    request["headers"] = {**request["headers"], "X-ComfyDeploy-Machine": "other"}
    code, asset = await api.call("POST", "api/v2/assets", **request)
    assert code == 201, asset
    assert (await api.post("machine/delete", {"machine_id": "other"}))[0] == 200
    await relay.close()
    path = f"api/v2/assets/{asset['id']}"
    assert [(await api.raw("DELETE", path)).code for _ in range(2)] == [204, 404]


async def test_wrong_requests_for_a_deployment_are_as_specified(api):
    _, stored = await api.post("workflow", {"name": "Deployment", "workflow_api": IMAGE})
    body = {"deployment_id": stored["workflow_id"]}
    for inputs, code in (
        ([], "invalid_request"),
        ({"1.width": "wide"}, "invalid_input"),
        ({f"n{n}": 1 for n in range(10_000)}, "unknown_input"),
    ):
        status, reply = await api.post("run/deployment/queue", {**body, "inputs": inputs})
        assert (status, reply["code"], reply["detail"][0]["type"]) == (422, code, code)
    headers = {"X-ComfyDeploy-Machine": "x" * 300}
    status, reply = await api.post("run/deployment/queue", body, headers=headers)
    assert (status, reply["detail"][0]["loc"]) == (422, ["body", "machine"])
    status, reply = await api.post("run/deployment/queue", "{")
    assert (status, reply["detail"][0]["type"]) == (422, "invalid_json")
    assert (await api.get("runs"))[1] == []
