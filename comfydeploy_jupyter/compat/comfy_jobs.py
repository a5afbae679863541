"""Jobs: runs as the Comfy API creates, lists, shows, follows and cancels them.

The events of a job are ``text/event-stream`` without ids: each stream begins with its state.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from ..errors import ComfyDeployError, ConflictError, NotFoundError
from ..request_models import RunRequest, parse
from ..runs.feed import LARGE
from ..runs.records import IDEMPOTENCY_KEY
from ..util import worker
from ..util.jsons import RawJSON
from .comfy_api import (
    STATUSES,
    TERMINAL,
    APIError,
    JobRepository,
    api_error,
    asset_ids,
    cursor_after,
    error_of,
    is_refused,
    item_of,
    job_of,
    may_have_references,
    position_of,
    progress_of,
    status_of,
    warnings_of,
    with_names,
    with_names_as_text,
)
from .comfy_assets import AssetRepository, Assets, Outputs, output_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..files.hashes import Hasher
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..request_models import JobRequest, JobsQuery
    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord, RunRepository
    from ..runs.run import Run
    from ..runs.service import RunService
    from ..store.database import Database

MAX_KEY_LENGTH = 255
REPLY_TIMEOUT = 25.0  # seconds; comfy-sdk waits 30 seconds for a reply
KEPT_FRAMES = 256  # encoded messages of a run that are kept for its other readers
# After these events of a run its progress may have changed.
PROGRESS = frozenset({"progress", "live_status", "executing", "execution_cached"})


class Frame(NamedTuple):
    """An encoded message."""

    output: str | None  # the id of the output that it announces; no reader gets one twice
    text: bytes


class JobEvents:
    """Makes the messages of jobs from the events of their runs, once for all readers."""

    def __init__(self, runs: RunService, outputs: Outputs) -> None:
        self._runs = runs
        self._outputs = outputs
        self._frames: WeakKeyDictionary[Run, dict[tuple[int, str], list[Frame]]] = (
            WeakKeyDictionary()
        )

    async def follow(
        self, run: Run, assets_url: str, *, pause: float
    ) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield messages of a run until its end, with whether each is the last.

        The first is the present state, the last the final status. After ``pause`` seconds without
        an event the message is the place in the queue of a run that waits, or empty.
        """
        last = run.log.last_id
        sent: set[str] = set()
        status = status_of(run.record)
        if not run.log.closed:
            yield self._status(run) + _progress(run.record, run), False
        if outputs := _unsent(await self._outputs_of(run.record, assets_url), sent):
            yield outputs, False
        if run.log.closed and last == run.log.last_id:
            yield self._end(run), True
            return
        messages = b""
        async for batch in run.log.read(last, pause=pause):
            before, status = status, status_of(run.record)
            if status not in TERMINAL and (status != before or _shows_place(batch, status)):
                messages += self._status(run)
            if batch:
                messages += await self._batch(run, batch, assets_url, sent)
            at_end = bool(batch) and run.log.has_ended_at(batch[-1].id)
            if run.log.closed and not at_end and len(messages) <= LARGE:
                continue  # they are sent together with the next ones, which are there
            yield messages, at_end
            messages = b""

    async def final(self, record: RunRecord, assets_url: str) -> bytes:
        """Return the messages of a run whose events are not in memory."""
        frames = await self._outputs_of(record, assets_url)
        outputs = b"".join(frame.text for frame in frames)
        return outputs + _logs(record) + _progress(record, None) + self.state(record)

    def state(self, record: RunRecord) -> bytes:
        """Return the status of a run whose events are not in memory."""
        return _message("status", {"status": status_of(record), "queue_position": None})

    async def _batch(
        self, run: Run, batch: list[RunEvent], assets_url: str, sent: set[str]
    ) -> bytes:
        """Return the messages of a batch; of its progress only the last one."""
        last = max((event.id for event in batch if event.event in PROGRESS), default=None)
        parts = [
            _unsent(await self._encoded(run, event, assets_url), sent)
            for event in batch
            if event.event not in PROGRESS or event.id == last
        ]
        return b"".join(parts)

    async def _encoded(self, run: Run, event: RunEvent, assets_url: str) -> list[Frame]:
        frames = self._frames.setdefault(run, {})
        key = event.id, assets_url
        found = frames.get(key)
        if found is None:
            found = frames[key] = await self._encode(run, event, assets_url)
            while len(frames) > KEPT_FRAMES:
                del frames[next(iter(frames))]
        return found

    async def _encode(self, run: Run, event: RunEvent, assets_url: str) -> list[Frame]:
        name, data = event.event, event.data
        if name in PROGRESS:
            return [Frame(None, _progress(run.record, run))]
        if name == "executed" and isinstance(data.get("output"), dict):
            outputs = {str(data.get("node")): data["output"]}
            return await self._outputs_of(run.record, assets_url, outputs)
        if event.preview is not None:
            preview = {
                "node_id": event.preview.node or "",
                "content_type": event.preview.mime,
                "data_base64": base64.b64encode(event.preview.image).decode(),
            }
            return [Frame(None, _message("preview", preview))]
        if name == "progress_text":
            text = str(data.get("text") or "")
            return [Frame(None, _message("log", {"level": "info", "message": text}))]
        if name == "result":
            return await self._outputs_of(run.record, assets_url)
        if name == "status":
            return [Frame(None, self._end(run))]
        return []

    def _end(self, run: Run) -> bytes:
        return _logs(run.record) + _progress(run.record, run) + self._status(run)

    def _status(self, run: Run) -> bytes:
        place = self._runs.queue_position(run.record)
        return _message("status", {"status": status_of(run.record), "queue_position": place})

    async def _outputs_of(
        self, record: RunRecord, assets_url: str, outputs: dict[str, Any] | None = None
    ) -> list[Frame]:
        assets = await self._outputs.of(record, outputs)
        return [
            Frame(asset.id, _message("output", output_of(asset, assets_url))) for asset in assets
        ]


def is_final(record: RunRecord) -> bool:
    """Return whether no event of a job follows."""
    return status_of(record) in TERMINAL


def _shows_place(batch: list[RunEvent], status: str) -> bool:
    """Return whether readers get the place in the queue: at the first message, and now and then."""
    return status == "queued" and (not batch or any(event.event == "" for event in batch))


def _unsent(frames: list[Frame], sent: set[str]) -> bytes:
    """Return the messages that a reader does not have yet."""
    new = [frame for frame in frames if frame.output is None or frame.output not in sent]
    sent.update(frame.output for frame in new if frame.output is not None)
    return b"".join(frame.text for frame in new)


def _progress(record: RunRecord, run: Run | None) -> bytes:
    """Return the message with the progress of a run, if it is known."""
    progress = progress_of(record, run)
    return b"" if progress is None else _message("progress", progress)


def _logs(record: RunRecord) -> bytes:
    """Return the messages with what was lost and why a run has failed; every reader gets them."""
    logs = [{"level": "warning", "message": warning} for warning in warnings_of(record)]
    error = error_of(record)
    if error is not None:
        logs.append({"level": "error", "message": error["message"]})
    return b"".join(_message("log", entry) for entry in logs)


def _message(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


class Addresses(NamedTuple):
    """The addresses of the jobs and the assets, as the client can reach them."""

    jobs: str
    assets: str


class Jobs:
    """Creates, lists, shows and cancels jobs."""

    def __init__(
        self,
        runs: RunService,
        records: RunRepository,
        repository: JobRepository,
        machines: MachineRegistry,
        outputs: Outputs,
        assets: Assets,
    ) -> None:
        self._runs = runs
        self._records = records
        self._repository = repository
        self._machines = machines
        self._outputs = outputs
        self._assets = assets

    async def create(
        self,
        request: JobRequest,
        *,
        key: str | None,
        machine: str | None,
        addresses: Addresses,
    ) -> dict[str, Any]:
        """Create a job."""
        if machine is None and request.metadata is not None:
            machine = request.metadata.get("machine")
        if key is None:
            record = await self._start(request, machine, None)
        else:
            _check_key(key)
            record = await self._start_once(request, machine, key)
        self._outputs.begin(record)
        return await self._job(record, addresses)

    async def list(self, query: JobsQuery, addresses: Addresses) -> dict[str, Any]:
        """Return a page of the jobs, newest first."""
        names = list(STATUSES if query.status is None else dict.fromkeys(query.status.split(",")))
        groups = [group for group in map(STATUSES.__getitem__, names) if group is not None]
        if not groups:
            return {"jobs": [], "truncated": False}
        filters = json.dumps([sorted(names), sorted((query.metadata or {}).items())])
        secret = await self._repository.secret()
        before = None
        if query.cursor is not None:
            before = position_of(query.cursor, filters, secret)
        found = await self._repository.page(
            query.limit + 1,
            before=before,
            groups=groups if query.status is not None else (),
            metadata=query.metadata,
        )
        shown = found[: query.limit]
        jobs = await asyncio.gather(*(self._job(record, addresses) for _, record in shown))
        page: dict[str, Any] = {"jobs": list(map(item_of, jobs))}
        if len(found) > len(shown):
            page["next_cursor"] = cursor_after(shown[-1][0], filters, secret)
        return {**page, "truncated": len(found) > len(shown)}

    async def get(self, job_id: str, addresses: Addresses) -> dict[str, Any]:
        """Return a job."""
        return await self._job(await self.record(job_id), addresses)

    async def record(self, job_id: str) -> RunRecord:
        """Return the record of a job's run."""
        try:
            return await self._runs.record(job_id)
        except NotFoundError:
            raise APIError("not_found", f"There is no job {job_id!r}") from None

    async def workflow(self, job_id: str) -> dict[str, Any]:
        """Return the workflow of a job; of a stored workflow, also in the editor's format."""
        record = await self.record(job_id)
        graphs = await self._records.prompt(job_id)
        if graphs is None:
            raise APIError("not_found", f"The workflow of job {job_id!r} is not in the store")
        prompt, saved = graphs
        if record.workflow_id is not None and saved is not None:
            return {"workflow": RawJSON(saved), "format": "save"}
        return {"workflow": RawJSON(prompt), "format": "api"}

    async def cancel(self, job_id: str, addresses: Addresses) -> dict[str, Any]:
        """Cancel a job, and return it; one that has ended is not changed."""
        await self.record(job_id)
        with suppress(ConflictError):  # it has ended
            await self._runs.interrupt(job_id, None)
        return await self.get(job_id, addresses)

    async def _job(self, record: RunRecord, addresses: Addresses) -> dict[str, Any]:
        run = self._runs.find(record.prompt_id)
        record = record if run is None else run.record
        assets = await self._outputs.of(record)
        return job_of(
            record,
            run,
            queue_position=self._runs.queue_position(record),
            outputs=[output_of(asset, addresses.assets) for asset in assets],
            jobs_url=addresses.jobs,
        )

    async def _start_once(self, request: JobRequest, machine: str | None, key: str) -> RunRecord:
        """Start a run with an idempotency key; return its record."""
        while True:
            try:
                return await self._start(request, machine, key)
            except ConflictError as exc:
                if exc.details.get("field") != IDEMPOTENCY_KEY:
                    raise
                await self._free_if_refused(key)
            except ComfyDeployError as exc:
                if exc.extra.get("prompt_id") is not None:
                    await self._repository.free(exc.extra["prompt_id"])
                raise

    async def _free_if_refused(self, key: str) -> None:
        """Free the key of a run that ComfyUI has refused just before the server ended."""
        owner = await self._repository.owner(key)
        if owner is None:
            return  # it was free again in the meantime
        if owner.deleted:
            raise _used({})
        with suppress(NotFoundError):  # earlier versions stored keys before their runs
            record = await self._runs.record(owner.prompt_id)
            if not is_refused(record):
                raise _used({"job_id": owner.prompt_id})
        await self._repository.free(owner.prompt_id)

    async def _start(self, request: JobRequest, machine: str | None, key: str | None) -> RunRecord:
        """Start a run; return its record."""
        try:
            workflow, machine = await self._resolved(request.workflow, machine)
            fields = {
                "workflow_api": workflow,
                "machine": machine or None,
                "metadata": request.metadata,
                "extra_data": request.extra_data,
                "front": (request.priority or 0) > 0,
                "seed_mode": "saved",
                "timeout": REPLY_TIMEOUT,
            }
            asked = parse(RunRequest, fields)
            return (await self._runs.queue(asked, key=key)).record
        except NotFoundError as exc:
            raise APIError("invalid_request", exc.message, details=exc.details) from None

    async def _resolved(self, workflow: Any, machine: str | None) -> tuple[Any, str | None]:
        """Return the workflow with the names of files in place of its references to assets.

        Also return the machine: with references it is the one that has the files, even if the
        request names a pool.
        """
        large = isinstance(workflow, RawJSON)
        if large and not may_have_references(workflow):
            return workflow, machine
        found = await worker.call(asset_ids, workflow) if large else asset_ids(workflow)
        if not found:
            return workflow, machine
        target = self._machines.get(machine)
        names = {asset_id: await self._assets.name_for(asset_id, target) for asset_id in found}
        if large:
            text = await worker.call(with_names_as_text, workflow, names)
            return RawJSON(text), target.id
        return with_names(workflow, names), target.id


def refusal(error: ComfyDeployError) -> APIError:
    """Return the error for a list of jobs: labels are filters there."""
    found = api_error(error)
    if found.name == "metadata_invalid":
        return APIError("invalid_metadata_filter", found.message, details=found.details)
    return found


def _used(details: dict[str, Any]) -> APIError:
    """Return the error for a key that has started a job."""
    return APIError(
        "idempotency_key_reuse",
        "The Idempotency-Key was used for an earlier request",
        details=details,
    )


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise APIError(
            "invalid_request",
            f"{IDEMPOTENCY_KEY}: must have 1 to {MAX_KEY_LENGTH} printable ASCII characters",
            details={"field": IDEMPOTENCY_KEY},
        )


class ComfyAPI(NamedTuple):
    """The parts of the Comfy API."""

    jobs: Jobs
    events: JobEvents
    assets: Assets

    @classmethod
    def build(
        cls,
        database: Database,
        records: RunRepository,
        runs: RunService,
        machines: MachineRegistry,
        hasher: Hasher,
        kept_outputs: KeptOutputs,
    ) -> ComfyAPI:
        """Return the parts, which use the same runs, machines and hashes as all other routes."""
        repository = AssetRepository(database)
        outputs = Outputs(repository, machines, kept_outputs)
        assets = Assets(repository, machines, hasher, kept_outputs)
        jobs = Jobs(runs, records, JobRepository(database), machines, outputs, assets)
        return cls(jobs, JobEvents(runs, outputs), assets)
