"""What became of runs while no events told: our runs beside ComfyUI's queue and history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import ComfyUIUnavailableError
from ..net.tasks import wait_for
from .lifecycle import IN_DOUBT, Cause, State
from .waiting import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.events import Event
    from ..machines.machine import Machine
    from .finalize import Finalizer
    from .queueing import Queueing
    from .run import Run
    from .shared import Shared

    Step = tuple[Run, Callable[[], Awaitable[bool | None]]]

T = TypeVar("T")

log = logging.getLogger(__name__)

IN_FLIGHT = 0.25  # seconds that an event may take to arrive
OVERTAKEN = 2.0  # seconds for events that an answer to a request has overtaken, on a busy machine
GRACE = 10.0  # seconds at most until a prompt whose queueing was not answered counts as not queued
MAX_ATTEMPTS = 2  # times that ComfyUI may die with a run as the next one, until the run is at fault
MAX_FAULTS = 3  # runs of which ComfyUI tells nothing until the others are left for the next time


class Silence(NamedTuple):
    """That a ComfyUI answers no HTTP request.

    Attributes
    ----------
    since : float
        Monotonic time of the first request that was not answered.
    hangs : bool
        Whether it may be there all the same: it does not refuse the last request, either.
    """

    since: float
    hangs: bool


class Recovery:
    """Finds out what events did not tell.

    Parameters
    ----------
    shared : Shared
        What the modules of runs share.
    queueing : Queueing
        Queues again what ComfyUI has lost.
    finalizer : Finalizer
        Ends runs that are over.
    """

    def __init__(
        self,
        shared: Shared,
        queueing: Queueing,
        finalizer: Finalizer,
    ) -> None:
        self._active = shared.active
        self._queueing = queueing
        self._finalizer = finalizer
        self._background = shared.background
        self._locks: dict[str, asyncio.Lock] = {}
        self._to_reconcile: set[str] = set()
        self._reconciled_at: dict[str, float] = {}
        self._recounting: set[str] = set()
        self._silences: dict[str, Silence] = {}

    def reconciled_at(self, machine: Machine) -> float:
        """Return the monotonic time of the last `reconcile`, 0 before the first."""
        return self._reconciled_at.get(machine.id, 0.0)

    def silence(self, machine: Machine) -> Silence | None:
        """Return since when the machine's ComfyUI has not answered; None if it has."""
        return self._silences.get(machine.id)

    async def ask(self, machine: Machine, request: Awaitable[T]) -> T:
        """Await an answer of the machine's ComfyUI, and note whether there is one."""
        try:
            answer = await request
        except ComfyUIUnavailableError as fault:
            hangs = bool(fault.details.get("hangs"))
            since = self._silences.get(machine.id, Silence(now(), hangs)).since
            self._silences[machine.id] = Silence(since, hangs)
            raise
        self._silences.pop(machine.id, None)
        return answer

    async def conclude(self, run: Run, machine: Machine) -> None:
        """Decide how a run ended that has succeeded, or that ComfyUI has stopped executing."""
        await run.answered.wait()  # what ComfyUI answered belongs to the record
        if run.state is State.EXECUTED and run.events_complete:
            await self._finalizer.complete(run)
            return
        client = machine.reachable_client()
        if client is None:
            return
        try:
            entry = await client.history(run.comfyui_id)
        except ComfyUIUnavailableError as fault:
            log.warning(
                "The end of run %s is not known yet: %s",
                run.prompt_id,
                fault.message,
                extra=run.record.log_fields,
            )
            return
        if entry is not None:
            await self._finalizer.settle(run, entry)

    def check_queue(self, machine: Machine, event: Event) -> None:
        """Notice that ComfyUI's queue is shorter than ours: somebody else may have changed it."""
        remaining = event.queue_remaining
        if remaining is None or machine.id in self._recounting:
            return
        queued = [run for run in self._active.of(machine) if _in_queue(run)]
        if remaining < len(queued):
            self._recounting.add(machine.id)
            self._background.start(self._count_again(machine, queued))

    async def reconcile(self, machine: Machine) -> bool:
        """Compare the machine's runs with ComfyUI's queue and history.

        Returns
        -------
        bool
            Whether a run had begun or ended without our hearing of it.
        """
        if machine.id in self._to_reconcile:
            return False  # the one that waits will see everything
        self._to_reconcile.add(machine.id)
        lock = self._locks.setdefault(machine.id, asyncio.Lock())
        async with lock:
            self._to_reconcile.discard(machine.id)
            self._reconciled_at[machine.id] = now()
            runs = [run for run in self._active.of(machine) if not (run.ending or run.posting)]
            client = machine.reachable_client()
            if not runs or client is None:
                return False
            try:
                finding = client.find([run.comfyui_id for run in runs])
                running, pending = await self.ask(machine, finding)
                return await self._compare(runs, running, pending, client)
            except ComfyUIUnavailableError as fault:
                log.warning(
                    "The runs of machine %r cannot be checked: %s",
                    machine.id,
                    fault,
                    extra={"machine": machine.id},
                )
                return False

    async def _count_again(self, machine: Machine, queued: list[Run]) -> None:
        """Compare the queues if ComfyUI's is too short for these runs still.

        Where many runs are queued at once, what it says of its queue is older than its answers.
        """
        try:
            await asyncio.sleep(IN_FLIGHT)
        finally:
            self._recounting.discard(machine.id)
        remaining = machine.connection.queue_remaining if machine.connection is not None else None
        if remaining is not None and remaining < sum(map(_in_queue, queued)):
            await self.reconcile(machine)

    async def _compare(
        self,
        runs: list[Run],
        running: frozenset[str],
        pending: frozenset[str],
        client: ComfyUIClient,
    ) -> bool:
        news = False
        missing, withdrawn, unwanted = [], [], []
        for run in runs:
            if run.ending:
                continue
            if run.comfyui_id in running:
                if run.begin(Cause.FOUND_EXECUTING):
                    news = news or run.events_complete
                if run.record.cancelling:
                    unwanted.append(run)
            elif run.comfyui_id in pending:
                run.transition(Cause.FOUND_QUEUED)
                if run.record.cancelling:
                    withdrawn.append(run)
            else:
                missing.append(run)
        # Those that wait and are unwanted come before the one that runs: they would begin.
        heard_by = now() + OVERTAKEN
        steps: list[Step] = [
            *((run, partial(client.cancel, run.comfyui_id)) for run in [*withdrawn, *unwanted]),
            *(
                (run, partial(self._resolve, run, client, heard_by))
                for run in [*withdrawn, *missing]
            ),
        ]
        return await self._carry_out(steps) or news

    async def _carry_out(self, steps: list[Step]) -> bool:
        """Do one step after the other; what ComfyUI does not answer for one is left for later."""
        news = False
        faults = 0
        for run, step in steps:
            try:
                news = await step() or news
            except ComfyUIUnavailableError as fault:
                log.warning(
                    "Run %s cannot be checked yet: %s",
                    run.prompt_id,
                    fault.message,
                    extra=run.record.log_fields,
                )
                faults += 1
                if faults == MAX_FAULTS:
                    break
        return news

    async def _resolve(self, run: Run, client: ComfyUIClient, heard_by: float) -> bool:
        """Decide what became of a run that is not in ComfyUI's queue.

        Where its events tell the same before ``heard_by``, these are not cut short.

        Returns
        -------
        bool
            Whether its state has changed.
        """
        entry = await client.history(run.comfyui_id)
        if entry is not None:
            if run.events_complete and not run.ending:
                with contextlib.suppress(asyncio.TimeoutError):
                    await wait_for(run.ended.wait(), heard_by - now())
            if run.ending:
                return False
            await self._finalizer.settle(run, entry)
            return True
        # Any that ComfyUI has would have been in the queue, or in the history that was asked for
        # after it. These may have been queued, or begun, in the meantime.
        in_doubt = run.state in IN_DOUBT or run.record.cancelling
        if in_doubt and any(await client.find([run.comfyui_id])):
            return False
        if run.ending or run.posting:
            return False
        await self._resolve_missing(run, client)
        return True

    async def _resolve_missing(self, run: Run, client: ComfyUIClient) -> None:
        """Decide what becomes of a run that ComfyUI does not have, by what it was before."""
        if run.state is State.UNANSWERED and not _is_late(run, min(GRACE, client.timeout)):
            return  # it may be queued yet
        if run.state is State.EXECUTED and run.events_complete:
            await self._finalizer.complete(run)
        elif run.state in (State.RUNNING, State.EXECUTED):
            await self._finalizer.lose(run, "ComfyUI restarted or forgot the run")
        elif run.state is State.UNCONFIRMED:
            reason = "The run was not handed to ComfyUI before Jupyter stopped"
            await self._finalizer.lose(run, reason, kind="NotQueued")
        elif run.record.status == "not-started":
            await self._finalizer.lose(run, "ComfyUI did not take the run", kind="NotQueued")
        elif run.events_complete or run.record.cancelling:
            await self._finalizer.withdraw(run)
        elif run.was_next and run.record.attempts >= MAX_ATTEMPTS:
            times = f"{run.record.attempts} times when the run was about to begin"
            await self._finalizer.lose(run, f"{run.comfyui_exit or 'ComfyUI ended'}, {times}")
        else:
            await self._queueing.queue_anew(run, client)


def _in_queue(run: Run) -> bool:
    """Return whether ComfyUI's queue should have a run."""
    # One that has succeeded leaves the queue a moment before ComfyUI says that it is done.
    has_left = run.state is State.EXECUTED and run.events_complete
    return run.first_told and not run.ending and not has_left


def _is_late(run: Run, grace: float) -> bool:
    """Return whether ComfyUI, which does not have a run, has had time to take it, in seconds."""
    if run.missed_at is None:
        run.transition(Cause.NOT_FOUND, missed_at=now())
    return run.missed_at is not None and now() - run.missed_at > grace
