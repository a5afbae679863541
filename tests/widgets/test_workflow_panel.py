"""WorkflowPanel without a page: the state of its widgets, with a real server."""

from __future__ import annotations

import json
import threading
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

    from comfydeploy_jupyter import RunPanel
    from comfydeploy_jupyter.client import Comfy


GRAPH = {"1": {**paper(), "_meta": {"title": "<b>Sky</b>"}}, "2": shown("1")}
SAVE, EXPORT, RUN = 2, 3, 4


def changed(**inputs: Any) -> dict[str, Any]:
    """Return the graph with other inputs of its first node."""
    graph = json.loads(json.dumps(GRAPH))
    graph["1"]["inputs"].update(inputs)
    return graph


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[WorkflowPanel], WorkflowPanel], tmp_path: Path
) -> Callable[..., WorkflowPanel]:
    """A function that makes a panel, and waits until it shows its workflow."""

    def make(*args: Any, **kwargs: Any) -> WorkflowPanel:
        panel = opened(WorkflowPanel(*args, comfy=comfy, directory=tmp_path, **kwargs))
        panel.wait(60)
        assert panel.error == ""
        return panel

    return make


def open_run_tab(panel: WorkflowPanel) -> RunPanel:
    """Open the tab in which the workflow is run, and wait for its form."""
    panel._tabs.selected_index = RUN
    until(lambda: panel._run_panel is not None and panel._run_panel.ready)
    return panel._run_panel


@pytest.fixture
def kept(comfy: Comfy) -> str:
    """The id of a workflow with two versions."""
    name = f"kept {uuid.uuid4().hex}"
    first = comfy.workflows.save(GRAPH, name, comment="as it came")
    comfy.workflows.save(changed(width=128), workflow_id=first.id, comment="wider")
    return first.id


def test_search_by_name_and_comment_then_choose(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, kept: str
) -> None:
    name = comfy.workflows.get(kept).name
    panel = panel_of()
    until(lambda: name in panel.workflows)
    panel.search("no workflow has this")
    until(lambda: panel.workflows == [])
    panel.search(name.upper())
    until(lambda: panel.workflows == [name])
    panel._list.list.value = kept
    panel.wait(60)
    assert (panel.version, panel.versions) == (2, [2, 1])
    labels = [label for label, _ in panel._version_box.options]
    assert labels[0].endswith(" · wider")
    assert labels[1].startswith("v1 · 20")
    panel._version_box.value = 1
    until(lambda: panel.version == 1)
    assert panel.workflow["1"].width == 64


def test_the_last_choice_is_shown(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, kept: str
) -> None:
    other = comfy.workflows.save(changed(width=32), f"other {uuid.uuid4().hex}").id
    panel = panel_of(workflow_id=kept)
    for _ in range(5):
        panel.open_workflow(kept)
        panel.open_workflow(other)
    until(lambda: not [t for t in panel._threads if t.is_alive()])
    assert panel.workflow["1"].width == 32


def test_versions_are_compared_in_words(panel_of: Callable[..., WorkflowPanel], kept: str) -> None:
    panel = panel_of(workflow_id=kept)
    until(lambda: "width 64 → 128" in panel._changes._list.value)
    assert "&lt;b&gt;Sky&lt;/b&gt;" in panel._changes._list.value
    panel._changes.old.value = 2
    until(lambda: "No differences" in panel._changes._list.value)


def test_findings_are_next_to_their_node(panel_of: Callable[..., WorkflowPanel]) -> None:
    graph = changed(width=-5)
    graph["3"] = {"class_type": "NoSuchClass", "inputs": {}}
    graph["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    panel = panel_of(changed(width=-5))
    panel.validate()
    until(lambda: "refuse" in panel._nodes._verdict.value)
    table = panel._nodes._table.value
    bad = table.index("mod-bad")
    assert "Value -5 smaller than min" in table[bad : table.index("</tr>", bad)]
    assert "&lt;b&gt;Sky&lt;/b&gt;" in table
    panel.open_file(graph)
    until(lambda: len(panel.workflow) == 4)
    panel.validate()
    until(lambda: panel._nodes._table.value.count("mod-bad") >= 2)
    first, second = panel._nodes._table.value.split("<tbody>")[1].split("</tr>")[:2]
    assert "Value -5 smaller than min" in first
    assert "ComfyUI has no node class NoSuchClass" in second
    panel.open_file(GRAPH)
    until(lambda: len(panel.workflow) == 2)
    panel.validate()
    until(lambda: "ComfyUI would run this workflow" in panel._nodes._verdict.value)
    assert panel.error == ""


def test_a_new_workflow_and_a_new_version_with_the_values_changed_under_run(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy
) -> None:
    name = f"new {uuid.uuid4().hex}"
    panel = panel_of(GRAPH)
    assert (panel.version, panel._save.target.value) == (None, "")
    with pytest.raises(InvalidRequestError, match="Name: a new workflow needs a name"):
        panel.save("first", " ")
    panel.save("first", name)
    until(lambda: panel.version == 1)
    assert name in panel.workflows
    until(lambda: "Saved as version 1" in panel._save.state.value)
    open_run_tab(panel)
    panel._run_panel.set_input("1.width", 96)
    panel.save("wider")
    until(lambda: "Saved as version 2" in panel._save.state.value)
    assert panel.version == 2
    (stored,) = comfy.workflows.list(name)
    version = stored.version()
    assert (version.comment, version.graph["1"]["inputs"]["width"]) == ("wider", 96)
    assert panel.workflow["1"].width == 96
    panel.save("again")
    until(lambda: "Nothing has changed" in panel._save.state.value)
    panel._save.force.value = True
    panel.save("again")
    until(lambda: panel.version == 3)


def test_what_was_typed_stays_when_the_open_workflow_is_renamed_tagged_or_deleted(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, kept: str
) -> None:
    panel = panel_of(workflow_id=kept)
    panel._version_box.value = 1
    until(lambda: panel.version == 1)
    open_run_tab(panel)
    panel._run_panel.set_input("1.height", 96)
    panel._save.comment.value = "half"
    name = f"new {uuid.uuid4().hex}"
    page = panel._list.list._handle_custom_msg
    for message, state in (
        ({"kind": "rename", "id": kept, "name": name}, "version 1 of 2"),
        ({"kind": "tag", "id": kept, "tags": ["mine"]}, "version 1 of 2"),
        ({"kind": "delete", "id": kept}, "not stored yet"),
    ):
        page(message, [])
        panel.wait(30)
        assert panel.error == ""
        assert name in panel._head.value
        assert state in panel._head.value
        assert (panel.workflow.title, panel._save.name.value) == (name, name)
        assert panel._run_panel.inputs == {"1.height": 96}
        assert panel._save.comment.value == "half"
    assert (panel.version, panel.versions, panel._save.target.value) == (None, [], "")
    panel.save("half")
    until(lambda: "Saved as version 1" in panel._save.state.value or panel.error)
    (stored,) = comfy.workflows.list(name)
    saved = stored.version().graph["1"]["inputs"]
    assert (saved["width"], saved["height"]) == (64, 96)


def test_a_workflow_with_an_empty_input_is_validated_saved_and_exported(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, tmp_path: Path
) -> None:
    photo = {"input_id": "photo", "display_name": "Photo"}
    graph = {
        "1": node("ComfyUIDeployExternalImage", **photo),
        "2": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=2.0),
        "3": shown("2"),
    }
    name = f"empty {uuid.uuid4().hex}"
    panel = panel_of(graph)
    open_run_tab(panel)
    with pytest.raises(InvalidRequestError, match="Photo: must have a value"):
        panel._run_panel.run()
    panel._run_panel.set_input("2.scale_by", 3.0)
    panel.validate()
    until(lambda: panel._nodes._verdict.value or panel.error)
    panel.export("out.json")
    until(lambda: "Written" in panel._export.state.value or panel.error)
    written = json.loads((tmp_path / "out.json").read_text())
    panel.save(name=name)
    until(lambda: panel.version == 1 or panel.error)
    assert panel.error == ""
    (stored,) = comfy.workflows.list(name)
    for saved in (written, stored.version().graph):
        assert saved["1"]["inputs"] == photo
        assert saved["2"]["inputs"]["scale_by"] == 3.0


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
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy
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
    panel._export.format.value = "ui"
    panel.export("out.json")
    until(lambda: "Written" in panel._export.state.value)
    written = json.loads((panel._directory / "out.json").read_text())
    assert written["extra"] == {"note": "mine"}


def test_export_in_each_format(panel_of: Callable[..., WorkflowPanel], tmp_path: Path) -> None:
    panel = panel_of(GRAPH)
    sent: list[Any] = []
    panel._export.download.send_file = lambda *file: sent.append(file)
    for kind, name, mark in (
        ("api", "workflow.api.json", '"class_type": "EmptyImage"'),
        ("ui", "workflow.json", '"widgets_values"'),
        ("notebook", "workflow.ipynb", '"nbformat"'),
        ("python", "workflow.py", "import comfydeploy_jupyter"),
    ):
        panel._export.format.value = kind
        assert panel._export.path.value == name
        panel.export(name)
        panel.wait(60)
        assert mark in (tmp_path / name).read_text()
        panel._export.download._handle_custom_msg({"type": "wanted"}, [])
        panel.wait(60)
        assert sent[-1][0] == name
        assert mark in sent[-1][1].decode()


def test_no_file_is_replaced_without_a_question(
    panel_of: Callable[..., WorkflowPanel], tmp_path: Path
) -> None:
    (tmp_path / "mine.json").write_text("mine")
    panel = panel_of(GRAPH)
    panel.export("mine.json")
    until(lambda: "mine.json exists already" in panel.error)
    assert (tmp_path / "mine.json").read_text() == "mine"
    panel._export.replace.value = True
    panel.export("mine.json")
    until(lambda: (tmp_path / "mine.json").read_text() != "mine")
    assert panel.error == ""


def test_a_value_that_is_not_a_workflow_is_reported(panel_of: Callable[..., WorkflowPanel]) -> None:
    panel = panel_of()
    panel.open_file(b"{ no json")
    until(lambda: "is not JSON" in panel.error)
    panel.open_workflow("none")
    until(lambda: "none" in panel.error)


def test_its_plain_form_is_the_graph(panel_of: Callable[..., WorkflowPanel], kept: str) -> None:
    panel = panel_of(workflow_id=kept)
    until(lambda: "version 2" in panel._record.plain_text)
    assert "<b>Sky</b>    EmptyImage    1   width=128" in panel._record.plain_text
    assert "&lt;b&gt;Sky&lt;/b&gt;" in panel._record._html


def test_the_run_tab_opened_while_a_version_is_shown_is_made_once(
    panel_of: Callable[..., WorkflowPanel], kept: str
) -> None:
    panel = panel_of(workflow_id=kept)
    # the user clicks on the tab as soon as the title of the version is there
    panel._head.observe(lambda _: panel.start(setattr, panel._tabs, "selected_index", RUN), "value")
    for number in (1, 2) * 5:
        panel._tabs.selected_index = 0
        panel._version_box.value = number
        panel.wait(30)
        assert panel.version == number
        shown = panel._run_panel.workflow or panel.workflow
        assert shown.to_api() == panel.workflow.to_api()
    panel.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("comfydeploy")]
