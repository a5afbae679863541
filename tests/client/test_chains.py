"""Outputs of runs as inputs of others, in Python, with a real Jupyter server and ComfyUI."""

from __future__ import annotations

import pytest

from comfydeploy_jupyter.client import Comfy, RunOutput
from comfydeploy_jupyter.errors import InvalidRequestError, RunCancelledError, RunFailedError
from tests.helpers.processes import REPOSITORY

from .test_real import SUNSET, slow

ENLARGE = REPOSITORY / "notebooks" / "enlarge.json"
SMALL = {"Width.value": 64, "Height.value": 32}


@pytest.fixture
def comfy(jupyter) -> Comfy:
    return Comfy(jupyter.url, jupyter.token)


def test_a_run_its_outputs_and_its_result_are_inputs(comfy):
    sunset = comfy.submit(SUNSET, SMALL)
    assert comfy.run(ENLARGE, {"image": sunset}).images[0].size == (128, 64)
    result = sunset.wait(60)
    (file,) = result.files
    node = f"{file.node_id}.images[0]"
    for value in (result, file, sunset.images[0], sunset.files[0], sunset.output(node)):
        assert comfy.run(ENLARGE, {"Picture.image": value}).images[0].size == (128, 64)
    workflow = comfy.load(ENLARGE)
    workflow["Picture"].image = comfy.submit(SUNSET, SMALL)
    assert comfy.run(workflow, {"scale_by": 3}).images[0].size == (192, 96)


def test_the_handle_says_what_it_waits_for(comfy):
    nap = comfy.submit(slow(30))
    text = {"1": {"class_type": "TestText", "inputs": {"text": "?"}}}
    second = comfy.submit(text, {"text": nap.texts[0]}, cancel_with=True)
    third = comfy.submit(text, {"text": nap})
    assert second.status == "not-started"
    assert second.record["waiting_for"] == [nap.prompt_id]
    waits = f"not-started, waiting for the run {nap.prompt_id}, whose output it needs"
    assert repr(second) == f"<Run {second.prompt_id}: {waits}>"
    assert waits in second._repr_html_()
    nap.cancel()
    with pytest.raises(RunCancelledError):
        second.wait(30)
    with pytest.raises(RunFailedError, match=f"the run {nap.prompt_id}, whose output it needs"):
        third.wait(30)
    with pytest.raises(InvalidRequestError, match=r"inputs\.text: the run .* was cancelled"):
        comfy.run(text, {"text": nap})


def test_each_picture_of_runs_sweeps_and_folders_goes_into_the_next_workflow(comfy, tmp_path):
    size = {"width": 8, "height": 4, "batch_size": 2, "color": 255}
    two = {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "map"},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    first, second = comfy.submit(two), comfy.submit(SUNSET, SMALL)
    options = {"input": "image", "labels": {"part": "map"}}
    runs = comfy.map(ENLARGE, [first, [second.wait(60)]], inputs={"scale_by": 3}, **options)
    sizes = [run.wait(60).images[0].size for run in runs]
    assert sizes == [(24, 12), (24, 12), (192, 96)]
    assert runs[0].record["metadata"] == {"part": "map"}
    first.result.save(tmp_path)
    (tmp_path / "note.txt").write_text("no picture")
    assert len(comfy.map(ENLARGE, tmp_path, input="Picture.image")) == 4  # with two previews
    assert comfy.map(ENLARGE, [], input="image") == []
    values = {"Width.value": [48, 96], "Height.value": [32]}
    sweep = comfy.sweep(SUNSET, values, wait=False, save=False)
    runs = comfy.map(ENLARGE, sweep, input="Picture.image")
    assert [run.wait(60).images[0].size for run in runs] == [(96, 64), (192, 64)]
    with pytest.raises(InvalidRequestError, match="over: must be runs"):
        comfy.map(ENLARGE, 7, input="image")
    failing = {"1": {"class_type": "TestFail", "inputs": {"message": "no"}}, "2": two["2"]}
    failing["2"]["inputs"]["images"] = ["1", 0]
    with pytest.raises(RunFailedError):
        comfy.map(ENLARGE, comfy.submit(failing), input="image")


def test_outputs_of_a_run_are_counted_from_zero(comfy):
    run = comfy.submit(slow(0))
    assert run.images[3] == RunOutput(run.prompt_id, "images[3]")
    assert repr(run.texts) == f"<texts of the run {run.prompt_id}>"
    with pytest.raises(IndexError, match="count from the first one"):
        run.images[-1]
    with pytest.raises(TypeError, match="known at the end of the run"):
        list(run.images)
