"""Measures how the time of a function grows with its input."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
