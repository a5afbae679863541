"""Tunnels: access from the internet."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import ConflictError, OfflineError, TunnelFailedError
from .operation import (
    MACHINE,
    TIME,
    Link,
    Operation,
    ReplyModel,
    Success,
    example_of,
    json_body,
    json_reply,
)


class Tunnel(ReplyModel):
    """State of a tunnel. ``access_url`` contains the secret; only for users who may ``write``."""

    running: bool = Field(examples=[True])
    url: str | None = Field(examples=["https://calm-river.trycloudflare.com"])
    access_url: str | None = Field(examples=["https://calm-river.trycloudflare.com/?access=secret"])
    port: int | None = Field(examples=[8188])
    target: schemas.TunnelTarget
    machine: str | None = Field(examples=["local"])
    protected: bool = Field(examples=[True])
    protection: Literal["gate", "jupyter", "none"]
    state: str = Field(examples=["running"])
    error: str | None
    hint: str | None
    details: dict[str, Any]
    named: bool = Field(False, examples=[False])
    started_at: str | None = Field(None, examples=[TIME])
    restarts: int = Field(0, examples=[0])
    log: str = Field("", examples=["/home/ada/cloudflared.log"])


class TunnelReply(Tunnel, Success):
    """The tunnel of the target. Without a target: one that exists, and a list of all."""

    tunnels: dict[schemas.TunnelTarget, Tunnel] = Field(default_factory=dict)
    message: str = ""


def _status(path: str, name: str) -> Operation:
    return Operation(
        method="get",
        path=path,
        id=name,
        tag="Tunnels",
        summary="The state, address and protection of a tunnel",
        query=schemas.TunnelQuery,
        replies=(json_reply(TunnelReply, "The state of the tunnel."),),
    )


OPERATIONS = (
    _status("/tunnel/status", "getTunnel"),
    _status("/comfyui-deploy/tunnel/status", "getTunnelStatus"),
    Operation(
        method="post",
        path="/comfyui-deploy/tunnel/start",
        id="startTunnel",
        tag="Tunnels",
        summary="Make ComfyUI, or Jupyter, reachable from the internet",
        bodies=json_body(schemas.TunnelStartRequest, "target"),
        replies=(
            json_reply(
                TunnelReply,
                "The tunnel is ready; with `wait: false` it is starting.",
                Link("getTunnelStatus", {"target": "$response.body#/target"}),
                Link("stopTunnel", body={"target": "$response.body#/target"}),
                example={**example_of(TunnelReply), "message": "The tunnel is ready"},
            ),
        ),
        errors=(*MACHINE, ConflictError, OfflineError, TunnelFailedError),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/tunnel/stop",
        id="stopTunnel",
        tag="Tunnels",
        summary="End a tunnel, or all",
        bodies=json_body(schemas.TunnelQuery, "target"),
        replies=(
            json_reply(
                TunnelReply,
                "The tunnel has ended completely.",
                example={
                    "success": True,
                    "running": False,
                    "url": None,
                    "access_url": None,
                    "port": None,
                    "target": "comfyui",
                    "machine": None,
                    "protected": False,
                    "protection": "none",
                    "state": "stopped",
                    "error": None,
                    "hint": None,
                    "details": {},
                    "message": "Ended: comfyui",
                },
            ),
        ),
    ),
)
