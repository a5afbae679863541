"""Waiting in tests for what happens in other tasks, threads and processes."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
EVERY = 0.01  # s


def until(
    read: Callable[[], T],
    accept: Callable[[T], object] = bool,
    *,
    timeout: float = 60,
    what: str | Callable[[], object] = "",
) -> T:
    """Call a function until it returns what is waited for, and return that.

    Parameters
    ----------
    read : callable
        What is asked again and again, without arguments.
    accept : callable
        Tells whether a value is what is waited for; by default whether it is true.
    timeout : float
        Seconds after which the test fails; a value that comes after them is taken if it is the
        next one that is read, so that a busy machine does not fail a test.
    what : str or callable
        What the failure says besides the value that was read last; a function is called for it.

    Raises
    ------
    AssertionError
        It was not there in time.
    """
    __tracebackhide__ = True
    begin = time.monotonic()
    while not accept(value := read()):
        if time.monotonic() - begin > timeout:
            raise AssertionError(_failure(timeout, value, what))
        time.sleep(EVERY)
    return value


async def until_async(
    read: Callable[[], T | Awaitable[T]],
    accept: Callable[[T], object] = bool,
    *,
    timeout: float = 60,
    what: str | Callable[[], object] = "",
) -> T:
    """Do what `until` does in a coroutine; ``read`` and ``what`` may return awaitables."""
    __tracebackhide__ = True
    begin = time.monotonic()
    while not accept(value := await _value(read())):
        if time.monotonic() - begin > timeout:
            told = what if isinstance(what, str) else await _value(what())
            raise AssertionError(_failure(timeout, value, str(told)))
        await asyncio.sleep(EVERY)
    return value


async def _value(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _failure(timeout: float, value: object, what: str | Callable[[], object]) -> str:
    told = what if isinstance(what, str) else what()
    return f"not within {timeout} s: the last value was {value!r}{f'; {told}' if told else ''}"
