"""Features of newer ComfyUIs: forms that authors of workflows define, and all kinds of outputs."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from tests.browser.accessibility import assert_accessible
from tests.browser.panels import assert_neat, field, press, run
from tests.helpers.graphs import GOLDEN, node, saved, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.helpers.comfyui import ComfyUIServer

pytestmark = pytest.mark.timeout(300)

GOLDEN_MEDIA = GOLDEN / "media"
MODELS = GOLDEN / "models"  # a cube with coloured corners, and points on a helix
EVIL = "<img src=x onerror=alert(1)>\u202e.glb"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def picture(colour: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(file, "PNG")
    return encoded(file.getvalue())


def made(name: str, **more: Any) -> dict[str, Any]:
    return {"filename": name, "subfolder": "", "type": "output", **more}


def sent(panel: Locator, named: str = '"mode"') -> dict[str, Any]:
    """Return the inputs that ComfyUI has got, as the node shows them."""
    text = panel.locator(".comfydeploy-gallery pre", has_text=named).first.text_content()
    return dict(json.loads(text or ""))


def test_lists_from_routes_and_a_part_of_a_video(open_run_panel: Any, comfyui: Any) -> None:
    shutil.copy(GOLDEN_MEDIA / "video.webm", comfyui.input_dir / "clip.webm")
    whole = {"start_time": 0, "duration": 0}
    edit = {"trim": whole, "crop": {"x": 0, "y": 0, "width": 0, "height": 0}}
    inputs = {"voice": "old", "missing": None, "film": "clip.webm", "edit": edit}
    opened = open_run_panel({"5": node("TestNewInputs", "New", **inputs)})
    panel, page = opened.panel, opened.page
    voice = panel.get_by_role("combobox", name="New: voice")
    expect(voice).to_have_value("old")
    film = panel.locator(".cd-film video")
    expect(film).to_be_visible()  # the form is not moved from now on, which would close the list
    voice.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    voice.click()
    panel.get_by_role("option", name="Ada (v1)").click()
    expect(voice).to_have_value("Ada (v1)")
    missing = panel.get_by_role("combobox", name="New: missing")
    missing.click()
    why = "it answered 404 to GET /comfydeploy_test/nowhere. Any value can be typed."
    expect(panel.get_by_role("status").filter(has_text=why)).to_be_visible()
    missing.fill("typed")
    missing.press("Enter")
    length, width = film.evaluate("film => [film.duration, film.videoWidth]")
    start = panel.get_by_role("slider", name="New: edit: start")
    start.press("ArrowRight")
    expect(panel.get_by_label("New: edit: start in seconds")).to_have_value("0.1")
    film.scroll_into_view_if_needed()
    box = film.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    expect(panel.get_by_label("New: edit: left edge")).to_have_value(str(round(width / 4)))
    panel.get_by_label("New: edit: duration in seconds").fill(str(round(length / 2, 2)))
    assert_neat(panel)
    assert_accessible(panel)
    run(panel)
    got = sent(panel, '"voice"')
    assert (got["voice"], got["missing"], got["film"]) == ("v1", "typed", "clip.webm")
    assert got["edit"]["trim"] == {"start_time": 0.1, "duration": round(length / 2, 2)}
    assert abs(got["edit"]["crop"]["width"] - width / 4) <= 1


def test_options_change_the_form_and_groups_grow(open_run_panel: Any) -> None:
    inputs = {"mode": "small", "mode.size": 100, "values.a": "first"}
    panel = open_run_panel({"5": node("TestOptions", "Make", **inputs)}).panel
    mode = field(panel, "Make: mode")
    size = field(panel, "Make: mode: size")
    expect(size).to_have_value("100")
    size.fill("90")
    mode.focus()
    mode.select_option("large")
    expect(size).to_have_value("1024")
    expect(mode).to_be_focused()
    expect(field(panel, "Make: mode: note")).to_have_value("hello")
    expect(panel.get_by_text("new for each run")).to_be_visible()
    panel.get_by_label("Make: values: add a value").click()
    expect(field(panel, "Make: values: b")).to_have_value("")
    expect(panel.get_by_label("Make: values: add a value")).to_be_focused()
    field(panel, "Make: values: b").fill("second")
    assert_neat(panel)
    assert_accessible(panel)
    run(panel)
    got = sent(panel)
    seed = got.pop("mode.seed")
    large = {"mode": "large", "mode.size": 1024, "mode.note": "hello"}
    assert got == {**large, "values.a": "first", "values.b": "second"}
    expect(field(panel, "Make: mode: seed")).to_have_value(str(seed))
    assert seed > 0
    panel.get_by_label("Make: values: remove the last value").click()
    mode.select_option("small")
    expect(size).to_have_value("100")
    expect(field(panel, "Make: mode: note")).to_have_count(0)

    # a group of pictures
    add = panel.get_by_label("Make: pictures: add a value")
    add.click()
    first = panel.locator(".cd-field", has_text="Make: pictures: picture0")
    expect(first.get_by_role("button", name="upload a picture")).to_be_visible()
    content = base64.b64decode(picture("green"))
    file = {"name": "added.png", "mimeType": "image/png", "buffer": content}
    first.locator("input[type=file]").set_input_files(file)
    expect(first.locator(".cd-frame.cd-there")).to_be_visible()
    expect(first.get_by_role("combobox")).to_have_value(re.compile(r"^added.*\.png$"))
    add.click()
    expect(panel.get_by_text("Make: pictures: picture1", exact=True)).to_be_visible()
    expect(add).to_be_disabled()
    assert_neat(panel)
    press(panel, "Run")
    expect(panel.locator(".comfydeploy-gallery pre", has_text='"small"')).to_be_visible()
    assert sent(panel) == {**inputs, "pictures.picture0": ["5.pictures.picture0", 0]}
    remove = panel.get_by_label("Make: pictures: remove the last value")
    remove.click()
    remove.click()
    expect(first).to_have_count(0)
    expect(remove).to_be_disabled()


def test_an_app_shows_its_inputs_and_its_outputs(open_run_panel: Any) -> None:
    def text(number: int, title: str, **slot: Any) -> dict[str, Any]:
        widget = {"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": None}
        values = [f"text of {title}", ""]
        return {**saved(number, "TestText", values, title=title), "inputs": [{**widget, **slot}]}

    chosen = {"inputs": [["3", "text"], ["1", "text"], ["9", "x"]], "outputs": ["3"]}
    ui = {
        "version": 0.4,
        "nodes": [text(1, "First"), text(2, "Second"), text(3, "Third", label="The message")],
        "links": [],
        "extra": {"linearMode": True, "linearData": chosen},
    }
    panel = open_run_panel(ui).panel
    labels = panel.locator(".comfydeploy-form > .cd-rows > .cd-field > label")
    expect(labels).to_have_text(["The message", "First: text"])
    expect(panel.get_by_text("author chose do not exist (1)")).to_be_visible()
    panel.get_by_label("The message", exact=True).fill("hello there")
    run(panel)
    expect(panel.locator(".comfydeploy-gallery > div > .cd-output pre")).to_have_text(
        ["hello there"]
    )
    panel.get_by_text("Other outputs (2)").click()
    rest = panel.locator(".cd-rest pre")
    expect(rest).to_have_count(2)  # in whatever order ComfyUI has executed them
    assert sorted(rest.all_text_contents()) == ["text of First", "text of Second"]
    assert_neat(panel)


@pytest.fixture
def forgotten(comfyui: ComfyUIServer) -> Iterator[None]:
    """ComfyUI forgets the runs of the test: 0.33.0 cannot list outputs that it does not expect."""
    yield
    requests.post(f"{comfyui.url}/history", json={"clear": True}, timeout=30).raise_for_status()


@pytest.mark.usefixtures("forgotten")
def test_outputs_of_all_kinds_are_shown(open_run_panel: Any) -> None:
    files = {
        "before.png": picture("#c03030"),
        "after.png": picture("#3060c0"),
        "plain.png": picture("#30a050"),
        "broken.png": encoded(b"no picture"),
        "scene.exr": encoded(b"\x76\x2f\x31\x01 no more"),
        "sky.hdr": encoded(b"#?RADIANCE\n"),
        "model.glb": encoded(b"glTF" + bytes(3000)),
        "cloud.ply": encoded(b"ply\n"),
        EVIL: encoded(b"x"),
        "latent.latent": encoded(bytes(20_480)),
    }
    long = "\n".join(f"line {number}" for number in range(200))
    outputs = {
        "1": {"a_images": [made("before.png")], "b_images": [made("after.png")]},
        "2": {"images": [made(n) for n in ("plain.png", "broken.png", "scene.exr", "sky.hdr")]},
        "3": {"3d": [made("model.glb"), made(EVIL)], "latents": [made("latent.latent")]},
        "4": {"result": ["cloud.ply", {"position": [1, 2]}, None]},
        "5": {"text": [long, "short"], "odd": [3, None, {"filename": 4}, [["x"]]], "no": {"a": 1}},
        "6": {"files": [made("gone.spz")]},
    }
    graph = {
        key: node(
            "TestOutput",
            files=json.dumps(files if key == "1" else {}),
            output=json.dumps(output),
            token="all kinds",
        )
        for key, output in outputs.items()
    }
    opened = open_run_panel(graph)
    panel = opened.panel
    run(panel)
    gallery = panel.locator(".comfydeploy-gallery")
    gallery.scroll_into_view_if_needed()
    tiles = gallery.locator(".cd-tile")
    for name in ("broken.png", "scene.exr", "sky.hdr"):
        # a picture that cannot be shown becomes a tile as soon as it is near the screen
        gallery.evaluate(
            "(all, name) => all.querySelector(`[title*='${name}']`).scrollIntoView()", name
        )
        expect(gallery.locator(".cd-pictures .cd-tile", has_text=name)).to_be_visible()
    tiles.evaluate_all("all => all.forEach(tile => tile.scrollIntoView())")
    tiles.last.scroll_into_view_if_needed()
    expect(tiles.filter(has_text="model.glb")).to_contain_text("2.9 KiB")
    expect(tiles.filter(has_text="latent.latent")).to_contain_text("20.0 KiB")
    expect(tiles.filter(has_text="cloud.ply")).to_contain_text("4 B")
    expect(tiles.filter(has_text="onerror=alert(1)>\ufffd.glb")).to_contain_text("1 B")
    expect(tiles.filter(has_text="gone.spz")).to_contain_text("gone")
    with opened.page.expect_download() as download:
        tiles.filter(has_text="model.glb").get_by_title("Download model.glb").click()
    assert download.value.suggested_filename == "model.glb"
    expect(gallery.locator("pre", has_text="line 199")).to_have_count(0)
    gallery.get_by_text(f"All {len(long):,} characters").click()
    expect(gallery.locator("pre", has_text="line 199")).to_be_visible()
    gallery.get_by_role("button", name="Less").click()
    slider = gallery.get_by_label("Compare before.png with after.png")
    slider.scroll_into_view_if_needed()
    shown = gallery.locator(".cd-stack img")
    for number in (0, 1):
        expect(shown.nth(number)).to_have_js_property("naturalWidth", 320)
    slider.focus()
    for _ in range(5):
        opened.page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("55")
    assert pixel(shown.first, 0.3)[0] > 150 > pixel(shown.first, 0.3)[2], "before"
    assert pixel(shown.first, 0.7)[2] > 150 > pixel(shown.first, 0.7)[0], "after"
    assert_neat(panel)
    assert_accessible(panel)
    expect(panel.locator(".cd-run .cd-frame").first).to_be_visible()
    assert re.search(r"alert\(1\)", gallery.inner_text()), "shown as text, not executed"


NO_WEBGL = """() => {
    const { prototype } = HTMLCanvasElement;
    const { getContext } = prototype;
    prototype.getContext = () => null;
    window.restoreWebGL = () => { prototype.getContext = getContext; };
}"""


def test_3d_models_can_be_rotated(open_run_panel: Any) -> None:
    cube, helix = ((MODELS / name).read_bytes() for name in ("cube.glb", "helix.ply"))
    lies = cube.replace(b'"count":          8', b'"count": 4000000000')
    assert lies != cube
    files = {
        "cube.glb": encoded(cube),
        "cloud.ply": encoded(helix),
        "lies.glb": encoded(lies),
        "text.ply": encoded(b"no model"),
        "points.spz": encoded(b"x"),
    }
    output = json.dumps({"3d": [made(name) for name in files]})
    graph = {"1": node("TestOutput", files=json.dumps(files), output=output, token="models")}
    opened = open_run_panel(graph)
    page, gallery = opened.page, opened.panel.locator(".comfydeploy-gallery")
    run(opened.panel)
    tiles = gallery.locator(".cd-tile")
    tiles.first.scroll_into_view_if_needed()
    view = "View in 3D"
    expect(tiles.filter(has_text="points.spz").get_by_text(view)).to_have_count(0)
    for name, said in (
        ("lies.glb", "It cannot be shown in 3D. The file is broken."),
        ("text.ply", "It cannot be shown in 3D. It is neither a GLB nor a PLY file."),
    ):
        tiles.filter(has_text=name).get_by_text(view).click()
        expect(tiles.filter(has_text=name)).to_contain_text(said)
    canvas = gallery.locator(".cd-stage canvas")
    for name in ("cube.glb", "cloud.ply"):
        tiles.filter(has_text=name).get_by_text(view).click()
        expect(gallery.get_by_label(f"{name}; arrow keys turn it")).to_be_visible()
        expect(canvas).to_have_count(1)
        canvas.scroll_into_view_if_needed()
        until(lambda: colours(canvas) > 20, what="nothing is drawn")
        before = canvas.screenshot()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    until(lambda: canvas.screenshot() != before)
    turned = canvas.screenshot()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=4)
    page.mouse.up()
    until(lambda: canvas.screenshot() != turned)
    assert_neat(opened.panel)
    assert_accessible(opened.panel)
    gallery.get_by_label("Close the 3D view").click()
    expect(canvas).to_have_count(0)
    expect(tiles.filter(has_text="cloud.ply").get_by_text(view)).to_be_focused()
    page.evaluate(NO_WEBGL)
    tiles.filter(has_text="cube.glb").get_by_text(view).click()
    expect(tiles.filter(has_text="cube.glb")).to_contain_text("This browser has no WebGL")
    page.evaluate("() => window.restoreWebGL()")


def colours(canvas: Locator) -> int:
    """Return the number of different colours in the picture of an element."""
    picture = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB").resize((64, 64))
    return len(picture.getcolors(64 * 64) or ())


def pixel(image: Locator, share: float) -> tuple[int, int, int]:
    """Return the colour in the middle of the pictures, so far from their left side."""
    box = image.bounding_box()
    assert box is not None
    clip = {
        "x": box["x"] + share * box["width"],
        "y": box["y"] + box["height"] / 2,
        "width": 2,
        "height": 2,
    }
    shot = Image.open(io.BytesIO(image.page.screenshot(clip=clip)))
    red, green, blue = shot.convert("RGB").getpixel((0, 0))  # type: ignore[misc] # of Pillow
    return int(red), int(green), int(blue)


def test_models_are_chosen_by_their_folder_size_and_picture(
    open_run_panel: Any, comfyui: ComfyUIServer
) -> None:
    folder = comfyui.models_dir / "checkpoints"
    names = [
        f"{place}picked-{n:02}.safetensors" for place in ("", "sdxl/", "flux/") for n in range(9)
    ]
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 1000 * (number + 1))
        if number % 2:
            Image.new("RGB", (90, 60), (9 * number, 90, 160)).save(file.with_suffix(".preview.png"))
    try:
        graph = {"1": node("CheckpointLoaderSimple", "Model", ckpt_name=names[0])}
        panel = open_run_panel(graph).panel
        picker = panel.get_by_role("combobox", name="ckpt name")
        picker.click()
        options = panel.get_by_role("listbox", name="ckpt name").get_by_role("option")
        expect(options.filter(has_text="picked-01").first).to_contain_text("2.0 KiB")
        expect(panel.locator(".cd-thumb img").first).to_be_visible()
        picker.fill("sdxl 03")
        expect(options).to_have_count(1)
        expect(options).to_contain_text("picked-03.safetensors")
        picker.press("Enter")
        expect(picker).to_have_value("sdxl/picked-03.safetensors")
        picker.click()
        assert_accessible(panel)
    finally:
        for name in names:
            (folder / name).unlink()
            (folder / name).with_suffix(".preview.png").unlink(missing_ok=True)


def test_what_is_painted_and_cropped_is_what_comfyui_gets(
    open_run_panel: Any, comfyui: ComfyUIServer
) -> None:
    photo = Image.linear_gradient("L").resize((200, 100)).convert("RGB")
    photo.save(comfyui.input_dir / "painted.png")
    graph = {
        "1": node("LoadImage", "Photo", image="painted.png"),
        "2": node("MaskToImage", mask=["1", 1]),
        "3": node("SaveImage", images=["1", 0], filename_prefix="painted/photo"),
        "4": node("SaveImage", images=["2", 0], filename_prefix="painted/mask"),
    }
    opened = open_run_panel(graph, "painted.json")
    page, panel = opened.page, opened.panel
    dialog = panel.get_by_role("dialog", name=re.compile("^Mask of"))

    def saved(*steps: Any) -> tuple[Image.Image, Image.Image]:
        panel.get_by_role("button", name="Photo: image: paint a mask, or crop it").click()
        canvas = dialog.get_by_role("img", name=re.compile("^painted|^clipspace"))
        expect(canvas).to_be_visible()
        box = canvas.bounding_box()
        assert box is not None
        for key, x, y in steps:
            page.keyboard.press(key)
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if steps[0][0] == "c":
            for name, value in (("Left", 80), ("Top", 30), ("Width", 60), ("Height", 50)):
                dialog.get_by_label(name, exact=True).fill(str(value))
                page.keyboard.press("Tab")
        press(dialog, "Save")
        expect(dialog).to_be_hidden()
        pictures = len([*folder.glob("*.png")])
        press(panel, "Run")
        until(lambda: len([*folder.glob("*.png")]) == pictures + 2, timeout=120)
        expect(panel.locator("b", has_text="Success")).to_be_visible()
        photos, masks = (sorted(folder.glob(f"{name}*")) for name in ("photo", "mask"))
        return Image.open(photos[-1]).convert("RGB"), Image.open(masks[-1]).convert("L")

    folder = comfyui.output_dir / "painted"
    colours, mask = saved(("b", 0.25, 0.5), ("b", 0.5, 0.5), ("e", 0.5, 0.5))
    assert colours.tobytes() == photo.tobytes()
    assert [mask.getpixel(at) for at in ((50, 50), (100, 50), (180, 50))] == [255, 0, 0]
    colours, mask = saved(("c", 0.5, 0.5))
    assert colours.tobytes() == photo.crop((80, 30, 140, 80)).tobytes()
    assert mask.size == (60, 50)


def test_a_result_is_dragged_into_a_markdown_cell(open_run_panel: Any) -> None:
    graph = {"1": node("EmptyImage", width=64, height=64, batch_size=1, color=1), "2": shown("1")}
    opened = open_run_panel(graph, "dragged.json")
    page, panel = opened.page, opened.panel
    run(panel)
    for command in ("insert-cell-below", "change-cell-to-markdown", "enter-edit-mode"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('notebook:{command}')")
    cell = page.locator(".jp-MarkdownCell .cm-content")
    page.set_viewport_size({"width": 1280, "height": 1400})
    cell.scroll_into_view_if_needed()
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    expect(picture).to_be_in_viewport()
    picture.hover()
    page.mouse.down()
    box = cell.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    expect(cell).to_have_text(re.compile(r"!\[\S+\.png\]\(attachment:\S+\.png\)"))
