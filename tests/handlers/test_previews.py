"""The pictures that ComfyUI's assets have for files that are no pictures."""

import io
import uuid

import pytest
from PIL import Image

from tests.helpers.comfyui_proxies import answering


@pytest.fixture
def extension_config(faulty, tmp_path):
    return {"comfyui_url": faulty.url, "data_dir": str(tmp_path)}


def png(width, height):
    made = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(made, "PNG")
    return made.getvalue()


async def test_a_file_is_shown_by_its_asset(api, comfyui, faulty):
    name, asset = f"{uuid.uuid4().hex}.glb", str(uuid.uuid4())
    (comfyui.output_dir / name).write_bytes(b"glTF")
    at = f"/api/assets/{asset}/content"
    faulty.fail("GET", at, answering(200, png(800, 400), "image/png"))

    async def view(**more):
        return await api.raw("GET", "view", params={"filename": name, **more})

    shown = await view(thumbnail="64", preview=asset)
    assert (shown.code, shown.headers["Content-Type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(shown.body)).size == (64, 32)
    assert (await view()).body == b"glTF"
    assert (await view(thumbnail="64")).code == 400, "it is no picture itself"
    for wrong in ("../../view", "a/b", "", "x" * 65):
        assert (await view(thumbnail="64", preview=wrong)).code == 400
    for status, content, code in ((200, b"<svg/>", 400), (404, b"{}", 404), (302, b"", 503)):
        faulty.fail("GET", at, answering(status, content, "image/png"))
        assert (await view(thumbnail="64", preview=asset)).code == code
