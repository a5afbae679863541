"""A run that waits for another one, as users see it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.panels import field, press
from tests.helpers.graphs import node

pytestmark = pytest.mark.timeout(300)

TEXT = {"1": node("TestText", "Caption", text="", token="chains")}


def test_a_panel_and_its_history_say_for_which_run_a_run_waits(
    open_run_panel: Any, lab: Any
) -> None:
    comfy = Comfy(lab.url, lab.token)
    graph = {
        "1": node("TestSleep", "Nap", seconds=60.0, token="chains"),
        "2": node("TestText", "End", text="awake", token="chains", anything=["1", 0]),
    }
    nap = comfy.submit(graph)
    run = comfy.submit(TEXT, {"text": nap.texts[0]}, cancel_with=True)
    opened = open_run_panel(TEXT, width=480)
    panel = opened.panel
    waits = f"Waiting for the run {nap.prompt_id}, whose output it needs"
    expect(panel.get_by_text(waits).first).to_be_visible()
    expect(panel.locator(".comfydeploy-history").get_by_text(waits)).to_be_visible()
    expect(field(panel, "Caption: text")).to_have_value("")
    opened.shoot("chain-waits")
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    assert run.status == "cancelled"
    nap.cancel()
