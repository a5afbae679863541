"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

CANCEL_AGAIN = 1.0  # seconds after which a task that goes on is cancelled once more


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all of them are done.

    One cancellation need not do. Before Python 3.12, `asyncio.wait_for` swallows it where what it
    waits for is done at the same moment, and the task goes on.

    Parameters
    ----------
    tasks : iterable of asyncio.Future
        The tasks; what they raise is dropped.
    """
    tasks = list(tasks)
    while going_on := {task for task in tasks if not task.done()}:
        for task in going_on:
            task.cancel()
        await asyncio.wait(going_on, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)
