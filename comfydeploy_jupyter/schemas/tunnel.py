"""Requests that start, describe and stop tunnels."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ..errors import InvalidRequestError
from .base import HOSTNAME_PATTERN, MachineRef, Model

__all__ = ["TunnelQuery", "TunnelStartRequest", "TunnelTarget"]

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

    target: TunnelTarget | None = Field(
        None, description="The target of the tunnel; by default all.", examples=["comfyui"]
    )


class TunnelStartRequest(Model):
    """Body of ``POST tunnel/start``."""

    target: TunnelTarget | None = Field(
        None,
        description="The exposed service: `comfyui` (the default) or `jupyter`. Each has at most"
        " one tunnel.",
        examples=["comfyui"],
    )
    machine: MachineRef | None = Field(
        None,
        description="The machine whose ComfyUI is exposed, by id or name; the default is `local`."
        " Not allowed with `port` or with the target `jupyter`, or for a worker of a cluster with"
        " TLS.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="The port of the exposed service on this machine; the default is that of the"
        " target.",
        examples=[8188],
    )
    token: Annotated[str, Field(max_length=8192), AfterValidator(_check_tunnel_token)] | None = (
        Field(
            None,
            repr=False,
            description="The token of a named tunnel. It is stored only while cloudflared starts,"
            " in a file with mode 0600.",
        )
    )
    hostname: Annotated[str, Field(max_length=253, pattern=HOSTNAME_PATTERN)] | None = Field(
        None,
        description="The public name of a named tunnel; by default the one in the configuration"
        " that Cloudflare sends.",
    )
    protect: bool | None = Field(
        None,
        description="`false` exposes ComfyUI without protection: everybody who finds the address"
        " can use it, and through it this machine. The default is true.",
        examples=[True],
    )
    download: bool | None = Field(
        None,
        description="`true` agrees to the download of cloudflared from its release, if it is not"
        " installed. Without it, the setting `cloudflared_download` decides. A reply with"
        " `can_download` in its `details` says that this would help.",
        examples=[True],
    )
    wait: bool | None = Field(
        None,
        description="Whether to reply when the tunnel is up (the default), or at once. In this case"
        " `tunnel/status` returns its state.",
        examples=[True],
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
