"""The live views of runs and sweeps, for notebooks and terminals."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..client.text import Terminal
from .activity import activity, sweep_activity, sweep_end, sweep_left
from .live import INTERVAL, Followed, Live, View
from .notebook import NotebookView, ProgressWidgets, close_tree, in_notebook
from .sweep_view import SweepView, show_sweeps
from .terminal import Line, SweepLine, TerminalView

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..client import RunProgress, SweepProgress

__all__ = [
    "INTERVAL",
    "Followed",
    "Line",
    "Live",
    "NotebookView",
    "ProgressWidgets",
    "SweepLine",
    "SweepView",
    "TerminalView",
    "View",
    "activity",
    "close_tree",
    "in_notebook",
    "progress_display",
    "show_sweeps",
    "sweep_activity",
    "sweep_end",
    "sweep_left",
]


def progress_display(
    progress: RunProgress | SweepProgress,
) -> AbstractContextManager[object]:
    """Return the view of a run or a sweep: widgets, a line in a terminal, or nothing.

    Parameters
    ----------
    progress : RunProgress or SweepProgress
        The progress, which the caller updates inside the context.
    """
    from ..client import SweepProgress

    terminal = Terminal.of(sys.stderr)
    if isinstance(progress, SweepProgress):
        if in_notebook():
            return Live(progress, SweepView(progress))
        return nullcontext() if terminal is None else Live(progress, SweepLine(terminal))
    if in_notebook():
        return Live(progress, NotebookView())
    return nullcontext() if terminal is None else Live(progress, TerminalView(terminal))
