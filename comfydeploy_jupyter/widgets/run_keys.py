"""The keys of a panel that runs workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import traitlets as t

from ..display.page import View, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Panel


class RunKeys(View):
    """Handles the keys of a panel: run, cancel, and a list of the keys.

    It also measures the height that the page has for a result.

    Parameters
    ----------
    panel : Panel
        The panel that contains it.
    cancel : callable
        Called when the user has confirmed that the run is to be cancelled.
    """

    _esm = script("keys")

    running = t.Bool(False).tag(sync=True)

    def __init__(self, panel: Panel, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        super().__init__(panel)

    def _on_cancel(self, _: object, __: object) -> None:
        self._cancel()
