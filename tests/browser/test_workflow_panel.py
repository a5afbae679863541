"""WorkflowPanel as users see it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.panels import DROP, press, slow
from tests.helpers.graphs import SUNSET, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "from comfydeploy_jupyter import WorkflowPanel\npanel = WorkflowPanel({})\npanel"


def panel_in(page: Page) -> Locator:
    return page.locator(".comfydeploy-workflows")


def tab(page: Page, name: str) -> Locator:
    return panel_in(page).get_by_role("tab", name=name, exact=True)


def test_find_open_compare_change_run_save_and_export(
    open_notebook: Any, lab: JupyterProcess, tmp_path: Path
) -> None:
    comfy = Comfy(lab.url, lab.token)
    for name in ("Portrait", "Landscape at night", "Upscale"):
        comfy.workflows.save(SUNSET, name, comment="first light")
    own = uuid.uuid4().hex[:6]
    name = f"Sunset {own}"
    first = comfy.workflows.save(SUNSET, name, comment="as it came")
    graph = json.loads(json.dumps(SUNSET))
    graph["1"]["inputs"]["value"] = 320
    comfy.workflows.save(graph, workflow_id=first.id, comment="smaller")
    graph["99"] = shown("30")
    graph["3"]["inputs"]["color"] = 0x102030
    comfy.workflows.save(graph, workflow_id=first.id, comment=f"another sky {own}, and a preview")
    opened = open_notebook(PANEL.format(""))
    page = opened.page
    panel = panel_in(page)
    workflows = panel.get_by_label("Workflows", exact=True)
    expect(workflows.get_by_role("option")).not_to_have_count(0)
    panel.get_by_label("Search").fill(f"another SKY {own}")
    expect(workflows.get_by_role("option")).to_have_count(1)
    workflows.get_by_role("option").first.click()
    versions = panel.get_by_label("Versions", exact=True)
    expect(versions.get_by_role("option")).to_have_count(3)
    expect(versions.get_by_role("option").first).to_contain_text(
        f"another sky {own}, and a preview"
    )
    expect(panel.get_by_text("version 3 of 3")).to_be_visible()
    panel.get_by_role("button", name="Validate").click()
    expect(panel.locator(".comfydeploy-verdict")).to_be_visible()
    opened.shoot("workflow-panel")
    tab(page, "Compare").click()
    expect(panel.locator(".comfydeploy-changes li")).to_have_count(2)

    versions.select_option(index=1)
    expect(panel.get_by_text("version 2 of 3")).to_be_visible()
    tab(page, "Run").click()
    width = panel.get_by_label("Width", exact=True)
    width.fill("288")
    width.press("Tab")
    panel.get_by_role("button", name="Run", exact=True).click()
    picture = panel.locator(".comfydeploy-gallery img").first
    expect(picture).to_be_visible()

    tab(page, "Save").click()
    panel.get_by_label("Comment").fill("narrow")
    panel.get_by_label("Comment").press("Tab")
    panel.get_by_role("button", name="Save", exact=True).click()
    expect(panel.get_by_text("Saved as version 4")).to_be_visible()
    expect(versions.get_by_role("option").first).to_contain_text("v4")
    assert first.version().graph["1"]["inputs"]["value"] == 288

    tab(page, "Export").click()
    panel.get_by_label("Format").select_option("Python script")
    panel.get_by_role("button", name="Write").click()
    expect(panel.get_by_text("Written to")).to_be_visible()
    written = (lab.root / f"{name}.py").read_text()
    assert "import comfydeploy_jupyter" in written
    with page.expect_download() as download:
        panel.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"{name}.py"
    download.value.save_as(tmp_path / "downloaded.py")
    assert (tmp_path / "downloaded.py").read_text() == written


def test_workflows_are_renamed_tagged_deleted_and_restored(
    open_notebook: Any, lab: JupyterProcess
) -> None:
    comfy = Comfy(lab.url, lab.token)
    mark = uuid.uuid4().hex[:6]
    comfy.workflows.save(SUNSET, f"Old name {mark}")
    comfy.run(SUNSET, progress=False)
    (lab.root / f"beside {mark}.json").write_text(json.dumps(SUNSET))
    address = f"{lab.url}comfyui/api/userdata/workflows%2Fedited {mark}.json?token={lab.token}"
    assert requests.post(address, json=comfy.load(SUNSET).to_ui(), timeout=60).ok
    page = open_notebook(PANEL.format("")).page
    panel = panel_in(page)
    workflows = panel.get_by_role("listbox", name="Workflows")
    options = workflows.get_by_role("option")
    panel.get_by_label("Search").fill(mark)
    expect(options).to_have_count(3)
    expect(workflows.locator("img")).to_have_count(1)
    options.first.click()
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
    panel.get_by_role("button", name="Delete").click()
    expect(options).to_have_count(2)
    panel.get_by_role("button", name="Undo").click()
    expect(options).to_have_count(3)
    expect(panel.get_by_text("version 1 of 1")).to_be_visible()
    dropped = [f"dropped {mark}.json", "application/json", json.dumps(SUNSET)]
    workflows.evaluate(DROP, dropped)
    expect(panel.get_by_text(f"dropped {mark} is stored on the server now.")).to_be_visible()
    assert [kept.name for kept in comfy.workflows.list(f"dropped {mark}")] == [f"dropped {mark}"]


def test_the_picture_of_a_workflow(open_notebook: Any, lab: JupyterProcess) -> None:
    sky = {**paper(), "_meta": {"title": "<img src=x>"}}
    (lab.root / "pictured.json").write_text(json.dumps({"1": sky, "2": shown("1")}))
    sky["inputs"]["width"] = -5
    (lab.root / "wrong.json").write_text(json.dumps({"1": sky, "2": shown("1")}))
    page = open_notebook(PANEL.format("'pictured.json'")).page
    panel = panel_in(page)
    picture = panel.get_by_role("group", name="Picture of the workflow")
    expect(picture.locator("[data-id]")).to_have_count(2)
    picture.press("n")
    expect(panel.locator(".cd-about")).to_have_text("<img src=x>: EmptyImage, id 1")

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
    failed.locator(".cd-body-box").click()
    expect(panel.locator(".cd-about")).to_contain_text("it failed, Value -5 smaller than min")

    graph = slow(100, 0.05, "Sampler")
    (lab.root / "slow.json").write_text(json.dumps(graph))
    panel.get_by_label("Search", exact=True).fill("slow")
    press(panel, "List the workflows again")
    panel.get_by_role("option", name="slow.json").click()
    expect(panel.locator("b", has_text="slow")).to_be_visible()
    Comfy(lab.url, lab.token).submit(graph)
    expect(picture.locator("[data-mark='running']")).to_have_attribute("data-id", "Sampler")
    expect(picture.locator("[data-mark='done']")).to_have_count(2)


@pytest.mark.thorough
def test_saving_in_comfyui_makes_a_version(open_notebook: Any, lab: JupyterProcess) -> None:
    comfy = Comfy(lab.url, lab.token)
    name = f"Edited {uuid.uuid4().hex[:6]}"
    stored = comfy.workflows.save({"1": paper(), "2": shown("1")}, name)
    page = open_notebook(PANEL.format(f"workflow_id={stored.id!r}")).page
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
    editor.wait_for_timeout(3000)
    expect(editor.get_by_role("dialog")).to_have_count(0)  # such as the templates of a first visit
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
    editor.close()
    page.bring_to_front()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    assert stored.version().comment == "Saved in ComfyUI's editor"
    assert stored.version().graph["1"]["inputs"]["width"] == 128
