"""Very large inputs, and what a panel shows when other clients change its run."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.test_form_limits import EVIL, RIGHT_TO_LEFT, WIDE
from tests.browser.test_run_panel import PANEL, assert_neat, press
from tests.helpers.selection import few

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

WORDS: dict[str, Any] = {
    "1": {
        "class_type": "TestText",
        "inputs": {"text": "first words", "anything": ""},
        "_meta": {"title": "Words"},
    }
}


def words(panel: Locator) -> Locator:
    return panel.get_by_label("Words: text", exact=True)


def output(name: str, kind: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "", "type": kind}


@pytest.fixture
def huge(comfyui: ComfyUIServer) -> Iterator[str]:
    """A picture of 100 megapixels in the input and the output folder, one of 196 in the output."""
    name = f"huge-{uuid.uuid4().hex[:8]}"
    made: list[Path] = []
    for side, folder, suffix in ((10_000, "input", ""), (14_000, "output", "-more")):
        made.append(comfyui.base_dir / folder / f"{name}{suffix}.png")
        with Image.new("L", (side, side), 120) as picture:
            picture.save(made[-1], compress_level=1)
    made.append(comfyui.base_dir / "output" / f"{name}.png")
    made[-1].hardlink_to(made[0])
    yield name
    for path in made:
        path.unlink()


@pytest.mark.thorough
def test_a_picture_of_a_hundred_megapixels(
    open_notebook: Any, lab: JupyterProcess, huge: str
) -> None:
    shown = [output(f"{huge}.png"), output(f"{huge}-more.png")]
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"{huge}.png"}},
        "2": {
            "class_type": "TestOutput",
            "inputs": {"files": "{}", "output": json.dumps({"images": shown})},
        },
    }
    (lab.root / f"{huge}.json").write_text(json.dumps(graph))
    opened = open_notebook("huge", PANEL.format(f"{huge}.json"))
    panel = opened.panel
    small = panel.get_by_alt_text(re.compile(f"{huge}.png")).first
    expect(small).to_have_js_property("naturalWidth", 128)
    field = panel.get_by_role("combobox", name="Load Image: image", exact=True)
    field.fill(f"{huge}-more.png [output]")
    field.press("Enter")
    expect(
        panel.get_by_text(re.compile("A preview can be made only .* megapixels"))
    ).to_be_visible()
    field.fill(f"{huge}.png")
    field.press("Enter")
    expect(small).to_have_js_property("naturalWidth", 128)
    press(panel, "Run")
    result = panel.locator(".comfydeploy-gallery")
    expect(result.locator("img").first).to_have_js_property("naturalWidth", 768)
    tile = result.locator(".cd-tile", has_text=f"{huge}-more.png")
    expect(tile).to_contain_text("at most 178 megapixels")
    assert_neat(panel)
    opened.shoot("huge")
    result.locator(".cd-picture-button").first.click()
    full = opened.page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("complete", True)
    assert full.evaluate("image => image.naturalWidth") >= 1024
    opened.page.keyboard.press("Escape")


@pytest.mark.thorough
def test_the_picture_of_three_thousand_nodes(open_notebook: Any, lab: JupyterProcess) -> None:
    graph: dict[str, Any] = {
        "0": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}}
    }
    for n in range(1, 3000):
        graph[f"{n}"] = {"class_type": "ImageInvert", "inputs": {"image": [f"{max(0, n - 50)}", 0]}}
    (lab.root / "forest.json").write_text(json.dumps(graph))
    code = "from comfydeploy_jupyter import WorkflowPanel\nWorkflowPanel('forest.json')"
    opened = open_notebook("forest", code)
    panel = opened.page.locator(".comfydeploy-workflows")
    picture = panel.get_by_role("group", name="Picture of the workflow")
    expect(picture.locator("[data-id]")).to_have_count(3000)
    expect(panel.locator(".cd-about")).to_contain_text("3000 nodes")
    opened.shoot("forest")
    assert_neat(panel)
    took = picture.evaluate(
        """async frame => {
            frame.focus();
            const times = [];
            for (const key of ["+", "ArrowLeft", "ArrowUp", "n", "n", "-", "0"]) {
                const begin = performance.now();
                frame.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
                await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
                times.push(performance.now() - begin);
            }
            return times.sort((a, b) => a - b)[3];
        }"""
    )
    assert took < 1000, "it stays usable"
    expect(panel.locator(".cd-about")).to_contain_text("ImageInvert")


@pytest.mark.thorough
def test_two_panels_that_change_one_preset(open_notebook: Any, lab: JupyterProcess) -> None:
    comfy = Comfy(lab.url, lab.token)
    name = f"Shared {uuid.uuid4().hex[:8]}"
    comfy.workflows.save(WORDS, name)
    code = (
        "from comfydeploy_jupyter import RunPanel\nfrom IPython.display import display\n"
        f"display(RunPanel({name!r}), RunPanel({name!r}))"
    )
    opened = open_notebook("two-presets", code)
    mine, other = opened.panel.first, opened.panel.last

    def save(panel: Locator, text: str) -> None:
        words(panel).fill(text)
        panel.get_by_role("combobox", name="Preset").fill("Evening")
        panel.locator(".comfydeploy-presets").get_by_role("button", name="Save").click()

    expect(other.get_by_text("Ready")).to_be_visible()
    save(mine, "mine")
    expect(mine.get_by_text("Saved as Evening")).to_be_visible()
    save(other, "the other's")
    notice = other.get_by_text("Another panel has changed this preset. Your values are still here.")
    expect(notice).to_be_visible()
    opened.shoot("two-presets")
    assert_neat(other)
    expect(words(other)).to_have_value("the other's")
    press(other, "Use the other values")
    expect(words(other)).to_have_value("mine")
    expect(notice).to_be_hidden()
    save(other, "of both")
    expect(other.get_by_text("Saved as Evening")).to_be_visible()
    save(mine, "mine again")
    press(mine, "Replace them with mine")
    expect(mine.get_by_text("Saved as Evening")).to_be_visible()
    (stored,) = comfy.workflows.list(name)
    assert stored.presets["Evening"].inputs == {"1.text": "mine again"}


@pytest.fixture
def far(start_jupyter: Any, comfyui: ComfyUIServer, tmp_path: Path) -> Iterator[JupyterProcess]:
    """Another Jupyter server in front of the same ComfyUI, which a test ends."""
    server = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "autostart": False,
            "data_dir": str(tmp_path / "data"),
        }
    )
    yield server
    server.stop()


def test_a_lost_server_is_reported_and_no_value_is_lost(
    open_notebook: Any, lab: JupyterProcess, far: JupyterProcess
) -> None:
    (lab.root / "far.json").write_text(json.dumps(WORDS))
    code = (
        "import comfydeploy_jupyter as cd\n"
        f"cd.RunPanel('far.json', comfy=cd.connect({far.url!r}, token={far.token!r}))"
    )
    opened = open_notebook("far", code)
    panel = opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    words(panel).fill("words that I typed")
    far.kill()
    press(panel, "Run")
    expect(panel.locator(".comfydeploy-error").first).to_contain_text("does not answer")
    expect(words(panel)).to_have_value("words that I typed")
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    opened.shoot("server-lost")
    assert_neat(panel)
    far.start()
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.locator("pre", has_text="words that I typed")).to_be_visible()
    expect(panel.locator(".comfydeploy-error")).to_have_count(0)


@pytest.mark.parametrize("text", few([EVIL, RIGHT_TO_LEFT, WIDE]))
def test_names_of_workflows_labels_errors_and_files(
    open_notebook: Any, lab: JupyterProcess, text: str
) -> None:
    comfy = Comfy(lab.url, lab.token)
    name = f"{text[:200]} {uuid.uuid4().hex[:6]}"
    file = f"{text[:60].replace('/', '_')}.txt"
    graph = {
        "1": {
            "class_type": "TestFailIf",
            "inputs": {"condition": False, "message": text, "anything": ""},
            "_meta": {"title": text},
        },
        "2": {
            "class_type": "TestOutput",
            "inputs": {
                "files": json.dumps({file: "eA=="}),
                "output": json.dumps({"images": [output(file)], "text": [text]}),
            },
            "_meta": {"title": text},
        },
        "3": {
            "class_type": "TestText",
            "inputs": {"text": text, "anything": ["1", 0]},
            "_meta": {"title": text},
        },
    }
    stored = comfy.workflows.save(graph, name, comment=text)
    stored.tag(text[:60])
    code = (
        "import comfydeploy_jupyter as cd\nfrom IPython.display import display\n"
        f"display(cd.RunPanel({name!r}), cd.WorkflowPanel(workflow_id={stored.id!r}))"
    )
    opened = open_notebook("hostile", code)
    run, workflows = opened.panel.first, opened.page.locator(".comfydeploy-workflows")
    expect(run.get_by_text("Ready")).to_be_visible()
    press(run, "Run")
    expect(run.locator("b", has_text="Success")).to_be_visible()
    expect(run.locator(".cd-tile")).to_be_visible()
    run.get_by_label(re.compile("condition$")).first.check()
    press(run, "Run")
    expect(run.locator("b", has_text="Failed")).to_be_visible()
    expect(run.locator(".comfydeploy-gallery .comfydeploy-error")).to_contain_text(text[:20])
    expect(workflows.get_by_label("Versions", exact=True)).to_contain_text(text[:20])
    opened.shoot(f"hostile-{text[:1]}")
    for panel in (run, workflows):
        assert_neat(panel)
    assert opened.panel.locator("img[src=x]").count() == 0, "shown as text, not executed"
