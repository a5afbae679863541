"""A machine that becomes ready for one run, at most once."""

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
    may_wait : bool
        Whether a run may be created although the machine is not ready: it waits for one.
    """

    def __init__(self, machine: Machine, *, may_wait: bool = False) -> None:
        self.machine = machine
        self._may_wait = may_wait
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

    async def wait(self) -> None:
        """Wait as `client` does, if the run cannot be created before.

        Raises
        ------
        ComfyUIUnavailableError
            As in `client`.
        """
        if not self._may_wait:
            await self.client()
