"""A Jupyter server that is killed while it uploads, and the next server."""

from __future__ import annotations

import time
import uuid

import requests

from tests.helpers.waiting import until

KEY = "cd-secret-of-this-request"


def test_the_next_server_continues_uploads_of_a_killed_one(
    start_jupyter, comfyui, service, tmp_path
):
    jupyter = start_jupyter(
        ComfyDeploy={"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}
    )
    headers = {"Authorization": f"token {jupyter.token}"}

    def call(method, route, **kwargs):
        url = f"{jupyter.url}comfyui-deploy/{route}"
        answer = requests.request(method, url, headers=headers, timeout=30, **kwargs)
        assert answer.status_code == 200, answer.text
        return answer.json()

    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {
                "width": 8,
                "height": 8,
                "batch_size": 5,
                "color": uuid.uuid4().int % 0xFFFFFF,
            },
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "kill"}},
    }
    service.to_store = True
    # The first two files are stored at once, the others not as long as this server lives.
    service.replacements["store"].extend([None, None, "never", "never", "never"])
    body = {
        "workflow_api": graph,
        "wait": False,
        "status_endpoint": f"{service.url}/status",
        "file_upload_endpoint": f"{service.url}/upload",
        "cd_token": KEY,
    }
    run_id = call("POST", "run", json=body)["prompt_id"]
    until(lambda: len(service.puts) == 5)
    confirmed = until(
        lambda: [
            upload["filename"]
            for upload in call("GET", "upload-queue-status")["uploads"]
            if upload["state"] == "done"
        ]
    )
    assert call("GET", f"check-status?prompt_id={run_id}")["status"] == "uploading"
    until(lambda: any(body.get("status") == "uploading" for _, body in service.callbacks))
    time.sleep(0.5)
    jupyter.kill()
    jupyter.start()

    record = until(
        lambda: (
            (found := call("GET", f"check-status?prompt_id={run_id}"))["status"] == "success"
            and found
        )
    )
    assert len(record["outputs"]["2"]["images"]) == 5
    assert sorted(service.stored) == sorted(
        f"{run_id}/{item['filename']}" for item in record["outputs"]["2"]["images"]
    )
    for name in confirmed:
        assert service.puts.count(f"{run_id}/{name}") == 1
    until(lambda: service.callbacks[-1][1].get("status") == "success")
    statuses = [body["status"] for _, body in service.callbacks if "status" in body]
    assert statuses == ["running", "uploading", "success"]
    (output,) = [body for _, body in service.callbacks if "output_data" in body]
    assert all(item["url"] for item in output["output_data"]["images"])
    assert {token for token, _ in service.callbacks} == {KEY}
    jupyter.stop()
    assert KEY not in jupyter.log()
    for path in (tmp_path / "data").glob("comfydeploy.db*"):
        assert path.stat().st_mode & 0o077 == 0, path
