"""The route of output files: from the disk and through ComfyUI."""

import io
import json
from email.utils import formatdate, parsedate_to_datetime

import pytest
from PIL import Image, ImageCms


@pytest.fixture
def extension_config(disk_or_comfyui):
    return disk_or_comfyui


@pytest.fixture
def files(comfyui):
    (comfyui.output_dir / "sub").mkdir(exist_ok=True)
    made = {
        "view.png": b"\x89PNG" + bytes(range(256)) * 40,
        "sub/ünï code.txt": b"hello",
        "page.html": b"<script>alert(1)</script>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    }
    for name, content in made.items():
        (comfyui.output_dir / name).write_bytes(content)
    return made


@pytest.fixture
def view(api, files, jp_asyncio_loop):
    jp_asyncio_loop.run_until_complete(api.get("comfyui-version"))  # ComfyUI has been found

    async def get(filename, *, method="GET", headers=None, **params):
        params["filename"] = filename
        return await api.raw(method, "view", params=params, headers=headers or {})

    return get


async def test_whole_file(view, files):
    response = await view("view.png")
    assert (response.code, response.body) == (200, files["view.png"])
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Disposition"].startswith("inline")
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    head = await view("view.png", method="HEAD")
    assert (head.code, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(files["view.png"])
    response = await view("ünï code.txt", subfolder="sub")
    assert (response.code, response.body) == (200, b"hello")
    for name in ("page.html", "drawing.svg"):  # they could run scripts
        response = await view(name)
        assert response.body == files[name]
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"].startswith("attachment")


async def test_range(view, files):
    content, many = files["view.png"], "9" * 5000
    for requested, part in (
        ("bytes=0-9", content[:10]),
        ("bytes=100-", content[100:]),
        ("bytes=-7", content[-7:]),
        (f"bytes=0-{10**18}", content),
        (f"bytes=5-{many}", content[5:]),
        (f"bytes={'0' * 5000}-{'0' * 5000}9", content[:10]),
        (f"bytes=-{many}", content),
    ):
        response = await view("view.png", headers={"Range": requested})
        assert (response.code, response.body) == (206, part), requested[:50]
        assert response.headers["Content-Range"].endswith(f"/{len(content)}")
    for requested in ("bytes=99999999-", f"bytes={many}-", f"bytes={many}-9{many}"):
        response = await view("view.png", headers={"Range": requested})
        assert response.code == 416
        assert response.headers["Content-Range"] == f"bytes */{len(content)}"
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.body)["details"]["field"] == "Range"
    invalid = ("items=0-9", "bytes=0-9,20-29", "bytes=9-0", "bytes=-", "bytes=-0", "bytes=a-b")
    for requested in (*invalid, "bytes", "0-9"):
        response = await view("view.png", headers={"Range": requested})
        assert (response.code, response.body) == (200, content), requested


async def test_range_of_a_version(view, files):
    known = (await view("view.png")).headers
    later = formatdate(parsedate_to_datetime(known["Last-Modified"]).timestamp() + 60, usegmt=True)
    for condition, code in (
        (known["ETag"], 206),
        (known["Last-Modified"], 206),
        (f"W/{known['ETag']}", 200),
        ('"another"', 200),
        (later, 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("yesterday", 200),
    ):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        response = await view("view.png", headers=headers)
        assert response.code == code, condition
        assert response.body == (files["view.png"][:10] if code == 206 else files["view.png"])


async def test_not_changed_since(view):
    known = (await view("view.png")).headers
    tag, date = known["ETag"], known["Last-Modified"]
    old = "Thu, 01 Jan 1970 00:00:00 GMT"
    for headers, code in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'"x", W/{tag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": tag.strip('"')[:-1].join('""')}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": old}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": date}, 200),
        ({"If-None-Match": tag, "If-Modified-Since": old}, 304),
    ):
        response = await view("view.png", headers=headers)
        assert response.code == code, headers
        assert bool(response.body) == (code == 200)


async def test_other_files_cannot_be_read(view):
    for filename, params in (
        ("not-there.png", {}),
        ("../comfyui.log", {}),
        ("..\\comfyui.log", {}),
        ("/etc/passwd", {}),
        ("passwd", {"subfolder": "/etc"}),
        ("comfyui.log", {"subfolder": ".."}),
        ("comfyui.log", {"subfolder": "sub/../.."}),
        ("a\0.png", {}),
        ("view.png", {"type": "models"}),
        ("view.png", {"type": "input"}),
    ):
        response = await view(filename, **params)
        assert response.code in (400, 403, 404), filename
        assert response.headers["Content-Type"].startswith("application/json")


def encoded(image, name, **options):
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: to be turned by 90 degrees


async def test_thumbnail(view, comfyui):
    for content, size, pixel in (
        (encoded(Image.new("RGB", (600, 300), (255, 0, 0)), "PNG"), (96, 48), (255, 0, 0)),
        (encoded(Image.new("RGBA", (10, 20), (0, 255, 0, 0)), "PNG"), (10, 20), None),
        (encoded(Image.new("I;16", (200, 100), 0x8000), "PNG"), (96, 48), (128, 128, 128)),
        (encoded(Image.new("RGB", (600, 300), "blue"), "JPEG", exif=TURNED), (48, 96), None),
        (encoded(Image.new("CMYK", (600, 300)), "TIFF"), (96, 48), (255, 255, 255)),
    ):
        (comfyui.output_dir / "picture.png").write_bytes(content)
        response = await view("picture.png", thumbnail=96)
        assert response.code == 200
        assert response.headers["Content-Type"] == "image/webp"
        small = Image.open(io.BytesIO(response.body))
        assert small.size == size
        if pixel is not None:
            found = small.convert("RGB").getpixel((5, 5))
            assert all(abs(a - b) < 12 for a, b in zip(found, pixel, strict=True)), found


async def test_a_thumbnail_with_a_matching_etag_is_not_made_again(view, comfyui, extension_config):
    content = encoded(Image.new("RGB", (600, 300)), "PNG")
    (comfyui.output_dir / "again.png").write_bytes(content)
    first = await view("again.png", thumbnail=64)
    whole = await view("again.png")
    if "comfyui_path" in extension_config:
        assert first.headers["ETag"] != whole.headers["ETag"]
        seen = {"If-None-Match": first.headers["ETag"]}
        assert (await view("again.png", thumbnail=64, headers=seen)).code == 304
        assert (await view("again.png", thumbnail=65, headers=seen)).code == 200


async def test_files_that_are_not_pictures_have_no_thumbnail(view):
    for name in ("page.html", "view.png"):
        response = await view(name, thumbnail=64)
        assert response.code == 400
        assert b"thumbnail" in response.body
    assert (await view("view.png", thumbnail=4)).code == 400
    for query in ({"thumbnail": 64}, {}):
        gone = await view("gone.png", subfolder="far", type="input", **query)
        assert gone.code == 404
        text = "far/gone.png is not in the input folder of this ComfyUI"
        assert json.loads(gone.body)["error"] == text


async def test_the_size_of_a_file_is_read_from_the_disk_without_asking_comfyui(view, extension):
    """Even if only its address is known: its process shows the folders."""
    await view("view.png")
    machine = extension.services.machines.get()
    assert await machine.file_size("output", "", "view.png") == 4 + 256 * 40
    assert await machine.file_size("output", "sub", "ünï code.txt") == 5
    if machine.path is None:  # then ComfyUI is asked, which may have other folders
        assert await machine.file_size("output", "", "missing.png") is None
        assert await machine.file_size("output", "..", "comfyui.log") is None


async def test_the_colours_below_a_mask_are_sent_as_comfyui_reads_them(view, comfyui):
    masked = Image.new("RGBA", (6, 4), (10, 20, 30, 0))
    masked.putpixel((5, 0), (200, 100, 50, 255))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for content, size, pixel in (
        (encoded(masked, "PNG", icc_profile=profile), (6, 4), (10, 20, 30)),
        (encoded(Image.new("RGB", (60, 30), "blue"), "JPEG", exif=TURNED), (30, 60), None),
        (encoded(Image.new("I;16", (20, 10), 0x8000), "PNG"), (20, 10), (128, 128, 128)),
    ):
        (comfyui.output_dir / "masked.png").write_bytes(content)
        response = await view("masked.png", opaque="true")
        assert response.code == 200
        assert response.headers["Content-Type"] == "image/png"
        copy = Image.open(io.BytesIO(response.body))
        assert (copy.mode, copy.size) == ("RGB", size)
        assert "icc_profile" not in copy.info
        assert pixel in (None, copy.getpixel((0, 0)))
    refused = await view("page.html", opaque="true")
    assert refused.code == 400
    assert json.loads(refused.body)["details"]["field"] == "opaque"
