"""``comfy.workflows`` with a real Jupyter server."""

import json

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import InvalidRequestError, NoAPIKeyError, NotFoundError


def api(steps=20):
    return {"3": {"class_type": "MySampler", "inputs": {"steps": steps}}}


def ui(steps=20):
    """Return a workflow that cannot be converted to the API format: no ComfyUI has such a node."""
    return {"nodes": [{"id": 3, "type": "MySampler", "widgets_values": [steps]}], "links": []}


@pytest.fixture
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


def test_save_list_get(comfy):
    first = comfy.workflows.save(ui(), "Portrait", comment="first light", machine_id="local")
    assert (first.name, first.latest_version) == ("Portrait", 1)
    again = comfy.workflows.save(ui(), workflow_id=first.id)
    assert again.record["new_version"] is False
    second = comfy.workflows.save(ui(30), workflow_id=first.id, comment="softer")
    assert second.latest_version == 2
    other = comfy.workflows.save(ui(), "Other", workflow_api=api())
    listed = comfy.workflows.list()
    assert [workflow.id for workflow in listed[:2]] == [other.id, first.id]
    assert [w.id for w in comfy.workflows.list("SOFT")] == [first.id]
    assert [w.id for w in comfy.workflows.list(limit=1, offset=1)] == [first.id]
    found = comfy.workflows.get(first.id)
    assert (found.name, found.latest_version) == ("Portrait", 2)
    assert repr(found).startswith("<workflow 'Portrait' v2, 20")
    assert repr(found).endswith(f", id {first.id}>")
    assert comfy.url in repr(comfy.workflows)
    assert "ComfyDeploy" in repr(comfy.workflows.cloud)


def test_versions(comfy):
    workflow = comfy.workflows.save(ui(1), "w", workflow_api=api(1), comment="one")
    for steps in (2, 3):
        comfy.workflows.save(ui(steps), workflow_id=workflow.id, comment=f"step {steps}")
    versions = workflow.versions()
    assert [version.number for version in versions] == [3, 2, 1]
    assert repr(versions[0]).startswith("<version 3 'step 3', 20")
    assert [version.number for version in workflow.versions("STEP 2")] == [2]
    assert versions[2].graph == api(1)  # a list has no graphs; they are asked for
    assert (versions[1].workflow, versions[1].workflow_api) == (ui(2), None)
    assert versions[1].graph == ui(2)
    assert workflow.version().number == 3
    assert workflow.version(1).workflow == ui(1)
    assert [v.number for v in comfy.workflows.versions(workflow.id, limit=1, offset=1)] == [2]


def test_diff(comfy):
    workflow = comfy.workflows.save(ui(1), "w", workflow_api=api(1))
    comfy.workflows.save(ui(2), workflow_id=workflow.id, workflow_api=api(2))
    comfy.workflows.save(ui(3), workflow_id=workflow.id)
    comfy.workflows.save(api(4), workflow_id=workflow.id)
    assert repr(comfy.workflows.diff(workflow.id, 1, 2)) == "MySampler: steps 1 → 2"
    assert str(comfy.workflows.diff(workflow.id, 2, 3)) == "MySampler: value 1 2 → 3"
    assert str(comfy.workflows.diff(workflow.id, 1)) == "MySampler: steps 1 → 4"
    assert not comfy.workflows.diff(workflow.id, 2, 2)
    with pytest.raises(InvalidRequestError, match="versions 3 and 4"):
        comfy.workflows.diff(workflow.id, 3, 4)
    workflow = comfy.workflows.save(ui(1), "w", workflow_api=api(1))
    muted = ui(1)
    muted["nodes"][0]["mode"] = 2
    comfy.workflows.save(muted, workflow_id=workflow.id, workflow_api=api(1))
    assert str(comfy.workflows.diff(workflow.id, 1)) == "MySampler is now muted"


def test_a_file_gives_its_name(comfy, tmp_path):
    path = tmp_path / "Sun set.json"
    path.write_text(json.dumps(api()))
    assert comfy.workflows.save(path).name == "Sun set"
    assert comfy.workflows.save(str(path), "Dawn").name == "Dawn"
    with pytest.raises(InvalidRequestError, match="name: "):
        comfy.workflows.save(json.dumps(api()))
    with pytest.raises(InvalidRequestError, match="name: "):
        comfy.workflows.save(api())


def test_errors(comfy):
    with pytest.raises(NotFoundError, match="no workflow 'x'"):
        comfy.workflows.get("x")
    with pytest.raises(NotFoundError):
        comfy.workflows.save(ui(), workflow_id="x")
    with pytest.raises(InvalidRequestError, match="workflow_api: "):
        comfy.workflows.save(api(), "w", workflow_api=api())
    with pytest.raises(NoAPIKeyError):
        comfy.workflows.cloud.list()


def test_the_contract(comfy):
    stored = comfy.workflows.save(ui(), "Contract", workflow_api=api())
    contract = stored.schema()
    assert contract == stored.schema(1) == comfy.workflows.schema(stored.id)
    assert contract["inputs"]["properties"].keys() == {field.key for field in stored.load().form}
    loaded = stored.load()
    assert loaded.schema()["inputs"] == contract["inputs"]
    with pytest.raises(NotFoundError):
        comfy.workflows.schema("none")
