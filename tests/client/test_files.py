"""Files and models from the notebook, on a real Jupyter and a real ComfyUI."""

import hashlib
import io
import uuid

import numpy as np
import pytest
from PIL import Image

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.files import human_size
from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError


@pytest.fixture(scope="module")
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


def scaled(image):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def test_a_path_is_uploaded_and_reused(comfy, comfyui, tmp_path):
    path = tmp_path / f'{uuid.uuid4().hex} "ü".txt'
    path.write_bytes(b"hello" * 500_000)
    stored = comfy.upload(path, subfolder="mine")
    assert str(stored) == f"mine/{path.name}"
    assert stored.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (comfyui.input_dir / "mine" / path.name).read_bytes() == path.read_bytes()
    assert comfy.upload(path, subfolder="mine") == stored


def test_an_open_file_and_bytes(comfy, comfyui):
    name = f"{uuid.uuid4().hex}.bin"
    assert comfy.upload(b"abc", name=name, type="temp").type == "temp"
    with io.BytesIO(b"abcd") as file:
        assert comfy.upload(file, name=name).size == 4


def test_a_picture_as_input_of_a_run(comfy):
    for picture in (
        Image.new("RGB", (6, 4), (255, 0, 0)),
        np.full((4, 6, 3), (255, 0, 0), np.uint8),
        np.broadcast_to(np.array([1.0, 0.0, 0.0]), (1, 4, 6, 3)),
    ):
        (image,) = comfy.run(scaled("example.png"), {"image": picture}, progress=False).images
        assert (image.size, image.convert("RGB").getpixel((2, 2))) == ((6, 4), (255, 0, 0))


def test_pictures_and_paths_set_on_a_workflow_are_uploaded_when_it_runs(comfy, tmp_path):
    workflow = comfy.load(scaled("x.png"))
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    workflow["LoadImage"].image = red
    assert workflow["LoadImage"].image is red
    assert workflow.inputs["1.image"] is red
    assert "picture.png" in repr(workflow)
    (image,) = comfy.run(workflow, progress=False).images
    assert (image.size, image.convert("RGB").getpixel((2, 2))) == ((6, 4), (255, 0, 0))
    path = tmp_path / f"{uuid.uuid4().hex}.png"
    for width in (5, 7):  # a path is read anew by each run
        Image.new("RGB", (width, 3), "green").save(path)
        workflow.inputs["image"] = path
        assert comfy.run(workflow, progress=False).images[0].size == (width, 3)
    workflow.set(image=red)
    assert workflow.validate().valid
    name = workflow.to_api()["1"]["inputs"]["image"]
    assert name.startswith("upload-")
    assert workflow["1"].image is red
    again = comfy.load(workflow)
    assert comfy.run(again, progress=False).images[0].size == (6, 4)
    workflow["1"].image = "example.png"
    assert workflow["1"].image == "example.png"
    assert not workflow.source.files


def test_the_same_picture_is_stored_once(comfy):
    picture = Image.effect_noise((9, 9), 50)
    first, second = comfy.upload(picture), comfy.upload(picture.copy())
    assert first == second
    assert comfy.upload(Image.effect_noise((9, 9), 50)).name != first.name


def test_workflow_with_a_picture_is_kept(comfy):
    workflow = comfy.load(scaled("x.png"))
    workflow["1"].image = Image.new("RGB", (8, 2), "blue")
    saved = comfy.workflows.save(workflow, "with a picture")
    again = saved.load()
    assert again.title == "with a picture"
    assert comfy.run(again, progress=False).images[0].size == (8, 2)


def test_values_that_are_not_files_are_refused(comfy, tmp_path):
    with pytest.raises(InvalidRequestError, match="does not exist"):
        comfy.upload(tmp_path / "not-there.png")
    with pytest.raises(InvalidRequestError, match="shape"):
        comfy.upload(np.zeros((4, 4, 7)))
    with pytest.raises(InvalidRequestError, match="must be a path"):
        comfy.upload(3)
    with pytest.raises(InvalidRequestError, match="file: is open as text"):
        comfy.upload(io.StringIO("abc"), name="a.txt")
    with pytest.raises(InvalidRequestError, match="name: contains a line break"):
        comfy.upload(b"abc", name="a\nb.txt")


def test_models(comfy, comfyui):
    name = f"{uuid.uuid4().hex}.safetensors"
    folder = comfyui.models_dir / "loras"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"12345")
    (model,) = comfy.models("loras", search=name)
    assert (model.name, model.folder, model.size) == (name, "loras", 5)
    assert repr(model) == f"<Model loras/{name}, 5 B>"
    assert comfy.models(search="no such model") == []
    with pytest.raises(NotFoundError):
        comfy.hash("input/not-there.png")


def test_upload_queue(comfy):
    assert comfy.uploads()["uploads"] == []
    assert comfy.cancel_uploads() == comfy.retry_uploads() == 0
    assert comfy.cancel_uploads(id="none") == comfy.retry_uploads("never-was") == 0
    with pytest.raises(NotFoundError):
        comfy.retry_uploads(id="none")
    assert comfy.uploads("never-was")["queue_size"] == 0


def test_sizes_in_readable_units():
    sizes = (5, 2048, 3 * 1024**2, 5.5 * 1024**3, 9 * 1024**4)
    assert [*map(human_size, sizes)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.5 GiB", "9216.0 GiB"]
