"""Background tasks of runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..util.tasks import AGAIN, BackgroundTasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from ..util.times import Backoff
    from .records import RunRecord

T = TypeVar("T")

log = logging.getLogger(__name__)


class Recorded(Protocol):
    """An object with the record of a run, which contains the id of the run."""

    record: RunRecord


class Background:
    """Run coroutines as background tasks; log an error of one with the id of its run."""

    def __init__(self) -> None:
        self._tasks = BackgroundTasks(log)

    def start(self, work: Coroutine[Any, Any, T], run: Recorded | None = None) -> asyncio.Task[T]:
        """Run a coroutine as a task, for one run or for no particular run.

        Parameters
        ----------
        work : coroutine
            The coroutine.
        run : Recorded, optional
            The run that it is for.
        """
        if run is None:
            return self._tasks.start(work, "A step for all runs")
        record = run.record
        what = f"A step of run {record.prompt_id}"
        return self._tasks.start(work, what, log_fields=record.log_fields)

    def keep(
        self, loop: Callable[[], Coroutine[Any, Any, None]], what: str, again: Backoff = AGAIN
    ) -> asyncio.Task[None]:
        """Run a loop; see `BackgroundTasks.keep`."""
        return self._tasks.keep(loop, what, again=again)

    async def close(self) -> None:
        """Cancel all tasks and wait until they are done."""
        await self._tasks.close()
