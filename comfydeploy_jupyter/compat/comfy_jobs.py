"""Jobs: runs as the Comfy API creates, lists, shows, follows and cancels them.

The events of a job are ``text/event-stream`` without ids: each stream begins with its state.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..errors import ComfyDeployError, ConflictError, NotFoundError
from ..graphs.validation import complaints
from ..request_models import RunRequest, parse
from ..runs.feed import LARGE
from ..runs.records import ACTIVE, IDEMPOTENCY_KEY, RunFilter, record_of
from ..runs.state import Cause
from ..store.database import DETAILS, Repository, reading, writing
from ..util import worker
from ..util.jsons import RawJSON
from ..util.times import parse_timestamp
from .comfy_api import (
    NEVER,
    APIError,
    api_error,
    asset_ids,
    cursor_after,
    may_have_references,
    position_of,
    with_names,
    with_names_as_text,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Collection, Mapping

    from ..machines.registry import MachineRegistry
    from ..request_models import JobRequest, JobsQuery
    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord, RunRepository
    from ..runs.run import Run
    from ..runs.service import RunService
    from .comfy_assets import Assets

MAX_KEY_LENGTH = 255
REPLY_TIMEOUT = 25.0  # seconds; comfy-sdk waits 30 seconds for a reply
# After these events of a run its progress may have changed.
PROGRESS = frozenset({"progress", "live_status", "executing", "execution_cached"})


class StatusGroup(NamedTuple):
    """Some statuses of runs."""

    statuses: tuple[str, ...]
    # Only runs whose cancellation was, or was not, requested; None: both
    cancelling: bool | None = None

    @property
    def condition(self) -> str:
        """The condition in SQL, with a mark for each status."""
        found = f"status IN ({', '.join('?' * len(self.statuses))})"
        if self.cancelling is None:
            return found
        requested = f"coalesce(json_extract({DETAILS}, '$.cancelling'), 0)"
        return f"({found} AND {'' if self.cancelling else 'NOT '}{requested})"


STATUSES: dict[str, StatusGroup | None] = {
    "queued": StatusGroup(("not-started", "queued"), False),
    "running": StatusGroup(("running", "uploading"), False),
    "canceling": StatusGroup(ACTIVE, True),
    "succeeded": StatusGroup(("success",)),
    "canceled": StatusGroup(("cancelled",)),
    "failed": StatusGroup(("failed",)),
    "expired": None,  # no run of this server expires
}
"""The statuses of jobs, and the runs that have them."""


class JobRepository(Repository):
    """Reads and writes the data of jobs besides their runs."""

    @reading
    def page(
        self,
        db: sqlite3.Connection,
        limit: int,
        *,
        before: int | None = None,
        groups: Collection[StatusGroup] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> list[tuple[int, RunRecord]]:
        """Return the newest runs, each with its position in the store.

        Only those that are older than the one at position ``before``, in one of these groups, and
        with all of these labels; no groups mean all.
        """
        condition, values = RunFilter(metadata=metadata).where()
        conditions = [condition]
        if groups:
            conditions.append(f"({' OR '.join(group.condition for group in groups)})")
            values += [status for group in groups for status in group.statuses]
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        rows = db.execute(
            f"SELECT * FROM runs WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - only marks are put in
            (*values, limit),
        )
        return [(row["id"], record_of(row)) for row in rows]

    @reading
    def owner(self, db: sqlite3.Connection, key: str) -> tuple[str, str | None] | None:
        """Return the run that has an idempotency key, and when it was deleted; or None."""
        query = "SELECT prompt_id, deleted_at FROM job_keys WHERE key = ?"
        row = db.execute(query, (key,)).fetchone()
        return None if row is None else (row["prompt_id"], row["deleted_at"])

    @writing
    def free(self, db: sqlite3.Connection, prompt_id: str) -> None:
        """Delete the idempotency key of a run, if it has one."""
        db.execute("DELETE FROM job_keys WHERE prompt_id = ?", (prompt_id,))

    @reading
    def secret(self, db: sqlite3.Connection) -> bytes:
        """Return the secret that signs the cursors of this store."""
        return bytes(db.execute("SELECT value FROM job_secret").fetchone()[0])


def status_of(record: RunRecord) -> str:
    """Return the status of a run as a job."""
    return next(
        name
        for name, group in STATUSES.items()
        if group is not None
        and record.status in group.statuses
        and group.cancelling in (None, record.cancelling)
    )


def progress_of(record: RunRecord, run: Run | None) -> dict[str, Any] | None:
    """Return the whole progress of a run; None before it is executed, and if it is not known."""
    if record.status == "success":
        count = record.node_count or len({*record.cached_nodes, *record.node_times})
        if run is not None:
            count = run.live_status.nodes()[1]
        return {"value": 1.0, "nodes_done": count, "nodes_total": count}
    if run is None or record.started_at is None:
        return None
    live = run.live_status
    read, (done, total), step = live.read(), live.nodes(), live.current_step()
    value = 1.0 if record.status == "uploading" else read["progress"]
    found: dict[str, Any] = {"value": value, "nodes_done": done, "nodes_total": total}
    if (node := read["current_node"]) is not None:
        found["current_node"] = node
        found["current_node_class"] = live.name(node).class_type
        found["message"] = read["live_status"]
        if step is not None:
            found["step"], found["steps"] = step
            found["message"] += f" {step[0]}/{step[1]}"
    return found


def is_refused(record: RunRecord) -> bool:
    """Return whether ComfyUI has refused the workflow of a run."""
    return any(entry[1] == Cause.REFUSED for entry in record.story)


def error_of(record: RunRecord) -> dict[str, Any] | None:
    """Return why a run has failed, or None."""
    error = record.error
    if error is None:
        return None
    node_id, class_type = error.get("node_id"), error.get("node_type")
    at_node = node_id is not None and class_type is not None
    code = "node_execution_error" if at_node else "execution_error"
    return {
        "code": "invalid_workflow" if is_refused(record) else code,
        "message": str(error.get("message")),
        "node_id": node_id,
        "class_type": class_type,
        "traceback": error.get("traceback"),
    }


def warnings_of(record: RunRecord) -> list[str]:
    """Return what is lost although a run is executed, such as nodes that ComfyUI leaves out."""
    found = list(record.warnings)
    if record.number is not None:  # it was accepted
        left_out = complaints(
            record.node_errors, lambda key, kind: f"{key} ({kind}) is not executed"
        )
        found += [f"N{text[1:]}" for text in left_out]
    return found


def job_of(
    record: RunRecord,
    run: Run | None,
    *,
    queue_position: int | None,
    outputs: list[dict[str, Any]],
    root: str,
) -> dict[str, Any]:
    """Return a run as a job."""
    url = f"{root}/jobs/{quote(record.prompt_id, safe='')}"
    completed_at = record.finished_at if record.finished else None
    return {
        "id": record.prompt_id,
        "status": status_of(record),
        "created_at": record.created_at,
        "started_at": record.started_at,
        "completed_at": completed_at,
        "expires_at": NEVER,
        "queue_position": queue_position,
        "progress": progress_of(record, run),
        "outputs": outputs,
        "error": error_of(record),
        "metrics": {
            "queue_ms": _milliseconds(record.created_at, record.started_at),
            "execution_ms": _milliseconds(record.started_at, completed_at),
        },
        "metadata": record.metadata,
        "warnings": warnings_of(record),
        "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel"},
    }


def _item_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as an item of the list of jobs."""
    updated = job["completed_at"] or job["started_at"] or job["created_at"]
    times = {"create_time": job["created_at"], "update_time": updated}
    return {**job, **times, "deployment_id": None}


def _milliseconds(start: str | None, end: str | None) -> int | None:
    if start is None or end is None:
        return None
    seconds = (parse_timestamp(end) - parse_timestamp(start)).total_seconds()
    return max(round(seconds * 1000), 0)


class Jobs:
    """Creates, lists, shows, follows and cancels jobs.

    ``root`` is the address of the Comfy API, as the client can reach it.
    """

    def __init__(
        self,
        runs: RunService,
        records: RunRepository,
        repository: JobRepository,
        machines: MachineRegistry,
        assets: Assets,
    ) -> None:
        self.assets = assets
        self._runs = runs
        self._records = records
        self._repository = repository
        self._machines = machines

    async def create(
        self,
        request: JobRequest,
        *,
        key: str | None,
        machine: str | None,
        root: str,
    ) -> dict[str, Any]:
        """Create a job."""
        if machine is None and request.metadata is not None:
            machine = request.metadata.get("machine")
        if key is None:
            record = await self._start(request, machine, None)
        else:
            record = await self._start_once(request, machine, key)
        return await self._job(record, root)

    async def page(self, query: JobsQuery, root: str) -> dict[str, Any]:
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
        jobs = await asyncio.gather(*(self._job(record, root) for _, record in shown))
        page: dict[str, Any] = {
            "jobs": list(map(_item_of, jobs)),
            "truncated": len(found) > len(shown),
        }
        if page["truncated"]:
            page["next_cursor"] = cursor_after(shown[-1][0], filters, secret)
        return page

    async def get(self, job_id: str, root: str) -> dict[str, Any]:
        """Return a job."""
        return await self._job(await self.record(job_id), root)

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

    async def cancel(self, job_id: str, root: str) -> dict[str, Any]:
        """Cancel a job, and return it; one that has ended is not changed."""
        await self.record(job_id)
        with suppress(ConflictError):  # it has ended
            await self._runs.interrupt(job_id, None)
        return await self.get(job_id, root)

    async def follow(
        self, run: Run, root: str, *, pause: float
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
        if outputs := await self._outputs(run.record, root, sent):
            yield outputs, False
        if run.log.closed and last == run.log.last_id:
            yield self._end(run), True
            return
        messages = b""
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        async for batch in run.log.read(last, pause=pause):
            before, status = status, status_of(run.record)
            if not run.record.finished and (status != before or _shows_place(batch, status)):
                messages += self._status(run)
            if batch:
                messages += await self._batch(run, batch, root, sent)
            at_end = bool(batch) and run.log.has_ended_at(batch[-1].id)
            if batch and not messages and not at_end and clock() - sent_at < pause:
                continue  # readers do not get these events
            if run.log.closed and not at_end and len(messages) <= LARGE:
                continue  # they are sent together with the next ones, which are there
            yield messages, at_end
            messages, sent_at = b"", clock()

    async def final(self, record: RunRecord, root: str) -> bytes:
        """Return the messages of a run whose events are not in memory."""
        outputs = await self._outputs(record, root, set())
        return outputs + _logs(record) + _progress(record, None) + state(record)

    async def _batch(self, run: Run, batch: list[RunEvent], root: str, sent: set[str]) -> bytes:
        """Return the messages of a batch; of its progress only the last one."""
        last = max((event.id for event in batch if event.event in PROGRESS), default=None)
        messages = b""
        for event in batch:
            if event.event not in PROGRESS:
                messages += await self._encode(run, event, root, sent)
            elif event.id == last:
                messages += _progress(run.record, run)
        return messages

    async def _encode(self, run: Run, event: RunEvent, root: str, sent: set[str]) -> bytes:
        name, data = event.event, event.data
        if name == "executed" and isinstance(data.get("output"), dict):
            outputs = {str(data.get("node")): data["output"]}
            return await self._outputs(run.record, root, sent, outputs)
        if name == "result":
            return await self._outputs(run.record, root, sent)
        if event.preview is not None:
            image = base64.b64encode(event.preview.image).decode()
            preview = {"node_id": event.preview.node or "", "content_type": event.preview.mime}
            return _message("preview", {**preview, "data_base64": image})
        if name == "progress_text":
            return _message("log", {"level": "info", "message": str(data.get("text") or "")})
        return self._end(run) if name == "status" else b""

    def _end(self, run: Run) -> bytes:
        return _logs(run.record) + _progress(run.record, run) + self._status(run)

    def _status(self, run: Run) -> bytes:
        return state(run.record, self._runs.queue_position(run.record))

    async def _outputs(
        self,
        record: RunRecord,
        root: str,
        sent: set[str],
        outputs: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the messages with the outputs that a reader does not have yet."""
        assets = await self.assets.of_run(record, outputs)
        new = [asset for asset in assets if asset.id not in sent]
        sent.update(asset.id for asset in new)
        return b"".join(_message("output", asset.to_output(root)) for asset in new)

    async def _job(self, record: RunRecord, root: str) -> dict[str, Any]:
        run = self._runs.find(record.prompt_id)
        record = record if run is None else run.record
        assets = await self.assets.of_run(record)
        return job_of(
            record,
            run,
            queue_position=self._runs.queue_position(record),
            outputs=[asset.to_output(root) for asset in assets],
            root=root,
        )

    async def _start_once(self, request: JobRequest, machine: str | None, key: str) -> RunRecord:
        """Start a run with an idempotency key; return its record."""
        if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
            problem = f"must have 1 to {MAX_KEY_LENGTH} printable ASCII characters"
            raise APIError(
                "invalid_request",
                f"{IDEMPOTENCY_KEY}: {problem}",
                details={"field": IDEMPOTENCY_KEY},
            )
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
        prompt_id, deleted_at = owner
        used = "The Idempotency-Key was used for an earlier request"
        if deleted_at is not None:
            raise APIError("idempotency_key_reuse", used)
        with suppress(NotFoundError):  # earlier versions stored keys before their runs
            if not is_refused(await self._runs.record(prompt_id)):
                details = {"job_id": prompt_id}
                raise APIError("idempotency_key_reuse", used, details=details)
        await self._repository.free(prompt_id)

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
            record = (await self._runs.queue(asked, key=key)).record
        except NotFoundError as exc:
            raise APIError("invalid_request", exc.message, details=exc.details) from None
        self.assets.begin(record.prompt_id)
        return record

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
        names = {asset_id: await self.assets.name_for(asset_id, target) for asset_id in found}
        if large:
            text = await worker.call(with_names_as_text, workflow, names)
            return RawJSON(text), target.id
        return with_names(workflow, names), target.id


def state(record: RunRecord, queue_position: int | None = None) -> bytes:
    """Return the message with the status of a run."""
    return _message("status", {"status": status_of(record), "queue_position": queue_position})


def _shows_place(batch: list[RunEvent], status: str) -> bool:
    """Return whether readers get the place in the queue: at the first message, and now and then."""
    return status == "queued" and (not batch or any(event.event == "" for event in batch))


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


def refusal(error: ComfyDeployError) -> APIError:
    """Return the error for a list of jobs: labels are filters there."""
    found = api_error(error)
    if found.name == "metadata_invalid":
        return APIError("invalid_metadata_filter", found.message, details=found.details)
    return found
