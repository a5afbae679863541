"""WorkflowPanel without a page, with a real server."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from comfydeploy_jupyter import WorkflowPanel
from comfydeploy_jupyter.errors import InvalidRequestError
from tests.helpers.graphs import node, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from comfydeploy_jupyter.client import Comfy


GRAPH = {"1": {**paper(), "_meta": {"title": "<b>Sky</b>"}}, "2": shown("1")}


def changed(**inputs: Any) -> dict[str, Any]:
    """Return the graph with other inputs of its first node."""
    graph = json.loads(json.dumps(GRAPH))
    graph["1"]["inputs"].update(inputs)
    return graph


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[WorkflowPanel], WorkflowPanel], tmp_path: Path
) -> Callable[..., WorkflowPanel]:
    """A function that makes a panel, and waits until it has its workflow."""

    def make(*args: Any, **kwargs: Any) -> WorkflowPanel:
        panel = opened(WorkflowPanel(*args, comfy=comfy, directory=tmp_path, **kwargs))
        panel.wait(60)
        assert panel.error == ""
        return panel

    return make


@pytest.fixture
def kept(comfy: Comfy) -> str:
    """The id of a workflow with two versions."""
    first = comfy.workflows.save(GRAPH, f"kept {uuid.uuid4().hex}", comment="as it came")
    comfy.workflows.save(changed(width=128), workflow_id=first.id, comment="wider")
    return first.id


def test_stored_workflows_are_listed_and_opened(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, kept: str
) -> None:
    name = comfy.workflows.get(kept).name
    panel = panel_of()
    assert panel.workflow is None
    assert panel.versions == []
    assert name in panel.workflows
    assert name in panel._output.plain_text
    panel.search(name.upper())
    assert panel.workflows == [name]
    panel.open_workflow(kept)
    panel.wait(60)
    assert (panel.version, panel.versions, panel.title) == (2, [2, 1], name)
    assert panel.workflow["1"].width == 128
    assert "<b>Sky</b>    EmptyImage    1   width=128" in panel._output.plain_text
    assert "&lt;b&gt;Sky&lt;/b&gt;" in panel._output._html
    other = comfy.workflows.save(changed(width=32), f"other {uuid.uuid4().hex}").id
    for _ in range(5):
        panel.open_workflow(other)
        panel.open_workflow(kept, 1)
    panel.wait(60)
    assert (panel.workflow_id, panel.version, panel.workflow["1"].width) == (kept, 1, 64)


def test_a_page_sees_changes_and_its_own_are_read(
    panel_of: Callable[..., WorkflowPanel], kept: str
) -> None:
    panel = panel_of(workflow_id=kept)
    assert panel.source == {}
    panel.workflow["1"].color = 2**64 - 1
    assert json.loads(panel.source["workflow_api"])["1"]["inputs"]["color"] == 2**64 - 1
    assert panel.workflow["1"].color == 2**64 - 1
    # as the page does
    panel.set_state({"version": 1, "source": {}})
    assert (panel.workflow["1"].width, panel.workflow["1"].color) == (64, 0)
    asked = []
    other = panel_of(GRAPH, run=asked.append)
    assert other.runs_elsewhere
    other.set_state({"run_requests": 1})
    until(lambda: asked == [other.workflow])
    panel.run()
    assert panel.tab == "Run"


def test_a_workflow_is_validated(panel_of: Callable[..., WorkflowPanel]) -> None:
    panel = panel_of(changed(width=-5))
    panel.validate()
    until(lambda: panel.validation is not None)
    assert "Value -5 smaller than min" in panel.validation["by_node"]["1"][0]
    panel.open_file(GRAPH)
    panel.wait(60)
    assert panel.validation is None
    panel.validate()
    until(lambda: panel.validation is not None)
    assert panel.validation["valid"] is True


def test_a_new_workflow_and_a_new_version_with_the_values_changed_under_run(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy
) -> None:
    name = f"new {uuid.uuid4().hex}"
    panel = panel_of(GRAPH)
    with pytest.raises(InvalidRequestError, match="name: a new workflow needs a name"):
        panel.save("first", " ")
    panel.save("first", name)
    until(lambda: panel.version == 1)
    panel.values = {"1.width": "96", "1.height": "nonsense"}
    panel.save("wider")
    until(lambda: panel.version == 2)
    (stored,) = comfy.workflows.list(name)
    version = stored.version()
    assert (version.comment, version.graph["1"]["inputs"]["width"]) == ("wider", 96)
    assert version.graph["1"]["inputs"]["height"] == GRAPH["1"]["inputs"]["height"]
    assert panel.workflow["1"].width == 96
    panel.save("again")
    panel.wait(60)
    assert (panel.version, panel.error) == (2, "")
    panel.save("again", force=True)
    until(lambda: panel.version == 3)


def test_a_picture_that_was_set_is_uploaded_before_the_workflow_is_kept(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy
) -> None:
    name = f"picture {uuid.uuid4().hex}"
    panel = panel_of({"1": node("LoadImage", image="there.png"), "2": shown("1")})
    panel.workflow["1"].image = Image.new("RGB", (6, 4), "red")
    panel.save(name=name)
    until(lambda: panel.error or panel.version == 1)
    assert panel.error == ""
    (kept,) = comfy.workflows.list(name)
    assert kept.version().graph["1"]["inputs"]["image"].startswith("upload-")


def test_the_editors_format_is_kept_as_it_was(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, tmp_path: Path
) -> None:
    ui = comfy.load(GRAPH).to_ui()
    ui["extra"] = {"note": "mine"}
    panel = panel_of(ui)
    assert panel.workflow["1"].width == 64
    name = f"ui {uuid.uuid4().hex}"
    panel.save("", name)
    until(lambda: panel.version == 1)
    (stored,) = comfy.workflows.list(name)
    assert stored.version().workflow["extra"] == {"note": "mine"}
    assert stored.version().workflow_api["1"]["inputs"]["width"] == 64
    panel.format = "ui"
    panel.export("out.json")
    panel.wait(60)
    assert json.loads((tmp_path / "out.json").read_text())["extra"] == {"note": "mine"}


def test_export_in_each_format_replaces_nothing_without_a_question(
    panel_of: Callable[..., WorkflowPanel], tmp_path: Path
) -> None:
    panel = panel_of(GRAPH)
    for kind, mark in (
        ("api", '"class_type": "EmptyImage"'),
        ("ui", '"widgets_values"'),
        ("notebook", '"nbformat"'),
        ("python", "import comfydeploy_jupyter"),
    ):
        panel.format = kind
        panel.export(f"out.{kind}")
        panel.wait(60)
        assert mark in (tmp_path / f"out.{kind}").read_text()
    panel.export("out.api")
    panel.wait(60)
    assert "out.api exists already" in panel.error
    assert '"class_type"' in (tmp_path / "out.api").read_text()
    panel.export("out.api", replace=True)
    panel.wait(60)
    assert panel.error == ""
    assert "import comfydeploy_jupyter" in (tmp_path / "out.api").read_text()


def test_a_value_that_is_not_a_workflow_is_reported(panel_of: Callable[..., WorkflowPanel]) -> None:
    panel = panel_of()
    panel.open_file(b"{ no json")
    until(lambda: "is not JSON" in panel.error)
    panel.open_workflow("none")
    until(lambda: "none" in panel.error)
