"""Workflow execution."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import InvalidRequestError, RunTimeoutError
from ..runs.log import RunEvent
from .base import KEEP_AWAKE, Base, Handler, schemas
from .service import ForService

if TYPE_CHECKING:
    from ..runs.run import Run
    from ..store.runs import RunRecord

SMALL = 4 * 1024  # bytes of a body that is prepared on the event loop, in about 0.2 ms
LOOK_EVERY = 1.0  # seconds between looks at the record of a run that another server follows


async def run_request(handler: Base, body: dict[str, Any]) -> schemas.RunRequest:
    """Return the run that a body asks for, with the ComfyDeploy key that comes along.

    A native run is first sent to the service, whose answer is the real body; what it does not say
    of ``wait``, ``timeout`` and ``previews`` stays as it was asked for.
    """
    request = schemas.parse(schemas.RunRequest, body)
    given = handler.given_key(request.given_key)
    if request.is_native_run:
        endpoint = request.native_run_api_endpoint
        if not endpoint:
            raise InvalidRequestError.of_field(
                "native_run_api_endpoint", "is needed where is_native_run is true"
            )
        sent = {k: v for k, v in body.items() if k not in ("cd_token", "token")}
        answer = await handler.services.cloud.native_run(endpoint, sent, given)
        asked: dict[str, Any] = {k: body[k] for k in ("wait", "timeout", "previews") if k in body}
        request = schemas.parse(schemas.RunRequest, {**asked, **answer, "is_native_run": None})
        given = request.given_key or given
    return request.model_copy(update={"cd_token": given})


class RunBase(Handler):
    """What the run routes share."""

    async def run_request(self) -> schemas.RunRequest:
        """Return the run that the request asks for."""
        body = await self.json_body()
        self._native = bool(body.get("is_native_run"))
        return await run_request(self, body)

    async def start_run(self, request: schemas.RunRequest, *, told_at_end: bool = False) -> Run:
        """Queue a run, which is answered at once or, `told_at_end`, when it is over."""
        small = len(self.request.body) <= SMALL and not self._native
        return await self.services.runs.submit(request, small=small, told_at_end=told_at_end)


class RunHandler(ForService, RunBase):
    """``POST run``: run a workflow and answer with its result."""

    async def post(self) -> None:
        """Queue the run and, unless told otherwise, wait for its end."""
        request = await self.run_request()
        wait = not request.node_form if request.wait is None else request.wait
        run = await self.start_run(request, told_at_end=wait)
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
        request = await self.run_request()
        run = await self.start_run(request)
        await self.stream(run, previews=bool(request.previews), timeout=request.timeout)

    async def get(self) -> None:
        """Follow a run that exists, from the start or from ``Last-Event-ID``."""
        query = self.query(schemas.JoinQuery)
        seen = self.request.headers.get("Last-Event-ID", "").strip()
        if seen and not re.fullmatch(r"\d{1,18}", seen, re.ASCII):
            raise InvalidRequestError.of_field("Last-Event-ID", "must be the id of an event")
        last_id = int(seen or 0)
        run = self.services.runs.find(query.prompt_id)
        if run is not None:
            await self.stream(run, previews=query.previews, last_id=last_id)
            return
        record = await self.services.runs.record(query.prompt_id)
        await self.stream_record(record, last_id)

    async def stream(
        self, run: Run, *, previews: bool, last_id: int = 0, timeout: float | None = None
    ) -> None:
        """Send a run's events until it ends or the client is gone; neither stops the run."""
        self.begin_stream()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        # The end is told again to whoever asks for what comes after it.
        last_id = min(last_id, run.log.last_id - run.log.closed)
        try:
            # Headers leave now, before the first event is there.
            await self.flush()
            batches = run.log.read(last_id, pause=KEEP_AWAKE, until=deadline)
            async for batch in batches:
                self._write_events(batch, previews)
                if not batch:
                    self.write(b": keep awake\n\n")
                else:
                    last_id = batch[-1].id
                await self.flush()
            self._write_events(run.log.after(last_id), previews)
            if not run.log.closed:
                self.write(self._over_time(run, timeout))
        except StreamClosedError:
            self._log_left(run.record)
            return
        self.finish_stream()

    async def stream_record(self, record: RunRecord, last_id: int) -> None:
        """Send the end of a run whose events are not here: an old one, or another server's."""
        self.begin_stream()
        first = self.services.runs.reply(record)
        names = ("prompt_id", "number", "node_errors")
        if not last_id:
            self.write(RunEvent(1, "", {key: first[key] for key in names}).sse)
        try:
            await self.flush()
            while not record.finished:
                await asyncio.sleep(LOOK_EVERY)
                self.write(b": keep awake\n\n")
                await self.flush()
                record = await self.services.runs.record(record.prompt_id)
        except StreamClosedError:
            self._log_left(record)
            return
        self.write(RunEvent(last_id + 2, "result", self.services.runs.reply(record)).sse)
        status = {"prompt_id": record.prompt_id, "status": record.status}
        self.write(RunEvent(last_id + 3, "status", status).sse)
        self.finish_stream()

    def _write_events(self, batch: list[RunEvent], previews: bool) -> None:
        chunks = [event.sse for event in batch if previews or event.preview is None]
        if chunks:
            self.write(b"".join(chunks))

    def _log_left(self, record: RunRecord) -> None:
        self.log.debug(
            "A client left the stream of run %s", record.prompt_id, extra=record.log_fields
        )

    def _over_time(self, run: Run, timeout: float | None) -> bytes:
        error = RunTimeoutError(f"The run has not ended within {timeout:g} s; it goes on")
        first = run.log.reserve(2)
        told = {**error.to_reply(), "prompt_id": run.prompt_id}
        status = {"prompt_id": run.prompt_id, "status": run.record.status}
        return RunEvent(first, "error", told).sse + RunEvent(first + 1, "status", status).sse


class InterruptHandler(Handler):
    """``POST interrupt``: cancel a run."""

    async def post(self) -> None:
        """Cancel exactly one run, queued or running."""
        request = await self.body(schemas.InterruptRequest)
        prompt_id, was = await self.services.runs.interrupt(request.prompt_id, request.machine)
        message = "Interrupting the run" if was == "running" else "Taking the run off the queue"
        self.reply({"success": True, "message": message, "prompt_id": prompt_id, "was": was})


class RunsHandler(Handler):
    """``GET runs``: the runs that are known."""

    async def get(self) -> None:
        """Answer with an array, newest first."""
        query = self.query(schemas.RunsQuery)
        await self.reply_large(
            await self.services.runs.newest(
                limit=query.limit,
                offset=query.offset,
                status=query.status,
                structure=query.structure,
            )
        )
