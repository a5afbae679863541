"""Background tasks of runs, and waiting for work that may outlive its caller."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ComfyDeployError, ComfyUIUnavailableError
from ..util.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .state import RunState

T = TypeVar("T")

log = logging.getLogger(__name__)


class Background(BackgroundTasks):
    """The background tasks of runs; an error of one has the id of its run in the log."""

    def __init__(self) -> None:
        super().__init__(log)

    def step(self, work: Coroutine[Any, Any, T], run: RunState) -> asyncio.Task[T]:
        """Run a coroutine for one run as a task."""
        record = run.record
        what = f"A step of run {record.prompt_id}"
        return self.start(work, what, log_fields=record.log_fields)


def note(
    write: Callable[..., None], run: RunState, text: str, *values: object, **options: Any
) -> None:
    """Write a line about a run to the log; the first value in its text is the id of the run."""
    record = run.record
    write(text, record.prompt_id, *values, extra=record.log_fields, stacklevel=2, **options)


def note_failure(
    log: logging.Logger, run: RunState, text: str, *values: object, exc: Exception
) -> None:
    """Write that a step of a run has failed to the log; show where if nobody expects the error."""
    known = isinstance(exc, ComfyDeployError)
    write, trace = (log.warning, None) if known else (log.error, exc)
    note(write, run, text, *values, exc, exc_info=trace)


def now() -> float:
    """Return the time of the event loop's clock, which is `time.monotonic`, in seconds."""
    return asyncio.get_running_loop().time()


async def done_by(deadline: float | None, *tasks: asyncio.Future[Any]) -> bool:
    """Wait until one of some tasks is done; return False if none is done at ``deadline`` (`now`).

    Neither the timeout nor a cancelled caller cancels the tasks.
    """
    left = None if deadline is None else max(deadline - now(), 0)
    done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def outcome(work: Coroutine[Any, Any, T]) -> T | ComfyDeployError:
    """Run a coroutine that may outlive its caller; return a ComfyDeployError instead of raising."""
    try:
        return await work
    except ComfyDeployError as exc:
        log.debug("A step of a run: %s", exc.message)
        return exc


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
