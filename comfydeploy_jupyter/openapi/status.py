"""The state of the service, of its WebSocket and of ComfyUI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import NotFoundError
from .operation import (
    CLOUD,
    HANDSHAKE,
    KEY,
    MACHINE,
    OPEN,
    TIME,
    OpenReplyModel,
    Operation,
    Reply,
    ReplyModel,
    Success,
    json_reply,
)
from .runs import RunReply
from .transfers import TransferCounts

COMMIT = "30c259cac8c08ff8d015f9aff3151cb525c9b702"


class ComfyUIStatus(ReplyModel):
    """Data of a ComfyUI that need no request to it."""

    reachable: bool = Field(examples=[True])
    url: str | None = Field(examples=["http://127.0.0.1:8188"])
    version: str | None = Field(examples=["0.33.0"])
    version_note: str | None = Field(
        description="A hint if this package was not tested with this version."
    )
    managed: bool = Field(description="Whether this server has started it.", examples=[False])
    path: str = ""
    state: str = ""
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    end_reason: str | None = Field(default=None, description="Why its process ended the last time.")
    log: str = ""
    passed_over: str | None = None
    error: str | None = None
    hint: str | None = None


class QueueCounts(ReplyModel):
    """The numbers of executing and waiting runs of this server."""

    running: int = Field(examples=[0])
    pending: int = Field(examples=[0])


class TunnelSummary(ReplyModel):
    """A tunnel, without its secret."""

    running: bool = Field(examples=[False])
    url: str | None
    target: schemas.TunnelTarget
    port: int | None
    protected: bool = Field(examples=[False])
    state: str = Field(examples=["stopped"])
    error: str | None


class StoreStatus(ReplyModel):
    """The file of the store; ``warnings`` are messages for the user."""

    path: str = Field(examples=["/home/ada/comfydeploy.db"])
    id: str = Field(
        description="Identifies its content, also after a restart or in another place.",
        examples=["7a1c0e5d9b"],
    )
    journal: Literal["wal", "delete", "truncate", "persist", "memory", "off"]
    warnings: list[str]


class ServiceStatus(ReplyModel):
    """State of the service; ``degraded`` while ComfyUI cannot be reached."""

    status: Literal["ok", "degraded"]
    version: str = Field(examples=["0.1.0"])
    instance: str = Field(
        description="An id that changes at each start of the server.", examples=["2f1d9c4e7b"]
    )
    comfyui: ComfyUIStatus
    queue: QueueCounts
    uploads: TransferCounts
    tunnel: TunnelSummary
    store: StoreStatus


class SocketStatus(ReplyModel):
    """Whether events arrive from ComfyUI, and the number of connected clients."""

    connected: bool = Field(examples=[True])
    clients: int = Field(examples=[1])
    last_event_at: str | None = Field(examples=[TIME])
    remaining_queue: int = 0


class ComfyUIVersion(Success):
    """The ComfyUI that runs or is installed; ``latest`` is the newest version for ComfyDeploy.

    ``comfyui_hash`` is its commit of ComfyUI.
    """

    version: str | None = Field(examples=["0.33.0"])
    commit: str | None = Field(examples=[COMMIT])
    source: Literal["running", "installed"]
    latest: Any = None
    comfyui_hash: str | None = None


class ComfyUILog(ReplyModel):
    """The last log lines of a ComfyUI that this server has started."""

    path: str = Field(examples=["/home/ada/comfyui.log"])
    lines: list[str] = Field(examples=[["Starting server"]])


class NodeDefinition(OpenReplyModel):
    """A class of nodes, as ComfyUI describes it."""


OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/ws",
        id="openSocket",
        tag="Status",
        summary="WebSocket with the events of a client's runs",
        text="Text frames are JSON with `event` and `data`, binary frames previews as ComfyUI"
        " frames them. Clients may send `queue_prompt` (a body of `run`), `input` and `interrupt`.",
        query=schemas.SocketQuery,
        headers=HANDSHAKE,
        replies=OPEN,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/check-status",
        id="getStatus",
        tag="Status",
        summary="The state of the service, or with `prompt_id` of a run",
        text="With `strict` it is a health check of ComfyUI: 503 if it accepts no run now, with"
        " the same fields and those of the error.",
        query=schemas.StatusQuery,
        replies=(
            json_reply(
                ServiceStatus | RunReply, "The state of the service, or the record of the run."
            ),
        ),
        errors=MACHINE,
    ),
    Operation(
        method="head",
        path="/comfyui-deploy/check-status",
        id="headStatus",
        tag="Status",
        summary="Whether the service answers, or with `strict` whether ComfyUI does",
        query=schemas.StatusQuery,
        replies=(Reply("The service answers; with `strict`, ComfyUI too."),),
        errors=MACHINE,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/check-ws-status",
        id="getSocketStatus",
        tag="Status",
        summary="Whether events arrive from ComfyUI, and the number of connected clients",
        query=schemas.SocketStatusQuery,
        replies=(json_reply(SocketStatus, "The state of the sockets."),),
        errors=(NotFoundError,),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/comfyui-version",
        id="getComfyUIVersion",
        tag="Status",
        summary="The version of the ComfyUI that runs or is installed",
        query=schemas.VersionInfoQuery,
        headers=(KEY,),
        replies=(json_reply(ComfyUIVersion, "Its version."),),
        errors=(*MACHINE, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/comfyui/log",
        id="getComfyUILog",
        tag="Status",
        summary="The last log lines of a ComfyUI that this server has started",
        query=schemas.LogQuery,
        replies=(json_reply(ComfyUILog, "The lines."),),
        errors=MACHINE,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/object_info",
        id="getObjectInfo",
        tag="Status",
        summary="ComfyUI's node definitions",
        query=schemas.MachineQuery,
        replies=(
            json_reply(
                dict[str, NodeDefinition],
                "The definitions in ComfyUI's form.",
                example={"EmptyImage": {"display_name": "EmptyImage", "category": "image"}},
            ),
        ),
        errors=MACHINE,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/openapi.json",
        id="getSpecification",
        tag="Status",
        summary="This description of the routes, as OpenAPI 3.1",
        replies=(json_reply(dict[str, Any], "The description.", example={"openapi": "3.1.0"}),),
    ),
)
