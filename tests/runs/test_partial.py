"""Runs of which only some outputs are executed, and the method of previews."""

import uuid

import pytest

from comfydeploy_jupyter.graphs.versions import has_partial_execution
from tests.helpers.waiting import until_async


@pytest.fixture
def extension_config(newer, tmp_path):
    return {"comfyui_url": newer.url, "data_dir": str(tmp_path / "data")}


def graph():
    """Two outputs that share node 1, and one that shares nothing."""
    token = uuid.uuid4().hex
    sleep = {"class_type": "TestSleep", "inputs": {"seconds": 0.01, "token": token}}
    text = {"class_type": "TestText"}
    shared = {"anything": ["1", 0], "token": token}
    return {
        "1": sleep,
        "2": {**text, "inputs": {"text": "two", **shared}},
        "3": {**text, "inputs": {"text": "three", **shared}},
        "4": {**text, "inputs": {"text": "four", "token": token}},
    }


async def test_only_these_outputs_are_executed(api, newer):
    for outputs in (["2"], ["3", "4"], ["4"]):
        code, body = await api.post("run", {"workflow_api": graph(), "outputs": outputs})
        assert (code, sorted(body["outputs"])) == (200, outputs)
        assert newer.prompts[-1]["partial_execution_targets"] == outputs
        assert set(newer.prompts[-1]["prompt"]) == {"1", "2", "3", "4"}
    await api.post("run", {"workflow_api": graph(), "preview_method": "latent2rgb"})
    assert newer.prompts[-1]["extra_data"]["preview_method"] == "latent2rgb"
    await api.post("run", {"workflow_api": graph()})
    assert "preview_method" not in newer.prompts[-1]["extra_data"]


async def test_an_older_comfyui_gets_only_the_needed_nodes(api, newer, extension):
    newer.version = "0.3.40"
    newer.drop_sockets()
    await api.get("check-status")
    machine = extension.services.machines.get(None)
    await until_async(machine.known_version, lambda version: version == "0.3.40")
    code, body = await api.post("run", {"workflow_api": graph(), "outputs": ["2"]})
    assert (code, sorted(body["outputs"])) == (200, ["2"])
    assert set(newer.prompts[-1]["prompt"]) == {"1", "2"}
    assert "partial_execution_targets" not in newer.prompts[-1]


async def test_invalid_outputs_are_refused(api, newer):
    before = len(newer.prompts)
    for outputs in (["5"], ["2", "22"], [], [2], "2", [""]):
        code, body = await api.post("run", {"workflow_api": graph(), "outputs": outputs})
        assert (code, body["details"]["field"]) == (400, "outputs"), outputs
    assert len(newer.prompts) == before
    code, body = await api.post("run", {"workflow_api": graph(), "outputs": ["1"]})
    assert (code, body["code"], body["details"]["type"]) == (
        400,
        "prompt_invalid",
        "prompt_no_outputs",
    )
    code, body = await api.post("run", {"workflow_api": graph(), "preview_method": "best"})
    assert (code, body["details"]["field"]) == (400, "preview_method")
    # a link to nothing is refused if ComfyUI would follow it
    broken = graph()
    broken["2"]["inputs"]["unchecked"] = ["77", 0]
    before = len(newer.prompts)
    code, body = await api.post("run", {"workflow_api": broken})
    details = body["details"]
    assert (code, details["field"], details["node_id"]) == (400, "workflow_api", "2")
    assert "'77' in 'unchecked', which does not exist" in body["message"]
    assert len(newer.prompts) == before
    code, body = await api.post("run", {"workflow_api": broken, "outputs": ["4"]})
    assert (code, sorted(body["outputs"])) == (200, ["4"])


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        *(("0.3.48", True), ("v0.33.0", True), ("0.4", True), ("1.0.0rc1", True)),
        *(("0.3.47", False), ("", False), (None, False), ("unknown", False)),
    ],
)
def test_versions_that_accept_outputs(version, expected):
    assert has_partial_execution(version) is expected
