"""Handle the events of machines: ComfyUI's events, and changes of the connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..comfyui.events import Preview, Unread
from .lifecycle import Cause, State
from .run import is_release

if TYPE_CHECKING:
    from ..comfyui.events import Event
    from ..machines.machine import Machine
    from .cancel import Canceller
    from .finalize import Finalizer
    from .recovery import Recovery
    from .run import Run
    from .shared import Shared

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
    """

    def __init__(
        self,
        shared: Shared,
        recovery: Recovery,
        canceller: Canceller,
        finalizer: Finalizer,
    ) -> None:
        self._active = shared.active
        self._recovery = recovery
        self._canceller = canceller
        self._finalizer = finalizer
        self._background = shared.background

    def machine_event(self, machine: Machine, event: Event | Preview | Unread) -> None:
        """Handle an event of a machine's ComfyUI."""
        if isinstance(event, Unread):
            for executing in self._active.of(machine):  # the event may belong to any of them
                executing.transition(Cause.EVENT_SKIPPED)
            return
        if not isinstance(event, Preview) and event.type == "status":
            self._recovery.check_queue(machine, event)
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
            return
        releases = not isinstance(event, Preview) and is_release(event)
        if run.ending and (run.released.is_set() or not releases):
            return
        if isinstance(event, Preview):
            run.handle_preview(event)
            return
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
        for run in self._active.of(machine):
            run.transition(Cause.CONNECTED)
        self._background.start(self._recovery.reconcile(machine))

    def machine_disconnected(self, machine: Machine) -> None:
        """Note that events of the machine's runs are missed from now on."""
        runs = self._active.of(machine)
        self._complete(runs)
        next_run = _next_of(runs)
        for run in runs:
            run.transition(Cause.CONNECTION_LOST, was_next=run is next_run or run.was_next)

    def machine_ended(self, machine: Machine, reason: str, *, wanted: bool = False) -> None:
        """End the run that was executing when ComfyUI exited; waiting runs will be queued again.

        If the exit was requested (``wanted``), the next run in the queue is not its cause.
        """
        runs = self._active.of(machine)
        self._complete(runs)
        next_run = _next_of(runs)
        advice = None if wanted else machine.memory_verdict
        for run in runs:
            was_next = (run is next_run or run.was_next) and not wanted
            run.transition(Cause.COMFYUI_ENDED, reason, comfyui_exit=reason, was_next=was_next)
            if run.record.status == "running" or run.record.cancelling:
                self._background.start(self._finalizer.fail(run, reason, advice=advice), run)

    def _complete(self, runs: list[Run]) -> None:
        """End runs that have succeeded, and of which only the last event is missing."""
        for run in runs:
            if run.state is State.EXECUTED and run.events_complete:
                self._background.start(self._finalizer.complete(run), run)


def _next_of(runs: list[Run]) -> Run | None:
    """Return the run that ComfyUI may have been about to start when it was lost, or None."""
    queued = [run for run in runs if run.record.status == "queued"]
    if not queued or any(run.record.status == "running" for run in runs):
        return None
    return min(queued, key=lambda run: (run.record.number is None, run.record.number))
