"""``comfy.snapshot()`` with a real Jupyter server and the ComfyUI that runs beside it."""

import json
from pathlib import Path

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import InvalidRequestError


@pytest.fixture
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


@pytest.mark.thorough
def test_a_running_comfyui_is_read_where_only_its_address_is_known(comfy, comfyui, capsys):
    taken = comfy.snapshot("mine")
    assert f"Reading the environment of {comfyui.path}\n" in capsys.readouterr().out
    assert (Path(taken.path) / "Dockerfile").read_text() == taken.dockerfile
    assert [node["name"] for node in taken.data["custom_nodes"]] == ["comfydeploy_test_nodes"]
    assert "--disable-api-nodes" in taken.data["comfyui"]["launch_args"]
    shown = repr(taken)
    for expected in (
        "ComfyUI 0.",
        "packages",
        "comfydeploy_test_nodes: without repository: its files are copied",
        "  ! ",
    ):
        assert expected in shown
    assert f"docker build {taken.path}" in shown


def test_snapshots_from_a_file_or_an_object(comfy, tmp_path, capsys):
    file = tmp_path / "manager.json"
    file.write_text(json.dumps({"cnr_custom_nodes": {"impact-pack": "1.0"}}))
    managed = comfy.snapshot(snapshot=file, progress=False)
    assert "impact-pack: impact-pack 1.0" in repr(managed)
    lines = []
    again = comfy.snapshot("again", snapshot=managed, progress=lines.append)
    assert again.data == managed.data
    assert lines == ["Writing the build context again"]
    assert capsys.readouterr().out == ""
    with pytest.raises(InvalidRequestError, match="name"):
        comfy.snapshot("a/b")
    with pytest.raises(InvalidRequestError, match="No such file"):
        comfy.snapshot(snapshot=tmp_path / "none.json")
    with pytest.raises(InvalidRequestError, match="must be a snapshot"):
        comfy.snapshot(snapshot={})
