"""Find out what happened to runs without events: compare them with ComfyUI's queue and history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ..errors import ComfyUIUnavailableError
from ..util.tasks import wait_for
from .lifecycle import IN_DOUBT, Cause, State
from .outputs import has_failed
from .pooled import may_be_repeated, why_not_again
from .unresponsive import UnresponsiveMachines
from .waiting import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.socket import Event
    from ..machines.machine import Machine
    from .finalize import Finalizer
    from .pooled import Pooled
    from .queueing import Queueing
    from .run import Run
    from .shared import Shared

    Step = tuple[Run, Callable[[], Awaitable[bool | None]]]

T = TypeVar("T")

log = logging.getLogger(__name__)

IN_FLIGHT = 0.25  # seconds that an event may take to arrive
LATE_EVENT = 2.0  # seconds for an event that is received after a later reply, on a busy machine
GRACE = 10.0  # seconds at most until a prompt without an answer counts as not queued
IN_TRANSIT = 900.0  # seconds for which a request may be on its way, for example in a proxy
LOST = "ComfyUI was restarted, or has dropped the run"
MAX_FAULTS = 3  # failed requests about runs, after which the other runs are checked later


class Recovery:
    """Finds out what happened to runs when events are missing.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    queueing : Queueing
        Queues runs again that ComfyUI has lost.
    pooled : Pooled
        Lets runs of pools wait again that ComfyUI has lost.
    finalizer : Finalizer
        Ends runs that are over.

    Attributes
    ----------
    unresponsive : UnresponsiveMachines
        The machines whose ComfyUI does not answer, and since when.
    """

    def __init__(
        self,
        shared: Shared,
        queueing: Queueing,
        pooled: Pooled,
        finalizer: Finalizer,
    ) -> None:
        self._active = shared.active
        self._queueing = queueing
        self._pooled = pooled
        self._finalizer = finalizer
        self._background = shared.background
        self._dispatching = shared.dispatching
        self._locks: WeakKeyDictionary[Machine, asyncio.Lock] = WeakKeyDictionary()
        self._to_reconcile: set[str] = set()
        self._reconciled_at: WeakKeyDictionary[Machine, float] = WeakKeyDictionary()
        self._recounting: set[str] = set()
        self._withdrawing: dict[str, bool] = {}  # by machine: whether to do so once more
        self.unresponsive = UnresponsiveMachines()

    def reconciled_at(self, machine: Machine) -> float:
        """Return the monotonic time of the last `reconcile`, 0 before the first."""
        return self._reconciled_at.get(machine, 0.0)

    async def conclude(self, run: Run, machine: Machine) -> None:
        """Find out how a run ended that has succeeded, or that ComfyUI has stopped executing."""
        await run.answered.wait()  # ComfyUI's answer is part of the record
        moves = run.moves
        if run.ending or run.record.machine != machine.id:
            return  # an earlier event has shown it
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
        if entry is not None and run.moves == moves:
            await self._settle(run, entry)

    def check_queue(self, machine: Machine, event: Event) -> None:
        """Detect that ComfyUI's queue has fewer runs than expected: it may have been changed."""
        remaining = event.queue_remaining
        if remaining is None or machine.id in self._recounting:
            return
        runs = self._active.on(machine.id)
        # So many of them may be outside the queue. Most of these are the oldest and the newest: by
        # looking there first, few of a thousand runs are inspected for each of ComfyUI's events.
        allowed = len(runs) - remaining
        ends_first = islice(chain.from_iterable(zip(runs, reversed(runs), strict=True)), len(runs))
        outside = islice((run for run in ends_first if not _in_queue(run)), max(0, allowed))
        if sum(1 for _ in outside) < allowed:
            self._recounting.add(machine.id)
            self._background.start(self._count_again(machine, list(filter(_in_queue, runs))))

    def withdraw_given_up(self, machine: Machine) -> None:
        """Delete the prompts that a machine has received after their runs were given up there."""
        if not self._active.given_up(machine.id):
            return
        if machine.id not in self._withdrawing:
            self._background.start(self._withdraw_given_up(machine))
        self._withdrawing[machine.id] = True

    async def _withdraw_given_up(self, machine: Machine) -> None:
        """Delete them until no further request for it comes meanwhile."""
        try:
            while self._withdrawing[machine.id]:
                self._withdrawing[machine.id] = False
                prompts = self._active.given_up(machine.id)
                for prompt, since in list(prompts.items()):
                    client = machine.reachable_client()
                    if client is None:
                        return  # it sends an event when it is connected again
                    if prompt in prompts:  # no new run has its id
                        await client.cancel(prompt)
                    if now() - since > IN_TRANSIT:
                        prompts.pop(prompt, None)
        except ComfyUIUnavailableError as fault:
            log.warning("Prompts of machine %r cannot be deleted yet: %s", machine.id, fault)
        finally:
            del self._withdrawing[machine.id]

    async def reconcile(self, machine: Machine) -> bool:
        """Compare the machine's runs with ComfyUI's queue and history.

        Returns
        -------
        bool
            Whether a run had started or ended without a received event.
        """
        if machine.id in self._to_reconcile:
            return False  # the call that waits will check all runs
        self._to_reconcile.add(machine.id)
        lock = self._locks.setdefault(machine, asyncio.Lock())
        async with lock:
            self._to_reconcile.discard(machine.id)
            self._reconciled_at[machine] = now()
            runs = [run for run in self._active.of(machine) if not (run.ending or run.posting)]
            moves = [run.moves for run in runs]
            client = machine.reachable_client()
            if not runs or client is None:
                return False
            try:
                finding = client.find([run.comfyui_id for run in runs])
                running, pending = await self.unresponsive.track(machine, finding)
                runs = [run for run, known in zip(runs, moves, strict=True) if run.moves == known]
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
        """Compare the queues again if ComfyUI's queue still has fewer runs than expected.

        While many runs are being queued, the length in its events is older than its answers.
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
        # Cancelled runs in the queue come before the executing run: they would start after its end.
        deadline = now() + LATE_EVENT
        steps: list[Step] = [
            *((run, partial(client.cancel, run.comfyui_id)) for run in [*withdrawn, *unwanted]),
            *(
                (run, partial(self._resolve, run, run.moves, client, deadline))
                for run in [*withdrawn, *missing]
            ),
        ]
        return await self._carry_out(steps) or news

    async def _carry_out(self, steps: list[Step]) -> bool:
        """Do the steps in order; postpone a step whose request ComfyUI does not answer."""
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

    async def _resolve(self, run: Run, moves: int, client: ComfyUIClient, deadline: float) -> bool:
        """Find out what happened to a run that is not in ComfyUI's queue, unless it has moved.

        If its events may still report it, wait for them until ``deadline`` (`now`).

        Returns
        -------
        bool
            Whether the state of the run has changed.
        """
        entry = await client.history(run.comfyui_id)
        if entry is not None:
            if run.events_complete and not run.ending:
                with contextlib.suppress(asyncio.TimeoutError):
                    await wait_for(run.ended.wait(), deadline - now())
            if run.ending or run.moves != moves:
                return False
            await self._settle(run, entry)
            return True
        # A run that ComfyUI has would be in the queue, or in the history that was requested later.
        # A run in doubt may have been queued, or have started, in the meantime.
        in_doubt = run.state in IN_DOUBT or run.record.cancelling
        if in_doubt and any(await client.find([run.comfyui_id])):
            return False
        if run.ending or run.moves != moves:
            return False
        await self._resolve_missing(run, client)
        return True

    async def _settle(self, run: Run, entry: dict[str, Any]) -> None:
        """End a run with the outcome in ComfyUI's history, or let it be executed elsewhere."""
        may_move = run.state is State.RUNNING and not (run.record.cancelling or run.error_told)
        if may_move and has_failed(entry) and self._dispatching.is_excused(run):
            await self._pooled.give_back(run, "Its execution failed", failed=True)
        else:
            await self._finalizer.settle(run, entry)

    async def _resolve_missing(self, run: Run, client: ComfyUIClient) -> None:
        """Decide what to do with a run that ComfyUI does not have, depending on its state."""
        if run.state in IN_DOUBT and not _is_late(run, min(GRACE, client.timeout)):
            return  # it may still be queued
        if run.state is State.EXECUTED and run.events_complete:
            await self._finalizer.complete(run)
        elif may_be_repeated(run) and not run.record.cancelling:
            await self._pooled.give_back(run, LOST)
        elif run.state in (State.RUNNING, State.EXECUTED):
            await self._finalizer.fail(run, LOST)
        elif run.record.pool is not None and not run.events_complete:
            await self._pooled.give_back(run, LOST)
        elif run.state is State.UNCONFIRMED:
            reason = "The run was not handed to ComfyUI before Jupyter stopped"
            await self._finalizer.fail(run, reason, kind="NotQueued")
        elif run.record.status == "not-started":
            await self._finalizer.fail(run, "ComfyUI did not accept the run", kind="NotQueued")
        elif run.events_complete or run.record.cancelling:
            await self._finalizer.withdraw(run)
        elif (failure := why_not_again(run)) is not None:
            await self._finalizer.fail(run, failure)
        else:
            await self._queueing.queue_anew(run, client)


def _in_queue(run: Run) -> bool:
    """Return whether ComfyUI's queue should contain a run."""
    # A run that has succeeded leaves the queue shortly before ComfyUI sends its last event.
    has_left = run.state is State.EXECUTED and run.events_complete
    return run.first_sent and not run.ending and not has_left


def _is_late(run: Run, grace: float) -> bool:
    """Return whether ComfyUI, which does not have a run, has had ``grace`` seconds to queue it."""
    if run.missed_at is None:
        run.transition(Cause.NOT_FOUND, missed_at=now())
    return run.missed_at is not None and now() - run.missed_at > grace
