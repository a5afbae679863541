"""How a run shows itself while it runs: in a notebook, in a terminal, or not at all."""

from __future__ import annotations

import html
import shutil
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .client import RunProgress

INTERVAL = 0.1
"""Shortest time between two updates of a view, s."""

CLOCK = 0.5
"""How often a view is updated though nothing happened, so that its clock goes on, s."""


class View(Protocol):
    """Shows a `RunProgress`."""

    def show(self, progress: RunProgress) -> None:
        """Show how far the run is."""

    def end(self, progress: RunProgress) -> None:
        """Show the end of the run, and clear what moved."""


def progress_display(progress: RunProgress) -> AbstractContextManager[object]:
    """Return the view of one run that fits the place: widgets, a line of text, or nothing.

    Parameters
    ----------
    progress : RunProgress
        Fed by the caller while it is inside the context.
    """
    if in_notebook():
        return Live(progress, NotebookView())
    if sys.stderr is not None and sys.stderr.isatty():
        return Live(progress, TerminalView(sys.stderr))
    return nullcontext()


class Live:
    """A context in which a view follows a run, at most ten times a second.

    A thread does it, so that a view that is slow never holds up the run, and the clock goes on
    while a node is silent.

    Parameters
    ----------
    progress : RunProgress
        What to show.
    view : View
        Where to show it.
    on_error : callable, optional
        Gets the exception of a view that fails; by default the view just stops.
    """

    def __init__(
        self,
        progress: RunProgress,
        view: View,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        self._progress = progress
        self._view = view
        self._on_error = on_error
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="comfydeploy-view", daemon=True)

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        if self._progress.ended is None:
            self._progress.finish("cancelled" if kind is KeyboardInterrupt else "left")
        self._try(self._view.end)

    def _loop(self) -> None:
        shown, at = -1, 0.0
        while True:
            now = time.monotonic()
            if self._progress.version != shown or now - at >= CLOCK:
                shown, at = self._progress.version, now
                if not self._try(self._view.show):
                    return
            if self._over.wait(INTERVAL):
                return

    def _try(self, show: Callable[[RunProgress], None]) -> bool:
        try:
            show(self._progress)
        except Exception as error:
            if self._on_error is not None:
                self._on_error(error)
            return False
        return True


class TerminalView:
    """One line of text that is written over.

    Parameters
    ----------
    stream : text file
        A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, progress: RunProgress) -> None:
        """Write the line."""
        width = shutil.get_terminal_size().columns - 1
        done = round(progress.fraction * 20)
        bar = "█" * done + "░" * (20 - done)
        line = f"{bar} {progress.fraction:4.0%}  {progress.elapsed:5.1f} s  {activity(progress)}"
        line = "".join(c if c.isprintable() else " " for c in line)[:width]
        self._write(f"\r{line}\x1b[K")

    def end(self, progress: RunProgress) -> None:
        """Clear the line."""
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class NotebookView:
    """Widgets under the running cell; one line is left of them when the run has ended."""

    def __init__(self) -> None:
        from IPython.display import display

        self._widgets = ProgressWidgets()
        # IPython has no types
        self._handle: Any = display(self._widgets.box, display_id=True)  # type: ignore[no-untyped-call]

    def show(self, progress: RunProgress) -> None:
        """Update the widgets."""
        self._widgets.show(progress)

    def end(self, progress: RunProgress) -> None:
        """Close the widgets and leave a line that can be stored in the notebook."""
        line = f"{progress.status.capitalize()} after {progress.elapsed:.1f} s"
        self._handle.update({"text/plain": line}, raw=True)
        self._widgets.close()


class ProgressWidgets:
    """The widgets that show a run: both bars, the node, the clock, the picture of the sampler.

    Attributes
    ----------
    box : ipywidgets.VBox
        All of them.
    """

    def __init__(self) -> None:
        import ipywidgets as w

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

    def show(self, progress: RunProgress) -> None:
        """Show how far the run is."""
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
        """Show the end of the run; the widgets stay for the next one."""
        self.show(progress)
        self._preview.layout.display = "none"
        self._shown_preview = b""
        self._overall.bar_style = {"success": "success", "failed": "danger"}.get(
            progress.status, "warning"
        )

    def reset(self) -> None:
        """Make ready for another run."""
        self._overall.value, self._overall.bar_style = 0.0, ""

    def close(self) -> None:
        """Remove all of them from the page and from the kernel."""
        for widget in (*self.box.children, self.box):
            widget.close()


def activity(progress: RunProgress) -> str:
    """Return in a few words what a run does now, e.g. ``"KSampler 3/20"``."""
    if progress.node is None:
        return {"queued": "Waiting in the queue", "left": "Not followed any more"}.get(
            progress.status, progress.status.capitalize()
        )
    steps = f" {progress.step}/{progress.steps}" if progress.steps > 1 else ""
    kind = progress.node.type
    beside = f" ({kind})" if kind and kind != progress.node.short else ""
    return f"{progress.node.short}{beside}{steps}"


def in_notebook() -> bool:
    """Whether there is a page that may show widgets."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return False
    try:
        import ipywidgets  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True
