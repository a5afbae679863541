"""Requests for the state of the service, of its WebSocket and of ComfyUI."""

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
        None, description="A run; by default the reply describes the service.", examples=[RUN_ID]
    )
    machine: MachineField = None
    strict: bool = Field(
        False,
        description="Whether to check ComfyUI, and to reply 503 unless it accepts runs now.",
        examples=[True],
    )
    timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0,
        description="With `strict`: the time limit for ComfyUI's reply in seconds.",
        examples=[2],
    )
    in_use: bool = Field(
        False,
        description="Whether a user or a program is active. If true, the request counts as activity"
        " for programs that end idle servers.",
        examples=[True],
    )


class SocketStatusQuery(Model):
    """Query of ``GET check-ws-status``."""

    client_id: ClientIdField = None
    machine: MachineField = None


class SocketQuery(Model):
    """Query of ``GET ws``: default values for each ``queue_prompt``."""

    client_id: Identifier | None = Field(
        None,
        alias="clientId",
        description="Send only events of this client's runs; by default those of all runs.",
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
