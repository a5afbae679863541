"""Sweeps as widgets in a notebook."""

from __future__ import annotations

import html
import sys
import threading
import time
from typing import TYPE_CHECKING

from ..client.text import duration
from .activity import sweep_activity, sweep_end, sweep_left
from .notebook import close_tree, in_notebook
from .record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Comfy, Point, Sweep, SweepProgress

SWEEP_CLASS = "comfydeploy-sweep"
GONE = (
    "The kernel of this sweep was restarted or has ended. Run this cell again to continue it;"
    " queued runs continue."
)

SHEET_INTERVAL, SHEET_SHARE = 0.5, 10.0
"""Shortest time between two updates of the sheet: in s, and as a multiple of the time that the last
one took."""

POINTS_IN_A_SECOND = 2_000
"""How many points are sent to the page in a second at most."""


class SweepView:
    """A sweep in the output of a cell: its progress, its points, stars, downloads.

    It stays at the end, until its cell is run again. A plain sheet and a table, which are hidden
    meanwhile, are stored in the notebook.

    Parameters
    ----------
    progress : SweepProgress
        The progress of the sweep.
    """

    def __init__(self, progress: SweepProgress) -> None:
        import ipywidgets as w
        from IPython.display import display

        from ..client.sweep import current_cell
        from ..view_scripts import STATIC
        from .kernel_status import KernelStatus
        from .sheet_view import SheetView

        self._sweep = progress.sweep
        self._progress = progress
        self._lock = threading.RLock()
        self._closed = False
        self._shown: object = None
        self._next_sheet = 0.0
        self._record = Record("Sweep", self.close)
        style = (STATIC / "panel.css").read_text(encoding="utf-8")
        self._view = SheetView(self, self._sweep)
        self._show_progress()
        self._box = w.VBox(
            [
                w.HTML(
                    f"<style>{style}{self._record.hiding}</style>", layout=w.Layout(display="none")
                ),
                KernelStatus(SWEEP_CLASS, GONE),
                self._view,
            ],
            layout=w.Layout(width="auto"),
        )
        self._box.add_class("comfydeploy-panel")
        self._box.add_class(SWEEP_CLASS)
        self._record.set("", f"A sweep of {len(self._sweep)} points")
        self._record.show()
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = f"A sweep of {len(self._sweep)} points"
        display(bundle, raw=True)
        self._sweep.shown_in = current_cell()
        self._sweep.changes.watch(self._changed)
        self.start(self._connect)

    @property
    def comfy(self) -> Comfy:
        """The client."""
        return self._sweep.comfy

    @property
    def closing(self) -> bool:
        """Whether its cell was run again."""
        return self._closed

    def start(self, task: Callable[..., object], *args: object) -> threading.Thread:
        """Run a task in a thread, and show its error if it raises one."""
        thread = threading.Thread(
            target=self.attempt, args=(task, *args), name="comfydeploy-sheet", daemon=True
        )
        thread.start()
        return thread

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task in this thread, and show its error if it raises one."""
        try:
            task(*args)
        except Exception as error:
            if not self._closed:
                self._view.send({"kind": "problem", "problem": str(error)})

    def show(self, progress: SweepProgress) -> None:
        """Update the widgets."""
        self._show_progress()
        counts, now = progress.counts, time.monotonic()
        if now < self._next_sheet or counts == self._shown:
            return
        self._refresh()
        self._sweep.contact_sheet.fetch()  # so that little is left to do at the end
        if progress.blocking:
            self._view.push_pictures()
        self._shown = counts
        done = time.monotonic()
        pause = max(
            SHEET_INTERVAL, SHEET_SHARE * (done - now), len(self._sweep) / POINTS_IN_A_SECOND
        )
        self._next_sheet = done + pause

    def end(self, progress: SweepProgress) -> None:
        """Show the end, and store the plain sheet and the table in the notebook."""
        self._changed()
        self.keep()

    def keep(self) -> None:
        """Store the plain sheet and the table in the notebook."""
        page = f"<div>{html.escape(self._headline())}</div>{self._sweep.to_html()}"
        self._record.set(page, repr(self._sweep))

    def close(self) -> None:
        """Remove the widgets."""
        self._closed = True
        self._sweep.changes.leave(self._changed)
        self._record.close()
        close_tree(self._box)

    def _changed(self) -> None:
        if not self._closed:
            self._show_progress()
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:  # `hold_sync` of a widget is not for several threads
            self._view.refresh()

    def _connect(self) -> None:
        """Send the page the address of the server, from which it then requests the pictures."""
        from .page_view import server_facts

        instance = str(self.comfy.status().get("instance", ""))
        self._view.server = server_facts(self.comfy.server, instance)

    def _headline(self) -> str:
        progress = self._progress
        if progress.ended is None:
            return f"{self._sweep.status.capitalize()}: {progress.summary}"
        return sweep_end(progress)

    def _show_progress(self) -> None:
        progress, sweep = self._progress, self._sweep
        running = sweep.status == "running" and progress.ended is None
        text = self._headline()
        if running:
            elapsed = duration(progress.elapsed) if progress.elapsed >= 60 else None
            elapsed = elapsed or f"{progress.elapsed:.0f} s"
            text = f"{progress.summary} · {elapsed} · {sweep_left(progress)}"
        state = {
            "phase": "running" if running else "ended",
            "text": text,
            "activity": sweep_activity(progress, self._label) if running else "",
            "spoken": f"{sweep.status.capitalize()}: {progress.summary}",
            "saved": "" if sweep.path is None else str(sweep.path),
            "fraction": progress.fraction,
            "blocking": progress.blocking,
        }
        with self._lock:
            self._view.progress = state

    def _label(self, point: Point) -> str:
        return self._sweep.words.label(point.values)


def show_sweeps() -> None:
    """Have IPython show sweeps as widgets, if this is the kernel of a notebook."""
    if not in_notebook():
        return
    shell = sys.modules["IPython"].get_ipython()
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("comfydeploy_jupyter.client.sweep.sweep", "Sweep", _show)


def _show(sweep: Sweep) -> None:
    """Show a sweep that does not run in the output of a cell that does not show it yet.

    Raises
    ------
    NotImplementedError
        IPython then shows its HTML.
    """
    from ..client.sweep import current_cell

    if sweep.status == "running" or sweep.shown_in == current_cell():
        raise NotImplementedError
    SweepView(sweep.progress).keep()
