"""RunPanel as users see it, driven by mouse and keyboard."""

from __future__ import annotations

import json
import re
import time
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from PIL import Image
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess
    from tests.helpers.transfer_service import Service

pytestmark = pytest.mark.timeout(300)

GOLDEN_MEDIA = REPOSITORY / "tests" / "golden" / "media"
PANEL = "from comfydeploy_jupyter import RunPanel\npanel = RunPanel({!r})\npanel"


@pytest.fixture(autouse=True)
def comfy(lab: JupyterProcess) -> Iterator[Comfy]:
    """A client; the queue is emptied after each test, also after one that failed."""
    client = Comfy(lab.url, lab.token)
    yield client
    for status in ("queued", "running"):
        for run in client.runs(status=status):
            run.cancel()


@pytest.fixture
def write(lab: JupyterProcess) -> Any:
    """A function that writes a workflow beside the notebooks and returns its name."""

    def workflow(name: str, graph: dict[str, Any]) -> str:
        (lab.root / name).write_text(json.dumps(graph))
        return name

    return workflow


def slow(steps: int, delay: float, title: str) -> dict[str, Any]:
    """Return a slow workflow that no other test has run, and that no cache has."""
    token = f"{title} {time.time()}"
    return {
        title: {
            "class_type": "TestPreview",
            "inputs": {"steps": steps, "delay": delay, "size": 64, "token": token},
            "_meta": {"title": title},
        },
        "end": {"class_type": "PreviewImage", "inputs": {"images": [title, 0]}},
    }


def press(panel: Locator, name: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()


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


@pytest.mark.parametrize(
    ("app", "theme", "width", "pixels"),
    few(
        [("lab", "Light", 1280, 320), ("notebook", "Light", 1000, 352), ("lab", "Dark", 700, 336)],
        2,
    ),
)
def test_change_run_and_see(
    open_notebook: Any, app: str, theme: str, width: int, pixels: int
) -> None:
    name = f"run-{app}-{theme}"
    opened = open_notebook(
        name, PANEL.format("sunset.json"), theme=f"JupyterLab {theme}", app=app, width=width
    )
    page, panel = opened.page, opened.panel
    page.evaluate("() => window.jupyterapp?.shell.collapseLeft?.()")
    field = panel.get_by_label("Width", exact=True)
    expect(field).to_have_value("640")
    expect(panel.get_by_text("Ready")).to_be_visible()
    hint = panel.get_by_text("1 to 4096 · default 1").first
    expect(hint).to_be_hidden()
    panel.get_by_label("Sky: batch size", exact=True).focus()
    expect(hint).to_be_visible()
    opened.shoot(f"{name}-ready")
    width = panel.get_by_label("Sky: width", exact=True)
    expect(width).to_have_attribute("placeholder", "1 to 16384 pixels")
    width.focus()
    expect(panel.get_by_text("1 to 16384 pixels · default 512").first).to_be_visible()
    assert_neat(panel)
    panel.get_by_text("More inputs").click()
    panel.get_by_label("Find an input").fill("blend factor")
    expect(panel.get_by_label("Sky with clouds: blend factor", exact=True)).to_have_value("0.55")
    expect(panel.get_by_label("Horizon: width", exact=True)).to_be_hidden()
    panel.get_by_text("More inputs").click()
    field.fill(str(pixels))
    press(panel, "Run")
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    expect(picture).to_be_visible()
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.locator("pre", has_text="A sunset that needs no model")).to_be_visible()
    expect(panel.get_by_role("button", name="Cancel")).to_be_disabled()
    panel.get_by_text("Node timings").click()
    expect(panel.get_by_role("row", name=re.compile(r"^Picture .* s$"))).to_be_visible()
    expect(panel.locator(".cd-run")).not_to_have_count(0)
    picture.scroll_into_view_if_needed()
    opened.shoot(f"{name}-done")
    assert_neat(panel)
    picture.click()
    full = page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", pixels)
    opened.shoot(f"{name}-full")
    page.keyboard.press("Escape")
    expect(full).to_be_hidden()
    expect(panel.locator(".cd-picture-button")).to_be_focused()


def test_cancel_a_slow_run(open_notebook: Any, write: Any, comfy: Comfy) -> None:
    opened = open_notebook(
        "cancel", PANEL.format(write("slow.json", slow(200, 0.3, "Slow sampler")))
    )
    panel = opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    press(panel, "Run")
    expect(panel.get_by_text(re.compile(r"Slow sampler \(TestPreview\) \d+/200"))).to_be_visible()
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    expect(panel.get_by_text(re.compile("about .* left"))).to_be_visible()
    expect(panel.get_by_role("progressbar", name="The whole run")).to_be_visible()
    opened.shoot("panel-running")
    assert_neat(panel)
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_hidden()
    assert comfy.runs(limit=1)[0].status == "cancelled"
    opened.shoot("panel-cancelled")


def test_several_runs_with_seeds_and_the_values_of_an_earlier_one(
    open_notebook: Any, write: Any, comfy: Comfy
) -> None:
    graph = {
        "1": {"class_type": "TestSeed", "inputs": {"seed": 5}, "_meta": {"title": "Dice"}},
        "2": {
            "class_type": "TestText",
            "inputs": {"text": "first words", "anything": ["1", 0]},
            "_meta": {"title": "Words"},
        },
    }
    opened = open_notebook("several", PANEL.format(write("dice.json", graph)))
    page, panel = opened.page, opened.panel
    seed = panel.get_by_label("Dice: seed", exact=True)
    lock = panel.get_by_role("button", name="Dice: seed: keep for every run")
    expect(seed).to_have_value("5")
    expect(lock).to_have_attribute("aria-pressed", "true")
    press(panel, "Dice: seed: choose a random number")
    expect(seed).not_to_have_value("5")
    press(panel, "Dice: seed: back to the value of the workflow")
    expect(seed).to_have_value("5")
    press(panel, "Run")
    expect(panel.locator(".cd-run")).to_have_count(1)
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "false")
    panel.get_by_label("Words: text", exact=True).fill("other words")
    panel.get_by_label("times").fill("3")
    press(panel, "Run")
    expect(panel.locator(".cd-run")).to_have_count(4)
    expect(panel.get_by_text("Ready")).to_be_visible()
    workflow = comfy.load(graph)
    seeds = [run.known["seeds"]["1.seed"] for run in comfy.runs(of=workflow)]
    assert len(set(seeds)) == 4, "each run has drawn a seed of its own"
    assert seed.input_value() == str(seeds[0]), "the last seed is shown"
    opened.shoot("panel-several")
    panel.locator(".cd-run").last.click()
    expect(panel.locator("pre", has_text="first words")).to_be_visible()
    press(panel, "Use these values again")
    expect(seed).to_have_value("5")
    expect(lock).to_have_attribute("aria-pressed", "true")
    expect(panel.get_by_label("Words: text", exact=True)).to_have_value("first words")
    seed.fill("five")
    press(panel, "Run")
    expect(panel.get_by_role("alert")).to_have_text("Dice: seed: must be a whole number")
    page.keyboard.press("Escape")
    opened.shoot("panel-bad-value")


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A picture that goes through the kernel in many pieces."""
    path = tmp_path / f"holiday-{uuid.uuid4().hex[:6]}.png"
    Image.effect_noise((2400, 1800), 90).convert("RGB").save(path)
    assert path.stat().st_size > 6_000_000
    return path


def upload(opened: Any, label: str, word: str, path: Path) -> None:
    """Choose a file for an input, and wait until it has arrived."""
    with opened.page.expect_file_chooser() as chooser:
        press(opened.panel, f"{label}: upload a {word}")
    chooser.value.set_files(path)
    expect(opened.panel.get_by_role("combobox", name=label)).to_have_value(path.name)


def test_pictures_videos_and_sounds_are_uploaded_and_used(
    open_notebook: Any, write: Any, comfyui: Any, picture_file: Path
) -> None:
    Image.new("RGB", (40, 30), "green").save(comfyui.input_dir / "there.png")
    graph = {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": "there.png"},
            "_meta": {"title": "Photo"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "LoadVideo", "inputs": {"file": ""}, "_meta": {"title": "Film"}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["3", 0],
                "filename_prefix": "film",
                "format": "auto",
                "codec": "auto",
            },
        },
        "5": {"class_type": "TestLoadSound", "inputs": {"audio": ""}, "_meta": {"title": "Song"}},
    }
    opened = open_notebook("upload", PANEL.format(write("media.json", graph)))
    panel = opened.panel
    expect(panel.get_by_alt_text("Photo: image: there.png")).to_be_visible()
    upload(opened, "Photo: image", "picture", picture_file)
    expect(panel.get_by_alt_text(f"Photo: image: {picture_file.name}")).to_be_visible()
    assert (comfyui.input_dir / picture_file.name).read_bytes() == picture_file.read_bytes()
    upload(opened, "Film: file", "video", GOLDEN_MEDIA / "video.webm")
    expect(panel.get_by_label("Film: file: video.webm")).to_have_js_property("readyState", 4)
    upload(opened, "Song: audio", "sound", GOLDEN_MEDIA / "sound.mp3")
    expect(panel.get_by_label("Song: audio: sound.mp3")).to_have_js_property("readyState", 4)
    opened.shoot("panel-media-inputs")
    assert_neat(panel)
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.locator(".comfydeploy-gallery video")).to_be_visible()
    size = (GOLDEN_MEDIA / "sound.mp3").stat().st_size
    expect(panel.locator("pre", has_text=f"sound.mp3: {size} bytes")).to_be_visible()
    panel.locator(".cd-pictures img").click()
    full = opened.page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", 2400)
    opened.page.keyboard.press("Escape")
    opened.shoot("panel-upload")
    assert_neat(panel)


def test_reload_and_kernel_restart_during_a_run(
    open_notebook: Any, write: Any, comfy: Comfy
) -> None:
    graph = slow(100_000, 0.05, "Long sampler")
    opened = open_notebook("reload", PANEL.format(write("long.json", graph)), fresh=True)
    page, panel = opened.page, opened.panel
    panel.get_by_label("Long sampler: steps", exact=True).fill("90000")
    press(panel, "Run")
    steps = panel.get_by_text(re.compile(r"Long sampler .* \d+/90000"))
    expect(steps).to_be_visible()
    opened.save()
    page.reload()
    expect(steps).to_be_visible()
    expect(panel.get_by_label("Long sampler: steps", exact=True)).to_have_value("90000")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    opened.shoot("panel-reloaded")
    page.get_by_role("button", name="Restart the kernel and run all cells").click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect(panel.get_by_label("Long sampler: steps", exact=True)).to_have_value("100000")
    expect(steps).to_be_visible()
    expect(panel.get_by_role("button", name="Cancel", exact=True)).to_be_enabled()
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    (run,) = comfy.runs(of=comfy.load(graph))
    assert run.status == "cancelled"
    opened.shoot("panel-found-again")


@pytest.mark.thorough
def test_two_notebooks_with_the_same_panel(open_notebook: Any, write: Any, comfy: Comfy) -> None:
    graph = slow(100_000, 0.05, "Shared")
    code = PANEL.format(write("shared.json", graph))
    first = open_notebook("first", code)
    press(first.panel, "Run")
    expect(first.panel.get_by_text(re.compile(r"Shared .* \d+/100000"))).to_be_visible()
    second = open_notebook("second", code)
    expect(second.panel.get_by_text(re.compile(r"Shared .* \d+/100000"))).to_be_visible()
    second.panel.get_by_label("Shared: steps", exact=True).fill("2")
    press(second.panel, "Run")
    expect(second.panel.get_by_text("1 more waiting")).to_be_visible()
    second.shoot("panel-second")
    press(first.panel, "Cancel")
    expect(first.panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(second.panel.locator("b", has_text="Success")).to_be_visible()
    expect(second.panel.locator(".cd-run")).to_have_count(2)
    assert first.panel.get_by_label("Shared: steps", exact=True).input_value() == "100000"
    press(first.panel, "Refresh the list of runs")
    expect(first.panel.locator(".cd-run")).to_have_count(2)
    assert len(comfy.runs(of=comfy.load(graph))) == 2


EVERYTHING = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 600, "height": 400, "batch_size": 200, "color": 3368550},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "many"}},
    "3": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 8, "color": 16711680},
    },
    "4": {
        "class_type": "SaveWEBM",
        "inputs": {
            "images": ["3", 0],
            "filename_prefix": "film",
            "codec": "vp9",
            "fps": 8.0,
            "crf": 32.0,
        },
    },
    "5": {"class_type": "TestSound", "inputs": {"seconds": 2.0}},
    "7": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
    "8": {"class_type": "SaveLatent", "inputs": {"samples": ["7", 0], "filename_prefix": "raw"}},
}


@pytest.mark.thorough
def test_two_hundred_pictures_a_video_a_sound_and_a_file(open_notebook: Any, write: Any) -> None:
    opened = open_notebook("gallery", PANEL.format(write("everything.json", EVERYTHING)))
    page, panel = opened.page, opened.panel
    requested: list[str] = []
    page.on(
        "request", lambda request: requested.append(request.url) if "/view?" in request.url else 0
    )
    press(panel, "Run")
    pictures = panel.locator(".cd-picture-button")
    expect(pictures).to_have_count(200, timeout=120_000)
    expect(pictures.first.locator("img")).to_have_js_property("naturalWidth", 224)
    assert 0 < len(requested) < 150, "what is far away is not loaded"
    assert all("thumbnail=" in url for url in requested), "no original before it is asked for"
    opened.shoot("panel-gallery")
    assert_neat(panel)
    pictures.last.scroll_into_view_if_needed()
    expect(pictures.last.locator("img")).to_have_js_property("naturalWidth", 224)
    pictures.last.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("(200 of 200)")).to_be_visible()
    expect(dialog.locator("img")).to_have_js_property("naturalWidth", 600)
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_text("(1 of 200)")).to_be_visible()
    press(dialog, "Previous picture")
    expect(dialog.get_by_text("(200 of 200)")).to_be_visible()
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"many_\d+_\.png", download.value.suggested_filename)
    press(dialog, "Close")
    for kind in ("video", "audio"):
        player = panel.locator(kind)
        player.scroll_into_view_if_needed()
        expect(player).to_have_js_property("readyState", 4)
        assert player.evaluate("player => player.duration") > 0.5
    with page.expect_download() as download:
        panel.get_by_role("link", name=re.compile(r"raw_\d+_\.latent")).click()
    assert download.value.path().stat().st_size > 100
    opened.shoot("panel-media")


def test_a_page_that_cannot_reach_the_server_gets_everything_through_the_kernel(
    open_notebook: Any, write: Any, jupyter: JupyterProcess, comfyui: Any, picture_file: Path
) -> None:
    graph = {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": ""},
            "_meta": {"title": "Photo"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    opened = open_notebook(
        "elsewhere",
        "from comfydeploy_jupyter import RunPanel\n"
        "from comfydeploy_jupyter.client import Comfy\n"
        f"comfy = Comfy({jupyter.url!r}, {jupyter.token!r})\n"
        f"RunPanel({write('elsewhere.json', graph)!r}, comfy)",
    )
    page, panel = opened.page, opened.panel
    requested: list[str] = []
    routes = re.compile(r"/(view\?|upload-file)")
    page.on(
        "request",
        lambda request: requested.append(request.url) if routes.search(request.url) else 0,
    )
    upload(opened, "Photo: image", "picture", picture_file)
    assert (comfyui.input_dir / picture_file.name).read_bytes() == picture_file.read_bytes()
    press(panel, "Run")
    picture = panel.locator(".cd-pictures img")
    expect(picture).to_have_attribute("src", re.compile("^blob:"))
    expect(picture).to_have_js_property("naturalWidth", 768)
    picture.click()
    full = page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", 2400)
    expect(full).to_have_attribute("src", re.compile("^blob:"))
    assert requested == [], "another server's files of the same name must not be shown"


def test_content_of_the_saved_notebook(open_notebook: Any, lab: JupyterProcess) -> None:
    opened = open_notebook("saved", PANEL.format("sunset.json"))
    opened.panel.get_by_label("Width", exact=True).fill("304")
    press(opened.panel, "Run")
    expect(opened.panel.locator(".cd-pictures img")).to_be_visible()
    expect(opened.panel.locator(".cd-run")).not_to_have_count(0)
    expect(opened.page.locator("[class^=comfydeploy-record]")).to_be_hidden()
    opened.page.wait_for_function(
        "() => document.querySelector('[class^=comfydeploy-record] img')", polling=100
    )
    notebook = opened.save()
    text = json.dumps(notebook)
    assert lab.token not in text
    assert "widgets" not in notebook["metadata"], "no state of widgets"
    assert len(text) < 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbconvert's own
        page, _ = HTMLExporter().from_notebook_node(nbformat.reads(text, as_version=4))
    output = page[page.index("comfydeploy-record") :]
    assert "data:image/webp;base64," in output
    assert "A sunset that needs no model" in output
    assert "RunPanel: sunset.json" in output


@pytest.mark.thorough
def test_a_thousand_previews_leave_no_objects_in_memory(open_notebook: Any, write: Any) -> None:
    graph = slow(1000, 0.005, "Thousand")
    graph["Thousand"]["inputs"]["size"] = 512
    opened = open_notebook("thousand", PANEL.format(write("thousand.json", graph)), fresh=True)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    tools = page.context.new_cdp_session(page)

    def heap() -> int:
        tools.send("HeapProfiler.collectGarbage")
        return int(tools.send("Runtime.getHeapUsage")["usedSize"])

    before, saved_before = heap(), len(json.dumps(opened.save()))
    press(panel, "Run")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    expect(panel.locator("b", has_text="Success")).to_be_visible(timeout=120_000)
    expect(panel.locator(".cd-run img")).to_be_visible()
    assert heap() - before < 8_000_000
    assert len(json.dumps(opened.save())) - saved_before < 50_000


def test_stored_workflows_are_found_and_their_versions_chosen(
    open_notebook: Any, comfy: Comfy
) -> None:
    def graph(text: str) -> dict[str, Any]:
        node = {"class_type": "TestText", "inputs": {"text": text}, "_meta": {"title": "Words"}}
        return {"1": node}

    stored = comfy.workflows.save(graph("one"), "Harbour at dawn")
    comfy.workflows.save(graph("two"), workflow_id=stored.id)
    opened = open_notebook("stored", "from comfydeploy_jupyter import RunPanel\nRunPanel()")
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("A stored workflow")).to_be_visible()
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_hidden()
    field = panel.get_by_role("combobox", name="Workflow")
    field.click()
    expect(panel.get_by_role("option", name=re.compile("sunset.json"))).to_be_visible()
    page.keyboard.type("dawn harb")
    expect(panel.get_by_role("option", name=re.compile("sunset.json"))).to_be_hidden()
    expect(panel.get_by_role("option", name=re.compile("Harbour at dawn"))).to_be_visible()
    opened.shoot("panel-picker")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    words = panel.get_by_label("Words: text", exact=True)
    expect(words).to_have_value("two")
    panel.get_by_label("Version").select_option("1")
    expect(words).to_have_value("one")
    assert_neat(panel)


def test_a_workflow_of_the_users_computer_and_one_that_fails(
    open_notebook: Any, tmp_path: Path
) -> None:
    graph = {
        "1": {"class_type": "TestFail", "inputs": {"message": "<b>no</b>"}},
        "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
    }
    (tmp_path / "mine.json").write_text(json.dumps(graph))
    (tmp_path / "broken.json").write_text("{")
    opened = open_notebook("mine", "from comfydeploy_jupyter import RunPanel\nRunPanel()")
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("A stored workflow")).to_be_visible()
    for name in ("broken.json", "mine.json"):
        with page.expect_file_chooser() as chooser:
            panel.get_by_title(re.compile("Open a workflow of your computer")).click()
        chooser.value.set_files(tmp_path / name)
        if name == "broken.json":
            expect(panel.get_by_role("alert")).to_contain_text("is not JSON")
    press(panel, "Run")
    alert = panel.get_by_role("alert")
    expect(alert).to_contain_text("node TestFail failed: ValueError: <b>no</b>")
    expect(alert).to_be_visible()
    opened.shoot("panel-failed")


RANGE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
        "_meta": {"title": "Paper"},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    "3": {
        "class_type": "ImageScaleBy",
        "inputs": {"image": ["1", 0], "upscale_method": "area", "scale_by": 1.0},
    },
}


def test_the_form_shows_what_code_has_set(open_notebook: Any, write: Any, comfy: Comfy) -> None:
    path = write("set.json", RANGE)
    opened = open_notebook(
        "set",
        "from comfydeploy_jupyter import RunPanel\n"
        f"panel = RunPanel({path!r})\n"
        "panel.set_input('1.width', 96)\n"
        "panel.set_input('Paper.height', 48)\n"
        "panel.set_input('batch_size', 2)\n"
        "display(panel)\n"
        "panel.set_input('3.image', ['1', 0])\n"
        "panel.set_input('1.color', 0x00ff00)\n"
        "display(panel)",
    )
    first, second = opened.panel.first, opened.panel.last
    for panel in (first, second):
        for name, value in (("width", "96"), ("height", "48"), ("batch size", "2")):
            expect(panel.get_by_label(f"Paper: {name}", exact=True)).to_have_value(value)
        expect(panel.get_by_label("Paper: color", exact=True)).to_have_value("#00ff00")
        expect(panel.locator(".cd-changed")).to_have_count(4)
        expect(panel.get_by_text("Also set: 3.image = ['1', 0]")).to_be_visible()
    opened.shoot("panel-set")
    first.get_by_label("Paper: width", exact=True).fill("80")
    expect(second.get_by_label("Paper: width", exact=True)).to_have_value("80")
    press(second, "Run")
    expect(second.locator("b", has_text="Success")).to_be_visible()
    (run,) = comfy.runs(of=comfy.load(RANGE))
    assert [image.size for image in run.wait().images] == [(80, 48)] * 2


def test_a_wrong_value_is_reported_at_its_field_and_beside_the_button(
    open_notebook: Any, write: Any
) -> None:
    opened = open_notebook("wrong", PANEL.format(write("wrong.json", RANGE)))
    page, panel = opened.page, opened.panel
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    width = panel.get_by_label("Paper: width", exact=True)
    width.fill("0")
    press(panel, "Run")
    expect(width).to_be_focused()
    expect(width).to_have_attribute("aria-invalid", "true")
    expect(width).to_have_accessible_description(re.compile("must be at least 1"))
    alert = panel.get_by_role("alert")
    expect(alert).to_have_text("Paper: width: must be at least 1")
    expect(panel.locator("b", has_text="Success")).to_have_count(0)
    expect(panel.locator("b", has_text="Earlier run")).to_be_visible()
    button = panel.get_by_role("button", name="Run", exact=True).bounding_box()
    alert_box = alert.bounding_box()
    assert button is not None
    assert alert_box is not None
    assert 0 < alert_box["y"] - button["y"] < 60, "beside the button"
    opened.shoot("panel-wrong")
    assert_neat(panel)
    assert_accessible(panel)
    width.fill("32")
    expect(alert).to_be_hidden()
    expect(width).not_to_have_attribute("aria-invalid", "true")
    panel.get_by_label("times").fill("200")
    press(panel, "Run")
    expect(panel.get_by_label("times")).to_be_focused()
    expect(alert).to_have_text("times: must be 1 to 100")
    panel.get_by_label("times").fill("1")
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(alert).to_be_hidden()
    page.keyboard.press("Escape")


DROP = """(element, [name, type, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([content], name, {type}));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const facts = {dataTransfer: transfer, bubbles: true, cancelable: true};
        element.dispatchEvent(new DragEvent(kind, facts));
    }
}"""


def test_dropped_files_become_the_workflow_or_the_value_of_a_field(
    open_notebook: Any, write: Any
) -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Photo"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    opened = open_notebook("drop", PANEL.format(write("drop.json", graph)))
    panel = opened.panel
    field = panel.get_by_role("combobox", name="Photo: image")
    expect(field).to_have_value("a.png")
    mine = json.dumps(RANGE)
    panel.locator(".cd-picture").evaluate(DROP, ["mine.json", "application/json", mine])
    expect(panel.get_by_text(re.compile("mine.json is not a picture"))).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("a.png")
    opened.shoot("panel-refused")
    panel.evaluate(DROP, ["notes.txt", "text/plain", "words"])
    expect(panel.get_by_role("alert")).to_contain_text("notes.txt cannot be opened here")
    panel.evaluate(DROP, ["broken.json", "application/json", "{"])
    alert = panel.get_by_role("alert")
    expect(alert).to_contain_text("broken.json is not JSON")
    expect(alert).not_to_contain_text("/")
    box, button = alert.bounding_box(), panel.get_by_role("button", name="Open").bounding_box()
    assert box is not None
    assert button is not None
    assert 0 < box["y"] - button["y"] < 60, "shown where it was opened"
    opened.shoot("panel-not-opened")
    panel.evaluate(DROP, ["mine.json", "application/json", mine])
    expect(panel.get_by_label("Paper: width", exact=True)).to_have_value("64")
    expect(panel.get_by_role("combobox", name="Workflow")).to_have_value("mine.json")
    expect(alert).to_be_hidden()


GONE = "The kernel of this panel was restarted or has ended"


def test_a_panel_without_a_kernel_says_so(open_notebook: Any, write: Any) -> None:
    opened = open_notebook("gone", PANEL.format(write("gone.json", RANGE)), fresh=True)
    page, panel = opened.page, opened.panel
    run = panel.get_by_role("button", name="Run", exact=True)
    for how in ("restart", "kill", "shut down"):
        expect(run).to_be_enabled()
        if how == "kill":
            page.evaluate(
                """async () => {
                    const notebook = window.jupyterapp.shell.currentWidget;
                    const kernel = notebook.sessionContext.session.kernel;
                    kernel.requestExecute({code: "import os; os.kill(os.getpid(), 9)"});
                }"""
            )
        else:
            page.evaluate(
                """async how => {
                    const notebook = window.jupyterapp.shell.currentWidget;
                    const session = notebook.sessionContext;
                    await (how === "restart" ? session.restartKernel() : session.shutdown());
                }""",
                how,
            )
        expect(panel.get_by_role("alert")).to_contain_text(GONE)
        expect(run).to_be_disabled()
        expect(panel.get_by_label("Paper: width", exact=True)).to_be_disabled()
        enabled = panel.locator("button:enabled, input:enabled, select:enabled, textarea:enabled")
        expect(enabled).to_have_count(0)
        opened.shoot(f"panel-gone-{how}")
        if how == "kill":
            dialog = page.get_by_role("dialog", name="Kernel Restarting")
            dialog.get_by_role("button").click()
        if how != "shut down":
            opened.run_first_cell()
            expect(run).to_be_enabled()
            expect(panel.get_by_text(GONE)).to_be_hidden()


@pytest.mark.thorough
def test_a_saved_notebook_without_a_kernel_says_what_to_do(
    open_notebook: Any, write: Any, lab: JupyterProcess
) -> None:
    opened = open_notebook("cold", PANEL.format(write("cold.json", RANGE)), fresh=True)
    page, panel = opened.page, opened.panel
    press(panel, "Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    page.wait_for_function(
        "() => document.querySelector('[class^=comfydeploy-record] img')", polling=100
    )
    opened.save()
    page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"
    )
    page.reload()
    expect(page.get_by_text("RunPanel: run this cell to use it.")).to_be_visible()
    opened.shoot("panel-cold")


def test_missing_models_are_downloaded(
    open_notebook: Any, write: Any, comfyui: ComfyUIServer, model_site: Service
) -> None:
    name = f"portrait-{uuid.uuid4().hex[:8]}.safetensors"
    target = comfyui.models_dir / "checkpoints" / name
    model_site.files[name] = b"x" * 3_000_000
    model_site.store_delay = 0.05
    listed = [
        {"name": name, "url": f"{model_site.url}/files/{name}", "directory": "checkpoints"},
        {"name": "old.ckpt", "url": "http://10.0.0.1/old.ckpt", "directory": "checkpoints"},
    ]
    loader = {"type": "CheckpointLoaderSimple", "mode": 0, "inputs": [], "outputs": []}
    nodes = [
        {**loader, "id": 1, "widgets_values": [name], "properties": {"models": listed}},
        {**loader, "id": 2, "widgets_values": ["old.ckpt"], "properties": {}},
        {**loader, "id": 3, "type": "SomebodysNode", "properties": {"cnr_id": "somebodys-pack"}},
    ]
    graph = {"nodes": nodes, "links": [], "version": 0.4, "last_node_id": 3, "last_link_id": 0}
    opened = open_notebook("missing", PANEL.format(write("missing.json", graph)))
    panel = opened.panel
    try:
        box = panel.locator(".comfydeploy-missing")
        expect(box.get_by_text("2 models are missing · 1 node class missing")).to_be_visible()
        expect(box.get_by_role("link", name=name)).to_be_visible()
        expect(
            box.get_by_role("row", name=re.compile("old.ckpt.*refused: .*10.0.0.1"))
        ).to_be_visible()
        expect(box.get_by_text("is in the node pack somebodys-pack")).to_be_visible()
        press(box, "Sizes")
        expect(
            box.get_by_role("row", name=re.compile(f"{name} checkpoints 2.9 MiB"))
        ).to_be_visible()
        opened.shoot("missing-models")
        assert_neat(panel)
        assert_accessible(panel)
        assert not target.exists()
        press(box, "Download all")
        expect(box.get_by_text(re.compile(r"MiB, \d+%"))).to_be_visible()
        opened.shoot("missing-models-on-their-way")
        expect(box.get_by_text("1 model is missing · 1 node class missing")).to_be_visible()
        assert target.stat().st_size == 3_000_000
        expect(panel.get_by_label("checkpoint").first).to_have_value(name)
        opened.shoot("missing-models-done")
    finally:
        target.unlink(missing_ok=True)
        model_site.store_delay = 0.0


@pytest.fixture
def saving_widgets(lab: JupyterProcess) -> Iterator[None]:
    """JupyterLab with *Save Widget State Automatically* switched on."""
    settings = lab.folder / "config/lab/user-settings/@jupyter-widgets/jupyterlab-manager"
    settings.mkdir(parents=True, exist_ok=True)
    path = settings / "plugin.jupyterlab-settings"
    path.write_text('{"saveState": true}')
    yield
    path.unlink()


@pytest.mark.thorough
@pytest.mark.usefixtures("saving_widgets")
def test_a_panel_that_was_saved_with_its_state_says_that_its_kernel_has_ended(
    open_notebook: Any, write: Any
) -> None:
    opened = open_notebook("kept", PANEL.format(write("kept.json", RANGE)), fresh=True)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    assert "widgets" in opened.save()["metadata"]
    page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"
    )
    page.reload()
    expect(panel.get_by_role("alert")).to_contain_text(GONE)
    expect(panel.locator("button:enabled, input:enabled, select:enabled")).to_have_count(0)
    opened.shoot("panel-kept")


def node_of(node_id: int, kind: str, values: list[Any], **more: Any) -> dict[str, Any]:
    """Return a node in the editor's format."""
    node = {"id": node_id, "type": kind, "mode": 0, "inputs": [], "outputs": [], "properties": {}}
    return {**node, "widgets_values": values, **more}


def test_missing_files_are_told_at_their_fields(
    open_notebook: Any, write: Any, comfyui: ComfyUIServer, model_site: Service
) -> None:
    name = f"schnell-{uuid.uuid4().hex[:8]}.safetensors"
    target = comfyui.models_dir / "checkpoints" / name
    model_site.files[name] = b"x" * 1000
    listed = {"name": name, "url": f"{model_site.url}/files/{name}", "directory": "checkpoints"}
    outputs = [{"name": kind, "type": kind, "links": []} for kind in ("MODEL", "CLIP", "VAE")]
    outputs[2]["links"] = [1]
    inputs = [{"name": "samples", "type": "LATENT", "link": 2}, {"name": "vae", "type": "VAE"}]
    inputs[1]["link"] = 1
    images = [{"name": "images", "type": "IMAGE", "link": 3}]
    nodes = [
        node_of(1, "CheckpointLoaderSimple", [name], outputs=outputs),
        node_of(2, "EmptyLatentImage", [64, 64, 1], outputs=[{"type": "LATENT", "links": [2]}]),
        node_of(3, "VAEDecode", [], inputs=inputs, outputs=[{"type": "IMAGE", "links": [3]}]),
        node_of(4, "PreviewImage", [], inputs=images),
        node_of(
            5, "LoadImage", ["trip/lost.png", "image"], title="Photo", outputs=[{"links": [4]}]
        ),
        node_of(6, "PreviewImage", [], inputs=[{**images[0], "link": 4}]),
    ]
    nodes[0]["properties"] = {"models": [listed]}
    links = [
        [1, 1, 2, 3, 1, "VAE"],
        [2, 2, 0, 3, 0, "LATENT"],
        [3, 3, 0, 4, 0, "IMAGE"],
        [4, 5, 0, 6, 0, "IMAGE"],
    ]
    graph = {"nodes": nodes, "links": links, "version": 0.4}
    opened = open_notebook("told", PANEL.format(write("told.json", graph)))
    panel = opened.panel
    try:
        photo = panel.locator(".cd-field", has_text="Photo")
        expect(photo.locator(".cd-problem")).to_have_text(
            "trip/lost.png is not in the input folder of this ComfyUI"
        )
        assert str(comfyui.base_dir) not in panel.inner_text()
        opened.shoot("missing-picture")
        press(panel, "Run")
        alert = panel.get_by_role("alert")
        told = 'node "Photo" (LoadImage): trip/lost.png is not in the input folder of this ComfyUI'
        expect(alert).to_contain_text(told)
        expect(alert).to_contain_text(
            f'node "Load Checkpoint" (CheckpointLoaderSimple): {name} is not on this ComfyUI'
        )
        model = panel.locator(".cd-field", has_text="ckpt name")
        expect(model.locator(".cd-problem")).to_have_text(f"{name} is not on this ComfyUI")
        download = panel.get_by_role("button", name="Download", exact=True)
        expect(download).to_be_visible()
        expect(panel.locator(".comfydeploy-history li")).to_contain_text(
            re.compile(r"^node .*Photo")
        )
        opened.shoot("missing-model-refused")
        assert_neat(panel)
        assert_accessible(panel)
        download.click()
        expect(download).to_be_hidden()
        expect(panel.locator(".comfydeploy-missing")).to_be_hidden()
        expect(model.locator(".cd-problem")).to_be_hidden()
        expect(panel.get_by_label("ckpt name").first).to_have_value(name)
        assert target.stat().st_size == 1000
    finally:
        target.unlink(missing_ok=True)
