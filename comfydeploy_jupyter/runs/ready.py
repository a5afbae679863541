"""A machine that one run asks to be ready, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine


class ReadyMachine:
    """A machine whose ComfyUI is waited for when it is first needed, and not again.

    Parameters
    ----------
    machine : Machine
        The machine.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._client: ComfyUIClient | None = None

    async def client(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers; one that was lost meanwhile is waited for.

        Raises
        ------
        ComfyUIUnavailableError
            If there is none, with a ``hint`` on what to do.
        """
        if self._client is None or self.machine.reachable_client() is not self._client:
            self._client = await self.machine.ready()
        return self._client
