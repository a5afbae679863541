"""What became of runs while no events told: our runs beside ComfyUI's queue and history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..comfyui.out_of_memory import HANGS
from ..errors import ComfyDeployError, ComfyUIUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.events import Event
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..store.runs import RunRepository
    from ..store.session import Session
    from .background import Background
    from .ending import Endings
    from .run import Run

    Step = tuple[Run, Callable[[], Awaitable[bool | None]]]

log = logging.getLogger(__name__)

WATCH_EVERY = 2.0  # seconds
SILENCE = 3.0  # seconds without a word from ComfyUI after which it is asked
ENDED_AFTER = 1.0  # seconds after which a ComfyUI that refuses connections here has ended
IN_FLIGHT = 0.25  # seconds that an event may take to arrive
OVERTAKEN = 2.0  # seconds for events that an answer to a request has overtaken, on a busy machine
RECHECK = 30.0  # seconds after which the runs are looked up in ComfyUI, whatever was heard
GRACE = 10.0  # seconds at most until a prompt whose queueing was not answered counts as not queued
ASK_WITHIN = 5.0  # seconds that ComfyUI has to answer where somebody waits for more than this
MAX_ATTEMPTS = 2  # times that ComfyUI may die with a run as the next one, until the run is at fault
MAX_FAULTS = 3  # runs of which ComfyUI tells nothing until the others are left for the next time


class Reconciler:
    """Finds out what events did not tell, and watches for what they cannot tell.

    Parameters
    ----------
    machines : MachineRegistry
        Where runs are.
    repository : RunRepository
        The records.
    session : Session
        The identity of this server towards ComfyUI.
    endings : Endings
        Ends runs that are over.
    background : Background
        For what nobody waits for.
    runs_of : callable
        Returns the unfinished runs of a machine.
    queue_anew : callable
        Queues a run again that ComfyUI has lost.
    lost_after, gone_after : float
        As `RunManager` has them.
    """

    def __init__(
        self,
        machines: MachineRegistry,
        repository: RunRepository,
        session: Session,
        endings: Endings,
        background: Background,
        *,
        runs_of: Callable[[Machine], list[Run]],
        queue_anew: Callable[[Run, ComfyUIClient], Awaitable[None]],
        lost_after: float,
        gone_after: float,
    ) -> None:
        self._machines = machines
        self._repository = repository
        self._session = session
        self._endings = endings
        self._background = background
        self._runs_of = runs_of
        self._queue_anew = queue_anew
        self._lost_after = lost_after
        self._gone_after = gone_after
        self._reconciling: dict[str, asyncio.Lock] = {}
        self._to_reconcile: set[str] = set()
        self._reconciled_at: dict[str, float] = {}
        self._watched: set[str] = set()
        self._in_doubt: set[str] = set()

    async def conclude(self, run: Run, machine: Machine) -> None:
        """Decide how a run ended that has succeeded, or that ComfyUI has stopped executing."""
        await run.posted.wait()  # what ComfyUI answered belongs to the record
        if run.succeeded and run.whole:
            await self._endings.succeed(run)
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
            await self._endings.settle(run, entry)

    def check_queue(self, machine: Machine, event: Event) -> None:
        """Notice that ComfyUI's queue is shorter than ours: somebody else may have changed it."""
        remaining = event.queue_remaining
        if remaining is None or machine.id in self._in_doubt:
            return
        queued = [run for run in self._runs_of(machine) if _in_queue(run)]
        if remaining < len(queued):
            self._in_doubt.add(machine.id)
            self._background.start(self._count_again(machine, queued))

    async def _count_again(self, machine: Machine, queued: list[Run]) -> None:
        """Compare the queues if ComfyUI's is too short for these runs still.

        Where many runs are queued at once, what it says of its queue is older than its answers.
        """
        try:
            await asyncio.sleep(IN_FLIGHT)
        finally:
            self._in_doubt.discard(machine.id)
        remaining = machine.connection.queue_remaining if machine.connection is not None else None
        if remaining is not None and remaining < sum(map(_in_queue, queued)):
            await self.reconcile(machine)

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
        lock = self._reconciling.setdefault(machine.id, asyncio.Lock())
        async with lock:
            self._to_reconcile.discard(machine.id)
            self._reconciled_at[machine.id] = time.monotonic()
            runs = [run for run in self._runs_of(machine) if not run.ending and not run.posting]
            client = machine.reachable_client()
            if not runs or client is None:
                return False
            try:
                return await self._compare(runs, client)
            except ComfyUIUnavailableError as fault:
                log.warning(
                    "The runs of machine %r cannot be checked: %s",
                    machine.id,
                    fault,
                    extra={"machine": machine.id},
                )
                return False

    async def _compare(self, runs: list[Run], client: ComfyUIClient) -> bool:
        news = False
        running, pending = await client.find([run.comfyui_id for run in runs])
        missing, withdrawn, unwanted = [], [], []
        for run in runs:
            if run.ending:
                continue
            if run.comfyui_id in running:
                changed = run.resume()
                if run.begin():
                    changed = True
                    news = news or run.whole
                if changed:
                    await self._repository.save(replace(run.record))
                if run.record.cancelling:
                    unwanted.append(run)
            elif run.comfyui_id in pending:
                if run.resume():
                    await self._repository.save(replace(run.record))
                if run.record.cancelling:
                    withdrawn.append(run)
            else:
                missing.append(run)
        # Those that wait and are unwanted come before the one that runs: they would begin.
        heard_by = time.monotonic() + OVERTAKEN
        steps: list[Step] = [
            *((run, partial(client.cancel, run.comfyui_id)) for run in [*withdrawn, *unwanted]),
            *((run, partial(self._judge, run, client, heard_by)) for run in [*withdrawn, *missing]),
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

    async def _judge(self, run: Run, client: ComfyUIClient, heard_by: float) -> bool:
        """Decide what became of a run that is not in ComfyUI's queue.

        Where its events tell the same before ``heard_by``, these are not cut short.
        """
        entry = await client.history(run.comfyui_id)
        if entry is not None:
            if run.whole and not run.ending:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(run.ended.wait(), heard_by - time.monotonic())
            if run.ending:
                return False
            await self._endings.settle(run, entry)
            return True
        if run.ending or run.posting:
            return False
        if run.succeeded and run.whole:
            await self._endings.succeed(run)
            return True
        # Any other that ComfyUI has would have been in the queue, or in the history that was asked
        # for after it. These may have been queued, or begun, in the meantime.
        in_doubt = run.unanswered or not run.accepted or run.record.cancelling
        if in_doubt and any(await client.find([run.comfyui_id])):
            return False
        if run.unanswered and not run.is_late(min(GRACE, client.timeout)):
            return False  # it may be queued yet
        if run.record.status == "running":
            await self._endings.lose(run, "ComfyUI restarted or forgot the run")
        elif not run.accepted and run.unanswered:
            await self._endings.lose(run, "ComfyUI did not take the run", kind="NotQueued")
        elif not run.accepted:
            reason = "The run was not handed to ComfyUI before Jupyter stopped"
            await self._endings.lose(run, reason, kind="NotQueued")
        elif run.whole or run.record.cancelling:
            await self._endings.end(run, replace(run.record, status="cancelled"))
        elif run.next and run.record.attempts >= MAX_ATTEMPTS:
            times = f"{run.record.attempts} times when the run was about to begin"
            await self._endings.lose(run, f"{run.death or 'ComfyUI ended'}, {times}")
        else:
            await self._queue_anew(run, client)
        return True

    async def watch(self) -> None:
        """Notice what no event tells: lost machines, lost sockets, runs of dead servers."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            for machine in self._machines:
                if machine.id not in self._watched:
                    self._background.start(self._look_after(machine))

    async def _look_after(self, machine: Machine) -> None:
        runs = [run for run in self._runs_of(machine) if not run.ending]
        if not runs:
            return
        self._watched.add(machine.id)
        try:
            if machine.connected:
                await self._check(machine, runs)
            else:
                await self._wait_for(machine, runs)
        except ComfyDeployError as fault:
            log.debug(
                "Machine %r cannot be checked: %s", machine.id, fault, extra={"machine": machine.id}
            )
        finally:
            self._watched.discard(machine.id)

    async def _wait_for(self, machine: Machine, runs: list[Run]) -> None:
        """Give up runs whose ComfyUI has been away for too long, or has ended."""
        machine.open()
        away = time.monotonic() - machine.disconnected_at
        pressing = {
            run.prompt_id for run in runs if run.record.status == "running" or run.record.cancelling
        }
        ended = bool(pressing) and away > ENDED_AFTER and await machine.has_ended()
        verdict = await machine.look_for_memory_verdict()
        if machine.connected:
            return
        for run in runs:
            if run.posting:
                continue
            presses = run.prompt_id in pressing
            limit = self._lost_after if presses and not machine.hangs else self._gone_after
            if presses and ended:
                reason = "ComfyUI has ended: it refuses connections"
                await self._endings.lose(run, reason, advice=verdict)
            elif away > limit:
                reason = f"ComfyUI has been unreachable for {away:.0f} s"
                advice = HANGS if machine.hangs else verdict
                await self._endings.lose(run, reason, advice=advice)

    async def _check(self, machine: Machine, runs: list[Run]) -> None:
        """Ask ComfyUI about the runs where its events do not tell enough."""
        client, connection = machine.reachable_client(), machine.connection
        assert client is not None
        assert connection is not None
        heard = connection.last_heard
        silent = time.monotonic() - heard > SILENCE
        strangers = any(run.record.session != self._session.id for run in runs)
        due = time.monotonic() - self._reconciled_at.get(machine.id, 0.0) > RECHECK
        remaining = await client.queue_remaining(within=ASK_WITHIN) if silent else len(runs)
        unheard = False
        if (
            strangers
            or due
            or remaining < len(runs)
            or any(run.record.cancelling or run.unanswered for run in runs)
        ):
            unheard = await self.reconcile(machine) and not strangers
        if not silent:
            return
        # ComfyUI tells everybody whenever its queue changes. A socket that has not been told is
        # deaf, and so may be one that has an ill-ended predecessor.
        await asyncio.sleep(IN_FLIGHT)
        untold = connection.queue_remaining not in (None, remaining)
        executing = any(run.record.status == "running" for run in runs)
        if connection.last_heard == heard and (
            unheard or untold or (executing and connection.may_be_deaf)
        ):
            await connection.reconnect()


def _in_queue(run: Run) -> bool:
    """Return whether ComfyUI's queue should have a run."""
    # One that has succeeded leaves the queue a moment before ComfyUI says that it is done.
    return run.accepted and not run.ending and not (run.succeeded and run.whole)
