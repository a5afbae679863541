"""Tunnels: access from the internet."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ..errors import ConflictError, InvalidRequestError, OfflineError, TunnelFailedError
from ..request_models import HOSTNAME_PATTERN, MachineRef, Model, optional
from ..tunnel.tunnels import TunnelOptions
from . import route
from .base import Handler
from .route import MACHINE, TIME, Link, ReplyModel, Success, example_of

TunnelTarget = Literal["comfyui", "jupyter"]


def _check_tunnel_token(value: str) -> str:
    try:
        found = json.loads(base64.b64decode(value.strip(), validate=True))
        valid = all(isinstance(found[name], str) and found[name] for name in ("a", "t", "s"))
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError("is not the token of a Cloudflare tunnel")
    return value.strip()


class TunnelQuery(Model):
    """Query of ``GET tunnel/status``, body of ``POST tunnel/stop``."""

    target: TunnelTarget | None = optional("The target of the tunnel; by default all.", "comfyui")


class TunnelStartRequest(Model):
    target: TunnelTarget | None = optional(
        "The exposed service: `comfyui` (the default) or `jupyter`. Each has at most one tunnel.",
        "comfyui",
    )
    machine: MachineRef | None = optional(
        "The machine whose ComfyUI is exposed, by id or name; the default is `local`. Not allowed"
        " with `port` or with the target `jupyter`, or for a worker of a cluster with TLS."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = optional(
        "The port of the exposed service on this machine; the default is that of the target.", 8188
    )
    token: Annotated[str, Field(max_length=8192), AfterValidator(_check_tunnel_token)] | None = (
        optional(
            "The token of a named tunnel. It is stored only while cloudflared starts, in a file"
            " with mode 0600.",
            repr=False,
        )
    )
    hostname: Annotated[str, Field(max_length=253, pattern=HOSTNAME_PATTERN)] | None = optional(
        "The public name of a named tunnel; by default the one in the configuration that Cloudflare"
        " sends."
    )
    protect: bool | None = optional(
        "`false` exposes ComfyUI without protection: everybody who finds the address can use it,"
        " and through it this machine. The default is true.",
        True,
    )
    download: bool | None = optional(
        "`true` agrees to the download of cloudflared from its release, if it is not installed."
        " Without it, the setting `cloudflared_download` decides. A reply with `can_download` in"
        " its `details` says that this would help.",
        True,
    )
    wait: bool | None = optional(
        "Whether to reply when the tunnel is up (the default), or at once. In this case"
        " `tunnel/status` returns its state.",
        True,
    )

    @model_validator(mode="after")
    def _check_combination(self) -> TunnelStartRequest:
        if self.machine is not None and (self.target == "jupyter" or self.port is not None):
            raise InvalidRequestError.of_field(
                "machine", "must not be given together with port or with the target jupyter"
            )
        if self.hostname is not None and self.token is None:
            raise InvalidRequestError.of_field(
                "hostname", "requires a token: the name of a quick tunnel comes from Cloudflare"
            )
        return self


class TunnelSummary(ReplyModel):
    """A tunnel, without its secret."""

    running: bool = Field(examples=[True])
    url: str | None = Field(examples=["https://calm-river.trycloudflare.com"])
    target: TunnelTarget
    port: int | None = Field(examples=[8188])
    protected: bool = Field(examples=[True])
    state: str = Field(examples=["running"])
    error: str | None


class Tunnel(TunnelSummary):
    """State of a tunnel. ``access_url`` contains the secret; only for users who may ``write``."""

    access_url: str | None = Field(examples=["https://calm-river.trycloudflare.com/?access=secret"])
    machine: str | None = Field(examples=["local"])
    protection: Literal["gate", "jupyter", "none"]
    hint: str | None
    details: dict[str, Any]
    named: bool = Field(False, examples=[False])
    started_at: str | None = Field(None, examples=[TIME])
    restarts: int = Field(0, examples=[0])
    log: str = Field("", examples=["/home/ada/cloudflared.log"])


class TunnelReply(Tunnel, Success):
    """The tunnel of the target. Without a target: one that exists, and a list of all."""

    tunnels: dict[TunnelTarget, Tunnel] = Field(default_factory=dict)
    message: str = ""


class TunnelHandler(Handler):
    """Tunnels to ComfyUI and to Jupyter."""

    tag = "Tunnels"

    @route.get("/tunnel/status", "getTunnel", is_activity=False)  # as in the ComfyUI node
    @route.get("tunnel/status", "getTunnelStatus", is_activity=False)
    @route.replies(TunnelReply, "The state of the tunnel.")
    async def get_tunnel_status(self, query: TunnelQuery) -> Any:
        """The state, address and protection of a tunnel."""
        # Everybody who has the secret link can use the tunnel. So the reply contains it only for
        # users who may write; they could also get it from `tunnel/start`.
        reveal = await self.is_allowed("write")
        return self.services.tunnels.status(query.target, reveal=reveal)

    @route.post("tunnel/start", "startTunnel")
    @route.takes(example=("target",))
    @route.replies(
        TunnelReply,
        "The tunnel is ready; with `wait: false` it is starting.",
        Link("getTunnelStatus", {"target": "$response.body#/target"}),
        Link("stopTunnel", body={"target": "$response.body#/target"}),
        example={**example_of(TunnelReply), "message": "The tunnel is ready"},
    )
    @route.errors(*MACHINE, ConflictError, OfflineError, TunnelFailedError)
    async def start_tunnel(self, body: TunnelStartRequest) -> Any:
        """Make ComfyUI, or Jupyter, reachable from the internet."""
        machine = body.machine
        options = TunnelOptions(
            target=body.target or "comfyui",
            machine=None if machine is None else self.services.machines.get(machine).id,
            port=body.port,
            token=body.token,
            hostname=body.hostname.lower() if body.hostname is not None else None,
            protect=body.protect,
            download=body.download is True,
        )
        tunnels = self.services.tunnels
        return await tunnels.start(options, wait=body.wait is not False)

    @route.post("tunnel/stop", "stopTunnel")
    @route.takes(example=("target",))
    @route.replies(
        TunnelReply,
        "The tunnel has ended completely.",
        example={
            **example_of(TunnelReply),
            **dict.fromkeys(("url", "access_url", "port", "machine", "started_at")),
            "running": False,
            "protected": False,
            "protection": "none",
            "state": "stopped",
            "message": "Ended: comfyui",
        },
    )
    async def stop_tunnel(self, body: TunnelQuery) -> Any:
        """End a tunnel, or all."""
        tunnels = self.services.tunnels
        ended = await tunnels.stop(body.target)
        message = f"Ended: {', '.join(ended)}" if ended else "There was no tunnel"
        return {**tunnels.status(body.target), "message": message}
