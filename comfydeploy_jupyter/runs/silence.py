"""Since when machines have not answered HTTP requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import ComfyUIUnavailableError
from .waiting import now

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..machines.machine import Machine

T = TypeVar("T")


class Silence(NamedTuple):
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


class Silences:
    """The machines whose ComfyUI has not answered the last request."""

    def __init__(self) -> None:
        self._silences: dict[str, Silence] = {}

    def of(self, machine: Machine) -> Silence | None:
        """Return since when the machine's ComfyUI has not answered; None if it answers."""
        return self._silences.get(machine.id)

    async def ask(self, machine: Machine, request: Awaitable[T]) -> T:
        """Await a request to the machine's ComfyUI, and note whether it was answered."""
        try:
            answer = await request
        except ComfyUIUnavailableError as fault:
            hangs = bool(fault.details.get("hangs"))
            since = self._silences.get(machine.id, Silence(now(), hangs)).since
            self._silences[machine.id] = Silence(since, hangs)
            raise
        self._silences.pop(machine.id, None)
        return answer
