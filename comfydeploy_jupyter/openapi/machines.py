"""Machines, and the memory of their ComfyUI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import ConflictError, NotFoundError
from .operation import (
    CLOUD,
    KEY,
    MACHINE,
    Link,
    Operation,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)

_Kind = Literal["managed", "comfyui", "cloud", "pool", "dask"]


class PoolMember(ReplyModel):
    """A machine of a pool."""

    id: str = Field(examples=["studio"])
    name: str = Field(examples=["studio"])
    status: str = Field(examples=["ready"])
    url: str | None = Field(examples=["http://127.0.0.1:8189"])
    version: str | None = Field(examples=["0.33.0"])
    gpu: str | None = Field(description="The GPU that its ComfyUI uses.", examples=["cuda:0 L4"])
    work: int = Field(description="Prompts in its queue.", examples=[0])
    error: str | None
    run: str | None = Field(description="The id of the run that it executes.", examples=[None])
    queue: int = Field(description="Prompts that it has, of all clients.", examples=[0])
    models: list[str] = Field(description="The model files of its last run.")


class MachineSummary(ReplyModel):
    """A short description of a machine."""

    id: str = Field(examples=["studio"])
    name: str = Field(examples=["studio"])
    kind: _Kind = Field(examples=["comfyui"])
    status: str | None = Field(examples=["ready"])
    gpu: Any = Field(examples=[None])
    url: str | None = Field(None, examples=["http://127.0.0.1:8189"])
    version: str | None = Field(None, examples=["0.33.0"])
    work: int = Field(
        0, description="Prompts in its queue; for a pool, its unfinished runs.", examples=[0]
    )
    error: str | None = None
    members: list[PoolMember] = Field(
        default_factory=list, description="Of a pool, if the query has `members`."
    )


class Hardware(ReplyModel):
    """Hardware of a machine; sizes in bytes. Null or empty if not known."""

    cpu: dict[str, Any] | None = Field(examples=[{"name": "AMD EPYC", "cores": 8}])
    memory: dict[str, int | None] | None = Field(
        examples=[{"total": 68719476736, "available": 34359738368, "used": 34359738368}]
    )
    gpus: list[dict[str, Any]] = Field(examples=[[{"index": 0, "name": "NVIDIA L4"}]])
    disks: list[dict[str, Any]] = Field(
        examples=[[{"path": "/", "total": 500000000000, "used": 1, "free": 499999999999}]]
    )


class MachineReply(ReplyModel):
    """A machine; for one in ComfyDeploy, ``config`` has the data of the service."""

    id: str = Field(examples=["studio"])
    name: str = Field(examples=["studio"])
    kind: _Kind = Field(examples=["comfyui"])
    status: str | None = Field(examples=["ready"])
    hardware: Hardware
    software: dict[str, Any] = Field(
        examples=[{"os": "Linux", "python": "3.11.7", "comfyui": {"version": "0.33.0"}}]
    )
    config: dict[str, Any] = Field(examples=[{"comfyui_url": "http://127.0.0.1:8189", "env": {}}])
    restart_required: bool = Field(
        description="Whether a setting takes effect only after a restart of its ComfyUI.",
        examples=[False],
    )
    work: int = Field(
        0, description="Prompts in its queue; for a pool, its unfinished runs.", examples=[0]
    )
    gpu: str | None = None
    error: str | None = None
    members: list[PoolMember] = Field(default_factory=list, description="Of a pool.")
    provider: dict[str, Any] | None = Field(
        None, description="The state of the cluster that provides the machines of a pool."
    )


class MachineUpdated(Success):
    """A machine after a change; ``id`` is its id, for the node's web plug-in."""

    id: str = Field(examples=["local"])
    machine: MachineReply
    restart_required: bool = Field(examples=[False])


class MachineCreated(Success):
    """A new machine; ``id`` is its id too, for the node's web plug-in."""

    id: str = Field(examples=["studio"])
    machine_id: str = Field(examples=["studio"])
    machine: MachineReply


class MachineDeleted(Success):
    """The machine that was deleted."""

    machine_id: str = Field(examples=["studio"])


class MemoryChange(ReplyModel):
    """Free bytes before and after, and the difference."""

    before: int = Field(examples=[1024])
    after: int = Field(examples=[4096])
    freed: int = Field(examples=[3072])


class MemoryFreed(Success):
    """The memory that ComfyUI freed; `pending`: it will free it after the present prompt."""

    machine: str = Field(examples=["local"])
    pending: bool = Field(examples=[False])
    gpu: MemoryChange
    ram: MemoryChange = Field(examples=[{"before": 1024, "after": 2048, "freed": 1024}])


_MACHINE_ID = {"machine_id": "$response.body#/machine_id"}

OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/machine",
        id="getMachine",
        tag="Machines",
        summary="A machine: its hardware, settings and state",
        query=schemas.MachineSource,
        headers=(KEY,),
        replies=(json_reply(MachineReply, "The machine."),),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/machines",
        id="listMachines",
        tag="Machines",
        summary="Short descriptions of all machines",
        query=schemas.MachinesQuery,
        replies=(json_reply(list[MachineSummary], "The machines."),),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/machine/update",
        id="updateMachine",
        tag="Machines",
        summary="Change a machine, restart its ComfyUI",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.MachineUpdate, "machine_id", "name"),
        replies=(json_reply(MachineUpdated, "The machine is changed."),),
        errors=(*MACHINE, ConflictError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/machine/create",
        id="createMachine",
        tag="Machines",
        summary="Register a ComfyUI, start another one, or create a machine at ComfyDeploy",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.MachineCreate, "name", "comfyui_url"),
        replies=(
            json_reply(
                MachineCreated,
                "The machine is registered.",
                Link("getMachine", _MACHINE_ID),
                Link("updateMachine", body=_MACHINE_ID),
                Link("deleteMachine", body=_MACHINE_ID),
            ),
        ),
        errors=(*MACHINE, ConflictError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/machine/delete",
        id="deleteMachine",
        tag="Machines",
        summary="Delete a machine",
        bodies=json_body(schemas.MachineDelete),
        replies=(json_reply(MachineDeleted, "The machine is deleted."),),
        errors=(NotFoundError, ConflictError),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/free",
        id="freeMemory",
        tag="Machines",
        summary="Make ComfyUI unload its models and free memory",
        bodies=json_body(schemas.FreeRequest, "machine"),
        replies=(json_reply(MemoryFreed, "The number of freed bytes."),),
        errors=MACHINE,
    ),
)
