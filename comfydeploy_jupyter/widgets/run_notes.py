"""The warnings about the workflow of a RunPanel."""

from __future__ import annotations

import html

import ipywidgets as w


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

    def hide(self) -> None:
        """Hide the lists until the next `show`."""
        self.layout.display = "none"


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
