"""Workflow execution."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import InvalidRequestError, RunTimeoutError
from ..runs.log import RunEvent
from ..schemas import InterruptRequest, JoinQuery, RunRequest, RunsQuery, parse
from .base import Handler

if TYPE_CHECKING:
    from ..runs.run import Run

KEEP_AWAKE = 15.0  # seconds between comment lines on a silent stream


class RunBase(Handler):
    """What the run routes share."""

    async def start_run(self, request: RunRequest) -> Run:
        """Queue the run of a request.

        A native run is first sent to the service, whose answer is the real body.
        """
        given = self.given_key(request.cd_token, request.token)
        if request.is_native_run:
            endpoint = request.native_run_api_endpoint
            if not endpoint:
                raise InvalidRequestError.of_field(
                    "native_run_api_endpoint", "is needed where is_native_run is true"
                )
            cloud = self.services.cloud
            cloud.check_url(endpoint, field="native_run_api_endpoint")
            body = await self.json_body()
            body = {k: v for k, v in body.items() if k not in ("cd_token", "token")}
            answer = await cloud.native_run(endpoint, body, cloud.key(given))
            request = parse(RunRequest, {**answer, "is_native_run": None})
            given = request.cd_token or request.token or given
        return await self.services.runs.submit(request.model_copy(update={"cd_token": given}))


class RunHandler(RunBase):
    """``POST run``: run a workflow and answer with its result."""

    async def post(self) -> None:
        """Queue the run and, unless told otherwise, wait for its end."""
        request = await self.body(RunRequest)
        run = await self.start_run(request)
        wait = not request.node_form if request.wait is None else request.wait
        if wait:
            try:
                await asyncio.wait_for(run.ended.wait(), request.timeout)
            except asyncio.TimeoutError:
                raise RunTimeoutError(
                    f"The run has not ended within {request.timeout:g} s; it goes on",
                    extra={"prompt_id": run.prompt_id},
                ) from None
        self.reply(self.services.runs.reply(run.record))


class StreamHandler(RunBase):
    """``run/streaming``: the events of a run as they happen, as ``text/event-stream``."""

    async def post(self) -> None:
        """Queue a run and follow it."""
        request = await self.body(RunRequest)
        run = await self.start_run(request)
        await self.stream(run, previews=bool(request.previews), timeout=request.timeout)

    async def get(self) -> None:
        """Follow a run that exists, from the start or from ``Last-Event-ID``."""
        query = self.query(JoinQuery)
        seen = self.request.headers.get("Last-Event-ID", "").strip()
        if seen and not seen.isdecimal():
            raise InvalidRequestError.of_field("Last-Event-ID", "must be the id of an event")
        last_id = int(seen or 0)
        run = self.services.runs.find(query.prompt_id)
        if run is not None:
            await self.stream(run, previews=query.previews, last_id=last_id)
            return
        record = await self.services.runs.record(query.prompt_id)
        await self.stream_record(self.services.runs.reply(record), last_id)

    async def stream(
        self, run: Run, *, previews: bool, last_id: int = 0, timeout: float | None = None
    ) -> None:
        """Send a run's events until it ends or the client is gone; neither stops the run."""
        self.begin_stream()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            # Headers leave now, before the first event is there.
            await self.flush()
            batches = run.log.read(last_id, pause=KEEP_AWAKE, until=deadline)
            async for batch in batches:
                chunks = [e.sse for e in batch if previews or e.preview is None]
                if not batch:
                    chunks = [b": keep awake\n\n"]
                if chunks:
                    self.write(b"".join(chunks))
                    await self.flush()
            if not run.log.closed:
                self.write(self._over_time(run, timeout))
        except StreamClosedError:
            self.log.debug("A client left the stream of run %s", run.prompt_id)
            return
        self.finish_stream()

    async def stream_record(self, reply: dict[str, Any], last_id: int) -> None:
        """Send the end of a run whose events are no longer in memory."""
        self.begin_stream()
        first = {key: reply[key] for key in ("prompt_id", "number", "node_errors")}
        status = {key: reply[key] for key in ("prompt_id", "status")}
        if not last_id:
            self.write(RunEvent(1, "", first).sse)
        self.write(RunEvent(last_id + 2, "result", reply).sse)
        self.write(RunEvent(last_id + 3, "status", status).sse)
        self.finish_stream()

    def begin_stream(self) -> None:
        """Set the headers of an event stream; proxies must not hold it back."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")

    def finish_stream(self) -> None:
        """End the stream as what it is: `finish` alone would call it JSON."""
        self.finish(set_content_type="text/event-stream")

    def _over_time(self, run: Run, timeout: float | None) -> bytes:
        error = RunTimeoutError(f"The run has not ended within {timeout:g} s; it goes on")
        last = run.log.last_id
        told = {**error.to_reply(), "prompt_id": run.prompt_id}
        status = {"prompt_id": run.prompt_id, "status": run.record.status}
        return RunEvent(last, "error", told).sse + RunEvent(last, "status", status).sse


class InterruptHandler(Handler):
    """``POST interrupt``: cancel a run."""

    async def post(self) -> None:
        """Cancel exactly one run, queued or running."""
        request = await self.body(InterruptRequest)
        prompt_id, was = await self.services.runs.interrupt(request.prompt_id, request.machine)
        message = "Interrupting the run" if was == "running" else "Taken off the queue"
        self.reply({"success": True, "message": message, "prompt_id": prompt_id, "was": was})


class RunsHandler(Handler):
    """``GET runs``: the runs that are known."""

    async def get(self) -> None:
        """Answer with an array, newest first."""
        query = self.query(RunsQuery)
        self.reply(
            await self.services.runs.newest(
                limit=query.limit, offset=query.offset, status=query.status
            )
        )
