"""The routes for reports and uploads of runs, their queue, and models, with a real ComfyUI."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import uuid
from base64 import b64encode

import pytest

from tests.helpers.waiting import until_async

KEY = "cd-secret-of-this-request"
OTHER = {"machine": "other"}
FINAL = ("success", "failed", "cancelled")
ENDED = ("done", "failed", "cancelled")
HALF = "\ud83d"  # the first half of an emoji


def image(count: int = 1, prefix: str = "transfers") -> dict:
    """Return a graph that saves images, and shows one without saving it."""
    colour = uuid.uuid4().int % 0xFFFFFF
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 32, "batch_size": count, "color": colour},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def ordered(service, graph, **fields):
    """Return a run request with both endpoints."""
    return {
        "workflow_api": graph,
        "status_endpoint": f"{service.url}/status",
        "file_upload_endpoint": f"{service.url}/upload",
        "cd_token": KEY,
        "gpu_event_id": "gpu-7",
        **fields,
    }


async def messages_of(service, run_id, last=FINAL) -> list[dict]:
    """Return all messages about a run, once the last one is there."""
    return await until_async(
        lambda: [body for _, body in service.callbacks if body["run_id"] == run_id],
        lambda found: any(body.get("status") in last for body in found),
    )


async def until_active(api, run_id, count) -> None:
    """Wait until so many uploads of a run are under way."""
    await until_async(
        lambda: api.get("upload-queue-status", prompt_id=run_id),
        lambda answer: answer[1]["active"] == count,
    )


async def until_completed(api, **query: str) -> dict:
    """Wait until an upload is completed; return the queue."""
    _, queue = await until_async(
        lambda: api.get("upload-queue-status", **query), lambda answer: answer[1]["completed"]
    )
    return queue


@pytest.fixture(params=["view", "disk"])
def extension_config(request, comfyui, tmp_path):
    """Whether ComfyUI's files are read through its API, or from the disk."""
    config = {
        "comfyui_url": comfyui.url,
        "data_dir": str(tmp_path / "data"),
        "api_key": "the-configured-key",
    }
    if request.param == "disk":
        config["comfyui_path"] = str(comfyui.path)
    return config


async def test_run_reports_and_uploads(api, service, s3, comfyui, tmp_path):
    code, body = await api.post("run", ordered(service, image(2)))
    assert (code, body["status"], body["error"]) == (200, "success", None)
    run_id = body["prompt_id"]
    messages = await messages_of(service, run_id)
    assert {token for token, _ in service.callbacks} == {KEY}

    statuses = [m for m in messages if "status" in m]
    assert [m["status"] for m in statuses] == ["running", "uploading", "success"]
    assert all(
        m == {"run_id": run_id, "status": m["status"], "gpu_event_id": "gpu-7"} for m in statuses
    )
    assert messages[-1] == statuses[-1]
    events = [m["ws_event"]["event"] for m in messages if "ws_event" in m]
    assert events[0] == "execution_start"
    assert {"executing", "executed", "execution_success"} <= set(events)
    assert all(m["ws_event"]["data"]["prompt_id"] == run_id for m in messages if "ws_event" in m)
    live = [m for m in messages if "live_status" in m]
    assert live[-1] == {"run_id": run_id, "live_status": "Uploading outputs", "progress": 1.0}

    (output,) = [m for m in messages if "output_data" in m]
    assert output["node_meta"] == {"node_id": "2", "node_class": "SaveImage"}
    items = output["output_data"]["images"]
    assert [item["filename"] for item in items] == [
        item["filename"] for item in body["outputs"]["2"]["images"]
    ]
    for item in items:
        key = f"{run_id}/{item['filename']}"
        assert item["url"] == f"https://cdn.example/{key}"
        assert s3.get(key) == (comfyui.output_dir / item["filename"]).read_bytes()
        assert s3.head(key)["ContentType"] == "image/png"
    assert {headers["Authorization"] for headers, _, _ in service.requests_to("upload")} == {
        f"Bearer {KEY}"
    }

    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    assert (queue["completed"], queue["pending_uploads"]) == (2, 0)
    assert [u["state"] for u in queue["uploads"]] == ["done", "done"]
    for shown in (body, queue, (await api.get("runs"))[1]):
        text = json.dumps(shown)
        assert KEY not in text
        assert service.url not in text
        assert "gpu-7" not in text


async def test_the_stream_has_events_of_the_upload(events, service, api):
    service.to_store, service.store_delay = True, 0.1
    messages = await events(body=ordered(service, image()))
    names = [data.get("event") for _, data in messages]
    assert names[-2:] == ["result", "status"]
    live = [
        data["data"]["live_status"] for _, data in messages if data.get("event") == "live_status"
    ]
    assert live[-1] == "Uploading outputs"
    assert names.count("status") == 1


async def test_reports_without_uploads(api, service):
    body = ordered(service, image(), file_upload_endpoint="")
    _, body = await api.post("run", body)
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["running", "success"]
    (output,) = [m for m in messages if "output_data" in m]
    assert output["node_meta"]["node_id"] == "2"
    assert "url" not in output["output_data"]["images"][0]


async def test_failed_node_is_reported(api, service, chain):
    graph = chain(("TestFail", {"message": "no such sampler"}))
    _, body = await api.post("run", ordered(service, graph))
    assert body["status"] == "failed"
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["running", "failed"]
    (output,) = [m for m in messages if "output_data" in m]
    assert output["output_data"]["exception_message"].strip() == "no such sampler"
    assert messages[-1]["status"] == "failed"


async def test_refused_graph_is_reported(api, service):
    graph = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    code, body = await api.post("run", ordered(service, graph))
    assert (code, body["code"]) == (400, "prompt_invalid")
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["failed"]


async def test_cancelled_run_is_reported(api, service, chain):
    graph = chain(("TestSleep", {"seconds": 30}))
    _, body = await api.post("run", ordered(service, graph, wait=False))
    await api.until(body["prompt_id"], "running")
    await api.post("interrupt", {"prompt_id": body["prompt_id"]})
    messages = await messages_of(service, body["prompt_id"])
    assert messages[-1]["status"] == "cancelled"


async def test_upload_that_fails_for_good_fails_the_run(api, service):
    service.replacements["upload"].append(403)
    _, body = await api.post("run", ordered(service, image()))
    assert (body["success"], body["status"]) == (False, "failed")
    assert body["error"]["type"] == "UploadFailed"
    assert (body["error"]["node_id"], body["error"]["node_type"]) == ("2", "SaveImage")
    assert "403" in body["error"]["message"]
    messages = await messages_of(service, body["prompt_id"])
    statuses = [m["status"] for m in messages if "status" in m]
    assert statuses == ["running", "uploading", "failed"]
    assert messages[-2]["output_data"]["error"] == body["error"]


@pytest.mark.parametrize("node_id", ["1", HALF])
async def test_a_name_that_is_no_text_does_not_prevent_other_uploads(api, service, s3, node_id):
    token = uuid.uuid4().hex
    names = [(f"{token}{HALF}.txt", ""), (f"{token}.txt", HALF), (f"{token}.txt", "")]
    items = [{"filename": n, "subfolder": folder, "type": "output"} for n, folder in names]
    # A file that would be read if the characters that are no text were left out.
    files = {f"{token}.txt": b64encode(token.encode()).decode()}
    values = {"files": json.dumps(files), "output": json.dumps({"files": items})}
    node = {"class_type": "TestOutput", "inputs": values}
    _, body = await api.post("run", ordered(service, {node_id: node}))
    assert (body["status"], body["error"]["type"]) == ("failed", "UploadFailed"), body
    assert (body["error"]["node_id"], body["error"]["node_type"]) == (node_id, "TestOutput")
    assert "is not valid Unicode" in body["error"]["message"]
    run_id = body["prompt_id"]
    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    assert (queue["completed"], queue["failed"]) == (1, 2)
    assert s3.get(f"{run_id}/{token}.txt") == token.encode()
    assert (await messages_of(service, run_id))[-1]["status"] == "failed"


async def test_failed_upload_is_tried_again(api, service, s3):
    service.replacements["upload"].append(403)
    _, body = await api.post("run", ordered(service, image()))
    run_id = body["prompt_id"]
    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    (failed,) = queue["uploads"]
    assert failed["state"] == "failed"
    code, answer = await api.post("retry-uploads", {"prompt_id": run_id})
    assert (code, answer["success"], answer["retried"]) == (200, True, 1)
    assert answer["uploads"][0]["id"] == failed["id"]
    assert KEY not in json.dumps(answer)
    queue = await until_completed(api, prompt_id=run_id)
    assert queue["uploads"][0]["state"] == "done"
    assert s3.head(f"{run_id}/{failed['filename']}")["ContentType"] == "image/png"
    assert (await api.get("check-status", prompt_id=run_id))[1]["status"] == "failed"
    code, answer = await api.post("retry-uploads", {"id": failed["id"]})
    assert (code, answer["code"]) == (409, "conflict")
    code, answer = await api.post("retry-uploads", {"id": "none"})
    assert (code, answer["code"]) == (404, "not_found")
    assert (await api.post("retry-uploads", {}))[1]["retried"] == 0


async def test_cancelled_uploads_do_not_fail_the_run(api, service):
    service.to_store, service.store_delay = True, 5
    _, body = await api.post("run", ordered(service, image(4), wait=False))
    run_id = body["prompt_id"]
    await api.until(run_id, "uploading")
    code, answer = await api.post("interrupt", {"prompt_id": run_id})
    assert (code, answer["code"]) == (409, "conflict")
    await until_active(api, run_id, 3)
    _, status = await api.get("check-status")
    assert (status["uploads"]["active"], status["uploads"]["pending_uploads"]) == (3, 4)
    assert await api.post("cancel-uploads", {"prompt_id": "another"}) == (
        200,
        {"success": True, "cancelled": 0},
    )
    code, answer = await api.post("cancel-uploads", {"prompt_id": run_id})
    assert (code, answer) == (200, {"success": True, "cancelled": 4})
    body = await api.until(run_id, "success")
    assert body["error"] is None
    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    assert {upload["state"] for upload in queue["uploads"]} == {"cancelled"}
    assert (await messages_of(service, run_id))[-1]["status"] == "success"


@pytest.mark.parametrize("source", ["stream", "status", "runs"])
async def test_uploads_that_were_reported_as_begun_can_be_cancelled(api, jp_fetch, service, source):
    service.replacements["upload"].extend(["never"] * 16)  # no file is out before it is cancelled
    for _ in range(8):
        run_id = uuid.uuid4().hex
        request = ordered(service, image(2), prompt_id=run_id)
        uploading = asyncio.Event()
        received = bytearray()

        def receive(chunk, received=received, uploading=uploading):
            received.extend(chunk)
            if b'"Uploading outputs"' in received:
                uploading.set()

        if source == "stream":
            following = asyncio.ensure_future(
                jp_fetch(
                    *("comfyui-deploy", "run", "streaming"),
                    method="POST",
                    body=json.dumps(request),
                    streaming_callback=receive,
                )
            )
            await asyncio.wait_for(uploading.wait(), 30)
        else:
            following = asyncio.ensure_future(api.post("run", request))
            while source == "status":
                code, body = await api.get("check-status", prompt_id=run_id)
                if code == 200 and body["status"] == "uploading":
                    break
            while source == "runs":
                _, runs = await api.get("runs", limit="1")
                if runs and runs[0]["prompt_id"] == run_id and runs[0]["status"] == "uploading":
                    break
        answer = await asyncio.wait_for(api.post("cancel-uploads", {"prompt_id": run_id}), 10)
        assert answer == (200, {"success": True, "cancelled": 2})
        body = await api.until(run_id, "success")
        assert body["error"] is None
        await following
        _, queue = await api.get("upload-queue-status", prompt_id=run_id)
        assert [upload["state"] for upload in queue["uploads"]] == ["cancelled"] * 2
    assert (await api.post("cancel-uploads", {})) == (200, {"success": True, "cancelled": 0})


async def test_the_configured_key_is_sent_only_to_listed_addresses(api, service):
    request = {**ordered(service, image()), "cd_token": None}
    _, body = await api.post("run", request)
    await messages_of(service, body["prompt_id"])
    assert {token for token, _ in service.callbacks} == {None}
    assert all("Authorization" not in headers for headers, _, _ in service.requests_to("upload"))


class TestAllowedService:
    """A service on the list gets the configured key if the request has none."""

    @pytest.fixture
    def extension_config(self, comfyui, service, tmp_path):
        return {
            "comfyui_url": comfyui.url,
            "data_dir": str(tmp_path / "data"),
            "api_key": "the-configured-key",
            "allowed_api_urls": [service.url],
        }

    @pytest.mark.parametrize("key", [None, KEY])
    async def test_key(self, api, service, key):
        request = {**ordered(service, image()), "cd_token": key}
        _, body = await api.post("run", request)
        await messages_of(service, body["prompt_id"])
        expected = key or "the-configured-key"
        assert {token for token, _ in service.callbacks} == {expected}
        assert service.requests_to("upload")[0][0]["Authorization"] == f"Bearer {expected}"

    async def test_the_key_in_the_header_has_priority(self, api, service):
        headers = {"X-ComfyDeploy-Token": "from-the-header"}
        _, body = await api.post("run", ordered(service, image()), headers=headers)
        await messages_of(service, body["prompt_id"])
        assert {token for token, _ in service.callbacks} == {"from-the-header"}

    async def test_a_key_may_have_white_space_around_it(self, api, service):
        """As the content of a file has it."""
        request = {**ordered(service, image()), "cd_token": "sk-1\n"}
        _, body = await api.post("run", request)
        await messages_of(service, body["prompt_id"])
        assert {token for token, _ in service.callbacks} == {"sk-1"}

    @pytest.mark.parametrize("key", ["sk\n1", "sk 1", "sk-\u00fc", "sk\0", "sk-\udcff"])
    async def test_what_no_header_can_contain_is_no_key(self, api, service, key):
        run = ordered(service, image())
        upload = {"file_path": "a.zip", "url": f"{service.url}/upload-file"}
        for route, body in (("run", run), ("upload-file", upload)):
            for field in ("cd_token", "token"):
                code, answer = await api.post(route, {**body, field: key})
                assert (code, answer["code"]) == (400, "invalid_request"), answer
                assert answer["error"].startswith(f"{field}: must be one line of ASCII text")
        assert (await api.get("runs"))[1] == []

    async def test_a_wrong_key_in_a_header_is_refused(self, api, service):
        headers = {"X-ComfyDeploy-Token": "sk 1"}
        code, answer = await api.post("run", ordered(service, image()), headers=headers)
        assert (code, answer["code"]) == (400, "invalid_request"), answer
        assert answer["error"].startswith("X-ComfyDeploy-Token: ")

    async def test_file_is_sent(self, api, service, s3, jp_root_dir):
        (jp_root_dir / "a.zip").write_bytes(b"zip")
        body = {"file_path": "a.zip", "url": f"{service.url}/upload-file", "token": KEY}
        code, answer = await api.post("upload-file", body)
        assert (code, answer["download_url"]) == (200, "https://cdn.example/file")
        assert s3.get("file") == b"zip"
        service.replacements["upload-file"].append(403)
        code, answer = await api.post("upload-file", body)
        assert (code, answer["code"]) == (502, "cloud_error")


class TestVolume:
    """Files of this machine for a volume of ComfyDeploy, which stores them in a real S3 server."""

    @pytest.fixture
    def extension_config(self, service, tmp_path, monkeypatch):
        monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
        return {
            "comfyui_url": "http://127.0.0.1:9",
            "autostart": False,
            "data_dir": str(tmp_path / "data"),
            "cloud_url": f"{service.url}/api",
            "allowed_api_urls": [service.url],
        }

    @pytest.mark.parametrize("target_from", ["target", "api_url", "query"])
    async def test_a_large_file_is_sent_in_parts(self, api, service, s3, jp_root_dir, target_from):
        content = random.randbytes(17 * 1024 * 1024)
        (jp_root_dir / "mine.safetensors").write_bytes(content)
        body = {
            "source": "local",
            "path": "mine.safetensors",
            "folder": "models/loras/own",
            "cd_token": KEY,
        }
        params = {}
        if target_from == "target":
            body["target"] = "cloud"
        elif target_from == "api_url":
            body["api_url"] = service.url
        else:
            params["target"] = "cloud"
        code, answer = await api.post("volume/model", body, params=params)
        assert (code, answer["success"], answer["direction"]) == (200, True, "up")
        assert answer["target"] == "loras/own/mine.safetensors"
        queue = await until_completed(api)
        (shown,) = queue["uploads"]
        assert (shown["id"], shown["state"]) == (answer["id"], "done")
        assert shown["sent"] == shown["size"] == len(content)
        assert s3.get("loras/own/mine.safetensors") == content
        assert {
            h["Authorization"] for h, _, _ in service.requests_to("complete-multipart-upload")
        } == {f"Bearer {KEY}"}

    @pytest.mark.parametrize(
        ("change", "code", "error"),
        [
            ({"cd_token": None}, 401, "no_api_key"),
            ({"api_url": "https://evil.example"}, 403, "forbidden_api_url"),
            ({"path": "none"}, 404, "not_found"),
            ({"path": "/etc/passwd"}, 403, "forbidden_path"),
            ({"path": None}, 400, "invalid_request"),
            ({"folder": None}, 400, "invalid_request"),
            ({"folder": "../x"}, 400, "invalid_request"),
            ({"filename": "a/../b"}, 400, "invalid_request"),
            ({"filename": "a\\b"}, 400, "invalid_request"),
            ({"action": "move"}, 400, "invalid_request"),
        ],
    )
    async def test_bad_requests(self, api, service, jp_root_dir, change, code, error):
        (jp_root_dir / "a.ckpt").write_bytes(b"x")
        body = {"source": "local", "path": "a.ckpt", "folder": "loras", "target": "cloud"}
        status, answer = await api.post("volume/model", {**body, "cd_token": KEY, **change})
        assert (status, answer["code"]) == (code, error)
        assert service.requests == []
        assert (await api.get("upload-queue-status"))[1]["uploads"] == []


@pytest.mark.parametrize("field", ["status_endpoint", "file_upload_endpoint"])
@pytest.mark.parametrize(
    "value", ["ftp://a/b", "/status", "http://", "http://[", "http://h:65536", "http://h:0", 5]
)
async def test_endpoint_that_is_no_address(api, service, field, value):
    code, body = await api.post("run", ordered(service, image(), **{field: value}))
    assert (code, body["code"], body["details"]["field"]) == (400, "invalid_request", field)
    assert (await api.get("runs"))[1] == []


async def test_empty_queue(api):
    code, body = await api.get("upload-queue-status")
    assert (code, body) == (
        200,
        {
            "queue_size": 0,
            "pending_uploads": 0,
            "active": 0,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
            "max_concurrent": 3,
            "uploads": [],
        },
    )
    assert await api.post("cancel-uploads", "") == (200, {"success": True, "cancelled": 0})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://api.comfydeploy.com/x"}, "file_path"),
        ({"file_path": "a"}, "url"),
        ({"file_path": "a", "url": "nowhere"}, "url"),
    ],
)
async def test_bad_upload_file(api, body, field):
    code, answer = await api.post("upload-file", body)
    assert (code, answer["code"], answer["details"]["field"]) == (400, "invalid_request", field)


async def test_a_file_is_sent_only_to_listed_addresses(api, service, jp_root_dir):
    (jp_root_dir / "a.zip").write_bytes(b"zip")
    body = {"file_path": "a.zip", "url": f"{service.url}/upload-file", "token": KEY}
    code, answer = await api.post("upload-file", body)
    assert (code, answer["code"]) == (403, "forbidden_api_url")
    assert service.requests == []


async def test_part_from_path(api, service, s3, jp_root_dir):
    (jp_root_dir / "model.bin").write_bytes(b"0123456789")
    url = s3.presigned("put_object", "part")
    body = {"filePath": "model.bin", "uploadUrl": url, "start": 3, "end": 7}
    code, answer = await api.post("volume/file/upload-part-from-path", body)
    assert code == 200
    assert answer == {"eTag": s3.head("part")["ETag"].strip('"'), "bytesSent": 4}
    assert s3.get("part") == b"3456"
    for change, status, field in [
        ({"end": 3}, 400, "end"),
        ({"end": 11}, 400, "end"),
        ({"start": -1}, 400, "start"),
        ({"filePath": "../x"}, 403, "filePath"),
        ({"filePath": "no"}, 404, "filePath"),
        ({"uploadUrl": ""}, 400, "uploadUrl"),
    ]:
        code, answer = await api.post("volume/file/upload-part-from-path", {**body, **change})
        assert (code, answer["details"]["field"]) == (status, field), change


class TestFilesOfAnotherMachine:
    """Files are sent from the folders of the named machine only."""

    @pytest.fixture
    def extension_config(self, service, tmp_path):
        return {
            "comfyui_url": "http://127.0.0.1:9",
            "autostart": False,
            "data_dir": str(tmp_path / "data"),
            "cloud_url": f"{service.url}/api",
            "allowed_api_urls": [service.url],
            "api_key": KEY,
        }

    @pytest.fixture
    def path(self, api, jp_asyncio_loop, tmp_path) -> str:
        """Return a file in the folders of the machine ``other``."""
        home = tmp_path / "other"
        (home / "models" / "loras").mkdir(parents=True)
        (home / "comfy").mkdir()
        (home / "main.py").touch()
        (home / "models" / "loras" / "a.ckpt").write_bytes(b"0123456789")
        body = {"name": "other", "comfyui_path": str(home), "autostart": False}
        code, made = jp_asyncio_loop.run_until_complete(api.post("machine/create", body))
        assert code == 200, made
        return str(home / "models" / "loras" / "a.ckpt")

    @pytest.mark.parametrize("where", ["body", "query"])
    async def test_file(self, api, service, s3, path, where):
        body = {"file_path": path, "url": f"{service.url}/upload-file"}
        code, answer = await api.post("upload-file", body)
        assert (code, answer["code"]) == (403, "forbidden_path")
        body, params = ({**body, "machine": "other"}, {}) if where == "body" else (body, OTHER)
        code, answer = await api.post("upload-file", body, params=params)
        assert (code, answer["success"]) == (200, True), answer
        assert s3.get("file") == b"0123456789"

    async def test_part(self, api, s3, path):
        url = s3.presigned("put_object", "part")
        body = {"filePath": path, "uploadUrl": url, "start": 3, "end": 7}
        code, answer = await api.post("volume/file/upload-part-from-path", body)
        assert (code, answer["code"]) == (403, "forbidden_path")
        body["machine"] = "other"
        code, _ = await api.post("volume/file/upload-part-from-path", body)
        assert (code, s3.get("part")) == (200, b"3456")

    async def test_model(self, api, s3, path):
        body = {"source": "local", "path": path, "folder": "loras", "target": "cloud"}
        code, answer = await api.post("volume/model", body)
        assert (code, answer["code"]) == (403, "forbidden_path")
        code, answer = await api.post("volume/model", {**body, "machine": "other"})
        assert (code, answer["target"]) == (200, "loras/a.ckpt")
        await until_completed(api)
        assert s3.get("loras/a.ckpt") == b"0123456789"

    async def test_unknown_machine(self, api, service, path):
        for route, body in (
            ("upload-file", {"file_path": path, "url": f"{service.url}/upload-file"}),
            (
                "volume/file/upload-part-from-path",
                {"filePath": path, "uploadUrl": f"{service.url}/store/x", "end": 1},
            ),
            (
                "volume/model",
                {"source": "local", "path": path, "folder": "loras", "target": "cloud"},
            ),
        ):
            code, answer = await api.post(route, {**body, "machine": "third"})
            assert (code, answer["code"]) == (404, "not_found"), route
        assert service.requests == []


class TestModels:
    """``volume/model`` on the folders of the test's ComfyUI."""

    @pytest.fixture
    def extension_config(self, start_folders, tmp_path):
        return {
            "comfyui_url": "http://127.0.0.1:9",
            "comfyui_path": str(start_folders),
            "autostart": False,
            "data_dir": str(tmp_path / "data"),
        }

    @pytest.fixture
    def start_folders(self, tmp_path):
        folder = tmp_path / "comfyui"
        (folder / "models" / "checkpoints").mkdir(parents=True)
        (folder / "main.py").touch()
        return folder

    async def ended(self, api, transfer_id):
        async def transfer():
            _, queue = await api.get("upload-queue-status")
            (found,) = [u for u in queue["uploads"] if u["id"] == transfer_id]
            return found

        return await until_async(transfer, lambda found: found["state"] in ENDED)

    async def test_model_is_added_listed_moved_and_deleted(self, api, bare_service, start_folders):
        content = bare_service.files["a.safetensors"] = b"x" * 100_000
        body = {
            "action": "add",
            "source": "link",
            "url": f"{bare_service.url}/files/a.safetensors",
            "folder": "checkpoints",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        code, answer = await api.post("volume/model", body)
        assert (code, answer["success"], answer["direction"]) == (200, True, "down")
        path = start_folders / "models" / "checkpoints" / "a.safetensors"
        assert answer["path"] == str(path)
        ended = await self.ended(api, answer["id"])
        assert (ended["state"], ended["sent"]) == ("done", 100_000)
        assert path.read_bytes() == content
        (path.parent / "b.safetensors.part").write_bytes(b"half")
        for folder in ("checkpoints", "models/checkpoints", None):
            _, answer = await api.post("volume/model", {"action": "list", "folder": folder})
            assert answer["success"] is True
            assert answer["models"] == (await api.get("models"))[1]
            assert [model["name"] for model in answer["models"]] == ["a.safetensors"]
        move = {
            "action": "move",
            "folder": "checkpoints",
            "filename": "a.safetensors",
            "to_folder": "loras",
            "to_filename": "b.safetensors",
        }
        code, answer = await api.post("volume/model", move)
        assert (code, answer["success"]) == (200, True)
        assert (start_folders / "models" / "loras" / "b.safetensors").read_bytes() == content
        code, answer = await api.post("volume/model", move)
        assert (code, answer["code"]) == (404, "not_found")
        delete = {"action": "delete", "folder": "loras", "filename": "b.safetensors"}
        assert (await api.post("volume/model", delete))[0] == 200
        assert (await api.post("volume/model", delete))[0] == 404

    async def test_a_request_in_the_services_format_is_accepted(
        self, api, bare_service, start_folders
    ):
        bare_service.files["b.ckpt"] = b"x"
        body = {
            "source": "link",
            "folderPath": "models/checkpoints",
            "filename": "c.ckpt",
            "downloadLink": f"{bare_service.url}/files/b.ckpt",
        }
        _, answer = await api.post("volume/model", body)
        assert (await self.ended(api, answer["id"]))["state"] == "done"
        assert (start_folders / "models" / "checkpoints" / "c.ckpt").read_bytes() == b"x"

    async def test_cancelling_all_uploads_cancels_no_downloads(self, api, bare_service):
        bare_service.replacements["files"].append("never")
        body = {"url": f"{bare_service.url}/files/a.ckpt", "folder": "checkpoints"}
        _, answer = await api.post("volume/model", body)
        assert (await api.post("cancel-uploads", {}))[1]["cancelled"] == 0
        cancelled = await api.post("cancel-uploads", {"id": answer["id"]})
        assert cancelled == (200, {"success": True, "cancelled": 1})

    @pytest.mark.parametrize(
        ("body", "code", "field"),
        [
            ({"action": "burn"}, 400, "action"),
            ({"action": "list", "machine": "none"}, 404, "machine"),
            ({"action": "delete", "target": "cloud", "folder": "a"}, 400, "action"),
            ({"source": "torrent"}, 400, "source"),
            ({"folder": "checkpoints"}, 400, "url"),
            ({"url": "http://127.0.0.1:1/a.ckpt"}, 400, "folder"),
            ({"url": "http://127.0.0.1:1/", "folder": "checkpoints"}, 400, "filename"),
            ({"url": "http://127.0.0.1:1/a", "folder": "nothing"}, 400, "folder"),
            ({"url": "file:///etc/passwd", "folder": "checkpoints"}, 400, "url"),
            (
                {"url": "http://h/a", "folder": "checkpoints", "filename": "../../../a"},
                403,
                "filename",
            ),
            ({"url": "http://h/a", "folder": "loras", "sha256": "12"}, 400, "sha256"),
            ({"action": "delete", "folder": "loras", "filename": "none"}, 404, "filename"),
            ({"action": "delete", "folder": "loras"}, 400, "filename"),
            ({"action": "move", "folder": "loras", "filename": "a"}, 400, "to_filename"),
            ({"source": "local", "folder": "loras"}, 400, "path"),
            ({"source": "local", "folder": "loras", "path": "/etc/passwd"}, 403, "path"),
        ],
    )
    async def test_bad_requests(self, api, body, code, field):
        status, answer = await api.post("volume/model", body)
        assert (status, answer["success"]) == (code, False)
        assert answer["details"]["field"] == field
        assert (await api.get("upload-queue-status"))[1]["uploads"] == []
