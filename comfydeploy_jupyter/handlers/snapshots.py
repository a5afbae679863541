"""Snapshots of the environment of a ComfyUI, for Docker and for ComfyDeploy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tornado.iostream import StreamClosedError

from ..errors import ComfyDeployError, ConflictError, DockerFailedError, DockerUnavailableError
from ..request_models import CloudTarget, SnapshotRequest, optional
from ..runs.feed import RunEvent
from ..snapshots.snapshot import Snapshot
from ..util.tasks import wait_for
from .base import COMMENT, HEARTBEAT, Handler
from .route import (
    CLOUD,
    EVENTS,
    FILES,
    JSON,
    KEY,
    Content,
    Reply,
    Success,
    errors,
    replies,
    route,
    takes,
)
from .runs import StreamEvent
from .status import COMMIT

if TYPE_CHECKING:
    from collections.abc import Callable


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
    path: str = optional(
        "The folder of the build context.", "/home/ada/comfydeploy/snapshots/studio", default=""
    )
    dockerfile: str = optional("The text of the Dockerfile.", "FROM python:3.11.7\n", default="")
    image: str = ""
    log: str = ""


class SnapshotHandler(Handler):
    """``POST snapshot-to-docker``: a build context that recreates the environment."""

    tag = "Machines"
    _work: asyncio.Task[dict[str, Any]] | None = None
    _left = False  # whether the client has disconnected

    @route("POST", "snapshot-to-docker", "snapshotToDocker")
    @takes(query=CloudTarget, example={"name": "studio", "snapshot": _SNAPSHOT}, headers=(KEY,))
    @replies(
        Reply(
            "The context is written. With `Accept: text/event-stream` the progress is sent first,"
            " and an error is the last event.",
            (
                Content(JSON, SnapshotReply),
                Content(
                    EVENTS,
                    StreamEvent,
                    'id: 1\nevent: event_update\ndata: {"event": "log",'
                    ' "data": {"line": "Reading"}}\n\n'
                    'id: 2\nevent: event_update\ndata: {"event": "result",'
                    ' "data": {"success": true}}\n\n',
                ),
            ),
        )
    )
    @errors(
        *FILES,
        ConflictError,
        DockerUnavailableError,
        DockerFailedError,
        *CLOUD,
        by_status=((503, ComfyDeployError),),
    )
    async def snapshot_to_docker(self, body: SnapshotRequest) -> None:
        """The environment as a Docker build context, and as steps of a ComfyDeploy machine."""
        if "text/event-stream" in self.request.headers.get("Accept", ""):
            await self._stream(body)
            return
        self._work = self._begin(body, lambda _: None)
        try:
            reply = await self._work
        except asyncio.CancelledError:
            if self._left:
                return
            raise _ending() from None
        await self.reply_large(reply)

    def on_connection_close(self) -> None:
        """Cancel the work for a client that has disconnected, as Ctrl-C cancels a build."""
        super().on_connection_close()
        self._left = True
        if self._work is not None:
            self._work.cancel()

    def _begin(
        self, request: SnapshotRequest, report: Callable[[str], None]
    ) -> asyncio.Task[dict[str, Any]]:
        snapshots = self.services.snapshots
        account = self.cloud_account(request)
        if account is None:
            return snapshots.begin(snapshots.to_docker(request, report))
        return snapshots.begin(snapshots.to_cloud(request, account, report))

    async def _stream(self, request: SnapshotRequest) -> None:
        """Send each line of progress as it is created, then the result or the error."""
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._work = work = self._begin(request, lines.put_nowait)
        work.add_done_callback(lambda _: lines.put_nowait(None))
        self.begin_stream()
        number = 0
        try:
            await self.flush()
            while (line := await self._next(lines)) is not None:
                number += bool(line)
                self.write(RunEvent(number, "log", {"line": line}).sse if line else COMMENT)
                await self.flush()
            name, data = await self._outcome(work)
            self.write(await asyncio.to_thread(lambda: RunEvent(number + 1, name, data).sse))
        except StreamClosedError:
            work.cancel()
            return
        self.finish_stream()

    @staticmethod
    async def _next(lines: asyncio.Queue[str | None]) -> str | None:
        """Return the next line, "" if there was none for `HEARTBEAT` seconds, None at the end."""
        try:
            return await wait_for(lines.get(), HEARTBEAT)
        except asyncio.TimeoutError:
            return ""

    async def _outcome(self, work: asyncio.Task[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        try:
            return "result", await work
        except asyncio.CancelledError:
            error: ComfyDeployError = _ending()
        except Exception as fault:  # the same error that any other route sends
            error = self.error_of(fault, 500)
        return "error", {**error.to_reply(), "status": error.status}


def _ending() -> ComfyDeployError:
    error = ComfyDeployError("The snapshot was not finished because the server is stopping")
    error.status = 503
    return error
