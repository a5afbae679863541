"""How a RunPanel looks: at each width, while the page is scrolled, and with its keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.accessibility import assert_accessible
from tests.browser.looks import HEIGHTS
from tests.browser.panels import assert_neat, field, run
from tests.helpers.graphs import node, paper, shown
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.timeout(300)


def diffusion(token: str, steps: int = 20) -> dict[str, Any]:
    """Return a workflow with the inputs that most workflows have, which needs no model.

    Only a run with a new token is executed, and not taken from ComfyUI's cache.
    """
    blend = {"blend_factor": 0.5, "blend_mode": "normal"}
    return {
        "1": node("TestPreview", "Sampler", steps=steps, delay=0.1, size=512, token=token),
        "2": shown("1"),
        "3": paper(512, 768, color=3368550),
        "4": node("ImageBlend", image1=["1", 0], image2=["3", 0], **blend),
        "5": shown("4"),
        "6": node("TestSeed", "Dice", seed=5),
        "7": node("TestText", "Words", text="a harbour at dawn, soft light", anything=["6", 0]),
    }


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None
    return dict(found)


def test_the_result_is_beside_the_form_or_in_a_narrow_panel_below_run(open_run_panel: Any) -> None:
    opened = open_run_panel(diffusion("layout", 3))
    page, panel = opened.page, opened.panel
    run(panel)
    expect(panel.locator(".cd-pictures img").last).to_have_js_property("complete", True)

    def place() -> str:
        form, result = box(panel.locator(".comfydeploy-form")), box(panel.locator(".cd-result"))
        if result["x"] >= form["x"] + form["width"] and result["y"] < form["y"] + 60:
            return "beside the form"
        return "above the form" if result["y"] + result["height"] <= form["y"] else "elsewhere"

    for width in HEIGHTS:
        page.set_viewport_size({"width": width, "height": 1000})
        page.locator(".jp-WindowedPanel-outer").first.evaluate("all => all.scrollTo(0, 0)")
        wanted = "beside the form" if width >= 900 else "above the form"
        until(place, lambda found, wanted=wanted: found == wanted)  # JupyterLab takes a while
        assert_neat(panel)
        assert_accessible(panel)
    page.set_viewport_size({"width": 480, "height": 1000})
    page.evaluate("() => window.jupyterapp.shell.expandLeft()")
    expect(page.locator(".jp-FileBrowser")).to_be_visible()
    field(panel, "Dice: seed").fill("7")
    assert_neat(panel)


def tall(token: str) -> dict[str, Any]:
    """Return a workflow whose form and whose result are each higher than the page."""
    texts = {f"t{n}": node("TestText", f"Words {n}", text=f"{token} {n}\n" * 6) for n in range(10)}
    return {**diffusion(token, 3), **texts}


@pytest.mark.parametrize("where", few(["notebook", "scrolled output", "view of its own"]))
def test_the_bar_and_the_result_stay_visible(open_run_panel: Any, where: str) -> None:
    opened = open_run_panel(tall(where), width=1440, fresh=where != "notebook")
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    if where == "scrolled output":
        page.evaluate(
            "() => window.jupyterapp.commands.execute('notebook:enable-output-scrolling')"
        )
        expect(page.locator(".jp-mod-outputsScrolled")).to_have_count(1)
    elif where == "view of its own":
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:create-output-view')")
        panel = page.locator(".jp-LinkedOutputView .comfydeploy-panel")
        expect(panel.get_by_text("Ready")).to_be_visible()
    run(panel)
    button = panel.get_by_role("button", name="Run", exact=True)
    last = field(panel, "Words 8: text")
    for width in (1440, 700):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(250)
        last.evaluate("field => field.scrollIntoView({block: 'end'})")
        expect(last).to_be_in_viewport(ratio=0.9)
        expect(button).to_be_in_viewport(ratio=1)
        expect(panel.get_by_text("Ready")).to_be_in_viewport(ratio=1)
        if width == 1440:
            expect(panel.locator("b", has_text="Success")).to_be_in_viewport(ratio=1)
        panel.locator(".comfydeploy-history summary").scroll_into_view_if_needed()
        expect(button).to_be_in_viewport(ratio=1)
        assert button.evaluate(
            """button => {
                const box = button.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                return button.contains(document.elementFromPoint(x, y));
            }"""
        ), "nothing is over it"


def test_everything_works_without_a_mouse(open_run_panel: Any) -> None:
    graph = {**diffusion("keys", 400), "2b": shown("3"), "3": paper(512, 768, 3)}
    opened = open_run_panel(graph)
    page, panel = opened.page, opened.panel
    keyboard = page.keyboard
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))
    number = prompt.text_content()
    expect(panel.get_by_text("Ready")).to_be_visible()
    words = field(panel, "Words: text")
    words.focus()
    keyboard.press("Control+Enter")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    keyboard.press("Escape")
    question = panel.get_by_role("alertdialog", name="Cancel the run?")
    expect(question.get_by_role("button", name="Cancel the run")).to_be_focused()
    keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(words).to_be_focused()
    keyboard.press("Escape")
    keyboard.press("Enter")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(words).to_be_focused()
    steps = field(panel, "Sampler: steps")
    steps.focus()
    keyboard.press("Control+a")
    keyboard.type("3")
    keyboard.press("Control+Enter")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    pictures = panel.locator(".cd-picture-button")
    expect(pictures).to_have_count(7)
    pictures.first.focus()
    keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_focused()
    keyboard.press("End")
    expect(pictures.last).to_be_focused()
    keyboard.press("ArrowLeft")
    expect(pictures.nth(5)).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator("img")).to_be_visible()
    keyboard.press("Escape")
    expect(pictures.nth(5)).to_be_focused()
    keyboard.type("?")
    keys = panel.get_by_role("dialog", name="Keys")
    expect(keys.get_by_text("Run the workflow")).to_be_visible()
    keyboard.press("Escape")
    expect(keys).to_be_hidden()
    for key in ("d", "d", "a", "b", "x", "Shift+Enter"):  # shortcuts of the notebook
        keyboard.press(key)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(1)
    assert prompt.text_content() == number, "the cell was not run again"
    expect(words).to_have_value("a harbour at dawn, soft light")
    keyboard.press("Escape")  # Shift+Enter has enlarged the picture
