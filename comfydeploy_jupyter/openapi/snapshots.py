"""The environment of a ComfyUI, for Docker and for ComfyDeploy."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .. import schemas
from ..errors import ComfyDeployError, ConflictError, DockerFailedError, DockerUnavailableError
from ..snapshots.snapshot import Snapshot
from .operation import (
    CLOUD,
    EVENTS,
    FILES,
    JSON,
    KEY,
    Content,
    Operation,
    Reply,
    Success,
    example_of,
    json_body,
)
from .runs import StreamEvent
from .status import COMMIT

_SNAPSHOT: dict[str, Any] = {
    "comfyui": {"version": "0.33.0", "commit": COMMIT},
    "python": {
        "version": "3.11.7",
        "packages": [{"name": "torch", "version": "2.9.0", "requirement": "torch==2.9.0"}],
    },
    "custom_nodes": [
        {
            "name": "comfyui-deploy",
            "kind": "git",
            "repository": "https://github.com/BennyKok/comfyui-deploy",
            "commit": COMMIT,
        }
    ],
}


class SnapshotReply(Success):
    """An environment, and its build context; no ``path`` if ComfyDeploy made the steps.

    If ComfyDeploy made the steps, ``steps`` are those of ``docker_command_steps``.
    """

    steps: list[Any] | None = None
    docker_command_steps: dict[str, Any] = Field(examples=[{"steps": []}])
    snapshot: Snapshot = Field(examples=[_SNAPSHOT])
    warnings: list[str]
    path: str = Field(
        "",
        description="The folder of the build context.",
        examples=["/home/ada/comfydeploy/snapshots/studio"],
    )
    dockerfile: str = Field(
        "", description="The text of the Dockerfile.", examples=["FROM python:3.11.7\n"]
    )
    image: str = ""
    log: str = ""


OPERATIONS = (
    Operation(
        method="post",
        path="/comfyui-deploy/snapshot-to-docker",
        id="snapshotToDocker",
        tag="Machines",
        summary="The environment as a Docker build context, and as steps of a ComfyDeploy machine",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(
            schemas.SnapshotRequest, example={"name": "studio", "snapshot": _SNAPSHOT}
        ),
        replies=(
            Reply(
                "The context is written. With `Accept: text/event-stream` the progress is sent"
                " first, and an error is the last event.",
                (
                    Content(JSON, SnapshotReply, example_of(SnapshotReply)),
                    Content(
                        EVENTS,
                        StreamEvent,
                        'id: 1\nevent: event_update\ndata: {"event": "log",'
                        ' "data": {"line": "Reading"}}\n\n'
                        'id: 2\nevent: event_update\ndata: {"event": "result",'
                        ' "data": {"success": true}}\n\n',
                    ),
                ),
            ),
        ),
        errors=(*FILES, ConflictError, DockerUnavailableError, DockerFailedError, *CLOUD),
        errors_by_status=((503, ComfyDeployError),),
    ),
)
