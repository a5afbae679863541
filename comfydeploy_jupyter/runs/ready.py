"""A machine that is made ready for one run, at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine


class ReadyMachine:
    """A machine; the first use waits until its ComfyUI is ready, later uses do not.

    Parameters
    ----------
    machine : Machine
        The machine.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._client: ComfyUIClient | None = None

    async def client(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers; wait again if the connection was lost.

        Raises
        ------
        ComfyUIUnavailableError
            If there is no ComfyUI; the error has a ``hint`` on what to do.
        """
        if self._client is None or self.machine.reachable_client() is not self._client:
            self._client = await self.machine.ready()
        return self._client
