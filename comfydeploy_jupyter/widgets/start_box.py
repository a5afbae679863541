"""The part of a panel without a workflow: files, stored workflows and examples to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets as t

from ..display.page import View, script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..graphs.examples import Example
    from .base import Panel

MOST = 5
"""How many files, and how many stored workflows, are offered."""


class StartBox(View):
    """Offers files, stored workflows and examples.

    Parameters
    ----------
    panel : Panel
        The panel that contains it.
    pick : callable
        Called with the title of a workflow that the user chose.
    show : callable
        Called with an `Example` that the user chose.
    """

    _esm = script("start")

    files: t.List[str] = t.List().tag(sync=True)
    stored: t.List[str] = t.List().tag(sync=True)
    examples: t.List[str] = t.List().tag(sync=True)
    shown = t.Bool(False).tag(sync=True)

    def __init__(
        self, panel: Panel, pick: Callable[[str], object], show: Callable[[Example], object]
    ) -> None:
        self._pick = pick
        self._show = show
        self._examples: dict[str, Example] = {}
        super().__init__(panel)

    def offer(
        self, files: Sequence[str], stored: Sequence[str], examples: Sequence[Example]
    ) -> None:
        """Show these ways to begin; files and stored workflows by their titles in the picker."""
        self._examples = {example.title: example for example in examples}
        with self.hold_sync():
            self.files, self.stored = [*files[:MOST]], [*stored[:MOST]]
            self.examples = [*self._examples]
            self.shown = True

    def hide(self) -> None:
        """Show nothing, since there is a workflow."""
        self.shown = False

    def _on_pick(self, message: dict[str, Any], _: object) -> None:
        self._pick(str(message["title"]))

    def _on_example(self, message: dict[str, Any], _: object) -> None:
        self._show(self._examples[str(message["title"])])
