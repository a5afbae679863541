"""Two Jupyter servers on one data folder: if one ends, the other continues its runs."""

import hashlib
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.jupyter import chain
from tests.helpers.kill_rounds import check_store
from tests.helpers.waiting import until

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def leave_comfyui_idle(idle):
    """Empty the queue after each test."""


def needing(run):
    """Return a request for a run that needs the text of another one."""
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "", "token": uuid.uuid4().hex}}}
    text = {"$output": {"run": run}}
    return {"workflow_api": graph, "inputs": {"text": text}, "wait": False}


@pytest.fixture
def pair(serve, comfyui, tmp_path):
    """Two servers with the same data folder and ComfyUI."""
    settings = {
        "comfyui_url": comfyui.url,
        "comfyui_path": str(comfyui.path),
        "data_dir": str(tmp_path / "shared"),
    }
    return serve(**settings), serve(**settings)


@pytest.mark.thorough
def test_both_take_work_of_all_kinds_and_go_on_with_that_of_a_killed_one(
    pair, serve, comfyui, verdict, tmp_path
):
    """While both run, neither takes runs of the other one."""
    code, workflow = pair[0].post("workflow", {"name": "w", "workflow_api": chain()})
    assert code == 200

    def work(number):
        server = pair[number % 2]
        _, run = server.post("run", {"workflow_api": chain(), "wait": False})
        content = random.Random(number).randbytes(300_000)
        name = f"{uuid.uuid4().hex}.bin"
        code, upload = server.upload(name, content)
        assert (code, upload["file_hash"]) == (200, hashlib.sha256(content).hexdigest())
        assert (comfyui.input_dir / name).read_bytes() == content
        graph = chain()
        body = {"workflow_id": workflow["workflow_id"], "workflow_api": graph}
        code, saved = server.post("workflow/version", body)
        assert code == 200, saved
        return run["prompt_id"], name, upload["file_hash"], saved["version"], graph

    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(work, range(16)))
    assert sorted(version for *_, version, _ in done) == list(range(2, 18))
    for server in pair:
        for prompt_id, name, digest, version, graph in done:
            assert server.until(prompt_id, "success")["outputs"]
            assert verdict(prompt_id) == "success"
            _, found = server.get("get-file-hash", filename=f"input/{name}")
            assert found["file_hash"] == digest
            _, stored = server.get(
                "workflow/version", workflow_id=workflow["workflow_id"], version=str(version)
            )
            assert stored["workflow_api"] == graph
        _, runs = server.get("runs")
        assert {run["prompt_id"] for run in runs} == {prompt_id for prompt_id, *_ in done}
    assert check_store(tmp_path / "shared" / "comfydeploy.db") == []

    first, second = pair

    def sleep(seconds):
        graph = chain(("TestSleep", {"seconds": seconds}))
        return first.post("run", {"workflow_api": graph, "wait": False})[1]["prompt_id"]

    long = sleep(60)
    first.until(long, "running")
    queued = second.post("run", {"workflow_api": chain(), "wait": False})[1]["prompt_id"]
    third = serve(comfyui_url=comfyui.url, data_dir=str(tmp_path / "shared"))
    for server in (second, third):
        code, status = server.get("check-status")
        assert (code, status["queue"]) == (200, {"running": 0, "pending": int(server is second)})
        assert server.get("check-status", prompt_id=long)[1]["status"] == "running"
    assert first.get("check-status")[1]["queue"] == {"running": 1, "pending": 0}
    assert len(list((tmp_path / "shared" / "sessions").glob("*.lock"))) == 3
    code, body = second.post("interrupt", {"prompt_id": long})
    assert (code, body["was"]) == (200, "running")
    assert second.stream(long)[-1][1]["data"]["status"] == "cancelled"
    messages = second.stream(queued)
    assert messages[-1][1]["data"]["status"] == "success"
    assert "progress_state" in [data.get("event") for _, data in messages], "events of its own run"

    ids = [sleep(4), sleep(4)]
    there, later = (second.post("run", needing(run))[1] for run in ids)
    _, last = first.post("run", needing(later["prompt_id"]))
    for run, needed in ((there, ids[0]), (later, ids[1]), (last, later["prompt_id"])):
        assert (run["status"], run["waiting_for"]) == ("not-started", [needed])
    code, body = first.post("interrupt", {"prompt_id": later["prompt_id"]})
    assert code == 409
    assert "waits in another Jupyter server; cancel it there" in body["error"]
    assert second.until(there["prompt_id"], "success")["outputs"] == {"1": {"text": ["done"]}}
    first.kill()
    assert third.stream(ids[1])[-1][1]["data"]["status"] == "success"
    for run in (later, last):
        record = second.until(run["prompt_id"], "success")
        assert record["outputs"] == {"1": {"text": ["done"]}}


@pytest.mark.thorough
def test_a_running_server_continues_the_transfers_of_a_killed_one(
    pair, comfyui, bare_service, tmp_path
):
    """Uploads of outputs, a download, and their messages; the killed server stays ended."""
    survivor, killed = pair
    name = f"{uuid.uuid4().hex}.safetensors"
    content = bare_service.files[name] = random.Random(1).randbytes(8 * MIB)
    bare_service.to_store = True
    bare_service.store_delay = 0.2  # of the download, for each 64 KiB: it will not end
    bare_service.replacements["store"].extend([None, "never", "never"])
    body = {"url": f"{bare_service.url}/files/{name}", "folder": "checkpoints", "filename": name}
    assert killed.post("volume/model", body)[0] == 200
    color = uuid.uuid4().int % 0xFFFFFF
    image = {"width": 8, "height": 8, "batch_size": 3, "color": color}
    save = {"images": ["1", 0], "filename_prefix": f"survivor-{color}"}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": image},
        "2": {"class_type": "SaveImage", "inputs": save},
    }
    request = {
        "workflow_api": graph,
        "wait": False,
        "status_endpoint": f"{bare_service.url}/status",
        "file_upload_endpoint": f"{bare_service.url}/upload",
    }
    code, run = killed.post("run", request)
    assert code == 200
    part = comfyui.models_dir / "checkpoints" / f"{name}.part"
    until(lambda: len(bare_service.puts) == 3 and len(bare_service.stored) == 1)
    until(lambda: part.exists() and part.stat().st_size > 0)
    killed.until(run["prompt_id"], "uploading")
    assert survivor.get("upload-queue-status")[1]["pending_uploads"] == 0, (
        "they are not its own yet"
    )
    time.sleep(0.5)  # what was confirmed is in the store by now
    killed.kill()
    bare_service.store_delay = 0.0

    record = survivor.until(run["prompt_id"], "success", "failed", timeout=90)
    assert record["status"] == "success", record["error"]
    names = [item["filename"] for item in record["outputs"]["2"]["images"]]
    assert sorted(bare_service.stored) == sorted(f"{run['prompt_id']}/{name}" for name in names)
    for file in names:
        stored = bare_service.stored[f"{run['prompt_id']}/{file}"]
        assert stored == (comfyui.output_dir / file).read_bytes()
    assert len(bare_service.puts) == 5, "the one that was confirmed is not sent again"
    target = comfyui.models_dir / "checkpoints" / name
    until(target.exists)
    assert target.read_bytes() == content
    until(lambda: not part.exists())
    states = until(
        lambda: [b["status"] for _, b in bare_service.callbacks if "status" in b],
        lambda found: found[-1:] == ["success"],
    )
    assert list(dict.fromkeys(states)) == ["running", "uploading", "success"]
    until(lambda: survivor.get("upload-queue-status")[1]["pending_uploads"] == 0)
    assert check_store(tmp_path / "shared" / "comfydeploy.db") == []
