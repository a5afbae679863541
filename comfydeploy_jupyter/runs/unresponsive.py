"""The machines whose ComfyUI does not answer HTTP requests, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from ..errors import ComfyUIUnavailableError
from .waiting import now

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..machines.machine import Machine

T = TypeVar("T")


class Unresponsive(NamedTuple):
    """The state of a ComfyUI that answers no HTTP requests.

    Attributes
    ----------
    since : float
        Monotonic time of the first request without an answer.
    hangs : bool
        Whether it may still be running: it did not refuse the connection of the last request.
    """

    since: float
    hangs: bool


class UnresponsiveMachines:
    """The machines whose ComfyUI has not answered the last request."""

    def __init__(self) -> None:
        self._states: WeakKeyDictionary[Machine, Unresponsive] = WeakKeyDictionary()

    def of(self, machine: Machine) -> Unresponsive | None:
        """Return the state of the machine's ComfyUI if it does not answer, else None."""
        return self._states.get(machine)

    async def track(self, machine: Machine, request: Awaitable[T]) -> T:
        """Await a request to the machine's ComfyUI, and record whether it was answered."""
        try:
            answer = await request
        except ComfyUIUnavailableError as fault:
            hangs = bool(fault.details.get("hangs"))
            since = self._states.get(machine, Unresponsive(now(), hangs)).since
            self._states[machine] = Unresponsive(since, hangs)
            raise
        self._states.pop(machine, None)
        return answer
