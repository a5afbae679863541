"""RunPanel as users see it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy

if TYPE_CHECKING:
    from tests.jupyter_process import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "from comfydeploy_jupyter import RunPanel\npanel = RunPanel({!r})\npanel"


@pytest.mark.parametrize(("theme", "pixels"), [("Light", 320), ("Dark", 336)])
def test_change_run_and_see(open_notebook: Any, theme: str, pixels: int) -> None:
    lab_page = open_notebook(
        f"run-{theme}", PANEL.format("sunset.json"), theme=f"JupyterLab {theme}"
    )
    page = lab_page.page
    panel = page.locator(".comfydeploy-panel")
    width = panel.get_by_label("Width", exact=True)
    expect(width).to_have_value("640")
    expect(panel.get_by_text("Ready")).to_be_visible()
    lab_page.shoot(f"panel-{theme}-ready")
    width.fill(str(pixels))
    panel.get_by_role("button", name="Run", exact=True).click()
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    expect(picture).to_be_visible()
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.locator("pre", has_text="A sunset that needs no model")).to_be_visible()
    expect(panel.get_by_role("button", name="Cancel")).to_be_disabled()
    panel.get_by_text("Node timings").click()
    picture.click()
    full = page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", pixels)
    lab_page.shoot(f"panel-{theme}-full")
    page.keyboard.press("Escape")
    expect(full).to_be_hidden()
    lab_page.shoot(f"panel-{theme}-done")


def test_cancel_a_slow_run(open_notebook: Any, lab: JupyterProcess) -> None:
    graph = {
        "1": {
            "class_type": "TestPreview",
            "inputs": {"steps": 200, "delay": 0.3, "size": 256},
            "_meta": {"title": "Slow sampler"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    (lab.root / "slow.json").write_text(json.dumps(graph))
    lab_page = open_notebook("cancel", PANEL.format("slow.json"))
    panel = lab_page.page.locator(".comfydeploy-panel")
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.get_by_text(re.compile(r"Slow sampler \(TestPreview\) \d+/200"))).to_be_visible()
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    lab_page.shoot("panel-running")
    panel.get_by_role("button", name="Cancel").click()
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_hidden()
    assert Comfy(lab.url, lab.token).runs(limit=1)[0].status == "cancelled"
    lab_page.shoot("panel-cancelled")
