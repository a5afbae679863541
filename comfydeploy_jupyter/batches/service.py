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
import pickle
import uuid
from collections import defaultdict, deque
from contextlib import suppress
from functools import partial
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

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
from ..files.pictures import KEPT, picture_of
from ..graphs.outputs import files_of, texts_of
from ..graphs.validation import is_missing
from ..request_models import BatchRequest, PointRun
from ..runs.chains import Reference, take_out
from ..runs.creation import GRAPHS, with_stored_graph
from ..runs.deletion import Deleted
from ..runs.prepare import DEFINITIONS_MAX_AGE
from ..runs.records import FINAL, RunFilter
from ..runs.shown import shown_file
from ..transfers.callbacks import CallbackTarget
from ..util import worker
from ..util.jsons import PROCESS_ABOVE, RawJSON, is_large
from ..util.tasks import BackgroundTasks, wait_until_set
from ..util.times import Backoff, utc_now
from .plan import MANY, count_of, plan, with_seeds, wrong_points
from .records import PLANNED, STATUSES, Batch, Work, not_possible
from .sheet import Shown, ShownPoint, render, side_of_copies
from .sources import Sources, has_ended, sources_of, stand_ins, with_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

    from ..files.pictures import Pictures, RunPicture
    from ..graphs.definitions import NodeDefinitions
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..runs.creation import StoredVersion
    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..runs.service import RunService
    from ..store.session import Session
    from ..transfers.callbacks import Callbacks
    from .plan import MissingFile, Plan
    from .records import BatchFilter, BatchRepository, Point, PointFilter, Template
    from .sheet import Kind
    from .sources import Source

log = logging.getLogger(__name__)

ON_A_MACHINE = 2  # points at a time: while one runs the next one waits, so ComfyUI never idles
OF_A_POOL = 4  # the same for each machine of a pool; two more wait in the queue of the pool
MOMENT = 0.05  # seconds; points that take less do not wait in the queue of a pool: that costs more
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
MAX_SHOWN = 100  # of the runs and batches that one waits for
MIN_SECONDS = 0.001  # of a run, for estimates
# What the requests of its runs have from that of a batch as it is
OF_RUNS = ("node_form", "strict_inputs", "preview_method", "outputs", "cancel_with", "retry")
# Errors that are not the fault of the point: it is tried again.
TRANSIENT = (ComfyUIUnavailableError, RunTimeoutError, StoreUnavailableError, NoSpaceError)


class Part:
    """A part of the order of a batch, for one machine of a pool."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high  # the places of its points
        self.ahead: deque[Point] = deque()  # the next ones, as they were read


class Driven:
    """What is in memory of a batch whose points run here."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.request: PointRun | None = None  # what the requests of all points have in common
        self.creating: dict[str, int] = {}  # keys of the points that are being queued; their places
        self.created: set[str] = set()  # the same, during the last read of points
        self.work = Work(False, {}, set())  # as it was read, and kept since then
        self.news: dict[str, int | None] = {}  # runs that were queued, or ended (None), since then
        self.parts = [Part(0, batch.total)]
        self.seconds: float | None = None  # how long its last points took
        self.failures = 0  # attempts to queue a point since the last success
        self.not_before = 0.0
        self.problem = ""  # why no point can be queued now
        self.may_fail: int | None = None  # points, until it is paused
        self.served = 0  # number of the turn in which it got its last point
        self.interrupted: set[str] = set()  # its runs, after it was cancelled
        # Of a batch whose points are not made yet: the ids of what it waits for
        self.waiting_for: set[str] | None = None
        self.making = False

    @property
    def active(self) -> set[int]:
        """The places of the points that are being queued, are queued or run."""
        return {*self.work.active.values(), *self.creating.values()}

    @property
    def is_unmade(self) -> bool:
        """Whether its points are not made yet."""
        return "waits" in self.batch.plan and self.batch.state != "cancelled"

    @property
    def is_over(self) -> bool:
        if self.is_unmade:
            return False
        return not (self.work.waits or self.work.active or self.work.unstarted or self.creating)

    def read(self, work: Work) -> None:
        """Take over what was read; what has happened during that is newer."""
        self.work = work
        for run_id, place in self.news.items():
            self.note(run_id, place)

    def forget_ahead(self) -> None:
        for part in self.parts:
            part.ahead.clear()

    def note(self, run_id: str, place: int | None) -> None:
        """Note that a run of a point was queued, or has ended."""
        self.news[run_id] = place
        self.work.active.pop(run_id, None)
        self.work.unstarted.discard(run_id)
        if place is not None:
            self.work.active[run_id] = place


class Driver:
    """The machine or pool whose batches are driven by one task."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()  # set when there may be something to do
        self.outdated = True  # whether the store is to be read again
        self.read_at = -math.inf
        self.batches: list[Driven] = []  # that have not ended

    def wake(self, *, outdated: bool = False) -> None:
        self.outdated = self.outdated or outdated
        self.changed.set()


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
        stored_version: StoredVersion,
    ) -> None:
        self._repository = repository
        self._runs = runs
        self._machines = machines
        self._session = session
        self._callbacks = callbacks
        self._pictures = pictures
        self._stored_version = stored_version
        self._driven: dict[str, Driven] = {}  # by the ids of batches
        self._wake = asyncio.Event()  # set when there may be a batch on another machine
        self._drivers: dict[str, Driver] = {}  # by the ids of machines and pools
        self._turn = 0
        self._readers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._sources = Sources(repository, runs.chains)
        self._tasks = BackgroundTasks(log)
        # For sheets and tables, so that large ones leave a worker process to all other work
        self._drawing = asyncio.Lock()

    async def open(self) -> None:
        self._runs.active.follow(self._run_ended, "status")
        self._runs.deleter.needed = self._repository.needed
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
            for name in (*GRAPHS, "workflow_id", "inputs", "points"):
                if getattr(request, name) is not None:
                    text = "must not be given together with prompts: each is a whole graph"
                    raise InvalidRequestError.of_field(name, text)
        elif request.workflow_id is not None:
            request, version = await with_stored_graph(request, self._stored_version)
        machine, pool = self._runs.destination(request.machine)
        request, sources = await self._checked_sources(request)
        made = await self._plan(request, machine, checked=request.prompts is None or pool is None)
        if made.files and pool is None:  # a member of a pool gets them from wherever they are
            _check_files(made.files, (await machine.definitions(max_age=0)).nodes)
        await self._check_outputs(made, without=sources)
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
        fields = {
            **source,
            **{name: getattr(request, name) for name in OF_RUNS},
            "machine": row["machine"],
            "inputs": made.inputs,
            "seed_mode": request.seed_mode or (None if request.node_form else "saved"),
            "metadata": request.labels,
        }
        take_over = request.key is not None and not request.fresh
        plan_row = {**source, **{name: getattr(made, name) for name in PLANNED}}
        if sources:  # the points are made when these have ended, see `_make_points`
            given = {name: [s.value for s in each] for name, each in sources.items()}
            fields["inputs"] = with_values(request.inputs or {}, given)
            ids = dict.fromkeys(s.id for each in sources.values() for s in each if s.of)
            waits = {"for": [*ids][:MAX_SHOWN], "kinds": made.kinds, "take_over": take_over}
            plan_row["waits"] = waits
            made, row["total"] = made._replace(points=b"[]", axes=b"[]", total=0), 0
        row["settings"] = json.dumps(settings)
        row["plan"] = json.dumps(plan_row)
        row["request"] = json.dumps(fields)
        runs = _runs_of_points(request.runs or {}, made.total)
        taken = await self._repository.add(row, made, take_over=take_over, runs=runs)
        self._changed()
        found = {"batch_id": row["batch_id"], "total": made.total, "taken_over": taken}
        return {"success": True, **found, "notes": made.notes}

    async def _checked_sources(
        self, request: BatchRequest
    ) -> tuple[BatchRequest, dict[str, list[Source]]]:
        """Return a request with values in the place of its sources, and those that are runs."""
        sources = sources_of(request.inputs)
        if not sources:
            return request, {}
        for name, each in sources.items():
            if any(s.of == "batch" and s.id == request.batch_id for s in each):
                text = "a batch cannot use its own outputs"
                raise InvalidRequestError.of_field(f"inputs.{name}", text)
        await self._sources.check(sources)
        inputs = with_values(request.inputs or {}, stand_ins(sources))
        waited = {name: each for name, each in sources.items() if any(s.of for s in each)}
        if waited and request.runs:
            text = "must not be given with $each: which points there are is not known yet"
            raise InvalidRequestError.of_field("runs", text)
        return request.model_copy(update={"inputs": inputs}), waited

    async def _check_outputs(self, made: Plan, *, without: Collection[str]) -> None:
        """Raise if an output among the values of a new batch certainly cannot be used."""
        numbers, references = list[int | None](), list[Reference]()
        for number, name, value in made.outputs:
            if name not in without:  # those are stand-ins
                found = take_out({name: value}, None)[1]
                references += found
                numbers += [number] * len(found)
        good = 0
        try:
            async for _ in self._runs.chains.check(references):
                good += 1
        except ComfyDeployError as error:
            if numbers[good] is not None:
                error.say(f"point {numbers[good]}: {error.message}")
            raise

    async def _plan(
        self, request: BatchRequest, machine: Machine, *, checked: bool, find_outputs: bool = True
    ) -> Plan:
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
            found: Plan = await call(plan, asked, definitions if checked else None, find_outputs)
        except InvalidRequestError:
            fresh = await machine.definitions(max_age=DEFINITIONS_MAX_AGE)
            if fresh is definitions:
                raise
            found = await call(plan, asked, fresh if checked else None, find_outputs)
        return found

    # -- running -------------------------------------------------------------------------------

    def _run_ended(self, run: Run, _: RunEvent) -> None:
        """Go on when a run has ended, whichever it is: it made room."""
        record, seconds = run.record, run.record.execution_time
        driven = None if record.batch is None else self._driven.get(record.batch)
        if driven is not None:
            self._notify(driven.batch.batch_id)
            driven.note(record.prompt_id, None)
            if seconds is not None:
                old = seconds if driven.seconds is None else driven.seconds
                driven.seconds = old + (seconds - old) * RECENT
            if record.status != "success":  # its point may wait again
                self._look_again(driven)
        for place in (record.machine, record.pool):
            self._wake_place(place)
        self._wake_those_that_wait(record.prompt_id, cancelled=record.status == "cancelled")

    async def _run(self) -> None:
        """Drive each machine and pool with open batches by a task of its own: one may be slow."""
        while True:
            for batch in await self._repository.open(self._session.id):
                if batch.machine not in self._drivers:
                    self._drivers[batch.machine] = Driver()
                    drive = partial(self._drive, batch.machine)
                    self._tasks.keep(drive, f"Running the batches on {batch.machine}")
            await self._wake.wait()
            self._wake.clear()

    async def _drive(self, place: str) -> None:
        driver = self._drivers[place]
        driver.outdated = True
        while True:
            driver.changed.clear()
            now = asyncio.get_running_loop().time()
            read = driver.outdated or now - driver.read_at >= LOOK_INTERVAL
            if read:
                driver.outdated, driver.read_at = False, now
                await self._read(driver, place)
                if not driver.batches and not driver.outdated:
                    del self._drivers[place]  # a batch that comes from now on wakes `_run`
                    return
            await self._serve(driver, place)
            if any(driven.is_over for driven in driver.batches):
                driver.outdated = True
                if not read:
                    continue
                await wait_until_set(driver.changed, GATHER)  # its last end is not stored yet
            else:
                await wait_until_set(driver.changed, LOOK_INTERVAL)

    def _changed(self, batch_id: str | None = None) -> None:
        """Look at all open batches again, after a change of one."""
        self._wake.set()
        for driver in self._drivers.values():
            driver.wake(outdated=True)
        if batch_id is not None:
            self._notify(batch_id)

    async def _read(self, driver: Driver, place: str) -> None:
        """Read what there is to do for the batches of a machine or pool; end those without work."""
        found: list[Driven] = []
        for batch in await self._repository.open(self._session.id, place):
            driven = self._driven.setdefault(batch.batch_id, Driven(batch))
            driven.batch = batch
            if driven.is_unmade:
                found.append(driven)
                if not driven.making and asyncio.get_running_loop().time() >= driven.not_before:
                    driven.making = True
                    self._tasks.start(
                        self._make_points(driven),
                        "Making the points of a batch",
                        when_done=partial(self._made, driven),
                    )
                continue
            try:
                ended = await self._refresh(driven)
            except TRANSIENT as error:  # such as a full disk; the others go on
                self._try_later(driven, error)
                ended = False
            if not ended:
                found.append(driven)
        driver.batches = found

    async def _refresh(self, driven: Driven) -> bool:
        """Read what there is to do for a batch; return whether it has ended."""
        batch = driven.batch
        driven.news.clear()
        work = await self._repository.work(batch.number)
        unstored = {run_id: text for run_id in work.active if (text := self._runs.unstored(run_id))}
        driven.problem = next(iter(unstored.values()), driven.problem if driven.failures else "")
        for run_id in unstored if work.waits else ():
            del work.active[run_id]  # it has made room
        driven.read(work)
        if driven.is_over and await self._end(driven):
            return True
        if batch.state == "cancelled":
            await self._interrupt(driven)
        elif batch.settings["stop_after"]:
            driven.may_fail = await self._repository.stop(batch.number)
            if driven.may_fail <= 0 and batch.state == "running":
                batch.state = "paused"
                self._notify(batch.batch_id)
        if batch.state != "running":
            driven.forget_ahead()
        return False

    async def _serve(self, driver: Driver, place: str) -> None:
        """Queue points of batches on a machine or pool: in turns, and after single runs."""
        now = asyncio.get_running_loop().time()
        ready = [
            driven
            for driven in driver.batches
            if driven.batch.state == "running"
            and driven.work.waits
            and len(driven.work.unstarted) < MAX_UNSTARTED
            and now >= driven.not_before
        ]
        room = max(map(self._limit, ready), default=0)
        active = {driven.batch.number: driven.active for driven in driver.batches}
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
            try:
                point = await self.next_point(driven, active[driven.batch.number])
            except Exception as error:  # the others go on
                log.exception("The next point of batch %s", driven.batch.batch_id)
                self._try_later(driven, error)
                point = None
            if point is None:
                driven.work = driven.work._replace(waits=bool(driven.creating))
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
        pool = self._machines.find_pool(driven.batch.machine)
        members = 1 if pool is None else max(len(pool.members), 1)
        if at_once == "auto" and members > 1:
            quick = driven.seconds is not None and driven.seconds < MOMENT
            at_once = members * (ON_A_MACHINE if quick else OF_A_POOL)
        elif at_once == "auto":
            seconds = QUEUED_FOR if driven.seconds is None else driven.seconds
            queued = math.ceil(QUEUED_FOR / max(seconds, MIN_SECONDS))
            at_once = min(max(queued, ON_A_MACHINE), QUICK)
        # No more points fail than may, but for those that run on other machines of a pool.
        most = math.inf if driven.may_fail is None else max(driven.may_fail, members)
        return int(min(at_once, most))

    async def next_point(self, driven: Driven, active: Collection[int]) -> Point | None:
        """Return the next point of a batch; None if none waits.

        For a pool, its order is divided into a part for each machine: the part with the fewest
        points at work is next. One that has no more points gets the last half of the longest one.
        """
        batch, parts = driven.batch, driven.parts
        pool = self._machines.find_pool(batch.machine)
        count = len(pool.members) if pool is not None and batch.plan["shared"] else 1
        parts += [Part(batch.total, batch.total) for _ in range(count - len(parts))]
        at_work = [sum(part.low <= at < part.high for at in active) for part in parts]
        for index in sorted(range(len(parts)), key=at_work.__getitem__):
            for _ in range(2):
                ahead = parts[index].ahead or await self._read_ahead(driven, parts[index])
                while ahead:
                    point = ahead.popleft()
                    if point.key not in driven.creating:
                        return point
                if not await self._divide(driven, index):
                    break
        return None

    async def _read_ahead(self, driven: Driven, part: Part) -> deque[Point]:
        """Read the next points of a part, without those that are being queued."""
        driven.created.clear()
        found = await self._repository.waiting(
            driven.batch.number, part.low, part.high, {*driven.creating}
        )
        part.ahead.extend(point for point in found if point.key not in driven.created)
        return part.ahead

    async def _divide(self, driven: Driven, index: int) -> bool:
        """Give a part without points the last half of the longest other one."""
        number, parts = driven.batch.number, driven.parts
        if len(parts) == 1:
            return False
        left = [await self._repository.left(number, part.low, part.high) for part in parts]
        longest = max(range(len(parts)), key=left.__getitem__)
        whole = parts[longest]
        at = await self._repository.cut(number, whole.low, whole.high)
        if longest == index or at is None:
            return False
        parts[index] = Part(at, whole.high)
        whole.high = at
        whole.ahead = deque(point for point in whole.ahead if point.place < at)
        return True

    async def _queue(self, driven: Driven, point: Point) -> None:
        failures = driven.failures
        try:
            request = await self._request(driven, point)
            if request is not None:
                run = await self._runs.queue(request, streamed=True)
                if run.record.waiting_for is not None:
                    driven.work.unstarted.add(run.prompt_id)
                elif not run.record.finished:
                    driven.note(run.prompt_id, point.place)
        except (PromptInvalidError, TooLargeError):
            log.debug("Point %d is refused: its run is stored as failed", point.position)
        except Exception as error:
            details = error.details if isinstance(error, ComfyDeployError) else {}
            if isinstance(error, ConflictError) and details.get("field") == "prompt_id":
                self._look_again(driven)  # the point does not wait any more
                return
            if isinstance(error, TRANSIENT) or _names_no_machine(error):
                self._try_later(driven, error)
                return
            if not isinstance(error, ComfyDeployError):
                log.exception("Point %d of batch %s", point.position, driven.batch.batch_id)
            asked = driven.request is not None and driven.request.cancel_with
            status = "cancelled" if asked and details.get("status") == "cancelled" else "failed"
            try:
                await self._repository.fail(driven.batch.number, point.key, str(error), status)
            except TRANSIENT as problem:
                self._try_later(driven, problem)
                return
        if driven.failures == failures:  # else one that was queued beside it has failed meanwhile
            driven.failures, driven.problem = 0, ""

    def _try_later(self, driven: Driven, problem: Exception) -> None:
        """Queue no points of a batch for a while: it is not their fault that one was not queued."""
        driven.forget_ahead()
        driven.problem = str(problem)
        now = asyncio.get_running_loop().time()
        if now >= driven.not_before:  # else another one has failed for the same reason
            driven.failures += 1
            driven.not_before = now + AGAIN.pause(driven.failures)

    def _queued(self, driven: Driven, point: Point) -> None:
        driven.creating.pop(point.key, None)
        driven.created.add(point.key)
        self._wake_place(driven.batch.machine)
        self._notify(driven.batch.batch_id)

    def _look_again(self, driven: Driven) -> None:
        """Read the points of a batch from the store again: they are not what they were."""
        driven.forget_ahead()
        self._wake_place(driven.batch.machine, outdated=True)

    async def _make_points(self, driven: Driven) -> None:
        """Make the points of a batch whose values are outputs of runs and batches that have ended.

        A run that has failed is a point, too, which fails with its cause.
        """
        batch = driven.batch
        try:
            template = await self._repository.template(batch.number)
            if template is None:
                return
            sources = sources_of(template.fields["inputs"])
            if not sources:
                return  # they are made already
            known = {(s.of, s.id): s for each in sources.values() for s in each if s.of}
            left = [s for s in known.values() if s.id in (driven.waiting_for or {s.id})]
            states = await self._sources.states(left)
            driven.waiting_for = {id_ for (_, id_), state in states.items() if not has_ended(state)}
            for (of, id_), state in states.items():
                if state == "cancelled" and template.fields["cancel_with"]:
                    raise ConflictError(f"the {of} {id_!r} was cancelled")
            if driven.waiting_for:
                return
            fields = await self._fields(template)
            kinds = batch.plan["waits"]["kinds"]
            values = {
                name: await self._sources.values(name, each, kinds.get(name, ""))
                for name, each in sources.items()
            }
            fields["inputs"] = with_values(template.fields["inputs"], values)
            request = BatchRequest.model_construct(**fields, order=batch.settings["order"])
            machine = self._runs.destination(batch.machine)[0]
            made = await self._plan(request, machine, checked=True, find_outputs=False)
            await self._repository.put_points(batch.number, made)
            driven.parts, driven.waiting_for = [Part(0, made.total)], None
        except Exception as error:
            if isinstance(error, TRANSIENT) or _names_no_machine(error):
                self._try_later(driven, error)
                return
            if not isinstance(error, ComfyDeployError):
                log.exception("The points of batch %s", batch.batch_id)
            await self._repository.cancel(batch.batch_id, f"Its points cannot be made: {error}")
        self._notify(batch.batch_id)

    def _made(self, driven: Driven) -> None:
        driven.making = False
        if not driven.waiting_for:
            self._wake_place(driven.batch.machine, outdated=True)

    def _wake_those_that_wait(self, ended: str, *, cancelled: bool) -> None:
        """Look at the batches whose points are outputs of a run or batch, which was the last."""
        for driven in self._driven.values():
            if driven.waiting_for and ended in driven.waiting_for:
                if not cancelled:
                    driven.waiting_for.discard(ended)
                if cancelled or not driven.waiting_for:
                    self._wake_place(driven.batch.machine, outdated=True)

    def _wake_place(self, place: str | None, *, outdated: bool = False) -> None:
        if place in self._drivers:
            self._drivers[place].wake(outdated=outdated)

    async def _fields(self, template: Template) -> dict[str, Any]:
        fields = dict(template.fields)
        graph = "workflow_api_raw" if fields.pop("node_form") else "workflow_api"
        fields[graph] = await _graph(template.graph)
        fields["workflow"] = await _graph(template.workflow)
        return fields

    async def _request(self, driven: Driven, point: Point) -> PointRun | None:
        """Return the request of a point's run; None if the batch was deleted meanwhile."""
        batch = driven.batch
        if driven.request is None:
            template = await self._repository.template(batch.number)
            if template is None:
                return None
            fields = await self._fields(template)
            driven.request = PointRun(batch=batch.batch_id).model_copy(update=fields)
        inputs = {**(driven.request.inputs or {}), **point.inputs}
        changes = {"point": point.position, "inputs": with_seeds(inputs, batch.plan["seeds"])}
        if point.has_graph:
            own = await self._repository.graph(batch.number, point.position)
            changes |= {"workflow_api": await _graph(own), "inputs": None}
        return driven.request.model_copy(update=changes)

    async def _end(self, driven: Driven) -> bool:
        """Record the end of a batch, unless the store has a point that has not ended."""
        batch = driven.batch
        if not await self._repository.finish(batch.number):
            return False
        log.info("Batch %s has ended", batch.batch_id)
        self._driven.pop(batch.batch_id, None)
        self._notify(batch.batch_id)
        self._wake_those_that_wait(batch.batch_id, cancelled=batch.state == "cancelled")
        if batch.settings["webhook"]:
            await self._tell(batch)
        return True

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

        runs = {*driven.work.active, *driven.work.unstarted} - driven.interrupted
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
        """Go on with the points that wait, or were cancelled."""
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
        await self._repository.relabel(batch_id, labels)
        if batch_id in self._driven:
            self._driven[batch_id].request = None
        await self._runs.reread_points(batch_id)
        self._runs.active.edited()
        return await self.get(batch_id)

    async def delete(self, batch_id: str, *, runs: bool, files: bool) -> Deleted:
        """Delete a batch that has ended, and if wanted its runs and their files.

        Runs that other batches have taken over belong to these from now on.
        """
        batch = await self._repository.get(batch_id)
        work = await self._repository.work(batch.number)
        if batch.state == "running" or work.active or work.unstarted:
            raise not_possible(batch_id, batch.state, "has points that run: cancel it first")
        deleted = Deleted()
        await self._repository.give_away(batch)
        if runs or files:
            which = RunFilter(batch=batch_id)
            deleted = await self._runs.deleter.delete(which, files=files)
        await self._repository.delete(batch_id)
        await self._runs.reread_points(batch_id)
        self._runs.active.edited()
        self._changed(batch_id)
        return deleted

    # -- reading -------------------------------------------------------------------------------

    async def get(self, batch_id: str, *, axes: bool = True) -> dict[str, Any]:
        """Return everything about a batch but its points."""
        batch = await self._repository.get(batch_id)
        fixed = {name: batch.plan[name] for name in ("names", "notes")}
        found: Any = await self._repository.axes(batch.number) if axes else []
        return {**await self._present(batch), **fixed, "axes": found}

    async def page(self, *, limit: int, offset: int, which: BatchFilter) -> dict[str, Any]:
        total, batches = await self._repository.page(limit=limit, offset=offset, which=which)
        return {"batches": await self._all_shown(batches), "total": total}

    async def with_numbers(self, numbers: Collection[int]) -> list[dict[str, Any]]:
        """Return the batches with these keys of the store, newest first."""
        return await self._all_shown(await self._repository.with_numbers(numbers))

    async def unfinished(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest batches that have not ended."""
        return await self._all_shown(await self._repository.unfinished(limit))

    async def ended_after(self, moment: str, limit: int) -> list[dict[str, Any]]:
        """Return the first batches that ended at a time or later, in the order of their ends."""
        return await self._all_shown(await self._repository.ended_after(moment, limit))

    async def _all_shown(self, batches: list[Batch]) -> list[dict[str, Any]]:
        counts = await self._repository.counts([batch.number for batch in batches])
        return [self._shown(batch, counts[batch.number]) for batch in batches]

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
        total = batch.total if limit is None else min(limit, batch.total)
        portions = [
            await self._repository.each_from(
                batch.number, start, min(PORTION, total - start), partial(_portion, starred)
            )
            for start in range(0, total, PORTION)
        ]
        count = sum(portion.size for portion in portions)
        graph = template and template.graph
        if graph is None:
            graph = await self._repository.graph(batch.number, 0) or b"{}"
        if starred and not count:
            raise InvalidRequestError.of_field("starred", "no point has a star")
        copies: list[bytes | None] = []
        if kind not in ("csv", "json"):
            lengths = [] if starred else await self._repository.lengths(batch.number)
            side = side_of_copies(count, lengths)
            for portion in portions:
                pictures = pickle.loads(portion.pictures)  # noqa: S301 - ours
                async with self._drawing:
                    copies += await self._pictures.small(pictures, side, keep=count <= KEPT)
        successful = sum(portion.successful for portion in portions)
        title = f"{batch.settings['title'] or 'Batch'}: {successful} of {count} points"
        shown = Shown(
            [portion.points for portion in portions],
            copies,
            RawJSON(b"[]") if starred else await self._repository.axes(batch.number),
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
        definitions = await machine.definitions()
        async with self._drawing:
            return await worker.call(render, shown, kind, definitions)

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
                running = batch.state == "running"
                interval = PROGRESS_INTERVAL if running else LOOK_INTERVAL
                await wait_until_set(changed, interval if told else max(due - clock(), 0))
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
        if "waits" in batch.plan and batch.finished_at is None:
            return None
        if not left or batch.finished_at is not None:
            return 0.0
        if not machines:
            return None
        pool = self._machines.find_pool(batch.machine)
        members = 1 if pool is None else max(len(pool.members), 1)
        at_once = self._limit(self._driven.get(batch.batch_id) or Driven(batch))
        speed = fmean(1 / max(machine["seconds"], MIN_SECONDS) for machine in machines)
        return float(round(left / speed / min(members, at_once, left), 1))

    def _shown(self, batch: Batch, counts: dict[str, int]) -> dict[str, Any]:
        driven, done = self._driven.get(batch.batch_id), float(batch.finished_at is not None)
        ended = sum(counts.get(status, 0) for status in FINAL)
        partly = sum(
            run.live()["progress"]
            for run in (self._runs.active if batch.finished_at is None else ())
            if run.record.batch == batch.batch_id and run.record.status == "running"
        )
        waiting_for: list[str] = []
        if "waits" in batch.plan and batch.finished_at is None:
            left = None if driven is None else driven.waiting_for
            waiting_for = sorted(left)[:MAX_SHOWN] if left else batch.plan["waits"]["for"]
        why = batch.why
        if not why and batch.state != "paused":  # else nobody but who asked for it holds it up
            why = "" if driven is None else driven.problem
            if waiting_for and not why:
                why = f"Waiting for outputs of {', '.join(waiting_for[:3])}"
                why += f" and {len(waiting_for) - 3} more" * (len(waiting_for) > 3)
        return {
            "batch_id": batch.batch_id,
            "state": batch.state,
            "why": why,
            "waiting_for": waiting_for,
            "machine": batch.machine,
            "key": batch.key,
            "labels": batch.labels,
            "created_at": batch.created_at,
            "finished_at": batch.finished_at,
            "total": batch.total,
            "counts": {status: counts[status] for status in STATUSES if counts.get(status)},
            "fraction": round(min((ended + partly) / batch.total, 1.0), 4) if batch.total else done,
            "workflow_id": batch.plan["workflow_id"],
            "version": batch.plan["version"],
            **batch.settings,
        }

    def _point(self, point: dict[str, Any], record: RunRecord | None) -> dict[str, Any]:
        """Return a point as clients get it."""
        found = {name: value for name, value in point.items() if name != "changed"}
        run = None if record is None else self._runs.reply(record, position=False)
        return {**found, "error": _error_of(point, record), "run": run}


class Portion(NamedTuple):
    """Some points of a sheet or a table, as bytes: a few objects for Python's garbage collector."""

    size: int
    successful: int
    points: bytes  # each pickled, one after the other
    pictures: bytes  # a pickled list


def _portion(starred: bool, points: Iterator[tuple[dict[str, Any], RunRecord | None]]) -> Portion:
    """Return some points as sheets and tables show them, all or those with a star."""
    packed, pictures, successful = list[bytes](), [], 0
    for each in points:
        shown, picture = _shown_point(*each)
        if shown.starred or not starred:
            packed.append(pickle.dumps(shown))
            pictures.append(picture)
            successful += shown.status == "success"
    return Portion(len(packed), successful, b"".join(packed), pickle.dumps(pictures))


def _shown_point(
    point: dict[str, Any], record: RunRecord | None
) -> tuple[ShownPoint, RunPicture | None]:
    """Return a point as sheets and tables show it, and its picture."""
    outputs = [] if record is None else [*record.outputs.values()]
    picture = None if record is None else picture_of(record)
    shown = ShownPoint(
        point["point"],
        point["values"],
        point["status"],
        _error_of(point, record),
        point["prompt_id"] or "",
        None if record is None else record.execution_time,
        [file.filename for output in outputs for file in files_of(output)],
        [text for output in outputs for text in texts_of(output)],
        record is not None and record.starred,
        None if picture is None else shown_file(picture.file, picture.machine),
        ended=point["status"] in FINAL,
    )
    return shown, picture


def _error_of(point: dict[str, Any], record: RunRecord | None) -> str:
    """Return why a point failed: what was stored with it, else what its run says."""
    error = None if record is None else record.error
    return str(point["error"] or (error or {}).get("message") or "")


def _names_no_machine(error: Exception) -> bool:
    """Return whether the machine of a batch is not there now."""
    found = isinstance(error, NotFoundError) and error.details.get("field") == "machine"
    return bool(found)


def _check_files(files: Sequence[MissingFile], known: NodeDefinitions) -> None:
    """Raise if files of a new batch are not in the input folder."""
    wrong = []
    for name, value, numbers in files:
        if is_missing(value, known):
            field, problem = f"inputs.{name}", f"{value} is not in the input folder of this ComfyUI"
            if not numbers:
                raise InvalidRequestError.of_field(field, problem)
            told = {"field": field, "problem": f"{field}: {problem}"}
            wrong += [{"point": number, **told} for number in numbers]
    if wrong:
        raise wrong_points(wrong, len(wrong))


def _runs_of_points(runs: Mapping[str, str], total: int) -> dict[str, str]:
    """Return runs by the numbers of their points; raise if there is no such point."""
    known = {str(number) for number in range(total)} if runs else set()
    if unknown := runs.keys() - known:
        numbers = f"they are numbered from 0 to {total - 1}"
        text = f"there is no point {min(unknown)!r}: {numbers}"
        raise InvalidRequestError.of_field("runs", text)
    return dict(runs)


async def _graph(body: bytes | None) -> Any:
    """Return a stored graph as requests have it: a large one stays text."""
    if body is None:
        return None
    return RawJSON(body) if len(body) > PROCESS_ABOVE else await worker.parse(body)
