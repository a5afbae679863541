"""Work that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..net.tasks import end

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..store.runs import RunRecord

T = TypeVar("T")

log = logging.getLogger(__name__)


class Recorded(Protocol):
    """What has a record that says which run it is."""

    record: RunRecord


class Background:
    """Tasks that run on their own; what goes wrong in one is in the log."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], run: Recorded | None = None) -> asyncio.Task[T]:
        """Begin with something, for a run or for all."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, run))
        return task

    async def close(self) -> None:
        """Stop everything."""
        await end(self._tasks)

    def _done(self, run: Recorded | None, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is None:
            return
        if run is None:
            log.error("A step for all runs failed", exc_info=fault)
        else:
            log.error(
                "A step of run %s failed",
                run.record.prompt_id,
                exc_info=fault,
                extra=run.record.log_fields,
            )
