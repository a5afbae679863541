"""Jobs: runs as the Comfy API creates, lists, shows and cancels them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ComfyDeployError, ConflictError, NotFoundError
from ..runs.records import IDEMPOTENCY_KEY
from ..schemas import RunRequest, parse
from ..util import worker
from ..util.unparsed import Unparsed
from .cursor import cursor_after, position_of
from .errors import APIError, api_error, unknown_machine
from .job import STATUSES, is_refused, item_of, job_of
from .outputs import outputs_of
from .references import asset_ids, may_have_references, with_names, with_names_as_text

if TYPE_CHECKING:
    from ..machines.registry import MachineRegistry
    from ..runs.records import RunRecord, RunRepository
    from ..runs.service import RunService
    from ..schemas import JobRequest, JobsQuery
    from .assets import Assets
    from .job_records import JobRepository
    from .outputs import Outputs

LONGEST_KEY = 255
REPLY_WITHIN = 25.0  # seconds; comfy-sdk waits 30 seconds for a reply


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
        small: bool,
        addresses: Addresses,
    ) -> dict[str, Any]:
        """Create a job."""
        if machine is None and request.metadata is not None:
            machine = request.metadata.get("machine")
        if key is None:
            record = await self._start(request, machine, None, small=small)
        else:
            _check_key(key)
            record = await self._start_once(request, machine, key, small=small)
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
            return {"workflow": Unparsed(saved), "format": "save"}
        return {"workflow": Unparsed(prompt), "format": "api"}

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
            outputs=outputs_of(assets, addresses.assets),
            jobs_url=addresses.jobs,
        )

    async def _start_once(
        self, request: JobRequest, machine: str | None, key: str, *, small: bool
    ) -> RunRecord:
        """Start a run with an idempotency key; return its record."""
        while True:
            try:
                return await self._start(request, machine, key, small=small)
            except ConflictError as fault:
                if fault.details.get("field") != IDEMPOTENCY_KEY:
                    raise
                await self._free_if_refused(key)
            except ComfyDeployError as fault:
                if fault.extra.get("prompt_id") is not None:
                    await self._repository.free(fault.extra["prompt_id"])
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

    async def _start(
        self, request: JobRequest, machine: str | None, key: str | None, *, small: bool
    ) -> RunRecord:
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
                "timeout": REPLY_WITHIN,
            }
            asked = parse(RunRequest, fields)
            return (await self._runs.queue(asked, small=small, key=key)).record
        except NotFoundError as fault:
            raise unknown_machine(fault) from None

    async def _resolved(self, workflow: Any, machine: str | None) -> tuple[Any, str | None]:
        """Return the workflow with the names of files in place of its references to assets.

        Also return the machine: with references it is the one that has the files, even if the
        request names a pool.
        """
        large = isinstance(workflow, Unparsed)
        if large and not may_have_references(workflow):
            return workflow, machine
        found = await worker.call(asset_ids, workflow) if large else asset_ids(workflow)
        if not found:
            return workflow, machine
        target = self._machines.get(machine)
        names = {asset_id: await self._assets.name_for(asset_id, target) for asset_id in found}
        if large:
            text = await worker.call(with_names_as_text, workflow, names)
            return Unparsed(text), target.id
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
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise APIError(
            "invalid_request",
            f"{IDEMPOTENCY_KEY}: must have 1 to {LONGEST_KEY} printable ASCII characters",
            details={"field": IDEMPOTENCY_KEY},
        )
