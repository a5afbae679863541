"""The client with a real Jupyter server and a real ComfyUI."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid

import pytest

from comfydeploy_jupyter.client import Comfy, Workflow
from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.errors import (
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    UnauthorizedError,
    UnknownInputError,
)
from tests.helpers.comfyui import comfyui_version
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until

SUNSET = REPOSITORY / "notebooks" / "sunset.json"


def slow(seconds=30):
    return {
        "1": {
            "class_type": "TestSleep",
            "inputs": {"seconds": seconds, "token": uuid.uuid4().hex},
            "_meta": {"title": "Nap"},
        },
        "2": {"class_type": "TestText", "inputs": {"text": "awake", "anything": ["1", 0]}},
    }


def stepping(steps, delay):
    return {
        "1": {
            "class_type": "TestPreview",
            "inputs": {"steps": steps, "delay": delay, "size": 32, "token": uuid.uuid4().hex},
            "_meta": {"title": "Stepper"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


@pytest.fixture
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


def test_a_result_has_its_picture_text_and_timings(comfy, tmp_path):
    inputs = {"Width.value": 320, "2.value": 200, "Sky.color": 0x101040, "Caption.value": "hello"}
    result = comfy.run(SUNSET, inputs, seed=int(time.time()))
    assert result.status == "success"
    assert result.images[0].size == (320, 200)
    assert result.texts == ["hello"]
    assert result.node_times["29"] > 0
    assert result.execution_time > 0
    (saved,) = result.save(tmp_path)
    assert saved.read_bytes() == result.files[0].read()
    assert result.files[0].size == saved.stat().st_size
    assert "data:image/png;base64," in result._repr_html_()


def test_half_of_an_emoji_can_be_shown(comfy):
    half = "\\ud83d"
    files = f'[{{"filename": "a{half}.png", "subfolder": "", "type": "output"}}]'
    output = f'{{"text": ["b{half} c\\ud83d\\ude00"], "images": {files}}}'
    values = {"files": "{}", "output": output, "token": uuid.uuid4().hex}
    graph = {"1": {"class_type": "TestOutput", "inputs": values}}
    run = comfy.submit(graph)
    events = [event.data for event in run.events()]
    result = run.wait()
    assert (result.texts, result.files[0].filename) == (["b? c😀"], "a?.png")
    for shown in (events, repr(result.files), repr(result)):
        json.dumps(shown, ensure_ascii=False).encode()


def test_a_picture_that_was_made_can_be_changed_and_run_again(comfy, tmp_path):
    workflow = comfy.load(SUNSET)
    workflow["Height"].value = 208
    (picture,) = comfy.run(workflow).save(tmp_path)
    again = comfy.load(picture)
    assert again.to_api() == workflow.to_api()
    again["Width"].value = 96
    assert comfy.run(again, {"Caption.value": "again"}).images[0].size == (96, 208)
    assert comfy.submit(picture).wait(30).images[0].size == (640, 208)


def test_stream_has_steps_previews_and_a_last_status(comfy):
    events = list(comfy.stream(stepping(4, 0.1), previews=True))
    names = [event.event for event in events]
    assert names[0] == "queued"
    assert names[-2:] == ["result", "status"]
    assert "progress" in names
    previews = [event for event in events if event.event == "preview"]
    assert previews
    assert previews[0].image.size == (32, 32)
    assert previews[0].node == "1"


def test_submit_wait_and_find_again(comfy):
    run = comfy.submit(slow(0.3))
    assert run.result is None or run.done
    assert run.wait(20).texts == ["awake"]
    assert run.status == "success"
    again = comfy.get(run.prompt_id)
    assert again.result.texts == ["awake"]
    assert run.prompt_id in [r.prompt_id for r in comfy.runs(limit=5, status="success")]
    assert [event.event for event in again.events()][-1] == "status"


def test_runs_are_found_by_their_labels_pinned_and_deleted(comfy):
    labels = {"client": uuid.uuid4().hex}
    first = comfy.submit(slow(0), labels={**labels, "shot": "1"})
    second = comfy.submit(slow(0), labels={**labels, "shot": "2"})
    for run in (first, second):
        run.wait(timeout=60)
    (found,) = comfy.runs(labels={**labels, "shot": "1"})
    assert (found.prompt_id, found.labels) == (first.prompt_id, {**labels, "shot": "1"})
    assert len(comfy.runs(labels=labels)) == 2
    with pytest.raises(InvalidRequestError, match="metadata"):
        comfy.run(SUNSET, labels={f"label {n}": "" for n in range(10_000)})
    first.pin()
    assert first.pinned
    with pytest.raises(ConflictError, match="pinned"):
        first.delete()
    deletion = comfy.runs.delete(labels=labels, files=True)
    assert (deletion.runs, [kept.prompt_id for kept in deletion.kept]) == (1, [first.prompt_id])
    assert "1 run and" in str(deletion)
    (left,) = comfy.runs(labels=labels, pinned=True)
    left.star()
    left.note = "the best light"
    (again,) = comfy.runs(labels=labels, starred=True, search="BEST light")
    assert (again.starred, again.note, again.pinned) == (True, "the best light", True)
    comfy.runs.star([again], False)
    assert comfy.runs(labels=labels, starred=True) == []
    comfy.runs.pin([left], False)
    left.delete(files=True)
    assert comfy.runs(labels=labels) == []
    with pytest.raises(NotFoundError):
        left.delete()
    with pytest.raises(InvalidRequestError, match="prompt_ids"):
        comfy.runs.delete()
    assert comfy.runs.delete([]).runs == 0, "an empty list means no runs"


def test_a_run_has_a_story(comfy):
    run = comfy.submit(slow(0.1))
    run.wait(timeout=60)
    story = run.story()
    assert story[-1].state == "success"
    (accepted,) = (entry for entry in story if entry.cause == "accepted by ComfyUI")
    shown = f"{accepted.at} accepted by ComfyUI ({accepted.detail}) -> {accepted.state}"
    assert str(accepted) == shown


def test_cancel_running_and_queued(comfy):
    first, second, third = (comfy.submit(slow()) for _ in range(3))
    until(lambda: first.status == "running")
    assert second.status == "queued"
    assert second.cancel()
    assert first.cancel()
    until(lambda: third.status == "running")
    assert comfy.interrupt() == third.prompt_id, "without an id it takes the running one"
    for run in (first, second, third):
        with pytest.raises(RunCancelledError):
            run.wait(10)
        assert run.cancel() is False
        assert run.result.status == "cancelled"


def test_a_failing_node_is_named(comfy):
    inputs = {"message": "no more <blue>"}
    node = {"class_type": "TestFail", "inputs": inputs, "_meta": {"title": "Painter"}}
    graph = {**slow(0), "1": node}
    with pytest.raises(RunFailedError) as caught:
        comfy.run(graph)
    message = str(caught.value)
    assert '"Painter" (TestFail)' in message
    found = comfy.get(caught.value.result.prompt_id).result
    assert found.failure == message, "also without the graph"
    assert "ValueError: no more <blue>" in message
    assert "no more &lt;blue&gt;" in caught.value.result._repr_html_()


def test_refusals(comfy, jupyter):
    graph = slow(0)
    with pytest.raises(UnknownInputError, match=r"secs"):
        comfy.run(graph, {"1.secs": 3})
    graph["1"]["inputs"]["seconds"] = -1
    with pytest.raises(PromptInvalidError, match=r'node "Nap" \(TestSleep\): .*min'):
        comfy.run(graph)
    with pytest.raises(NotFoundError):
        comfy.get("no-such-run")
    with pytest.raises(UnauthorizedError):
        Comfy(jupyter.url, "wrong").status()


CHECKPOINT = {
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "nowhere.safetensors"},
        "_meta": {"title": "Load Checkpoint"},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}
MODEL = {
    "name": "nowhere.safetensors",
    "url": "https://huggingface.co/a/b/resolve/main/nowhere.safetensors",
    "directory": "checkpoints",
}
LISTED = {
    "nodes": [
        {"id": int(node_id), "type": node["class_type"], "properties": {"models": [MODEL]}}
        for node_id, node in CHECKPOINT.items()
    ],
    "links": [],
}


@pytest.mark.parametrize("inputs", [None, {"4.ckpt_name": "nowhere.safetensors"}])
@pytest.mark.parametrize(("ui", "call"), [(None, "add_model"), (LISTED, "fetch_models")])
def test_a_missing_model_is_told_with_its_download(comfy, inputs, ui, call):
    with pytest.raises((PromptInvalidError, InvalidInputError)) as caught:
        comfy.run(Workflow(comfy.server, Source(CHECKPOINT, ui=ui)), inputs, seed_mode="saved")
    assert "nowhere.safetensors is not on this ComfyUI" in caught.value.message
    assert "Load Checkpoint" in caught.value.message
    assert not re.search(r"\b4\b|\n|no choices|not in list", caught.value.message)
    assert f"; comfy.{call}(" in str(caught.value)
    assert call not in caught.value.message, "a panel shows this, and a button"
    if inputs is None:
        assert comfy.runs(1)[0].result.failure == caught.value.message


def test_a_missing_picture_or_node_class_is_told_before_the_run(comfy):
    inputs = {"image": "lost/cat.png"}
    graph = {
        "1": {"class_type": "LoadImage", "inputs": inputs, "_meta": {"title": "Photo"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    text = r"node \"Photo\" \(LoadImage\): {} is not in the {} folder of this ComfyUI$"
    with pytest.raises(PromptInvalidError, match=text.format(r"lost/cat\.png", "input")):
        comfy.run(graph)
    with pytest.raises(PromptInvalidError, match=text.format(r"dog\.png", "output")):
        comfy.run(graph, {"Photo": "dog.png [output]"})
    assert comfy.load(graph).validate().problems == [
        'node "Photo" (LoadImage): lost/cat.png is not in the input folder of this ComfyUI'
    ]
    graph = {**CHECKPOINT, "5": {"class_type": "Nowhere", "inputs": {}, "_meta": {"title": "Sky"}}}
    text = r'node "Sky" \(Nowhere\): this ComfyUI has no node class Nowhere$'
    with pytest.raises(PromptInvalidError, match=text):
        comfy.run(graph)


def test_outputs_that_comfyui_leaves_out_are_reported(comfy):
    with pytest.warns(UserWarning, match=r'did not execute.*\n- node "Clouds" \(ImageAddNoise\): '):
        result = comfy.run(SUNSET, {"Clouds.strength": 9.0}, strict_inputs=False)
    assert (len(result.texts), len(result.images)) == (1, 0)
    assert "Not executed by ComfyUI" in result._repr_html_()


def test_timeout_leaves_the_run_alone(comfy):
    with pytest.raises(RunTimeoutError) as caught:
        comfy.run(slow(1.5), timeout=0.5)
    assert comfy.get(caught.value.extra["prompt_id"]).wait(20).texts == ["awake"]


def test_files_definitions_and_versions(comfy):
    file = comfy.run(stepping(1, 0)).files[0]
    assert comfy.view(file.filename, subfolder=file.subfolder, type=file.type) == file.read()
    assert "KSampler" in comfy.object_info()
    assert comfy.version() == comfyui_version()
    assert comfy.status()["comfyui"]["reachable"] is True


def test_interrupting_the_kernel_cancels_the_run(jupyter, comfy):
    code = (
        "import json, sys; from comfydeploy_jupyter.client import Comfy\n"
        "print('ready', flush=True)\n"
        "Comfy(sys.argv[1], sys.argv[2]).run(json.loads(sys.argv[3]), prompt_id=sys.argv[4])"
    )
    prompt_id = str(uuid.uuid4())
    arguments = [jupyter.url, jupyter.token, json.dumps(slow()), prompt_id]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
    ) as process:
        until(lambda: any(run.prompt_id == prompt_id for run in comfy.runs(limit=3)))
        run = comfy.get(prompt_id)
        until(lambda: run.status == "running")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    with pytest.raises(RunCancelledError):
        run.wait(10)


def test_the_facts_of_assets_stay_with_a_run(comfy):
    place = {"filename": "none.png", "subfolder": "", "type": "output"}
    facts = {"kind": "image", "width": 640, "height": 480}
    asset = {**place, "id": "a1", "preview_id": "b2", "metadata": facts}
    hostile = {**place, "id": {"a": 1}, "preview_id": -1, "metadata": {"width": "9", "height": []}}
    output = json.dumps({"images": [asset, hostile, place]})
    graph = {"1": {"class_type": "TestOutput", "inputs": {"files": "{}", "output": output}}}
    result = comfy.run(graph)
    again = comfy.get(result.prompt_id).wait()
    for each in (result, again):
        kept = each.outputs["1"]["images"][0]
        assert {name: kept[name] for name in asset} == asset
        assert [(f.id, f.preview_id, f.width, f.height) for f in each.files] == [
            ("a1", "b2", 640, 480),
            ("", "", None, None),
            ("", "", None, None),
        ]
