"""A sweep in the output of a cell of a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ..client.sweep import current_cell
from ..widgets.batch_panel import BatchPanel
from . import sweep_end, sweep_left

if TYPE_CHECKING:
    from ..client import Sweep, SweepProgress


class SweepPanel(BatchPanel):
    """The panel of a sweep, in the cell that runs or shows it until that cell is run again.

    A plain sheet and a table, which are hidden meanwhile, are stored in the notebook.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        super().__init__(sweep.id, sweep.comfy)
        self.component = BatchPanel.__name__
        self.forgotten = self.close
        self.keep("", f"A sweep of {sweep.counts['total']} points")

    @classmethod
    def shown(cls, sweep: Sweep) -> SweepPanel:
        """Show a sweep in the output of the present cell."""
        from IPython.display import display

        panel = cls(sweep)
        display(panel)
        sweep.shown_in = current_cell()
        return panel

    def show(self, progress: SweepProgress) -> None:
        """Tell a page that does not reach the server while the kernel waits."""
        self.status = f"{progress.summary} · {sweep_left(progress)}"

    def end(self, progress: SweepProgress) -> None:
        self.status = sweep_end(progress)
        self.keep_sheet()

    def keep_sheet(self) -> None:
        """Store the present sheet and table in the notebook."""
        progress = self._sweep.progress
        line = progress.summary if progress.ended is None else sweep_end(progress)
        self.keep(f"<div>{html.escape(line)}</div>{self._sweep.to_html()}", repr(self._sweep))
