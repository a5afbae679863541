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

from tests.browser.accessibility import assert_accessible
from tests.browser.axe import violations
from tests.helpers.selection import few

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import LabPage
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


def done_sweep(open_notebook: Any, name: str, **options: Any) -> LabPage:
    code = CODE.format(name="sunset.json", points=POINTS, wait=True)[:-1]
    lab_page = open_notebook(name, f"{code}, save='{name}-of-test.json')", **options)
    expect(lab_page.panel.get_by_text(re.compile("Done after"))).to_be_visible(timeout=60_000)
    return lab_page


def test_the_sheet_is_filled_and_stays_in_the_notebook(open_notebook: Any) -> None:
    lab_page = done_sweep(open_notebook, "sweep")
    panel = lab_page.panel
    expect(panel.locator("table img")).to_have_count(6)
    expect(panel.get_by_role("columnheader", name="<b>low</b>", exact=True)).to_be_visible()
    expect(panel.get_by_role("rowheader", name="240 px", exact=True)).to_be_visible()
    expect(panel.get_by_role("columnheader", name="Width", exact=True)).to_be_visible()
    expect(panel.get_by_role("button", name="Stop")).to_be_hidden()
    lab_page.shoot("sweep-done")
    ((kept, *_),) = [c["outputs"] for c in lab_page.save()["cells"]]
    page = "".join(kept["data"]["text/html"])
    assert page.count("data:image/webp;base64,") == 6, "the saved notebook has the pictures"
    assert "&lt;b&gt;low" in page
    lab_page.run_first_cell()
    expect(panel).to_have_count(1)
    expect(panel.locator("table img")).to_have_count(6, timeout=60_000)


def test_pictures_are_enlarged_in_the_users_order(open_notebook: Any) -> None:
    lab_page = done_sweep(open_notebook, "sweep-lightbox", width=1440)
    panel, page = lab_page.panel, lab_page.page
    first = panel.get_by_role("button", name="Width 160 px, Caption <b>low</b>: success")
    first.click()
    box = panel.get_by_role("dialog")
    described = box.locator("dl")
    expect(described).to_contain_text("Width160 pxCaption<b>low</b>Point0Statussuccess")
    expect(box.locator("img")).to_have_js_property("complete", True)
    lab_page.shoot("sweep-lightbox-1440")
    assert violations(box) == []
    for number, text in enumerate(["160 pxCaptionhigh", "240 pxCaption<b>low</b>"], 1):
        page.keyboard.press("ArrowRight")
        expect(described).to_contain_text(f"{text}Point{number}")
    page.keyboard.press("s")
    expect(box.get_by_role("button", name="Remove the star")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(described).to_contain_text("320 pxCaptionhighPoint5")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(first).to_be_focused()
    expect(panel.get_by_role("button", name="Starred only (1)")).to_be_visible()


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_the_best_are_chosen_by_keys_and_by_code(
    open_notebook: Any, lab: JupyterProcess, theme: str
) -> None:
    lab_page = done_sweep(
        open_notebook, f"sweep-stars-{theme}", theme=f"JupyterLab {theme}", width=900
    )
    panel, page = lab_page.panel, lab_page.page
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
    lab_page.shoot(f"sweep-stars-{theme}-900")
    only.click()
    expect(panel.locator("figure, li")).to_have_count(2)
    expect(panel.get_by_text("Width 240 px, Caption high", exact=True)).to_be_visible()
    lab_page.shoot(f"sweep-starred-{theme}-900")
    assert violations(panel) == []
    assert_accessible(panel)
    saved = lab.root / f"sweep-stars-{theme}-of-test.json"
    assert stars_in(saved) == [(160, "<b>low</b>"), (240, "high")]
    # Code of a later cell, and a sweep that is loaded again, show the same stars.
    add_cell(lab_page, f"s = comfy.sweep.load({str(saved)!r}); s.star(5); s")
    expect(lab_page.panel.nth(1).get_by_role("button", name="Starred only (3)")).to_be_visible()
    expect(only).to_be_visible()
    panel.first.get_by_role("button", name=re.compile("Starred only")).click()


def stars_in(path: Path) -> list[tuple[Any, ...]]:
    runs = json.loads(path.read_bytes())["runs"].values()
    return [tuple(run["values"].values()) for run in runs if run.get("starred")]


def add_cell(lab_page: LabPage, code: str) -> None:
    page = lab_page.page
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")


def test_sheet_and_table_are_downloaded(open_notebook: Any, tmp_path: Path) -> None:
    lab_page = done_sweep(open_notebook, "sweep-download")
    panel, page = lab_page.panel, lab_page.page
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


def slow_graph() -> dict[str, Any]:
    picture = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    return {
        "1": {"class_type": "TestSeed", "inputs": {"seed": 0, "token": uuid.uuid4().hex}},
        "2": {"class_type": "EmptyImage", "inputs": picture},
        "3": {"class_type": "TestSleep", "inputs": {"seconds": 2.0, "anything": ["1", 0]}},
        "4": {"class_type": "TestText", "inputs": {"text": "", "anything": ["3", 0]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def test_it_says_that_its_kernel_has_ended(open_notebook: Any, lab: JupyterProcess) -> None:
    (lab.root / "gone.json").write_text(json.dumps(slow_graph()))
    points = {"seed": list(range(9))}
    lab_page = open_notebook("sweep-gone", CODE.format(name="gone.json", points=points, wait=False))
    page = lab_page.page
    output = lab_page.panel
    stop = output.get_by_role("button", name="Stop")
    gone = output.get_by_text("The kernel of this sweep was restarted or has ended")
    expect(stop).to_be_enabled(timeout=60_000)
    expect(gone).to_be_hidden()
    page.evaluate(RESTART)
    expect(gone).to_be_visible()
    expect(stop).to_be_disabled()
    lab_page.shoot("sweep-gone")


@pytest.mark.parametrize("wait", few([True, False]))
def test_it_can_be_stopped(open_notebook: Any, lab: JupyterProcess, wait: bool) -> None:
    name = f"slow-{wait}.json"
    (lab.root / name).write_text(json.dumps(slow_graph()))
    points = {"color": [0xAA0000, 0x00AA00, 0x0000AA], "seed": [1, 2, 3]}
    code = CODE.format(name=name, points=points, wait=wait)
    lab_page = open_notebook(f"sweep-stop-{wait}", code)
    page = lab_page.page
    output = lab_page.panel
    stop = output.get_by_role("button", name="Stop")
    hint = output.get_by_text(re.compile("interrupt the kernel to stop it"))
    expect(output.get_by_text("time left unknown")).to_be_visible(timeout=60_000)
    expect(output.locator("img:visible").first).to_be_visible(timeout=60_000)
    expect(output.get_by_text(re.compile(r"about \d+ s left"))).to_be_visible()
    expect(stop).to_have_count(0 if wait else 1)
    expect(hint).to_have_count(1 if wait else 0)
    lab_page.shoot(f"sweep-running-{wait}")
    if wait:
        page.get_by_role("button", name="Interrupt the kernel").click()
        error = page.locator(".jp-OutputArea-output", has_text="continues with resume() of")
        expect(error).to_be_visible()
    else:
        stop.click()
    expect(output.get_by_text(re.compile("Stopped after"))).to_be_visible()
    expect(stop).to_have_count(0)
    lab_page.shoot(f"sweep-stopped-{wait}")
