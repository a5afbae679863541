"""How a RunPanel looks: at each width, while the page is scrolled, and with its keys."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.accessibility import assert_accessible
from tests.browser.axe import violations
from tests.browser.looks import HEIGHTS, THEMES
from tests.browser.test_run_panel import PANEL, assert_neat, press
from tests.helpers.selection import few

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)


def diffusion(token: str, steps: int = 20) -> dict[str, Any]:
    """Return a workflow with the inputs that most workflows have, which needs no model.

    Only a run with a new token is executed, and not taken from ComfyUI's cache.
    """
    return {
        "1": {
            "class_type": "TestPreview",
            "inputs": {"steps": steps, "delay": 0.1, "size": 512, "token": token},
            "_meta": {"title": "Sampler"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {
            "class_type": "EmptyImage",
            "inputs": {"width": 512, "height": 768, "batch_size": 1, "color": 3368550},
            "_meta": {"title": "Paper"},
        },
        "4": {
            "class_type": "ImageBlend",
            "inputs": {
                "image1": ["1", 0],
                "image2": ["3", 0],
                "blend_factor": 0.5,
                "blend_mode": "normal",
            },
        },
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
        "6": {"class_type": "TestSeed", "inputs": {"seed": 5}, "_meta": {"title": "Dice"}},
        "7": {
            "class_type": "TestText",
            "inputs": {"text": "a harbour at dawn, soft light", "anything": ["6", 0]},
            "_meta": {"title": "Words"},
        },
    }


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None
    return dict(found)


def test_form_and_result_are_side_by_side_if_the_panel_is_wide(
    open_notebook: Any, lab: JupyterProcess
) -> None:
    (lab.root / "layout.json").write_text(json.dumps(diffusion("layout")))
    opened = open_notebook("layout", PANEL.format("layout.json"))
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    press(panel, "Run")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.locator(".cd-pictures img").last).to_have_js_property("complete", True)
    for theme in THEMES:
        opened.set_theme(theme)
        for width in HEIGHTS:
            page.set_viewport_size({"width": width, "height": 1000})
            page.locator(".jp-WindowedPanel-outer").first.evaluate("all => all.scrollTo(0, 0)")
            page.wait_for_timeout(250)
            opened.shoot(f"layout-{width}-{theme}")
            form, result = box(panel.locator(".comfydeploy-form")), box(panel.locator(".cd-result"))
            wide = box(panel.locator(".cd-body"))["width"] >= 640
            assert wide == (width >= 900)
            if wide:
                assert result["x"] >= form["x"] + form["width"], "beside the form"
                assert result["y"] < form["y"] + 60
            else:
                assert result["y"] >= form["y"] + form["height"], "below the form"
            assert_neat(panel)
            assert_accessible(panel)


def test_a_panel_in_a_small_window_beside_an_open_sidebar(
    open_notebook: Any, lab: JupyterProcess
) -> None:
    (lab.root / "small.json").write_text(json.dumps(diffusion("small")))
    opened = open_notebook("small", PANEL.format("small.json"), width=480)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    page.evaluate("() => window.jupyterapp.shell.expandLeft()")
    expect(page.locator(".jp-FileBrowser")).to_be_visible()
    panel.get_by_label("Dice: seed", exact=True).fill("7")
    opened.shoot("small")
    assert_neat(panel)


def tall(token: str) -> dict[str, Any]:
    """Return a workflow whose form and whose result are each higher than the page."""
    texts = {
        f"{n}": {
            "class_type": "TestText",
            "inputs": {"text": f"{token} {n}\n" * 6},
            "_meta": {"title": f"Words {n}"},
        }
        for n in range(10)
    }
    return {**diffusion(token), **{f"t{n}": node for n, node in texts.items()}}


@pytest.mark.parametrize("where", few(["notebook", "scrolled output", "view of its own"]))
def test_the_bar_and_the_result_stay_visible(
    open_notebook: Any, lab: JupyterProcess, where: str
) -> None:
    name = f"sticky-{where.split()[0]}"
    (lab.root / f"{name}.json").write_text(json.dumps(tall(name)))
    opened = open_notebook(name, PANEL.format(f"{name}.json"), width=1440)
    page, panel = opened.page, opened.panel
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
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
    run = panel.get_by_role("button", name="Run", exact=True)
    run.click()
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    last = panel.get_by_label("Words 8: text", exact=True)
    for width in (1440, 700):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(250)
        last.evaluate("field => field.scrollIntoView({block: 'end'})")
        expect(last).to_be_in_viewport(ratio=0.9)
        expect(run).to_be_in_viewport(ratio=1)
        expect(panel.get_by_text("Ready")).to_be_in_viewport(ratio=1)
        if width == 1440:
            expect(panel.locator("b", has_text="Success")).to_be_in_viewport(ratio=1)
        panel.locator(".comfydeploy-history summary").scroll_into_view_if_needed()
        expect(run).to_be_in_viewport(ratio=1)
        assert run.evaluate(
            """button => {
                const box = button.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                return button.contains(document.elementFromPoint(x, y));
            }"""
        ), "nothing is over it"
        opened.shoot(f"{name}-{width}")


def test_everything_works_without_a_mouse(open_notebook: Any, lab: JupyterProcess) -> None:
    graph = diffusion("keys", 400)
    graph["2b"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    graph["3"]["inputs"]["batch_size"] = 3
    (lab.root / "keys.json").write_text(json.dumps(graph))
    opened = open_notebook("keys", PANEL.format("keys.json"))
    page, panel = opened.page, opened.panel
    keyboard = page.keyboard
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))
    number = prompt.text_content()
    expect(panel.get_by_text("Ready")).to_be_visible()
    words = panel.get_by_label("Words: text", exact=True)
    words.focus()
    keyboard.press("Control+Enter")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    keyboard.press("Escape")
    question = panel.get_by_role("alertdialog", name="Cancel the run?")
    expect(question.get_by_role("button", name="Cancel the run")).to_be_focused()
    opened.shoot("keys-asked")
    keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(words).to_be_focused()
    keyboard.press("Escape")
    keyboard.press("Enter")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(words).to_be_focused()
    steps = panel.get_by_label("Sampler: steps", exact=True)
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
    opened.shoot("keys-help")
    keyboard.press("Escape")
    expect(keys).to_be_hidden()
    for key in ("d", "d", "a", "b", "x", "Shift+Enter"):  # shortcuts of the notebook
        keyboard.press(key)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(1)
    assert prompt.text_content() == number, "the cell was not run again"
    expect(words).to_have_value("a harbour at dawn, soft light")
    keyboard.press("Escape")  # Shift+Enter has enlarged the picture
    result = pictures.first.locator("img")
    expect(result).to_have_css("filter", "none")
    panel.get_by_label("Sampler: delay", exact=True).fill("60")
    keyboard.press("Control+Enter")
    expect(result).to_have_css("filter", "grayscale(1) opacity(0.45)")
    while not question.is_visible():  # the key does nothing until the page knows of the run
        page.wait_for_timeout(100)
        keyboard.press("Escape")
    expect(question.get_by_role("button", name="Cancel the run")).to_be_focused()
    keyboard.press("Enter")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()


@pytest.mark.parametrize("kind", few(["WorkflowPanel", "UploadPanel", "TunnelPanel"]))
def test_keys_in_a_panel_are_no_shortcuts_of_the_notebook(open_notebook: Any, kind: str) -> None:
    code = f"from comfydeploy_jupyter import {kind}\n{kind}()"
    opened = open_notebook(f"keys-{kind}", code)
    page, panel = opened.page, opened.panel
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))
    number = prompt.text_content()
    controls = panel.locator("button:enabled, select:enabled, input[type=checkbox]")
    expect(controls.locator("visible=true").first).to_be_enabled()
    for control in controls.locator("visible=true").element_handles():
        control.focus()
        for key in ("d", "d", "a", "b", "m", "Control+Enter"):
            page.keyboard.press(key)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(1)
    expect(page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(1)
    assert prompt.text_content() == number, "the cell was not run again"


FAILING = {
    "1": {"class_type": "TestFail", "inputs": {"message": "CUDA out of memory."}},
    "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
}


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_axe_finds_no_violations(open_notebook: Any, lab: JupyterProcess, theme: str) -> None:
    name = f"axe-{theme}"
    (lab.root / f"{name}.json").write_text(json.dumps(diffusion(name, 200)))
    (lab.root / "failing.json").write_text(json.dumps(FAILING))
    opened = open_notebook(
        name, "from comfydeploy_jupyter import RunPanel\nRunPanel()", theme=f"JupyterLab {theme}"
    )
    panel = opened.panel
    expect(panel.get_by_text("Coloured clouds")).to_be_visible()
    opened.shoot(f"{name}-start")
    assert violations(panel) == []
    press(panel, "Coloured clouds")
    expect(panel.get_by_text("Ready")).to_be_visible()
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    field = panel.get_by_role("combobox", name="Workflow")
    field.click()
    panel.get_by_role("option", name=f"{name}.json").click()
    expect(panel.get_by_label("Sampler: steps", exact=True)).to_be_visible()
    panel.get_by_label("Sampler: steps", exact=True).fill("199")
    panel.get_by_text("More inputs").click()
    press(panel, "Run")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    assert violations(panel) == [], "while it runs"
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    panel.get_by_label("Paper: width", exact=True).fill("0")
    press(panel, "Run")
    expect(panel.get_by_role("alert")).to_be_visible()
    assert violations(panel) == [], "with a wrong value"
    field.click()
    panel.get_by_role("option", name="failing.json").click()
    expect(panel.get_by_label("TestFail: message", exact=True)).to_be_visible()
    press(panel, "Run")
    expect(panel.locator("b", has_text="Failed")).to_be_visible()
    expect(panel.get_by_role("alert")).to_contain_text("ComfyUI ran out of memory")
    panel.get_by_text("Traceback").click()
    expect(panel.locator("pre", has_text="raise ValueError")).to_be_visible()
    panel.get_by_text("The last lines of ComfyUI's log").click()
    expect(panel.get_by_text("was not started by this server")).to_be_visible()
    press(panel, "Free ComfyUI's memory")
    opened.shoot(f"{name}-failed")
    assert violations(panel) == [], "after a failure"
    assert_neat(panel)
    assert_accessible(panel)
