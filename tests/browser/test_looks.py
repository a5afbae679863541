"""How the panels look: compared with accepted screenshots, at each width and in both themes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import expect

from tests.browser.looks import TOLERANCE, WORD_TOLERANCE, difference

if TYPE_CHECKING:
    from tests.jupyter_process import JupyterProcess

pytestmark = pytest.mark.timeout(300)

# No other test runs this graph, so its panel has no history.
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 512, "height": 768, "batch_size": 1, "color": 3368550},
        "_meta": {"title": "Paper"},
    },
    "2": {
        "class_type": "ImageScaleBy",
        "inputs": {"image": ["1", 0], "upscale_method": "area", "scale_by": 0.5},
        "_meta": {"title": "Smaller"},
    },
    "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    "5": {"class_type": "TestSeed", "inputs": {"seed": 5}, "_meta": {"title": "Dice"}},
    "6": {
        "class_type": "TestText",
        "inputs": {"text": "a harbour at dawn, soft light", "anything": ["5", 0]},
        "_meta": {"title": "Words"},
    },
}
PANELS = {
    "run": ("RunPanel('looks.json')", "Ready"),
    "upload": ("UploadPanel()", "Drop"),
    "tunnel": ("TunnelPanel()", "Stopped"),
}
WIDTHS = (480, 900, 1440, 2560)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_looks_as_accepted(
    open_notebook: Any, lab: JupyterProcess, panel: str, theme: str
) -> None:
    (lab.root / "looks.json").write_text(json.dumps(GRAPH))
    code, text = PANELS[panel]
    opened = open_notebook(
        f"look-{panel}-{theme}",
        f"from comfydeploy_jupyter import RunPanel, TunnelPanel, UploadPanel\n{code}",
        theme=f"JupyterLab {theme}",
    )
    expect(opened.panel.get_by_text(text).first).to_be_visible()
    opened.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    for width in WIDTHS:
        opened.page.set_viewport_size({"width": width, "height": 1000})
        opened.page.wait_for_timeout(400)
        opened.shoot(f"look-{panel}-{theme}-{width}")


def test_moved_or_missing_parts_are_noticed() -> None:
    def drawn(*boxes: tuple[int, int, int, int]) -> Image.Image:
        picture = Image.new("RGB", (500, 300), "white")
        draw = ImageDraw.Draw(picture)
        for box in boxes:
            draw.rectangle(box, fill="navy")
        return picture

    accepted = drawn((20, 20, 120, 60), (20, 100, 480, 200))
    assert difference(accepted, accepted) == (0, 0)
    assert difference(accepted, drawn((20, 20, 121, 60), (20, 100, 480, 200)))[0] < TOLERANCE
    assert difference(accepted, drawn((20, 100, 480, 200)))[0] > TOLERANCE
    assert difference(accepted, drawn((20, 20, 120, 60), (20, 120, 480, 220)))[0] > TOLERANCE
    assert difference(accepted, accepted.resize((500, 340))) == (1, 1)


def test_an_added_or_removed_word_is_noticed_but_not_another_time_of_day() -> None:
    def written(text: str) -> Image.Image:
        picture = Image.new("RGB", (1440, 1000), "white")
        font = ImageFont.load_default(13)
        ImageDraw.Draw(picture).text((100, 83), text, fill="black", font=font)
        return picture.resize((720, 500), Image.Resampling.LANCZOS)

    accepted = written("07:03 PM 7.8 s")
    for text in ("11:48 AM 7.8 s", "07:03 PM 12.5 s"):
        share, densest = difference(accepted, written(text))
        assert share < TOLERANCE
        assert densest < WORD_TOLERANCE / 2
    share, densest = difference(accepted, written("07:03 PM 7.8 s and the last run is done"))
    assert share < TOLERANCE, "the words are a small part of the picture"
    assert densest > WORD_TOLERANCE
