"""Input files of runs of pools: found on this server, and sent to the machine of the run."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import NotFoundError
from comfydeploy_jupyter.graphs.inputs import file_names_in
from comfydeploy_jupyter.machines.registry import MachineRegistry
from comfydeploy_jupyter.runs.inputs import InputChangedError, PoolInputs
from comfydeploy_jupyter.util.jsons import loads

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
    "2": {"class_type": "Text", "inputs": {"text": "photo.png and more", "seed": 1, "a": ["1", 0]}},
}


class Remote:
    """The upload route of a ComfyUI on another computer."""

    def __init__(self):
        self.files = {}

    async def upload(self, file, name, *, subfolder):
        self.files[f"{subfolder}/{name}"] = file.read()
        return name, subfolder


def machine(name, path):
    folders = Folders(path)

    async def known():
        return folders

    return SimpleNamespace(id=name, name=name, path=path, folders=known)


@pytest.fixture
def local(tmp_path):
    (tmp_path / "local" / "input").mkdir(parents=True)
    return machine("local", tmp_path / "local")


@pytest.fixture
def inputs(tmp_path, local):
    registry = MachineRegistry()
    registry.add(local)
    return PoolInputs(registry, tmp_path / "kept")


def sent(prompt):
    graph = json.loads(prompt)
    assert graph["2"] == GRAPH["2"]
    name = graph["1"]["inputs"]["image"]
    assert isinstance(name, str)
    return name


async def test_a_file_goes_to_each_machine(inputs, local, tmp_path):
    folders = await inputs.folders()
    (folders.directory("input") / "photo.png").write_bytes(b"of the pool")
    (tmp_path / "local" / "input" / "photo.png").write_bytes(b"of another user")
    names = await inputs.named(file_names_in(GRAPH), local)
    assert [*names] == ["photo.png"]
    prompt = json.dumps(GRAPH).encode()
    name = sent(await inputs.send(names, prompt, local, SimpleNamespace()))
    assert (tmp_path / "local" / "input" / name).read_bytes() == b"of the pool"
    assert (tmp_path / "local" / "input" / "photo.png").read_bytes() == b"of another user"
    remote = Remote()
    name = sent(await inputs.send(names, prompt, machine("far", None), remote))
    assert remote.files == {name: b"of the pool"}


async def test_a_file_that_a_machine_has_stays_there(inputs, local, tmp_path):
    (tmp_path / "local" / "input" / "photo.png").write_bytes(b"here")
    names = await inputs.named(file_names_in(GRAPH), local)
    prompt = json.dumps(GRAPH).encode()
    assert await inputs.send(names, prompt, local, SimpleNamespace()) == prompt
    remote = Remote()
    name = sent(await inputs.send(names, prompt, machine("far", None), remote))
    assert remote.files == {name: b"here"}


async def test_a_missing_file_is_reported(inputs, local):
    with pytest.raises(NotFoundError, match=r"gone\.png"):
        await inputs.send({"gone.png": ""}, b"{}", local, SimpleNamespace())


async def test_no_file_outside_the_input_folder_is_found(inputs, local, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "local" / "input" / "link.png").symlink_to(tmp_path / "secret.png")
    names = {"../secret.png", "../../secret.png", str(tmp_path / "secret.png"), "link.png"}
    assert await inputs.named(names, local) == {}


@pytest.mark.parametrize("far", [True, False])
async def test_a_file_that_was_changed_is_not_sent(inputs, local, tmp_path, far):
    photo = tmp_path / "local" / "input" / "photo.png"
    photo.write_bytes(b"first")
    names = await inputs.named(file_names_in(GRAPH), local)
    photo.write_bytes(b"other")
    remote = Remote()
    target = machine("far", None) if far else local
    with pytest.raises(InputChangedError, match=r"^1\.image: The input file 'photo\.png'"):
        await inputs.send(names, json.dumps(GRAPH).encode(), target, remote)
    assert remote.files == {}


@pytest.mark.thorough
@pytest.mark.slow
async def test_the_loop_runs_while_the_inputs_with_a_changed_file_are_found(
    inputs, local, tmp_path
):
    photo = tmp_path / "local" / "input" / "photo.png"
    photo.write_bytes(b"first")
    names = await inputs.named(["photo.png"], local)
    photo.write_bytes(b"other")
    further = {str(node): GRAPH["2"] for node in range(3, 100_000)}
    prompt = json.dumps({**GRAPH, **further}).encode()
    began = time.perf_counter()
    loads(prompt)
    blocks_for = time.perf_counter() - began
    sending = asyncio.create_task(inputs.send(names, prompt, local, Remote()))
    longest = 0.0
    while not sending.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began)
    with pytest.raises(InputChangedError, match=r"^1\.image: "):
        sending.result()
    assert longest < blocks_for / 2


async def test_the_file_of_another_machine_with_the_same_name_is_not_sent(tmp_path, local):
    """The machines have different files, and the run was prepared for the second one."""
    second = machine("second", tmp_path / "second")
    (tmp_path / "second" / "input").mkdir(parents=True)
    (tmp_path / "local" / "input" / "photo.png").write_bytes(b"of local")
    (tmp_path / "second" / "input" / "photo.png").write_bytes(b"of second")
    registry = MachineRegistry()
    registry.add(local)
    registry.add(second)
    inputs = PoolInputs(registry, tmp_path / "kept")
    names = await inputs.named(file_names_in(GRAPH), second)
    remote = Remote()
    await inputs.send(names, json.dumps(GRAPH).encode(), machine("far", None), remote)
    assert [*remote.files.values()] == [b"of second"]
