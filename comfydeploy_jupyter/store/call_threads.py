"""Threads that make calls for the event loop; calls that wait are made in batches."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Outcome(NamedTuple):
    """The result of a call, or its exception."""

    result: Any = None
    error: Exception | None = None


class CallThreads(Generic[T]):
    """Makes calls in threads, in the order in which they were requested.

    `asyncio.loop.run_in_executor` does the same for one call at a time, with two futures and a lock
    for each. Here a thread takes over all calls that wait, and the event loop is woken up once for
    all of their outcomes.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[Sequence[T]], list[Outcome]],
        *,
        threads: int = 1,
        most: int = 1,
    ) -> None:
        self._name = name
        self._do = do
        self._most = most
        self._number = threads
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[tuple[T, asyncio.Future[Any]] | None] = SimpleQueue()
        self._closed = False

    def call(self, call: T) -> asyncio.Future[Any]:
        """Request a call; return the future of its result.

        A call is not made if its future is cancelled before a thread takes it.
        """
        if self._closed:
            raise RuntimeError("the threads of the store have ended")
        if not self._threads:
            for number in range(self._number):
                name = f"{self._name}_{number}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put((call, future))
        return future

    def end(self) -> None:
        """Refuse further calls; the threads end after those that were requested."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while self._do_some():
            pass

    def _do_some(self) -> bool:
        """Make the waiting calls, at least one; return False after the last call.

        This is a separate method, so that the thread has no references to the calls while it waits.
        """
        taken = [self._queue.get()]
        with suppress(Empty):
            while taken[-1] is not None and len(taken) < self._most:
                taken.append(self._queue.get_nowait())
        calls = [call for call in taken if call is not None and not call[1].cancelled()]
        if calls:
            try:
                outcomes = self._do([call for call, _ in calls])
            except Exception as error:
                outcomes = [Outcome(error=error)] * len(calls)
            futures = [future for _, future in calls]
            with suppress(RuntimeError):  # the event loop was closed
                futures[0].get_loop().call_soon_threadsafe(_set_outcomes, futures, outcomes)
        return taken[-1] is not None


def _set_outcomes(futures: list[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.cancelled():
            continue
        if outcome.error is None:
            future.set_result(outcome.result)
        elif isinstance(outcome.error, StopIteration):  # which no future accepts
            future.set_exception(RuntimeError("a call of the store raised StopIteration"))
        else:
            future.set_exception(outcome.error)
