"""WorkflowPanel as users see it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "from comfydeploy_jupyter import WorkflowPanel\npanel = WorkflowPanel({})\npanel"
SUNSET = json.loads((REPOSITORY / "notebooks" / "sunset.json").read_text())


@pytest.fixture(scope="module")
def kept(lab: JupyterProcess) -> str:
    """A workflow with three versions, and some other workflows."""
    comfy = Comfy(lab.url, lab.token)
    for name in ("Portrait", "Landscape at night", "Upscale"):
        comfy.workflows.save(SUNSET, name, comment="first light")
    name = f"Sunset {uuid.uuid4().hex[:6]}"
    first = comfy.workflows.save(SUNSET, name, comment="as it came")
    graph = json.loads(json.dumps(SUNSET))
    graph["1"]["inputs"]["value"] = 320
    comfy.workflows.save(graph, workflow_id=first.id, comment="smaller")
    graph["99"] = {"class_type": "PreviewImage", "inputs": {"images": ["30", 0]}}
    graph["3"]["inputs"]["color"] = 0x102030
    comfy.workflows.save(graph, workflow_id=first.id, comment="another sky, and a preview")
    return name


def panel_in(page: Page) -> Locator:
    return page.locator(".comfydeploy-workflows")


def tab(page: Page, name: str) -> Locator:
    return panel_in(page).get_by_role("tab", name=name, exact=True)


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_find_open_compare_and_validate(open_notebook: Any, kept: str, theme: str) -> None:
    lab_page = open_notebook(f"workflows-{theme}", PANEL.format(""), theme=f"JupyterLab {theme}")
    page = lab_page.page
    panel = panel_in(page)
    workflows = panel.get_by_label("Workflows", exact=True)
    expect(workflows.get_by_role("option")).not_to_have_count(0)
    lab_page.shoot(f"workflows-{theme}-list")
    panel.get_by_label("Search").fill("another SKY")
    expect(workflows.get_by_role("option")).to_have_count(1)
    workflows.get_by_role("option").first.click()
    versions = panel.get_by_label("Versions", exact=True)
    expect(versions.get_by_role("option")).to_have_count(3)
    expect(versions.get_by_role("option").first).to_contain_text("another sky, and a preview")
    expect(panel.get_by_text("version 3 of 3")).to_be_visible()
    panel.get_by_role("button", name="Validate").click()
    expect(panel.locator(".comfydeploy-verdict")).to_be_visible()
    lab_page.shoot(f"workflows-{theme}-nodes")
    tab(page, "Compare").click()
    expect(panel.locator(".comfydeploy-changes li")).to_have_count(2)
    lab_page.shoot(f"workflows-{theme}-compare")


def test_change_run_save_and_export(
    open_notebook: Any, lab: JupyterProcess, kept: str, tmp_path: Path
) -> None:
    lab_page = open_notebook("workflows-change", PANEL.format(""), fresh=True)
    page = lab_page.page
    panel = panel_in(page)
    panel.get_by_label("Search").fill(kept)
    workflows = panel.get_by_label("Workflows", exact=True)
    expect(workflows.get_by_role("option")).to_have_count(1)
    workflows.get_by_role("option").first.click()
    panel.get_by_label("Versions", exact=True).select_option(index=1)
    expect(panel.get_by_text("version 2 of 3")).to_be_visible()
    tab(page, "Run").click()
    width = panel.get_by_label("Width", exact=True)
    width.fill("288")
    width.press("Tab")
    panel.get_by_role("button", name="Run", exact=True).click()
    picture = panel.locator(".comfydeploy-gallery img").first
    expect(picture).to_be_visible()
    lab_page.shoot("workflows-run")

    tab(page, "Save").click()
    panel.get_by_label("Comment").fill("narrow")
    panel.get_by_label("Comment").press("Tab")
    lab_page.shoot("workflows-save")
    panel.get_by_role("button", name="Save", exact=True).click()
    expect(panel.get_by_text("Saved as version 4")).to_be_visible()
    versions = panel.get_by_label("Versions", exact=True)
    expect(versions.get_by_role("option").first).to_contain_text("v4")
    (stored,) = Comfy(lab.url, lab.token).workflows.list(kept)
    assert stored.version().graph["1"]["inputs"]["value"] == 288

    tab(page, "Export").click()
    panel.get_by_label("Format").select_option("Python script")
    panel.get_by_role("button", name="Write").click()
    expect(panel.get_by_text("Written to")).to_be_visible()
    assert "import comfydeploy_jupyter" in (lab.root / f"{kept}.py").read_text()
    with page.expect_download() as download:
        panel.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"{kept}.py"
    download.value.save_as(tmp_path / "downloaded.py")
    assert (tmp_path / "downloaded.py").read_text() == (lab.root / f"{kept}.py").read_text()
    lab_page.shoot("workflows-export")

    lab_page.save()
    page.reload()
    expect(panel.get_by_text("version 4 of 4")).to_be_visible()
    page.set_viewport_size({"width": 620, "height": 1100})
    lab_page.shoot("workflows-narrow")


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_workflows_are_renamed_tagged_deleted_and_restored(
    open_notebook: Any, lab: JupyterProcess, theme: str
) -> None:
    comfy = Comfy(lab.url, lab.token)
    mark = uuid.uuid4().hex[:6]
    comfy.workflows.save(SUNSET, f"Old name {mark}")
    comfy.run(SUNSET, progress=False)
    (lab.root / f"beside {mark}.json").write_text(json.dumps(SUNSET))
    in_editor = comfy.load(SUNSET).to_ui()
    saved = requests.post(
        f"{lab.url}comfyui/api/userdata/workflows%2Fedited {mark}.json?token={lab.token}",
        json=in_editor,
        timeout=60,
    )
    assert saved.ok
    lab_page = open_notebook(f"library-{theme}", PANEL.format(""), theme=f"JupyterLab {theme}")
    page = lab_page.page
    panel = panel_in(page)
    workflows = panel.get_by_role("listbox", name="Workflows")
    panel.get_by_label("Search").fill(mark)
    expect(workflows.get_by_role("option")).to_have_count(3)
    expect(workflows.locator("img")).to_have_count(1)
    workflows.get_by_role("option").first.click()
    expect(panel.get_by_text("version 1 of 1")).to_be_visible()
    workflows.press("F2")
    name = panel.get_by_label(f"New name of Old name {mark}")
    name.fill(f"<b>Night</b> {mark}")
    name.press("Enter")
    expect(workflows.get_by_role("option", name=f"<b>Night</b> {mark}")).to_be_visible()
    panel.get_by_role("button", name="Tags …").click()
    tags = panel.get_by_label("separated by commas")
    tags.fill("landscape, SDXL")
    tags.press("Enter")
    expect(workflows.locator(".cd-tag")).to_have_text(["landscape", "SDXL"])
    lab_page.shoot(f"library-{theme}")
    panel.get_by_role("button", name="Delete").click()
    expect(workflows.get_by_role("option")).to_have_count(2)
    lab_page.shoot(f"library-{theme}-deleted")
    panel.get_by_role("button", name="Undo").click()
    expect(workflows.get_by_role("option")).to_have_count(3)
    expect(panel.get_by_text("version 1 of 1")).to_be_visible()

    # A file that is dropped on the list is stored.
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], name, {type: "application/json"}));
            return transfer;
        }""",
        [f"dropped {mark}.json", json.dumps(SUNSET)],
    )
    workflows.dispatch_event("drop", {"dataTransfer": transfer})
    expect(panel.get_by_text(f"dropped {mark} is stored on the server now.")).to_be_visible()
    assert [kept.name for kept in comfy.workflows.list(f"dropped {mark}")] == [f"dropped {mark}"]


INNER = {
    "id": "6a1f0c9e-8d5b-4c6e-9a57-0d7a3b0c1f11",
    "name": "<b>Invert</b>",
    "nodes": [
        {
            "id": 2,
            "type": "ImageInvert",
            "pos": [200, 40],
            "size": [180, 60],
            "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
        }
    ],
    "links": [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 2, "target_slot": 0},
        {"id": 2, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0},
    ],
    "inputs": [{"id": "in", "name": "image", "type": "IMAGE", "linkIds": [1]}],
    "outputs": [{"id": "out", "name": "IMAGE", "type": "IMAGE", "linkIds": [2]}],
    "inputNode": {"id": -10, "bounding": [0, 0, 120, 60]},
    "outputNode": {"id": -20, "bounding": [500, 0, 120, 60]},
}
PICTURED = {
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "title": "<img src=x>",
            "pos": [40, 60],
            "size": [220, 140],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [5]}],
            "widgets_values": [64, 64, 1, 0],
            "color": "#332922",
        },
        {
            "id": 7,
            "type": INNER["id"],
            "pos": [340, 60],
            "size": [200, 60],
            "inputs": [{"name": "image", "type": "IMAGE", "link": 5}],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [6]}],
        },
        {
            "id": 3,
            "type": "PreviewImage",
            "pos": [640, 60],
            "size": [220, 200],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 6}],
        },
    ],
    "links": [[5, 1, 0, 7, 0, "IMAGE"], [6, 7, 0, 3, 0, "IMAGE"]],
    "groups": [{"title": "All of it", "bounding": [20, 0, 860, 300], "color": "#3f789e"}],
    "definitions": {"subgraphs": [INNER]},
    "version": 0.4,
}


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_the_picture_of_a_workflow(open_notebook: Any, lab: JupyterProcess, theme: str) -> None:
    workflow = json.loads(json.dumps(PICTURED))
    (lab.root / "pictured.json").write_text(json.dumps(workflow))
    workflow["nodes"][0]["widgets_values"][0] = -5
    (lab.root / "wrong.json").write_text(json.dumps(workflow))
    code = PANEL.format('"pictured.json"')
    lab_page = open_notebook(f"picture-{theme}", code, theme=f"JupyterLab {theme}")
    page = lab_page.page
    panel = panel_in(page)
    picture = panel.get_by_role("group", name="Picture of the workflow")
    expect(picture.locator("[data-id]")).to_have_count(3)
    lab_page.shoot(f"picture-{theme}")
    picture.press("n")
    expect(panel.locator(".cd-about")).to_have_text("<img src=x>: EmptyImage, id 1")
    picture.locator("[data-id='7'] .cd-body-box").click()
    expect(picture.locator("[data-id='2']")).to_be_visible()
    expect(panel.locator(".cd-way b")).to_have_text("<b>Invert</b>")
    lab_page.shoot(f"picture-{theme}-subgraph")
    picture.press("Backspace")
    expect(picture.locator("[data-id]")).to_have_count(3)

    tab(page, "Run").click()
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator(".comfydeploy-gallery img").first).to_be_visible()
    tab(page, "Nodes").click()
    expect(picture.locator("[data-mark='failed'], [data-mark='running']")).to_have_count(0)

    panel.get_by_label("Search", exact=True).fill("wrong")
    panel.get_by_role("option", name="wrong.json").click()
    expect(panel.locator("b", has_text="wrong")).to_be_visible()
    panel.get_by_role("button", name="Validate").click()
    failed = picture.locator("[data-mark='failed']")
    expect(failed).to_have_attribute("data-id", "1")
    picture.press("n")
    expect(panel.locator(".cd-about")).to_contain_text("it failed, Value -5 smaller than min")
    lab_page.shoot(f"picture-{theme}-failed")


def test_saving_in_comfyui_makes_a_version(open_notebook: Any, lab: JupyterProcess) -> None:
    comfy = Comfy(lab.url, lab.token)
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    name = f"Edited {uuid.uuid4().hex[:6]}"
    stored = comfy.workflows.save(graph, name)
    lab_page = open_notebook("workflows-edit", PANEL.format(f"workflow_id={stored.id!r}"))
    page = lab_page.page
    panel = panel_in(page)
    expect(panel.get_by_text("version 1 of 1")).to_be_visible()
    with page.context.expect_page() as opening:
        panel.get_by_role("button", name="Edit in ComfyUI").click()
    editor = opening.value
    editor.set_viewport_size({"width": 1280, "height": 900})
    editor.wait_for_function(
        "name => window.app?.extensionManager?.workflow?.activeWorkflow?.path"
        " === `workflows/${name}.json`",
        arg=name,
        timeout=120_000,
    )
    assert "comfydeploy_workflow" not in editor.url
    editor.evaluate(
        """async () => {
            const node = window.app.graph.nodes.find(({type}) => type === "EmptyImage");
            node.widgets.find(({name}) => name === "width").value = 128;
            const {changeTracker} = window.app.extensionManager.workflow.activeWorkflow;
            (changeTracker.captureCanvasState ?? changeTracker.checkState).call(changeTracker);
            await window.app.extensionManager.command.execute("Comfy.SaveWorkflow");
        }"""
    )
    until(lambda: stored.versions()[0].number == 2)
    lab_page.shoot("workflows-edit")
    editor.close()
    page.bring_to_front()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    assert stored.version().comment == "Saved in ComfyUI's editor"
    assert stored.version().graph["1"]["inputs"]["width"] == 128
