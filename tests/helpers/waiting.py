"""Waits in tests for changes by other tasks, threads and processes; growth of durations."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def _pause(begin: float) -> float:
    """Return the seconds until the next call: a tenth of those waited so far, 0.01 to 0.25.

    A reply of a server costs this process and the server several milliseconds of processor time,
    which the awaited process needs on a busy machine.
    """
    return min(max((time.monotonic() - begin) / 10, 0.01), 0.25)


def until(
    read: Callable[[], T],
    accept: Callable[[T], object] = bool,
    *,
    timeout: float = 60,
    what: str | Callable[[], object] = "",
) -> T:
    """Call a function until it returns the awaited value, and return that value.

    After the timeout the value is read once more, so that a test does not fail because the machine
    is busy. `what` is added to the message of the error.
    """
    __tracebackhide__ = True
    begin = time.monotonic()
    while not accept(value := read()):
        if time.monotonic() - begin > timeout:
            raise AssertionError(_failure(timeout, value, what))
        time.sleep(_pause(begin))
    return value


async def until_async(
    read: Callable[[], T | Awaitable[T]],
    accept: Callable[[T], object] = bool,
    *,
    timeout: float = 60,
    what: str | Callable[[], object] = "",
) -> T:
    """The same as `until` for coroutines; ``read`` and ``what`` may return awaitables."""
    __tracebackhide__ = True
    begin = time.monotonic()
    while not accept(value := await _value(read())):
        if time.monotonic() - begin > timeout:
            description = what if isinstance(what, str) else await _value(what())
            raise AssertionError(_failure(timeout, value, str(description)))
        await asyncio.sleep(_pause(begin))
    return value


async def _value(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _failure(timeout: float, value: object, what: str | Callable[[], object]) -> str:
    description = what if isinstance(what, str) else what()
    suffix = f"; {description}" if description else ""
    return f"not within {timeout} s: the last value was {value!r}{suffix}"


_NEGLIGIBLE = 0.002


def seconds(task: Callable[[], object]) -> float:
    """Return the duration of a task, the shortest of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        task()
        times.append(time.process_time() - begun)
        if times[-1] < _NEGLIGIBLE:
            break
    return min(times)


def grows_too_fast(task: Callable[[int], object], size: int) -> bool:
    """Return whether a task takes more than twenty times as long for eight times the input.

    A linear task takes eight times as long, a quadratic one sixty-four times. A task that takes
    less than two milliseconds for the larger input is accepted.
    """
    larger = seconds(lambda: task(8 * size))
    if larger < _NEGLIGIBLE:
        return False
    return larger > 20 * max(seconds(lambda: task(size)), _NEGLIGIBLE / 20)
