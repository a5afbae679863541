"""Events of runs and machines for Jupyter's event system; their schemas are in event_schemas/."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ..machines.machine import Machine
    from .log import RunEvent
    from .run import Run

Emit: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Emits an event; its arguments are the name of the schema, ``run`` or ``machine``, and the data.
It does not raise."""


class Announcer:
    """Announces that runs have started or ended, and that machines are connected or lost.

    Parameters
    ----------
    emit : callable or None
        Emits an event; None: no events are wanted.
    """

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit

    def handle_event(self, run: Run, event: RunEvent) -> None:
        """Announce the start and the end of a run. This is a follower of all runs."""
        if self._emit is None or event.event not in ("execution_start", "status"):
            return
        record = run.record
        ended = event.event == "status"
        data: dict[str, Any] = {
            "action": "ended" if ended else "started",
            "prompt_id": record.prompt_id,
            "machine": record.machine,
            "status": record.status if ended else "running",
        }
        further = {"pool": record.pool, "workflow_id": record.workflow_id}
        if ended:
            further["error_type"] = record.error.get("type") if record.error is not None else None
            if record.execution_time is not None:
                data["execution_time"] = record.execution_time
        data.update({name: value for name, value in further.items() if value is not None})
        self._emit("run", data)

    def machine(self, machine: Machine, *, up: bool) -> None:
        """Announce that the ComfyUI of a machine is connected, or that the connection is lost."""
        if self._emit is not None:
            self._emit("machine", {"action": "up" if up else "down", "machine": machine.id})
