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


def test_outputs_of_a_run_are_counted_from_zero(comfy):
    run = comfy.submit(slow(0))
    assert run.images[3] == RunOutput(run.prompt_id, "images[3]")
    assert repr(run.texts) == f"<texts of the run {run.prompt_id}>"
    with pytest.raises(IndexError, match="count from the first one"):
        run.images[-1]
    with pytest.raises(TypeError, match="known at the end of the run"):
        list(run.images)
