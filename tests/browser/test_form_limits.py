"""Forms with very many inputs, and with unusual names and texts."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.test_run_panel import PANEL, assert_neat, press

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

# The times from keys to the pictures that show them, ms. The browser leaves out those below 16 ms.
OBSERVE = """() => new Promise(resolve => {
    const found = [];
    new PerformanceObserver(list => found.push(...list.getEntries()))
        .observe({type: "event", durationThreshold: 16, buffered: false});
    window.keyTimes = () => found
        .filter(({name}) => name === "input").map(({duration}) => duration);
    resolve();
})"""


def many(number: int) -> dict[str, Any]:
    """Return a workflow with so many text inputs, of which a form shows all."""
    return {
        f"{n}": {
            "class_type": "ComfyUIDeployExternalText",
            "inputs": {"input_id": f"text_{n}", "default_value": "", "display_name": f"Text {n}"},
        }
        for n in range(number)
    }


def typed_in(field: Locator, text: str) -> float:
    """Type a text; return how long half of its letters took at most until they were painted, ms."""
    page = field.page
    page.evaluate(OBSERVE)
    field.focus()
    page.keyboard.type(text, delay=60)
    expect(field).to_have_value(text)
    times = [float(each) for each in page.evaluate("() => window.keyTimes()")]
    return statistics.median([*times, *[0.0] * (len(text) - len(times))])


@pytest.mark.thorough
def test_typing_takes_as_long_with_many_inputs_as_with_one(
    open_notebook: Any, lab: JupyterProcess
) -> None:
    took = {}
    for number in (1, 200):
        (lab.root / f"many-{number}.json").write_text(json.dumps(many(number)))
        opened = open_notebook(f"many-{number}", PANEL.format(f"many-{number}.json"), fresh=True)
        field = opened.panel.get_by_label("Text 0", exact=True)
        expect(opened.panel.get_by_text("Ready")).to_be_visible()
        took[number] = typed_in(field, "a harbour at dawn")
    assert took[200] <= max(50, 3 * took[1]), took


@pytest.mark.thorough
def test_three_thousand_inputs(open_notebook: Any, lab: JupyterProcess) -> None:
    shown = {"class_type": "TestText", "inputs": {"text": "", "anything": ["0", 0]}}
    (lab.root / "crowd.json").write_text(json.dumps({**many(3000), "shown": shown}))
    opened = open_notebook("crowd", PANEL.format("crowd.json"))
    panel = opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    rows = panel.locator(".cd-field")
    assert rows.count() < 400, "only those near the screen are made"
    field = panel.get_by_label("Text 0", exact=True)
    field.fill("first")
    expect(panel.get_by_text("1 changed")).to_be_visible()
    panel.locator(".cd-rows").evaluate("rows => rows.lastElementChild.scrollIntoView()")
    expect(panel.get_by_label("Text 150", exact=True)).to_have_count(1)
    opened.shoot("three-thousand")
    press(panel, "Reset all")
    expect(field).to_have_value("")
    field.fill("typed")
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()


WIDE = "W" * 800
EVIL = "<img src=x onerror=alert(1)>"
RIGHT_TO_LEFT = "שלום עולם \u202e 🙂👩‍🚀"


@pytest.mark.thorough
def test_unusual_names_and_texts(open_notebook: Any, lab: JupyterProcess) -> None:
    graph = {
        f"{n}": {
            "class_type": "TestText",
            "inputs": {"text": f"{name}\n{name}", "anything": ""},
            "_meta": {"title": name},
        }
        for n, name in enumerate((WIDE, EVIL, RIGHT_TO_LEFT))
    }
    (lab.root / "odd.json").write_text(json.dumps(graph))
    for width in (700, 1440):
        opened = open_notebook(f"odd-{width}", PANEL.format("odd.json"), width=width)
        panel = opened.panel
        expect(panel.get_by_text("Ready")).to_be_visible()
        expect(panel.get_by_label(f"{EVIL}: text", exact=True)).to_have_value(f"{EVIL}\n{EVIL}")
        preset = panel.get_by_role("combobox", name="Preset")
        preset.fill(f"{EVIL}{width}")
        press(panel, "Save")
        expect(panel.get_by_text(f"Saved as {EVIL}{width}")).to_be_visible()
        press(panel, "Run")
        expect(panel.locator("b", has_text="Success")).to_be_visible()
        expect(panel.locator("pre", has_text="שלום")).to_be_visible()
        opened.shoot(f"odd-{width}")
        assert_neat(panel)
        assert panel.locator("img[src=x]").count() == 0, "shown as text, not executed"
