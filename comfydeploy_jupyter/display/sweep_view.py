"""Sweeps as widgets in a notebook."""

from __future__ import annotations

import html
import threading
import time
from typing import TYPE_CHECKING, Any

from .activity import sweep_activity, sweep_end
from .notebook import close_tree

if TYPE_CHECKING:
    from ..client import SweepProgress

SWEEP_CLASS = "comfydeploy-sweep"
GONE = (
    "The kernel of this sweep was restarted or has ended. Run this cell again to continue it;"
    " queued runs continue."
)

SHEET_INTERVAL, SHEET_SHARE = 1.0, 10.0
"""Shortest time between two pictures of a contact sheet: in s, and as a multiple of the time that
the last one took to draw."""

UNFINISHED = frozenset({"waiting", "queued", "running", "uploading"})
"""The statuses of points whose runs have not ended."""


class SweepView:
    """A sweep as widgets in the output of the cell: a bar, a stop button, the contact sheet.

    At the end, contact sheet and table replace them, which are stored in the notebook.

    Parameters
    ----------
    progress : SweepProgress
        The progress of the sweep.
    """

    def __init__(self, progress: SweepProgress) -> None:
        import ipywidgets as w
        from IPython.display import display

        from ..client.sweep import current_cell
        from .kernel_status import KernelStatus

        self._sweep = progress.sweep
        full = w.Layout(width="100%", margin="0", min_width="0")
        self._text = w.HTML(layout=full)
        self._bar = w.FloatProgress(max=1.0, layout=full)
        self._bar.tabbable = False
        self._stop = w.Button(
            description="Stop",
            icon="stop",
            tooltip="Cancel the queued runs; resume() continues",
            layout=w.Layout(width="90px", margin="0", flex="0 0 auto"),
        )
        self._stop.on_click(lambda _: self._stop_sweep())
        self._hint = " · interrupt the kernel to stop it" if progress.blocking else ""
        if progress.blocking:  # the kernel cannot react to a button before the end
            self._stop.layout.display = "none"
        self._sheet = w.Image(
            format="webp",
            layout=w.Layout(max_width="100%", align_self="flex-start", display="none"),
        )
        row = w.HBox([self._bar, self._stop], layout=w.Layout(width="100%", grid_gap="8px"))
        kernel_status = KernelStatus(SWEEP_CLASS, GONE)
        self._box = w.VBox(
            [kernel_status, self._text, row, self._sheet], layout=w.Layout(grid_gap="4px")
        )
        self._box.add_class(SWEEP_CLASS)
        self._drawn: dict[str, int] | None = None
        self._next_sheet = 0.0
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = f"A sweep of {len(self._sweep)} points"
        # IPython has no types
        self._handle: Any = display(bundle, raw=True, display_id=True)
        self._sweep.shown_in = current_cell()

    def show(self, progress: SweepProgress) -> None:
        """Update the widgets."""
        self._bar.value = progress.fraction
        self._text.value = (
            f'<div style="line-height:1.4">{html.escape(progress.summary)}'
            f" · {progress.elapsed:.0f} s{self._hint}"
            '<div role="status" style="color:var(--jp-ui-font-color2);overflow:hidden;'
            'text-overflow:ellipsis;white-space:nowrap">'
            f"{html.escape(sweep_activity(progress)) or '&nbsp;'}</div></div>"
        )
        counts, now = progress.counts, time.monotonic()
        ended = {name: number for name, number in counts.items() if name not in UNFINISHED}
        if now < self._next_sheet or ended == self._drawn:
            return
        self._sheet.value = self._sweep.to_webp()
        self._sheet.layout.display = ""
        self._drawn = ended
        done = time.monotonic()
        self._next_sheet = done + max(SHEET_INTERVAL, SHEET_SHARE * (done - now))

    def end(self, progress: SweepProgress) -> None:
        """Replace the widgets by contact sheet and table."""
        page = f"<div>{html.escape(sweep_end(progress))}</div>{self._sweep.to_html()}"
        self._handle.update({"text/html": page, "text/plain": repr(self._sweep)}, raw=True)
        close_tree(self._box)

    def _stop_sweep(self) -> None:
        self._stop.disabled = True
        self._stop.description = "Stopping"
        threading.Thread(target=self._sweep.stop, name="comfydeploy-stop", daemon=True).start()
