"""Wait for work that may outlive its caller."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from ..errors import ComfyDeployError, ComfyUIUnavailableError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

T = TypeVar("T")

log = logging.getLogger(__name__)


def now() -> float:
    """Return the time of the event loop's clock, which is `time.monotonic`, in seconds."""
    return asyncio.get_running_loop().time()


async def done_by(until: float | None, *tasks: asyncio.Future[Any]) -> bool:
    """Wait until one of some tasks is done; return False if none is done at the given time.

    Parameters
    ----------
    until : float or None
        Time of the event loop's clock; None means no limit.
    *tasks : asyncio.Future
        The tasks. Neither the timeout nor a cancelled caller cancels them.
    """
    left = None if until is None else max(until - now(), 0)
    done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def outcome(work: Coroutine[Any, Any, T]) -> T | ComfyDeployError:
    """Run a coroutine that may outlive its caller; return a ComfyDeployError instead of raising."""
    try:
        return await work
    except ComfyDeployError as fault:
        log.debug("A step of a run: %s", fault.message)
        return fault


def result_of(task: asyncio.Task[T | ComfyDeployError]) -> T:
    """Return what a task that runs `outcome` returned; raise the ComfyDeployError it returned."""
    if task.cancelled():
        raise ComfyUIUnavailableError(
            "Jupyter is stopping; the result of this will be known after its next start"
        )
    found = task.result()
    if isinstance(found, ComfyDeployError):
        raise found
    return found
