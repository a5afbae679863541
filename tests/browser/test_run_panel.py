"""RunPanel as users see it, driven by mouse and keyboard."""

from __future__ import annotations

import io
import json
import re
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
from tests.browser.axe import violations
from tests.browser.panels import DROP, PANEL, RANGE, assert_neat, field, press, run, slow
from tests.helpers.graphs import node, paper, saved, shown
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


@pytest.fixture
def comfy(lab: JupyterProcess) -> Comfy:
    return Comfy(lab.url, lab.token)


@pytest.mark.parametrize(("app", "width", "pixels"), [("lab", 1280, 320), ("notebook", 700, 352)])
def test_change_run_and_see(
    open_notebook: Any, lab: JupyterProcess, comfy: Comfy, app: str, width: int, pixels: int
) -> None:
    comfy.free()  # other tests may have executed these nodes: they would be cached, without times
    opened = open_notebook(PANEL.format("sunset.json"), app=app, width=width)
    page, panel = opened.page, opened.panel
    expect(field(panel, "Width")).to_have_value("640")
    expect(panel.get_by_text("Ready")).to_be_visible()
    hint = panel.get_by_text("1 to 4096 · default 1").first
    expect(hint).to_be_hidden()
    field(panel, "Sky: batch size").focus()
    expect(hint).to_be_visible()
    sky = field(panel, "Sky: width")
    expect(sky).to_have_attribute("placeholder", "1 to 16384 pixels")
    sky.focus()
    expect(panel.get_by_text("1 to 16384 pixels · default 512").first).to_be_visible()
    assert_neat(panel)
    panel.get_by_text("More inputs").click()
    panel.get_by_label("Find an input").fill("blend factor")
    expect(field(panel, "Sky with clouds: blend factor")).to_have_value("0.55")
    expect(field(panel, "Horizon: width")).to_be_hidden()
    panel.get_by_text("More inputs").click()
    field(panel, "Width").fill(str(pixels))
    run(panel)
    panel.locator(".cd-picture-button").scroll_into_view_if_needed()
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    expect(picture).to_be_visible()
    expect(panel.locator("pre", has_text="A sunset that needs no model")).to_be_visible()
    expect(panel.get_by_role("button", name="Cancel", exact=True)).to_be_disabled()
    panel.get_by_text("Node timings").click()
    expect(panel.get_by_role("row", name=re.compile(r"^Picture .* s$"))).to_be_visible()
    expect(panel.locator(".cd-run")).not_to_have_count(0)
    picture.scroll_into_view_if_needed()
    if app == "lab":
        opened.shoot("run-panel")
    assert_neat(panel)
    picture.click()
    full = page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", pixels)
    page.keyboard.press("Escape")
    expect(full).to_be_hidden()
    expect(panel.locator(".cd-picture-button")).to_be_focused()

    if app == "notebook":  # which lets outputs of more than 100 lines scroll in a low box
        cell = page.locator(".jp-CodeCell").first
        cell.evaluate("cell => cell.classList.add('jp-mod-outputsScrolled')")
        outputs = page.locator(".jp-Cell-outputArea")
        assert outputs.evaluate("box => box.clientHeight") >= panel.evaluate("p => p.clientHeight")

    # what the saved notebook shows
    record = page.locator("[class^=comfydeploy-record]")
    expect(record.locator("img")).to_have_count(1)
    expect(record).to_be_hidden()
    notebook = opened.save()
    text = json.dumps(notebook)
    assert lab.token not in text
    assert "widgets" not in notebook["metadata"], "no state of widgets"
    assert len(text) < 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbconvert's own
        html, _ = HTMLExporter().from_notebook_node(nbformat.reads(text, as_version=4))
    output = html[html.index("comfydeploy-record") :]
    for part in ("data:image/webp;base64,", "A sunset that needs no model", "RunPanel: sunset"):
        assert part in output


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
    open_run_panel: Any, comfyui: Any, picture_file: Path
) -> None:
    Image.new("RGB", (40, 30), "green").save(comfyui.input_dir / "there.png")
    saved = {"filename_prefix": "film", "format": "auto", "codec": "auto"}
    graph = {
        "1": node("LoadImage", "Photo", image="there.png"),
        "2": shown("1"),
        "3": node("LoadVideo", "Film", file=""),
        "4": node("SaveVideo", video=["3", 0], **saved),
        "5": node("TestLoadSound", "Song", audio=""),
    }
    opened = open_run_panel(graph)
    panel = opened.panel
    expect(panel.get_by_alt_text("Photo: image: there.png")).to_be_visible()
    upload(opened, "Photo: image", "picture", picture_file)
    expect(panel.get_by_alt_text(f"Photo: image: {picture_file.name}")).to_be_visible()
    assert (comfyui.input_dir / picture_file.name).read_bytes() == picture_file.read_bytes()
    for label, word, name in (
        ("Film: file", "video", "video.webm"),
        ("Song: audio", "sound", "sound.mp3"),
    ):
        upload(opened, label, word, GOLDEN_MEDIA / name)
        expect(panel.get_by_label(f"{label}: {name}")).to_have_js_property("readyState", 4)
    assert_neat(panel)
    run(panel)
    expect(panel.locator(".comfydeploy-gallery video")).to_be_visible()
    size = (GOLDEN_MEDIA / "sound.mp3").stat().st_size
    expect(panel.locator("pre", has_text=f"sound.mp3: {size} bytes")).to_be_visible()
    panel.locator(".cd-pictures img").click()
    full = opened.page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", 2400)
    opened.page.keyboard.press("Escape")
    assert_neat(panel)


@pytest.mark.parametrize(("width", "theme"), few([(1280, "Light"), (480, "Dark")]))
def test_inputs_with_several_values_make_a_batch_that_is_found_again(
    open_run_panel: Any, width: int, theme: str
) -> None:
    graph = slow(3, 0.2, "Sampler")
    opened = open_run_panel(graph, f"several-{width}.json", width=width, theme=theme)
    page, panel = opened.page, opened.panel
    panel.get_by_text("More inputs (1)").click()
    for label, values in (("Sampler: steps", None), ("Sampler: token", "a fox\n\na hare")):
        field(panel, label).focus()
        press(panel, f"{label}: several values, each of which runs")
        expect(field(panel, label)).to_be_focused()
        if values is not None:
            page.keyboard.press("ControlOrMeta+A")
            page.keyboard.insert_text(values)
    for name, value in (("from", "2"), ("to", "4"), ("step", "1")):
        panel.get_by_label(f"Sampler: steps: {name}").fill(value)
    press(panel, "Sampler: steps: fill in these numbers")
    expect(field(panel, "Sampler: steps")).to_have_value("2\n3\n4")
    expect(panel.get_by_text("6 runs: ")).to_be_visible()
    assert_neat(panel)
    assert violations(panel) == []
    assert_accessible(panel)
    opened.shoot(f"several-{width}")

    field(panel, "Sampler: steps").fill("2\nfour\n4")
    press(panel, "Run")
    expect(panel.get_by_text("line 2: must be a whole number").first).to_be_visible()
    expect(field(panel, "Sampler: steps")).to_be_focused()
    field(panel, "Sampler: steps").fill("2\n3\n4")
    page.keyboard.press("ControlOrMeta+Enter")
    expect(panel.locator(".cd-result .cd-grow", has_text=re.compile("^Running: "))).to_be_visible()
    press(panel, "Pause")
    expect(panel.locator(".cd-result .cd-grow", has_text=re.compile("^Paused: "))).to_be_visible()
    opened.shoot(f"sheet-{width}")

    other = open_run_panel(graph, f"several-{width}-too.json", width=width, theme=theme)
    expect(
        other.panel.locator(".cd-result .cd-grow", has_text=re.compile("^Paused: "))
    ).to_be_visible()
    press(other.panel, "Continue")
    for each in (panel, other.panel):
        expect(
            each.locator(".cd-result .cd-grow", has_text=re.compile("^Done: 6 of 6 points"))
        ).to_be_visible(timeout=60_000)
        expect(each.locator(".cd-result .cd-sheet img")).to_have_count(6)
    expect(panel.get_by_role("columnheader", name="a hare")).to_be_visible()
    opened.shoot(f"done-{width}")

    batch = panel.locator(".cd-batch")
    panel.locator(".comfydeploy-history").evaluate("history => history.scrollIntoView()")
    expect(batch).to_contain_text("Done: 6 of 6 points")
    expect(batch.locator("img")).to_have_count(4)
    batch.click()
    expect(batch).to_have_attribute("aria-expanded", "true")
    expect(panel.locator(".cd-opened .cd-sheet img")).to_have_count(6)
    assert_neat(panel)
    opened.shoot(f"batch-{width}")
    press(panel, "Delete the batch …")
    press(panel, "Delete")
    expect(panel.get_by_text("6 runs and 0 files deleted")).to_be_visible()
    expect(batch).to_have_count(0)


@pytest.mark.thorough
def test_two_notebooks_with_the_same_panel(
    open_run_panel: Any, open_notebook: Any, comfy: Comfy
) -> None:
    graph = slow(100_000, 0.05, "Shared")
    first = open_run_panel(graph, "shared.json").panel
    press(first, "Run")
    expect(first.get_by_text(re.compile(r"Shared .* \d+/100000"))).to_be_visible()
    second = open_notebook(PANEL.format("shared.json")).panel
    expect(second.get_by_text(re.compile(r"Shared .* \d+/100000"))).to_be_visible()
    field(second, "Shared: steps").fill("2")
    press(second, "Run")
    expect(second.get_by_text("1 more waiting")).to_be_visible()
    press(first, "Cancel")
    expect(first.locator("b", has_text="Cancelled")).to_be_visible()
    expect(second.locator("b", has_text="Success")).to_be_visible()
    expect(second.locator(".cd-run")).to_have_count(2)
    assert field(first, "Shared: steps").input_value() == "100000"
    press(first, "Refresh the list of runs")
    expect(first.locator(".cd-run")).to_have_count(2)
    assert len(comfy.runs(of=comfy.load(graph))) == 2


@pytest.mark.thorough
def test_a_page_that_cannot_reach_the_server_gets_everything_through_the_kernel(
    open_notebook: Any,
    lab: JupyterProcess,
    jupyter: JupyterProcess,
    comfyui: Any,
    picture_file: Path,
) -> None:
    graph = {"1": node("LoadImage", "Photo", image=""), "2": shown("1")}
    (lab.root / "elsewhere.json").write_text(json.dumps(graph))
    opened = open_notebook(
        "from comfydeploy_jupyter import RunPanel\n"
        "from comfydeploy_jupyter.client import Comfy\n"
        f"RunPanel('elsewhere.json', Comfy({jupyter.url!r}, {jupyter.token!r}))"
    )
    page, panel = opened.page, opened.panel
    requested: list[str] = []
    routes = re.compile(r"/(view\?|upload-file)")

    def note(request: Any) -> None:
        if routes.search(request.url):
            requested.append(request.url)

    page.on("request", note)
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
    page.remove_listener("request", note)


@pytest.mark.thorough
def test_a_thousand_previews_leave_no_objects_in_memory(open_run_panel: Any) -> None:
    graph = slow(1000, 0.005, "Thousand")
    graph["Thousand"]["inputs"]["size"] = 512
    opened = open_run_panel(graph, fresh=True)
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


FAILING = {
    "1": node("TestFail", message="CUDA out of memory. <b>no</b>"),
    "2": node("TestText", text="x", anything=["1", 0]),
}


def assert_below(shown: Locator, control: Locator) -> None:
    """Check that something is shown close below a control."""
    box, above = shown.bounding_box(), control.bounding_box()
    assert box is not None
    assert above is not None
    assert 0 < box["y"] - above["y"] < 60


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_workflows_are_chosen_in_each_way_and_axe_finds_no_violations(
    open_notebook: Any, comfy: Comfy, tmp_path: Path, theme: str
) -> None:
    word = uuid.uuid4().hex[:8]  # in a name that no earlier try has used
    name = f"Harbour at dawn {word}"
    stored = comfy.workflows.save({"1": node("TestText", "Words", text="one")}, name)
    second = slow(200, 0.1, "Sampler")
    second["3"] = node("TestText", "Words", text="two")
    second["4"] = paper()
    comfy.workflows.save(second, workflow_id=stored.id)
    (tmp_path / "mine.json").write_text(json.dumps(FAILING))
    (tmp_path / "broken.json").write_text("{")
    code = "from comfydeploy_jupyter import RunPanel\nRunPanel()"
    opened = open_notebook(code, theme=theme)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("A stored workflow")).to_be_visible()
    expect(panel.get_by_role("button", name="Run", exact=True)).to_be_hidden()
    assert violations(panel) == [], "without a workflow"
    press(panel, "Coloured clouds")
    expect(panel.get_by_text("Ready")).to_be_visible()
    run(panel)

    # a stored workflow, which is run, and cancelled
    combo = panel.get_by_role("combobox", name="Workflow")
    combo.click()
    expect(panel.get_by_role("option", name="sunset.json file")).to_be_visible()
    page.keyboard.type(f"dawn harb {word}")
    expect(panel.get_by_role("option", name="sunset.json file")).to_be_hidden()
    expect(panel.get_by_role("option", name=re.compile(name))).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    words = field(panel, "Words: text")
    expect(words).to_have_value("two")
    panel.get_by_text("More inputs").click()
    press(panel, "Run")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    assert violations(panel) == [], "while it runs"
    assert_neat(panel)
    press(panel, "Cancel")
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    width = field(panel, "Paper: width")
    width.fill("0")
    press(panel, "Run")
    expect(width).to_be_focused()
    expect(width).to_have_attribute("aria-invalid", "true")
    expect(width).to_have_accessible_description(re.compile("must be at least 1"))
    alert = panel.get_by_role("alert")
    expect(alert).to_have_text("Paper: width: must be at least 1")
    button = panel.get_by_role("button", name="Run", exact=True)
    assert_below(alert, button)
    assert violations(panel) == [], "with a wrong value"
    width.fill("32")
    expect(alert).to_be_hidden()
    panel.get_by_label("times").fill("200")
    button.click()
    expect(panel.get_by_label("times")).to_be_focused()
    expect(alert).to_have_text("times: must be 1 to 100")
    panel.get_by_label("times").fill("1")
    panel.get_by_label("Version").select_option("1")
    expect(words).to_have_value("one")

    # files of the user's computer; the last one fails
    for file in ("broken.json", "mine.json"):
        with page.expect_file_chooser() as chooser:
            panel.get_by_title(re.compile("Open a workflow of your computer")).click()
        chooser.value.set_files(tmp_path / file)
        if file == "broken.json":
            expect(alert).to_contain_text("is not JSON")
    expect(field(panel, "TestFail: message")).to_be_visible()
    run(panel, "Failed")
    expect(alert).to_contain_text("node TestFail failed: ValueError: CUDA out of memory. <b>no</b>")
    expect(alert).to_contain_text("ComfyUI ran out of memory")
    panel.get_by_text("Traceback").click()
    expect(panel.locator("pre", has_text="raise ValueError")).to_be_visible()
    panel.get_by_text("The last lines of ComfyUI's log").click()
    expect(panel.get_by_text("was not started by this server")).to_be_visible()
    press(panel, "Free ComfyUI's memory")
    assert violations(panel) == [], "after a failure"
    assert_neat(panel)
    assert_accessible(panel)


def test_dropped_files_become_the_workflow_or_the_value_of_a_field(open_run_panel: Any) -> None:
    graph = {"1": node("LoadImage", "Photo", image="a.png"), "2": shown("1")}
    panel = open_run_panel(graph).panel
    photo = panel.get_by_role("combobox", name="Photo: image")
    expect(photo).to_have_value("a.png")
    mine = ["mine.json", "application/json", json.dumps(RANGE)]
    panel.locator(".cd-picture").evaluate(DROP, mine)
    expect(panel.get_by_text(re.compile("mine.json is not a picture"))).to_be_visible()
    expect(photo).to_have_attribute("aria-invalid", "true")
    expect(photo).to_have_value("a.png")
    alert = panel.get_by_role("alert")
    panel.evaluate(DROP, ["notes.txt", "text/plain", "words"])
    expect(alert).to_contain_text("notes.txt is no file in which ComfyUI saves workflows")
    panel.evaluate(DROP, ["broken.json", "application/json", "{"])
    expect(alert).to_contain_text("broken.json is not JSON")
    expect(alert).not_to_contain_text("/")
    assert_below(alert, panel.get_by_role("button", name="Open"))
    panel.evaluate(DROP, mine)
    expect(field(panel, "Paper: width")).to_have_value("64")
    expect(panel.get_by_role("combobox", name="Workflow")).to_have_value("mine.json")
    expect(alert).to_be_hidden()


@pytest.fixture
def checkpoint(comfyui: ComfyUIServer, model_site: Service) -> Iterator[tuple[str, Path, Any]]:
    """The name of a model that can be downloaded, its path, and its entry in a workflow."""
    name = f"portrait-{uuid.uuid4().hex[:8]}.safetensors"
    target = comfyui.models_dir / "checkpoints" / name
    model_site.files[name] = b"x" * 3_000_000
    url = f"{model_site.url}/files/{name}"
    yield name, target, {"name": name, "url": url, "directory": "checkpoints"}
    target.unlink(missing_ok=True)
    model_site.store_delay = 0.0


def test_missing_models_are_downloaded(
    open_run_panel: Any, checkpoint: Any, model_site: Service
) -> None:
    name, target, entry = checkpoint
    model_site.store_delay = 0.05
    old = {"name": "old.ckpt", "url": "http://10.0.0.1/old.ckpt", "directory": "checkpoints"}
    kind = "CheckpointLoaderSimple"
    nodes = [
        saved(1, kind, [name], properties={"models": [entry, old]}),
        saved(2, kind, ["old.ckpt"]),
        saved(3, "SomebodysNode", properties={"cnr_id": "somebodys-pack"}),
    ]
    panel = open_run_panel({"nodes": nodes, "links": [], "version": 0.4}).panel
    box = panel.locator(".comfydeploy-missing")
    expect(box.get_by_text("2 models are missing")).to_be_visible()
    expect(box.get_by_text("1 node pack is missing")).to_be_visible()
    expect(box.get_by_role("link", name=name)).to_be_visible()
    refused = re.compile("old.ckpt.*refused: .*10.0.0.1")
    expect(box.get_by_role("row", name=refused)).to_be_visible()
    pack = re.compile("somebodys-pack SomebodysNode missing; this ComfyUI has no ComfyUI-Manager")
    expect(box.get_by_role("row", name=pack)).to_be_visible()
    press(box, "Sizes")
    sized = re.compile(f"{name} checkpoints 2.9 MiB")
    expect(box.get_by_role("row", name=sized)).to_be_visible()
    assert_neat(panel)
    assert_accessible(panel)
    assert not target.exists()
    press(box, "Download all (2.9 MiB)")
    expect(box.get_by_text(re.compile(r"\d+ % · "))).to_be_visible()
    expect(box.get_by_text("1 model is missing")).to_be_visible()
    assert target.stat().st_size == 3_000_000
    expect(panel.get_by_label("checkpoint").first).to_have_value(name)


def test_missing_files_are_told_at_their_fields(
    open_run_panel: Any, comfyui: ComfyUIServer, checkpoint: Any
) -> None:
    name, target, entry = checkpoint
    outputs = [{"name": kind, "type": kind, "links": []} for kind in ("MODEL", "CLIP", "VAE")]
    outputs[2]["links"] = [1]
    models = {"outputs": outputs, "properties": {"models": [entry]}}
    nodes = [
        saved(1, "CheckpointLoaderSimple", [name], **models),
        saved(2, "EmptyLatentImage", [64, 64, 1], outputs=[{"type": "LATENT", "links": [2]}]),
        saved(3, "VAEDecode", [], [("samples", 2), ("vae", 1)], outputs=[{"links": [3]}]),
        saved(4, "PreviewImage", [], [("images", 3)]),
        saved(5, "LoadImage", ["trip/lost.png"], title="Photo", outputs=[{"links": [4]}]),
        saved(6, "PreviewImage", [], [("images", 4)]),
    ]
    links = [
        [1, 1, 2, 3, 1, "VAE"],
        [2, 2, 0, 3, 0, "LATENT"],
        [3, 3, 0, 4, 0, "IMAGE"],
        [4, 5, 0, 6, 0, "IMAGE"],
    ]
    panel = open_run_panel({"nodes": nodes, "links": links, "version": 0.4}).panel
    lost = "trip/lost.png is not in the input folder of this ComfyUI"
    photo = panel.locator(".cd-field", has_text="Photo")
    expect(photo.locator(".cd-problem")).to_have_text(lost)
    assert str(comfyui.base_dir) not in panel.inner_text()
    press(panel, "Run")
    alert = panel.get_by_role("alert").first
    expect(alert).to_contain_text(f'node "Photo" (LoadImage): {lost}')
    expect(alert).to_contain_text(
        f'node "Load Checkpoint" (CheckpointLoaderSimple): {name} is not on this ComfyUI'
    )
    model = panel.locator(".cd-field", has_text="ckpt name")
    expect(model.locator(".cd-problem")).to_have_text(f"{name} is not on this ComfyUI")
    download = panel.get_by_role("button", name="Download", exact=True)
    expect(download).to_be_visible()
    history = panel.locator(".comfydeploy-history")
    history.evaluate("element => element.scrollIntoView({block: 'center'})")
    expect(history.locator("li")).to_contain_text(re.compile(r"node .*Photo"))
    assert_neat(panel)
    assert_accessible(panel)
    download.click()
    expect(download).to_be_hidden()
    missing = panel.locator(".comfydeploy-missing")
    expect(missing.get_by_role("row", name="trip/lost.png")).to_be_visible()
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    with panel.page.expect_file_chooser() as chooser:
        press(missing, "Upload the picture")
    found = {"name": "found.png", "mimeType": "image/png", "buffer": content.getvalue()}
    chooser.value.set_files(found)
    expect(missing).to_be_hidden()
    expect(model.locator(".cd-problem")).to_be_hidden()
    expect(panel.get_by_label("ckpt name").first).to_have_value(name)
    assert target.stat().st_size == 3_000_000
