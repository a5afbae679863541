"""Asyncio tasks: started in the background, waited for, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

T = TypeVar("T")
File = TypeVar("File", bound="IO[bytes] | None")

CANCEL_AGAIN = 1.0  # seconds after which a task that is still running is cancelled once more

logger = logging.getLogger(__name__)


class BackgroundTasks:
    """Tasks that nobody needs to wait for. An exception that ends one is logged.

    The event loop itself holds only weak references to tasks; this holds strong ones until they
    are done. A task that is cancelled before its first step never enters its coroutine, so a
    ``finally`` in there does not run: what must happen in any case belongs into ``when_done``.

    Parameters
    ----------
    log : logging.Logger, optional
        Where exceptions are logged.
    """

    def __init__(self, log: logging.Logger = logger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self,
        work: Coroutine[Any, Any, T],
        what: str = "A background task",
        *,
        log_fields: Mapping[str, object] | None = None,
        expected: tuple[type[Exception], ...] = (),
        when_done: Callable[[], object] | None = None,
    ) -> asyncio.Task[T]:
        """Run a coroutine as a task.

        Parameters
        ----------
        work : coroutine
            The coroutine.
        what : str
            What it does, for the log: the beginning of a sentence that goes on with "failed".
        log_fields : mapping, optional
            Fields of the log record.
        expected : tuple of exception types
            Exceptions that are not logged: whoever awaits the task handles them.
        when_done : callable, optional
            Called on the event loop once the task is done, however it ended.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, what, log_fields, expected, when_done))
        return task

    async def close(self) -> None:
        """Cancel all tasks and wait until they are done, those that they start meanwhile too."""
        while self._tasks:
            await end(self._tasks)

    def _done(
        self,
        what: str,
        log_fields: Mapping[str, object] | None,
        expected: tuple[type[Exception], ...],
        when_done: Callable[[], object] | None,
        task: asyncio.Task[Any],
    ) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, expected):
            self._log.error("%s failed", what, exc_info=error, extra=log_fields)
        if when_done is not None:
            when_done()


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all of them are done.

    A task may swallow a cancellation: before Python 3.12, `asyncio.wait_for` does so where what it
    waits for is done at the same moment. A task that is still running is therefore cancelled again.

    Parameters
    ----------
    tasks : iterable of asyncio.Future
        The tasks; their results and exceptions are dropped.
    """
    tasks = list(tasks)
    while running := {task for task in tasks if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


async def wait_for(work: Awaitable[T], timeout: float | None) -> T:
    """Wait for an awaitable; cancel it where that takes too long, or where the caller is cancelled.

    `asyncio.wait_for` does the same, but before Python 3.12 it swallows a cancellation of the
    caller that comes at the moment at which the awaitable is done.

    Parameters
    ----------
    work : awaitable
        What to wait for.
    timeout : float or None
        In seconds; None: without end.

    Raises
    ------
    asyncio.TimeoutError
        The awaitable was not done in time. It is done now.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        await end([task])
        raise
    if task.done():
        return task.result()
    await end([task])
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()  # it was done at the last moment


async def wait_until_set(event: asyncio.Event, timeout: float) -> bool:
    """Wait until an event is set, or for so many seconds; return whether it is set."""
    if not event.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(event.wait(), timeout)
    return event.is_set()


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
