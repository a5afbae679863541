"""The service of batches: creates them, and keeps a few of their points at work.

The points of a batch are rows of the store until they run. Then each is an ordinary run, which the
store accepts only while its point waits, in the transaction that marks the point (see the
migration). So nothing is lost or done twice, wherever the server is killed: what the store says
about points and runs is all that the next server needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import uuid
from collections import defaultdict
from contextlib import suppress
from functools import partial
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    PromptInvalidError,
    RunTimeoutError,
    StoreUnavailableError,
    TooLargeError,
)
from ..graphs.outputs import files_of, texts_of
from ..request_models import PointRun
from ..runs.deletion import Deleted
from ..runs.prepare import DEFINITIONS_MAX_AGE
from ..runs.records import FINAL, RunFilter
from ..runs.shown import shown_file
from ..transfers.callbacks import CallbackTarget
from ..util import worker
from ..util.jsons import PROCESS_ABOVE, RawJSON, is_large
from ..util.media_types import is_hdr, is_picture
from ..util.tasks import BackgroundTasks, wait_until_set
from ..util.times import Backoff, utc_now
from .plan import MANY, Axis, count_of, plan, with_seeds
from .records import STATUSES, Batch, PointFilter
from .sheet import Shown, ShownPoint, render, side_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

    from ..files.pictures import Pictures
    from ..graphs.outputs import NodeFile
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..request_models import BatchRequest
    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..runs.service import RunService
    from ..store.session import Session
    from ..transfers.callbacks import Callbacks
    from .plan import Plan
    from .records import BatchRepository, Point
    from .sheet import Kind

log = logging.getLogger(__name__)

ON_A_MACHINE = 2  # points at a time: while one runs the next one waits, so ComfyUI never idles
OF_A_POOL = 4  # the same for each machine of a pool; two more wait in the queue of the pool
QUEUED_FOR = 0.25  # seconds of work that a machine has queued, if its points are that short
MAX_UNSTARTED = 100  # points of a batch whose runs wait for outputs of other runs
QUICK = 16  # points at a time on a machine whose points take only moments
RECENT = 0.2  # weight of the last point in the expected duration of the next one
LOOK_INTERVAL = 2.0  # seconds between two looks at open batches without a reason
AGAIN = Backoff(first=1.0, longest=30.0)  # pauses after a point could not be queued
PROGRESS_INTERVAL = 0.5  # seconds between two messages about the progress of a batch
GATHER = 0.05  # seconds in which ended points are collected for a stream
CHANGES_AT_ONCE = 200  # points in one read of a stream
PORTION = 1000  # points in one read for a sheet
EVERY = PointFilter()
MIN_SECONDS = 0.001  # of a run, for estimates
# Errors that are not the fault of the point: it is tried again.
TRANSIENT = (ComfyUIUnavailableError, RunTimeoutError, StoreUnavailableError, NoSpaceError)


class Driven:
    """What is in memory of a batch whose points run here."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.request: PointRun | None = None  # what the requests of all points have in common
        self.creating: dict[str, int] = {}  # keys of the points that are being queued; their places
        self.parts = [(0, batch.total)]  # of the order, one for each machine of a pool
        self.seconds: float | None = None  # how long its last points took
        self.failures = 0  # attempts to queue a point since the last success
        self.not_before = 0.0
        self.problem = ""  # why no point can be queued now
        self.served = 0  # number of the turn in which it got its last point
        self.interrupted: set[str] = set()  # its runs, after it was cancelled


class Batches:
    """Creates, shows, runs and changes batches."""

    def __init__(
        self,
        repository: BatchRepository,
        runs: RunService,
        machines: MachineRegistry,
        session: Session,
        callbacks: Callbacks,
        pictures: Pictures,
        *,
        stored_version: Callable[[str, int | None], Awaitable[dict[str, Any]]],
    ) -> None:
        self._repository = repository
        self._runs = runs
        self._machines = machines
        self._session = session
        self._callbacks = callbacks
        self._pictures = pictures
        self._stored_version = stored_version
        self._driven: dict[int, Driven] = {}
        self._wake = asyncio.Event()  # set when there may be a batch on another machine
        self._places: dict[str, asyncio.Event] = {}  # machines and pools whose batches are driven
        self._turn = 0
        self._readers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._tasks = BackgroundTasks(log)

    async def open(self) -> None:
        self._runs.active.follow(self._handle_event)
        await self.recover(self._session.claimed)
        self._tasks.keep(self._run, "Running batches")

    async def recover(self, sessions: Collection[str]) -> None:
        """Go on with the batches of servers that have ended."""
        await self._repository.claim(sessions, self._session.id)
        for batch in await self._repository.untold(self._session.id):
            await self._tell(batch)
        self._changed()

    async def close(self) -> None:
        """Queue no more points; the next start goes on."""
        await self._tasks.close()

    @property
    def at_work(self) -> bool:
        """Whether any batch queues points."""
        return any(driven.batch.state == "running" for driven in self._driven.values())

    # -- creating ------------------------------------------------------------------------------

    async def create(self, request: BatchRequest) -> dict[str, Any]:
        """Store a batch after all of its points were checked; return its id and their number."""
        version = None
        if request.prompts is not None:
            for name in (*_SOURCES, "workflow_id", "inputs", "points"):
                if getattr(request, name) is not None:
                    text = "must not be given together with prompts: each is a whole graph"
                    raise InvalidRequestError.of_field(name, text)
        elif request.workflow_id is not None:
            request, version = await self._from_store(request)
        machine, pool = self._runs.destination(request.machine)
        made = await self._plan(request, machine, checked=request.prompts is None or pool is None)
        for number, name, value in made.outputs:
            try:
                await self._runs.check_outputs({name: value})
            except ComfyDeployError as error:
                if number is not None:
                    error.say(f"point {number}: {error.message}")
                raise
        row = {
            "batch_id": request.batch_id or str(uuid.uuid4()),
            "session": self._session.id,
            "machine": machine.id if pool is None else pool.id,
            "key": request.key,
            "state": "paused" if request.paused else "running",
            "created_at": utc_now(),
            "labels": json.dumps(request.labels or {}),
            "total": made.total,
            "retry": request.retry or 0,
            "stop_at": request.stop_after,
        }
        settings = {
            "title": request.title or "",
            "at_once": request.at_once or "auto",
            "retry": request.retry or 0,
            "stop_after": request.stop_after,
            "order": request.order or "cheapest",
            "webhook": request.webhook or None,
        }
        source = {"workflow_id": request.workflow_id, "version": version}
        names = ("axes", "names", "notes", "seeds", "shared", "structure")
        fields = {
            **source,
            "node_form": request.node_form,
            "machine": row["machine"],
            "inputs": made.inputs,
            "seed_mode": request.seed_mode or (None if request.node_form else "saved"),
            "strict_inputs": request.strict_inputs,
            "preview_method": request.preview_method,
            "outputs": request.outputs,
            "cancel_with": request.cancel_with,
            "metadata": request.labels,
            "retry": request.retry,
        }
        row["settings"] = json.dumps(settings)
        row["plan"] = json.dumps({**source, **{name: getattr(made, name) for name in names}})
        row["request"] = json.dumps(fields)
        take_over = request.key is not None and not request.fresh
        runs = {str(int(n)): run for n, run in (request.runs or {}).items() if n.isdecimal()}
        taken = await self._repository.add(row, made, take_over=take_over, runs=runs)
        self._changed()
        found = {"batch_id": row["batch_id"], "total": made.total, "taken_over": taken}
        return {"success": True, **found, "notes": made.notes}

    async def _from_store(self, request: BatchRequest) -> tuple[BatchRequest, int]:
        """Return the request with the graph of the stored version that it names, and its number."""
        for field in _SOURCES:
            if getattr(request, field) is not None:
                text = "must not be given together with workflow_id: send one of them"
                raise InvalidRequestError.of_field(field, text)
        assert request.workflow_id is not None
        number = request.version if isinstance(request.version, int) else None
        stored = await self._stored_version(request.workflow_id, number)
        graphs = {"workflow_api": stored["workflow_api"], "workflow": stored["workflow"]}
        return request.model_copy(update=graphs), stored["version"]

    async def _plan(self, request: BatchRequest, machine: Machine, *, checked: bool) -> Plan:
        """Return the plan of a request, checked with the definitions of a machine's nodes.

        A choice may be new, such as a file that was just uploaded: then they are requested again.
        """
        graphs = request.workflow_api, request.workflow_api_raw, request.workflow
        apart = count_of(request) > MANY or is_large(*graphs)
        # a worker process need not import pydantic for it
        asked = SimpleNamespace(**vars(request), node_form=request.node_form)
        call: Callable[..., Any] = worker.call if apart else asyncio.to_thread
        definitions = await machine.definitions()
        if definitions.source != "live" and request.prompts is None:
            with suppress(ComfyUIUnavailableError):
                await machine.ready()
                definitions = await machine.definitions()
        try:
            found: Plan = await call(plan, asked, definitions if checked else None)
        except InvalidRequestError:
            fresh = await machine.definitions(max_age=DEFINITIONS_MAX_AGE)
            if fresh is definitions:
                raise
            found = await call(plan, asked, fresh if checked else None)
        return found

    # -- running -------------------------------------------------------------------------------

    def _handle_event(self, run: Run, event: RunEvent) -> None:
        """Go on when a run has ended, whichever it is: it made room."""
        record = run.record
        if record.batch is not None:
            self._notify(record.batch)
        if event.event != "status" or not record.finished:
            return
        seconds = record.execution_time
        for driven in self._driven.values():
            if driven.batch.batch_id == record.batch and seconds is not None:
                old = seconds if driven.seconds is None else driven.seconds
                driven.seconds = old + (seconds - old) * RECENT
        for place in (record.machine, record.pool):
            if place in self._places:
                self._places[place].set()

    async def _run(self) -> None:
        """Drive each machine and pool with open batches by a task of its own: one may be slow."""
        while True:
            for batch in await self._repository.open(self._session.id):
                if batch.machine not in self._places:
                    self._places[batch.machine] = asyncio.Event()
                    drive = partial(self._drive, batch.machine)
                    self._tasks.keep(drive, f"Running the batches on {batch.machine}")
            await self._wake.wait()
            self._wake.clear()

    async def _drive(self, place: str) -> None:
        changed = self._places[place]
        while True:
            changed.clear()
            batches = await self._repository.open(self._session.id, place)
            if not batches:
                del self._places[place]  # a batch that comes from now on wakes `_run`
                return
            await self._serve(place, batches)
            await wait_until_set(changed, LOOK_INTERVAL)

    def _changed(self, batch_id: str | None = None) -> None:
        """Look at all open batches again, after a change of one."""
        for event in (self._wake, *self._places.values()):
            event.set()
        if batch_id is not None:
            self._notify(batch_id)

    async def _serve(self, place: str, batches: list[Batch]) -> None:
        """Queue points of batches on a machine or pool: in turns, and after single runs."""
        active: dict[int, set[int]] = {}  # the places of points, by batch
        ready: list[Driven] = []
        now = asyncio.get_running_loop().time()
        for batch in batches:
            driven = self._driven.setdefault(batch.number, Driven(batch))
            driven.batch = batch
            work = await self._repository.work(batch.number)
            if not (work.waits or work.active or work.unstarted or driven.creating):
                await self._end(driven)
                continue
            active[batch.number] = {*work.active, *driven.creating.values()}
            if batch.state == "cancelled":
                await self._interrupt(driven)
            elif batch.settings["stop_after"] and await self._repository.stop(batch.number):
                self._notify(batch.batch_id)
            elif (
                batch.state == "running"
                and work.waits
                and work.unstarted < MAX_UNSTARTED
                and now >= driven.not_before
            ):
                ready.append(driven)
        room = max(map(self._limit, ready), default=0)
        at_work = sum(map(len, active.values()))
        room -= at_work + self._runs.single_runs(place, at_work)
        while room > 0:
            ready = [
                driven
                for driven in ready
                if len(active[driven.batch.number]) < self._limit(driven)
                and not (driven.failures and driven.creating)
            ]
            if not ready:
                break
            driven = min(ready, key=lambda each: (len(active[each.batch.number]), each.served))
            point = await self.next_point(driven, active[driven.batch.number])
            if point is None:
                ready.remove(driven)
                continue
            self._turn += 1
            driven.served = self._turn
            driven.creating[point.key] = point.place
            active[driven.batch.number].add(point.place)
            room -= 1
            queued = self._tasks.start(
                self._queue(driven, point),
                "Queueing a point of a batch",
                when_done=partial(self._queued, driven, point),
            )
            if driven.failures or (driven.seconds or 1.0) > QUEUED_FOR / ON_A_MACHINE:
                await asyncio.wait([queued])  # one after the other, so that they keep their order
                if driven.failures:
                    ready.remove(driven)

    def _limit(self, driven: Driven) -> int:
        """Return how many points of a batch may be queued at a time."""
        at_once = driven.batch.settings["at_once"]
        if at_once != "auto":
            return int(at_once)
        pool = self._machines.find_pool(driven.batch.machine)
        if pool is not None and (members := len(pool.members)) > 1:
            return members * OF_A_POOL
        if driven.seconds is None:
            return ON_A_MACHINE
        return min(max(math.ceil(QUEUED_FOR / max(driven.seconds, 1e-3)), ON_A_MACHINE), QUICK)

    async def next_point(self, driven: Driven, active: Collection[int]) -> Point | None:
        """Return the next point of a batch; None if none waits.

        For a pool, its order is divided into a part for each machine: the part with the fewest
        points at work is next. One that has no more points gets the last half of the longest one.
        """
        batch, parts = driven.batch, driven.parts
        pool = self._machines.find_pool(batch.machine)
        count = len(pool.members) if pool is not None and batch.plan["shared"] else 1
        parts += [(batch.total, batch.total)] * (count - len(parts))
        at_work = [sum(low <= at < high for at in active) for low, high in parts]
        for index in sorted(range(len(parts)), key=at_work.__getitem__):
            for _ in range(2):
                limit = len(driven.creating) + 1
                for point in await self._repository.waiting(batch.number, *parts[index], limit):
                    if point.key not in driven.creating:
                        return point
                if not await self._divide(driven, index):
                    break
        return None

    async def _divide(self, driven: Driven, index: int) -> bool:
        """Give a part without points the last half of the longest other one."""
        number, parts = driven.batch.number, driven.parts
        if len(parts) == 1:
            return False
        left = [await self._repository.left(number, *part) for part in parts]
        longest = max(range(len(parts)), key=left.__getitem__)
        at = await self._repository.cut(number, *parts[longest])
        if longest == index or at is None:
            return False
        low, high = parts[longest]
        parts[longest], parts[index] = (low, at), (at, high)
        return True

    async def _queue(self, driven: Driven, point: Point) -> None:
        """Create the run of a point."""
        try:
            request = await self._request(driven, point)
            if request is not None:
                await self._runs.queue(request, streamed=True)
        except (PromptInvalidError, TooLargeError):
            log.debug("Point %d is refused: its run is stored as failed", point.position)
        except Exception as error:
            details = error.details if isinstance(error, ComfyDeployError) else {}
            if isinstance(error, ConflictError) and details.get("field") == "prompt_id":
                return  # the point does not wait any more
            no_machine = isinstance(error, NotFoundError) and details.get("field") == "machine"
            if isinstance(error, TRANSIENT) or no_machine:
                self._try_later(driven, error)
                return
            if not isinstance(error, ComfyDeployError):
                log.exception("Point %d of batch %s", point.position, driven.batch.batch_id)
            try:
                await self._repository.fail(driven.batch.number, point.key, str(error))
            except TRANSIENT as problem:
                self._try_later(driven, problem)
                return
        driven.failures, driven.problem = 0, ""

    def _try_later(self, driven: Driven, problem: Exception) -> None:
        """Queue no points of a batch for a while: it is not their fault that one was not queued."""
        driven.failures += 1
        pause = AGAIN.pause(driven.failures)
        driven.not_before = asyncio.get_running_loop().time() + pause
        driven.problem = str(problem)

    def _queued(self, driven: Driven, point: Point) -> None:
        driven.creating.pop(point.key, None)
        if driven.batch.machine in self._places:
            self._places[driven.batch.machine].set()
        self._notify(driven.batch.batch_id)

    async def _request(self, driven: Driven, point: Point) -> PointRun | None:
        """Return the request of a point's run; None if the batch was deleted meanwhile."""
        batch = driven.batch
        if driven.request is None:
            template = await self._repository.template(batch.number)
            if template is None:
                return None
            fields = dict(template.fields)
            graph = "workflow_api_raw" if fields.pop("node_form") else "workflow_api"
            fields[graph] = await _graph(template.graph)
            fields["workflow"] = await _graph(template.workflow)
            driven.request = PointRun(batch=batch.batch_id).model_copy(update=fields)
        inputs = {**(driven.request.inputs or {}), **point.inputs}
        changes = {"point": point.position, "inputs": with_seeds(inputs, batch.plan["seeds"])}
        if point.graph is not None:
            changes |= {"workflow_api": await _graph(point.graph), "inputs": None}
        return driven.request.model_copy(update=changes)

    async def _end(self, driven: Driven) -> None:
        batch = driven.batch
        if await self._repository.finish(batch.number):
            log.info("Batch %s has ended", batch.batch_id)
            self._driven.pop(batch.number, None)
            self._notify(batch.batch_id)
            if batch.settings["webhook"]:
                await self._tell(batch)

    async def _tell(self, batch: Batch) -> None:
        """Send the end of a batch to its webhook; stored until it is delivered."""
        found = await self.get(batch.batch_id)
        names = (
            *("batch_id", "title", "key", "state", "total", "counts", "labels"),
            *("created_at", "finished_at"),
        )
        body = json.dumps({name: found[name] for name in names}).encode()
        target = CallbackTarget(
            batch.batch_id, self._session.id, status_endpoint=batch.settings["webhook"]
        )
        if self._callbacks.target(batch.batch_id) is None:  # else it was stored before a restart
            await self._callbacks.add(target)
            self._callbacks.send(target, body)
            self._callbacks.finish(target)
            await self._callbacks.flush()
        await self._repository.told(batch.number)

    async def _interrupt(self, driven: Driven) -> None:
        """Cancel the runs of a cancelled batch, each of them once: the engine repeats it."""

        async def cancel(run_id: str) -> None:
            with suppress(ConflictError, NotFoundError, ComfyUIUnavailableError):
                await self._runs.interrupt(run_id, None)

        runs = {*await self._repository.runs(driven.batch.number)} - driven.interrupted
        driven.interrupted |= runs
        await asyncio.gather(*map(cancel, runs))

    def _notify(self, batch_id: str) -> None:
        for reader in self._readers.get(batch_id, ()):
            reader.set()

    # -- changing ------------------------------------------------------------------------------

    async def cancel(self, batch_id: str) -> dict[str, Any]:
        """Cancel all points that have not ended."""
        await self._repository.cancel(batch_id)
        self._changed(batch_id)
        return await self.get(batch_id)

    async def pause(self, batch_id: str) -> dict[str, Any]:
        """Queue no further points; those that are queued or run go on."""
        await self._repository.pause(batch_id)
        self._changed(batch_id)
        return await self.get(batch_id)

    async def resume(self, batch_id: str) -> dict[str, Any]:
        """Go on with the points that wait, or were cancelled with the batch."""
        await self._repository.resume(batch_id, self._session.id)
        self._changed(batch_id)
        return await self.get(batch_id)

    async def retry(self, batch_id: str, points: Collection[int] | None) -> dict[str, Any]:
        """Run failed points again, all or some."""
        await self._repository.retry(batch_id, self._session.id, points)
        self._changed(batch_id)
        return await self.get(batch_id)

    async def relabel(self, batch_id: str, labels: dict[str, str]) -> dict[str, Any]:
        """Replace the labels of a batch and of its runs."""
        number = await self._repository.relabel(batch_id, labels)
        if number in self._driven:
            self._driven[number].request = None
        for run in self._runs.active:
            if run.record.batch == batch_id:
                run.record.metadata = labels
        return await self.get(batch_id)

    async def delete(self, batch_id: str, *, runs: bool, files: bool) -> Deleted:
        """Delete a batch that has ended, and if wanted its runs and their files."""
        batch = await self._repository.get(batch_id)
        work = await self._repository.work(batch.number)
        if batch.state == "running" or work.active or work.unstarted:
            raise ConflictError(
                f"The batch {batch_id!r} has points that run: cancel it first",
                details={"batch_id": batch_id, "state": batch.state},
            )
        deleted = Deleted()
        if runs or files:
            which = RunFilter(batch=batch_id)
            deleted = await self._runs.deleter.delete(which, files=files)
        await self._repository.delete(batch_id)
        self._changed(batch_id)
        return deleted

    # -- reading -------------------------------------------------------------------------------

    async def get(self, batch_id: str) -> dict[str, Any]:
        """Return everything about a batch but its points."""
        batch = await self._repository.get(batch_id)
        fixed = {name: batch.plan[name] for name in ("axes", "names", "notes")}
        return {**await self._present(batch), **fixed}

    async def page(
        self,
        *,
        limit: int,
        offset: int,
        state: str | None = None,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        structure: str | None = None,
    ) -> dict[str, Any]:
        total, batches = await self._repository.page(
            limit=limit, offset=offset, state=state, key=key, labels=labels, structure=structure
        )
        counts = await self._repository.counts([batch.number for batch in batches])
        shown = [self._shown(batch, counts[batch.number]) for batch in batches]
        return {"batches": shown, "total": total}

    async def points(
        self, batch_id: str, *, limit: int, offset: int, which: PointFilter
    ) -> dict[str, Any]:
        batch = await self._repository.get(batch_id)
        total, found = await self._repository.points(
            batch.number, limit=limit, offset=offset, which=which
        )
        points = [self._point(*each) for each in found]
        return {"points": points, "total": total, "mark": None}

    async def render(
        self, batch_id: str, kind: Kind, *, starred: bool, limit: int | None = None
    ) -> bytes:
        """Return the contact sheet (png, webp, html) or the table (csv, json) of a batch.

        With ``limit``, of its first points only.
        """
        batch = await self._repository.get(batch_id)
        template = await self._repository.template(batch.number)
        found: list[tuple[dict[str, Any], RunRecord | None]] = []
        total = batch.total if limit is None else min(limit, batch.total)
        while len(found) < total:
            size = min(PORTION, total - len(found))
            _, part = await self._repository.points(
                batch.number, limit=size, offset=len(found), which=EVERY
            )
            if not part:
                break
            found += part
        graph = template and template.graph
        if graph is None:
            first = await self._repository.first_graph(batch.number)
            graph = first or b"{}"
        axes = [Axis(tuple(a["names"]), list(map(tuple, a["values"]))) for a in batch.plan["axes"]]
        if starred:
            found, axes = [each for each in found if each[1] and each[1].starred], []
            if not found:
                raise InvalidRequestError.of_field("starred", "no point has a star")
        pictures = [_picture_of(record) for _, record in found]
        points = [
            _shown_point(*each, picture) for each, picture in zip(found, pictures, strict=True)
        ]
        if kind not in ("csv", "json"):
            side = side_of(len(points))
            copies = await asyncio.gather(
                *(
                    self._copy(record, picture, side)
                    for (_, record), picture in zip(found, pictures, strict=True)
                )
            )
            points = [p._replace(picture=c) for p, c in zip(points, copies, strict=True)]
        count = sum(point.status == "success" for point in points)
        title = f"{batch.settings['title'] or 'Batch'}: {count} of {len(points)} points"
        shown = Shown(
            points,
            axes,
            graph,
            None if template is None else template.workflow,
            {} if template is None else template.fields.get("inputs") or {},
            batch.plan["seeds"],
            f"{title}, {batch.state}",
        )
        try:
            machine = self._runs.destination(batch.machine)[0]
        except NotFoundError:  # it was removed
            machine = self._runs.destination(None)[0]
        return await worker.call(render, shown, kind, await machine.definitions())

    async def _copy(
        self, record: RunRecord | None, picture: NodeFile | None, side: int
    ) -> bytes | None:
        """Return a small copy of the picture that stands for a run."""
        if record is None or picture is None:
            return None
        return await self._pictures.small(picture, record.prompt_id, record.machine, side)

    async def ends(self, batch_id: str, after: tuple[int, int], limit: int) -> dict[str, Any]:
        """Return points that have ended, in the order of their ends, after a mark."""
        batch = await self._repository.get(batch_id)
        found = await self._repository.changed(batch.number, after, limit)
        if found:
            after = found[-1][0]["changed"], found[-1][0]["point"]
        points = [self._point(*each) for each in found]
        return {"points": points, "total": batch.total, "mark": "{}-{}".format(*after)}

    async def events(
        self, batch_id: str, after: tuple[int, int], *, pause: float
    ) -> AsyncIterator[tuple[str, str, dict[str, Any]] | None]:
        """Yield id, name and data of what happens to a batch, until it has ended.

        ``point``: a point has ended, also those that ended before, after the id ``after``.
        ``progress``: the counts. ``end``: the last one. None: nothing has happened for ``pause``
        seconds.
        """
        changed = asyncio.Event()
        await self._repository.get(batch_id)
        self._readers[batch_id].add(changed)
        clock = asyncio.get_running_loop().time
        shown, told_at, due = dict[str, Any](), clock(), clock()
        try:
            while True:
                changed.clear()
                batch = await self._repository.get(batch_id)
                while points := await self._repository.changed(
                    batch.number, after, CHANGES_AT_ONCE
                ):
                    for point, record in points:
                        after = point["changed"], point["point"]
                        yield "{}-{}".format(*after), "point", self._point(point, record)
                mark, ended = "{}-{}".format(*after), batch.finished_at is not None
                told = ended or clock() >= due
                if told:
                    present = await self._progress(batch)
                    if ended:
                        yield mark, "end", present
                        return
                    due = clock() + PROGRESS_INTERVAL
                    if present != shown:
                        shown, told_at = present, clock()
                        yield mark, "progress", present
                if clock() - told_at >= pause:
                    told_at = clock()
                    yield None
                await asyncio.sleep(GATHER)
                await wait_until_set(changed, LOOK_INTERVAL if told else max(due - clock(), 0))
        finally:
            self._readers[batch_id].discard(changed)
            if not self._readers[batch_id]:
                del self._readers[batch_id]

    async def _progress(self, batch: Batch) -> dict[str, Any]:
        present = await self._present(batch)
        names = ("batch_id", "state", "why", "total", "counts", "fraction", "finished_at")
        return {name: present[name] for name in (*names, "time_left")}

    async def _present(self, batch: Batch) -> dict[str, Any]:
        counts = (await self._repository.counts([batch.number]))[batch.number]
        machines = [
            {"machine": machine, "points": count, "seconds": round(seconds, 4)}
            for machine, count, seconds in await self._repository.durations(batch.batch_id)
        ]
        left = self._time_left(batch, machines, counts)
        return {**self._shown(batch, counts), "machines": machines, "time_left": left}

    def _time_left(
        self, batch: Batch, machines: list[dict[str, Any]], counts: Mapping[str, int]
    ) -> float | None:
        """Return how long the points that have not ended will take, s; None if it is not known.

        A machine that has not executed any is taken to be as fast as the others.
        """
        left = sum(count for status, count in counts.items() if status not in FINAL)
        if not left or batch.finished_at is not None:
            return 0.0
        if not machines:
            return None
        pool = self._machines.find_pool(batch.machine)
        members = 1 if pool is None else max(len(pool.members), 1)
        at_once = self._limit(self._driven.get(batch.number) or Driven(batch))
        speed = fmean(1 / max(machine["seconds"], MIN_SECONDS) for machine in machines)
        return float(round(left / speed / min(members, at_once, left), 1))

    def _shown(self, batch: Batch, counts: dict[str, int]) -> dict[str, Any]:
        driven = self._driven.get(batch.number)
        ended = sum(counts.get(status, 0) for status in FINAL)
        partly = sum(
            run.live()["progress"]
            for run in (self._runs.active if batch.finished_at is None else ())
            if run.record.batch == batch.batch_id and run.record.status == "running"
        )
        return {
            "batch_id": batch.batch_id,
            "state": batch.state,
            "why": batch.why or (driven.problem if driven is not None else ""),
            "machine": batch.machine,
            "key": batch.key,
            "labels": batch.labels,
            "created_at": batch.created_at,
            "finished_at": batch.finished_at,
            "total": batch.total,
            "counts": {status: counts[status] for status in STATUSES if counts.get(status)},
            "fraction": round(min((ended + partly) / batch.total, 1.0), 4),
            "workflow_id": batch.plan["workflow_id"],
            "version": batch.plan["version"],
            **batch.settings,
        }

    def _point(self, point: dict[str, Any], record: RunRecord | None) -> dict[str, Any]:
        """Return a point as clients get it."""
        found = {name: value for name, value in point.items() if name != "changed"}
        run = None if record is None else self._runs.reply(record, position=False)
        return {**found, "error": _error_of(point, record), "run": run}


def _shown_point(
    point: dict[str, Any], record: RunRecord | None, picture: NodeFile | None
) -> ShownPoint:
    outputs = [] if record is None else [*record.outputs.values()]
    return ShownPoint(
        point["point"],
        point["values"],
        point["status"],
        _error_of(point, record),
        point["prompt_id"] or "",
        None if record is None else record.execution_time,
        [file.filename for output in outputs for file in files_of(output)],
        [text for output in outputs for text in texts_of(output)],
        record is not None and record.starred,
        None if record is None or picture is None else shown_file(picture, record.machine),
    )


def _error_of(point: dict[str, Any], record: RunRecord | None) -> str:
    """Return why a point failed: what was stored with it, else what its run says."""
    error = None if record is None else record.error
    return str(point["error"] or (error or {}).get("message") or "")


def _picture_of(record: RunRecord | None) -> NodeFile | None:
    """Return the picture that stands for a run; a saved one is preferred."""
    if record is None or record.status != "success":
        return None
    files = [file for output in record.outputs.values() for file in files_of(output)]
    shown = [file for file in files if is_picture(file.filename) or is_hdr(file.filename)]
    shown.sort(key=lambda file: (file.type != "output", is_hdr(file.filename)))
    return shown[0] if shown else None


_SOURCES = ("workflow_api", "workflow_api_raw", "workflow")


async def _graph(body: bytes | None) -> Any:
    """Return a stored graph as requests have it: a large one stays text."""
    if body is None:
        return None
    return RawJSON(body) if len(body) > PROCESS_ABOVE else await worker.parse(body)
