"""ComfyDeployPanel as users see it."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.helpers.graphs import SUNSET, paper, shown
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "%load_ext comfydeploy_jupyter\n%comfy panel sunset.json"


@pytest.fixture
def second_machine(lab: JupyterProcess) -> Iterator[str]:
    """The name of a second machine, whose ComfyUI does not answer."""
    name = f"away-{uuid.uuid4().hex[:6]}"
    machine = Comfy(lab.url, lab.token).machines.create(name, comfyui_url="http://127.0.0.1:9")
    yield name
    machine.delete()


def fits(panel: Locator) -> bool:
    """Return whether the whole width of a panel is visible."""
    script = """panel => {
        const own = panel.getBoundingClientRect();
        for (let box = panel.parentElement; box; box = box.parentElement) {
            const style = getComputedStyle(box), around = box.getBoundingClientRect();
            if (style.overflowX !== "visible" && around.right < own.right - 0.5) return false;
        }
        return panel.scrollWidth <= panel.clientWidth;
    }"""
    return bool(panel.evaluate(script))


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_state_on_top_and_tabs_below(
    open_notebook: Any, lab: JupyterProcess, second_machine: str, theme: str
) -> None:
    stored = f"Sunset {uuid.uuid4().hex[:6]}"
    comfy = Comfy(lab.url, lab.token)
    comfy.workflows.save(SUNSET, stored)
    label = {"pink": uuid.uuid4().hex}
    comfy.run({"1": paper(), "2": shown("1")}, {"1.color": 0xF06FA1}, labels=label)
    opened = open_notebook(PANEL, theme=theme)
    page, panel = opened.page, opened.panel.first

    def tab(title: str) -> Locator:
        return panel.get_by_role("tab", name=title, exact=True).first

    expect(panel.get_by_role("status").filter(has_text="is ready")).to_be_visible()
    expect(panel.get_by_text("Memory", exact=True)).to_be_visible()
    expect(panel.get_by_label("Width", exact=True)).to_be_visible()
    assert fits(panel)
    if theme == "Light":
        opened.shoot("comfydeploy-panel")
    assert_accessible(panel)

    tab("Files").click()
    expect(panel.get_by_label("Destination")).to_be_visible()
    assert_accessible(panel)
    tab("Tunnel").click()
    expect(panel.get_by_label("Make reachable")).to_be_visible()
    assert_accessible(panel)

    tab("Gallery").click()
    gallery = panel.locator(".comfydeploy-history", has=page.locator("summary", has_text="Gallery"))
    gallery.get_by_role("searchbox").fill("color f06fa1")
    gallery.get_by_label("Label", exact=True).select_option(f"pink: {label['pink']}")
    cards = gallery.locator(".cd-run")
    expect(cards).to_have_count(1)
    cards.press("s")
    expect(gallery.get_by_role("button", name=re.compile("^Star"))).to_have_attribute(
        "aria-pressed", "true"
    )
    assert_accessible(panel)
    cards.press("Enter")
    viewer = page.get_by_role("dialog", name="Picture in full size")
    viewer.get_by_label("Note").fill("the best pink")
    viewer.press("Escape")
    expect(viewer).to_be_hidden()
    until(lambda: comfy.runs(labels=label, starred=True, search="the best pink"))

    tab("Workflows").click()
    panel.get_by_label("Search", exact=True).fill(stored)
    workflows = panel.get_by_label("Workflows", exact=True).locator("visible=true")
    expect(workflows.get_by_role("option")).to_have_count(1)
    workflows.get_by_role("option").first.click()
    expect(panel.get_by_text("version 1 of 1")).to_be_visible()
    assert_accessible(panel)
    panel.get_by_role("button", name="Run …").locator("visible=true").click()
    expect(panel.get_by_label("Workflow", exact=True).locator("visible=true")).to_have_value(stored)
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator(".comfydeploy-gallery img").first).to_be_visible()
    assert_accessible(panel)

    panel.get_by_label("Width", exact=True).fill("288")
    tab("Workflows").click()
    panel.get_by_role("tab", name="Save", exact=True).click()
    panel.get_by_role("button", name="Save", exact=True).locator("visible=true").click()
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    saved = comfy.workflows.list(stored)[0].load()
    assert saved["Width"].value == 288

    panel.get_by_label("Machine", exact=True).select_option(second_machine)
    expect(panel.get_by_text("cannot be reached")).to_be_visible()
    panel.get_by_label("Machine", exact=True).select_option(index=0)
    expect(panel.get_by_role("status").filter(has_text="is ready")).to_be_visible()
    expect(panel.get_by_role("alert")).to_have_count(0)  # none of the other machine

    page.set_viewport_size({"width": 560, "height": 1100})
    expect(panel.get_by_text("Memory", exact=True)).to_be_visible()
    assert fits(panel)
