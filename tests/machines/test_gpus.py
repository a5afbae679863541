"""``comfy.machines.create("gpus", gpus="all")``: a ComfyUI for each GPU, and a pool of them."""

import asyncio
from pathlib import Path

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import ConflictError, InvalidRequestError
from tests.helpers.waiting import until_async

from .conftest import GPUS


@pytest.fixture
def extension_config(managed):
    return {**managed, "autostart": False}


@pytest.fixture
def comfy(api, jp_serverapp):
    return Comfy(jp_serverapp.connection_url, jp_serverapp.identity_provider.token)


async def test_each_gpu_has_a_comfyui(api, comfy, nvidia_smi, extension):
    # nothing is created in these cases, also not for the first GPUs
    nvidia_smi([])
    with pytest.raises(InvalidRequestError, match="gpus: no NVIDIA GPU was found"):
        await asyncio.to_thread(comfy.machines.create, "gpus", gpus="all")
    nvidia_smi(GPUS)
    taken = {"name": "gpus-1", "comfyui_url": "http://127.0.0.1:9"}
    assert (await api.post("machine/create", taken))[0] == 200
    with pytest.raises(ConflictError, match="gpus-1"):
        await asyncio.to_thread(comfy.machines.create, "gpus", gpus="all")
    assert [row["id"] for row in (await api.get("machines"))[1]] == ["local", "gpus-1"]
    assert (await api.post("machine/delete", {"machine_id": "gpus-1"}))[0] == 200

    pool = await asyncio.to_thread(comfy.machines.create, "gpus", gpus="all")
    assert (pool.id, pool.kind) == ("gpus", "pool")
    assert pool.config == {"members": ["gpus-0", "gpus-1"]}
    _, reply = await api.get("machine", machine_id="gpus")
    assert [member["gpu"] for member in reply["members"]] == ["0", "1"]
    outputs = set()
    for number in ("0", "1"):

        async def started(machine_id=f"gpus-{number}"):
            _, found = await api.get("machine", machine_id=machine_id)
            return found if found["software"]["comfyui"]["pid"] else None

        machine = await until_async(started)
        pid = machine["software"]["comfyui"]["pid"]
        variables = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
        assert f"CUDA_VISIBLE_DEVICES={number}".encode() in variables.split(b"\0")
        arguments = machine["config"]["launch_args"]
        outputs.add(arguments[arguments.index("--output-directory") + 1])
    assert len(outputs) == 2, "each has its own output folder"
