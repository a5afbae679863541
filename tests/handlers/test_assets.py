"""ComfyUI's assets: with ``--enable-assets`` each output has an id, which is passed on."""

import json

import pytest

from comfydeploy_jupyter.comfyui.find import installed_version
from comfydeploy_jupyter.graphs.versions import version_parts

ASSETS_SINCE = (0, 4)  # 0.3.75 has no --enable-assets
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 32, "batch_size": 2, "color": 4711},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "asset"}},
}


class TestEnableAssets:
    """A real ComfyUI with ``--enable-assets``."""

    @pytest.fixture
    def own(self, start_comfyui, comfyui):
        version, _ = installed_version(comfyui.path)
        if (version_parts(version) or ()) < ASSETS_SINCE:
            pytest.skip(f"ComfyUI {version} has no --enable-assets")
        return start_comfyui(args=["--enable-assets"])

    @pytest.fixture
    def extension_config(self, own, tmp_path):
        return {"comfyui_url": own.url, "data_dir": str(tmp_path / "data")}

    async def test_ids_of_outputs_are_those_of_comfyui(self, api, events, jp_fetch):
        messages = await events(body={"workflow_api": GRAPH})
        bodies = [message[1] for message in messages]
        (result,) = [body["data"] for body in bodies if body.get("event") == "result"]
        images = result["outputs"]["2"]["images"]
        ids = [image["id"] for image in images]
        assert len(set(ids)) == 2
        (executed,) = [
            body["data"]
            for body in bodies
            if body.get("event") == "executed" and body["data"]["node"] == "2"
        ]
        assert [image["id"] for image in executed["output"]["images"]] == ids
        _, record = await api.get("check-status", prompt_id=result["prompt_id"])
        assert record["outputs"] == result["outputs"]
        for image in images:
            answer = await jp_fetch("comfyui", "api", "assets", image["id"])
            asset = json.loads(answer.body)
            assert (asset["id"], asset["name"]) == (image["id"], image["filename"])
            # It is computed in the background.
            assert asset.get("hash", "blake3:").startswith("blake3:")
