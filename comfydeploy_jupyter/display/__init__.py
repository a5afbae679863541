"""The live views of runs and sweeps, for notebooks and terminals."""

from __future__ import annotations

import html
import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from ..client.results import NAMED_FILES
from ..client.text import Terminal, counted, cut, duration, in_notebook, ipython_shell
from ..errors import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..client import RunProgress, Sweep, SweepProgress


def sweep_activity(progress: SweepProgress) -> str:
    """Return the point and node that a sweep runs now, e.g. ``"seed 3, cfg 7: KSampler 3/20"``."""
    current = progress.current
    if current is None:
        return ""
    point, run = current
    return point.label if run is None else f"{point.label}: {activity(run)}"


def sweep_left(progress: SweepProgress) -> str:
    """Return the time that a sweep will probably take from now on, e.g. ``"about 12 s left"``."""
    seconds = progress.time_left
    if seconds is None:
        return "time left unknown"
    return f"about {duration(seconds) if seconds >= 59.5 else f'{seconds:.0f} s'} left"


def sweep_end(progress: SweepProgress) -> str:
    """Return the outcome of a sweep on one line."""
    why = f": {progress.sweep.why}" if progress.sweep.why else ""
    status = progress.status.capitalize()
    return f"{status} after {progress.elapsed:.1f} s: {progress.summary}{why}"


def activity(progress: RunProgress) -> str:
    """Return the node that a run executes now, or its status.

    For example ``"KSampler 3/20"``, and in loops ``"KSampler (iteration 2 of 8) 3/20"``.
    """
    if progress.node is None:
        words = {
            "queued": "Waiting in the queue",
            "left": "No longer followed",
            "not-started": "Not started",
        }
        if progress.status == "queued" and progress.waiting_for:
            return f"Waiting for {counted(len(progress.waiting_for), 'run')}"
        return words.get(progress.status, progress.status.capitalize())
    steps = f" {progress.step}/{progress.steps}" if progress.steps > 1 else ""
    kind = progress.node.type
    beside = f" ({kind})" if kind and kind != progress.node.short else ""
    rounds = ", ".join(f"{number} of {total}" for number, total in progress.iterations)
    loops = f" (iteration {rounds})" if rounds else ""
    return f"{progress.node.short}{beside}{loops}{steps}"


INTERVAL = 0.1
"""Shortest time between two updates of a view, s."""

CLOCK_INTERVAL = 0.5
"""How often a view is updated if nothing has changed, so that its clock is updated, s."""


class Live:
    """A context in which a view follows a run or a sweep, at most ten times a second.

    The methods of the view get the progress: ``end`` once, and before it ``show`` in a thread, so
    that a slow view does not delay the run, and so that the clock is also updated while no events
    arrive. A view that fails does not affect the run.
    """

    def __init__(self, progress: RunProgress | SweepProgress, view: Any) -> None:
        self._progress = progress
        self._view = view
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="comfydeploy-view", daemon=True)

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        if self._progress.ended is None:
            left = "left" if self._progress.version else "not-started"
            self._progress.finish("cancelled" if kind is KeyboardInterrupt else left)
        with suppress(Exception):
            self._view.end(self._progress)

    def _loop(self) -> None:
        shown, at = -1, 0.0
        with suppress(Exception):
            while True:
                now = time.monotonic()
                if self._progress.version != shown or now - at >= CLOCK_INTERVAL:
                    shown, at = self._progress.version, now
                    self._view.show(self._progress)
                if self._over.wait(INTERVAL):
                    return


class NotebookView:
    """A run as widgets in the output of the cell; at the end, one line replaces them."""

    def __init__(self) -> None:
        import ipywidgets as w
        from IPython.display import display

        full = w.Layout(width="100%", margin="0", min_width="0")
        self._overall = w.FloatProgress(max=1.0, layout=full)
        self._overall.tabbable = False
        self._step = w.FloatProgress(max=1.0, layout=w.Layout(width="100%", margin="0"))
        self._text = w.HTML(layout=full)
        self._preview = w.Image(
            format="jpeg", layout=w.Layout(max_width="320px", margin="4px 0 0", display="none")
        )
        self._step.layout.visibility = "hidden"
        self._step.layout.height = "14px"
        self._shown_preview = b""
        self.box = w.VBox(
            [self._text, self._overall, self._step, self._preview],
            layout=w.Layout(width="100%", max_width="560px", grid_gap="4px"),
        )
        # IPython has no types
        self._handle: Any = display(self.box, display_id=True)

    def show(self, progress: RunProgress) -> None:
        self._overall.value = progress.fraction
        self._text.value = (
            '<div style="display:flex;justify-content:space-between;gap:12px;line-height:1.4">'
            '<span style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap">'
            f"{html.escape(activity(progress))}</span>"
            '<span style="font-variant-numeric:tabular-nums;white-space:nowrap;'
            f'color:var(--jp-ui-font-color2)">{progress.fraction:.0%} · {progress.elapsed:.1f} s'
            "</span></div>"
        )
        self._step.max = max(1.0, float(progress.steps))
        self._step.value = float(progress.step)
        self._step.layout.visibility = "visible" if progress.steps > 1 else "hidden"
        if progress.preview is not self._shown_preview:
            self._shown_preview = progress.preview
            self._preview.format = progress.preview_format
            self._preview.value = progress.preview
            self._preview.layout.display = "" if progress.preview else "none"

    def end(self, progress: RunProgress) -> None:
        """Replace the widgets by a line, which is stored in the notebook."""
        line = f"{progress.status.capitalize()} after {progress.elapsed:.1f} s"
        if progress.status == "not-started":
            line = "Not started"
        self._handle.update({"text/plain": line}, raw=True)
        close_tree(self.box)


def close_tree(widget: Any) -> None:
    """Close a widget, all widgets in it, and their layouts and styles."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    parts = [getattr(widget, name, None) for name in ("layout", "style")]
    widget.close()
    for part in parts:
        if part is not None:
            part.close()


class Line:
    """A line of text in a terminal that is overwritten with each update."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._full, self._empty = ("█", "░") if terminal.can_write("█░") else ("#", "-")

    def draw(self, fraction: float, elapsed: float, text: str) -> None:
        """Write the line, shortened to the width of the terminal."""
        line = f"{self._bar(fraction, elapsed)}{text}"
        line = self._terminal.writable("".join(c if c.isprintable() else " " for c in line))
        self.write(f"\r{cut(line, self._terminal.width - 1)}\x1b[K")

    def write(self, text: str) -> None:
        self._terminal.stream.write(text)
        self._terminal.stream.flush()

    def _bar(self, fraction: float, elapsed: float) -> str:
        done = round(fraction * 20)
        bar = self._full * done + self._empty * (20 - done)
        return f"{bar} {fraction:4.0%}  {elapsed:5.1f} s  "


class TerminalView(Line):
    """A run as one line of text; at the end it stays and names the files of the run."""

    def show(self, progress: RunProgress) -> None:
        self.draw(progress.fraction, progress.elapsed, activity(progress))

    def end(self, progress: RunProgress) -> None:
        """Write the final line; none if the run was not started."""
        if progress.status == "not-started":
            self.write("\r\x1b[K")
            return
        files = [] if progress.result is None else progress.result.files
        named = [self._terminal.link(file.filename, file.url) for file in files[:NAMED_FILES]]
        if len(files) > NAMED_FILES:
            named.append(f"and {counted(len(files) - NAMED_FILES, 'file')} more")
        text = printable(activity(progress)) + (": " if named else "") + ", ".join(named)
        self.write(f"\r{self._bar(progress.fraction, progress.elapsed)}{text}\x1b[K\n")


class SweepLine(Line):
    """A sweep as one line of text; at the end it stays and has the outcome."""

    def show(self, progress: SweepProgress) -> None:
        counts = f"{progress.summary}, {sweep_left(progress)}"
        text = ": ".join(part for part in (counts, sweep_activity(progress)) if part)
        self.draw(progress.fraction, progress.elapsed, text)

    def end(self, progress: SweepProgress) -> None:
        text = self._terminal.writable(printable(sweep_end(progress)))
        self.write(f"\r{text}\x1b[K\n")


def progress_display(
    progress: RunProgress | SweepProgress,
) -> AbstractContextManager[object]:
    """Return the view of a run or a sweep: widgets, a line in a terminal, or nothing."""
    from ..client import SweepProgress

    terminal = Terminal.of(sys.stderr)
    if isinstance(progress, SweepProgress):
        if in_notebook():
            from .sweeps import SweepPanel

            return Live(progress, SweepPanel.shown(progress.sweep))
        return nullcontext() if terminal is None else Live(progress, SweepLine(terminal))
    if in_notebook():
        return Live(progress, NotebookView())
    return nullcontext() if terminal is None else Live(progress, TerminalView(terminal))


def show_sweeps() -> None:
    """Have IPython show sweeps as widgets, if this is the kernel of a notebook."""
    if not in_notebook():
        return
    formatter = ipython_shell().display_formatter.ipython_display_formatter
    formatter.for_type_by_name("comfydeploy_jupyter.client.sweep.sweep", "Sweep", _show)


def _show(sweep: Sweep) -> None:
    """Show a sweep that does not run in the output of a cell that does not show it yet."""
    from ..client.sweep import current_cell

    if sweep.status == "running" or sweep.shown_in == current_cell():
        raise NotImplementedError
    from .sweeps import SweepPanel

    SweepPanel.shown(sweep).keep_sheet()
