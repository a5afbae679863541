"""What a RunPanel has beside the form: the bar with Run and Cancel, the keys, the warnings."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import traitlets as t

from ..display.page import View, script
from .parts import Note, button, note, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Panel
    from .progress import ProgressView
    from .run_panel import RunPanel


MAX_AT_ONCE = 100
"""How many runs one click may queue."""


class RunButton(View):
    """The button that runs the workflow, and a field for the number of runs."""

    _esm = script("run_button")

    disabled = t.Bool(True).tag(sync=True)
    most = t.Int(MAX_AT_ONCE).tag(sync=True)
    # why the number of runs is not valid
    problem = t.Unicode().tag(sync=True)

    def __init__(self, panel: Panel, run: Callable[[Any, Any], object]) -> None:
        self._run = run
        super().__init__(panel)

    def _on_run(self, message: dict[str, Any], _: object) -> None:
        if not self.disabled:
            self._run(message["times"], message["typed"])


class RunKeys(View):
    """Handles the keys of a panel: run, cancel, and a list of the keys.

    It also measures the height that the page has for a result.
    """

    _esm = script("keys")

    running = t.Bool(False).tag(sync=True)

    def __init__(self, panel: Panel, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        super().__init__(panel)

    def _on_cancel(self, _: object, __: object) -> None:
        self._cancel()


# ipywidgets has no types
class RunNotes(w.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """Lists of warnings about a workflow, the first of them open; hidden while there are none."""

    def __init__(self) -> None:
        super().__init__(layout=w.Layout(margin="0", display="none"))

    def show(self, *notes: tuple[str, list[str]]) -> None:
        """Show these lists, each with its heading; empty ones are left out."""
        parts = [_folded(about, lines) for about, lines in notes if lines]
        self.value = "".join(parts).replace("<details", "<details open", 1)
        self.layout.display = "" if self.value else "none"


def introduction(title: str) -> tuple[str, str]:
    """Return what a saved notebook shows of a panel with this workflow, as HTML and as text."""
    name = f"RunPanel: {title}" if title else "RunPanel"
    return f"<p><b>{html.escape(name)}</b></p>", f"<{name}>"


def _folded(about: str, lines: list[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f'<details class="comfydeploy-note"><summary>{html.escape(about)} ({len(lines)})</summary>'
        f"<ul>{items}</ul></details>"
    )


# ipywidgets has no types
class RunBar(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The buttons and the state of a panel that runs workflows."""

    def __init__(self, panel: RunPanel, errors: w.HTML, progress: ProgressView) -> None:
        self.run = RunButton(panel, panel.press_run)
        self._cancel = button(
            "Cancel",
            lambda: panel.attempt(panel.cancel),
            icon="stop",
            hint="Cancel the run that is shown",
            disabled=True,
        )
        self._cancel_all = button(
            "Cancel all",
            lambda: panel.attempt(panel.cancel_all),
            hint="Cancel this run and those that wait behind it",
        )
        self._cancel_all.layout.display = "none"
        self._state = w.HTML(layout=w.Layout(margin="0", flex="1 1 120px", width="auto"))
        self._state.add_class("cd-state")
        self._price = Note()
        self._keys = RunKeys(panel, panel.cancel)
        self._download = button(
            "Download",
            lambda: panel.attempt(panel.fetch_models),
            icon="download",
            hint="Download the missing models into their folders",
        )
        self._download.layout.align_self = "flex-start"
        self.offer_download(False)
        super().__init__(
            [
                row(self.run, self._cancel, self._cancel_all, self._state, self._keys),
                self._price,
                errors,
                self._download,
                progress,
            ]
        )
        self.add_class("cd-bar-box")

    def offer_download(self, offered: bool) -> None:
        """Show a button that downloads the missing models beside the error, or hide it."""
        self._download.layout.display = "" if offered else "none"

    def show_text(self, text: str) -> None:
        """Show a state beside the buttons."""
        self._state.value = note(text, live=True)

    def show_price(self, text: str) -> None:
        """Show below the buttons what a run costs, or nothing."""
        self._price.show(text)

    def match(self, *, ready: bool, runs: int) -> None:
        """Enable or disable the buttons."""
        self._keys.running = runs > 0
        self.run.disabled = not ready
        self._cancel.disabled = not runs
        self._cancel_all.disabled = False
        self._cancel_all.layout.display = "" if runs > 1 else "none"

    def cancelling(self, *, everything: bool) -> None:
        """Disable the buttons that cancel, until `match` is called."""
        self._cancel.disabled = True
        if everything:
            self._cancel_all.disabled = True
