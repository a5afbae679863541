"""The list of models: complete, current, fast, and the same from the folders and the API."""

import asyncio
import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import NotFoundError
from comfydeploy_jupyter.files.models import ModelListing, flat
from comfydeploy_jupyter.files.uploads import STAGING_PREFIX


def write(path, size=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


@pytest.fixture
def comfy(tmp_path):
    home = tmp_path.resolve() / "comfy"
    models = home / "models"
    write(models / "checkpoints/b.safetensors", 5)
    write(models / "checkpoints/A.CKPT", 3)
    write(models / "checkpoints/xl/deep/c.sft")
    write(models / "checkpoints/readme.md")
    write(models / "checkpoints/.git/objects/o.bin")
    write(models / "checkpoints" / f"{STAGING_PREFIX}00/0.bin")
    write(models / "checkpoints/.hidden/h.bin")
    write(models / "clip/t5.safetensors")
    write(models / "configs/v1.yaml")
    write(models / "classifiers/plain")
    write(models / "ipadapter/i.onnx")
    write(home / "output/checkpoints/saved.safetensors")
    write(home / "output/checkpoints/b.safetensors", 99)
    write(home / "custom_nodes/pack/__init__.py")
    return home


@pytest.fixture
def local(comfy):
    return ModelListing(Folders(comfy))


CHECKPOINTS = [".hidden/h.bin", "A.CKPT", "b.safetensors", "saved.safetensors", "xl/deep/c.sft"]


async def test_models(local, comfy):
    found = await local.models()
    assert [(entry["folder"], entry["name"]) for entry in found] == [
        *(("checkpoints", name) for name in CHECKPOINTS),
        ("text_encoders", "t5.safetensors"),
        ("classifiers", "plain"),
        ("ipadapter", "i.onnx"),
    ]
    path = comfy / "models/checkpoints/b.safetensors"
    assert found[2] == {
        "name": "b.safetensors",
        "folder": "checkpoints",
        "path": str(path),
        "size": 5,
        "modified": path.stat().st_mtime,
        "preview": False,
    }


async def test_one_folder(local):
    found = await local.models(folder="clip")
    assert [entry["name"] for entry in found] == ["t5.safetensors"]
    assert (await local.models(folder="vae")) == []
    assert [entry["name"] for entry in await local.models(folder="configs")] == ["v1.yaml"]
    with pytest.raises(NotFoundError) as caught:
        await local.models(folder="nope")
    assert "checkpoints" in caught.value.details["folders"]


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("DEEP", ["xl/deep/c.sft"]),
        ("check saved", ["saved.safetensors"]),
        ("t5", ["t5.safetensors"]),
        ("t5 nothing", []),
        (" ", None),
    ],
)
async def test_search(local, search, names):
    found = [entry["name"] for entry in await local.models(search=search)]
    assert found == names or (names is None and len(found) == 8)


async def test_by_folder(local, comfy):
    found = await local.folders()
    assert found["checkpoints"] == [
        [str(comfy / "models/checkpoints"), str(comfy / "output/checkpoints")],
        sorted([".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"]),
        CHECKPOINTS,
    ]
    assert found["custom_nodes"] == [[str(comfy / "custom_nodes")], [], ["pack/__init__.py"]]
    assert found["configs"][2] == ["v1.yaml"]
    assert found["vae"][2] == []


async def test_names(local):
    names = await local.names()
    assert names["checkpoints"] == CHECKPOINTS
    assert "custom_nodes" not in names
    assert flat(names) == [
        *(f"checkpoints/{name}" for name in CHECKPOINTS),
        "configs/v1.yaml",
        "text_encoders/t5.safetensors",
        "classifiers/plain",
        "ipadapter/i.onnx",
    ]


async def test_a_change_shows_at_once(local, comfy):
    folder = comfy / "models/loras/some/where"
    folder.mkdir(parents=True)

    async def names():
        return [Path(name).name for name in (await local.names())["loras"]]

    for number in range(50):
        write(folder / f"{number:03}.bin")
        assert await names() == [f"{n:03}.bin" for n in range(number + 1)]
    await asyncio.sleep(0.05)
    assert len(await names()) == 50
    (folder / "000.bin").unlink()
    assert len(await names()) == 49
    (folder / "001.bin").rename(folder / "zzz.bin")
    assert (await names())[-1] == "zzz.bin"
    folder.rename(comfy / "models/loras/else")
    assert (await local.names())["loras"][0] == "else/002.bin"
    write(comfy / "models/loras/else/new/n.bin")
    assert "else/new/n.bin" in (await local.names())["loras"]


async def test_a_file_written_in_place_shows_its_new_size(local, comfy):
    """Its directory does not change by that."""
    path = comfy / "models/checkpoints/b.safetensors"

    async def size():
        [entry] = await local.models(search="b.safetensors checkpoints")
        return entry["size"]

    assert await size() == 5
    with path.open("ab") as file:
        file.write(b"more")
    assert await size() == 9
    write(path, 2)
    assert await size() == 2


@pytest.mark.timeout(20)
async def test_links_are_followed_but_not_in_cycles(comfy, tmp_path):
    loras = comfy / "models/loras"
    write(loras / "sub/l.bin")
    write(tmp_path / "disk/far.bin")
    (loras / "disk").symlink_to(tmp_path / "disk")
    (loras / "file.bin").symlink_to(tmp_path / "disk/far.bin")
    (loras / "sub/up").symlink_to("..")
    (loras / "sub/self").symlink_to(".")
    (loras / "alias").symlink_to("sub")
    (loras / "broken.bin").symlink_to("nothing")
    (tmp_path / "disk/back").symlink_to(loras)
    found = await ModelListing(Folders(comfy)).models(folder="loras")
    names = [entry["name"] for entry in found]
    assert names == ["alias/l.bin", "disk/far.bin", "file.bin", "sub/l.bin"]


async def test_names_that_json_cannot_hold_are_left_out(local, comfy):
    write(comfy / "models/loras/good.bin")
    write(comfy / "models/loras" / os.fsdecode(b"\xff.bin"))
    assert (await local.names())["loras"] == ["good.bin"]


async def test_a_folder_that_cannot_be_read_is_empty(comfy):
    write(comfy / "models/vae")
    assert (await ModelListing(Folders(comfy)).names())["vae"] == []


NAMES = {
    "checkpoints": ["a.safetensors", "sub/b.ckpt"],
    "configs": ["v1.yaml"],
    "custom_nodes": ["pack/__init__.py"],
    "text_encoders": [],
    "odd/name": ["x.onnx"],
}
DETAILS = {
    "checkpoints": [
        {"name": "a.safetensors", "pathIndex": 0, "modified": 1.5, "created": 1.0, "size": 7},
        {"name": "sub/b.ckpt", "pathIndex": 1, "modified": 2.5, "created": 1.0, "size": 8},
        {"name": "a.safetensors", "pathIndex": 1, "modified": 9.5, "created": 1.0, "size": 9},
    ]
}
DIRECTORIES = [
    {"name": "checkpoints", "folders": ["/m/checkpoints", "/o/checkpoints"]},
    {"name": "text_encoders", "folders": ["/m/text_encoders"]},
    {"name": "odd/name", "folders": ["/m/odd/name"]},
]


class Client:
    """Replies like a ComfyUI elsewhere."""

    async def get_list(self, path, _):
        kind, _, folder = unquote(path).partition("/models")
        if not folder:
            return DIRECTORIES if kind else list(NAMES)
        return DETAILS.get(folder[1:], []) if kind else NAMES[folder[1:]]


@pytest.fixture
def models():
    return ModelListing(None, Client())


async def test_models_of_a_comfyui_elsewhere(models):
    found = await models.models()
    assert found == [
        {
            "name": "a.safetensors",
            "folder": "checkpoints",
            "path": "/m/checkpoints/a.safetensors",
            "size": 7,
            "modified": 1.5,
            "preview": None,
        },
        {
            "name": "sub/b.ckpt",
            "folder": "checkpoints",
            "path": "/o/checkpoints/sub/b.ckpt",
            "size": 8,
            "modified": 2.5,
            "preview": None,
        },
        {
            "name": "x.onnx",
            "folder": "odd/name",
            "path": "models/odd/name/x.onnx",
            "size": None,
            "modified": None,
            "preview": None,
        },
    ]
    assert await models.models(search="B.CKPT") == found[1:2]
    assert await models.models(folder="clip") == []
    assert len(await models.models(folder="configs")) == 1
    with pytest.raises(NotFoundError):
        await models.models(folder="nope")


async def test_folders_and_names_of_a_comfyui_elsewhere(models):
    folders = await models.folders()
    assert list(folders) == list(NAMES)
    assert folders["configs"] == [[], [".yaml"], ["v1.yaml"]]
    assert folders["checkpoints"][0] == ["/m/checkpoints", "/o/checkpoints"]
    assert folders["odd/name"] == [["/m/odd/name"], [], ["x.onnx"]]
    names = await models.names()
    assert names == {key: value for key, value in NAMES.items() if key != "custom_nodes"}
