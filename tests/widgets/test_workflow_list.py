"""The list of WorkflowPanel without a page: stored workflows, files and those of the editor."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from comfydeploy_jupyter import RunPanel, WorkflowPanel
from comfydeploy_jupyter.errors import NotFoundError
from tests.helpers.graphs import paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from comfydeploy_jupyter.client import Comfy

GRAPH = {"1": paper(), "2": shown("1")}


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[WorkflowPanel], WorkflowPanel], tmp_path: Path
) -> Callable[..., WorkflowPanel]:
    """A function that makes a panel, whose list is complete."""

    def make(**kwargs: Any) -> WorkflowPanel:
        panel = opened(WorkflowPanel(comfy=comfy, directory=tmp_path, **kwargs))
        panel.wait(60)
        assert panel.error == ""
        return panel

    return make


@pytest.fixture
def name() -> str:
    """A name that no other workflow has."""
    return f"listed {uuid.uuid4().hex}"


def send_message(panel: WorkflowPanel, **message: Any) -> None:
    """Do what the page does on a message of the list, and wait for it."""
    panel._list.list._receive(None, message, [])
    panel.wait(60)
    assert panel.error == ""


def groups(panel: WorkflowPanel, name: str) -> dict[str, dict[str, Any]]:
    """Return the entries with a name by their group."""
    return {each["group"]: each for each in panel._list.list.entries if name in each["name"]}


def test_rename_tag_delete_and_undo(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, name: str
) -> None:
    kept = comfy.workflows.save(GRAPH, name)
    panel = panel_of(workflow_id=kept.id)
    send_message(panel, kind="rename", id=kept.id, name=f"{name} <b>2")
    assert comfy.workflows.get(kept.id).name == f"{name} <b>2"
    assert f"{name} &lt;b&gt;2" in panel._head.value
    send_message(panel, kind="tag", id=kept.id, tags=["people", "SDXL"])
    assert groups(panel, name)["Stored"]["tags"] == ["people", "SDXL"]
    panel.search("sdxl")
    until(lambda: panel.workflows == [f"{name} <b>2"])

    send_message(panel, kind="delete", id=kept.id)
    assert panel.workflows == []
    assert panel._list.list.message["undo"] is True
    assert "not stored yet" in panel._head.value
    assert panel.workflow is not None, "what was open stays open"
    with pytest.raises(NotFoundError):
        comfy.workflows.get(kept.id)
    send_message(panel, kind="undo")
    assert panel.workflows == [f"{name} <b>2"]
    assert (panel.version, panel._list.list.value) == (1, kept.id)


def test_files_are_listed_opened_and_kept(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, tmp_path: Path, name: str
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{name}.json").write_text(json.dumps(GRAPH))
    (tmp_path / "other.json").write_text('{"no": "workflow"}')
    panel = panel_of()
    entry = groups(panel, name)["Files beside the notebook"]
    assert (entry["name"], entry["kept"]) == (f"deep/{name}.json", False)
    assert groups(panel, "other.json") == {}
    panel._list.list.value = entry["id"]
    panel.wait(60)
    assert panel.workflow["1"].width == 64
    assert panel._list.list.value == entry["id"]
    send_message(panel, kind="keep", id=entry["id"])
    (kept,) = comfy.workflows.list(name)
    assert (kept.name, panel.version) == (name, 1)
    send_message(panel, kind="undo")
    assert comfy.workflows.list(name) == []


def test_dropped_files_are_kept_and_each_that_is_not_is_named(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, name: str
) -> None:
    panel = panel_of()
    page = panel._list.list

    def drop(file: str, content: bytes, *, first: bool = False) -> list[str]:
        facts = {"kind": "piece", "id": file, "name": file, "size": len(content), "first": first}

        def send(offset: int) -> None:
            page._receive(
                None, {**facts, "offset": offset}, [memoryview(content)[offset : offset + 100]]
            )

        # JupyterLab sends the first messages to the main thread of the kernel, others to a subshell
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(send, reversed(range(0, len(content), 100))))
        panel.wait(60)
        return str(page.message["text"]).splitlines()

    (problem,) = drop("<b>.json", b"{ no json", first=True)
    assert problem.startswith("<b>.json was not stored: ")
    graph = json.dumps(comfy.load(GRAPH).to_ui()).encode()
    assert drop(f"{name}.json", graph) == [problem]
    (kept,) = comfy.workflows.list(name)
    assert kept.version().workflow is not None
    first, second = drop("c.json", b"{ no json either")
    assert first == problem
    assert second.startswith("c.json was not stored: ")
    assert page.message["problem"] is True
    drop(f"{name} again.json", graph, first=True)
    text = f"{name} again is stored on the server now."
    assert page.message == {"text": text, "undo": True, "problem": False}


def test_workflows_saved_by_the_editor_are_in_both_pickers(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, name: str
) -> None:
    address = f"{comfy.server.url}comfyui/api/userdata/workflows%2Fdeep%2F{name}.json"
    token = {"token": comfy.server.token}
    graph = comfy.load(GRAPH).to_ui()
    reply = requests.post(address, params=token, json=graph, timeout=60)
    assert reply.ok, reply.text
    panel = panel_of()
    entry = groups(panel, name)["In ComfyUI's editor"]
    assert entry["name"] == f"deep/{name}"
    panel._list.list.value = entry["id"]
    panel.wait(60)
    assert panel.workflow["1"].width == 64
    send_message(panel, kind="keep", id=entry["id"])
    assert [kept.name for kept in comfy.workflows.list(name)] == [name]

    runs = RunPanel(comfy=comfy, directory=panel._directory)
    runs.wait(60)
    title = f"deep/{name}.json"
    assert title in runs._picker.titles_of("ComfyUI's editor")
    runs._picker.pick(title)
    until(lambda: runs.workflow is not None)
    assert runs.workflow["1"].width == 64
    runs.close()
    # Other tests list the workflows of the same ComfyUI.
    assert requests.delete(address, params=token, timeout=60).ok


def test_a_kept_workflow_has_the_picture_of_its_last_result(
    panel_of: Callable[..., WorkflowPanel], comfy: Comfy, name: str
) -> None:
    kept = comfy.workflows.save(GRAPH, name)
    result = comfy.run(GRAPH, inputs={"1.color": 255}, progress=False)
    panel = panel_of()
    sent: list[dict[str, Any]] = []
    panel._list.list.send = lambda message, *_: sent.append(message)
    panel._list.list._receive(None, {"kind": "picture", "id": kept.id}, [])
    until(lambda: sent)
    assert sent == [{"kind": "picture", "id": kept.id, "query": result.files[0].query}]
