"""Where the models of a real ComfyUI are: its launch arguments, and folders of custom nodes."""

import json
import urllib.request
import uuid

import pytest

from comfydeploy_jupyter.comfyui.find import installed_version
from comfydeploy_jupyter.graphs.versions import version_parts
from tests.helpers.bodies import form
from tests.helpers.waiting import until_async

MODELS_DIRECTORY_SINCE = (0, 4)  # 0.3.75 has no --models-directory


def from_comfyui(comfyui, route):
    with urllib.request.urlopen(f"{comfyui.url}{route}", timeout=30) as answer:
        return json.load(answer)


async def connected(api):
    await api.get("object_info")


async def test_every_folder_that_comfyui_lists_is_known(api, comfyui):
    await connected(api)
    _, ours = await api.get("models", format="folders")
    assert set(from_comfyui(comfyui, "/models")) <= ours.keys()
    for name in from_comfyui(comfyui, "/models"):
        assert ours[name][2] == from_comfyui(comfyui, f"/models/{name}")


class TestOnThisMachine:
    """The same for a ComfyUI whose folders are known."""

    @pytest.fixture
    def extension_config(self, config_with_folders):
        return config_with_folders

    @pytest.mark.thorough
    async def test_every_folder_that_comfyui_lists_is_known(self, api, comfyui):
        await test_every_folder_that_comfyui_lists_is_known(api, comfyui)

    @pytest.mark.thorough
    async def test_folders_of_custom_nodes(self, api, comfyui):
        elsewhere = comfyui.base_dir / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        name = f"{uuid.uuid4().hex}.safetensors"
        (elsewhere / name).write_bytes(b"secret")
        await connected(api)
        _, found = await api.get("models", folder="comfydeploy_test", search=name)
        assert [(one["name"], one["folder"]) for one in found] == [(name, "comfydeploy_test")]
        _, names = await api.get("filename_list_cache")
        assert f"comfydeploy_test/{name}" in names
        # It is known by name, but that makes its folder no root.
        for path in (str(elsewhere / name), f"comfydeploy_test/{name}"):
            code, _ = await api.get("get-file-hash", filename=path)
            assert code in (403, 404)
        # What is sent there goes below models/.
        body, headers = form(("type", None, b"models/comfydeploy_test"), ("file", name, b"mine"))
        code, sent = await api.post("upload-file", body, headers=headers)
        assert code == 200, sent
        kept = comfyui.models_dir / "comfydeploy_test" / name
        assert kept.read_bytes() == b"mine"
        assert (elsewhere / name).read_bytes() == b"secret"
        kept.unlink()


class TestModelsDirectory:
    """A ComfyUI that was started with ``--models-directory``, with its base folder elsewhere."""

    @pytest.fixture
    def own(self, start_comfyui, comfyui, tmp_path):
        version, _ = installed_version(comfyui.path)
        if (version_parts(version) or ()) < MODELS_DIRECTORY_SINCE:
            pytest.skip(f"ComfyUI {version} has no --models-directory")
        (tmp_path / "big" / "checkpoints").mkdir(parents=True)
        return start_comfyui(args=["--models-directory", str(tmp_path / "big")])

    @pytest.fixture
    def extension_config(self, own, tmp_path):
        data_dir = str(tmp_path / "data")
        return {"comfyui_url": own.url, "comfyui_path": str(own.path), "data_dir": data_dir}

    async def test_models_in_the_models_directory_are_listed(
        self, api, own, tmp_path, bare_service
    ):
        big = tmp_path / "big"
        (big / "checkpoints" / "a.safetensors").write_bytes(b"a")
        await connected(api)
        _, found = await api.get("models", folder="checkpoints")
        assert [one["path"] for one in found] == [str(big / "checkpoints" / "a.safetensors")]
        assert from_comfyui(own, "/models/checkpoints") == ["a.safetensors"]
        code, answer = await api.get("get-file-hash", filename="models/checkpoints/a.safetensors")
        assert (code, answer["size"]) == (200, 1)
        _, folders = await api.get("models", format="folders")
        assert folders["datasets"][0] == [str(own.base_dir / "datasets")]
        assert set(from_comfyui(own, "/models")) <= folders.keys()
        bare_service.files["b.safetensors"] = b"b"
        link = f"{bare_service.url}/files/b.safetensors"
        body = {"url": link, "folder": "detection"}
        code, answer = await api.post("volume/model", body)
        assert (code, answer["path"]) == (200, str(big / "detection" / "b.safetensors"))
        await until_async((big / "detection" / "b.safetensors").exists)
