"""The functions that wait: their results, and the messages of their failures."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import until, until_async


def test_it_returns_the_accepted_value():
    values = iter(range(9))
    assert until(lambda: next(values), lambda value: value > 2) == 3
    assert asyncio.run(until_async(lambda: next(values))) == 4


def test_the_failure_has_the_last_value_and_the_description():
    with pytest.raises(AssertionError, match=r"not within 0 s: the last value was \[\]; the log"):
        until(list, timeout=0, what=lambda: "the log")


def test_the_functions_may_be_coroutines():
    async def read() -> int:
        return 0

    async def describe() -> str:
        return "the queue"

    with pytest.raises(AssertionError, match="the last value was 0; the queue"):
        asyncio.run(until_async(read, timeout=0, what=describe))


def test_a_value_at_the_end_of_the_time_is_accepted():
    assert until(lambda: True, timeout=-1)
