"""Watch the machines of runs: their events, their connections, and what their ComfyUI has.

What is found is told to the runs as events, with the attempt that it belongs to; `RunState` decides
what follows.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from ..comfyui.client import REPLY_TIMEOUT
from ..comfyui.socket import OversizedEvent, Preview
from ..errors import ComfyDeployError, ComfyUIUnavailableError
from ..util.tasks import report
from .background import note, now
from .state import IN_DOUBT, REFUSES, Cause, Do, Effect, next_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..comfyui.socket import Event
    from ..extension import ComfyDeploy
    from ..machines.machine import Machine
    from .editor import EditorRuns
    from .engine import Engine, RunContext
    from .feed import Announcer
    from .run import Run
    from .state import State

T = TypeVar("T")

log = logging.getLogger(__name__)

IN_FLIGHT = 0.25  # seconds that an event may take to arrive
IN_TRANSIT = 900.0  # seconds for which a request may be on its way, for example in a proxy
MAX_FAULTS = 3  # failed requests about runs, after which the other runs are checked later
WATCH_INTERVAL = 2.0  # seconds
QUIET = 3.0  # seconds without a message from ComfyUI after which a request is sent to it
ENDED_AFTER = 1.0  # seconds after which a local ComfyUI that refuses connections counts as exited
RECHECK = 30.0  # seconds after which runs are looked up in ComfyUI, also if events were received
REFUSALS = 2  # refused connections in a row after which a ComfyUI on this machine has ended
LOOK_AGAIN = (0.0, 0.1, 0.2, 0.5, 1.0)  # seconds before each of these connections
# Events without a prompt id: ComfyUI sends them for the prompt that is executing.
NAMELESS = ("progress_text", "executing")


class Unresponsive(NamedTuple):
    """A ComfyUI that answers no HTTP requests."""

    since: float  # monotonic time of the first request without an answer
    hangs: bool  # whether it may still be running: it did not refuse the last connection


class Watch:
    """Watches the machines. It is a `MachineListener`."""

    def __init__(
        self,
        context: RunContext,
        engine: Engine,
        announcer: Announcer,
        editor_runs: EditorRuns,
        settings: ComfyDeploy,
    ) -> None:
        self._context = context
        self._engine = engine
        self._announcer = announcer
        self._editor_runs = editor_runs
        self._limits = {
            "lost_after": settings.comfyui_lost_after,
            "gone_after": settings.comfyui_gone_after,
        }
        self._closed = False
        self._locks: WeakKeyDictionary[Machine, asyncio.Lock] = WeakKeyDictionary()
        self._to_reconcile: set[str] = set()
        self._reconciled_at: WeakKeyDictionary[Machine, float] = WeakKeyDictionary()
        self._recounting: set[str] = set()
        self._withdrawing: dict[str, bool] = {}  # by machine: whether to do so once more
        self._watched: set[str] = set()
        self._unresponsive: WeakKeyDictionary[Machine, Unresponsive] = WeakKeyDictionary()

    def close(self) -> None:
        """Start no further tasks: the connections are closed by this server from now on."""
        self._closed = True
        self._editor_runs.close()

    def unresponsive(self, machine: Machine) -> Unresponsive | None:
        return self._unresponsive.get(machine)

    # -- events and connections --------------------------------------------------------------

    def machine_event(self, machine: Machine, event: Event | Preview | OversizedEvent) -> None:
        active, queue = self._context.active, self._context.queue
        if isinstance(event, OversizedEvent):
            for executing in active.of(machine):  # the event may belong to any of them
                self._engine.tell(executing, Cause.EVENT_SKIPPED)
            return
        kind = "" if isinstance(event, Preview) else event.type
        if kind == "status" and not isinstance(event, Preview):
            self._queue_changed(machine, event.queue_remaining)
            return
        named = event.prompt_id
        if named is not None:
            run = active.by_comfyui_id(named)
            if run is not None and run.prompt_id != named:
                event = event.renamed(run.prompt_id)
        else:
            run = active.running(machine.id) if not kind or kind in NAMELESS else None
        if run is None or run.record.machine != machine.id:
            if kind == "execution_start":
                self._withdraw_given_up(machine)
            return
        if isinstance(event, Preview):
            if not run.ending:
                run.show_preview(event)
            return
        # The last event of a prompt, for any outcome.
        releases = kind == "executing" and event.data.get("node") is None
        if run.ending and (run.is_released or not releases):
            return
        if run.keys:
            event = event.without(run.keys.values())
        if kind == "execution_error":
            if queue.is_excused(run):
                return  # its followers are not told an end: it is executed elsewhere
            self._engine.tell(run, Cause.ERROR_TOLD)
        elif kind == "execution_start":
            self._engine.tell(run, Cause.EXECUTION_STARTED)
            queue.begun(run)
        run.show(event)
        if kind == "execution_success":
            self._engine.tell(run, Cause.EXECUTION_SUCCEEDED)
        elif releases:
            self._engine.tell(run, Cause.RELEASED)

    def machine_connected(self, machine: Machine) -> None:
        """Find out what happened to the machine's runs while no events were received."""
        self._announcer.machine(machine, up=True)
        self._context.machines.connected()
        for run in self._context.active.of(machine):
            self._engine.tell(run, Cause.CONNECTED)
        self._context.queue.connected(machine)
        self._context.background.start(self.reconcile(machine))
        self._editor_runs.connected(machine)

    def machine_disconnected(self, machine: Machine) -> None:
        """Record that events of the machine's runs are missed from now on."""
        if not self._closed:
            self._announcer.machine(machine, up=False)
        self._context.queue.connected(machine)
        closed = self._closed or machine.connection is None  # this server has closed it
        if machine.process is None and not closed:
            self._context.background.start(self._look_whether_ended(machine))
        runs = self._context.active.of(machine)
        next_run = next_of(runs)
        for run in runs:
            facts = {"was_next": run is next_run or run.was_next}
            self._engine.tell(run, Cause.CONNECTION_LOST, facts=facts)

    def machine_ended(
        self, machine: Machine, reason: str, *, wanted: bool = False, gone: bool = False
    ) -> None:
        """End the run that was executing when ComfyUI exited; waiting runs will be queued again.

        Those of a pool may be queued on another member. If the exit was requested (``wanted``), or
        a provider has ended it (``gone``), the next run in the queue is not its cause. A
        machine that is ``gone`` does not return: runs that nothing else would end are ended, too.
        """
        advice = machine.memory_verdict
        self._end_runs(machine, reason, advice, blames=not (wanted or gone), gone=gone)

    def machines_of(self, pool_id: str) -> set[str]:
        """Return the ids of the machines that have unfinished runs of a pool."""
        records = [run.record for run in self._context.active]
        return {record.machine for record in records if record.pool == pool_id}

    def _queue_changed(self, machine: Machine, remaining: int | None) -> None:
        if remaining is not None:
            self._context.queue.queue_changed(machine, remaining)
            if not self._closed:
                self._editor_runs.queue_changed(machine)
            if machine.id not in self._recounting:
                self._count(machine, remaining)
        self._withdraw_given_up(machine)

    async def _look_whether_ended(self, machine: Machine) -> None:
        """Find out soon whether a ComfyUI that was lost has ended: it refuses connections then."""
        refused = 0
        for pause in LOOK_AGAIN:
            await asyncio.sleep(pause)
            if machine.connected or machine.closed or not self._context.active.of(machine):
                return
            refused = refused + 1 if await machine.has_ended() else 0
            if refused == REFUSALS:
                advice = await machine.look_for_memory_verdict()
                # It has not come back meanwhile, and no provider has ended it.
                if machine.reachable_client() is None and not machine.closed:
                    self._end_runs(machine, REFUSES, advice, blames=True, gone=False)
                return

    def _end_runs(
        self, machine: Machine, reason: str, advice: str | None, *, blames: bool, gone: bool
    ) -> None:
        runs = self._context.active.of(machine)
        next_run = next_of(runs)
        for run in runs:
            facts = {
                "was_next": (run is next_run or run.was_next) and blames,
                "gone": gone,
                "advice": advice if blames else None,
            }
            self._engine.tell(run, Cause.COMFYUI_ENDED, reason, facts=facts)

    # -- what ComfyUI has --------------------------------------------------------------------

    def _count(self, machine: Machine, remaining: int) -> None:
        """Detect that ComfyUI's queue has fewer runs than expected: it may have been changed."""
        active = self._context.active
        if active.in_comfyui(machine.id) > remaining:
            self._recounting.add(machine.id)
            queued = [run for run in active.on(machine.id) if run.should_be_queued]
            self._context.background.start(self._count_again(machine, queued))

    async def _count_again(self, machine: Machine, queued: list[Run]) -> None:
        """Compare the queues again if ComfyUI's queue still has fewer runs than expected.

        While many runs are being queued, the length in its events is older than its answers.
        """
        try:
            await asyncio.sleep(IN_FLIGHT)
        finally:
            self._recounting.discard(machine.id)
        remaining = machine.connection.queue_remaining if machine.connection is not None else None
        if remaining is not None and remaining < sum(run.should_be_queued for run in queued):
            await self.reconcile(machine)

    def _withdraw_given_up(self, machine: Machine) -> None:
        """Delete the prompts that a machine has received after their runs were given up there."""
        if not self._context.active.given_up(machine.id):
            return
        if machine.id not in self._withdrawing:
            self._context.background.start(self._withdraw(machine))
        self._withdrawing[machine.id] = True

    async def _withdraw(self, machine: Machine) -> None:
        """Delete them until no further request for it comes meanwhile."""
        try:
            while self._withdrawing[machine.id]:
                self._withdrawing[machine.id] = False
                prompts = self._context.active.given_up(machine.id)
                for prompt, since in list(prompts.items()):
                    client = machine.reachable_client()
                    if client is None:
                        return  # it sends an event when it is connected again
                    if prompt in prompts:  # no new run has its id
                        await client.cancel(prompt)
                    if now() - since > IN_TRANSIT:
                        prompts.pop(prompt, None)
        except ComfyUIUnavailableError as exc:
            log.warning("Prompts of machine %r cannot be deleted yet: %s", machine.id, exc)
        finally:
            del self._withdrawing[machine.id]

    async def reconcile(self, machine: Machine) -> bool:
        """Compare the machine's runs with ComfyUI's queue and history.

        Return whether a run had started or ended without a received event.
        """
        if machine.id in self._to_reconcile:
            return False  # the call that waits will check all runs
        self._to_reconcile.add(machine.id)
        async with self._locks.setdefault(machine, asyncio.Lock()):
            self._to_reconcile.discard(machine.id)
            self._reconciled_at[machine] = now()
            active = self._context.active
            runs = [run for run in active.of(machine) if not (run.ending or run.posting)]
            seen = [(run, run.moves, run.state) for run in runs]
            client = machine.reachable_client()
            if not runs or client is None:
                return False
            try:
                finding = client.find([run.comfyui_id for run in runs])
                running, pending = await self._track(machine, finding)
            except ComfyUIUnavailableError as exc:
                text = "The runs of machine %r cannot be checked: %s"
                log.warning(text, machine.id, exc, extra={"machine": machine.id})
                return False
            return await self._compare(seen, running, pending)

    async def _compare(
        self,
        seen: list[tuple[Run, int, State]],
        running: frozenset[str],
        pending: frozenset[str],
    ) -> bool:
        news = False
        steps: list[tuple[int, Run, Effect]] = []
        for run, moves, state in seen:
            # Cancelled runs in the queue come before the executing run: they would start after it.
            if run.comfyui_id in pending:
                rank, event = 0, self._engine.event(run, Cause.FOUND_QUEUED, moves=moves)
            elif run.comfyui_id in running:
                rank, event = 1, self._engine.event(run, Cause.FOUND_EXECUTING, moves=moves)
            else:
                rank, event = 2, self._engine.event(run, Cause.MISSING, moves=moves, state=state)
            before = run.state
            effects = run.handle(event)
            steps += [(rank, run, effect) for effect in self._engine.perform(run, effects)]
            news = news or (rank == 1 and run.state is not before and run.events_complete)
        faults = 0
        for _, run, effect in sorted(steps, key=lambda step: step[0]):
            try:
                news = await self._look(run, effect) or news
            except ComfyUIUnavailableError as exc:
                note(log.warning, run, "Run %s cannot be checked yet: %s", exc.message)
                faults += 1
                if faults == MAX_FAULTS:
                    break
            except Exception as exc:  # the others are looked at nevertheless
                report(log, "Run %s could not be checked", run.prompt_id, error=exc)
        return news

    async def _look(self, run: Run, effect: Effect) -> bool:
        """Carry out a step; return whether it has shown something that no event has reported."""
        changes = run.changes
        await self._engine.carry_out(run, [effect])
        return effect.do is Do.HISTORY and run.changes != changes

    # -- faults without an event -------------------------------------------------------------

    async def run(self) -> None:
        """Check the machines that have prompts every `WATCH_INTERVAL` seconds, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            for machine in self._context.machines:
                if machine.id not in self._watched:
                    self._context.background.start(self._look_after(machine))

    async def _look_after(self, machine: Machine) -> None:
        runs = [run for run in self._context.active.of(machine) if not run.ending]
        others = machine.connected and self._context.queue.others(machine.id)
        if not runs and not others:
            return
        self._watched.add(machine.id)
        seen = [(run, run.moves) for run in runs]
        try:
            if machine.connected:
                try:
                    await self._check(machine, runs)
                finally:
                    self._report_unanswered(machine, seen)
            else:
                await self._report_disconnected(machine, seen)
        except ComfyDeployError as exc:
            text = "Machine %r cannot be checked: %s"
            log.debug(text, machine.id, exc, extra={"machine": machine.id})
        finally:
            self._watched.discard(machine.id)

    async def _report_disconnected(self, machine: Machine, seen: list[tuple[Run, int]]) -> None:
        """Tell runs that their ComfyUI is disconnected, and whether it has exited."""
        machine.open()
        since = machine.disconnected_at
        ended = now() - since > ENDED_AFTER and await machine.has_ended()
        verdict = await machine.look_for_memory_verdict()
        if machine.connected or machine.disconnected_at != since:
            return
        facts = {"since": since, "ended": ended, "hangs": machine.hangs, "advice": verdict}
        self._tell_away(seen, facts)

    def _report_unanswered(self, machine: Machine, seen: list[tuple[Run, int]]) -> None:
        """Tell runs that their ComfyUI, whose WebSocket is open, does not answer."""
        unresponsive, connection = self.unresponsive(machine), machine.connection
        if unresponsive is None or connection is None:
            return
        facts = {
            "since": unresponsive.since,
            "heard": connection.last_heard,
            "ended": False,
            "hangs": unresponsive.hangs,
            "advice": None,
        }
        self._tell_away(seen, facts)

    def _tell_away(self, seen: list[tuple[Run, int]], facts: dict[str, Any]) -> None:
        for run, moves in seen:
            self._engine.tell(run, Cause.AWAY, facts={**facts, **self._limits}, moves=moves)

    async def _track(self, machine: Machine, request: Awaitable[T]) -> T:
        """Await a request to the machine's ComfyUI, and record whether it was answered."""
        try:
            answer = await request
        except ComfyUIUnavailableError as exc:
            hangs = bool(exc.details.get("hangs"))
            since = self._unresponsive.get(machine, Unresponsive(now(), hangs)).since
            self._unresponsive[machine] = Unresponsive(since, hangs)
            raise
        self._unresponsive.pop(machine, None)
        return answer

    async def _check(self, machine: Machine, runs: list[Run]) -> None:
        """Request the state of runs from ComfyUI if its events do not show enough."""
        client, connection = machine.reachable_client(), machine.connection
        assert client is not None
        assert connection is not None
        heard = connection.last_heard
        silent = now() - heard > QUIET
        foreign = any(run.record.session != self._context.session.id for run in runs)
        due = now() - self._reconciled_at.get(machine, 0.0) > RECHECK
        remaining = len(runs)
        if silent:
            asking = client.queue_remaining(within=REPLY_TIMEOUT)
            remaining = await self._track(machine, asking)
        unheard = False
        if (
            foreign
            or due
            or remaining < len(runs)
            or any(run.record.cancelling or run.state in IN_DOUBT for run in runs)
        ):
            unheard = await self.reconcile(machine) and not foreign
        if not silent:
            return
        # ComfyUI sends an event to all clients whenever its queue changes. A socket that has not
        # received it gets no events; the same may be true of one whose predecessor was not closed.
        await asyncio.sleep(IN_FLIGHT)
        outdated = connection.queue_remaining not in (None, remaining)
        executing = any(run.record.status == "running" for run in runs)
        if connection.last_heard == heard and (
            unheard or outdated or (executing and connection.may_miss_events)
        ):
            await connection.reconnect()
