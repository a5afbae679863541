"""How the time that something takes grows with its input."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NEGLIGIBLE = 0.002


def seconds(task: Callable[[], object]) -> float:
    """Return how long a task takes, the shortest of three times."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        task()
        times.append(time.process_time() - begun)
        if times[-1] < _NEGLIGIBLE:
            break
    return min(times)


def grows_too_fast(task: Callable[[int], object], size: int) -> bool:
    """Tell whether a task on eight times the input takes more than twenty times as long.

    A linear task takes eight times as long, a quadratic one sixty-four times. What takes less
    than two milliseconds for the larger input is no harm.
    """
    larger = seconds(lambda: task(8 * size))
    if larger < _NEGLIGIBLE:
        return False
    return larger > 20 * max(seconds(lambda: task(size)), _NEGLIGIBLE / 20)
