"""What a page gets: the script of panels, the output of the saved notebook, the server."""

from __future__ import annotations

import html
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..client import Comfy

STATIC = Path(__file__).parent / "static"
"""The folder of the style sheet and the scripts of panels, which `js/build.mjs` makes."""


def script(name: str) -> str:
    """Return the script of a view: a single module that imports no others."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")


class Record:
    """The plain output of a panel's cell, which the panel's style hides while the panel works."""

    def __init__(self, name: str, forgotten: Callable[[], object] | None = None) -> None:
        self.css_class = f"comfydeploy-record-{uuid.uuid4().hex}"
        self._shell: Any = None
        self._forgotten = forgotten  # called when no cell shows it any more
        self.was_shown = False
        self.cells: set[str | None] = set()  # the ids of those that show it; None: one without id
        self._hint = f"<i>{html.escape(name)}: run this cell to use it.</i>"
        self._html = ""
        self.plain_text = f"<{name}>"

    @property
    def hiding(self) -> str:
        """The rule of the style sheet that hides it, and the empty line that is left of it."""
        return (
            f".{self.css_class}, .jp-OutputArea-child:has(.{self.css_class}), "
            f".output_area:has(.{self.css_class}) {{ display: none }}"
        )

    def show(self) -> None:
        """Display it in the cell that is executed now."""
        from IPython import get_ipython
        from IPython.display import display

        if self._shell is None:
            self._shell = get_ipython()
            self._shell.events.register("pre_run_cell", self._run_again)
        self.cells.add(_current_cell(self._shell))
        # IPython has no types
        display(self._bundle(), raw=True, display_id=self.css_class)
        self.was_shown = True

    def close(self) -> None:
        """Stop observing which cells are run."""
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._run_again)
            self._shell = None

    def _run_again(self, info: Any) -> None:
        """Record that a cell is run: it does not show the panel any more."""
        cell = getattr(info, "cell_id", None)  # IPython before 8.3 has none
        if cell in self.cells and cell is not None:
            self.cells.discard(cell)
            if not self.cells and self._forgotten is not None:
                self._forgotten()

    def set(self, html_text: str, plain_text: str) -> None:
        """Change the output in every cell that shows it."""
        self._html, self.plain_text = html_text, printable(plain_text)
        if self.was_shown:
            from IPython.display import update_display

            update_display(self._bundle(), raw=True, display_id=self.css_class)

    def _bundle(self) -> dict[str, str]:
        content = f'<div class="{self.css_class}">{self._html}<p>{self._hint}</p></div>'
        return {"text/html": content, "text/plain": self.plain_text}


def _current_cell(shell: Any) -> str | None:
    """Return the id of the cell that is executed now, or None where the page sends none."""
    get_parent = getattr(shell.kernel, "get_parent", None)  # not every kernel is ipykernel's
    request = (get_parent("shell") if callable(get_parent) else None) or {}
    found = (request.get("metadata") or {}).get("cellId")
    return found if isinstance(found, str) else None


def server_facts(comfy: Comfy, status: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the address of the server, its path and its id: by these two a page finds it."""
    status = comfy.status() if status is None else status
    url = comfy.server.url
    return {"url": url, "base": urlsplit(url).path, "instance": str(status.get("instance", ""))}
