"""Groups of rows in Python: files in them are uploaded, and sweeps vary them."""

import numpy as np
import pytest
from PIL import Image

from comfydeploy_jupyter.client import Comfy
from tests.helpers.graphs import declared, node, rows

STRENGTH = ["FLOAT", {"default": 1.0}]
INNER = rows(0, 2, picture=["COMBO", {"options": ["x.png"], "image_upload": True}])
DEFINITIONS = {
    "Mix": declared(rows=rows(0, 3, image=["IMAGE", {}], strength=STRENGTH, inner=INNER)),
}
GRAPH = {"1": node("Mix", "LoRA"), "2": node("PreviewImage", images=["1", 0])}


BATCH = {
    "batch_id": "b",
    "state": "done",
    "finished_at": "now",
    "counts": {},
    "fraction": 1.0,
    "axes": [],
}


@pytest.fixture
def server(small_server):
    uploads = iter(range(99))

    def answer(request, reply):
        route = request.path.rpartition("comfyui-deploy/")[2]
        if route == "object_info":
            reply.json(DEFINITIONS)
        elif route == "upload-file":
            name = f"up{next(uploads)}.png"
            reply.json({"name": name, "subfolder": "", "type": "input", "size": 1, "file_hash": ""})
        elif route.startswith("batch"):
            reply.json(BATCH if "/points" not in route else {"points": [], "mark": "0-0"})
        elif (prompt_id := (request.body or {}).get("prompt_id")) is None:
            reply.json({"status": "ok", "machines": []})
        else:
            reply.start_stream()
            record = {"prompt_id": prompt_id, "status": "success", "outputs": {}}
            reply.event(1, {"event": "result", "data": record})
            reply.event(2, {"event": "status", "data": {"status": "success"}})
            reply.end_stream()

    return small_server(answer)


@pytest.fixture
def comfy(server):
    return Comfy(server.url, "sesame")


def inputs(server):
    return [
        request.body.get("inputs")
        for request in server.requests
        if request.path.endswith("run/streaming")
    ]


def test_files_in_rows_are_uploaded_once_each(comfy, server, tmp_path):
    path, picture = tmp_path / "a.png", Image.new("RGB", (2, 2))
    path.write_bytes(b"a picture")
    given = [
        {"image": path, "strength": np.float32(0.5)},
        {"image": "there.png", "inner": [{"picture": picture}, {"picture": picture}]},
        {"image": tmp_path / "only-on-the-machine.png"},
    ]
    sent = [
        {"image": "up0.png", "strength": 0.5},
        {"image": "there.png", "inner": [{"picture": "up1.png"}, {"picture": "up1.png"}]},
        {"image": str(tmp_path / "only-on-the-machine.png")},
    ]
    comfy.run(GRAPH, {"LoRA.rows": given}, progress=False)
    assert inputs(server) == [{"LoRA.rows": sent}]


def test_files_in_rows_of_a_workflow_are_uploaded_by_each_run(comfy, server):
    first, second = Image.new("RGB", (2, 2)), Image.new("RGB", (3, 3))
    workflow = comfy.load(GRAPH)
    workflow.set({"LoRA.rows": [{"image": first}, {"inner": [{"picture": second}]}]})
    assert workflow["LoRA"]["rows.0.image"] is first
    assert workflow["LoRA"]["rows.1.inner.0.picture"] is second
    comfy.run(workflow, progress=False)
    assert workflow.to_api()["1"]["inputs"] == {
        "rows.0.image": "up2.png",
        "rows.0.strength": 1.0,
        "rows.1.inner.0.picture": "up3.png",
        "rows.1.strength": 1.0,
    }
    assert inputs(server)[0]["1.rows.0.image"] == "up0.png"
    assert inputs(server)[0]["1.rows.1.inner.0.picture"] == "up1.png"
    workflow.set({"LoRA.rows": []})
    comfy.run(workflow, progress=False)
    assert inputs(server)[1] is None


def test_files_in_rows_of_a_sweep_are_uploaded_once_each(comfy, server):
    picture = Image.new("RGB", (2, 2))
    ways = [[{"image": picture}], [{"image": picture}, {"strength": 3}], []]
    sweep = comfy.sweep(GRAPH, {"LoRA.rows": ways}, save=False, progress=False)
    sent = [[{"image": "up0.png"}], [{"image": "up0.png"}, {"strength": 3}], []]
    (body,) = [request.body for request in server.requests if request.path.endswith("/batch")]
    assert body["inputs"] == {"LoRA.rows": {"$vary": sent}}
    assert sweep.find({"LoRA.rows": sent[1]}) == [sweep[1]]
