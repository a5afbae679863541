"""What the routes take that create, change, describe and delete machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import (
    CloudBody,
    CloudTarget,
    Endpoint,
    JSONObject,
    MachineField,
    MachineRef,
    Model,
    Name,
)

__all__ = [
    "FreeRequest",
    "MachineConfig",
    "MachineCreate",
    "MachineDelete",
    "MachineSource",
    "MachineUpdate",
]

_MachineId = Annotated[
    MachineRef | None, Field(description="A machine's id or name.", examples=["local"])
]


class MachineSource(CloudTarget):
    """Query of ``GET machine``."""

    machine_id: _MachineId = None


class MachineConfig(CloudBody):
    """What can be set of a machine; a field that is null counts as not given."""

    name: Name | None = Field(None, description="The name of the machine.", examples=["local"])
    comfyui_url: Endpoint | None = Field(
        None,
        description="The address of a ComfyUI that somebody else runs; it need not answer yet.",
        examples=["http://127.0.0.1:8189"],
    )
    comfyui_path: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The folder of a ComfyUI on this machine; for a managed one by default that of"
        " `local`.",
    )
    comfyui_python: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The Python that runs ComfyUI; for a managed one by default that of `local`.",
    )
    launch_args: list[str] | str | None = Field(
        None,
        description="Further arguments for ComfyUI's main.py: an array, or a text that is split"
        " like a command line. No shell is involved.",
        examples=[["--lowvram"]],
    )
    env: dict[str, str | int | float | None] | None = Field(
        None,
        description="Environment variables of ComfyUI, added to those that are set; null removes"
        " one.",
        examples=[{"HF_HUB_OFFLINE": "1"}],
    )
    gpu: Annotated[str, Field(max_length=255)] | int | None = Field(
        None,
        description='The GPUs that it may use: `0`, `"0,1"`, `"GPU-…"`; at ComfyDeploy a kind of'
        " GPU, such as `H100`.",
    )
    autostart: bool | None = Field(
        None,
        description="Whether it is started, or connected, together with Jupyter (the default).",
        examples=[True],
    )
    docker_steps: JSONObject | list[Any] | None = Field(
        None, description="Another name for `docker_command_steps`."
    )
    docker_command_steps: JSONObject | list[Any] | None = Field(
        None,
        description="The steps by which ComfyDeploy builds a `cloud` machine; of one here they are"
        " only kept.",
    )
    comfyui_version: Annotated[str, Field(max_length=255)] | None = Field(
        None,
        description="The version of ComfyUI of a `cloud` machine; of one here it is only kept.",
    )


class MachineUpdate(MachineConfig):
    """Body of ``POST machine/update``."""

    machine_id: _MachineId = None
    restart: bool | None = Field(
        None,
        description="Whether ComfyUI is started again with the new settings.",
        examples=[False],
    )
    reset: bool | None = Field(
        None,
        description="Whether all earlier changes of the settings are forgotten.",
        examples=[False],
    )


class MachineCreate(MachineConfig):
    """Body of ``POST machine/create``."""

    name: Name = Field(
        description="The name of the machine; also its id, as far as it can be one.",
        examples=["studio"],
    )
    kind: Literal["managed", "comfyui", "cloud"] | None = Field(
        None,
        description="`managed`: started and ended here; `comfyui`: run by somebody else; `cloud`:"
        " serverless at ComfyDeploy. By default it follows from the other fields.",
        examples=["comfyui"],
    )


class MachineDelete(Model):
    """Body of ``POST machine/delete``."""

    machine_id: MachineRef = Field(description="A machine's id or name.", examples=["studio"])


class FreeRequest(Model):
    """Body of ``POST free``."""

    machine: MachineField = None
    unload_models: bool = Field(
        True,
        description="Whether models leave the memory of the GPU and of the machine.",
        examples=[True],
    )
    free_memory: bool = Field(
        True, description="Whether the kept outputs of nodes leave the memory.", examples=[True]
    )
