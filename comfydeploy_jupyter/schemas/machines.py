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
        None, description="The address of a ComfyUI.", examples=["http://127.0.0.1:8189"]
    )
    comfyui_path: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="The folder of a ComfyUI on this machine."
    )
    comfyui_python: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="The Python that runs ComfyUI."
    )
    launch_args: list[str] | str | None = Field(
        None, description="Further arguments for ComfyUI's main.py.", examples=[["--lowvram"]]
    )
    env: dict[str, str | int | float | None] | None = Field(
        None,
        description="Environment variables of ComfyUI; null removes one.",
        examples=[{"HF_HUB_OFFLINE": "1"}],
    )
    gpu: Annotated[str, Field(max_length=255)] | int | None = Field(
        None, description="The GPU to use: a number here, a kind of GPU at ComfyDeploy."
    )
    autostart: bool | None = Field(
        None,
        description="Whether it is found or started together with Jupyter.",
        examples=[True],
    )
    docker_steps: JSONObject | list[Any] | None = Field(
        None, description="Another name for `docker_command_steps`."
    )
    docker_command_steps: JSONObject | list[Any] | None = Field(
        None, description="The steps by which ComfyDeploy builds a machine."
    )
    comfyui_version: Annotated[str, Field(max_length=255)] | None = Field(
        None, description="The version of ComfyUI, for a machine of ComfyDeploy."
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

    name: Name = Field(description="The name of the machine.", examples=["studio"])
    kind: Literal["managed", "comfyui", "cloud"] | None = Field(
        None,
        description="What kind of machine; by default it follows from the other fields.",
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
