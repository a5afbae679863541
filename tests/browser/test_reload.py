"""Panels after a reload of the page, and after the end of their kernel."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.panels import PANEL, RANGE, field, press, slow
from tests.browser.test_upload_panel import network_of, rows_in
from tests.helpers.graphs import SUNSET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

DEAF = "The kernel has ended: the panel goes on, but Python does not learn of it."
SHUT_DOWN = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"


def test_a_reload_and_a_restart_of_the_kernel_during_a_run_and_an_upload(
    open_notebook: Any, lab: JupyterProcess, comfyui: ComfyUIServer, tmp_path: Path
) -> None:
    comfy = Comfy(lab.url, lab.token)
    began = datetime.now().astimezone()
    graph = slow(100_000, 0.05, "Long sampler")
    (lab.root / "long.json").write_text(json.dumps(graph))
    stored = comfy.workflows.save(SUNSET, f"Sunset {uuid.uuid4().hex[:6]}")
    file = tmp_path / f"{uuid.uuid4().hex}.bin"
    file.write_bytes(bytes(20_000_000))
    opened = open_notebook(
        "import comfydeploy_jupyter as cd\n"
        "display(cd.RunPanel('long.json'), cd.UploadPanel(subfolder='slow'))\n"
        f"display(cd.WorkflowPanel(workflow_id={stored.id!r}))",
        fresh=True,
    )
    page = opened.page
    panel = opened.panel.first
    steps = field(panel, "Long sampler: steps")
    steps.fill("90000")
    press(panel, "Run")
    progress = panel.get_by_text(re.compile(r"Long sampler \(TestPreview\) \d+/\d+0000"))
    preview = panel.get_by_alt_text("Preview of the sampler")
    expect(progress).to_be_visible()
    expect(panel.get_by_text(re.compile("about .* left"))).to_be_visible()
    expect(panel.get_by_role("progressbar", name="The whole run")).to_be_visible()
    network_of(page)(500_000)
    opened.panel.nth(1).locator("input[type=file]").set_input_files(file)
    expect(rows_in(page)).to_contain_text(" % ")
    subfolder = page.get_by_label("Subfolder")
    subfolder.fill("left")
    subfolder.press("Tab")
    workflows = page.locator(".comfydeploy-workflows")
    expect(workflows.get_by_text("version 1 of 1")).to_be_visible()
    opened.save()

    page.reload()
    expect(progress).to_be_visible()
    expect(steps).to_have_value("90000")
    expect(preview).to_be_visible()
    lost = rows_in(page).filter(has_text="choose the file again")
    expect(lost).to_contain_text("input/slow")
    expect(page.locator(".cd-summary")).to_have_text("1 lost")
    expect(subfolder).to_have_value("left")
    expect(workflows.get_by_text("version 1 of 1")).to_be_visible()
    assert not list((comfyui.input_dir / "slow").glob(f"*{file.name}*"))

    page.get_by_role("button", name="Restart the kernel and run all cells").click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect(steps).to_have_value("90000")  # of the run that goes on
    expect(progress).to_be_visible()
    expect(panel.get_by_role("button", name="Cancel", exact=True)).to_be_enabled()
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(preview).to_be_hidden()
    (found,) = comfy.runs(of=comfy.load(graph), after=began)
    assert found.status == "cancelled"


@pytest.fixture
def saving_widgets(lab: JupyterProcess) -> Iterator[None]:
    """JupyterLab with *Save Widget State Automatically* switched on."""
    settings = lab.folder / "config/lab/user-settings/@jupyter-widgets/jupyterlab-manager"
    settings.mkdir(parents=True, exist_ok=True)
    path = settings / "plugin.jupyterlab-settings"
    path.write_text('{"saveState": true}')
    yield
    path.unlink()


@pytest.mark.thorough
@pytest.mark.usefixtures("saving_widgets")
def test_a_panel_that_was_saved_with_its_state_says_that_its_kernel_has_ended(
    open_notebook: Any, lab: JupyterProcess
) -> None:
    (lab.root / "kept.json").write_text(json.dumps(RANGE))
    opened = open_notebook(PANEL.format("kept.json"), fresh=True)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    assert "widgets" in opened.save()["metadata"]
    page.evaluate(SHUT_DOWN)
    page.reload()
    expect(panel.get_by_text(DEAF)).to_be_visible()
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_enabled()
