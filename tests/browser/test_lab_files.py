"""The extension of JupyterLab: workflow files as documents, drags, and ComfyUI's editor."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Locator, Page, expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.conftest import open_lab
from tests.helpers.graphs import SUNSET_PATH
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.jupyter import JupyterProcess

OPEN = """([path, factory]) => {
    window.jupyterapp.commands.execute("docmanager:open", { path, factory });
}"""
CARRIER = "ComfyUI: workflow in a file"


def file(page: Page, name: str) -> Locator:
    """Return a file in the file browser, after a look at the folder."""
    page.evaluate("() => window.jupyterapp.commands.execute('filebrowser:refresh')")
    return page.locator(".jp-DirListing-item", has=page.get_by_text(name, exact=True))


def shown(page: Page) -> Locator:
    return page.locator(".comfydeploy-panel:visible")


def tab(page: Page, name: str) -> Locator:
    return page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text=name)


def drag(page: Page, source: Locator, target: Locator) -> None:
    """Drag a file by the mouse; the first moves begin the drag."""
    start, end = source.bounding_box(), target.bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 40, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(start["x"] + 60, start["y"] + 30, steps=5)
    expect(page.locator(".lm-mod-drag-image")).to_be_visible()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=10)
    page.mouse.up()


def graph_in(path: Path) -> Any:
    """Return the graph in a workflow file; an empty one while the file is written."""
    with contextlib.suppress(ValueError):
        return json.loads(path.read_text("utf-8"))
    return {}


def width_in(path: Path) -> Any:
    return graph_in(path).get("1", {"inputs": {}})["inputs"].get("value")


@pytest.fixture
def workflow(lab: JupyterProcess) -> Path:
    """A workflow file whose name does not say that it is one."""
    path = lab.root / "settings.json"
    path.write_bytes(SUNSET_PATH.read_bytes())
    return path


def test_a_workflow_opens_by_its_content_and_is_edited_saved_and_read_again(
    lab, lab_page, workflow
):
    (lab.root / "package.json").write_text('{"name": "x", "version": "1"}')
    file(lab_page, "package.json").dblclick()
    expect(lab_page.locator(".jp-RenderedJSON")).to_be_visible()
    file(lab_page, "settings.json").dblclick()
    width = shown(lab_page).get_by_label("Width", exact=True)
    expect(width).to_have_value("640")
    expect(tab(lab_page, "settings.json")).not_to_have_class("jp-mod-dirty")
    width.fill("512")
    width.press("Tab")
    expect(lab_page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_be_visible()
    lab_page.keyboard.press("Control+s")
    until(lambda: width_in(workflow), lambda value: value == 512)
    lab_page.wait_for_timeout(1000)  # JupyterLab asks for the hash of what it has saved
    changed = json.loads(workflow.read_text())
    changed["1"]["inputs"]["value"] = 256
    workflow.write_text(json.dumps(changed))
    expect(width).to_have_value("256")
    expect(lab_page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)


@pytest.mark.thorough
def test_no_change_is_lost_if_the_file_changes_or_vanishes(lab, lab_page, workflow):
    lab_page.evaluate(OPEN, [workflow.name, "ComfyUI"])
    width = shown(lab_page).get_by_label("Width", exact=True)
    expect(width).to_have_value("640")
    width.fill("512")
    width.press("Tab")
    expect(lab_page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_be_visible()
    workflow.write_text(SUNSET_PATH.read_text().replace("640", "128"))
    said = lab_page.get_by_text("The file was changed by something else")
    expect(said).to_be_visible()
    expect(width).to_have_value("512")
    lab_page.get_by_role("button", name="Load it, without the changes here").click()
    expect(width).to_have_value("128")
    expect(said).to_have_count(0)
    expect(lab_page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)
    workflow.unlink()
    expect(lab_page.get_by_text("saving writes it again")).to_be_visible()
    lab_page.keyboard.press("Control+s")
    until(workflow.exists)
    until(lambda: width_in(workflow), lambda value: value == 128)


@pytest.mark.thorough
def test_two_views_and_two_pages_of_one_file(lab, lab_page, browser, workflow):
    dirty = ".lm-TabBar-tab.jp-mod-dirty"
    lab_page.evaluate(OPEN, [workflow.name, "ComfyUI"])
    widths = shown(lab_page).get_by_label("Width", exact=True)
    expect(widths).to_have_value("640")
    lab_page.evaluate("() => void window.jupyterapp.commands.execute('docmanager:clone')")
    expect(widths).to_have_count(2)
    expect(widths.last).to_have_value("640")
    widths.first.fill("512")
    widths.first.press("Tab")
    expect(widths.last).to_have_value("512")
    widths.last.fill("513")
    closing = lab_page.locator(f"{dirty}.lm-mod-current .lm-TabBar-tabCloseIcon")
    closing.last.click()  # the other view has what was typed here
    expect(widths).to_have_count(1)
    expect(widths).to_have_value("513")
    other = open_lab(browser, lab)
    other.evaluate(OPEN, [workflow.name, "ComfyUI"])
    width = shown(other).get_by_label("Width", exact=True)
    expect(width).to_have_value("640")
    width.fill("100")
    width.press("Tab")
    other.keyboard.press("Control+s")
    until(lambda: width_in(workflow), lambda value: value == 100)
    said = lab_page.get_by_text("The file was changed by something else")
    expect(said).to_be_visible()
    expect(widths).to_have_value("513")
    widths.press("Control+s")
    lab_page.locator(".jp-Dialog").get_by_role("button", name="Overwrite").click()
    until(lambda: width_in(workflow), lambda value: value == 513)
    expect(said).to_have_count(0)
    expect(lab_page.locator(dirty)).to_have_count(0)
    expect(width).to_have_value("513", timeout=20_000)
    other.close()


def test_a_workflow_in_another_encoding_is_written_in_utf_8(lab, lab_page):
    graph = json.loads(SUNSET_PATH.read_text())
    graph["1"]["_meta"]["title"] = "Größe"
    text = json.dumps(graph, ensure_ascii=False)
    for encoding in ("latin-1", "utf-16"):
        path = lab.root / f"{encoding}.json"
        path.write_bytes(text.encode(encoding))
        file(lab_page, path.name).dblclick()
        told = lab_page.get_by_role("alert").filter(has_text=f"{path.name} is a workflow, but not")
        told.get_by_role("button", name="Write it in UTF-8").click()
        until(partial(graph_in, path), lambda found: found == graph)
        current = lab_page.locator(".lm-DockPanel-tabBar .lm-mod-current", has_text=path.name)
        expect(current).to_be_visible()
        expect(shown(lab_page).get_by_label("Größe", exact=True)).to_have_value("640")


def test_what_is_no_workflow_says_so_in_one_sentence(lab, lab_page):
    (lab.root / "list.json").write_text("[1]")
    (lab.root / "large.json").write_text('{"a": "' + "x" * (50 << 20) + '"}')
    Image.new("RGB", (8, 8)).save(lab.root / "plain.png")
    cases = {
        "list.json": "This file is not a workflow of ComfyUI.",
        "large.json": "This file has 50 MiB; a workflow has at most 20 MiB.",
        "plain.png": "plain.png contains no workflow of ComfyUI",
    }
    for name, text in cases.items():
        lab_page.evaluate(OPEN, [name, "ComfyUI" if name.endswith("json") else CARRIER])
        expect(lab_page.get_by_role("alert").filter(has_text=text, visible=True)).to_be_visible()
    lab_page.evaluate(OPEN, ["list.json", "ComfyUI"])
    lab_page.get_by_role("button", name="Open as text").locator("visible=true").click()
    expect(lab_page.locator(".jp-FileEditor:visible")).to_contain_text("[1]")


@pytest.fixture
def picture(lab: JupyterProcess) -> Path:
    """A picture that carries a workflow."""
    text = PngInfo()
    text.add_text("prompt", SUNSET_PATH.read_text())
    path = lab.root / "made.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=text)
    return path


@pytest.mark.thorough
def test_a_picture_is_opened_and_dropped_on_panels_and_notebooks(lab_page, picture):
    file(lab_page, picture.name).click(button="right")
    lab_page.get_by_text("Open With", exact=True).hover()
    lab_page.locator(".lm-Menu-item", has_text="ComfyUI").last.click()
    expect(shown(lab_page).get_by_label("Width", exact=True)).to_have_value("640")
    lab_page.evaluate(
        "() => window.jupyterapp.commands.execute('comfydeploy:open-panel', {panel: 'RunPanel'})"
    )
    workflow = shown(lab_page).get_by_role("combobox", name="Workflow")
    expect(workflow).to_have_value("")
    drag(lab_page, file(lab_page, picture.name), shown(lab_page))
    expect(workflow).to_have_value("made.png")
    lab_page.evaluate(
        "() => window.jupyterapp.commands.execute('notebook:create-new', {kernelName: 'python3'})"
    )
    notebook = lab_page.locator(".jp-Notebook:visible")
    expect(notebook.locator(".jp-CodeCell")).to_have_count(1)
    drag(lab_page, file(lab_page, picture.name), notebook.locator(".jp-CodeCell"))
    cell = notebook.locator(".jp-CodeCell").last
    expect(cell).to_contain_text('RunPanel("made.png")')


DROP = """([cell, name, content]) => {
    const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: "image/png" }));
    const about = { bubbles: true, cancelable: true, dataTransfer };
    return ["dragenter", "dragover", "drop"].map(
        type => !cell.dispatchEvent(new DragEvent(type, about)));
}"""


@pytest.mark.thorough
def test_a_picture_of_the_computer_is_dropped_into_a_notebook(lab, lab_page, picture):
    content = base64.b64encode(picture.read_bytes()).decode()
    (lab.root / "work").mkdir(exist_ok=True)
    args = {"kernelName": "python3", "cwd": "work"}
    lab_page.evaluate("a => window.jupyterapp.commands.execute('notebook:create-new', a)", args)
    cells = lab_page.locator(".jp-Notebook:visible .jp-CodeCell")
    expect(cells).to_have_count(1)
    cell = cells.locator(".cm-content").first.element_handle()
    assert lab_page.evaluate(DROP, [cell, "of mine.png", content]) == [True] * 3
    expect(cells.last).to_contain_text('RunPanel("of mine.png")')
    assert (lab.root / "work" / "of mine.png").read_bytes() == picture.read_bytes()
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "png")
    without = base64.b64encode(plain.getvalue()).decode()
    lab_page.evaluate(DROP, [cell, "plain.png", without])
    expect(lab_page.get_by_text("plain.png contains no workflow").first).to_be_visible()
    expect(cells).to_have_count(2)
    assert not (lab.root / "work" / "plain.png").exists()


@pytest.mark.thorough
def test_a_new_workflow_takes_what_is_chosen(lab, lab_page):
    lab_page.evaluate("() => window.jupyterapp.commands.execute('comfydeploy:new-workflow', {})")
    panel = shown(lab_page)
    examples = panel.get_by_role("region", name="An example")
    examples.get_by_role("button", name="Coloured clouds").click()
    expect(panel.get_by_role("combobox", name="Workflow")).to_have_count(0)
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    expect(tab(lab_page, "untitled.json")).to_have_class(re.compile("jp-mod-dirty"))
    lab_page.keyboard.press("Control+s")
    path = lab.root / "untitled.json"
    until(lambda: graph_in(path).get("nodes"))
    path.unlink()


def test_what_is_saved_in_comfyuis_editor_comes_into_the_document(lab, lab_page, workflow):
    lab_page.evaluate(OPEN, [workflow.name, "ComfyUI"])
    width = shown(lab_page).get_by_label("Width", exact=True)
    expect(width).to_have_value("640")
    lab_page.get_by_role("button", name="Edit in ComfyUI").click()
    expect(lab_page.locator("iframe[title=ComfyUI]")).to_be_visible()
    comfy = Comfy(lab.url, lab.token)
    stored = until(lambda: next((w for w in comfy.workflows.list() if w.name == "settings"), None))
    page = lab_page.locator("iframe[title=ComfyUI]").element_handle().content_frame()
    assert page is not None
    page.wait_for_function("() => document.querySelector('canvas')")
    page.wait_for_function(
        "() => document.getElementById('vue-app').__vue_app__.config.globalProperties"
        ".$pinia._s.get('setting').settingValues['Comfy.ColorPalette'] === 'light'"
    )
    graph = json.loads(workflow.read_text())
    graph["1"]["inputs"]["value"] = 333
    comfy.workflows.save(graph, workflow_id=stored.id)
    tab(lab_page, "settings.json").click()
    expect(width).to_have_value("333")
    until(lambda: width_in(workflow), lambda value: value == 333)
