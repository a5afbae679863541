"""UploadPanel without a page, with the real routes."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import pytest

from comfydeploy_jupyter import UploadPanel
from comfydeploy_jupyter.client import Comfy
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess
    from tests.helpers.transfer_service import Service


@pytest.fixture(scope="module")
def comfy(
    start_jupyter: Callable[..., JupyterProcess],
    comfyui: ComfyUIServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Comfy:
    """A client of a Jupyter server that knows the folders of its ComfyUI."""
    (comfyui.base_dir / "main.py").touch()
    server = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.base_dir),
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("comfydeploy")),
        }
    )
    return Comfy(server.url, server.token)


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[UploadPanel], UploadPanel]
) -> Callable[..., UploadPanel]:
    """A function that makes a panel."""
    return lambda **kwargs: opened(UploadPanel(comfy, **kwargs))


def test_the_destination_is_shared_with_the_page(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of(destination="models/loras", subfolder=" /by/hand/ ", machine="gpu")
    shared = panel.get_state()
    assert (shared["place"], shared["machine"]) == ("models/loras", "gpu")
    assert panel.destination == {
        "type": "models/loras",
        "subfolder": "by/hand",
        "overwrite": False,
        "machine": "gpu",
    }
    panel.set_state({"place": "input", "subfolder": "", "overwrite": True})
    panel.machine = None
    there = {"type": "input", "subfolder": "", "overwrite": True, "machine": ""}
    assert panel.destination == there
    with pytest.raises(TypeError, match="did you mean subfolder"):
        UploadPanel(subfoldr="x")


def test_files_that_have_arrived_are_known_and_saved_in_the_notebook(
    panel_of: Callable[..., UploadPanel],
) -> None:
    panel = panel_of()

    def plain() -> str:
        return str(panel._repr_mimebundle_()[0]["text/plain"])

    assert "connect().upload(" in plain()
    result = {
        "name": "a (1).png",
        "subfolder": "by hand",
        "type": "input",
        "size": 10,
        "file_hash": "ab" * 32,
    }
    uploads: list[dict[str, Any]] = [
        {"id": "1", "state": "done", "result": result},
        {"id": "2", "state": "failed", "result": None},
    ]
    rows = [["<b>.png", "input", "10 B", "failed: no room", "ab" * 32]]
    panel.set_state({"uploads": uploads, "rows": rows})
    (file,) = panel.uploaded
    assert str(file) == "by hand/a (1).png"
    assert panel.uploads == uploads
    assert "failed: no room" in plain()
    assert "&lt;b&gt;.png" in panel._output._html
    saved = json.dumps(w.Widget.get_manager_state(widgets=[panel]), default=str)
    assert panel.comfy.server.token not in saved


def test_a_model_is_downloaded_and_listed(
    panel_of: Callable[..., UploadPanel], bare_service: Service, comfyui: ComfyUIServer
) -> None:
    panel = panel_of()
    name = f"{uuid.uuid4().hex}.safetensors"
    content = bare_service.files[name] = uuid.uuid4().bytes * 1000
    panel.add_model("ftp://nowhere/a.safetensors", "loras")
    panel.wait()
    assert "url" in panel.error
    panel.add_model(f"{bare_service.url}/files/{name}", "loras")
    panel.wait()
    assert panel.error == ""
    ((transfer_id, is_shown),) = panel.followed.items()
    assert is_shown
    (mine,) = [one for one in panel.transfers if one["id"] == transfer_id]
    assert mine["filename"] == name
    until(lambda: name in [model["name"] for model in panel.models])
    (found,) = [model for model in panel.models if model["name"] == name]
    assert (found["folder"], found["size"]) == ("loras", len(content))
    panel.refresh()
    assert panel.get_state()["refreshed"] == 1
    (comfyui.models_dir / "loras" / name).unlink()
