"""The routes for reports and uploads of runs, their queue, and models, with a real ComfyUI."""

import asyncio
import hashlib
import json
import random
import uuid
from base64 import b64encode
from itertools import product

import pytest

from tests.helpers.bodies import new_picture
from tests.helpers.selection import few
from tests.helpers.waiting import until_async

KEY = "cd-secret-of-this-request"
FINAL = ("success", "failed", "cancelled")
HALF = "\ud83d"  # the first half of an emoji


def image(count=1):
    """Return a graph that saves images, and shows them without saving."""
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    return {**new_picture("transfers", batch_size=count), "3": shown}


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


async def messages_of(service, run_id, last=FINAL):
    """Return all messages about a run, once the last one is there."""
    return await until_async(
        lambda: [body for _, body in service.callbacks if body["run_id"] == run_id],
        lambda found: any(body.get("status") in last for body in found),
    )


@pytest.fixture
def extension_config(disk_or_comfyui):
    return {**disk_or_comfyui, "api_key": "the-configured-key"}


on_disk = pytest.mark.parametrize("disk_or_comfyui", ["disk"], indirect=True)


async def test_run_reports_and_uploads(api, service, s3, comfyui, tmp_path):
    code, body = await api.post("run", ordered(service, image(2)))
    assert (code, body["status"], body["error"]) == (200, "success", None)
    run_id = body["prompt_id"]
    messages = await messages_of(service, run_id)
    assert {token for token, _ in service.callbacks} == {KEY}

    statuses = [m for m in messages if "status" in m]
    assert statuses == [
        {"run_id": run_id, "status": status, "gpu_event_id": "gpu-7"}
        for status in ("running", "uploading", "success")
    ]
    assert messages[-1] == statuses[-1]
    events = [m["ws_event"] for m in messages if "ws_event" in m]
    names = [event["event"] for event in events]
    assert names[0] == "execution_start"
    assert {"executing", "executed", "execution_success"} <= set(names)
    assert {event["data"]["prompt_id"] for event in events} == {run_id}
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
    assert keys_of_uploads(service) == {f"Bearer {KEY}"}

    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    assert (queue["completed"], queue["pending_uploads"]) == (2, 0)
    assert [u["state"] for u in queue["uploads"]] == ["done", "done"]
    for shown in (body, queue, (await api.get("runs"))[1]):
        text = json.dumps(shown)
        assert not [secret for secret in (KEY, service.url, "gpu-7") if secret in text]


def keys_of_uploads(service):
    return {headers.get("Authorization") for headers, _, _ in service.requests_to("upload")}


@on_disk
async def test_the_stream_has_events_of_the_upload(events, service, api):
    service.to_store, service.store_delay = True, 0.1
    messages = await events(body=ordered(service, image()))
    names = [data.get("event") for _, data in messages]
    assert names[-2:] == ["result", "status"]
    assert names.count("status") == 1
    live = [data["data"] for _, data in messages if data.get("event") == "live_status"]
    assert live[-1]["live_status"] == "Uploading outputs"


@on_disk
async def test_reports_without_uploads(api, service):
    _, body = await api.post("run", ordered(service, image(), file_upload_endpoint=""))
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["running", "success"]
    (output,) = [m for m in messages if "output_data" in m]
    assert output["node_meta"]["node_id"] == "2"
    assert "url" not in output["output_data"]["images"][0]


@on_disk
async def test_runs_without_success_are_reported(api, service, chain):
    graph = chain(("TestFail", {"message": "no such sampler"}))
    _, body = await api.post("run", ordered(service, graph))
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["running", "failed"]
    (output,) = [m for m in messages if "output_data" in m]
    assert output["output_data"]["exception_message"].strip() == "no such sampler"
    assert messages[-1]["status"] == "failed"

    graph = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    _, body = await api.post("run", ordered(service, graph))
    assert body["code"] == "prompt_invalid"
    messages = await messages_of(service, body["prompt_id"])
    assert [m["status"] for m in messages if "status" in m] == ["failed"]

    graph = chain(("TestSleep", {"seconds": 30}))
    _, body = await api.post("run", ordered(service, graph, wait=False))
    await api.until(body["prompt_id"], "running")
    await api.post("interrupt", {"prompt_id": body["prompt_id"]})
    assert (await messages_of(service, body["prompt_id"]))[-1]["status"] == "cancelled"


@on_disk
async def test_upload_that_fails_for_good_fails_the_run_and_is_tried_again(api, service, s3):
    service.replacements["upload"].append(403)
    _, body = await api.post("run", ordered(service, image()))
    run_id = body["prompt_id"]
    assert (body["success"], body["status"]) == (False, "failed")
    assert body["error"]["type"] == "UploadFailed"
    assert (body["error"]["node_id"], body["error"]["node_type"]) == ("2", "SaveImage")
    assert "403" in body["error"]["message"]
    messages = await messages_of(service, run_id)
    statuses = [m["status"] for m in messages if "status" in m]
    assert statuses == ["running", "uploading", "failed"]
    assert messages[-2]["output_data"]["error"] == body["error"]

    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    (failed,) = queue["uploads"]
    assert failed["state"] == "failed"
    code, answer = await api.post("retry-uploads", {"prompt_id": run_id})
    assert (code, answer["success"], answer["retried"]) == (200, True, 1)
    assert answer["uploads"][0]["id"] == failed["id"]
    assert KEY not in json.dumps(answer)
    assert (await api.transferred(failed["id"]))["state"] == "done"
    assert s3.head(f"{run_id}/{failed['filename']}")["ContentType"] == "image/png"
    assert (await api.get("check-status", prompt_id=run_id))[1]["status"] == "failed"
    for transfer_id, expected in ((failed["id"], (409, "conflict")), ("none", (404, "not_found"))):
        code, answer = await api.post("retry-uploads", {"id": transfer_id})
        assert (code, answer["code"]) == expected
    assert (await api.post("retry-uploads", {}))[1]["retried"] == 0


@pytest.mark.parametrize("node_id", few([HALF, "1"]))
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


@on_disk
async def test_cancelled_uploads_do_not_fail_the_run(api, service):
    service.to_store, service.store_delay = True, 5
    _, body = await api.post("run", ordered(service, image(4), wait=False))
    run_id = body["prompt_id"]
    await api.until(run_id, "uploading")
    code, answer = await api.post("interrupt", {"prompt_id": run_id})
    assert (code, answer["code"]) == (409, "conflict")
    await until_async(
        lambda: api.get("upload-queue-status", prompt_id=run_id),
        lambda answer: answer[1]["active"] == 3,
    )
    _, status = await api.get("check-status")
    assert (status["uploads"]["active"], status["uploads"]["pending_uploads"]) == (3, 4)
    for prompt_id, count in (("another", 0), (run_id, 4)):
        answer = await api.post("cancel-uploads", {"prompt_id": prompt_id})
        assert answer == (200, {"success": True, "cancelled": count})
    body = await api.until(run_id, "success")
    assert body["error"] is None
    _, queue = await api.get("upload-queue-status", prompt_id=run_id)
    assert {upload["state"] for upload in queue["uploads"]} == {"cancelled"}
    assert (await messages_of(service, run_id))[-1]["status"] == "success"


@on_disk
@pytest.mark.parametrize("source", ["stream", "status", "runs"])
async def test_uploads_that_were_reported_as_begun_can_be_cancelled(api, jp_fetch, service, source):
    service.replacements["upload"].extend(["never"] * 16)  # no file is out before it is cancelled
    for _ in few(range(8)):
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
            found = {}
            while (found.get("prompt_id"), found.get("status")) != (run_id, "uploading"):
                if source == "status":
                    _, found = await api.get("check-status", prompt_id=run_id)
                else:
                    found = next(iter((await api.get("runs", limit="1"))[1]), {})
        answer = await asyncio.wait_for(api.post("cancel-uploads", {"prompt_id": run_id}), 10)
        assert answer == (200, {"success": True, "cancelled": 2})
        body = await api.until(run_id, "success")
        assert body["error"] is None
        await following
        _, queue = await api.get("upload-queue-status", prompt_id=run_id)
        assert [upload["state"] for upload in queue["uploads"]] == ["cancelled"] * 2
    assert (await api.post("cancel-uploads", {})) == (200, {"success": True, "cancelled": 0})


@on_disk
async def test_the_configured_key_is_sent_only_to_listed_addresses(api, service, jp_root_dir):
    _, body = await api.post("run", {**ordered(service, image()), "cd_token": None})
    await messages_of(service, body["prompt_id"])
    assert {token for token, _ in service.callbacks} == {None}
    assert keys_of_uploads(service) == {None}
    service.requests.clear()
    (jp_root_dir / "a.zip").write_bytes(b"zip")
    body = {"file_path": "a.zip", "url": f"{service.url}/upload-file", "token": KEY}
    code, answer = await api.post("upload-file", body)
    assert (code, answer["code"]) == (403, "forbidden_api_url")
    assert service.requests == []


class TestAllowedService:
    """A service on the list gets the configured key if the request has none."""

    @pytest.fixture
    def extension_config(self, service, comfyui, tmp_path):
        config = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}
        return {**config, "api_key": "the-configured-key", "allowed_api_urls": [service.url]}

    async def test_which_key_is_sent(self, api, service):
        for given, header, expected in (
            (None, None, "the-configured-key"),
            (KEY, None, KEY),
            (KEY, "from-the-header", "from-the-header"),
            ("sk-1\n", None, "sk-1"),  # as the content of a file has it
        ):
            service.callbacks.clear()
            service.requests.clear()
            request = {**ordered(service, image()), "cd_token": given}
            headers = {} if header is None else {"X-ComfyDeploy-Token": header}
            _, body = await api.post("run", request, headers=headers)
            await messages_of(service, body["prompt_id"])
            assert {token for token, _ in service.callbacks} == {expected}
            assert keys_of_uploads(service) == {f"Bearer {expected}"}

    async def test_what_no_header_can_contain_is_no_key(self, api, service):
        run = ordered(service, image())
        upload = {"file_path": "a.zip", "url": f"{service.url}/upload-file"}
        for key, field, (route, body) in product(
            ("sk\n1", "sk 1", "sk-\u00fc", "sk\0", "sk-\udcff"),
            ("cd_token", "token"),
            (("run", run), ("upload-file", upload)),
        ):
            code, answer = await api.post(route, {**body, field: key})
            assert (code, answer["code"]) == (400, "invalid_request"), answer
            assert answer["error"].startswith(f"{field}: must be one line of ASCII text")
        headers = {"X-ComfyDeploy-Token": "sk 1"}
        code, answer = await api.post("run", run, headers=headers)
        assert (code, answer["code"]) == (400, "invalid_request"), answer
        assert answer["error"].startswith("X-ComfyDeploy-Token: ")
        assert (await api.get("runs"))[1] == []


class TestVolume:
    """Files of this machine for a volume of ComfyDeploy, which stores them in a real S3 server."""

    @pytest.fixture
    def extension_config(self, service, without_comfyui, monkeypatch):
        monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
        cloud = {"cloud_url": f"{service.url}/api", "allowed_api_urls": [service.url]}
        return {**without_comfyui, **cloud}

    async def test_a_file_is_sent(self, api, service, s3, jp_root_dir):
        content = random.randbytes(1000)
        (jp_root_dir / "mine.safetensors").write_bytes(content)
        body = {"source": "local", "path": "mine.safetensors", "cd_token": KEY}
        for number, (target, params) in enumerate(
            (({"target": "cloud"}, {}), ({"api_url": service.url}, {}), ({}, {"target": "cloud"}))
        ):
            request = {**body, **target, "folder": f"models/loras/own{number}"}
            code, answer = await api.post("volume/model", request, params=params)
            assert (code, answer["success"], answer["direction"]) == (200, True, "up")
            assert answer["target"] == f"loras/own{number}/mine.safetensors"

            shown = await api.transferred(answer["id"])
            assert shown["state"] == "done"
            assert shown["sent"] == shown["size"] == len(content)
            assert s3.get(answer["target"]) == content
        requests = service.requests_to("generate-upload-url")
        assert {headers["Authorization"] for headers, _, _ in requests} == {f"Bearer {KEY}"}

    async def test_bad_requests(self, api, service, jp_root_dir):
        (jp_root_dir / "a.ckpt").write_bytes(b"x")
        body = {"source": "local", "path": "a.ckpt", "folder": "loras", "target": "cloud"}
        for change, code, error in (
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
        ):
            status, answer = await api.post("volume/model", {**body, "cd_token": KEY, **change})
            assert (status, answer["code"]) == (code, error), change
        assert service.requests == []
        assert (await api.get("upload-queue-status"))[1]["uploads"] == []


@on_disk
async def test_endpoint_that_is_no_address(api, service):
    for field in ("status_endpoint", "file_upload_endpoint"):
        for value in (
            "ftp://a/b",
            "/status",
            "http://",
            "http://[",
            "http://h:65536",
            "http://h:0",
            5,
        ):
            refused = await api.refusal("run", ordered(service, image(), **{field: value}))
            assert refused == (400, field), value
    assert (await api.get("runs"))[1] == []


@on_disk
async def test_empty_queue(api):
    counts = dict.fromkeys(
        ("queue_size", "pending_uploads", "active", "completed", "failed", "cancelled"), 0
    )
    shown = {**counts, "max_concurrent": 3, "uploads": []}
    assert await api.get("upload-queue-status") == (200, shown)
    assert await api.post("cancel-uploads", "") == (200, {"success": True, "cancelled": 0})
    for body, field in (
        ({"url": "https://api.comfydeploy.com/x"}, "file_path"),
        ({"file_path": "a"}, "url"),
        ({"file_path": "a", "url": "nowhere"}, "url"),
    ):
        assert await api.refusal("upload-file", body) == (400, field)


@on_disk
async def test_part_from_path(api, service, s3, jp_root_dir):
    (jp_root_dir / "model.bin").write_bytes(b"0123456789")
    url = s3.presigned("put_object", "part")
    body = {"filePath": "model.bin", "uploadUrl": url, "start": 3, "end": 7}
    code, answer = await api.post("volume/file/upload-part-from-path", body)
    assert code == 200
    assert answer == {"eTag": s3.head("part")["ETag"].strip('"'), "bytesSent": 4}
    assert s3.get("part") == b"3456"
    service.replacements["store"].append(403)
    refused = {**body, "uploadUrl": f"{service.url}/store/x"}
    code, answer = await api.post("volume/file/upload-part-from-path", refused)
    assert (code, answer["code"]) == (502, "cloud_error")
    for change, status, field in [
        ({"end": 3}, 400, "end"),
        ({"end": 11}, 400, "end"),
        ({"start": -1}, 400, "start"),
        ({"filePath": "../x"}, 403, "filePath"),
        ({"filePath": "no"}, 404, "filePath"),
        ({"uploadUrl": ""}, 400, "uploadUrl"),
    ]:
        refused = await api.refusal("volume/file/upload-part-from-path", {**body, **change})
        assert refused == (status, field), change


class TestFilesOfAnotherMachine:
    """Files are sent from the folders of the named machine only."""

    @pytest.fixture
    def extension_config(self, service, without_comfyui):
        cloud = {"cloud_url": f"{service.url}/api", "allowed_api_urls": [service.url]}
        return {**without_comfyui, **cloud, "api_key": KEY}

    async def test_a_file_is_sent_if_its_machine_is_named(self, api, service, s3, tmp_path):
        home = tmp_path / "other"
        (home / "models" / "loras").mkdir(parents=True)
        (home / "comfy").mkdir()
        (home / "main.py").touch()
        path = home / "models" / "loras" / "a.ckpt"
        path.write_bytes(b"0123456789")
        body = {"name": "other", "comfyui_path": str(home), "autostart": False}
        code, made = await api.post("machine/create", body)
        assert code == 200, made

        file = {"file_path": str(path), "url": f"{service.url}/upload-file"}
        part = {"filePath": str(path), "uploadUrl": s3.presigned("put_object", "part"), "end": 4}
        model = {"source": "local", "path": str(path), "folder": "loras", "target": "cloud"}
        routes = ("upload-file", "volume/file/upload-part-from-path", "volume/model")
        requests = list(zip(routes, (file, part, model), strict=True))
        for route, body in requests:
            code, answer = await api.post(route, body)
            assert (code, answer["code"]) == (403, "forbidden_path"), route
            code, answer = await api.post(route, {**body, "machine": "third"})
            assert (code, answer["code"]) == (404, "not_found"), route
        assert service.requests == []
        for route, body in requests:
            code, answer = await api.post(route, {**body, "machine": "other"})
            assert code == 200, answer
        assert (answer["target"], s3.get("file"), s3.get("part")) == (
            *("loras/a.ckpt", b"0123456789", b"0123"),
        )
        await api.transferred(answer["id"])
        assert s3.get("loras/a.ckpt") == b"0123456789"
        s3.clear()
        code, _ = await api.post("upload-file", file, params={"machine": "other"})
        assert (code, s3.get("file")) == (200, b"0123456789")
        ((headers, query, _),) = service.requests_to("upload-file")[1:]
        assert query == {"file_size": "10", "type": "application/octet-stream"}
        assert headers["Authorization"] == f"Bearer {KEY}"
        service.replacements["upload-file"].append(403)
        code, answer = await api.post("upload-file", {**file, "machine": "other"})
        assert (code, answer["code"]) == (502, "cloud_error")


class TestModels:
    """``volume/model`` on the folders of the test's ComfyUI."""

    @pytest.fixture
    def extension_config(self, start_folders, without_comfyui):
        return {**without_comfyui, "comfyui_path": str(start_folders)}

    @pytest.fixture
    def start_folders(self, tmp_path):
        folder = tmp_path / "comfyui"
        (folder / "models" / "checkpoints").mkdir(parents=True)
        (folder / "main.py").touch()
        return folder

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
        ended = await api.transferred(answer["id"])
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
        delete = {"action": "delete", "folder": "loras", "filename": "b.safetensors"}
        for request in (move, delete):
            code, answer = await api.post("volume/model", request)
            assert (code, answer["success"]) == (200, True)
            if request is move:
                moved = start_folders / "models" / "loras" / "b.safetensors"
                assert moved.read_bytes() == content
            assert (await api.post("volume/model", request))[0] == 404

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
        assert (await api.transferred(answer["id"]))["state"] == "done"
        assert (start_folders / "models" / "checkpoints" / "c.ckpt").read_bytes() == b"x"
        bare_service.replacements["files"].append("never")
        body = {"url": f"{bare_service.url}/files/a.ckpt", "folder": "checkpoints"}
        _, answer = await api.post("volume/model", body)
        assert (await api.post("cancel-uploads", {}))[1]["cancelled"] == 0, "it is a download"
        cancelled = await api.post("cancel-uploads", {"id": answer["id"]})
        assert cancelled == (200, {"success": True, "cancelled": 1})

    async def test_one_that_has_failed_can_be_given_up(self, api, bare_service, start_folders):
        bare_service.replacements["files"].append(403)
        body = {"url": f"{bare_service.url}/files/a.ckpt", "folder": "checkpoints"}
        _, answer = await api.post("volume/model", body)
        transfer = {"id": answer["id"]}
        assert (await api.transferred(answer["id"]))["state"] == "failed"
        for count in (1, 0):
            assert (await api.post("cancel-uploads", transfer))[1]["cancelled"] == count
        assert (await api.transferred(answer["id"]))["state"] == "cancelled"
        assert (await api.post("retry-uploads", transfer))[0] == 409

    async def test_bad_requests(self, api):
        for body, code, field in (
            ({"action": "burn"}, 400, "action"),
            ({"action": "list", "machine": "none"}, 404, "machine"),
            ({"action": "delete", "target": "cloud", "folder": "a"}, 400, "action"),
            ({"source": "torrent"}, 400, "source"),
            ({"folder": "checkpoints"}, 400, "url"),
            ({"url": "http://127.0.0.1:1/a.ckpt"}, 400, "folder"),
            ({"url": "http://127.0.0.1:1/", "folder": "checkpoints"}, 400, "filename"),
            ({"url": "http://127.0.0.1:1/a", "folder": "nothing"}, 400, "folder"),
            *(
                ({**site, "folder": "vae"}, 400, "url")
                for site in (
                    {"url": "file:///etc/passwd"},
                    {"url": "/etc/passwd"},
                    {"source": "huggingface", "url": "owner/repo"},
                    {"source": "huggingface", "url": "https://h/owner/repo/resolve/main/a"},
                    {"source": "civitai", "url": "https://civitai.com/articles/12"},
                )
            ),
            ({"url": "http://h/a", "folder": "custom_nodes"}, 400, "folder"),
            ({"url": "http://h/a", "folder": "../output"}, 400, "folder"),
            ({"url": "http://h/a", "folder": "vae", "filename": "../loras/a"}, 403, "filename"),
            ({"url": "http://h/a", "folder": "vae", "filename": "a/"}, 400, "filename"),
            ({"url": "http://h/a", "folder": "vae", "filename": "a\0b"}, 400, "filename"),
            ({"url": "http://h/a", "folder": "vae", "filename": "../../../a"}, 403, "filename"),
            ({"url": "http://h/a", "folder": "loras", "sha256": "12"}, 400, "sha256"),
            ({"action": "delete", "folder": "loras", "filename": "none"}, 404, "filename"),
            ({"action": "delete", "folder": "loras"}, 400, "filename"),
            ({"action": "move", "folder": "loras", "filename": "a"}, 400, "to_filename"),
            ({"source": "local", "folder": "loras"}, 400, "path"),
            ({"source": "local", "folder": "loras", "path": "/etc/passwd"}, 403, "path"),
        ):
            status, answer = await api.post("volume/model", body)
            assert (status, answer["success"]) == (code, False), body
            assert answer["details"]["field"] == field, body
        assert (await api.get("upload-queue-status"))[1]["uploads"] == []
