import base64
import io
import re

import pytest
from PIL import Image

from comfydeploy_jupyter.client import Result
from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.client.results import INLINE_BYTES, INLINE_IMAGES, result_text
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.errors import ComfyDeployError

EVIL = "<script>alert(1)</script>"


def png(colour="red", size=(4, 3)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def files(request, reply):
    name = request.query["filename"]
    if name == "gone.png":
        reply.json({"error": "no such file", "code": "not_found"}, 404)
    elif name == "sound.wav":
        reply.raw(b"RIFF", content_type="audio/wav")
    else:
        reply.raw(png("blue" if "b" in name else "red"), content_type="image/png")


def reply_with(outputs, **more):
    return {"prompt_id": "p", "status": "success", "outputs": outputs, **more}


def image(name, **more):
    return {"images": [{"filename": name, "subfolder": "", "type": "output", **more}]}


def test_pictures_are_downloaded_when_accessed(small_server):
    server = small_server(files)
    path = "/user/a%40b/comfyui-deploy/view?filename=a.png&x=1"
    outputs = {"9": image("a.png", url=path), "10": image("b.png", url="http://evil/b.png")}
    result = Result(Server(server.url, "secret"), reply_with(outputs, machine="m1"))
    assert len(result.images) == 2
    assert server.requests == []
    assert result.images[0].getpixel((0, 0)) == (255, 0, 0)
    assert result.images[-1].getpixel((0, 0)) == (0, 0, 255)
    assert result.images[0] is result.images[0]
    first, second = server.requests
    assert first.query == {"filename": "a.png", "x": "1"}
    assert second.query == {"filename": "b.png", "type": "output", "machine": "m1"}
    assert first.headers["Authorization"] == second.headers["Authorization"] == "token secret"
    with pytest.raises(IndexError):
        result.images[2]


def test_it_is_a_mapping_of_the_reply():
    reply = reply_with({"1": {"text": ["a", "b"]}}, seeds={"3.seed": 4}, execution_time=1.5)
    result = Result(Server("http://h/"), reply)
    assert dict(result) == reply
    assert (result.texts, result.seeds, result.execution_time) == (["a", "b"], {"3.seed": 4}, 1.5)
    assert repr(result) == "<Result p: success, 1.50 s, 2 texts>"


def test_malformed_replies_cause_no_error():
    broken = {"1": None, "2": {"images": [None, 3, {}]}}
    for malformed in ({}, {"outputs": None}, {"outputs": broken}):
        result = Result(Server("http://h/"), malformed)
        assert (list(result.images), result.texts, result.files) == ([], [], [])
        assert "<div" in result._repr_html_()


def test_shown_in_a_notebook(small_server):
    outputs = {
        "1": {**image("a.png"), "text": [EVIL]},
        "2": {"audio": [{"filename": "sound.wav"}]},
        "3": image("gone.png"),
    }
    graph = {"1": {"class_type": EVIL, "inputs": {}, "_meta": {"title": EVIL}}}
    reply = reply_with(
        outputs,
        node_times={"1": 0.25, EVIL: 1},
        cached_nodes=["2"],
        seeds={"1.seed": 42},
        execution_time=1.84,
        node_errors={"1": {"class_type": EVIL, "errors": [{"message": EVIL, "details": ""}]}},
    )
    shown = Result(Server(small_server(files).url), reply, Source(graph))._repr_html_()
    assert 'src="data:image/png;base64,' in shown
    assert '<audio controls title="sound.wav" src="data:audio/' in shown
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 4
    gone = "gone.png: no such file"
    for fact in ("Success", "1.84 s", "seed 42", "1 node from the cache", "0.250", gone):
        assert fact in shown


def test_large_pictures_are_scaled_down(small_server):
    file = io.BytesIO()
    Image.effect_noise((2000, 1500), 80).save(file, "PNG")
    assert len(file.getvalue()) > INLINE_BYTES
    server = small_server(lambda _, reply: reply.raw(file.getvalue()))
    shown = Result(Server(server.url), reply_with({"1": image("a.png")}))._repr_html_()
    (embedded,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', shown)
    assert Image.open(io.BytesIO(base64.b64decode(embedded))).size == (1024, 768)


def test_many_pictures_are_not_all_embedded(small_server):
    items = [{"filename": f"a{i}.png"} for i in range(INLINE_IMAGES + 5)]
    server = small_server(files)
    shown = Result(Server(server.url), reply_with({"1": {"images": items}}))._repr_html_()
    assert shown.count("<img") == INLINE_IMAGES == len(server.requests)
    assert "and 5 more" in shown


def test_saving_replaces_no_file(small_server, tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    result = Result(Server(small_server(files).url), reply_with({"1": image("a.png")}))
    (saved,) = result.save(tmp_path)
    assert saved == tmp_path / "a (1).png"
    assert saved.read_bytes() == png()
    assert result.save(tmp_path) == [saved]
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a (1).png", "a.png"]


def test_names_cannot_leave_the_folder(small_server, tmp_path):
    server = Server(small_server(files).url)
    for name in ("../../evil.png", "..\\evil.png", "/etc/evil.png"):
        result = Result(server, reply_with({"1": image(name)}))
        assert result.save(tmp_path / "in") == [tmp_path / "in" / "evil.png"]
    with pytest.raises(ComfyDeployError, match="not the name of a file"):
        Result(server, reply_with({"1": image("..")})).save(tmp_path)


KINDS = {
    "1": {"a_images": [{"filename": "a.png"}], "b_images": [{"filename": "b.png"}]},
    "2": {"3d": [{"filename": "m.glb", "subfolder": "3d", "type": "output"}]},
    "3": {"result": ["sub/deep/cloud.PLY", {"position": [1]}, "temp/bg_1.png"]},
    "4": {"result": [f"preview_splat_{'0' * 32}.spz", None, []]},
    "5": {"audio": [{"filename": "s.flac"}], "images": [{"filename": "v.mp4"}], "animated": [True]},
    "6": {"text": ["x" * 5000, "short"]},
    "7": {"images": [{"filename": "scene.exr"}, {"filename": "sky.hdr"}, {"filename": "l.latent"}]},
    "8": {"odd": [None, 3, [["x"]], {"filename": 4}, {"filename": ""}], "no": {"a": 1}, "n": None},
    "9": [1],
    "10": "text",
    "12": {"result": ["of a node that previews no model"]},
    "13": {"result": ["", {"position": [1]}, None]},
    "11": {"images": [{"filename": "z.psd", "subfolder": 3, "type": None, "url": {"a": 1}}]},
}


def test_files_texts_and_pairs_of_all_kinds():
    result = Result(Server("http://h/"), reply_with(KINDS))
    found = {f.filename: (f.medium, f.subfolder, f.type, f.kind) for f in result.files}
    assert found == {
        "a.png": ("image", "", "output", "a_images"),
        "b.png": ("image", "", "output", "b_images"),
        "m.glb": ("3d", "3d", "output", "3d"),
        "cloud.PLY": ("3d", "sub/deep", "output", "3d"),
        f"preview_splat_{'0' * 32}.spz": ("3d", "", "temp", "3d"),
        "s.flac": ("audio", "", "output", "audio"),
        "v.mp4": ("video", "", "output", "images"),
        "scene.exr": ("file", "", "output", "images"),
        "sky.hdr": ("file", "", "output", "images"),
        "l.latent": ("file", "", "output", "images"),
        "z.psd": ("file", "", "output", "images"),
    }
    assert result.texts == ["x" * 5000, "short", "of a node that previews no model"]
    assert [(a.filename, b.filename) for a, b in result.pairs] == [("a.png", "b.png")]
    assert len(result.images) == 2, "only what Pillow opens"
    assert [f.filename for f in result.files if f.is_hdr] == ["scene.exr", "sky.hdr"]


def of_asset(**more):
    asset = {"id": "fdeba978-22c6-4702-afed-50c51ca0b0cd", "preview_id": "b0cd"}
    size = {"kind": "image", "width": 640, "height": 480}
    return {"filename": "a.png", **asset, "metadata": size, **more}


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"metadata": value} for value in (None, [640, 480], {"width": 640})],
        *[{"metadata": {"width": 640, "height": side}} for side in (0, "480", True, 10**30, [480])],
    ],
)
def test_the_size_of_an_asset_is_known_without_its_content(wrong):
    items = [of_asset(), of_asset(**wrong), {"filename": "a.png"}]
    first, other, old = Result(Server("http://h/"), reply_with({"9": {"images": items}})).files
    assert (first.id, first.preview_id) == ("fdeba978-22c6-4702-afed-50c51ca0b0cd", "b0cd")
    assert (first.width, first.height) == (640, 480)
    assert (other.id, other.width, other.height) == (first.id, None, None)
    assert (old.id, old.preview_id, old.width, old.height) == ("", "", None, None)
    assert first == other == old, "the ids are those of one run"


def test_a_small_copy_of_a_file_that_is_no_picture_is_of_the_asset_that_shows_it(small_server):
    server = small_server(lambda request, reply: reply.raw(b"copy", content_type="image/webp"))
    names = ["a.png", "a.exr", "a.glb", "a.mp4"]
    items = [of_asset(filename=name) for name in names]
    items.append(of_asset(filename="own.glb", id="b0cd"))
    for file in Result(Server(server.url), reply_with({"9": {"files": items}})).files:
        assert file.thumbnail(64) == b"copy"
    previews = [request.query.get("preview") for request in server.requests]
    assert previews == [None, None, "b0cd", "b0cd", None]


def test_ids_that_cannot_be_of_assets_are_ignored():
    for wrong in (None, 3, "", "../a", "a b", "x" * 65, ["a"], {"a": 1}, "ä"):
        (file,) = Result(
            Server("http://h/"),
            reply_with({"9": {"gifs": [of_asset(id=wrong, preview_id=wrong)]}}),
        ).files
        assert (file.id, file.preview_id, file.width) == ("", "", 640)


def test_showing_any_output_raises_no_error(small_server):
    def broken_files(request, reply):
        if request.query.get("thumbnail"):
            reply.json({"error": "not a picture", "code": "invalid_request"}, 400)
        else:
            reply.raw(b"\x89PNG\r\n\x1a\n broken", content_type="image/png")

    server = small_server(broken_files)
    result = Result(Server(server.url), reply_with(KINDS))
    page = result._repr_html_()
    for file in result.files:
        assert file.filename in page
    assert "cannot identify image" in page, "a broken picture is reported"
    assert "15 B" in page, "a file has its size"
    assert "(5000 characters)" in page
    assert page.index("<details") < page.index("x" * 5000)
    assert repr(result)
    for part in result_text(result, None):
        assert part.endswith("\n")


def test_malicious_file_names_are_escaped(small_server):
    names = [f"{EVIL}.glb", "a\x1b[31m\r\n.exr", '" onload="x.mp3', "\ud800.splat"]
    outputs = {"1": {"files": [{"filename": name} for name in names], "result": [names[0]]}}
    server = small_server(lambda request, reply: reply.raw(b"x"))
    result = Result(Server(server.url), reply_with(outputs))
    page = result.to_html()
    assert "<script>" not in page
    assert ' onload="x' not in page
    shown = "".join(result_text(result, None))
    assert "\x1b" not in shown
    assert "\r" not in shown
