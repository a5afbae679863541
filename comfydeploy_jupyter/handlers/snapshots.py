"""Snapshots of the environment of a ComfyUI, for Docker and for ComfyDeploy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import ComfyDeployError
from ..runs.log import RunEvent
from ..util.tasks import wait_for
from .base import COMMENT, KEEP_AWAKE, Handler, schemas

if TYPE_CHECKING:
    from collections.abc import Callable


class SnapshotHandler(Handler):
    """``POST snapshot-to-docker``: a build context that recreates the environment."""

    _work: asyncio.Task[dict[str, Any]] | None = None
    _left = False  # whether the client has disconnected

    async def post(self) -> None:
        """Reply with the build context; before that with progress, if the client accepts events."""
        request = await self.body(schemas.SnapshotRequest)
        if "text/event-stream" in self.request.headers.get("Accept", ""):
            await self._stream(request)
            return
        self._work = self._begin(request, lambda _: None)
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
        self, request: schemas.SnapshotRequest, report: Callable[[str], None]
    ) -> asyncio.Task[dict[str, Any]]:
        snapshots = self.services.snapshots
        account = self.cloud_account(request)
        if account is None:
            return snapshots.begin(snapshots.to_docker(request, report))
        return snapshots.begin(snapshots.to_cloud(request, account, report))

    async def _stream(self, request: schemas.SnapshotRequest) -> None:
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
        """Return the next line, "" if there was none for `KEEP_AWAKE` seconds, None at the end."""
        try:
            return await wait_for(lines.get(), KEEP_AWAKE)
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
