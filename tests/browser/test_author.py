"""What an author does in a RunPanel: choose the inputs in front."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.panels import assert_neat, field
from tests.helpers.graphs import node, saved

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

SEED = 18_446_744_073_709_551_557
HOSTILE = "Wörter <i>&\u202e</i> 'so' \"there\" $HOME `x` \\ 😀"


def act(panel: Locator, name: str) -> None:
    panel.get_by_role("button", name="More actions").click()
    panel.get_by_role("menuitem", name=name).click()


def labels(panel: Locator) -> Locator:
    return panel.locator(".comfydeploy-form > .cd-rows .cd-field > label")


def text_node(number: int, title: str) -> dict[str, Any]:
    slot = {"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": None}
    values = [f"text of {title}", str(SEED)]
    return {**saved(number, "TestText", values, title=title), "inputs": [slot]}


def test_the_author_chooses_the_inputs_in_front(open_run_panel: Any, lab: JupyterProcess) -> None:
    nodes = [text_node(number, title) for number, title in enumerate(("A", "B", "C"), 1)]
    ui = {"version": 0.4, "nodes": nodes, "links": [], "extra": {"ds": {"scale": SEED}}}
    opened = open_run_panel(ui, name="author.json")
    panel, page = opened.panel, opened.page
    before = panel.get_by_role("button", name="More actions")
    field(panel, "B: text").fill("changed")
    before.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the first action
    dialog = panel.get_by_role("dialog", name="Choose inputs")
    front = dialog.get_by_role("list", name="Inputs in front").get_by_role("listitem")
    expect(front).to_have_count(3)
    assert_neat(panel)
    assert_accessible(dialog)
    page.set_viewport_size({"width": 480, "height": 800})
    box = dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 480
    opened.shoot("choose-inputs")
    page.set_viewport_size({"width": 1280, "height": 1000})
    dialog.get_by_role("checkbox", name="A: text").press("Space")
    dialog.get_by_role("checkbox", name="A: token").press("Space")
    expect(front).to_have_count(3)
    dialog.get_by_role("checkbox", name="A: token").press("Space")
    expect(front).to_have_count(2)
    dialog.get_by_role("button", name="C: text: move up").press("Enter")
    dialog.get_by_label("Label of C: text").fill(HOSTILE)
    dialog.get_by_role("button", name="Save", exact=True).press("Enter")
    expect(labels(panel)).to_have_text([HOSTILE, "B: text"])
    expect(field(panel, "B: text")).to_have_value("changed")
    made = json.loads((lab.root / "author.json").read_text())
    assert made["extra"]["linearData"]["inputs"] == [[3, "text"], [2, "text"]]
    assert made["extra"]["ds"] == {"scale": SEED}, "a browser would have rounded it"
    assert [each["widgets_values"] for each in made["nodes"]] == [
        each["widgets_values"] for each in nodes
    ]
    # another choice is the next one, and the form chooses by itself if there is none
    act(panel, "Choose inputs")
    expect(front).to_have_count(2)
    for _ in range(2):
        front.first.get_by_role("checkbox").click()
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(labels(panel)).to_have_text(["A: text", "B: text", HOSTILE])
    assert "linearData" not in json.loads((lab.root / "author.json").read_text())["extra"]
    # a stored workflow gets a version; the panel of a graph only shows it
    comfy = Comfy(lab.url, lab.token)
    graph = {"1": node("TestText", "Only", text="a", token="b")}
    stored = comfy.workflows.save(graph, "Chosen")
    opened.run(f"panel = RunPanel({stored.id!r})\npanel")
    act(opened.panel, "Choose inputs")
    dialog = opened.panel.get_by_role("dialog", name="Choose inputs")
    dialog.get_by_role("checkbox", name="Only: token").click()
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(labels(opened.panel)).to_have_text(["Only: text", "Only: token"])
    newest = stored.version("latest")
    assert newest.number == 2
    assert newest.workflow_api == stored.version(1).workflow_api
    assert newest.workflow["extra"]["linearData"]["inputs"] == [[1, "text"], [1, "token"]]
    opened.run(f"panel = RunPanel({graph!r})\npanel")
    act(opened.panel, "Choose inputs")
    dialog = opened.panel.get_by_role("dialog", name="Choose inputs")
    dialog.get_by_role("checkbox", name="Only: token").click()
    dialog.get_by_role("checkbox", name="Only: text").click()
    dialog.get_by_role("button", name="Use here").click()
    expect(labels(opened.panel)).to_have_text(["Only: token"])
    code = "print(panel.workflow.to_ui()['extra']['linearData']['inputs'])"
    opened.run(code)
    expect(opened.page.locator(".jp-OutputArea-output pre").last).to_have_text("[[1, 'token']]")
