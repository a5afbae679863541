"""BatchPanel without a page, with the real routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfydeploy_jupyter import BatchPanel
from tests.helpers.graphs import node, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfydeploy_jupyter.client import Comfy


def test_the_notebook_keeps_the_sheet_of_a_batch_that_has_ended(
    comfy: Comfy, opened: Callable[[BatchPanel], BatchPanel]
) -> None:
    graph = {"1": paper(), "2": shown("1"), "3": node("TestText", text="<b>", anything=["1", 0])}
    inputs = {"1.width": {"$vary": [64, 96]}}
    batch_id = comfy.server.post("batch", {"workflow_api": graph, "inputs": inputs})["batch_id"]
    panel = opened(BatchPanel(batch_id, comfy))
    assert panel.kept == ("", f"<BatchPanel: {batch_id}>")
    until(lambda: comfy.server.get(f"batch/{batch_id}")["finished_at"])
    panel.summary = "Done: 2 of 2 points"  # what the page says
    panel.wait(60)
    page, text = panel.kept
    assert text == "<BatchPanel: done, 2 of 2 points>"
    assert page.count("data:image/jpeg;base64,") == 2
    assert "96 px" in page
    assert "<b>" not in page.partition("<table")[0]
