"""A run that is being created, and the machine or pool that will execute it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..machines.registry import Pool
    from .prepare import Prepared
    from .run import Run


class NewRun(NamedTuple):
    """A run that is ready to be sent to ComfyUI."""

    run: Run
    client: ComfyUIClient | None  # None if the run has to wait for a machine with room
    prepared: Prepared
    key: str | None  # the idempotency key of its request


class Destination(NamedTuple):
    """The machine or pool that will execute a run.

    Attributes
    ----------
    machine : Machine
        The machine. For a pool: the member whose node definitions are used to prepare the run.
    pool : Pool or None
        The pool whose members may execute it.
    """

    machine: Machine
    pool: Pool | None = None


class Assigned(NamedTuple):
    """The id of a waiting run, and the machine that it is to be sent to."""

    run_id: str
    machine: Machine | None  # None if it was removed in the meantime


class Placement(NamedTuple):
    """The machine of a new run, or its position in the queue of a pool.

    Attributes
    ----------
    machine_id : str
        The machine that gets the run; the pool if no member has room.
    client : ComfyUIClient or None
        The client of that machine; None if no member has room.
    order : int or None
        The position of the run in the queue of a pool; its sort key.
    """

    machine_id: str
    client: ComfyUIClient | None
    order: int | None = None


class PendingCreation:
    """A run with a given id that is still being created.

    Parameters
    ----------
    task : asyncio.Task
        The task that creates it.
    destination : Destination
        The machine or pool that will execute the run.
    """

    def __init__(self, task: asyncio.Task[NewRun], destination: Destination) -> None:
        self.task = task
        self.destination = destination
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cancel(self) -> None:
        """Cancel the creation of the run."""
        if not self.cancelled.done():
            self.cancelled.set_result(None)
