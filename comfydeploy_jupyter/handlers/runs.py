"""Workflow execution."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError, RunTimeoutError
from ..machines.registry import AUTO
from ..runs.log import RunEvent, in_batches
from ..runs.records import RunFilter
from ..util.jsons import RawJSON
from ..util.tasks import wait_for
from ..util.times import timestamp_of
from .base import COMMENT, KEEP_AWAKE, LARGE, Base, Handler, schemas
from .service import ForService

if TYPE_CHECKING:
    from ..runs.records import RunRecord
    from ..runs.run import Run

SMALL = 4 * 1024  # bytes of a body; one up to this is prepared on the event loop, in about 0.2 ms
BEGIN_AFTER = 5.0  # seconds after which a stream begins although its run is not queued yet
LOOK_EVERY = 1.0  # seconds between reads of the record of a run that another server follows


async def run_request(handler: Base, body: dict[str, Any]) -> schemas.RunRequest:
    """Return the run that a body requests, with the ComfyDeploy key of the request.

    The body of a native run is sent to ComfyDeploy, whose response is then used as the body. Only
    ``wait``, ``timeout`` and ``previews`` are kept, unless the response contains them.
    """
    request = schemas.parse(schemas.RunRequest, body)
    given = handler.given_key(request.given_key)
    if request.is_native_run:
        endpoint = request.native_run_api_endpoint
        if not endpoint:
            raise InvalidRequestError.of_field(
                "native_run_api_endpoint", "is needed if is_native_run is true"
            )
        sent = {k: v for k, v in body.items() if k not in ("cd_token", "token")}
        answer = await handler.services.cloud.native_run(endpoint, sent, given)
        asked: dict[str, Any] = {k: body[k] for k in ("wait", "timeout", "previews") if k in body}
        request = schemas.parse(schemas.RunRequest, {**asked, **answer, "is_native_run": None})
        given = request.given_key or given
    return request.model_copy(update={"cd_token": given})


async def _encoded(batch: list[RunEvent], previews: bool) -> bytes:
    """Return events as ``text/event-stream``, without previews if they are not wanted."""
    wanted = [event for event in batch if previews or event.preview is None]
    for event in wanted:
        await event.encode()
    return b"".join(event.sse for event in wanted)


def not_ended(run: Run) -> RunTimeoutError:
    """Return the error for a run that takes longer than its ``timeout``."""
    return RunTimeoutError(
        "The run has not ended in time; it continues", extra={"prompt_id": run.prompt_id}
    )


class RunBase(Handler):
    """Base of the routes that start a run."""

    async def run_request(self) -> schemas.RunRequest:
        """Return the run that the request describes."""
        body = await self.json_body(graphs=True)
        self._native = bool(body.get("is_native_run"))
        return await run_request(self, body)

    async def start_run(
        self, request: schemas.RunRequest, *, arrived: float, reply_at_end: bool = False
    ) -> Run:
        """Queue a run.

        Parameters
        ----------
        request : schemas.RunRequest
            The run.
        arrived : float
            The time of the event loop's clock at which the request arrived, in seconds.
        reply_at_end : bool
            Whether the request is answered when the run has ended, not when it is queued.
        """
        small = len(self.request.body) <= SMALL and not self._native
        return await self.services.runs.submit(
            request, small=small, reply_at_end=reply_at_end, arrived=arrived
        )

    def time_left(self, request: schemas.RunRequest, arrived: float) -> float | None:
        """Return how many seconds of the ``timeout`` are left; None without a timeout."""
        if request.timeout is None:
            return None
        return request.timeout - (asyncio.get_running_loop().time() - arrived)


class RunHandler(ForService, RunBase):
    """``POST run``: run a workflow and reply with its result."""

    async def post(self) -> None:
        """Queue the run and, unless ``wait`` is false, wait for its end."""
        arrived = asyncio.get_running_loop().time()
        request = await self.run_request()
        wait = not request.node_form if request.wait is None else request.wait
        run = await self.start_run(request, arrived=arrived, reply_at_end=wait)
        if wait:
            try:
                await wait_for(run.ended.wait(), self.time_left(request, arrived))
            except asyncio.TimeoutError:
                if not run.ended.is_set():
                    raise not_ended(run) from None
        reply = self.services.runs.reply(run.record)
        if run.outputs_size > LARGE:
            await self.reply_large(reply)
        else:
            self.reply(reply)


class StreamHandler(RunBase):
    """``run/streaming``: the events of a run as they happen, as ``text/event-stream``."""

    async def post(self) -> None:
        """Queue a run and follow it.

        If that takes long, because ComfyUI is starting or input files are downloaded, the stream
        begins before the run is queued: proxies and clients close a connection without data.
        """
        arrived = asyncio.get_running_loop().time()
        request = await self.run_request()
        starting = asyncio.ensure_future(self.start_run(request, arrived=arrived))
        await self._wait_for(starting)
        try:
            run = starting.result()
        except Exception as fault:
            if not self.has_begun:
                raise
            error = self.error_of(fault, ComfyDeployError.status)
            unsure = await self._run_of(error)
            if unsure is None or unsure.log.closed or isinstance(error, RunTimeoutError):
                await self._send_failure(error)
                return
            run = unsure  # it is not known whether ComfyUI has queued it; its events will show that
        left = self.time_left(request, arrived)
        await self.stream(run, previews=bool(request.previews), timeout=left)

    async def get(self) -> None:
        """Follow a run that exists, from the start or from ``Last-Event-ID``."""
        query = self.query(schemas.JoinQuery)
        seen = self.request.headers.get("Last-Event-ID", "").strip()
        if seen and not re.fullmatch(r"\d{1,18}", seen, re.ASCII):
            raise InvalidRequestError.of_field("Last-Event-ID", "must be the id of an event")
        last_id = int(seen or 0)
        creation = self.services.runs.creation(query.prompt_id)
        if creation is not None:
            await self._wait_for(creation)
        run = await self.services.runs.load(query.prompt_id)
        if run is not None:
            await self.stream(run, previews=query.previews, last_id=last_id)
            return
        try:
            record = await self.services.runs.record(query.prompt_id)
        except ComfyDeployError as fault:
            if not self.has_begun:
                raise
            await self._send_failure(fault)
            return
        await self.stream_record(record, last_id)

    async def _wait_for(self, creation: asyncio.Future[Any]) -> None:
        """Wait until there is a run; send a comment every `KEEP_AWAKE` seconds.

        The run continues if the client disconnects.
        """
        pause = BEGIN_AFTER
        while not (await asyncio.wait({creation}, timeout=pause))[0]:
            pause = KEEP_AWAKE
            self.begin_stream()
            self.write(COMMENT)
            with suppress(StreamClosedError):
                await self.flush()

    async def stream(
        self, run: Run, *, previews: bool, last_id: int = 0, timeout: float | None = None
    ) -> None:
        """Send a run's events until it ends or the client disconnects, which does not stop it."""
        self.begin_stream()
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        # A client that asks for events after the last one gets the last one again.
        last_id = min(last_id, run.log.last_id - run.log.closed)
        try:
            # Send the headers now, before there is an event.
            await self.flush()
            batches = run.log.read(last_id, pause=KEEP_AWAKE, until=deadline)
            async for batch in batches:
                if batch:
                    last_id = batch[-1].id
                events = await _encoded(batch, previews) if batch else COMMENT
                await self.send_events(events, at_end=run.log.has_ended_at(last_id))
            while tail := run.log.after(last_id):
                for batch in in_batches(tail):
                    last_id = batch[-1].id
                    events = await _encoded(batch, previews)
                    await self.send_events(events, at_end=run.log.has_ended_at(last_id))
        except StreamClosedError:
            self._log_left(run.record)
            return
        if run.log.closed:
            self.finish_stream()
        else:
            await self._send_failure(not_ended(run))

    async def stream_record(self, record: RunRecord, last_id: int) -> None:
        """Send result and status of a run whose events are not in this server's memory."""
        self.begin_stream()
        first = self.services.runs.reply(record)
        names = ("prompt_id", "number", "node_errors")
        if not last_id:
            self.write(RunEvent(1, "", {key: first[key] for key in names}).sse)
        try:
            await self.flush()
            while not record.finished:
                await asyncio.sleep(LOOK_EVERY)
                self.write(COMMENT)
                await self.flush()
                record = await self.services.runs.record(record.prompt_id)
        except StreamClosedError:
            self._log_left(record)
            return
        except ComfyDeployError as fault:
            await self._send_failure(fault, last_id + 2)
            return
        reply = self.services.runs.reply(record)
        self.write(await asyncio.to_thread(lambda: RunEvent(last_id + 2, "result", reply).sse))
        status = {"prompt_id": record.prompt_id, "status": record.status}
        self.write(RunEvent(last_id + 3, "status", status).sse)
        self.finish_stream()

    def _log_left(self, record: RunRecord) -> None:
        self.log.debug(
            "A client closed the stream of run %s", record.prompt_id, extra=record.log_fields
        )

    async def _run_of(self, error: ComfyDeployError) -> Run | None:
        """Return the run that an error names, if it was created."""
        prompt_id = error.extra.get("prompt_id")
        return None if prompt_id is None else await self.services.runs.load(prompt_id)

    async def _send_failure(self, error: ComfyDeployError, first: int = 1) -> None:
        """End a stream that has begun with the events `error` and `status`."""
        run = await self._run_of(error)
        first = first if run is None else run.log.reserve(2)
        status = error.details.get("status", "failed") if run is None else run.record.status
        prompt_id = None if run is None else run.prompt_id
        final = RunEvent(first + 1, "status", {"prompt_id": prompt_id, "status": status})
        self.write(RunEvent(first, "error", error.to_reply()).sse + final.sse)
        with suppress(StreamClosedError):
            await self.flush()
        self.finish_stream()


class InterruptHandler(Handler):
    """``POST interrupt``: cancel a run."""

    async def post(self) -> None:
        """Cancel exactly one run, queued or running."""
        request = await self.body(schemas.InterruptRequest)
        prompt_id, was = await self.services.runs.interrupt(request.prompt_id, request.machine)
        message = "Interrupting the run" if was == "running" else "Removing the run from the queue"
        self.reply({"success": True, "message": message, "prompt_id": prompt_id, "was": was})


class SelectsRuns(Handler):
    """Base of the routes whose requests select runs."""

    def run_filter(
        self, request: schemas.RunsQuery | schemas.RunsDeleteRequest, **more: Any
    ) -> RunFilter:
        """Return the filter of a request, with the id of its machine."""
        machine = request.machine
        if machine is not None and machine != AUTO:
            with suppress(NotFoundError):  # it may be the id of a machine that was deleted
                machine = self.services.machines.resolve(machine)
        return RunFilter(
            statuses=() if request.status is None else (request.status,),
            machine=machine,
            structure=request.structure,
            workflow_id=request.workflow_id,
            before=None if request.before is None else timestamp_of(request.before),
            after=None if request.after is None else timestamp_of(request.after),
            metadata=request.metadata,
            search=request.search,
            **more,
        )


class RunsHandler(SelectsRuns):
    """``GET runs``: the stored runs."""

    async def get(self) -> None:
        """Reply with an array, newest first; or with the story or the graph of one run."""
        query = self.query(schemas.RunsQuery)
        if query.story is not None:
            self.reply(await self.services.runs.story(query.story))
            return
        if query.graph is not None:
            graph, workflow = await self.services.runs.graph(query.graph)
            shown = None if workflow is None else RawJSON(workflow)
            await self.reply_large({"workflow_api": RawJSON(graph), "workflow": shown})
            return
        which = self.run_filter(query, pinned=query.pinned)
        await self.reply_large(
            await self.services.runs.newest(limit=query.limit, offset=query.offset, which=which)
        )


class RunsUpdateHandler(Handler):
    """``POST runs/update``: pin runs."""

    async def post(self) -> None:
        """Pin runs, or unpin them."""
        request = await self.body(schemas.RunsUpdateRequest)
        await self.services.runs.deleter.pin(request.prompt_ids, request.pinned)
        self.reply({"success": True, "updated": len(set(request.prompt_ids))})


class RunsDeleteHandler(SelectsRuns):
    """``POST runs/delete``: delete runs and their files."""

    async def post(self) -> None:
        """Delete runs; reply with what was deleted and what was kept."""
        request = await self.body(schemas.RunsDeleteRequest)
        which = self.run_filter(request, prompt_ids=request.prompt_ids)
        deleted = await self.services.runs.deleter.delete(which, files=bool(request.files))
        self.reply(deleted.reply())
