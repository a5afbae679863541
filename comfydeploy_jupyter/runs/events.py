"""Handle the events of machines: ComfyUI's events, and changes of the connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..comfyui.socket import OversizedEvent, Preview
from .lifecycle import IN_DOUBT, Cause, State
from .pooled import may_be_repeated
from .run import is_release

if TYPE_CHECKING:
    from ..comfyui.socket import Event
    from ..machines.machine import Machine
    from .announcing import Announcer
    from .cancel import Canceller
    from .editor import EditorRuns
    from .finalize import Finalizer
    from .pooled import Pooled
    from .recovery import Recovery
    from .run import Run
    from .shared import Shared

REFUSES = "ComfyUI has ended: it refuses connections"
REFUSALS = 2  # refused connections in a row after which a ComfyUI on this machine has ended
LOOK_AGAIN = (0.0, 0.1, 0.2, 0.5, 1.0)  # seconds before each of these connections
# Events without a prompt id: ComfyUI sends them for the prompt that is executing.
NAMELESS = ("progress_text", "executing")


class MachineEvents:
    """Passes the events of machines on to runs. It is a `MachineListener`.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    recovery : Recovery
        Finds out what happened to runs when events are missing.
    canceller : Canceller
        Interrupts runs that start although they were cancelled.
    finalizer : Finalizer
        Ends runs whose ComfyUI has exited.
    pooled : Pooled
        Lets runs of pools wait again whose ComfyUI has exited.
    announcer : Announcer
        Announces connected and lost machines.
    editor_runs : EditorRuns
        Looks for runs of ComfyUI's editor.
    """

    def __init__(
        self,
        shared: Shared,
        recovery: Recovery,
        canceller: Canceller,
        finalizer: Finalizer,
        pooled: Pooled,
        announcer: Announcer,
        editor_runs: EditorRuns,
    ) -> None:
        self._editor_runs = editor_runs
        self._pooled = pooled
        self._announcer = announcer
        self._closed = False
        self._dispatching = shared.dispatching
        self._active = shared.active
        self._recovery = recovery
        self._canceller = canceller
        self._finalizer = finalizer
        self._background = shared.background

    def close(self) -> None:
        """Start no further tasks: the connections are closed by this server from now on."""
        self._closed = True
        self._editor_runs.close()

    def machine_event(self, machine: Machine, event: Event | Preview | OversizedEvent) -> None:
        """Handle an event of a machine's ComfyUI."""
        if isinstance(event, OversizedEvent):
            for executing in self._active.of(machine):  # the event may belong to any of them
                executing.transition(Cause.EVENT_SKIPPED)
            return
        if not isinstance(event, Preview) and event.type == "status":
            if event.queue_remaining is not None:
                self._dispatching.queue_changed(machine, event.queue_remaining)
                if not self._closed:
                    self._editor_runs.queue_changed(machine)
            self._recovery.check_queue(machine, event)
            self._recovery.withdraw_given_up(machine)
            return
        if event.prompt_id is not None:
            run = self._active.by_comfyui_id(event.prompt_id)
            if run is not None and run.prompt_id != event.prompt_id:
                event = event.renamed(run.prompt_id)
            if run is not None and not isinstance(event, Preview):
                event = event.without(run.keys.values())
        else:
            nameless = isinstance(event, Preview) or event.type in NAMELESS
            run = self._active.running(machine.id) if nameless else None
        if run is None or run.record.machine != machine.id:
            if not isinstance(event, Preview) and event.type == "execution_start":
                self._recovery.withdraw_given_up(machine)
            return
        releases = not isinstance(event, Preview) and is_release(event)
        if run.ending and (run.released.is_set() or not releases):
            return
        if isinstance(event, Preview):
            run.handle_preview(event)
            return
        if event.type == "execution_error" and self._dispatching.is_excused(run):
            return  # its followers are not told an end: it is executed elsewhere
        run.handle_event(event)
        if event.type == "execution_start" and run.record.cancelling:
            self._background.start(self._canceller.interrupt_again(run, machine), run)
        if releases:
            run.transition(Cause.RELEASED)
        complete = run.state is State.EXECUTED and run.events_complete
        if not run.ending and (releases or complete):
            if run.events_complete:
                run.stop_clock()
            self._background.start(self._recovery.conclude(run, machine), run)

    def machine_connected(self, machine: Machine) -> None:
        """Find out what happened to the machine's runs while no events were received."""
        self._announcer.machine(machine, up=True)
        for run in self._active.of(machine):
            run.transition(Cause.CONNECTED)
        self._dispatching.connected(machine)
        self._background.start(self._recovery.reconcile(machine))
        self._editor_runs.connected(machine)

    def machine_disconnected(self, machine: Machine) -> None:
        """Record that events of the machine's runs are missed from now on."""
        if not self._closed:
            self._announcer.machine(machine, up=False)
        self._dispatching.connected(machine)
        closed = self._closed or machine.connection is None  # this server has closed it
        if machine.process is None and not closed:
            self._background.start(self._look_whether_ended(machine))
        runs = self._active.of(machine)
        self._complete(runs)
        next_run = _next_of(runs)
        for run in runs:
            run.transition(Cause.CONNECTION_LOST, was_next=run is next_run or run.was_next)

    def machine_ended(
        self, machine: Machine, reason: str, *, wanted: bool = False, gone: bool = False
    ) -> None:
        """End the run that was executing when ComfyUI exited; waiting runs will be queued again.

        Those of a pool may be queued on another member. If the exit was requested (``wanted``), or
        a provider has ended it (``gone``), the next run in the queue is not its cause. A
        machine that is ``gone`` does not return: runs that nothing else would end are ended, too.
        """
        blames = not (wanted or gone)
        self._end_runs(machine, reason, machine.memory_verdict, blames=blames, gone=gone)

    def machines_of(self, pool_id: str) -> set[str]:
        """Return the ids of the machines that have unfinished runs of a pool."""
        return {run.record.machine for run in self._active.of_pool(pool_id)}

    async def _look_whether_ended(self, machine: Machine) -> None:
        """Find out soon whether a ComfyUI that was lost has ended: it refuses connections then."""
        refused = 0
        for pause in LOOK_AGAIN:
            await asyncio.sleep(pause)
            if machine.connected or machine.closed or not self._active.of(machine):
                return
            refused = refused + 1 if await machine.has_ended() else 0
            if refused == REFUSALS:
                advice = await machine.look_for_memory_verdict()
                # It has not come back meanwhile, and no provider has ended it.
                if machine.reachable_client() is None and not machine.closed:
                    self._end_runs(machine, REFUSES, advice, blames=True)
                return

    def _end_runs(
        self,
        machine: Machine,
        reason: str,
        advice: str | None,
        *,
        blames: bool,
        gone: bool = False,
    ) -> None:
        runs = self._active.of(machine)
        self._complete(runs)
        next_run = _next_of(runs)
        for run in runs:
            was_next = (run is next_run or run.was_next) and blames
            run.transition(Cause.COMFYUI_ENDED, reason, comfyui_exit=reason, was_next=was_next)
            executes = run.record.status == "running" or run.state is State.EXECUTED
            stranded = gone and run.record.pool is None
            if (executes and not may_be_repeated(run)) or run.record.cancelling or stranded:
                given = advice if blames else None
                self._background.start(self._finalizer.fail(run, reason, advice=given), run)
            elif run.record.pool is not None and not (run.posting or run.ending):
                self._background.start(self._pooled.give_back(run, reason), run)

    def _complete(self, runs: list[Run]) -> None:
        """End runs that have succeeded, and of which only the last event is missing."""
        for run in runs:
            if run.state is State.EXECUTED and run.events_complete:
                self._background.start(self._finalizer.complete(run), run)


def _next_of(runs: list[Run]) -> Run | None:
    """Return the run that ComfyUI may have been about to start when it was lost, or None."""
    queued = [
        run
        for run in runs
        if run.record.status == "queued" and (run.missed_at is None or run.state not in IN_DOUBT)
    ]
    if not queued or any(run.record.status == "running" for run in runs):
        return None
    return min(queued, key=lambda run: (run.record.number is None, run.record.number))
