"""Very large inputs, and unusual texts."""

from __future__ import annotations

import json
import re
import statistics
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.panels import assert_neat, field, press, run
from tests.helpers.graphs import node
from tests.helpers.selection import few

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

WIDE = "W" * 800
EVIL = "<img src=x onerror=alert(1)>"
RIGHT_TO_LEFT = "שלום עולם \u202e 🙂👩‍🚀"


def output(name: str, kind: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "", "type": kind}


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
    inputs = ({"input_id": f"text_{n}", "display_name": f"Text {n}"} for n in range(number))
    kind = "ComfyUIDeployExternalText"
    return {f"{n}": node(kind, default_value="", **each) for n, each in enumerate(inputs)}


def typed_in(control: Locator, text: str) -> float:
    """Type a text; return how long half of its letters took at most until they were painted, ms."""
    page = control.page
    page.evaluate(OBSERVE)
    control.focus()
    page.keyboard.type(text, delay=60)
    expect(control).to_have_value(text)
    times = [float(each) for each in page.evaluate("() => window.keyTimes()")]
    return statistics.median([*times, *[0.0] * (len(text) - len(times))])


@pytest.mark.thorough
def test_typing_takes_as_long_with_many_inputs_as_with_one(open_run_panel: Any) -> None:
    took = {}
    for number in (1, 200):
        panel = open_run_panel(many(number), fresh=True).panel
        expect(panel.get_by_text("Ready")).to_be_visible()
        took[number] = typed_in(field(panel, "Text 0"), "a harbour at dawn")
    assert took[200] <= max(50, 3 * took[1]), took


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
def test_a_picture_of_a_hundred_megapixels(open_run_panel: Any, huge: str) -> None:
    images = json.dumps({"images": [output(f"{huge}.png"), output(f"{huge}-more.png")]})
    loader = node("LoadImage", image=f"{huge}.png")
    opened = open_run_panel({"1": loader, "2": node("TestOutput", files="{}", output=images)})
    panel = opened.panel
    small = panel.get_by_alt_text(re.compile(f"{huge}.png")).first
    expect(small).to_have_js_property("naturalWidth", 128)
    image = panel.get_by_role("combobox", name="Load Image: image", exact=True)
    image.fill(f"{huge}-more.png [output]")
    image.press("Enter")
    expect(
        panel.get_by_text(re.compile("A preview can be made only .* megapixels"))
    ).to_be_visible()
    image.fill(f"{huge}.png")
    image.press("Enter")
    expect(small).to_have_js_property("naturalWidth", 128)
    press(panel, "Run")
    result = panel.locator(".comfydeploy-gallery")
    expect(result.locator("img").first).to_have_js_property("naturalWidth", 768)
    tile = result.locator(".cd-tile", has_text=f"{huge}-more.png")
    expect(tile).to_contain_text("at most 178 megapixels")
    assert_neat(panel)
    result.locator(".cd-picture-button").first.click()
    viewer = opened.page.get_by_role("dialog", name="Picture in full size")
    expect(viewer.locator("img")).to_have_js_property("naturalWidth", 1024)
    expect(viewer.get_by_text("the picture has 100 million pixels")).to_be_visible()
    expect(viewer.get_by_role("button", name="Show all pixels")).to_be_visible()
    opened.page.keyboard.press("Escape")


@pytest.mark.parametrize("text", few([EVIL, RIGHT_TO_LEFT, WIDE]))
def test_names_of_workflows_labels_errors_and_files(
    open_notebook: Any, lab: JupyterProcess, text: str
) -> None:
    comfy = Comfy(lab.url, lab.token)
    name = f"{text[:200]} {uuid.uuid4().hex[:6]}"
    file = f"{text[:60].replace('/', '_')}.txt"
    shown = json.dumps({"images": [output(file)], "text": [text]})
    graph = {
        "1": node("TestFailIf", text, condition=False, message=text, anything=""),
        "2": node("TestOutput", text, files=json.dumps({file: "eA=="}), output=shown),
        "3": node("TestText", text, text=f"{text}\n{text}", anything=["1", 0]),
    }
    stored = comfy.workflows.save(graph, name, comment=text)
    stored.tag(text[:60])
    code = (
        "import comfydeploy_jupyter as cd\nfrom IPython.display import display\n"
        f"display(cd.RunPanel({name!r}), cd.WorkflowPanel(workflow_id={stored.id!r}))"
    )
    opened = open_notebook(code)
    mine, workflows = opened.panel.first, opened.page.locator(".comfydeploy-workflows")
    expect(mine.get_by_text("Ready")).to_be_visible()
    mine.get_by_role("combobox", name="Preset").fill(text[:60])
    press(mine, "Save")
    expect(mine.get_by_text(f"Saved as {text[:60]}")).to_be_visible()
    run(mine)
    expect(mine.locator(".cd-tile")).to_be_visible()
    mine.get_by_label(re.compile("condition$")).first.check()
    run(mine, "Failed")
    expect(mine.locator(".comfydeploy-gallery .comfydeploy-error")).to_contain_text(text[:20])
    expect(workflows.get_by_label("Versions", exact=True)).to_contain_text(text[:20])
    for width in (1280, 700):
        opened.page.set_viewport_size({"width": width, "height": 1000})
        for panel in (mine, workflows):
            assert_neat(panel)
    assert opened.panel.locator("img[src=x]").count() == 0, "shown as text, not executed"
