"""A sweep in a page: results appear, it can be stopped; points are enlarged, starred, exported."""

from __future__ import annotations

import csv
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.axe import violations
from tests.helpers.graphs import node, paper, shown
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

CODE = """\
import comfydeploy_jupyter
comfy = comfydeploy_jupyter.connect(start=False)
comfy.sweep({name!r}, {points!r}, wait={wait!r})"""


RESTART = """() => {
    const { context } = window.jupyterapp.shell.currentWidget;
    return context.sessionContext.session.kernel.restart();
}"""


POINTS = {"Width.value": [160, 240, 320], "Caption.value": ["<b>low</b>", "high"]}


def test_a_sweep_is_looked_at_starred_downloaded_and_saved(
    open_notebook: Any, lab: JupyterProcess, tmp_path: Path
) -> None:
    code = CODE.format(name="sunset.json", points=POINTS, wait=True)[:-1]
    opened = open_notebook(f"{code}, save='sweep-of-test.json')")
    page, panel = opened.page, opened.panel.first
    expect(panel.get_by_text("Done: 6 of 6 points").first).to_be_visible(timeout=60_000)
    expect(panel.locator("table img")).to_have_count(6)
    for width in (2560, 1280):  # it uses the room
        page.set_viewport_size({"width": width, "height": 1000})
        until(lambda width=width: panel.evaluate("panel => panel.clientWidth") > width - 250)
    for role, name in (
        ("columnheader", "<b>low</b>"),
        ("rowheader", "240 px"),
        ("columnheader", "Width"),
    ):
        expect(panel.get_by_role(role, name=name, exact=True)).to_be_visible()
    expect(panel.get_by_role("button", name="Stop")).to_be_hidden()

    # in full size, in the user's order
    first = panel.get_by_role("button", name="Width 160 px, Caption <b>low</b>: success")
    first.click()
    box = panel.get_by_role("dialog")
    described = box.locator("dl")
    expect(described).to_contain_text("Width160 pxCaption<b>low</b>Point0Statussuccess")
    expect(box.locator("img")).to_have_js_property("complete", True)
    assert violations(box) == []
    for number, text in enumerate(["160 pxCaptionhigh", "240 pxCaption<b>low</b>"], 1):
        page.keyboard.press("ArrowRight")
        expect(described).to_contain_text(f"{text}Point{number}")
    page.keyboard.press("s")
    expect(box.get_by_role("button", name="Remove the star")).to_be_visible()
    page.keyboard.press("s")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(described).to_contain_text("320 pxCaptionhighPoint5")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(first).to_be_focused()

    # stars, by keys and by code
    panel.get_by_role("button", name="Width 160 px, Caption high: success").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")  # nothing is right of it: the first of the next row
    page.keyboard.press("s")
    page.keyboard.press("s")
    panel.locator(".cd-point").first.hover()
    panel.get_by_role("button", name="Give a star to Width 160 px, Caption <b>low</b>").click()
    only = panel.get_by_role("button", name="Starred only (2)")
    expect(only).to_be_enabled()
    expect(panel.get_by_role("button", name=re.compile("Remove the star of"))).to_have_count(2)
    only.click()
    expect(panel.locator("figure, li")).to_have_count(2)
    expect(panel.get_by_text("Width 240 px, Caption high", exact=True)).to_be_visible()
    assert violations(panel) == []
    assert_accessible(panel)
    saved = lab.root / "sweep-of-test.json"
    starred = [p.values for p in Comfy(lab.url, lab.token).sweep.load(saved).starred]
    assert [tuple(values.values()) for values in starred] == [
        (160, "<b>low</b>"),
        (240, "high"),
    ]

    # downloads
    only.click()
    found = {}
    for name in ("PNG", "CSV"):
        with page.expect_download() as download:
            panel.get_by_role("button", name=name, exact=True).click()
        found[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(found[name])
        expect(panel.get_by_role("button", name=name, exact=True)).to_be_enabled()
    assert [path.name for path in found.values()] == ["sunset.png", "sunset.csv"]
    with PIL.Image.open(found["PNG"]) as picture:
        assert picture.width > 2 * 192
        assert picture.height > 3 * 192
    with found["CSV"].open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Width"] for row in rows] == ["160", "160", "240", "240", "320", "320"]
    assert {row["Status"] for row in rows} == {"success"}

    # the saved notebook
    ((kept, *_),) = [cell["outputs"] for cell in opened.save()["cells"]]
    html = "".join(kept["data"]["text/html"])
    assert html.count("data:image/jpeg;base64,") == 6, "the saved notebook has the pictures"
    assert "&lt;b&gt;low" in html
    # Code of a later cell, and a sweep that is loaded again, show the same stars.
    add_cell(page, f"s = comfy.sweep.load({str(saved)!r}); s.star(5); s")
    again = opened.panel.nth(1)
    again.scroll_into_view_if_needed()  # it asks for nothing before it is seen
    expect(again.get_by_role("button", name="Starred only (3)")).to_be_visible()
    opened.run_first_cell()
    expect(opened.panel).to_have_count(2)
    expect(panel.locator("table img")).to_have_count(6, timeout=60_000)


def add_cell(page: Page, code: str) -> None:
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")


@pytest.mark.thorough
@pytest.mark.parametrize("wait", few([True, False]))
def test_it_is_paused_stopped_and_continued_also_without_its_kernel(
    open_notebook: Any, lab: JupyterProcess, wait: bool
) -> None:
    graph = {
        "1": node("TestSeed", seed=0, token=uuid.uuid4().hex),
        "2": paper(),
        "3": node("TestSleep", seconds=3.0, anything=["1", 0]),
        "4": node("TestText", text="", anything=["3", 0]),
        "5": shown("2"),
    }
    (lab.root / "slow.json").write_text(json.dumps(graph))
    points = {"color": [0xAA0000, 0x00AA00], "seed": [1, 2, 3, 4, 5]}
    opened = open_notebook(CODE.format(name="slow.json", points=points, wait=wait))
    page, output = opened.page, opened.panel
    button = {
        name: output.get_by_role("button", name=name) for name in ("Pause", "Continue", "Stop")
    }
    line = output.locator(".cd-line > .cd-grow")
    expect(line).to_contain_text("Running: ", timeout=60_000)
    expect(line).to_contain_text(re.compile(r" s left"))
    expect(output.locator("img:visible").first).to_be_visible()
    button["Pause"].click()
    expect(line).to_contain_text("Paused: ")
    page.wait_for_timeout(1000)  # Python looks twice a second, and waits through a pause
    button["Continue"].click()
    expect(line).to_contain_text("Running: ")
    if wait:
        page.get_by_role("button", name="Interrupt the kernel").click()
        error = page.locator(".jp-OutputArea-output", has_text="continues with resume() of")
        expect(error).to_be_visible()
    else:
        button["Stop"].click()
    expect(line).to_contain_text("Cancelled: ")
    expect(button["Stop"]).to_have_count(0)
    page.evaluate(RESTART)
    expect(output.get_by_text("the panel goes on, but Python does not learn of it")).to_be_visible()
    button["Continue"].click()
    expect(line).to_contain_text("Done: 10 of 10 points", timeout=60_000)
