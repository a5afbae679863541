"""The present activity of a run or a sweep, and the outcome of a sweep, as short texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..client.text import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Point, RunProgress, SweepProgress


def sweep_activity(
    progress: SweepProgress, label: Callable[[Point], str] = lambda point: point.label
) -> str:
    """Return the point and node that a sweep runs now, e.g. ``"seed 3, cfg 7: KSampler 3/20"``."""
    current = progress.current
    if current is None:
        return ""
    point, run = current
    return label(point) if run is None else f"{label(point)}: {activity(run)}"


def sweep_left(progress: SweepProgress) -> str:
    """Return the time that a sweep will probably take from now on, e.g. ``"about 12 s left"``."""
    seconds = progress.time_left
    if seconds is None:
        return "time left unknown"
    return f"about {duration(seconds) if seconds >= 59.5 else f'{seconds:.0f} s'} left"


def sweep_end(progress: SweepProgress) -> str:
    """Return the outcome of a sweep on one line."""
    error = progress.sweep.error
    why = "" if error is None else f": {error}"
    status = progress.status.capitalize()
    return f"{status} after {progress.elapsed:.1f} s: {progress.summary}{why}"


def activity(progress: RunProgress) -> str:
    """Return the node that a run executes now, or its status, e.g. ``"KSampler 3/20"``."""
    if progress.node is None:
        words = {
            "queued": "Waiting in the queue",
            "left": "No longer followed",
            "not-started": "Not started",
        }
        return words.get(progress.status, progress.status.capitalize())
    steps = f" {progress.step}/{progress.steps}" if progress.steps > 1 else ""
    kind = progress.node.type
    beside = f" ({kind})" if kind and kind != progress.node.short else ""
    return f"{progress.node.short}{beside}{steps}"
