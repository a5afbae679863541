"""What an author does in a RunPanel: choose the inputs in front, and take code for the values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.panels import assert_neat, field, press
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


def copied(panel: Locator, name: str) -> str:
    """Return what an action of the menu copies."""
    page = panel.page
    page.evaluate(
        "() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }"
    )
    act(panel, name)
    expect(panel.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    return str(page.evaluate("() => window.copied"))


def execute(command: list[str], lab: JupyterProcess) -> str:
    """Run a program with the address of the server; return its output."""
    given = {"JUPYTER_TOKEN": lab.token, "COMFYDEPLOY_JUPYTER_TOKEN": lab.token}
    environment = {**os.environ, **given, "COMFYDEPLOY_JUPYTER_URL": lab.url}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, cwd=lab.root
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    names = front.get_by_role("textbox")
    order = [HOSTILE, "B: text"]
    for _ in range(2):  # down, and up again
        grip = dialog.locator(".cd-grip").nth(order.index(HOSTILE))
        grip.hover()
        page.mouse.down()
        box = grip.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + (60 if order[0] == HOSTILE else -40), steps=5)
        page.mouse.up()
        order.reverse()
        for place, name in enumerate(order):
            expect(names.nth(place)).to_have_value(name)
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


@pytest.mark.parametrize("kind", ["stored", "file", "graph"])
def test_copied_code_runs_with_the_present_values(
    open_notebook: Any, lab: JupyterProcess, kind: str
) -> None:
    comfy = Comfy(lab.url, lab.token)
    graph = {
        "1": node("TestText", "Say", text="a \\ true null \ud83d\ude00 NaN", token="t"),
        "2": node("TestText", "Twice", text="b", token="t"),
    }
    given: Any = graph
    if kind == "stored":
        given = comfy.workflows.save(graph, "Copied").id
    elif kind == "file":
        given = "copied it's.json"
        (lab.root / given).write_text(json.dumps(graph))
    opened = open_notebook(f"from comfydeploy_jupyter import RunPanel\nRunPanel({given!r})")
    panel = opened.panel
    field(panel, "Say: text").fill(HOSTILE)
    panel.get_by_label("times").fill("2")
    python, curl = copied(panel, "Copy as Python"), copied(panel, "Copy as curl")
    assert lab.token not in python + curl
    assert lab.url in python
    assert ("Twice" in python) == (kind == "graph")
    before = {run.prompt_id for run in comfy.runs(limit=1000)}
    assert execute(["bash", "-eu", "-c", curl], lab).count('"success"') >= 2
    execute([sys.executable, "-W", "error", "-c", f"{python}\nassert len(results) == 2"], lab)
    new = [run for run in comfy.runs(limit=1000) if run.prompt_id not in before]
    assert len(new) == 4
    for run in new:
        assert run.record["inputs"] == {"1.text": HOSTILE}
        assert sorted(run.wait(60).texts) == sorted([HOSTILE, "b"])


def test_copied_code_of_several_values_is_a_batch(open_run_panel: Any, lab: JupyterProcess) -> None:
    graph = {"1": node("TestText", "Say", text="a", token="t")}
    panel = open_run_panel(graph, "copied several.json").panel
    panel.get_by_text("More inputs (1)").click()
    values = {"text": ["x", HOSTILE.replace("\n", " "), "y"], "token": ["1", "2", "3"]}
    for name, each in values.items():
        field(panel, f"Say: {name}").focus()
        press(panel, f"Say: {name}: several values, each of which runs")
        field(panel, f"Say: {name}").fill("\n".join(each))
    expect(panel.get_by_text("9 runs: ")).to_be_visible()
    together = panel.get_by_label("Say: token: how its values are combined")
    together.select_option("line by line with Say: text")
    expect(panel.get_by_text("3 runs: 3 of “Say: text” with “Say: token”.")).to_be_visible()
    python = copied(panel, "Copy as Python")
    check = f"assert [p.result.texts[0] for p in sweep] == {values['text']!r}"
    execute([sys.executable, "-W", "error", "-c", f"{python}\n{check}"], lab)
    made = json.loads(execute(["bash", "-eu", "-c", copied(panel, "Copy as curl")], lab))
    assert made["total"] == 3
    # another panel of an equal workflow would show it while it runs
    assert Comfy(lab.url, lab.token).batches.get(made["batch_id"]).wait(60).status == "done"
