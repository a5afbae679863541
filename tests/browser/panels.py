"""What the tests of several panels do with a RunPanel."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.helpers.graphs import node, paper, shown

if TYPE_CHECKING:
    from playwright.sync_api import Locator

PANEL = "from comfydeploy_jupyter import RunPanel\npanel = RunPanel({!r})\npanel"

RANGE = {
    "1": paper(color=255),
    "2": shown("1"),
    "3": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=1.0),
}


def slow(steps: int, delay: float, title: str) -> dict[str, Any]:
    """Return a slow workflow that no other test has run, and that no cache has."""
    token = f"{title} {time.time()}"
    sampler = node("TestPreview", title, steps=steps, delay=delay, size=64, token=token)
    return {title: sampler, "end": shown(title)}


def press(panel: Locator, name: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()


def run(panel: Locator, end: str = "Success") -> None:
    """Run the workflow of a panel, and wait for its end."""
    press(panel, "Run")
    expect(panel.locator("b", has_text=end)).to_be_visible(timeout=120_000)


def field(panel: Locator, label: str) -> Locator:
    return panel.get_by_label(label, exact=True)


def assert_neat(panel: Locator) -> None:
    """Check that nothing is wider than the panel, and that each control has a name."""
    wider = panel.evaluate(
        """panel => [panel, ...panel.querySelectorAll("*")].filter(e =>
            e.checkVisibility() && !e.closest(".cd-unseen, svg g")
            && e.getBoundingClientRect().right > panel.getBoundingClientRect().right + 1
        ).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert wider == [], "\n".join(wider)
    roles = r"button|textbox|combobox|spinbutton|checkbox|searchbox|img|link|progressbar"
    nameless = re.findall(rf"^ *- ({roles})(?!.*\").*$", panel.aria_snapshot(), re.MULTILINE)
    assert nameless == []


DROP = """(element, [name, type, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([content], name, {type}));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const facts = {dataTransfer: transfer, bubbles: true, cancelable: true};
        element.dispatchEvent(new DragEvent(kind, facts));
    }
}"""
