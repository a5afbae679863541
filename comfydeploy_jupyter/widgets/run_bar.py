"""The bar of a RunPanel, which stays visible: Run, Cancel, the state, errors and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from .parts import button, note, row
from .run_button import RunButton
from .run_keys import RunKeys

if TYPE_CHECKING:
    from .progress import ProgressView
    from .run_panel import RunPanel


# ipywidgets has no types
class RunBar(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The buttons and the state of a panel that runs workflows.

    Parameters
    ----------
    panel : RunPanel
        The panel that contains it.
    errors : ipywidgets.HTML
        Shows the errors of the panel.
    progress : ProgressView
        Shows the progress of the run.
    """

    def __init__(self, panel: RunPanel, errors: w.HTML, progress: ProgressView) -> None:
        self._run = RunButton(panel, panel.press_run)
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
                row(self._run, self._cancel, self._cancel_all, self._state, self._keys),
                errors,
                self._download,
                progress,
            ]
        )
        self.add_class("cd-bar-box")

    @property
    def problem(self) -> str:
        """Why the number of runs is not valid; can be set."""
        return str(self._run.problem)

    @problem.setter
    def problem(self, text: str) -> None:
        self._run.problem = text

    def offer_download(self, offered: bool) -> None:
        """Show a button that downloads the missing models beside the error, or hide it."""
        self._download.layout.display = "" if offered else "none"

    def show_text(self, text: str) -> None:
        """Show a state beside the buttons."""
        self._state.value = note(text, live=True)

    def match(self, *, ready: bool, runs: int) -> None:
        """Enable or disable the buttons.

        Parameters
        ----------
        ready : bool
            Whether there is a workflow to run.
        runs : int
            How many runs can be cancelled.
        """
        self._keys.running = runs > 0
        self._run.disabled = not ready
        self._cancel.disabled = not runs
        self._cancel_all.disabled = False
        self._cancel_all.layout.display = "" if runs > 1 else "none"

    def cancelling(self, *, everything: bool) -> None:
        """Disable the buttons that cancel, until `match` is called."""
        self._cancel.disabled = True
        if everything:
            self._cancel_all.disabled = True
