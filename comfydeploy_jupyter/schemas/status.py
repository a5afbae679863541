"""What the routes take that tell of the service, of its WebSocket and of ComfyUI."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import (
    ClientIdField,
    CloudTarget,
    Identifier,
    MachineField,
    MachineQuery,
    Model,
    VersionField,
    WorkflowIdField,
)
from .examples import RUN_ID

__all__ = ["LogQuery", "SocketQuery", "SocketStatusQuery", "StatusQuery", "VersionInfoQuery"]


class StatusQuery(Model):
    """Query of ``GET check-status``."""

    prompt_id: Identifier | None = Field(
        None, description="The run to tell of; without it the service.", examples=[RUN_ID]
    )
    machine: MachineField = None
    strict: bool = Field(
        False,
        description="Whether to ask ComfyUI, and to answer 503 unless runs can go to it now.",
        examples=[True],
    )
    timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0, description="With `strict`: seconds that ComfyUI has to answer.", examples=[2]
    )
    in_use: bool = Field(
        False,
        description="Whether the client is at work: with it the request counts as activity for"
        " programs that end idle servers.",
        examples=[True],
    )


class SocketStatusQuery(Model):
    """Query of ``GET check-ws-status``."""

    client_id: ClientIdField = None
    machine: MachineField = None


class SocketQuery(Model):
    """Query of ``GET ws``: what a ``queue_prompt`` gets that does not say it itself."""

    client_id: Identifier | None = Field(
        None,
        alias="clientId",
        description="The client whose runs' events are sent; without it those of all runs.",
        examples=["notebook-1"],
    )
    machine: MachineField = None
    workflow_id: WorkflowIdField = None
    version: VersionField = None


class VersionInfoQuery(CloudTarget):
    """Query of ``GET comfyui-version``."""

    machine: MachineField = None


class LogQuery(MachineQuery):
    """Query of ``GET comfyui/log``."""

    lines: Annotated[int, Field(ge=1, le=10_000)] = Field(
        200, description="The largest number of lines to return.", examples=[200]
    )
