"""Output files over the route: from the disk and through ComfyUI."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["disk", "comfyui"])
def extension_config(request, comfyui, tmp_path):
    config = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}
    if request.param == "disk":
        config["comfyui_path"] = str(comfyui.path)
    return config


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
def view(api, files):
    async def get(filename, *, method="GET", headers=None, **params):
        await api.get("comfyui-version")  # ComfyUI has been found from now on
        return await api.raw(
            method, "view", params={"filename": filename, **params}, headers=headers or {}
        )

    return get


async def test_whole_file(view, files):
    response = await view("view.png")
    assert response.code == 200
    assert response.body == files["view.png"]
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Disposition"].startswith("inline")
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_file_in_a_subfolder(view):
    response = await view("ünï code.txt", subfolder="sub")
    assert response.code == 200
    assert response.body == b"hello"


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
async def test_range(view, files, asked, part):
    response = await view("view.png", headers={"Range": asked})
    assert response.code == 206
    assert response.body == files["view.png"][part]
    assert response.headers["Content-Range"].endswith(f"/{len(files['view.png'])}")


async def test_range_outside(view):
    response = await view("view.png", headers={"Range": "bytes=99999999-"})
    assert response.code == 416


async def test_not_changed_since(view):
    first = await view("view.png")
    again = await view("view.png", headers={"If-None-Match": first.headers["ETag"]})
    assert again.code == 304
    assert not again.body


async def test_head(view, files):
    response = await view("view.png", method="HEAD")
    assert response.code == 200
    assert not response.body
    assert int(response.headers["Content-Length"]) == len(files["view.png"])


@pytest.mark.parametrize("name", ["page.html", "drawing.svg"])
async def test_what_could_run_a_script_is_a_download(view, files, name):
    response = await view(name)
    assert response.body == files[name]
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("filename", "params"),
    [
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
    ],
)
async def test_nothing_else_can_be_read(view, filename, params):
    response = await view(filename, **params)
    assert response.code in (400, 403, 404)
    assert response.headers["Content-Type"].startswith("application/json")
