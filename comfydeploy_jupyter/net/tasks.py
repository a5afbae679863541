"""Ending asyncio tasks for certain, and what they have opened."""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

File = TypeVar("File", bound="IO[bytes] | None")

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


async def open_in_thread(function: Callable[..., File], *arguments: object) -> File:
    """Open a file in a thread; one that is open only after the caller was cancelled is closed.

    Parameters
    ----------
    function : callable
        Returns the file, or None, for ``arguments``.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None and opening.result() is not None:
        opening.result().close()
