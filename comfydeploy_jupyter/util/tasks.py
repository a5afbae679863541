"""Background tasks, waiting with timeouts, and closing many objects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from .. import metrics
from ..errors import ComfyDeployError
from .times import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

T = TypeVar("T")

CANCEL_AGAIN = 1.0  # seconds after which a task that is still running is cancelled again
AGAIN = Backoff(first=1.0, longest=60.0)  # pauses before a loop that has failed is started again
RECOVERED_AFTER = 60.0  # seconds after which a loop that is running again has no failures

logger = logging.getLogger(__name__)


def report(
    log: logging.Logger, text: str, *values: object, error: BaseException, **options: Any
) -> None:
    """Log an unexpected exception of background work with its traceback, and count it."""
    metrics.BACKGROUND_FAILURES.inc()
    log.error(text, *values, exc_info=error, **options)


async def close_each(*closing: Callable[[], Awaitable[object] | None]) -> None:
    """Close objects one after the other; a failure is reported, and the others are closed, too."""
    for close in closing:
        try:
            work = close()
            if work is not None:
                await work
        except Exception as error:
            name = getattr(close, "__qualname__", repr(close))
            report(logger, "%s failed; the rest is closed nevertheless", name, error=error)


class BackgroundTasks:
    """Runs background work as tasks that no code has to await.

    This is the only way to run a loop, or work that no code awaits. An exception of any type is
    logged and counted (`report`). Work that is started once ends with it: ``when_done`` or the
    coroutine itself tells those who wait. A loop (`keep`) is started again after a pause.

    The event loop itself has only weak references to tasks; this class has strong ones until they
    are done. A task that is cancelled before its first step never enters its coroutine, so a
    ``finally`` in it does not run: necessary clean-up belongs in ``when_done``.
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
        """Run a coroutine as a task; ``what`` begins a sentence of the log that ends with "failed".

        Exceptions that are ``expected`` are not logged: the code that awaits the task handles them.
        ``when_done`` is called also if the task failed or was cancelled.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(_: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, expected):
                report(self._log, "%s failed", what, error=error, extra=log_fields)
            if when_done is not None:
                when_done()

        task.add_done_callback(done)
        return task

    def keep(
        self,
        loop: Callable[[], Coroutine[Any, Any, None]],
        what: str,
        *,
        log_fields: Mapping[str, object] | None = None,
        again: Backoff = AGAIN,
    ) -> asyncio.Task[None]:
        """Run a loop as a task; if it fails, run it again after a pause, until it returns.

        An exception that follows an equal one is logged at level DEBUG.
        """
        return self.start(self._keep(loop, what, log_fields, again), what, log_fields=log_fields)

    async def close(self) -> None:
        """Cancel all tasks, also ones that they start meanwhile; wait until they are done."""
        while self._tasks:
            await end(self._tasks)

    async def _keep(
        self,
        loop: Callable[[], Coroutine[Any, Any, None]],
        what: str,
        log_fields: Mapping[str, object] | None,
        again: Backoff,
    ) -> None:
        failures, last = 0, ""
        while True:
            since = time.monotonic()
            # A task of its own shows whether a CancelledError is meant for the loop, or was raised
            # in it because something that it awaits was cancelled.
            running = asyncio.ensure_future(loop())
            try:
                await asyncio.wait([running])
            finally:
                await end([running])
            if running.cancelled():
                exc: BaseException | None = asyncio.CancelledError("what it awaits was cancelled")
            else:
                exc = running.exception()
            if exc is None:
                return
            if time.monotonic() - since >= RECOVERED_AFTER:
                failures, last = 0, ""
            failures += 1
            pause = again.pause(failures)
            metrics.BACKGROUND_FAILURES.inc()
            known = isinstance(exc, ComfyDeployError)
            before, last = last, repr(exc)
            self._log.log(
                logging.DEBUG if last == before else logging.WARNING if known else logging.ERROR,
                "%s failed, and goes on in %.1f s: %s",
                what,
                pause,
                exc,
                exc_info=None if known else exc,
                extra=log_fields,
            )
            await asyncio.sleep(pause)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all of them are done.

    A task may ignore a cancellation: before Python 3.12, `asyncio.wait_for` does so if the awaited
    task is done at the same moment. Therefore a task that is still running is cancelled again.
    """
    tasks = list(tasks)
    while running := {task for task in tasks if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


async def wait_for(work: Awaitable[T], timeout: float | None) -> T:
    """Wait for an awaitable; cancel it if it takes too long, or if the caller is cancelled.

    `asyncio.wait_for` does the same, but before Python 3.12 it ignores a cancellation of the caller
    at the moment at which the awaitable is done. asyncio.TimeoutError: it is done or cancelled now.
    """
    if timeout is None:
        return await work
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
    return task.result()  # it was done just before the cancellation


async def wait_until_set(event: asyncio.Event, timeout: float) -> bool:
    """Wait for an event for at most some seconds; return whether it is set."""
    if not event.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(event.wait(), timeout)
    return event.is_set()


async def open_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Open what is closed with `close` in a thread; if the caller is cancelled, close it."""
    opening = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(close_result)
        raise


def close_result(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None and opening.result() is not None:
        opening.result().close()
