"""``models/preview``: the pictures that lie beside models."""

import io
import os
import uuid

import pytest
from PIL import Image


@pytest.fixture
def extension_config(disk_or_comfyui):
    return disk_or_comfyui


@pytest.fixture
def lora(comfyui):
    """The name of a model without a picture."""
    folder = comfyui.models_dir / "loras" / "style"
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    (folder / f"{name}.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    yield f"style/{name}.safetensors"
    for file in folder.glob(f"{name}*"):
        file.unlink()


async def test_the_picture_beside_a_model_is_sent_as_a_small_copy(api, comfyui, lora):
    for suffix in (".png", ".preview.png", ".JPG"):
        beside = (comfyui.models_dir / "loras" / lora).with_suffix(suffix)
        Image.new("RGB", (640, 320), "red").save(beside)
        _, found = await api.get("models", folder="loras", search=lora)
        wanted = {"folder": "loras", "filename": lora, "thumbnail": "64"}
        reply = await api.raw("GET", "models/preview", params=wanted)
        assert (reply.code, reply.headers["Content-Type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(reply.body)).size == (64, 32)
        assert [entry["preview"] for entry in found] in ([True], [None])
        beside.unlink()


async def test_what_is_no_picture_of_a_model_is_not_sent(api, comfyui, lora):
    folder = comfyui.models_dir / "loras" / "style"
    Image.new("RGB", (64, 64)).save(folder / "other.png")
    wanted = {"folder": "loras", "filename": lora}
    code, body = await api.get("models/preview", **wanted)
    assert (code, body["code"]) == (404, "not_found")
    for wrong in (
        {"filename": "style/../other.png"},
        {"folder": "no-such"},
        {"folder": "../loras"},
    ):
        assert (await api.get("models/preview", **{**wanted, **wrong}))[0] == 404, wrong
    for wrong in ({"filename": ""}, {"thumbnail": "5000"}):
        assert (await api.get("models/preview", **{**wanted, **wrong}))[0] == 400, wrong
    picture = folder / f"{lora.removeprefix('style/').removesuffix('.safetensors')}.png"
    picture.write_bytes(b"no picture")
    assert (await api.get("models/preview", **wanted))[0] in (400, 404)
    picture.unlink()
    os.mkfifo(picture)
    assert (await api.get("models/preview", **wanted))[0] == 404
