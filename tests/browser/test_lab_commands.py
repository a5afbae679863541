"""The extension of JupyterLab: its commands and menu, and Notebook 7 with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.panels import slow

if TYPE_CHECKING:
    from tests.helpers.jupyter import JupyterProcess


def test_the_workflow_that_a_cell_names_runs_without_a_kernel(lab: JupyterProcess, open_notebook):
    (lab.root / "named.json").write_text(json.dumps(slow(20, 0.2, "Named")))
    page = open_notebook("pass", fresh=True).page
    page.evaluate(
        """() => {
            const { content } = window.jupyterapp.shell.currentWidget;
            content.activeCell.model.sharedModel.setSource('comfy.load("named.json")');
            window.jupyterapp.commands.execute("comfydeploy:run-cell");
        }"""
    )
    panel = page.locator(".comfydeploy-panel")
    expect(panel.get_by_role("button", name="Cancel", exact=True)).to_be_enabled()
    expect(panel.locator("b", has_text="Success")).to_be_visible(timeout=120_000)
    page.evaluate(
        """() => {
            const { content } = window.jupyterapp.shell.widgets("main").next().value;
            content.activeCell.model.sharedModel.setSource("1 + 1");
            window.jupyterapp.commands.execute("comfydeploy:run-cell");
        }"""
    )
    expect(page.get_by_text("This cell has no workflow").first).to_be_visible()


def test_the_menu_has_all_commands(lab_page):
    lab_page.locator(".lm-MenuBar-item", has_text="ComfyUI").click()
    items = lab_page.locator(".lm-Menu-item[data-type=command] .lm-Menu-itemLabel")
    expect(items).to_have_text(
        [
            *("Run a workflow", "Run the workflow of this cell", "ComfyUI's editor", "Workflows"),
            *("Gallery", "Files and models", "Tunnel", "Machines", "Open a batch"),
            *("Start ComfyUI", "Stop ComfyUI", "Free memory of ComfyUI", "Log of ComfyUI"),
        ]
    )


def test_notebook_7_stays_as_it_is(lab, browser):
    page = browser.new_page()
    page.goto(f"{lab.url}tree?token={lab.token}")
    expect(page.locator(".jp-DirListing-item", has_text="sunset.json")).to_be_visible()
    assert page.evaluate("() => '_JUPYTERLAB' in window && 'comfydeploy-jupyter' in _JUPYTERLAB")
    page.close()
