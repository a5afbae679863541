"""The service of runs, for handlers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ..comfyui.client import REPLY_TIMEOUT
from ..errors import ComfyUIUnavailableError, ConflictError, RunTimeoutError
from ..machines.registry import AUTO
from ..util.system import ALLOWED, FetchPolicy
from ..util.tasks import close_each, wait_for
from .active import ActiveRuns
from .background import Background, now
from .chains import Chains
from .creation import CREATE_TIMEOUT, Destination, RunCreator
from .deletion import KEEP_ALL, LIMITS_AGAIN, Deleter
from .editor import EditorRuns
from .engine import Engine, RunContext, StateSaver, not_possible
from .estimates import DurationEstimates
from .feed import Announcer
from .outputs import reply, unknown_run
from .prepare import read_stored
from .queue import RunQueue
from .records import ALL, FINAL
from .shown import card, details, open_run
from .state import State, describe
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..compat.comfy_account import ComfyAccount
    from ..extension import ComfyDeploy
    from ..machines.machine import MachineListener
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..request_models import RunRequest
    from ..store.session import Session
    from .creation import StoredVersion
    from .deletion import DeletionRepository, KeepRuns
    from .delivery import Delivery
    from .editor import EditorPrompts
    from .feed import Emit
    from .inputs import PoolInputs
    from .progress import NodeName
    from .records import Position, RunFilter, RunRecord, RunRepository
    from .run import Run

MAX_MOVED = 500  # runs that are queued anew to put some before another one


class RunService:
    """Queues prompts, follows them until their end and emits their events to all followers.

    A run is stored before ComfyUI can queue it; its end is stored before any client receives it.
    The end is taken from ComfyUI's ``execution_success`` or from its history.
    """

    def __init__(
        self,
        repository: RunRepository,
        deletions: DeletionRepository,
        machines: MachineRegistry,
        session: Session,
        delivery: Delivery,
        kept_outputs: KeptOutputs,
        *,
        stored_version: StoredVersion,
        view_url: str,
        account: ComfyAccount,
        inputs: PoolInputs,
        fetching: FetchPolicy = ALLOWED,
        emit: Emit | None = None,
        settings: ComfyDeploy,
        editor_prompts: EditorPrompts | None = None,
        keep: KeepRuns = KEEP_ALL,
    ) -> None:
        background = Background()
        self.active = active = ActiveRuns(view_url)
        self.chains = Chains(repository, machines, active, kept_outputs, inputs)
        self._context = context = RunContext(
            repository,
            machines,
            session,
            active,
            StateSaver(repository, background),
            DurationEstimates(repository, background),
            background,
            RunQueue(machines, active),
            kept_outputs,
            inputs,
            self.chains,
            account,
        )
        self._engine = engine = Engine(context, delivery)
        self._creator = RunCreator(
            context, engine, stored_version=stored_version, fetching=fetching
        )
        announcer = Announcer(emit)
        editor_runs = EditorRuns(context, editor_prompts)
        self._watch = Watch(context, engine, announcer, editor_runs, settings)
        self.listener: MachineListener = self._watch
        self.unresponsive = self._watch.unresponsive
        self.deleter = Deleter(context, deletions, keep)
        self._submitting = 0  # runs that are being queued
        active.follow(delivery.handle_event)
        active.follow(announcer.handle_event, "execution_start", "status")

    async def open(self) -> None:
        """Recover the runs that had not ended when the last server stopped, and watch all runs."""
        context = self._context
        await self._engine.recover(context.session.claimed)
        await self.deleter.finish(context.session.claimed)
        context.background.keep(self._watch.run, "Watching the machines")
        context.background.keep(self._engine.assign_waiting, "Handing waiting runs over")
        context.background.keep(self.deleter.run, "Deleting old runs", again=LIMITS_AGAIN)

    async def recover_orphans(self, sessions: Collection[str]) -> None:
        """Recover and follow the runs of servers that have exited, by their session ids."""
        await self._engine.recover(sessions)
        await self.deleter.finish(sessions)

    async def close(self) -> None:
        """Stop following runs; ComfyUI continues them, and the next start recovers them."""
        self._watch.close()
        await close_each(self._context.saver.close, self._context.background.close)
        for run in self.active:
            run.stop_timer()

    async def submit(
        self,
        request: RunRequest,
        *,
        reply_at_end: bool = False,
        streamed: bool = False,
        key: str | None = None,
        arrived: float | None = None,
    ) -> Run:
        """Queue a run; return it when ComfyUI has accepted it, or when it waits for a pool.

        The acceptance is stored before it is returned, unless the client is told about it in
        another way: by a ``reply_at_end``, or ``streamed`` events, each sent when it happens.
        ``key``: the idempotency key. ``arrived`` (`now`): the time from which ``timeout`` counts.

        PromptInvalidError and TooLargeError: ComfyUI refuses the run, which is stored as failed.
        RunTimeoutError with a ``prompt_id``: ComfyUI has been asked, and the run is followed; with
        none, nothing was done, which is not decided before `CREATE_TIMEOUT` seconds. After other
        errors there is no run, unless they have a ``prompt_id``.
        """
        deadline = latest = None
        if request.timeout is not None:
            arrived = now() if arrived is None else arrived
            deadline = arrived + request.timeout
            latest = arrived + max(request.timeout, CREATE_TIMEOUT)
        self._submitting += 1
        try:
            new = await self._creator.create(request, key=key, deadline=latest)
            keep = not (reply_at_end or streamed)
            await self._engine.submit(request, new, keep=keep, deadline=deadline)
        finally:
            self._submitting -= 1
        return new.run

    async def queue(
        self, request: RunRequest, *, key: str | None = None, streamed: bool = False
    ) -> Run:
        """Queue a run as `submit` does; also return a run that ComfyUI may still accept.

        The parameters and the errors are those of `submit`.
        """
        try:
            return await self.submit(request, key=key, streamed=streamed)
        except (ComfyUIUnavailableError, RunTimeoutError) as exc:
            run = self.find(str(exc.extra.get("prompt_id")))
            if run is None or run.record.finished:
                raise
            return run

    def destination(self, machine: str | None) -> Destination:
        """Return the machine or pool that a request means; NotFoundError if there is none."""
        return self._creator.destination(machine)

    def single_runs(self, place: str, points: int) -> int:
        """Return how many runs a machine, or a pool with so many points, has besides those.

        Those that were executed, and upload their outputs, do not count.
        """
        if self._context.machines.find_pool(place) is not None:
            return max(self._context.queue.open(place) - points, 0)
        here = (run.record for run in self.active.on(place))
        return sum(each.batch is None and each.status != "uploading" for each in here)

    def creation(self, prompt_id: str) -> asyncio.Future[Any] | None:
        found = self._creator.find(prompt_id)
        return None if found is None else found.task

    @property
    def at_work(self) -> bool:
        """Whether any run is being queued or has not ended."""
        return bool(self._submitting or len(self.active))

    async def interrupt(self, prompt_id: str | None, machine_id: str | None) -> tuple[str, str]:
        """Cancel a run; return its id, and its state before: ``queued`` or ``running``."""
        context = self._context
        pool = context.machines.pool(machine_id)
        place = context.machines.get(machine_id).id if pool is None else pool.id
        if prompt_id is None:
            members = [place] if pool is None else pool.members
            running = [run for member in members if (run := context.active.running(member))]
            if not running:
                raise ConflictError(f"No run executes on machine {place!r}")
            run = min(running, key=lambda run: run.record.started_at or "")
            return run.prompt_id, await self._engine.cancel(run)
        asked = None if machine_id in (None, AUTO) else place
        found = context.active.get(prompt_id)
        pending = self._creator.find(prompt_id)
        if found is None and pending is not None:
            machine, of_pool = pending.destination
            _check_place(prompt_id, machine.id, None if of_pool is None else of_pool.id, asked)
            pending.cancel()
            return prompt_id, "queued"
        known = context.active.find(prompt_id)
        record = await context.repository.get(prompt_id) if known is None else known.record
        if record is None:
            raise unknown_run(prompt_id)
        _check_place(prompt_id, record.machine, record.pool, asked)
        if found is None:
            if record.finished:
                raise not_possible(record)
            return prompt_id, await self._cancel_foreign(record)
        if record.status == "uploading":
            raise not_possible(record)
        return prompt_id, await self._engine.cancel(found)

    async def put(
        self, prompt_ids: Sequence[str], *, first: bool, before: str | None = None
    ) -> int:
        """Let runs that have not begun be executed first, last or before another, in this order.

        Return how many were put there: those that begin in the meantime stay.
        """
        found = [await self._waiting(prompt_id) for prompt_id in prompt_ids]
        moved = found
        if before is not None:
            moved, first = self._around(found, await self._waiting(before))
        for run in reversed(moved) if first else moved:
            await self._engine.put(run, first=first)
        return sum(run.record.status == "queued" for run in found)

    def _around(self, found: list[Run], other: Run) -> tuple[list[Run], bool]:
        """Return the runs that are put first, or else last, to get some before another one."""
        queue = _queue_of(other)
        for run in found:
            if run is other or _queue_of(run) != queue:
                text = f"The run {run.prompt_id!r} cannot be put before {other.prompt_id!r}"
                why = "it is the same" if run is other else "it waits in another queue"
                raise ConflictError(f"{text}: {why}", details={"prompt_id": run.prompt_id})
        line = [self.active.get(run_id) for _, run_id in self._context.queue.line()]
        here = [run for run in line if run is not None and _queue_of(run) == queue]
        others = [run for run in here if run not in found]
        place = others.index(other)
        ahead, behind = [*others[:place], *found], [*found, *others[place:]]
        # the first one of a pool still comes after those that its members have already
        given = any(run.record.machine != queue for run in others[place:])
        moved = behind if given else min(ahead, behind, key=len)
        if len(moved) > MAX_MOVED:
            raise ConflictError(
                f"More than {MAX_MOVED} runs would have to be queued anew, whichever end of the"
                " queue they are put to",
                details={"prompt_id": other.prompt_id},
            )
        return moved, moved is ahead

    async def _waiting(self, prompt_id: str) -> Run:
        """Return a run that waits in a queue of this server."""
        run = self.active.get(prompt_id)
        if run is None:
            record = await self.record(prompt_id)
            other = None if record.finished else "waits in another Jupyter server; move it there"
            raise not_possible(record, other)
        await run.answered.wait()  # it may just be sent to its machine
        if run.state not in (State.WAITING, State.QUEUED):
            why = f"does not wait for its turn: it is {run.record.status}"
            raise not_possible(run.record, why)
        return run

    async def _cancel_foreign(self, record: RunRecord) -> str:
        """Cancel a run of another server in ComfyUI; return its state before."""
        if record.waits or record.waiting_for is not None:
            raise not_possible(record, "waits in another Jupyter server; cancel it there")
        client = await self._context.machines.get(record.machine).ready()

        async def ask() -> str:
            running, _ = await client.find([record.comfyui_id])
            await client.cancel(record.comfyui_id)
            return "running" if running else "queued"

        try:
            return await wait_for(ask(), REPLY_TIMEOUT)
        except asyncio.TimeoutError:
            raise client.unavailable(f"no answer within {REPLY_TIMEOUT:g} s") from None

    # -- reading runs --------------------------------------------------------------------------

    def find(self, prompt_id: str) -> Run | None:
        """Return a run whose events are in memory, or None."""
        return self.active.find(prompt_id)

    def unstored(self, prompt_id: str) -> str:
        """Return why the end of a run is not stored yet; empty if it is, or has not come."""
        run = self.find(prompt_id)
        return "" if run is None else run.unstored

    async def record(self, prompt_id: str) -> RunRecord:
        # If both processes exit after a client has read the state, the run is not executed again.
        await self._context.saver.now_if_due(prompt_id)
        run = self.find(prompt_id)
        record = run.record if run is not None else await self._context.repository.get(prompt_id)
        if record is None:
            raise unknown_run(prompt_id)
        return record

    async def reread_points(self, batch_id: str) -> None:
        """Take over from the store to which batch its runs in memory belong, and their labels."""
        context = self._context
        for run in (*context.active, *context.active.ended):
            if run.record.batch != batch_id:
                continue
            stored = await context.repository.get(run.prompt_id)
            for record in (run.record, run.outcome) if stored is not None else ():
                if record is not None and stored is not None:
                    record.batch, record.point = stored.batch, stored.point
                    record.metadata = stored.metadata

    async def story(self, prompt_id: str) -> list[dict[str, Any]]:
        return describe((await self.record(prompt_id)).story)

    async def newest(
        self, *, limit: int = 100, offset: int = 0, which: RunFilter = ALL
    ) -> list[dict[str, Any]]:
        records = await self._context.repository.newest(limit=limit, offset=offset, which=which)
        whys: dict[str, str] = {}
        return [self.reply(record, position=False, whys=whys) for record in records]

    async def cards(
        self,
        *,
        limit: int,
        offset: int,
        which: RunFilter,
        cursor: Position | None,
        batches: bool,
        count: bool,
    ) -> tuple[dict[str, Any], list[int]]:
        """Return the runs that have ended, newest first, and on the first page those that wait.

        Those wait because their machine, or each of their pool, gets no runs now. With ``batches``,
        the keys of the batches between them are returned, too.
        """
        repository, whys = self._context.repository, dict[str, str]()
        ended = which if which.statuses else replace(which, statuses=FINAL)
        page = await repository.page(
            limit=limit, offset=offset, which=ended, cursor=cursor, batches=batches, count=count
        )
        waiting = []
        if not which.statuses and not offset and cursor is None:
            queued = replace(which, statuses=("not-started", "queued"))
            found = await repository.newest(limit=limit, which=queued)
            bodies = [self.reply(record, position=False, whys=whys) for record in found]
            waiting = [card(body) for body in bodies if body.get("live_status")]
        cards = await asyncio.to_thread(lambda: [card(self._ended(each)) for each in page.runs])
        places = {
            name: place and str(place)
            for name, place in (("start", page.start), ("next", page.next))
        }
        return {"runs": cards, "total": page.total, "waiting": waiting, **places}, page.batches

    def open_runs(self, first: int, count: int) -> list[dict[str, Any]]:
        """Return some of the runs that have not ended, in the order in which they end or start.

        First come those that are executed or upload their outputs, then those that wait.
        """
        active, places = self.active, dict[str, int | None]()
        begun = [run.record for run in active.begun()]
        begun.sort(key=lambda record: record.started_at or record.created_at)
        in_order = chain(
            ((None, record.prompt_id) for record in begun),
            self._context.queue.line(),
            ((None, run.prompt_id) for run in active),  # those without a place
        )
        for place, run_id in in_order:
            places.setdefault(run_id, place)
            if len(places) == first + count:
                break
        whys: dict[str, str] = {}
        found = []
        for run_id in islice(places, first, first + count):
            each = active.get(run_id)
            if each is None:
                continue
            record = each.record
            live = {"live_status": self._why_waiting(record, whys) or ""}
            if record.status in ("running", "uploading"):
                live = each.live()
            found.append(open_run(record, live, places[run_id]))
        return found

    async def ended_after(self, moment: str, limit: int) -> list[RunRecord]:
        """Return the first runs that ended at a time or after it, in the order of their ends."""
        return await self._context.repository.ended_after(moment, limit)

    async def details(self, prompt_id: str) -> dict[str, Any]:
        """Return everything that a page shows of a run."""
        body = self.reply(await self.record(prompt_id))
        return details(body, await self.nodes(prompt_id))

    def _ended(self, record: RunRecord) -> dict[str, Any]:
        return reply(record, self.active.view_url)

    async def graph(self, prompt_id: str) -> tuple[bytes, bytes | None]:
        found = await self._context.repository.prompt(prompt_id)
        if found is None:
            raise unknown_run(prompt_id)
        return found

    async def nodes(self, prompt_id: str) -> Mapping[str, NodeName]:
        run = self.find(prompt_id)
        if run is not None:
            return run.nodes
        prompt, _ = await self._context.repository.prompt(prompt_id) or (None, None)
        return (await read_stored(prompt, None, None)).nodes

    def reply(
        self, record: RunRecord, *, position: bool = True, whys: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the body of the reply to ``POST run`` for a run.

        That of a queued run contains why it waits if its machine, or each of its pool, gets no runs
        now (`whys` keeps the reasons by machine), and with ``position`` its place in the queue;
        that of a run that needs outputs of others says for which it waits.
        """
        body = reply(record, self.active.view_url)
        run = self.active.get(record.prompt_id)
        if run is not None and record.status in ("running", "uploading"):
            body.update(run.live())
        why = self._why_waiting(record, {} if whys is None else whys)
        if why is not None:
            body["live_status"] = why
        if position and record.status == "queued" and record.prompt_id in self.active:
            body["queue_position"] = self._context.queue.position(record)
        return body

    def _why_waiting(self, record: RunRecord, whys: dict[str, str]) -> str | None:
        """Return why a run waits, besides for its turn; None if it does not wait here."""
        if record.status == "queued" and record.prompt_id in self.active:
            machine = record.machine
            if machine not in whys:
                why = self._context.machines.why_waiting(machine)
                whys[machine] = f"Waiting for a machine: {why}" if why else ""
            return whys[machine]
        if record.waiting_for is None:
            return None
        if runs := record.waiting_for:
            others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
            return f"Waiting for the run {runs[0]}{others}, whose output it needs"
        run = self.active.get(record.prompt_id)
        problem = "" if run is None else f": {run.problem}" if run.problem else ""
        return f"Getting its inputs{problem}"

    def queue_position(self, record: RunRecord) -> int | None:
        """Return the place of a run among the prompts that have not started, from 1, or None."""
        waits = record.status in ("not-started", "queued") and record.waiting_for is None
        if not waits or record.prompt_id not in self.active:
            return None
        return self._context.queue.position(record)

    async def has_runs(self, client_id: str) -> bool:
        return await self._context.repository.has_client(client_id)


def _check_place(prompt_id: str, machine: str, pool: str | None, asked: str | None) -> None:
    if asked not in (None, machine, pool):
        raise unknown_run(prompt_id, f" on machine {asked!r}")


def _queue_of(run: Run) -> str:
    """Return the pool or the machine in whose queue a run waits."""
    return run.record.pool or run.record.machine
