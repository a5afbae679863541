"""The button that runs a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets as t

from ..display.page import View, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Panel

MOST_AT_ONCE = 100
"""How many runs one click may queue."""


class RunButton(View):
    """The button that runs the workflow, and a field for the number of runs.

    Parameters
    ----------
    panel : RunPanel
        The panel that contains it.
    run : callable
        Called on a click with the number of runs, and with what was typed and is not confirmed yet.
    """

    _esm = script("run_button")

    disabled = t.Bool(True).tag(sync=True)
    most = t.Int(MOST_AT_ONCE).tag(sync=True)
    # why the number of runs is not valid
    problem = t.Unicode().tag(sync=True)

    def __init__(self, panel: Panel, run: Callable[[Any, Any], object]) -> None:
        self._run = run
        super().__init__(panel)

    def _on_run(self, message: dict[str, Any], _: object) -> None:
        if not self.disabled:
            self._run(message["times"], message["typed"])
