"""A Jupyter that accepts any request safely: it can reach only servers that the tests started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.helpers.comfyui import free_port
from tests.helpers.fake_comfydeploy import KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers.jupyter import JupyterProcess

# Addresses in the examples, and the test servers for them.
ELSEWHERE = {
    "https://api.comfydeploy.com": "{comfydeploy}",
    "https://storage.example.com": "{comfydeploy}/bucket",
    "https://example.com": "{comfydeploy}/bucket",
    "http://127.0.0.1:8189": "http://127.0.0.1:{free_port}",
}


class Specified:
    """A server and its own specification.

    Attributes
    ----------
    jupyter : JupyterProcess
        The server.
    specification : dict
        Its own specification, with examples that use the tests' replacements.
    """

    def __init__(self, jupyter: JupyterProcess, comfydeploy_root: str) -> None:
        self.jupyter = jupyter
        answer = self.request("GET", "/comfyui-deploy/openapi.json")
        text = answer.text
        for known, here in ELSEWHERE.items():
            text = text.replace(
                known, here.format(comfydeploy=comfydeploy_root, free_port=free_port())
            )
        self.specification: dict[str, Any] = json.loads(text)
        self._name_what_is_there()

    def _name_what_is_there(self) -> None:
        """Set the examples of ids to those of a job, an asset and a workflow of this server."""
        graph = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}
        api = "/comfyui-deploy/api/v2"
        job = self.request("POST", f"{api}/jobs", json={"workflow": graph}).json()
        asset = self.request("POST", f"{api}/assets", files={"file": ("b.txt", b"hello")}).json()
        stored = {"name": "there", "workflow_api": graph}
        workflow = self.request("POST", "/comfyui-deploy/workflow", json=stored).json()
        known = {
            ("path", "job_id"): job["id"],
            ("path", "asset_id"): asset["id"],
            ("path", "hash"): asset["hash"],
            ("query", "workflow_id"): workflow["workflow_id"],
        }
        for item in self.specification["paths"].values():
            for operation in item.values():
                for parameter in operation["parameters"]:
                    place = parameter["in"], parameter["name"]
                    if place in known:
                        parameter["example"] = known[place]

    @property
    def url(self) -> str:
        """The address of the server, without a slash at the end."""
        return self.jupyter.url.rstrip("/")

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Request a path of the specification."""
        headers = {"Authorization": f"token {self.jupyter.token}"}
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=120, **kwargs)


@pytest.fixture
def specified(
    start_jupyter: Callable[..., JupyterProcess], comfyui, comfydeploy, cloudflared, tmp_path: Path
) -> Specified:
    """A Jupyter that uses the real ComfyUI, with replacements for ComfyDeploy and Cloudflare."""
    checkpoints = comfyui.models_dir / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "a.safetensors").write_bytes(bytes(1024 * 1024))
    (comfyui.input_dir / "a.png").write_bytes(b"a")
    jupyter = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(tmp_path / "data"),
            "cloud_url": comfydeploy.url,
            "comfydeploy_url": comfydeploy.root,
            "allowed_api_urls": [comfydeploy.root],
            "api_key": KEY,
            "cloudflared_path": str(cloudflared.path),
            "huggingface_url": comfydeploy.root,
            "civitai_url": comfydeploy.root,
        }
    )
    return Specified(jupyter, comfydeploy.root)
