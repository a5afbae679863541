"""A run that is being created, and where it will be executed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..machines.registry import Pool
    from .prompt import Prepared
    from .run import Run


class Begun(NamedTuple):
    """A run that is ready to be sent to ComfyUI."""

    run: Run
    client: ComfyUIClient | None  # None if it has to wait for a machine with room
    prepared: Prepared


class Place(NamedTuple):
    """Where a run is to be executed.

    Attributes
    ----------
    machine : Machine
        The machine. For a pool: the one whose node definitions are used to prepare the run.
    pool : Pool or None
        The pool whose members may execute it.
    """

    machine: Machine
    pool: Pool | None = None


class Entered(NamedTuple):
    """Where a new run of a pool goes.

    Attributes
    ----------
    machine_id : str
        The member; the pool if none has room.
    client : ComfyUIClient or None
        Its client; None if none has room.
    order : int or None
        The place of the run in the queue of a pool.
    """

    machine_id: str
    client: ComfyUIClient | None
    order: int | None = None


class Beginning:
    """A run with a given id that is still being created.

    Parameters
    ----------
    task : asyncio.Task
        The task that creates it.
    place : Place
        Where the run will be sent to.
    """

    def __init__(self, task: asyncio.Task[Begun], place: Place) -> None:
        self.task = task
        self.place = place
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cancel(self) -> None:
        """Cancel the creation of the run."""
        if not self.cancelled.done():
            self.cancelled.set_result(None)
