"""Runs as widgets in a notebook."""

from __future__ import annotations

import html
import sys
from typing import TYPE_CHECKING, Any

from .activity import activity

if TYPE_CHECKING:
    from ..client import RunProgress


class NotebookView:
    """A run as widgets in the output of the cell; at the end, one line replaces them."""

    def __init__(self) -> None:
        from IPython.display import display

        self._widgets = ProgressWidgets()
        # IPython has no types
        self._handle: Any = display(self._widgets.box, display_id=True)

    def show(self, progress: RunProgress) -> None:
        """Update the widgets."""
        self._widgets.show(progress)

    def end(self, progress: RunProgress) -> None:
        """Replace the widgets by a line, which is stored in the notebook."""
        line = f"{progress.status.capitalize()} after {progress.elapsed:.1f} s"
        if progress.status == "not-started":
            line = "Not started"
        self._handle.update({"text/plain": line}, raw=True)
        self._widgets.close()


class ProgressWidgets:
    """The widgets that show a run: two bars, the node, the clock, the preview of the sampler.

    Attributes
    ----------
    box : ipywidgets.VBox
        The box that has all widgets.
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
        """Show the present progress of the run."""
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
        """Show the end of the run; the widgets stay for the next run."""
        self.show(progress)
        self._preview.layout.display = "none"
        self._shown_preview = b""
        self._overall.bar_style = {"success": "success", "failed": "danger"}.get(
            progress.status, "warning"
        )

    def reset(self) -> None:
        """Reset the widgets for another run."""
        self._overall.value, self._overall.bar_style = 0.0, ""

    def close(self) -> None:
        """Remove all of them from the page and from the kernel."""
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


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return False
    try:
        import ipywidgets  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True
