"""WorkflowPanel as users see it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.jupyter_process import REPOSITORY, JupyterProcess

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

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


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_find_open_compare_and_validate(open_notebook: Any, kept: str, theme: str) -> None:
    lab_page = open_notebook(f"workflows-{theme}", PANEL.format(""), theme=f"JupyterLab {theme}")
    page = lab_page.page
    panel = panel_in(page)
    workflows = panel.get_by_label("Workflows", exact=True)
    expect(workflows.get_by_role("option")).not_to_have_count(0)
    lab_page.shoot(f"workflows-{theme}-list")
    panel.get_by_label("Search").fill("another SKY")
    expect(workflows.get_by_role("option")).to_have_count(1)
    workflows.select_option(index=0)
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
    workflows.select_option(index=0)
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
