"""``comfy.machines`` with a real Jupyter server."""

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import ConflictError, InvalidRequestError, NotFoundError
from tests.helpers.comfyui import free_port


@pytest.fixture
def comfy(jupyter):
    return Comfy(jupyter.url, jupyter.token)


@pytest.fixture
def unreachable(comfy):
    """A machine whose ComfyUI does not run."""
    made = comfy.machines.create("far away", comfyui_url=f"http://127.0.0.1:{free_port()}")
    yield made
    comfy.machines.delete(made.id)


def test_list_and_get(comfy, comfyui, unreachable):
    comfy.run({"1": {"class_type": "TestText", "inputs": {"text": "x"}}}, progress=False)
    local, other = comfy.machines.list()
    assert (local.id, local.kind, local.status) == ("local", "comfyui", "ready")
    assert (other.id, other.name, other.status) == ("far-away", "far away", "unreachable")
    assert repr(local).startswith("<machine local: comfyui, ready, ComfyUI ")
    assert repr(other) == "<machine far-away 'far away': comfyui, unreachable>"
    assert local.software["comfyui"]["url"] == comfyui.url
    assert local.hardware["memory"]["total"] > 0
    assert local.gpus == local.hardware["gpus"]
    assert comfy.machines.get().id == "local"
    assert comfy.machines.get("auto").id == "local"
    assert comfy.url in repr(comfy.machines)
    assert "ComfyDeploy" in repr(comfy.machines.cloud)
    assert comfy.machines.cloud.list() == []  # none of these two is there
    with pytest.raises(NotFoundError):
        comfy.machines.get("no-such")


def test_create_update_delete(comfy, unreachable):
    with pytest.raises(ConflictError):
        comfy.machines.create("FAR AWAY", comfyui_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match="launch_args"):
        comfy.machines.update(launch_args="--listen; reboot")
    with pytest.raises(InvalidRequestError, match="workers"):
        comfy.machines.create("hpc", cluster="tcp://127.0.0.1:9", workers=5)
    with pytest.raises(InvalidRequestError, match=r"workers: .* not for the kind"):
        unreachable.update(workers=(0, 2))
    changed = unreachable.update(name="moon", env={"A": "1"}, launch_args=("--lowvram",))
    assert changed is unreachable
    assert (unreachable.id, unreachable.name, unreachable.config["env"]) == (
        "far-away",
        "moon",
        {"A": "1"},
    )
    assert unreachable.config["launch_args"] == ["--lowvram"]
    assert unreachable.restart_required is False
    assert comfy.machines.get("moon").name == "moon"
    with pytest.raises(ConflictError, match="restart"):
        unreachable.restart()
    assert unreachable.refresh().name == "moon"
    pool = comfy.machines.create("pair", members=[unreachable, "local"])
    assert pool.config["members"] == ["far-away", "local"]
    pool.delete()
    gone = comfy.machines.create("gone", comfyui_url=f"http://127.0.0.1:{free_port()}")
    gone.delete()
    with pytest.raises(NotFoundError):
        gone.refresh()


def test_files_are_uploaded_to_the_machine_of_the_run(comfy, comfyui, unreachable, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("for whoever has time")
    graph = {"1": {"class_type": "TestText", "inputs": {"text": "x"}}}
    result = comfy.run(graph, {"1.text": note}, machine="auto", progress=False)
    assert result["machine"] == "local"
    (name,) = result.texts
    assert (comfyui.input_dir / name).read_text() == "for whoever has time"
