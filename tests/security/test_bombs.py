"""Requests and files that are made to exhaust memory or time of their reader, or to mislead it."""

import contextlib
import functools
import io
import json
import struct
import zipfile
import zlib
from itertools import cycle, product

import pytest
from PIL import Image

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.files.thumbnails import thumbnail
from comfydeploy_jupyter.graphs.external import FileNeed
from comfydeploy_jupyter.graphs.metadata import embedded_workflow
from comfydeploy_jupyter.runs import inputs
from comfydeploy_jupyter.snapshots.snapshot import MAX_YAML
from tests.helpers.bodies import form
from tests.helpers.selection import THOROUGH, few

from .conftest import routes

POSTS = [
    path for method, path in routes() if method == "POST" and path.startswith("comfyui-deploy")
]
# What the marks stand for may be nested as deep as Python's own recursion reaches, or deeper.
BODIES = (
    "@",
    '{"workflow_api": {"1": {"class_type": "A", "inputs": {"x": @}}}, "name": "x"}',
    '{"workflow_api_raw": {"1": {"class_type": "A", "inputs": {"x": 1}}}, "inputs": {"1.x": @}}',
    '{"workflow_api": {"1": {"class_type": "A", "inputs": {"x": @}}}, "to": "python"}',
    '{"workflow_api": {"1": {"class_type": "A", "inputs": {"x": @}}}, "to": "ui"}',
    '{"workflow": {"nodes": [{"id": 1, "type": "A", "properties": @}], "links": []}, "name": "x"}',
    '{"name": "m", "docker_steps": {"a": @}, "snapshot": {"comfyui": {}, "a": @}}',
)


def nested(depth):
    return "[" * depth + "1" + "]" * depth


@pytest.mark.parametrize(
    ("depth", "requests"),
    # What is too deep is refused by what all routes share; the last one is read in a thread.
    [
        (985, [*product(POSTS, BODIES)] if THOROUGH else [*zip(POSTS, cycle(BODIES))]),
        (30_000, [*product(few(POSTS[::10]), BODIES)]),
        (100_000, [*product(few(POSTS[::10]), BODIES[:1])]),
    ],
    ids=["accepted", "deep", "large"],
)
async def test_deep_json(call, jp_auth_header, depth, requests):
    for path, body in requests:
        text = body.replace("@", nested(depth))
        response = await call("POST", path, dict(jp_auth_header), text)
        assert response.code != 500, (path, body, response.body)
        if depth > 1000:
            assert 400 <= response.code < 500, (path, body)


async def test_json_in_a_text_of_json(call, jp_auth_header):
    deep = nested(100_000)
    enum = {"class_type": "ComfyUIDeployExternalEnum", "inputs": {"options": deep}}
    for path, body in (
        ("snapshot-to-docker", {"snapshot": deep}),
        ("workflow", {"name": "x", "workflow": f'{{"nodes": {deep}}}'}),
        ("workflow/validate", {"workflow_api": {"1": enum}}),
        ("run", {"workflow_api": {"1": enum}, "inputs": {"1": deep}}),
    ):
        path = f"comfyui-deploy/{path}"
        response = await call("POST", path, dict(jp_auth_header), json.dumps(body))
        assert response.code != 500, (path, response.body)


async def test_numbers_that_json_cannot_hold_are_refused(call, jp_auth_header):
    for number, body in product(("1e999", "-1e999", "1" * 5000, "NaN"), BODIES):
        text = body.replace("@", number)
        response = await call("POST", "comfyui-deploy/workflow/convert", dict(jp_auth_header), text)
        assert response.code == 400, (body, response.body)
        assert json.loads(response.body)["code"] == "invalid_json"


async def test_an_argument_has_one_value(call, jp_auth_header):
    """Who checks the first one may otherwise be misled by the second."""
    for query in ("limit=1&limit=2", "metadata[a]=1&metadata[a]=2", "search=&search=a"):
        response = await call("GET", f"comfyui-deploy/runs?{query}", dict(jp_auth_header))
        assert response.code == 400, query
        assert "is given more than once" in json.loads(response.body)["error"]
    body, headers = form(("file", "a.json", b"{}"), ("file", "b.json", b"{}"))
    path = "comfyui-deploy/workflow/convert"
    response = await call("POST", path, {**jp_auth_header, **headers}, body)
    assert (response.code, b"must be given exactly once" in response.body) == (400, True)


@pytest.mark.parametrize("settings", [{"max_json_size": 1024}])
async def test_a_body_has_a_size_limit(call, jp_auth_header):
    for path in POSTS:
        response = await call("POST", path, dict(jp_auth_header), json.dumps({"x": "x" * 1024}))
        reply = json.loads(response.body)
        if path.endswith(("no-such-route", "/cancel", "/pause", "/resume")):  # they read no body
            assert response.code == 404
        else:
            error = reply["error"] if "/api/v2/" in path else reply  # Comfy's API has it inside
            assert (response.code, error["code"]) == (413, "too_large"), path


async def test_yaml_that_is_or_expands_to_too_much_is_refused(call, jp_auth_header):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    laughs = "\n".join(["comfyui: {}", "a0: &a0 [x]", *levels])
    for text in (laughs, "comfyui: {}\n" + "#" * MAX_YAML):
        response = await call(
            "POST", "comfyui-deploy/snapshot-to-docker", dict(jp_auth_header), {"snapshot": text}
        )
        assert response.code == 400
        assert json.loads(response.body)["details"]["field"] == "snapshot"


# -- pictures ----------------------------------------------------------------------------------


def chunk(kind, content):
    return struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", 0)


@functools.cache
def zeros():
    """Return a text of 192 MiB."""
    return zlib.compress(bytes(192 << 20), level=1)


def png(width, height, *chunks):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)[:-4] + checked + b"".join(chunks)


@pytest.mark.parametrize(
    "content",
    [
        lambda: png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(1 << 20)))),
        lambda: png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + zeros())),
        lambda: (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/was-here) (w) file closefile\n"
        ),
    ],
    ids=["pixels", "text", "program"],
)
def test_thumbnails_are_of_pictures_of_bounded_size(content):
    with pytest.raises(InvalidRequestError, match="can be made only of"):
        thumbnail(io.BytesIO(content()), 64)


@pytest.mark.parametrize(
    "content",
    [
        png(8, 8, struct.pack(">I4s", 0xFFFFFFFF, b"tEXt") + b"workflow\0{}"),
        png(8, 8, *[chunk(b"tEXt", b"x")] * 10, struct.pack(">I4s", 0, b"\0\0\0\0") * 10),
        b"RIFF\xff\xff\xff\xffWEBPEXIF\xff\xff\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x00" * 100,
        struct.pack(">I4s", 1, b"ftyp") + struct.pack(">Q", 1 << 62) * 4,
        b"\x1aE\xdf\xa3" + b"\x01\xff\xff\xff\xff\xff\xff\xff" * 100,
        b"fLaC\x84\xff\xff\xff" + b"\xff" * 64,
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"TXXX\x7f\x7f\x7f\x7f\0\0",
        struct.pack("<Q", 1 << 30) + b"{" + b" " * 64,
        b'<svg><metadata><![CDATA[{"nodes": ' + b"[" * 100_000,
        b'{"nodes": ' + b"[" * 100_000,
    ],
    ids=lambda content: repr(content[:4]),
)
def test_metadata_with_sizes_that_lie(content):
    with pytest.raises(InvalidRequestError):
        embedded_workflow(content)


def test_metadata_that_expands_to_too_much():
    with pytest.raises(InvalidRequestError):
        embedded_workflow(png(8, 8, chunk(b"zTXt", b"workflow\0\0" + zeros())))


# -- archives ----------------------------------------------------------------------------------


def picture():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def archive(**contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in contents.items():
            made.writestr(name, content)
    return file.getvalue()


def patched(content, mark, offset, *, form="<I", value):
    """Return an archive with another value at a distance from the last mark."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.rindex(mark) + offset, value)
    return bytes(changed)


def zip64(content):
    """Return an archive that has the position of its list in the records of ZIP64, too."""
    end = content.rindex(END)
    size, start = struct.unpack_from("<LL", content, end + 12)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return content[:end] + record + locator + content[end:]


FILE, END = b"PK\x01\x02", b"PK\x05\x06"
PACKED = archive(**{"a.png": b"x"})
TWO = archive(**{"a.png": bytes(1 << 20), "b.png": b"x"})
TOO_LARGE = {
    "size": patched(TWO, FILE, 24, value=0xFFFFFFFE),
    "list": patched(PACKED, END, 12, value=1 << 30),
    "number": archive(**{f"{n}.png": b"" for n in range(inputs.MAX_IMAGES + 1)}),
    "zip64": zip64(PACKED),
    # its end looks as if another archive began in it, with a short list
    "hidden": patched(patched(PACKED, END, 12, value=1 << 30), END, 16, form="<4s", value=END),
}


class TestArchives:
    """A batch of pictures can be an archive, at any address."""

    @pytest.fixture
    def place_archive(self, bare_service, tmp_path):
        (tmp_path / "input").mkdir()

        async def fetch_archive(content):
            bare_service.files["all.zip"] = content
            folders = Folders(tmp_path)
            client = None  # for a ComfyUI whose folders are not on this machine
            url = f"{bare_service.url}/files/all.zip?Signature=s3cret"
            need = FileNeed("1", "batch", "image_batch", (url,))
            return list((await inputs.fetch_input_files([need], client, folders))["1"])

        return fetch_archive

    async def test_pictures_are_placed(self, place_archive, tmp_path):
        names = await place_archive(
            archive(**{"../../a.png": picture(), "b/c.PNG": b"x", "d.txt": b""})
        )
        assert [name.rpartition("-")[2] for name in names] == ["a.png", "c.PNG"]
        assert (tmp_path / "input" / names[0]).read_bytes() == picture()
        assert not (tmp_path.parent / "a.png").exists()

    @pytest.mark.parametrize("kind", TOO_LARGE)
    async def test_archives_with_too_large_declared_sizes_are_not_opened(
        self, place_archive, kind, tmp_path
    ):
        with pytest.raises(InvalidRequestError, match="the archive has "):
            await place_archive(TOO_LARGE[kind])
        assert list((tmp_path / "input").iterdir()) == []

    async def test_no_more_is_unpacked_than_the_declared_size(self, place_archive, tmp_path):
        misleading = patched(archive(**{"a.png": bytes(64 << 20)}), FILE, 24, value=1000)
        with contextlib.suppress(InvalidRequestError):
            await place_archive(misleading)
        sizes = [path.stat().st_size for path in (tmp_path / "input").rglob("*.png")]
        assert sizes in ([], [1000])

    async def test_a_refusal_does_not_repeat_the_signature(self, place_archive, bare_service):
        bare_service.replacements["files"].append(403)
        with pytest.raises(InvalidRequestError) as refused:
            await place_archive(b"")
        assert "s3cret" not in str(refused.value)
