"""The extension of JupyterLab: panels in the main area, without a notebook and a kernel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.panels import slow

if TYPE_CHECKING:
    from tests.helpers.jupyter import JupyterProcess


def kernels(lab: JupyterProcess) -> set[str]:
    """Return the ids of the kernels that run."""
    headers = {"Authorization": f"token {lab.token}"}
    reply = requests.get(f"{lab.url}api/kernels", headers=headers, timeout=60)
    return {each["id"] for each in reply.json()}


def find_in_palette(page: Page, text: str) -> None:
    """Search the command palette."""
    page.keyboard.press("Control+Shift+c")
    page.locator("#modal-command-palette input").fill(text)


def test_the_palette_finds_comfy_and_opens_a_panel_without_a_kernel(lab, lab_page):
    before = kernels(lab)
    find_in_palette(lab_page, "comfy")
    lab_page.locator(".lm-CommandPalette-item", has_text="Run a workflow").click()
    panel = lab_page.locator(".comfydeploy-panel:visible")
    workflow = panel.get_by_role("combobox", name="Workflow")
    expect(workflow).to_be_visible()
    expect(
        lab_page.locator(".lm-TabBar-tab.lm-mod-current", has_text="Run a workflow")
    ).to_be_visible()
    assert kernels(lab) == before


@pytest.mark.thorough
def test_a_restored_layout_shows_the_panels_and_the_run_that_goes_on(lab, lab_page):
    (lab.root / "slow.json").write_text(json.dumps(slow(60, 0.5, "Slow")))
    address = f"{lab_page.url.partition('?')[0]}?token={lab.token}"
    for name in ("ComfyDeployPanel", "GalleryPanel", "RunPanel"):
        lab_page.evaluate(
            "panel => window.jupyterapp.commands.execute('comfydeploy:open-panel', { panel })", name
        )
    panel = lab_page.locator(".comfydeploy-panel:visible")
    machines = lab_page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="Machines")
    machines.click()
    panel.first.get_by_role("tab", name="Files").click()
    panel.first.get_by_label("Subfolder").fill("kept")
    panel.first.get_by_label("Subfolder").press("Tab")
    lab_page.locator(".lm-TabBar-tab", has_text="Run a workflow").click()
    panel.get_by_role("combobox", name="Workflow").click()
    panel.get_by_role("option", name="slow.json").click()
    panel.get_by_role("button", name="Run", exact=True).click()
    cancel = panel.get_by_role("button", name="Cancel", exact=True)
    expect(cancel).to_be_enabled()
    lab_page.wait_for_timeout(2000)  # JupyterLab saves the layout a moment after a change
    lab_page.goto(address)
    tabs = lab_page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab")
    expect(tabs).to_have_text(["Machines", "Gallery", "slow"])
    expect(panel.get_by_role("combobox", name="Workflow")).to_have_value("slow.json")
    expect(cancel).to_be_enabled()
    cancel.click()
    expect(cancel).to_be_disabled()
    machines.click()
    expect(panel.first.get_by_label("Subfolder")).to_have_value("kept")
