"""Create runs from requests: all steps before ComfyUI receives the prompt."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from ..errors import (
    ComfyUIUnavailableError,
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    RunTimeoutError,
)
from ..graphs.models import workflow_nodes
from ..graphs.ui import VIRTUAL
from ..machines.registry import AUTO, LOCAL
from ..request_models import PointRun
from ..util.jsons import dumps
from ..util.tasks import end
from ..util.times import utc_now
from .background import done_by
from .chains import take_out
from .engine import NewRun
from .prepare import DEFINITIONS_MAX_AGE, ReadyMachine, prepare, read_stored, steps_of
from .queue import Placement, client_of
from .records import RunRecord
from .run import Run
from .state import Cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..machines.machine import Machine
    from ..machines.registry import Pool
    from ..request_models import RunRequest, RunTemplate
    from ..util.system import FetchPolicy
    from .chains import Reference
    from .engine import Engine, RunContext
    from .prepare import Prepared

Template = TypeVar("Template", bound="RunTemplate")
# Returns a version of a stored workflow by its id and number; None: the latest one
StoredVersion: TypeAlias = "Callable[[str, int | None], Awaitable[dict[str, Any]]]"

MAX_TRIED = 16  # members of a pool for which the preparation of a run is tried
MAX_INPUT_LENGTH = 20_000  # characters of an input that is stored; longer ones are file contents
GRAPHS = ("workflow_api", "workflow_api_raw", "workflow")  # fields of requests
CREATE_TIMEOUT = 1.0  # seconds for the creation of a run, even if its timeout is shorter


class Destination(NamedTuple):
    """The machine or pool that will execute a run."""

    machine: Machine  # for a pool: the member whose node definitions are used to prepare the run
    pool: Pool | None = None


class PendingCreation:
    """A run with a given id that is still being created by a task."""

    def __init__(self, task: asyncio.Task[NewRun], destination: Destination) -> None:
        self.task = task
        self.destination = destination
        self.needs: set[str] = set()  # runs whose creation it waits for
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cancel(self) -> None:
        if not self.cancelled.done():
            self.cancelled.set_result(None)


class RunCreator:
    """Creates runs from requests, and finds the runs that are being created by their ids."""

    def __init__(
        self,
        context: RunContext,
        engine: Engine,
        *,
        stored_version: StoredVersion,
        fetching: FetchPolicy,
    ) -> None:
        self._context = context
        self._engine = engine
        self._stored_version = stored_version
        self._fetching = fetching
        self._by_id: dict[str, PendingCreation] = {}

    def find(self, prompt_id: str) -> PendingCreation | None:
        return self._by_id.get(prompt_id)

    async def create(
        self, request: RunRequest, *, key: str | None, deadline: float | None
    ) -> NewRun:
        """Create the run of a request; at ``deadline`` (`now`) that is aborted.

        Raises ConflictError if the id is in use or the run was cancelled, RunTimeoutError at
        ``deadline``, and the errors of `prepare`.
        """
        destination, prompt_id = self.destination(request.machine), request.prompt_id
        making = self._make(request, destination, key=key)
        if prompt_id is None and deadline is None:
            return await making
        task = asyncio.ensure_future(making)
        pending = PendingCreation(task, destination)
        if prompt_id is not None:
            self._by_id.setdefault(prompt_id, pending)
        try:
            in_time = await done_by(deadline, task, pending.cancelled)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            if prompt_id is not None and self._by_id.get(prompt_id) is pending:
                del self._by_id[prompt_id]
        # The awaited code may suppress one cancellation (see `end`). So the result of the task does
        # not show whether the run was cancelled.
        await end([task] if pending.cancelled.done() or not in_time else [])
        if pending.cancelled.done():
            if not task.cancelled() and task.exception() is None:  # it was created nevertheless
                reason = "The run was cancelled before it was queued"
                self._engine.tell(task.result().run, Cause.NOT_STORED, reason)
            raise ConflictError(
                f"The run {prompt_id!r} was cancelled before it was queued",
                details={"prompt_id": prompt_id, "status": "cancelled"},
            )
        if task.cancelled():
            raise RunTimeoutError(
                "The run was not queued: ComfyUI was not ready in time, or its input files had not"
                " arrived"
            )
        return task.result()

    def destination(self, machine: str | None) -> Destination:
        pool = self._context.machines.pool(machine)
        if pool is None:
            return Destination(self._context.machines.get(machine))
        # The run is prepared for a connected member, else for another one, or the default machine.
        found = (
            self._context.machines.find(LOCAL) if not self._context.machines.members(pool) else None
        )
        return Destination(found or self._context.machines.least_busy(pool), pool)

    async def _make(
        self, request: RunRequest, destination: Destination, *, key: str | None
    ) -> NewRun:
        """Create the run of a request; while it waits for ComfyUI, it can be found by its id."""
        known_to_comfyui = False
        repository = self._context.repository
        if (given_id := request.prompt_id) is not None:
            if given_id in self._context.active or await repository.get(given_id):
                raise _taken(given_id)
            # ComfyUI's history may have the deleted run, and would tell its outcome.
            known_to_comfyui = await repository.was_deleted(given_id)
        version: int | None = None
        batch = point = None
        if isinstance(request, PointRun):  # its graph was read when the batch was made
            version = request.version if isinstance(request.version, int) else None
            batch, point = request.batch, request.point
        elif request.workflow_id is not None:
            request, version = await with_stored_graph(request, self._stored_version)
        pool = destination.pool
        given = _remembered(request.inputs or {})
        marked, references = take_out(request.inputs, request.prompt_id)
        waiting_for: list[str] | None = None
        if references:
            request = request.model_copy(update={"inputs": marked})
            await self._until_created(references, request.prompt_id)
            waiting = [run_id async for run_id in self._context.chains.check(references) if run_id]
            waiting_for = [*dict.fromkeys(waiting)]
        ready, prepared = await self._prepare(request, destination)
        machine = ready.machine
        await ready.wait()
        for reference in references:
            reference.kind = prepared.marks.get(reference.mark, "")
        if waiting_for == []:
            place = machine if pool is None else None
            with suppress(ComfyUIUnavailableError):  # a machine has an output, and is away
                filled = await self._context.chains.fill(prepared.prompt, references, place)
                facts = await read_stored(filled, machine.known_definitions, prepared.targets)
                prepared, waiting_for = replace(prepared, prompt=filled, facts=facts), None
        steps, looped = await steps_of(prepared.facts.workload, machine, prepared.targets)
        own_keys = request.extra_data.keys if request.extra_data is not None else {}
        keys = own_keys or await self._context.account.keys()
        prompt_id = request.prompt_id or str(uuid.uuid4())
        files: dict[str, str] = {}
        if pool is not None:
            files = await self._context.inputs.named(prepared.facts.file_names, machine)
        # Files that were downloaded for it may be only on the chosen machine.
        bound = pool is None or not set(prepared.files) <= {*files}
        chosen = await ready.client() if bound else None
        if prompt_id in self._context.active:
            raise _taken(prompt_id)
        placement = Placement(machine.id, chosen)
        if waiting_for is not None:
            placement = Placement(machine.id if pool is None or bound else pool.id, None)
        elif pool is not None:
            queue = self._context.queue
            client = client_of(request.client_id, request.metadata, batch)
            queue.expect(prompt_id, pool)
            if not bound and files:
                placement = Placement(pool.id, None)  # its files are sent before the run
            elif not bound:
                placement = queue.place(
                    prompt_id,
                    pool,
                    prepared,
                    client=client,
                    front=bool(request.front),
                    later=batch is not None,
                )
        given_up = self._context.active.given_up(placement.machine_id)
        new_id = known_to_comfyui or not _is_uuid(prompt_id) or prompt_id in given_up
        record = RunRecord(
            prompt_id=prompt_id,
            comfyui_id=str(uuid.uuid4()) if new_id else prompt_id,
            machine=placement.machine_id,
            pool=None if pool is None else pool.id,
            retry=_retry(request, pool),
            files=[*files],
            file_hashes=files,
            session=self._context.session.id,
            client_id=request.client_id,
            created_at=utc_now(),
            seeds=prepared.seeds,
            next_seeds=prepared.next_seeds,
            front=bool(request.front),
            attempts=1,
            workflow_id=request.workflow_id,
            version=version,
            warnings=prepared.warnings,
            structure=prepared.structure,
            inputs=given,
            targets=prepared.targets,
            preview_method=request.preview_method,
            own_keys=bool(own_keys),
            metadata=request.metadata or {},
            node_count=len(steps) + len(looped),
            batch=batch,
            point=point,
            needs=[asdict(reference) for reference in references],
            waiting_for=waiting_for,
            cancel_with=bool(request.cancel_with),
        )
        run = Run(
            record,
            prepared.facts.nodes,
            steps=steps,
            looped=looped,
            events_complete=placement.client is not None if chosen is None else machine.connected,
        )
        self._engine.tell(run, Cause.RECEIVED)
        run.keys = keys
        run.models, run.fingerprint = prepared.facts.models, prepared.facts.fingerprint
        self._context.active.add(run)
        run.order = placement.order
        if chosen is not None and waiting_for is None:
            self._context.queue.record_assigned(run)
        if placement.client is not None:
            self._context.estimates.load_for(run)
        return NewRun(run, placement.client, prepared, key)

    async def _until_created(self, references: list[Reference], prompt_id: str | None) -> None:
        """Wait until the runs that a run needs exist, if they are being created; refuse circles."""
        own = None if prompt_id is None else self._by_id.get(prompt_id)
        for reference in references:
            pending = self._by_id.get(reference.run)
            if pending is None:
                continue
            if own is not None:
                if own in self._needed_by(pending):
                    raise reference.error(f"the run {reference.run!r} needs an output of this run")
                own.needs.add(reference.run)
            await asyncio.wait({pending.task})

    def _needed_by(self, pending: PendingCreation) -> set[PendingCreation]:
        """Return a run that is being created, and all those that it needs directly or not."""
        found, left = set[PendingCreation](), [pending]
        while left:
            found.add(each := left.pop())
            needs = (self._by_id.get(run) for run in each.needs)
            left += [need for need in needs if need is not None and need not in found]
        return found

    async def _prepare(
        self, request: RunRequest, destination: Destination
    ) -> tuple[ReadyMachine, Prepared]:
        """Prepare a run for a machine; for a pool, for one that has its node classes and models."""
        pool = destination.pool
        machines = [destination.machine]
        if pool is not None:
            others = (other for other in self._context.machines.members(pool) if other.answers)
            others = (other for other in others if other is not destination.machine)
            machines += islice(others, MAX_TRIED - 1)
        if len(machines) > 1 and request.workflow_api is None and request.workflow is not None:
            machines = [await _knowing(machines, request.workflow)]
        may_wait = pool is not None and pool.id != AUTO
        ready = ReadyMachine(machines[0], may_wait=may_wait)
        try:
            return ready, await prepare(request, ready, self._fetching)
        except InvalidInputError:  # such as a model that only one of them has
            for machine in await _defining_otherwise(machines, request.workflow_api):
                ready = ReadyMachine(machine, may_wait=may_wait)
                with suppress(InvalidInputError):
                    return ready, await prepare(request, ready, self._fetching)
            raise


async def with_stored_graph(
    request: Template, stored_version: StoredVersion
) -> tuple[Template, int]:
    """Return a request with the graph of the stored version that it names, and its number."""
    for field in GRAPHS:
        if getattr(request, field) is not None:
            raise InvalidRequestError.of_field(
                field, "must not be given together with workflow_id: send one of them"
            )
    assert request.workflow_id is not None
    number = request.version if isinstance(request.version, int) else None
    stored = await stored_version(request.workflow_id, number)
    graphs = {"workflow_api": stored["workflow_api"], "workflow": stored["workflow"]}
    return request.model_copy(update=graphs), stored["version"]


async def _knowing(machines: list[Machine], workflow: dict[str, Any]) -> Machine:
    """Return the first machine that has most of the node classes of a graph in UI format."""
    classes = {node.type for node in workflow_nodes(workflow)} - VIRTUAL
    best, least = machines[0], len(classes) + 1
    for machine in machines:
        known = (await machine.definitions()).nodes
        unknown = sum(name not in known for name in classes)
        if unknown < least:
            best, least = machine, unknown
        if not unknown:
            break
    return best


async def _defining_otherwise(machines: list[Machine], graph: Any) -> list[Machine]:
    """Return one machine for each definition of a graph's nodes but that of the first machine."""
    if not isinstance(graph, dict):
        return machines[1:]
    classes = {node.get("class_type") for node in graph.values() if isinstance(node, dict)}
    asking = (machine.definitions(max_age=DEFINITIONS_MAX_AGE) for machine in machines)
    known: list[Any] = []
    found = []
    for machine, answer in zip(
        machines, await asyncio.gather(*asking, return_exceptions=True), strict=True
    ):
        if isinstance(answer, BaseException):
            continue
        definitions = [answer.object_info.get(str(name)) for name in classes]
        if definitions not in known:
            known.append(definitions)
            found.append(machine)
    return [machine for machine in found if machine is not machines[0]]


def _is_uuid(text: str) -> bool:
    """Return whether ComfyUI accepts an id unchanged: a UUID in Python's format (0.33, jobs.py)."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _taken(prompt_id: str) -> ConflictError:
    return ConflictError.of_field(
        "prompt_id", f"a run {prompt_id!r} exists already", prompt_id=prompt_id
    )


def _remembered(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs without those that are as long as files."""
    return {
        key: value
        for key, value in inputs.items()
        if not isinstance(value, (str, list, dict)) or len(dumps(value)) <= MAX_INPUT_LENGTH
    }


def _retry(request: RunRequest, pool: Pool | None) -> int:
    """Return how often a run may be executed again, which needs a pool; that has the default."""
    if pool is None:
        return 0
    return pool.retry if request.retry is None else request.retry
