"""comfy-sdk, the published client of the Comfy API, with a real Jupyter and a real ComfyUI."""

import os
import uuid

import pytest
from comfy_low.models import Asset, JobWorkflowResponse, Output, Progress
from comfy_sdk import Comfy
from comfy_sdk import events as kinds
from comfy_sdk.exceptions import ComfyError, JobFailed, NotFound
from PIL import Image

from tests.client.test_real import slow, stepping
from tests.helpers import bodies
from tests.helpers.waiting import until


@pytest.fixture(autouse=True)
def environment(jupyter, monkeypatch):
    monkeypatch.setenv("COMFY_BASE_URL", f"{jupyter.url}comfyui-deploy")
    monkeypatch.setenv("COMFY_API_KEY", jupyter.token)


@pytest.fixture
def client():
    with Comfy() as client:
        yield client


def picture():
    """A graph that is not in ComfyUI's cache, and saves a picture and a text."""
    text = {"class_type": "TestText", "inputs": {"text": "a text", "token": uuid.uuid4().hex}}
    return {**bodies.picture(f"job_{uuid.uuid4().hex}"), "3": text}


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_a_job_runs_and_its_outputs_can_be_read(client, tmp_path):
    graph = picture()
    job = client.run(client.workflows.from_json(graph))
    image, text = sorted(job.outputs, key=lambda output: output.node_id)
    assert (image.type, image.content_type, image.job_id) == ("image", "image/png", job.id)
    content = image.to_bytes()
    assert len(content) == image.size_bytes
    assert size_of(image.to_file(tmp_path / "a.png")) == (32, 32)
    assert image.to_bytes(range=(1, 3)) == content[1:4] == b"PNG"
    assert (text.type, text.to_bytes(), text.size_bytes) == ("text", b"a text", 6)
    assert image.get_download_url().url.endswith(f"/assets/{image.id}/content")
    again = client.jobs.get(job.id)
    assert [output.id for output in again.outputs] == [output.id for output in job.outputs]
    found = again.get_workflow()
    assert (found.format, found.graph) == ("api", graph)


def test_events_are_complete_and_outputs_come_before_the_end(client):
    graph = {**stepping(6, 0.15), "3": picture()["3"]}
    job = client.submit(client.workflows.from_json(graph))
    events = list(job.events())
    assert isinstance(events[-1], kinds.StatusChange)
    assert events[-1].status == "succeeded"
    statuses = [event.status for event in events if isinstance(event, kinds.StatusChange)]
    assert statuses[-2:] == ["running", "succeeded"]
    outputs = [event.output for event in events if isinstance(event, kinds.OutputReady)]
    assert sorted(output.node_id for output in outputs) == ["2", "3"]
    progress = [event for event in events if isinstance(event, kinds.Progress)]
    for event in progress:
        assert event.nodes_total == 3
        assert event.nodes_done is not None
    values = [event.value for event in progress]
    assert values == sorted(values)
    assert (progress[-1].value, progress[-1].nodes_done) == (1.0, 3)
    stepped = [event for event in progress if event.step]
    assert stepped
    assert all(event.current_node == "1" and event.steps == 6 for event in stepped)
    previews = [event for event in events if isinstance(event, kinds.Preview)]
    assert previews
    assert previews[0].to_pil().size == (32, 32)
    assert previews[0].node_id == "1"
    assert [type(event) for event in job.events()][-1] is kinds.StatusChange


def test_a_stream_begins_with_the_present_state(client):
    graph = {**slow(60), "3": picture()["3"]}
    graph["1"]["inputs"]["anything"] = ["3", 0]  # the text is there while the other node sleeps
    job = client.submit(client.workflows.from_json(graph))
    try:
        until(lambda: job.refresh().outputs)
        streams = [job.events() for _ in range(3)]
        for stream in streams:
            seen = []
            while not any(isinstance(event, kinds.OutputReady) for event in seen):
                seen.append(next(stream))
            assert seen[0] == kinds.StatusChange("running")
            assert isinstance(seen[1], kinds.Progress)
            assert (seen[1].nodes_done, seen[1].nodes_total) == (1, 3)
    finally:
        job.cancel()
    for stream in streams:
        assert list(stream)[-1] == kinds.StatusChange("canceled")
    assert job.wait(timeout=30).status == "canceled"
    assert job.cancel().status == "canceled"


def test_readers_see_that_a_job_is_being_cancelled(client):
    job = client.submit(client.workflows.from_json(slow(60)))
    statuses = []
    for event in job.events():
        if not isinstance(event, kinds.StatusChange):
            continue
        if event.status == "running" and "running" not in statuses:
            assert job.cancel().status in ("canceling", "canceled")
        statuses.append(event.status)
    assert [*dict.fromkeys(statuses)][-3:] == ["running", "canceling", "canceled"]


def test_jobs_wait_in_order_and_can_be_cancelled_in_the_queue(client):
    first = client.submit(client.workflows.from_json(slow(60)))
    try:
        second, third = (client.submit(client.workflows.from_json(picture())) for _ in range(2))
        until(lambda: first.refresh().status == "running")
        places = [client.jobs.get(job.id)._model.queue_position for job in (first, second, third)]
        assert places == [None, 1, 2]
        assert next(third.events()) == kinds.StatusChange("queued", 2)
        assert second.cancel().status == "canceled"
        assert client.jobs.get(third.id)._model.queue_position == 1
        with pytest.raises(JobFailed, match="canceled"):
            second.result()
    finally:
        first.cancel()
    assert third.wait(timeout=30).status == "succeeded"


def test_a_failed_node_is_named(client):
    failing = {"class_type": "TestFail", "inputs": {"message": "failed on purpose"}}
    graph = {"1": failing, "2": picture()["3"]}
    graph["2"]["inputs"]["anything"] = ["1", 0]
    job = client.submit(client.workflows.from_json(graph))
    for moment in ("whether it has failed yet or not", "after its end"):
        events = list(job.events())
        found = [(log.level, log.message) for log in events if isinstance(log, kinds.Log)]
        assert found == [("error", "failed on purpose")], moment
        progress = [event for event in events if isinstance(event, kinds.Progress)][-1]
        assert (progress.nodes_done, progress.nodes_total) == (0, 2), moment
        assert progress.value < 0.5, moment
    with pytest.raises(JobFailed) as failed:
        job.result()
    error = failed.value.error
    assert (error.code, error.node_id, error.class_type, error.message) == (
        *("node_execution_error", "1", "TestFail", "failed on purpose"),
    )
    assert "raise ValueError(message)" in (error.traceback or "")


def test_jobs_are_listed_by_their_labels(client, jupyter):
    label = uuid.uuid4().hex
    jobs = [
        client.submit(
            client.workflows.from_json(picture()), metadata={"set": label, "shot": str(n)}
        )
        for n in range(5)
    ]
    for job in jobs:
        job.result()
    listed = list(client.list_jobs(metadata={"set": label}, limit=2))
    assert [item.id for item in listed] == [job.id for job in jobs[::-1]]
    assert {item.status for item in listed} == {"succeeded"}
    assert [item.metadata["shot"] for item in listed] == ["4", "3", "2", "1", "0"]
    assert all(item.create_time is not None and item.update_time is not None for item in listed)
    (one,) = client.list_jobs(metadata={"set": label, "shot": "3"})
    assert one.id == jobs[3].id
    assert jobs[3].metadata == {"set": label, "shot": "3"}
    known = {run["prompt_id"]: run for run in jupyter.get("runs")[1]}
    assert known[jobs[3].id]["metadata"] == jobs[3].metadata
    many = {f"n{n}": "" for n in range(17)}
    with pytest.raises(ComfyError) as refused:
        client.submit(client.workflows.from_json(picture()), metadata=many)
    assert (refused.value.code, refused.value.http_status) == ("metadata_invalid", 422)
    with pytest.raises(ComfyError) as refused:
        list(client.list_jobs(metadata={"n" * 65: ""}))
    assert refused.value.code == "invalid_metadata_filter"


def test_jobs_of_a_batch_have_its_labels(client, jupyter):
    label, body = uuid.uuid4().hex, {"workflow_api": picture()}
    body |= {"labels": {"set": label}, "inputs": {"3.text": {"$vary": ["a", "b", "c"]}}}
    batch_id = jupyter.post("batch", body)[1]["batch_id"]
    until(lambda: jupyter.get(f"batch/{batch_id}")[1]["finished_at"])
    runs = [point["prompt_id"] for point in jupyter.get(f"batch/{batch_id}/points")[1]["points"]]
    jobs = list(client.list_jobs(metadata={"set": label}))
    assert {item.id for item in jobs} == {*runs}
    assert [item.metadata for item in jobs] == [{"set": label}] * 3
    labels = {"labels": {"set": f"{label}-2"}}
    assert jupyter.call("PATCH", f"batch/{batch_id}", json=labels)[0] == 200
    assert list(client.list_jobs(metadata={"set": label})) == []
    assert len(list(client.list_jobs(metadata={"set": f"{label}-2"}))) == 3


def test_assets(client, tmp_path, comfyui):
    path = tmp_path / f"{uuid.uuid4().hex}.png"  # ComfyUI may have files of other tests
    Image.new("RGB", (24, 16), (int.from_bytes(os.urandom(1)), 9, 9)).save(path)
    asset = client.assets.from_file(path)
    asset_id = asset.commit()
    assert asset.created_new is True
    same = client.assets.from_bytes(path.read_bytes(), filename="other.png")
    assert same.commit() != asset_id
    assert (same.created_new, same.hash) == (False, asset.hash)
    assert client.assets.get(asset_id).hash == asset.hash
    graph = bodies.picture()
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": asset}}
    (output,) = client.run(client.workflows.from_json(graph)).outputs
    assert size_of(output.to_file(tmp_path / "out.png")) == (24, 16)
    graph["1"]["inputs"]["image"] = client.assets.get(output.id)  # an output as an input
    (again,) = client.run(client.workflows.from_json(graph)).outputs
    assert size_of(again.to_file(tmp_path / "again.png")) == (24, 16)
    assert asset.get_download_url().expires_at is None
    asset.delete()
    with pytest.raises(NotFound):
        client.assets.get(asset_id)
    assert client.assets.get(same.id or "").hash == same.hash
    same.delete()
    assert not list(comfyui.input_dir.glob(f"{path.stem}*"))


def test_the_specification_and_the_clients_models_have_the_same_fields(client, jupyter):
    """The specification of this server and that of the client name the same fields."""
    schemas = jupyter.get("openapi.json")[1]["components"]["schemas"]
    for name, model in (
        ("AssetReply", Asset),
        ("JobOutput", Output),
        ("JobProgress", Progress),
        ("JobWorkflow", JobWorkflowResponse),
    ):
        assert set(schemas[name]["properties"]) == set(model.model_fields), name
