"""The presets of a workflow without a page, with a real server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter import RunPanel
from comfydeploy_jupyter.client import Workflow
from comfydeploy_jupyter.client.graph import Source
from tests.helpers.graphs import node
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfydeploy_jupyter.client import Comfy
    from comfydeploy_jupyter.widgets.presets_box import PresetsBox

GRAPH = {
    "1": node("TestSeed", "Dice", seed=5),
    "2": node("TestText", "Words", text="first words", anything=["1", 0]),
}


@pytest.fixture
def panel_of(comfy: Comfy, opened: Callable[[RunPanel], RunPanel]) -> Callable[..., RunPanel]:
    """A function that makes a panel and waits until its presets are shown."""

    def make(*args: Any) -> RunPanel:
        panel = opened(RunPanel(*args, comfy=comfy))
        until(lambda: presets_of(panel).shown)
        return panel

    return make


def presets_of(panel: RunPanel) -> PresetsBox:
    return panel._presets


def send(panel: RunPanel, **message: Any) -> str:
    """Send a message as the page would; return what the panel says when it has handled it."""
    presets_of(panel)._handle_custom_msg({"typed": [], **message}, [])
    panel.wait()
    return str(presets_of(panel).message.get("text", ""))


def test_values_are_named_and_chosen_again(comfy: Comfy, panel_of: Callable[..., RunPanel]) -> None:
    name = f"Presets {uuid.uuid4()}"
    stored = comfy.workflows.save(GRAPH, name)
    panel = panel_of(stored)
    typed = {"id": "a", "page": "p", "number": 1, "values": {"2.text": "<b>שלום</b> 🙂"}}
    assert send(panel, kind="save", name="Greeting", typed=[typed]) == "Saved as Greeting"
    assert stored.presets["greeting"].inputs == {"2.text": "<b>שלום</b> 🙂"}
    assert stored.presets["greeting"].locked == ["1.seed"]
    other = panel_of(name)
    assert presets_of(other).names == ["Greeting"]
    other.set_input("1.seed", 7)
    assert send(other, kind="use", name="Greeting") == ""
    assert other.inputs == {"2.text": "<b>שלום</b> 🙂"}, "in place of all changes"
    assert send(other, kind="delete", name="Greeting") == "Deleted Greeting"
    assert stored.presets.list() == []
    assert "has been deleted" in send(panel, kind="use", name="Greeting")
    assert panel.inputs == {"2.text": "<b>שלום</b> 🙂"}, "nothing is lost"


def test_a_preset_changed_in_two_panels_is_reported(
    comfy: Comfy, panel_of: Callable[..., RunPanel]
) -> None:
    stored = comfy.workflows.save(GRAPH, f"Presets {uuid.uuid4()}")
    stored.presets.save("Shared", {"2.text": "old"})
    first, second = panel_of(stored), panel_of(stored)
    for panel, text in ((first, "one"), (second, "two")):
        panel.set_input("2.text", text)
    assert send(first, kind="save", name="Shared") == "Saved as Shared"
    assert "Another panel has changed this preset" in send(second, kind="save", name="Shared")
    assert presets_of(second).message["kind"] == "conflict"
    assert stored.presets["Shared"].inputs == {"2.text": "one"}
    assert second.inputs == {"2.text": "two"}
    assert send(second, kind="save", name="Shared") == "Saved as Shared"
    assert stored.presets["Shared"].inputs == {"2.text": "two"}
    assert "Another panel has changed" in send(first, kind="delete", name="Shared")
    assert send(first, kind="use", name="Shared") == ""
    assert first.inputs == {"2.text": "two"}


def test_a_file_is_stored_with_its_first_preset(
    comfy: Comfy, panel_of: Callable[..., RunPanel]
) -> None:
    name = f"Presets {uuid.uuid4()}"
    panel = panel_of(Workflow(comfy.server, Source(GRAPH), title=name))
    assert not presets_of(panel).stored
    panel.set_input("2.text", "other words")
    assert send(panel, kind="save", name="Other") == "Saved as Other"
    (stored,) = comfy.workflows.list(name)
    assert stored.presets["Other"].inputs == {"2.text": "other words"}
    assert stored.version().workflow_api == GRAPH, "without the changes"
    assert presets_of(panel_of(Workflow(comfy.server, Source(GRAPH), title=name))).names == [
        "Other"
    ]


def test_unknown_names_and_wrong_values_are_reported(
    comfy: Comfy, panel_of: Callable[..., RunPanel]
) -> None:
    stored = comfy.workflows.save(GRAPH, f"Presets {uuid.uuid4()}")
    stored.presets.save("Old", {"2.text": "kept", "9.gone": 1})
    panel = panel_of(stored)
    assert send(panel, kind="use", name="Old") == "The workflow has no input 9.gone"
    assert panel.inputs == {"2.text": "kept"}
    panel._form._handle_custom_msg({"kind": "typed", "values": {"1.seed": "five"}}, [])
    assert "must be a whole number" in send(panel, kind="save", name="Wrong")
    assert [preset.name for preset in stored.presets.list()] == ["Old"]


def test_a_preset_that_was_only_listed_is_not_replaced(
    comfy: Comfy, panel_of: Callable[..., RunPanel]
) -> None:
    stored = comfy.workflows.save(GRAPH, f"Presets {uuid.uuid4()}")
    panel = panel_of(stored)
    panel.set_input("2.text", "mine")
    stored.presets.save("Late", {"2.text": "of another panel"})
    send(panel, kind="refresh")
    assert presets_of(panel).names == ["Late"]
    assert "Another panel has changed" in send(panel, kind="save", name="Late")
    assert stored.presets["Late"].inputs == {"2.text": "of another panel"}
    assert panel.inputs == {"2.text": "mine"}
