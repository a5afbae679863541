"""The routes of the Comfy API with requests that its published client does not send."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from contextlib import closing
from typing import Any

import pytest

from tests.handlers.test_runs import IMAGE
from tests.helpers.relay import Relay

UNKNOWN = "00000000-0000-4000-8000-000000000000"
UI = {"nodes": [], "links": [], "last_node_id": 0}
# It is read in another process.
LARGE_UI = {**UI, "nodes": [{"id": n, "type": "Note", "title": "t" * 1000} for n in range(2000)]}


@pytest.fixture
def extension_config(config_with_folders):
    return config_with_folders


async def create(api, body: Any, key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    code, reply = await api.post("api/v2/jobs", body, headers=headers)
    return code, reply["id"] if code == 201 else reply["error"]


async def listed(api) -> list[str]:
    code, page = await api.get("api/v2/jobs")
    assert code == 200
    return [job["id"] for job in page["jobs"]]


async def test_a_key_starts_one_job(api):
    body, key = {"workflow": IMAGE}, uuid.uuid4().hex
    replies = await asyncio.gather(*(create(api, body, key) for _ in range(3)))
    replies += [await create(api, body, key), await create(api, {**body, "priority": 1}, key)]
    [job] = [found for code, found in replies if code == 201]
    refused = [(code, error["code"], error["details"]) for code, error in replies if code != 201]
    assert refused == [(422, "idempotency_key_reuse", {"job_id": job})] * 4
    assert await listed(api) == [job]
    assert [run["prompt_id"] for run in (await api.get("runs"))[1]] == [job]


async def test_the_key_of_a_deleted_job_starts_none_for_some_days(api, extension):
    body, key = {"workflow": IMAGE}, uuid.uuid4().hex
    _, job = await create(api, body, key)
    await api.until(job, "success")
    assert (await api.post("runs/delete", {"prompt_ids": [job]}))[0] == 200
    code, error = await create(api, body, key)
    assert (code, error["code"], error["details"]) == (422, "idempotency_key_reuse", None)
    assert await listed(api) == []
    with closing(sqlite3.connect(extension.services.database.path)) as store, store:
        store.execute("UPDATE job_keys SET deleted_at = '2026-01-01T00:00:00.000Z'")
    assert (await create(api, body, uuid.uuid4().hex))[0] == 201
    with closing(sqlite3.connect(extension.services.database.path)) as store:
        assert store.execute("SELECT count(*) FROM job_keys").fetchone() == (1,)
    assert (await create(api, body, key))[0] == 201


async def test_a_key_that_an_earlier_version_stored_without_a_job_is_free(api, extension):
    assert await listed(api) == []
    with closing(sqlite3.connect(extension.services.database.path)) as store, store:
        store.execute("INSERT INTO job_keys (key, body, prompt_id) VALUES ('left', 'e3', 'none')")
    assert (await create(api, {"workflow": IMAGE}, "left"))[0] == 201
    assert (await create(api, {"workflow": IMAGE}, "left"))[0] == 422


async def test_a_key_is_free_if_its_server_ended_while_it_refused_the_workflow(api, extension):
    await create(api, {"workflow": {**IMAGE, "1": {"class_type": "NoSuchNode", "inputs": {}}}})
    [job] = await listed(api)
    with closing(sqlite3.connect(extension.services.database.path)) as store, store:
        store.execute("INSERT INTO job_keys (key, body, prompt_id) VALUES ('left', '', ?)", (job,))
    assert (await create(api, {"workflow": IMAGE}, "left"))[0] == 201
    assert (await create(api, {"workflow": IMAGE}, "left"))[0] == 422


async def test_a_key_that_is_in_use_is_no_error_of_the_store(api, caplog):
    await create(api, {"workflow": IMAGE}, "once")
    assert (await create(api, {"workflow": IMAGE}, "once"))[0] == 422
    _, job = await create(api, {"workflow": IMAGE})
    await api.until(job, "success")
    assert not [record for record in caplog.records if "cannot be stored" in record.message]


async def test_a_refused_workflow_frees_its_key(api):
    key = uuid.uuid4().hex
    wrong = {"workflow": {**IMAGE, "1": {"class_type": "NoSuchNode", "inputs": {}}}}
    for _ in range(2):
        code, error = await create(api, wrong, key)
        assert (code, error["code"]) == (422, "invalid_workflow")
    assert "node_errors" in error["details"]
    assert (await create(api, {"workflow": IMAGE}, key))[0] == 201


async def test_a_job_that_comfyui_has_refused_did_not_fail_in_a_node(api):
    wide = {**IMAGE["1"], "inputs": {**IMAGE["1"]["inputs"], "width": 0}}
    _, error = await create(api, {"workflow": {**IMAGE, "1": wide}})
    (job,) = (await api.get("api/v2/jobs"))[1]["jobs"]
    assert (job["status"], job["error"]["code"]) == ("failed", error["code"])
    assert job["warnings"] == []


async def test_a_value_that_breaks_the_contract_is_named(api):
    wide = {**IMAGE["1"], "inputs": {**IMAGE["1"]["inputs"], "width": 0}}
    status, error = await create(api, {"workflow": {**IMAGE, "1": wide}})
    assert (status, error["code"]) == (422, "invalid_workflow")
    (reported,) = error["details"]["node_errors"]["1"]["errors"]
    assert reported["extra_info"]["input_name"] == "width"
    _, contract = await api.post("workflow/schema", {"workflow_api": IMAGE})
    assert contract["inputs"]["properties"]["1.width"]["minimum"] == 1


async def test_a_job_says_which_nodes_are_not_executed(api):
    """ComfyUI executes the outputs that do not need the node with the wrong value."""
    wide = {**IMAGE["1"], "inputs": {**IMAGE["1"]["inputs"], "width": 0}}
    other = {"class_type": "PreviewImage", "inputs": {"images": ["wide", 0]}}
    _, job = await create(api, {"workflow": {**IMAGE, "wide": wide, "other": other}})
    await api.until(job, "success")
    (warning,) = (await api.get(f"api/v2/jobs/{job}"))[1]["warnings"]
    assert warning.startswith("Node wide (EmptyImage) is not executed: ")
    assert "width" in warning
    events = (await api.raw("GET", f"api/v2/jobs/{job}/events")).body.decode()
    assert json.dumps({"level": "warning", "message": warning}) in events


async def test_a_job_without_outputs_yet_sends_its_state_alone(api, chain):
    """A comment means that nothing has happened for some time."""
    _, job = await create(api, {"workflow": chain(("TestSleep", {"seconds": 0.5}))})
    events = (await api.raw("GET", f"api/v2/jobs/{job}/events")).body.decode()
    assert events.startswith("event: status\n")
    assert "keep awake" not in events


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_workflow"),
        ({"workflow": UI}, "workflow_format_ui"),
        ({"workflow": {}}, "invalid_workflow"),
        ({"workflow": {"1": 7}}, "invalid_workflow"),
        ({"workflow": IMAGE, "metadata": {f"n{n}": "" for n in range(10_000)}}, "metadata_invalid"),
        ({"workflow": IMAGE, "metadata": {"n": 7}}, "metadata_invalid"),
        ({"workflow": IMAGE, "metadata": "n"}, "metadata_invalid"),
        ({"workflow": IMAGE, "metadata": {"machine": "no such"}}, "invalid_request"),
        ({"workflow": IMAGE, "metadata": {"machine": "x" * 300}}, "invalid_request"),
        ({"workflow": LARGE_UI}, "workflow_format_ui"),
        ({"workflow": IMAGE, "webhook_url": "http://127.0.0.1/"}, "invalid_workflow"),
        ({"workflow": IMAGE, "inputs": {}}, "invalid_workflow"),
        (
            {"workflow": {"1": {"inputs": {"x": {"__type": "core/ASSET", "info": {"id": "no"}}}}}},
            "missing_asset",
        ),
        (
            {"workflow": {"1": {"x": {"__type": "core/ASSET", "info": {"id": "half \ud83d"}}}}},
            "missing_asset",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_wrong_jobs_are_refused_and_not_stored(api, body, code):
    status, error = await create(api, body, uuid.uuid4().hex)
    assert (status, error["code"]) == (422, code)
    assert await listed(api) == []


async def test_a_large_workflow_with_a_missing_asset(api):
    missing = {"__type": "core/ASSET", "info": {"id": UNKNOWN}}
    inputs = {"image": missing, **{f"n{n}": "x" * 1000 for n in range(2000)}}
    workflow = {"1": {"class_type": "LoadImage", "inputs": inputs}}
    status, error = await create(api, {"workflow": workflow})
    assert (status, error["code"]) == (422, "missing_asset")
    assert error["details"] == {"asset_id": UNKNOWN}
    inputs["image"] = {"__type": "core/ASSET"}
    status, error = await create(api, {"workflow": workflow})
    assert (status, error["code"]) == (422, "missing_asset")


async def test_no_machine_is_the_default_one(api):
    body = {"workflow": IMAGE, "metadata": {"machine": ""}}
    code, job = await create(api, body)
    assert code == 201, job
    assert (await api.until(job, "success"))["machine"] == "local"


async def test_a_body_that_is_no_json(api):
    code, reply = await api.post("api/v2/jobs", "{")
    assert (code, reply["error"]["code"]) == (400, "invalid_json")


async def test_pages_and_cursors(api):
    ids = []
    for _ in range(3):
        _, job = await create(api, {"workflow": IMAGE, "metadata": {"set": "a"}})
        ids.append(job)
        await api.until(job, "success")
    _, page = await api.get("api/v2/jobs", limit="2", status="succeeded,failed")
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    assert page["truncated"] is True
    cursor = page["next_cursor"]
    _, last = await api.get("api/v2/jobs", limit="2", status="succeeded,failed", cursor=cursor)
    assert [job["id"] for job in last["jobs"]] == ids[:1]
    assert "next_cursor" not in last
    for query in (
        {"cursor": cursor},
        {"cursor": cursor, "status": "failed"},
        {"cursor": "theirs", "status": "succeeded,failed"},
    ):
        code, reply = await api.get("api/v2/jobs", **query)
        assert (code, reply["error"]["code"]) == (422, "invalid_cursor")
    assert (await api.get("api/v2/jobs", status="expired"))[1]["jobs"] == []
    code, reply = await api.get("api/v2/jobs", status="no")
    assert (code, reply["error"]["code"]) == (422, "invalid_request")
    code, reply = await api.get("api/v2/jobs", **{"metadata[]": "x"})
    assert (code, reply["error"]["code"]) == (422, "invalid_metadata_filter")
    code, reply = await api.call("GET", "api/v2/jobs", params=[("metadata[k]", v) for v in "ab"])
    assert (code, reply["error"]["code"]) == (422, "invalid_metadata_filter")
    code, page = await api.get("api/v2/jobs", status=",".join(["queued"] * 1001))
    assert (code, page["jobs"]) == (200, [])


@pytest.mark.parametrize("name", ["no-such", "..%2F..", "%00", "é", "x" * 300, UNKNOWN])
async def test_unusual_ids_are_not_found(api, name):
    for path in ("jobs/{}", "jobs/{}/workflow", "jobs/{}/events", "assets/{}", "assets/{}/content"):
        code, reply = await api.call("GET", f"api/v2/{path.format(name)}")
        assert (code, reply["error"]["code"]) == (404, "not_found")
    code, reply = await api.post(f"api/v2/jobs/{name}/cancel", {})
    assert (code, reply["error"]["code"]) == (404, "not_found")


def form(content: bytes, **fields: str) -> dict[str, Any]:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
    body = b"".join(parts) + head + content + b"\r\n--b--\r\n"
    return {"body": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


async def test_hashes_that_do_not_fit(api, comfyui):
    before = sorted(comfyui.input_dir.iterdir())
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
    assert sorted(comfyui.input_dir.iterdir()) == before
    assert (await api.raw("HEAD", f"api/v2/assets/by-hash/{wrong}")).code == 404
    assert (await api.raw("HEAD", "api/v2/assets/by-hash/blake3:no")).code == 422
    code, reply = await api.post("api/v2/assets/from-hash", {"hash": wrong})
    assert (code, reply["error"]["code"]) == (404, "blob_not_found")
    code, reply = await api.post("api/v2/assets", {"no": "form"})
    assert (code, reply["error"]["code"]) == (422, "invalid_request")


async def test_ranges_of_an_asset(api):
    content = uuid.uuid4().bytes
    _, asset = await api.call("POST", "api/v2/assets", **form(content, file_path="range.bin"))
    for requested, expected in (
        (f"bytes=0-{10**30}", content),
        (f"bytes=3-{'9' * 5000}", content[3:]),
        (f"bytes=-{'9' * 5000}", content),
    ):
        path = f"api/v2/assets/{asset['id']}/content"
        reply = await api.raw("GET", path, headers={"Range": requested})
        assert (reply.code, reply.body) == (206, expected)
        start = len(content) - len(expected)
        assert reply.headers["Content-Range"] == f"bytes {start}-15/16"
    reply = await api.raw("GET", path, headers={"Range": f"bytes={'9' * 5000}-"})
    assert (reply.code, reply.headers["Content-Range"]) == (416, "bytes */16")
    assert json.loads(reply.body)["error"]["code"] == "range_not_satisfiable"
    assert (await api.raw("DELETE", f"api/v2/assets/{asset['id']}")).code == 204


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("image/png", "image/png"),
        ("text/html", "application/octet-stream"),
        ("image/SVG+xml", "application/octet-stream"),
    ],
)
async def test_the_content_of_an_asset_has_its_media_type_unless_it_may_be_a_page(api, given, sent):
    """The name of the file says nothing about its content."""
    request = form(uuid.uuid4().bytes, file_path="upload.bin", content_type=given)
    _, asset = await api.call("POST", "api/v2/assets", **request)
    assert asset["content_type"] == given
    content = await api.raw("GET", f"api/v2/assets/{asset['id']}/content")
    assert content.headers["Content-Type"] == sent
    shown = content.headers["Content-Disposition"].partition(";")[0]
    assert shown == ("inline" if sent == given else "attachment")


async def test_two_files_in_one_form_are_refused_and_none_is_stored(api, comfyui):
    before = sorted(comfyui.input_dir.rglob("*"))
    request = form(b"content")
    request["body"] = request["body"].removesuffix(b"--b--\r\n") + request["body"]
    code, reply = await api.call("POST", "api/v2/assets", **request)
    assert (code, reply["error"]["details"]["field"]) == (422, "file")
    assert sorted(comfyui.input_dir.rglob("*")) == before


async def test_texts_of_any_kind_are_outputs_and_can_be_read_in_parts(api):
    """A program may cut an emoji in two, and what is left is no valid Unicode."""
    text = {
        "class_type": "TestText",
        "inputs": {"text": "half \ud83d", "token": "", "anything": ""},
    }
    _, job = await create(api, {"workflow": {"1": text}})
    await api.until(job, "success")
    code, page = await api.get("api/v2/jobs")
    assert (code, [item["id"] for item in page["jobs"]]) == (200, [job])
    code, found = await api.get(f"api/v2/jobs/{job}")
    (output,) = found["outputs"]
    path = f"api/v2/assets/{output['id']}/content"
    whole = await api.raw("GET", path)
    assert (whole.code, whole.body, output["size_bytes"]) == (200, b"half ?", 6)
    part = await api.raw("GET", path, headers={"Range": "bytes=1-3"})
    assert (part.code, part.body, part.headers["Content-Range"]) == (206, b"alf", "bytes 1-3/6")
    outside = await api.raw("GET", path, headers={"Range": "bytes=6-"})
    assert (outside.code, outside.headers["Content-Range"]) == (416, "bytes */6")


async def test_a_node_of_any_name_can_have_outputs(api):
    node = "half \ud83d"
    text = {"class_type": "TestText", "inputs": {"text": "x", "token": ""}}
    _, job = await create(api, {"workflow": {node: text}})
    await api.until(job, "success")
    code, page = await api.get("api/v2/jobs")
    assert (code, [item["id"] for item in page["jobs"]]) == (200, [job])
    (output,) = page["jobs"][0]["outputs"]
    assert (output["node_id"], output["name"]) == ("half ?", "half ?.txt")
    assert (await api.raw("GET", f"api/v2/jobs/{job}/events")).code == 200
    code, run = await api.get(f"run/{job}")
    assert (code, run["outputs"][0]["data"]) == (200, {"text": ["x"]})


async def test_an_uploaded_file_becomes_a_model_by_its_hash(api, comfyui):
    content = uuid.uuid4().bytes
    code, asset = await api.call("POST", "api/v2/assets", **form(content, file_path="m.bin"))
    assert (code, asset["created_new"]) == (201, True)
    body = {"hash": asset["hash"], "file_path": "loras/assets/m.safetensors"}
    code, model = await api.post("api/v2/assets/from-hash", body)
    assert code == 200, model
    path = comfyui.models_dir / "loras" / "assets" / "m.safetensors"
    assert path.read_bytes() == content
    for asset_id in (asset["id"], model["id"]):
        assert (await api.raw("DELETE", f"api/v2/assets/{asset_id}")).code == 204
    assert not path.exists()
    assert not (comfyui.input_dir / "m.bin").exists()


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


async def test_a_machine_that_does_not_exist_is_the_same_error_for_jobs_and_assets(api):
    headers = {"X-ComfyDeploy-Machine": "no such"}
    request = form(b"content")
    request["headers"] |= headers
    upload = await api.call("POST", "api/v2/assets", **request)
    job = await api.post("api/v2/jobs", {"workflow": IMAGE}, headers=headers)
    assert upload == job
    code, reply = upload
    assert (code, reply["error"]["code"]) == (422, "invalid_request")
    assert reply["error"]["details"]["field"] == "machine"


async def test_errors_of_paths_that_are_no_routes(api):
    code, reply = await api.call("GET", "api/v2/no/such/route")
    assert (code, reply["error"]["code"]) == (404, "not_found")
    assert json.dumps(reply)


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([], "invalid_request"),
        ({"1.width": "wide"}, "invalid_input"),
        ({f"n{n}": 1 for n in range(10_000)}, "unknown_input"),
    ],
    ids=["no object", "no number", "no such inputs"],
)
async def test_wrong_inputs_of_a_deployment_are_as_specified(api, inputs, code):
    _, stored = await api.post("workflow", {"name": "Deployment", "workflow_api": IMAGE})
    body = {"deployment_id": stored["workflow_id"], "inputs": inputs}
    status, reply = await api.post("run/deployment/queue", body)
    assert (status, reply["code"], reply["detail"][0]["type"]) == (422, code, code)
    assert (await api.get("runs"))[1] == []


async def test_a_wrong_machine_or_body_of_a_deployment_is_as_specified(api):
    _, stored = await api.post("workflow", {"name": "Deployment", "workflow_api": IMAGE})
    body = {"deployment_id": stored["workflow_id"]}
    headers = {"X-ComfyDeploy-Machine": "x" * 300}
    status, reply = await api.post("run/deployment/queue", body, headers=headers)
    assert (status, reply["detail"][0]["loc"]) == (422, ["body", "machine"])
    status, reply = await api.post("run/deployment/queue", "{")
    assert (status, reply["detail"][0]["type"]) == (422, "invalid_json")
