"""The earlier runs of a workflow in RunPanel: find, compare, keep, use again and delete them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import ComfyDeployError
from tests.browser.accessibility import assert_accessible
from tests.browser.axe import violations
from tests.browser.panels import PANEL, assert_neat, field
from tests.helpers.graphs import node, paper
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

COLOURS = {"red": 0xC03030, "green": 0x30A050, "blue": 0x3060C0}

COPIED = """async () => {
    const [item] = await navigator.clipboard.read();
    const blob = await item.getType("image/png");
    const { width, height } = await createImageBitmap(blob);
    return [blob.type, width, height];
}"""
"""The type, width and height of the picture in the clipboard."""


def painting(token: str) -> dict[str, Any]:
    """Return a workflow with a colour, a prompt, a picture as input, and a node that can fail."""
    return {
        "1": paper(320, 240),
        "2": node("SaveImage", images=["1", 0], filename_prefix=f"history-{token}"),
        "3": node("LoadImage", "Sketch", image="sketch.png"),
        "4": node("TestFailIf", condition=False, message="no paint", anything=["3", 0]),
        "5": node("TestText", "Words", text="a harbour", anything=["4", 0]),
    }


@pytest.fixture
def comfy(lab: JupyterProcess) -> Comfy:
    """A client; its ComfyUI has the picture of `painting`."""
    client = Comfy(lab.url, lab.token)
    client.upload(Image.new("RGB", (40, 30), "grey"), name="sketch.png", overwrite=True)
    return client


@pytest.fixture
def runs(lab: JupyterProcess, comfy: Comfy) -> Iterator[str]:
    """A workflow with a run for each colour, and one that failed."""
    path = lab.root / "history.json"
    path.write_text(json.dumps(painting("runs")))
    for colour, value in COLOURS.items():
        inputs = {"Paper.color": value, "Words.text": f"a {colour} harbour"}
        comfy.run(path, inputs, labels={} if colour == "blue" else {"for": colour})
    with pytest.raises(ComfyDeployError, match="no paint"):
        comfy.run(path, {"4.condition": True})
    yield path.name
    workflow = comfy.load(path)
    comfy.runs.pin(comfy.runs(of=workflow), pinned=False)
    comfy.runs.delete(of=workflow, files=True)


def cards(history: Locator) -> Locator:
    return history.locator("li .cd-run")


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_runs_are_found_compared_pinned_used_again_and_deleted(
    open_notebook: Any, comfy: Comfy, runs: str, theme: str
) -> None:
    opened = open_notebook(PANEL.format(runs), theme=theme)
    page, panel = opened.page, opened.panel
    history = panel.locator(".comfydeploy-history")
    message = history.locator(".cd-message")
    history.scroll_into_view_if_needed()
    expect(history.locator("summary")).to_have_text("History (4)")
    expect(cards(history)).to_have_count(4)
    expect(cards(history).first).to_contain_text("Failed")
    expect(history.locator("li img").first).to_have_js_property("complete", True)
    assert violations(history) == []
    assert_neat(panel)

    # filter
    search = history.get_by_role("searchbox")
    search.fill("red harb")
    expect(cards(history)).to_have_count(1)
    search.fill("no such text")
    expect(history.get_by_text("No runs match.")).to_be_visible()
    history.get_by_label("Show all runs again").click()
    expect(cards(history)).to_have_count(4)
    history.get_by_label("Label", exact=True).select_option("for: green")
    expect(cards(history)).to_have_count(1)
    history.get_by_label("Label", exact=True).select_option("")
    history.get_by_label("Time", exact=True).select_option("dates")
    dates = history.get_by_role("group", name="Dates")
    first, last = dates.get_by_label("From"), dates.get_by_label("to")
    first.fill("2020-01-31")
    last.fill("2020-01-30")
    expect(dates.get_by_role("alert")).to_have_text("The first date is after the second")
    assert violations(history) == []
    last.fill("2020-02-01")
    expect(history.get_by_text("No runs match.")).to_be_visible()
    history.get_by_label("Show all runs again").click()
    expect(dates).to_be_hidden()
    expect(cards(history)).to_have_count(4)

    # use the values of a run again
    history.locator("li").nth(3).hover()
    history.get_by_role("checkbox").nth(3).check()
    expect(history.get_by_text("1 run selected")).to_be_visible()
    history.get_by_role("button", name="Use these values").click()
    expect(message).to_have_text("The values and seeds of this run are in the form now.")
    expect(message).to_be_in_viewport()
    expect(panel.get_by_label("Words: text", exact=True)).to_have_value("a red harbour")

    # compare two
    history.get_by_role("checkbox").nth(1).check()
    expect(history.get_by_text("2 runs selected")).to_be_visible()
    history.get_by_role("button", name="Compare").click()
    dialog = history.get_by_role("dialog")
    row = dialog.locator("tr", has_text="Words: text")
    expect(row.locator("td")).to_have_text(["a red harbour", "a blue harbour"])
    paper = dialog.locator("tr", has_text="Paper: color")
    expect(paper.locator("td")).to_have_text(["#c03030", "#3060c0"])
    for place, colour in enumerate(("rgb(192, 48, 48)", "rgb(48, 96, 192)")):
        expect(paper.locator(".cd-swatch").nth(place)).to_have_css("background-color", colour)
    expect(dialog.get_by_role("slider")).to_have_value("50")
    for place in (0, 1):
        expect(dialog.locator(".cd-stack img").nth(place)).to_have_js_property("naturalWidth", 320)
    assert violations(dialog) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    history.get_by_role("button", name="Select none").click()

    # the lightbox: arrows go across runs
    history.locator("li").nth(1).hover()
    history.locator("li").nth(1).get_by_label(re.compile("in full size")).click()
    lightbox = history.get_by_role("dialog", name="Picture in full size")
    about = lightbox.locator(".cd-about")
    expect(about).to_contain_text("320 \u00d7 240")
    expect(about.locator(".cd-prompt").first).to_have_text("a blue harbour")
    page.keyboard.press("ArrowRight")
    expect(about.locator(".cd-prompt").first).to_have_text("a green harbour")
    expect(about).to_contain_text("for: green")
    expect(about.locator(".cd-prompt", has_text="output")).to_be_visible()
    assert violations(lightbox) == []
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lightbox.get_by_role("button", name="Copy picture").click()
    expect(lightbox.get_by_role("status").first).to_contain_text("Copied")
    assert page.evaluate(COPIED) == ["image/png", 320, 240]
    page.keyboard.press("ArrowLeft")
    expect(about.locator(".cd-prompt").first).to_have_text("a blue harbour")

    # a picture as an input
    about.get_by_role("button", name="Use as").click()
    expect(lightbox).to_have_count(0)
    expect(message).to_contain_text(re.compile(r"^history-.*\.png is the picture of “.*” now\.$"))
    field = panel.get_by_role("combobox", name="Sketch: image", exact=True)
    expect(field).to_have_value(re.compile("^history-.*png"))

    # pin, then delete: what is pinned stays
    history.locator("li").nth(2).hover()
    history.get_by_label(re.compile("^Pin ")).nth(2).click()
    expect(history.get_by_label(re.compile("^Unpin "))).to_have_count(1)
    assert len(comfy.runs(pinned=True)) == 1
    history.get_by_label("Only pinned runs").click()
    expect(cards(history)).to_have_count(1)
    history.get_by_label("Only pinned runs").click()
    expect(cards(history)).to_have_count(4)
    cards(history).nth(2).focus()
    page.keyboard.press("Delete")
    question = history.get_by_role("dialog", name=re.compile(r"^Delete the run of .*\?$"))
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    assert violations(question) == []
    question.get_by_role("button", name=re.compile("Delete")).click()
    expect(message).to_contain_text("pinned")
    expect(cards(history)).to_have_count(4)
    history.get_by_role("button", name="Delete all failed …").click()
    question = history.get_by_role("dialog", name="Delete all failed runs of this workflow?")
    question.get_by_role("button", name=re.compile("Delete")).click()
    expect(cards(history)).to_have_count(3)
    expect(message).to_contain_text("1 run")
    history.locator("li").first.hover()
    history.get_by_role("checkbox").first.check()
    history.get_by_role("button", name="Delete …", exact=True).click()
    question = history.get_by_role("dialog", name=re.compile(r"^Delete the run of .*\?$"))
    question.get_by_role("checkbox").check()
    question.get_by_role("button", name=re.compile("Delete")).click()
    expect(cards(history)).to_have_count(2)
    expect(message).to_contain_text("file")
    assert comfy.runs(search="blue harbour") == []
    assert_accessible(panel)


@pytest.mark.thorough
def test_runs_of_the_editor_are_shown_and_used_again(
    open_notebook: Any, lab: JupyterProcess, comfyui: ComfyUIServer, comfy: Comfy
) -> None:
    path = lab.root / "history-editor.json"
    graph = painting("editor")
    path.write_text(json.dumps(graph))
    panel = open_notebook(PANEL.format(path.name)).panel
    words = field(panel, "Words: text")
    expect(words).to_have_value("a harbour")

    graph["1"]["inputs"]["color"] = 0x3060C0
    graph["5"]["inputs"]["text"] = "painted in the editor"
    shown = {"extra_pnginfo": {"workflow": {"nodes": [], "links": []}}}
    body = {"prompt": graph, "client_id": "an editor", "extra_data": shown}
    answer = requests.post(f"{comfyui.url}/prompt", json=body, timeout=30).json()
    workflow = comfy.load(path)
    until(lambda: [run.prompt_id for run in comfy.runs(of=workflow)] == [answer["prompt_id"]])
    history = panel.locator(".comfydeploy-history")
    expect(history.locator("summary")).to_have_text("History (1)")
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(history.locator("summary")).to_have_text("History (2)")
    expect(cards(history).last).to_contain_text("Editor")
    expect(cards(history).first).not_to_contain_text("Editor")
    history.locator("li").last.hover()
    history.locator("li").last.get_by_label(re.compile("in full size")).click()
    about = history.locator(".cd-about")
    expect(about).to_contain_text("ComfyUI's editor")
    expect(about.locator(".cd-prompt").first).to_have_text("painted in the editor")
    about.get_by_text("Made with", exact=True).click()
    expect(about.locator("dl").filter(has_text="torch")).to_contain_text("ComfyUI")
    about.get_by_role("button", name="Make it again").click()
    expect(about.get_by_text("It was made again: identical.")).to_be_visible(timeout=60_000)
    assert violations(about) == []
    about.get_by_role("button", name="Use these values").click()
    expect(words).to_have_value("painted in the editor")
    comfy.runs.delete(of=workflow, files=True)
