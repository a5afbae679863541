"""Runs from the request to their true end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..comfyui.events import Preview, Unread
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    RunTimeoutError,
    TooLargeError,
)
from ..machines.registry import AUTO
from ..net.fetch_policy import ALLOWED, FetchPolicy
from ..store.runs import RunRecord
from ..timestamps import utc_now
from .background import Background
from .ending import Endings
from .outputs import reply, with_urls
from .past import Past
from .prepare import prepare, read_stored
from .reconcile import ASK_WITHIN, Reconciler
from .run import Run, is_leave_taking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.events import Event
    from ..graphs.workload import Workload
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..schemas import RunRequest
    from ..store.runs import RunRepository
    from ..store.session import Session
    from .delivery import Delivery
    from .log import RunEvent
    from .prepare import Prepared

T = TypeVar("T")

log = logging.getLogger(__name__)

IDS_OF_A_SERVER = 1_000_000_000_000  # more events than a server can tell of one run
# Finished runs whose events stay in memory for late readers, and the bytes that these may have.
KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024
BEGIN_WITHIN = 1.0  # seconds until there is a run, wherever ComfyUI is ready
MANY_NODES = 2_000  # of a graph that is looked at in a thread
SAVE_WITHIN = 0.01  # seconds until a state is stored that only events have told
# Events that do not name their prompt: ComfyUI sends them for the one that runs.
NAMELESS = ("progress_text", "executing")


class RunManager:
    """Queues prompts, follows them to their end and tells everybody who listens.

    A run is in the store before ComfyUI hears of it, and its end is in the store before anybody is
    told. The end itself comes from ComfyUI's ``execution_success`` or from its history.

    Parameters
    ----------
    repository : RunRepository
        The records.
    machines : MachineRegistry
        Where runs can go.
    session : Session
        The identity of this server towards ComfyUI.
    delivery : Delivery
        Uploads the outputs of runs and reports their state.
    stored_version : callable
        Returns a version of a stored workflow, by its id and number (None: the latest).
    view_url : str
        Address of the ``view`` route, for the outputs' URLs.
    comfy_api_key : callable
        Returns the key of a Comfy account for runs that bring none of their own.
    fetching : FetchPolicy
        Whether input files may be fetched from elsewhere.
    lost_after : float
        Seconds without ComfyUI after which a run that it was executing is given up.
    gone_after : float
        The same for runs that wait for it, and where it may be there but does not answer.
    """

    def __init__(
        self,
        repository: RunRepository,
        machines: MachineRegistry,
        session: Session,
        delivery: Delivery,
        *,
        stored_version: Callable[[str, int | None], Awaitable[dict[str, Any]]],
        view_url: str,
        comfy_api_key: Callable[[], str | None] = lambda: None,
        fetching: FetchPolicy = ALLOWED,
        lost_after: float = 30.0,
        gone_after: float = 600.0,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._session = session
        self._stored_version = stored_version
        self._delivery = delivery
        self._view_url = view_url
        self._comfy_api_key = comfy_api_key
        self._fetching = fetching
        self._runs: dict[str, Run] = {}
        self._by_comfyui_id: dict[str, Run] = {}
        self._recent: OrderedDict[str, Run] = OrderedDict()
        self._recent_bytes = 0
        self._unsaved: dict[str, Run] = {}  # their states will be stored in a moment
        self._saving_soon: asyncio.TimerHandle | None = None
        self._followers: set[Callable[[Run, RunEvent], None]] = {delivery.see}
        self._background = Background()
        self._past = Past(repository)
        self._endings = Endings(repository, delivery, self._background, self._retire)
        self._reconciler = Reconciler(
            machines,
            repository,
            session,
            self._endings,
            self._background,
            runs_of=self._of,
            queue_anew=self._queue_anew,
            lost_after=lost_after,
            gone_after=gone_after,
        )
        # What comes before there is a run, by the id that was asked for.
        self._beginning: dict[str, tuple[asyncio.Future[Any], Machine]] = {}
        self._on_their_way: Counter[str] = Counter()  # runs by the machine chosen for them
        self._submitting = 0  # runs that are being queued
        machines.open_runs = self.count_on

    async def open(self) -> None:
        """Take over the runs that did not end before the last stop, and watch all runs."""
        await self.take_over(self._session.claimed)
        self._background.start(self._reconciler.watch())

    async def take_over(self, sessions: Collection[str]) -> None:
        """Follow the runs of dead servers from now on."""
        for record in await self._repository.active():
            if record.session in sessions and record.prompt_id not in self._runs:
                await self._adopt(record)
        for machine in self._machines:
            if self._of(machine):
                machine.open()

    async def close(self) -> None:
        """Stop following; runs that execute go on and are found again at the next start."""
        if self._saving_soon is not None:
            self._saving_soon.cancel()
        for run in self._unsaved.values():
            if not run.ending:
                with suppress(ComfyDeployError):
                    await self._repository.save(replace(run.record))
        await self._background.close()
        for run in self._runs.values():
            run.look_away()

    # -- what handlers ask for ---------------------------------------------------------------

    async def submit(
        self,
        request: RunRequest,
        *,
        small: bool = False,
        told_at_end: bool = False,
        arrived: float | None = None,
    ) -> Run:
        """Queue a run.

        Parameters
        ----------
        request : RunRequest
            What to run.
        small : bool
            Whether the request is so small that it can be prepared on the event loop.
        told_at_end : bool
            Whether nobody is told that it is queued before it has ended: that ComfyUI has it need
            not be in the store at once then.
        arrived : float, optional
            Moment of the event loop's clock from which the request's ``timeout`` counts; by
            default now.

        Returns
        -------
        Run
            Accepted by ComfyUI.

        Raises
        ------
        InvalidRequestError, UnknownInputError, NotFoundError
            If the request is wrong; nothing has happened then.
        ConflictError
            If its ``prompt_id`` is taken, or it was cancelled before there was a run.
        PromptInvalidError, TooLargeError
            If ComfyUI refuses the graph, or its size; the run is kept as failed.
        ComfyUIUnavailableError
            If ComfyUI cannot be reached.
        RunTimeoutError
            If it is not queued within the request's ``timeout``. With a ``prompt_id`` ComfyUI has
            been asked, and what it does will be known. Without one nothing has happened; for
            `BEGIN_WITHIN` seconds at least that is not given up.
        """
        self._submitting += 1
        try:
            return await self._submit(request, small, told_at_end, arrived)
        finally:
            self._submitting -= 1

    async def _submit(
        self, request: RunRequest, small: bool, told_at_end: bool, arrived: float | None
    ) -> Run:
        machine = self._machines.get(request.machine)
        until = latest = None
        if request.timeout is not None:
            begun = asyncio.get_running_loop().time() if arrived is None else arrived
            until, latest = begun + request.timeout, begun + max(request.timeout, BEGIN_WITHIN)
        beginning = self._begin(request, machine, small=small)
        if request.prompt_id is not None or latest is not None:
            beginning = self._begin_by(latest, request.prompt_id, machine, beginning)
        if request.machine == AUTO:
            # Others who are looking for a machine now must know of this run.
            self._on_their_way[machine.id] += 1
            try:
                run, client, prepared = await beginning
            finally:
                self._on_their_way[machine.id] -= 1
        else:
            run, client, prepared = await beginning
        handing = self._hand_over(request, run, client, prepared, told_at_end=told_at_end)
        if until is None:
            await handing
        else:
            await self._hand_over_by(until, handing, run)
        return run

    async def _hand_over(
        self,
        request: RunRequest,
        run: Run,
        client: ComfyUIClient,
        prepared: Prepared,
        *,
        told_at_end: bool,
    ) -> None:
        """Store a new run and have ComfyUI queue it."""
        adding = self._repository.add(run.record, prepared.prompt, prepared.workflow)
        if self._delivery.is_wanted(request):
            await self._added(run, adding)
            await self._begin_delivery(request, run)
        try:
            await self._post(
                run,
                client,
                prepared.prompt,
                prepared.workflow,
                keep=not told_at_end,
                after=adding,
            )
        except (PromptInvalidError, TooLargeError) as fault:
            await self._added(run, adding)
            await self._refused(run, fault)
            raise
        except ComfyUIUnavailableError as fault:
            await self._added(run, adding)
            await self._unanswered(run, client, fault)

    async def _hand_over_by(
        self, until: float, handing: Coroutine[Any, Any, None], run: Run
    ) -> None:
        """Wait for a run to be queued until a moment; after that it goes on by itself."""
        task = self._background.start(_outcome(handing), run)
        if not await _done_by(until, task):
            if self._runs.get(run.prompt_id) is run:
                run.promised = True
                raise RunTimeoutError(
                    "ComfyUI has not answered in time whether it takes the run",
                    extra={"prompt_id": run.prompt_id},
                )
            await asyncio.wait({task})  # how it ended is only being stored
        _told(task)

    async def _begin_by(
        self,
        latest: float | None,
        prompt_id: str | None,
        machine: Machine,
        work: Coroutine[Any, Any, T],
    ) -> T:
        """Do what comes before a run exists; it can be cancelled by its id, and ends in time."""
        task = asyncio.ensure_future(work)
        known = (task, machine)
        if prompt_id is not None:
            self._beginning.setdefault(prompt_id, known)
        try:
            in_time = await _done_by(latest, task)
        finally:
            if prompt_id is not None and self._beginning.get(prompt_id) is known:
                del self._beginning[prompt_id]
        if not in_time:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            return task.result()
        if in_time:
            raise ConflictError(
                f"The run {prompt_id!r} was cancelled before it was queued",
                details={"prompt_id": prompt_id, "status": "cancelled"},
            )
        raise RunTimeoutError(
            "The run has not been queued: in the time for it, ComfyUI was not ready, or the files"
            " for it had not arrived"
        )

    async def _begin(
        self, request: RunRequest, machine: Machine, *, small: bool
    ) -> tuple[Run, ComfyUIClient, Prepared]:
        """Make the run of a request; whoever finds it waits until it is posted."""
        if request.prompt_id is not None:
            await self._check_free(request.prompt_id)
        version = None
        if request.workflow_id is not None:
            request, version = await self._from_store(request)
            small = False
        prepared = await prepare(request, machine, self._fetching, small=small)
        client = await machine.ready()
        own_keys = request.extra_data.keys if request.extra_data is not None else {}
        prompt_id = request.prompt_id or str(uuid.uuid4())
        record = RunRecord(
            prompt_id=prompt_id,
            comfyui_id=prompt_id if _is_uuid(prompt_id) else str(uuid.uuid4()),
            machine=machine.id,
            session=self._session.id,
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
            inputs=prepared.inputs,
            targets=prepared.targets,
            preview_method=request.preview_method,
            own_keys=bool(own_keys),
        )
        steps = await _steps(prepared.workload, machine, prepared.targets)
        if record.prompt_id in self._runs:
            raise _taken(record.prompt_id)
        run = self._follow(Run(record, prepared.nodes, steps=steps))
        run.keys = own_keys or self._kept_keys()
        run.posted.clear()
        return run, client, prepared

    async def _added(self, run: Run, adding: asyncio.Future[None]) -> None:
        """Wait until a new run is in the store; where it cannot be kept there is no run."""
        try:
            await adding
        except BaseException:
            log.warning("Run %s cannot be stored", run.prompt_id, extra=run.record.log_fields)
            self._drop(run, "The run could not be stored")
            raise

    def _drop(self, run: Run, reason: str) -> None:
        """Forget a run of which nothing was told; whoever waits for it hears that it is over."""
        self._unfollow(run)
        run.posted.set()
        if run.ending:
            return
        run.listener = None
        error = {"type": "NotQueued", "message": reason, "node_id": None, "node_type": None}
        run.record = replace(run.record, status="failed", error=error)
        run.close(self.reply(run.record))

    async def _begin_delivery(self, request: RunRequest, run: Run) -> None:
        try:
            await self._delivery.begin(request, run.prompt_id)
        except ComfyDeployError as fault:
            run.posted.set()
            reason = f"The run was not handed to ComfyUI: {fault.message}"
            await self._endings.lose(run, reason, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            raise

    async def _from_store(self, request: RunRequest) -> tuple[RunRequest, int]:
        """Return a request with the graph of the stored version that it names, and its number."""
        for field in ("workflow_api", "workflow_api_raw", "workflow"):
            if getattr(request, field) is not None:
                raise InvalidRequestError.of_field(
                    field, "is given beside workflow_id; the graph comes from one of them"
                )
        assert request.workflow_id is not None
        number = request.version if isinstance(request.version, int) else None
        stored = await self._stored_version(request.workflow_id, number)
        graphs = {"workflow_api": stored["workflow_api"], "workflow": stored["workflow"]}
        return request.model_copy(update=graphs), stored["version"]

    def beginning(self, prompt_id: str) -> asyncio.Future[Any] | None:
        """Return what is being done before a run of that id exists, if anything is."""
        found = self._beginning.get(prompt_id)
        return None if found is None else found[0]

    def find(self, prompt_id: str) -> Run | None:
        """Return a run whose events are in memory, or None."""
        return self._runs.get(prompt_id) or self._recent.get(prompt_id)

    async def record(self, prompt_id: str) -> RunRecord:
        """Return the record of a run.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        run = self.find(prompt_id)
        if run is not None and self._unsaved.pop(prompt_id, None) is not None and not run.ending:
            # Should all die once it is told that it is executed, it is not executed once more.
            await self._repository.save(replace(run.record))
        record = run.record if run is not None else await self._repository.get(prompt_id)
        if record is None:
            raise _unknown(prompt_id, "")
        return record

    async def newest(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        status: str | None = None,
        structure: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the replies of runs, newest first.

        Parameters
        ----------
        limit, offset : int
            How many, and after how many.
        status, structure : str, optional
            Only those in this state, and of this workflow.
        """
        records = await self._repository.newest(
            limit=limit, offset=offset, status=status, structure=structure
        )
        return [self.reply(record) for record in records]

    def reply(self, record: RunRecord) -> dict[str, Any]:
        """Return the body that ``POST run`` answers for a run."""
        body = reply(record, self._view_url)
        run = self._runs.get(record.prompt_id)
        if run is not None and record.status in ("running", "uploading"):
            body.update(run.live())
        return body

    def running(self, machine_id: str) -> Run | None:
        """Return the run that a machine executes now, if it is one of ours."""
        for run in self._runs.values():
            over = run.ending and run.left.is_set()
            if run.record.machine == machine_id and run.record.status == "running" and not over:
                return run
        return None

    def count_on(self, machine_id: str) -> int:
        """Return how many unfinished runs a machine has, those on their way to it included."""
        there = sum(
            run.record.machine == machine_id and run.record.status != "uploading"
            for run in self._runs.values()
        )
        return there + self._on_their_way[machine_id]

    def counts(self, machine_id: str | None = None) -> dict[str, int]:
        """Return how many of our runs execute and wait, on all machines or on one."""
        statuses = [
            run.record.status
            for run in self._runs.values()
            if machine_id is None or run.record.machine == machine_id
        ]
        return {
            "running": statuses.count("running"),
            "pending": statuses.count("queued") + statuses.count("not-started"),
        }

    def open_statuses(self) -> Counter[tuple[str, str]]:
        """Return how many unfinished runs there are, by machine and status."""
        return Counter((run.record.machine, run.record.status) for run in self._runs.values())

    @property
    def at_work(self) -> bool:
        """Whether a run is being queued, or has not ended."""
        return bool(self._submitting or self._runs)

    def open_runs(self, client_id: str) -> int:
        """Return how many unfinished runs a client has."""
        return sum(run.record.client_id == client_id for run in self._runs.values())

    async def has_runs(self, client_id: str) -> bool:
        """Return whether a client ever started a run."""
        return await self._repository.has_client(client_id)

    def follow(self, follower: Callable[[Run, RunEvent], None]) -> Callable[[], None]:
        """Call ``follower(run, event)`` for every event of every run; returns how to stop."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    async def interrupt(self, prompt_id: str | None, machine_id: str | None) -> tuple[str, str]:
        """Cancel a run, queued or running.

        Returns
        -------
        tuple of str
            The id of the run, and ``queued`` or ``running``: what it was.

        Raises
        ------
        NotFoundError
            If there is no such run, on that machine where one is given.
        ConflictError
            If it has ended, or if no id was given and nothing runs.
        """
        machine = self._machines.get(machine_id)
        if prompt_id is None:
            run = self.running(machine.id)
            if run is None:
                raise ConflictError(f"No run executes on machine {machine.id!r}")
            return run.prompt_id, await self._cancel(run)
        asked = None if machine_id in (None, AUTO) else machine.id
        run = self._runs.get(prompt_id)
        if run is None and prompt_id in self._beginning:
            beginning, chosen = self._beginning[prompt_id]
            _check_place(prompt_id, chosen.id, asked)
            beginning.cancel()
            return prompt_id, "queued"
        record = run.record if run is not None else await self.record(prompt_id)
        _check_place(prompt_id, record.machine, asked)
        if run is None:
            if record.finished:
                raise _ended_already(record)
            return prompt_id, await self._cancel_foreign(record)
        if record.status == "uploading":
            raise _uploads(prompt_id)
        return prompt_id, await self._cancel(run)

    # -- what machines tell ------------------------------------------------------------------

    def machine_event(self, machine: Machine, event: Event | Preview | Unread) -> None:
        """Take an event of a machine's ComfyUI."""
        if isinstance(event, Unread):
            for executing in self._of(machine):  # whichever it was of
                executing.whole = executing.whole and executing.record.status != "running"
            return
        if not isinstance(event, Preview) and event.type == "status":
            self._reconciler.check_queue(machine, event)
            return
        if event.prompt_id is not None:
            run = self._by_comfyui_id.get(event.prompt_id)
            if run is not None and run.prompt_id != event.prompt_id:
                event = event.renamed(run.prompt_id)
            if run is not None and not isinstance(event, Preview):
                event = event.without(run.keys.values())
        else:
            nameless = isinstance(event, Preview) or event.type in NAMELESS
            run = self.running(machine.id) if nameless else None
        if run is None or run.record.machine != machine.id:
            return
        leaves = not isinstance(event, Preview) and is_leave_taking(event)
        if run.ending and (run.left.is_set() or not leaves):
            return
        if isinstance(event, Preview):
            run.see_preview(event)
            return
        if run.see(event):
            self._save_soon(run)
        if event.type == "execution_start" and run.record.cancelling:
            # ComfyUI forgets at the start of a prompt that it was to interrupt it (its
            # execution.py): what was asked for a moment before is asked for again.
            self._background.start(self._interrupt_again(run, machine), run)
        if leaves:
            run.left.set()
        if not run.ending and (leaves or (run.succeeded and run.whole)):
            if run.whole:
                run.stop_clock()
            self._background.start(self._reconciler.conclude(run, machine), run)

    def machine_connected(self, machine: Machine) -> None:
        """Learn what became of the machine's runs while no events came."""
        self._background.start(self._reconciler.reconcile(machine))

    def machine_disconnected(self, machine: Machine) -> None:
        """Note that events of the machine's runs are being missed."""
        runs = self._of(machine)
        for run in runs:
            if run.succeeded and run.whole:
                # All that is missing is ComfyUI's leave-taking.
                self._background.start(self._endings.succeed(run), run)
            run.whole = False
            run.left.set()
        queued = [run for run in runs if run.record.status == "queued"]
        if queued and not any(run.record.status == "running" for run in runs):
            # Should ComfyUI be dead, it died before it told what it was about to do.
            min(queued, key=lambda run: (run.record.number is None, run.record.number)).next = True

    def machine_ended(self, machine: Machine, reason: str, *, wanted: bool = False) -> None:
        """End what a dead ComfyUI was executing; what only waited will be queued anew.

        Where the end was asked for, it is no fault of the run that was the next one.
        """
        self.machine_disconnected(machine)
        for run in self._of(machine):
            run.death = reason
            run.next = run.next and not wanted
            if run.record.status == "running" or run.record.cancelling:
                advice = None if wanted else machine.memory_verdict
                self._background.start(self._endings.lose(run, reason, advice=advice), run)

    # -- queueing ----------------------------------------------------------------------------

    async def _check_free(self, prompt_id: str) -> None:
        if prompt_id in self._runs or await self._repository.get(prompt_id) is not None:
            raise _taken(prompt_id)

    def _follow(self, run: Run) -> Run:
        run.listener = self._tell_followers
        # Without the run in it: that would keep the run, and what it made, until all is collected.
        run.with_urls = partial(with_urls, view_url=self._view_url, machine=run.record.machine)
        self._runs[run.prompt_id] = run
        self._by_comfyui_id[run.comfyui_id] = run
        self._recall(run)
        return run

    def _unfollow(self, run: Run) -> None:
        self._runs.pop(run.prompt_id, None)
        self._by_comfyui_id.pop(run.comfyui_id, None)

    def _recall(self, run: Run) -> None:
        """Let a run know how long its nodes took in earlier runs, at once or in a moment."""
        structure, machine = run.record.structure, run.record.machine
        if structure is None:
            return
        known = self._past.known(structure, machine)
        if known is not None:
            run.learn(known)
        else:
            self._background.start(self._learn(run, structure, machine), run)

    async def _learn(self, run: Run, structure: str, machine: str) -> None:
        try:
            run.learn(await self._past.read(structure, machine))
        except ComfyDeployError as fault:
            log.debug(
                "What run %s took before is not known: %s",
                run.prompt_id,
                fault.message,
                extra=run.record.log_fields,
            )

    def _tell_followers(self, run: Run, event: RunEvent) -> None:
        for follower in list(self._followers):
            follower(run, event)

    async def _post(
        self,
        run: Run,
        client: ComfyUIClient,
        prompt: bytes,
        workflow: bytes | None,
        *,
        keep: bool = False,
        after: asyncio.Future[None] | None = None,
    ) -> None:
        """Have ComfyUI queue a run; with ``keep`` that is in the store before it is told.

        ComfyUI hears of it when ``after`` is done.
        """
        machine = self._machines.find(run.record.machine)
        method = run.record.preview_method
        run.whole = machine is not None and machine.connected
        run.posted.clear()
        try:
            answer = await client.post_prompt(
                prompt,
                prompt_id=run.comfyui_id,
                client_id=self._session.id,
                workflow=workflow,
                front=run.record.front,
                outputs=run.record.targets,
                extra={**run.keys, **({"preview_method": method} if method else {})},
                after=after,
            )
            if keep:
                await self._keep_queued(run, answer.get("number"))
        except ComfyUIUnavailableError as fault:
            run.unanswered = bool(fault.details.get("sent", True))
            run.missed_at = None
            run.whole = False
            raise
        finally:
            try:
                if after is not None and not after.done():
                    await asyncio.wait([after])
            finally:
                run.posted.set()
        run.accept(answer.get("number"), answer.get("node_errors") or {})
        log.info(
            "Run %s is queued on machine %s as number %s",
            run.prompt_id,
            run.record.machine,
            run.record.number,
            extra=run.record.log_fields,
        )
        if not run.ending and not keep:
            self._save_soon(run)

    def _kept_keys(self) -> dict[str, str]:
        """Return the keys of a Comfy account for runs that have none of their own."""
        key = self._comfy_api_key()
        return {"api_key_comfy_org": key} if key else {}

    def _save_soon(self, run: Run) -> None:
        """Store the state of a run that lasts; a short one has ended before, and is stored once."""
        if not self._unsaved:
            loop = asyncio.get_running_loop()
            self._saving_soon = loop.call_later(SAVE_WITHIN, self._save_unsaved)
        self._unsaved[run.prompt_id] = run

    def _save_unsaved(self) -> None:
        unsaved, self._unsaved = self._unsaved, {}
        for run in unsaved.values():
            if not run.ending:
                self._background.start(self._repository.save(replace(run.record)), run)

    async def _keep_queued(self, run: Run, number: float | None) -> None:
        """Store that ComfyUI has a run: should both die now, it is queued anew."""
        run.record.number = number
        status = "queued" if run.record.status == "not-started" else run.record.status
        try:
            await self._repository.save(replace(run.record, status=status))
        except ComfyDeployError as fault:
            log.warning(
                "That run %s is queued cannot be stored: %s",
                run.prompt_id,
                fault.message,
                extra=run.record.log_fields,
            )

    async def _refused(self, run: Run, fault: ComfyDeployError) -> None:
        node_errors = fault.extra.get("node_errors") or {}
        node_id = next(iter(node_errors), None)
        error = {
            "type": fault.details.get("type") or fault.code,
            "message": fault.message,
            "node_id": node_id,
            "node_type": node_errors[node_id].get("class_type") if node_id is not None else None,
        }
        fault.extra["prompt_id"] = run.prompt_id
        await self._endings.end(
            run, replace(run.record, status="failed", error=error, node_errors=node_errors)
        )

    async def _unanswered(
        self, run: Run, client: ComfyUIClient, fault: ComfyUIUnavailableError
    ) -> None:
        """Find out whether a prompt whose queueing was not answered is queued all the same."""
        if run.ending:
            await run.ended.wait()  # it was cancelled, or its ComfyUI ended, meanwhile
            return
        if not run.unanswered and (run.promised or run.record.cancelling):
            await self._endings.lose(run, fault.message, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            raise fault
        if not run.unanswered:
            log.info(
                "Run %s does not take place: %s",
                run.prompt_id,
                fault.message,
                extra=run.record.log_fields,
            )
            self._drop(run, fault.message)
            await self._repository.discard(run.prompt_id)
            self._delivery.forget(run.prompt_id)
            raise fault
        try:
            known, entry = await asyncio.wait_for(_look_for(client, run), ASK_WITHIN)
        except (ComfyUIUnavailableError, asyncio.TimeoutError):
            log.warning(
                "Whether ComfyUI has run %s is not known yet",
                run.prompt_id,
                extra=run.record.log_fields,
            )
        else:
            if entry is not None:
                await self._endings.settle(run, entry)
            elif known:
                run.resume()
            if known:
                return
        # ComfyUI may still be about to queue it. It is judged once that can no longer be.
        fault.extra["prompt_id"] = run.prompt_id
        raise fault

    async def _queue_anew(self, run: Run, client: ComfyUIClient) -> None:
        stored = await self._repository.prompt(run.prompt_id)
        if stored is None:
            await self._endings.lose(run, "The graph of the run is not in the store")
            return
        if run.record.own_keys and not run.keys:
            reason = (
                "ComfyUI restarted, and so did Jupyter, which had the run's keys of a Comfy account"
                " in its memory only. Start the run again"
            )
            await self._endings.lose(run, reason, kind="KeysForgotten")
            return
        log.info(
            "ComfyUI restarted; run %s is queued anew",
            run.prompt_id,
            extra=run.record.log_fields,
        )
        run.record.session = self._session.id
        run.record.attempts += run.next
        await self._repository.save(replace(run.record))
        run.restart()
        try:
            await self._post(run, client, *stored)
        except (PromptInvalidError, TooLargeError) as fault:
            await self._refused(run, fault)

    # -- cancelling --------------------------------------------------------------------------

    async def _cancel(self, run: Run) -> str:
        """Have a run end; return what it was.

        The wish is kept with the run: where ComfyUI cannot be asked now, it is asked when it is
        back, and a run that it has lost by then is not queued anew.
        """
        log.debug("Run %s is to be cancelled", run.prompt_id, extra=run.record.log_fields)
        run.record.cancelling = True
        try:
            await self._repository.save(replace(run.record))
        except BaseException:
            run.record.cancelling = False
            raise
        task = self._background.start(_outcome(self._cancel_now(run)), run)
        if not await _done_by(asyncio.get_running_loop().time() + ASK_WITHIN, task):
            return "running" if run.record.status == "running" else "queued"
        return _told(task)

    async def _cancel_now(self, run: Run) -> str:
        """Cancel a run that is unwanted, once ComfyUI has said whether it takes it."""
        await run.posted.wait()
        was = "running" if run.record.status == "running" else "queued"
        if run.ending:
            await run.settled.wait()
        if run.record.status == "uploading":
            raise _uploads(run.prompt_id)
        if self._runs.get(run.prompt_id) is not run:
            return _unless_ended_otherwise(await self.record(run.prompt_id), was)
        machine = self._machines.find(run.record.machine)
        if machine is None or machine.is_dead:
            await self._endings.end(run, replace(run.record, status="cancelled"))
            return was
        client = machine.reachable_client()
        if client is None:
            return was
        try:
            return await self._cancel_at(client, run)
        except ComfyUIUnavailableError as fault:
            _cannot_cancel(run, fault)
            return was

    async def _cancel_at(self, client: ComfyUIClient, run: Run) -> str:
        if run.unanswered:
            return "queued"  # it may be taken yet; the reconciler sees to it
        executing = run.record.status == "running"
        await client.cancel(run.comfyui_id)
        if executing or any(await client.find([run.comfyui_id])):
            return "running"
        entry = await client.history(run.comfyui_id)
        if entry is not None:
            await self._endings.settle(run, entry)
        else:
            await self._endings.end(run, replace(run.record, status="cancelled"))
        return _unless_ended_otherwise(run.record, "queued")

    async def _cancel_foreign(self, record: RunRecord) -> str:
        """Have a run of another Jupyter server end, which will see it; return what it was."""
        client = await self._machines.get(record.machine).ready()

        async def ask() -> str:
            running, _ = await client.find([record.comfyui_id])
            await client.cancel(record.comfyui_id)
            return "running" if running else "queued"

        try:
            return await asyncio.wait_for(ask(), ASK_WITHIN)
        except asyncio.TimeoutError:
            raise client.unavailable(f"no answer within {ASK_WITHIN:g} s") from None

    async def _interrupt_again(self, run: Run, machine: Machine) -> None:
        client = machine.reachable_client()
        if client is not None:
            try:
                await client.interrupt(run.comfyui_id)
            except ComfyUIUnavailableError as fault:
                _cannot_cancel(run, fault)

    # -- which runs there are ----------------------------------------------------------------

    def _of(self, machine: Machine) -> list[Run]:
        return [
            run
            for run in self._runs.values()
            if run.record.machine == machine.id and run.record.status != "uploading"
        ]

    def _retire(self, run: Run) -> None:
        """Tell the end of a run, which is in the store."""
        self._unfollow(run)
        self._past.add(run.record)
        replaced = self._recent.pop(run.prompt_id, None)
        self._recent_bytes -= replaced.log.size if replaced is not None else 0
        self._recent[run.prompt_id] = run
        run.close(self.reply(run.record))
        self._recent_bytes += run.log.size
        while len(self._recent) > KEPT_RUNS or (
            self._recent_bytes > KEPT_BYTES and len(self._recent) > 1
        ):
            self._recent_bytes -= self._recent.popitem(last=False)[1].log.size

    async def _adopt(self, record: RunRecord) -> None:
        stored = await self._repository.prompt(record.prompt_id)
        prompt = stored[0] if stored is not None else None
        machine = self._machines.find(record.machine)
        knowledge = None if machine is None else machine.known_definitions
        names, work = await read_stored(prompt, knowledge, record.targets)
        steps = await _steps(work, machine, record.targets)
        # Its events go on with ids that are larger than any that was told before.
        record.first_id += IDS_OF_A_SERVER
        await self._repository.save(record)
        run = self._follow(Run(record, names, whole=False, first_id=record.first_id, steps=steps))
        run.keys = {} if record.own_keys else self._kept_keys()
        log.info("Run %s is taken over", run.prompt_id, extra=record.log_fields)
        if record.status != "not-started":
            run.resume()
        if record.status == "uploading":
            run.ending = True
            run.settled.set()
            self._background.start(self._endings.upload(run, run.record), run)
        elif machine is None:
            self._background.start(
                self._endings.lose(run, f"There is no machine {record.machine!r} any more"), run
            )


async def _steps(
    work: Workload, machine: Machine | None, targets: Collection[str] | None
) -> dict[str, int]:
    """Return the nodes that ComfyUI will execute, and how many steps each of them takes."""
    known = None if machine is None else machine.known_definitions
    count = partial(work.needed_steps, None if known is None else known.layouts, targets)
    return await asyncio.to_thread(count) if len(work.steps) > MANY_NODES else count()


async def _done_by(until: float | None, task: asyncio.Future[Any]) -> bool:
    """Wait for a task, at most until a moment of the event loop's clock; tell if it is done."""
    left = None if until is None else max(until - asyncio.get_running_loop().time(), 0)
    await asyncio.wait({task}, timeout=left)
    return task.done()


async def _outcome(work: Coroutine[Any, Any, T]) -> T | ComfyDeployError:
    """Do a step that may go on after its caller; a fault is an outcome that is told, or logged."""
    try:
        return await work
    except ComfyDeployError as fault:
        log.debug("A step of a run: %s", fault.message)
        return fault


def _told(task: asyncio.Task[T | ComfyDeployError]) -> T:
    """Return the outcome of a step to its caller."""
    if task.cancelled():
        raise ComfyUIUnavailableError("Jupyter stops; how far this came is known at its next start")
    found = task.result()
    if isinstance(found, ComfyDeployError):
        raise found
    return found


async def _look_for(client: ComfyUIClient, run: Run) -> tuple[bool, dict[str, Any] | None]:
    """Return whether ComfyUI has a run, and its history where that has it."""
    if any(await client.find([run.comfyui_id])):
        return True, None
    entry = await client.history(run.comfyui_id)
    return entry is not None, entry


def _is_uuid(text: str) -> bool:
    """Return whether ComfyUI takes an id as it is: a UUID as Python writes it (0.33, jobs.py)."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _cannot_cancel(run: Run, fault: ComfyUIUnavailableError) -> None:
    log.warning(
        "Run %s cannot be cancelled yet: %s",
        run.prompt_id,
        fault.message,
        extra=run.record.log_fields,
    )


def _check_place(prompt_id: str, machine_id: str, asked: str | None) -> None:
    if asked not in (None, machine_id):
        raise _unknown(prompt_id, f" on machine {asked!r}")


def _unknown(prompt_id: str, where: str) -> NotFoundError:
    return NotFoundError(
        f"prompt_id: there is no run {prompt_id!r}{where}",
        details={"field": "prompt_id", "prompt_id": prompt_id},
    )


def _taken(prompt_id: str) -> ConflictError:
    return ConflictError(
        f"prompt_id: a run {prompt_id!r} exists already",
        details={"field": "prompt_id", "prompt_id": prompt_id},
    )


def _uploads(prompt_id: str) -> ConflictError:
    return ConflictError(
        f"The run {prompt_id!r} has been executed and uploads its outputs;"
        " cancel-uploads stops that",
        details={"prompt_id": prompt_id, "status": "uploading"},
    )


def _ended_already(record: RunRecord) -> ConflictError:
    return ConflictError(
        f"The run {record.prompt_id!r} has ended already: {record.status}",
        details={"prompt_id": record.prompt_id, "status": record.status},
    )


def _unless_ended_otherwise(record: RunRecord, was: str) -> str:
    """Return what a run was that is now cancelled; raise where its end came first."""
    if record.status != "cancelled":
        raise _ended_already(record)
    return was
