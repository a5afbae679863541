"""Requests that create, change, describe and delete machines."""

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
    "MachinesQuery",
]

_MachineId = Annotated[
    MachineRef | None, Field(description="A machine's id or name.", examples=["local"])
]


class MachineSource(CloudTarget):
    """Query of ``GET machine``."""

    machine_id: _MachineId = None


class MachinesQuery(Model):
    """Query of ``GET machines``."""

    members: bool = Field(
        False,
        description="Whether pools contain their members: the ComfyUI, GPU, models, present run and"
        " queue of each.",
        examples=[False],
    )


class MachineConfig(CloudBody):
    """The settings of a machine; a field that is null counts as not given."""

    name: Name | None = Field(None, description="The name of the machine.", examples=["local"])
    comfyui_url: Endpoint | None = Field(
        None,
        description="The address of a ComfyUI that this server does not start; it may be started"
        " later. A user and a password in it are sent with each request, and never shown.",
        examples=["http://127.0.0.1:8189"],
    )
    comfyui_headers: (
        dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=8192)] | None]
        | None
    ) = Field(
        None,
        description="Headers that are sent with each request to `comfyui_url`, such as the key of a"
        " reverse proxy; null removes one. They are stored, and replies show their names only."
        " A new address removes them.",
        examples=[{"X-Api-Key": "secret"}],
    )
    comfyui_client_cert: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="A PEM file on this machine with the certificate that `comfyui_url` asks"
        " clients for.",
    )
    comfyui_client_key: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The PEM file with its key, if it is not in `comfyui_client_cert`.",
    )
    comfyui_ca: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="A PEM file with the authorities that sign the certificate of `comfyui_url`;"
        " by default those that the system trusts.",
    )
    comfyui_path: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The folder of a ComfyUI on this machine. The default for a managed machine is"
        " the folder of `local`.",
    )
    comfyui_python: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The Python that runs ComfyUI. The default for a managed machine is that of"
        " `local`.",
    )
    launch_args: list[str] | str | None = Field(
        None,
        description="Further arguments for ComfyUI's main.py: an array, or a text that is split"
        " like a command line. No shell is involved.",
        examples=[["--lowvram"]],
    )
    env: dict[str, str | int | float | None] | None = Field(
        None,
        description="Environment variables of ComfyUI, in addition to those that are set; null"
        " removes a variable.",
        examples=[{"HF_HUB_OFFLINE": "1"}],
    )
    gpu: Annotated[str, Field(max_length=255)] | int | None = Field(
        None,
        description='The GPUs that ComfyUI may use: `0`, `"0,1"`, `"GPU-…"`; for a `cloud` machine'
        " the type of GPU, such as `H100`.",
    )
    autostart: bool | None = Field(
        None,
        description="Whether it is started or connected when Jupyter starts; the default is true.",
        examples=[True],
    )
    docker_steps: JSONObject | list[Any] | None = Field(
        None, description="Another name for `docker_command_steps`."
    )
    docker_command_steps: JSONObject | list[Any] | None = Field(
        None,
        description="The steps by which ComfyDeploy builds a `cloud` machine. For other machines"
        " they are only stored.",
    )
    members: list[MachineRef] | None = Field(
        None,
        description="The machines of a `pool`, by their ids or names. A run of the pool is executed"
        " by one of them.",
        examples=[["local", "studio"]],
    )
    cluster: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None,
        description="The Dask cluster of a pool of the kind `dask`: a name in the setting"
        " `clusters`.",
        examples=["hpc"],
    )
    scheduler: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        None,
        description="The address of the Dask scheduler of such a pool, instead of `cluster`;"
        " `tcp://` only if `cluster_allow_plain_tcp` is set.",
        examples=["tls://10.0.0.5:8786"],
    )
    security: dict[Literal["tls_ca_file", "tls_client_cert", "tls_client_key"], str] | None = Field(
        None,
        description="The certificates for `scheduler`: PEM texts, or names of files on this"
        " machine. They are stored, and never sent back.",
    )
    workers: list[int] | None = Field(
        None,
        description="The smallest and the largest number of ComfyUIs of such a pool; the smallest"
        " number of them is kept even if there are no runs. The default is `[0, 1]`.",
        examples=[[0, 8]],
    )
    shared_dir: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="A folder that the nodes of such a pool and this machine share under the same"
        " path. Outputs are written there; without it, they are copied to this machine.",
        examples=["/scratch/me/comfyui"],
    )
    retry: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None,
        description="The default of `retry` for the runs of a pool.",
        examples=[0],
    )
    comfyui_version: Annotated[str, Field(max_length=255)] | None = Field(
        None,
        description="The version of ComfyUI of a `cloud` machine. For other machines it is only"
        " stored.",
    )


class MachineUpdate(MachineConfig):
    """Body of ``POST machine/update``."""

    machine_id: _MachineId = None
    restart: bool | None = Field(
        None,
        description="Whether to restart ComfyUI with the new settings.",
        examples=[False],
    )
    reset: bool | None = Field(
        None,
        description="Whether to undo all earlier changes of the settings.",
        examples=[False],
    )


class MachineCreate(MachineConfig):
    """Body of ``POST machine/create``."""

    name: Name = Field(
        description="The name of the machine; its id is made from it.",
        examples=["studio"],
    )
    gpus: Literal["all"] | None = Field(
        None,
        description="`all` starts a ComfyUI for each GPU of this machine, as managed machines with"
        " the other fields, and makes a pool of them.",
        examples=["all"],
    )
    kind: Literal["managed", "comfyui", "cloud", "pool", "dask"] | None = Field(
        None,
        description="`managed`: this server starts and ends ComfyUI; `comfyui`: a ComfyUI that runs"
        " already; `cloud`: serverless at ComfyDeploy; `pool`: machines that share one queue;"
        " `dask`: a pool of ComfyUIs that are started on a Dask cluster. The default follows from"
        " the other fields.",
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
        description="Whether to remove models from the memory of the GPU and of the machine.",
        examples=[True],
    )
    free_memory: bool = Field(
        True, description="Whether to remove cached outputs of nodes.", examples=[True]
    )
