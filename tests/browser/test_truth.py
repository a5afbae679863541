"""What a RunPanel says of values stays true, and nothing of a form sticks out of its column."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.panels import assert_neat, field, press, run
from tests.helpers.graphs import node, shown

if TYPE_CHECKING:
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

SEED = "18446744073709551615"
LONG = "A_title_without_any_space_that_is_much_longer_than_its_column_" * 2

FITS = """panel => [...panel.querySelectorAll(".cd-seed input")].map(
    input => [input.value, input.clientWidth >= input.scrollWidth])"""


def test_a_finished_run_is_shown_with_its_values(open_run_panel: Any, lab: JupyterProcess) -> None:
    comfy = Comfy(lab.url, lab.token)
    graph = {
        "1": node("EmptyImage", "Paper", width=64, height=64, batch_size=1, color=1),
        "2": shown("1"),
        f"{time.time_ns()}": node("TestText", text="a", token="b"),
    }
    comfy.run(graph, {"1.width": 96, "1.height": 32})
    panel = open_run_panel(graph, name="finished.json").panel
    expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_be_visible()
    values = panel.get_by_text("This run had other values than the form")
    expect(values).to_contain_text("width 96")
    expect(values).to_contain_text("height 32")
    expect(field(panel, "Paper: width")).to_have_value("64")
    press(panel, "Use these values again")
    told = panel.get_by_text("The values and seeds of this run are in the form now")
    expect(told).to_be_visible()
    expect(values).to_have_count(0)
    press(panel, "Reset all")
    expect(told).to_have_count(0)
    expect(values).to_be_visible()
    press(panel, "Use these values again")
    run(panel)
    expect(values).to_have_count(0)
    # a preset
    name = panel.get_by_role("combobox", name="Preset")
    name.fill("Wide")
    expect(panel.get_by_text("Nothing found")).to_have_count(0)
    press(panel, "Save")
    expect(panel.get_by_text("Saved as Wide")).to_be_visible()
    field(panel, "Paper: width").fill("80")
    expect(panel.get_by_text("Saved as Wide")).to_have_count(0)
    expect(panel.get_by_text("The values were changed since.")).to_be_visible()
    field(panel, "Paper: width").fill("96")
    expect(panel.get_by_text("The values were changed since.")).to_have_count(0)


@pytest.mark.parametrize("width", [340, 480, 760, 900, 1000, 2560])
def test_nothing_sticks_out_of_a_column(
    open_notebook: Any, lab: JupyterProcess, width: int
) -> None:
    graph = {
        "1": node("EmptyImage", LONG, width=64, height=64, batch_size=1, color=1),
        "2": shown("1"),
        "3": node("TestPreview", "Steps", steps=1, delay=0.0, size=64, token=LONG),
        "4": node(
            "KSampler",
            LONG,
            seed=int(SEED),
            steps=20,
            cfg=8.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "5": node("LoadImage", "Load", image=f"{LONG}.png"),
        "6": node("TestText", "Words", text=LONG * 3, token=LONG),
    }
    opened = open_notebook(
        f"from comfydeploy_jupyter import RunPanel\nRunPanel({graph!r})", width=width
    )
    panel = opened.panel
    seed = panel.locator(".cd-seed input").first
    expect(seed).to_have_value(SEED)
    panel.get_by_text("More inputs").click()
    assert_neat(panel)
    assert_accessible(panel)
    assert panel.evaluate(FITS) == [[SEED, True]]
    opened.shoot(f"truth-{width}")
    panel.get_by_label("times").fill("3")
    expect(panel.get_by_text("the 3 runs will be equal")).to_be_visible()
    press(panel, "New seeds for each run")
    expect(panel.get_by_text("the 3 runs will be equal")).to_have_count(0)
    expect(panel.get_by_text("new for each run")).to_be_visible()
