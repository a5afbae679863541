"""Outputs of runs as inputs of others, in Python, with a real Jupyter server and ComfyUI."""

import pytest

from comfydeploy_jupyter.client import Comfy, RunOutput
from comfydeploy_jupyter.errors import InvalidRequestError, RunCancelledError, RunFailedError
from tests.helpers.processes import REPOSITORY

from .test_real import SUNSET, slow

ENLARGE = REPOSITORY / "notebooks" / "enlarge.json"
SMALL = {"Width.value": 64, "Height.value": 32}


@pytest.fixture
def comfy(jupyter):
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


@pytest.mark.thorough
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
    points = comfy.map(ENLARGE, [first, [second.wait(60)]], inputs={"scale_by": 3}, **options)
    sizes = [point.wait(60).images[0].size for point in points]
    assert sizes == [(24, 12), (24, 12), (192, 96)]
    assert points[0].run.record["metadata"] == {"part": "map"}
    first.result.save(tmp_path)
    (tmp_path / "note.txt").write_text("no picture")
    assert len(comfy.map(ENLARGE, tmp_path, input="Picture.image")) == 4  # with two previews
    empty = comfy.map(ENLARGE, [], input="image").wait(30)
    assert (empty.status, list(empty), empty.counts) == ("done", [], {"total": 0})
    values = {"Width.value": [48, 96], "Height.value": [32]}
    sweep = comfy.sweep(SUNSET, values, wait=False, save=False)
    points = comfy.map(ENLARGE, sweep, input="Picture.image")
    assert [point.wait(60).images[0].size for point in points] == [(96, 64), (192, 64)]
    again = comfy.map(ENLARGE, [sweep[1], sweep[0].result.files[0]], input="Picture.image")
    assert [point.wait(60).images[0].size for point in again] == [(192, 64), (96, 64)]
    pairs = {"Picture.image": sweep, "scale_by": [1, 0.5]}
    points = comfy.map(ENLARGE, pairs)
    assert [point.wait(60).images[0].size for point in points] == [(48, 32), (48, 16)]
    scales = {"scale_by": {"$vary": [1, 0.5]}}
    for over, options in ((sweep, {}), (pairs, {"input": "image"}), (pairs, {"inputs": scales})):
        with pytest.raises(InvalidRequestError, match=r"is needed unless|is given twice"):
            comfy.map(ENLARGE, over, **options)
    with pytest.raises(InvalidRequestError, match="over: must be runs"):
        comfy.map(ENLARGE, 7, input="image")
    with pytest.raises(TypeError, match="a sweep has no option 'front'"):
        comfy.map(ENLARGE, sweep, input="image", front=True)


def test_nothing_is_waited_for_until_it_is_needed(comfy):
    nap = comfy.submit(slow(30))
    text = {"1": {"class_type": "TestText", "inputs": {"text": "?"}}}
    over = comfy.map(text, nap.texts, input="text")
    further = comfy.map(text, over, input="1.text", cancel_with=True)
    assert (over.status, over.record["waiting_for"]) == ("running", [nap.prompt_id])
    assert further.record["waiting_for"] == [over.id]
    assert f"Waiting for outputs of {nap.prompt_id}" in repr(over)
    assert (over.counts, over.progress.fraction, over.progress.time_left) == ({"total": 0}, 0, None)
    waiting = comfy.sweep(slow(30), {"2.text": list("abc")}, save=False, wait=False)
    with pytest.raises(InvalidRequestError, match=r"over: .* has no run yet"):
        comfy.map(text, waiting[2], input="text")
    waiting.stop()
    stored = comfy.workflows.save(text, "Say").id
    listed = [nap.texts, "plain"]
    mixed = comfy.map(None, listed, input="text", workflow_id=stored, labels={"by": "map"})
    assert (mixed.record["workflow_id"], mixed.labels) == (stored, {"by": "map"})
    nap.cancel()
    assert mixed[1].wait(60).texts == ["plain"]
    with pytest.raises(RunFailedError, match=f"the run '{nap.prompt_id}' was cancelled"):
        over[0].wait(30)
    assert further.wait(30).counts == {"total": 0}


def test_outputs_of_a_run_are_counted_from_zero(comfy):
    run = comfy.submit(slow(0))
    assert run.images[3] == RunOutput(run.prompt_id, "images[3]")
    assert repr(run.texts) == f"<texts of the run {run.prompt_id}>"
    with pytest.raises(IndexError, match="count from the first one"):
        run.images[-1]
    with pytest.raises(TypeError, match="known at the end of the run"):
        list(run.images)
