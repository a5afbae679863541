"""The output of a panel or a sweep in the saved notebook."""

from __future__ import annotations

import html
import uuid
from typing import TYPE_CHECKING, Any

from ..errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable


class Record:
    """The plain output of a panel's cell, which the panel's style hides while the panel works.

    Parameters
    ----------
    name : str
        The class of the panel, which is shown until `set` is called.
    forgotten : callable, optional
        Called when no cell shows it any more, because its cells were run again.

    Attributes
    ----------
    was_shown : bool
        Whether any cell has shown it.
    cells : set of str or None
        The ids of the cells that show it now; None stands for a cell without an id.
    """

    def __init__(self, name: str, forgotten: Callable[[], object] | None = None) -> None:
        self._id = f"comfydeploy-record-{uuid.uuid4().hex}"
        self._shell: Any = None
        self._forgotten = forgotten
        self.was_shown = False
        self.cells: set[str | None] = set()
        self._hint = f"<i>{html.escape(name)}: run this cell to use it.</i>"
        self._html = ""
        self.plain_text = f"<{name}>"

    @property
    def hiding(self) -> str:
        """The rule of the style sheet that hides it, and the empty line that is left of it."""
        return (
            f".{self._id}, .jp-OutputArea-child:has(.{self._id}), "
            f".output_area:has(.{self._id}) {{ display: none }}"
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
        display(self._bundle(), raw=True, display_id=self._id)
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

            update_display(self._bundle(), raw=True, display_id=self._id)

    def _bundle(self) -> dict[str, str]:
        content = f'<div class="{self._id}">{self._html}<p>{self._hint}</p></div>'
        return {"text/html": content, "text/plain": self.plain_text}


def _current_cell(shell: Any) -> str | None:
    """Return the id of the cell that is executed now, or None where the page sends none."""
    get_parent = getattr(shell.kernel, "get_parent", None)  # not every kernel is ipykernel's
    request = (get_parent("shell") if callable(get_parent) else None) or {}
    found = (request.get("metadata") or {}).get("cellId")
    return found if isinstance(found, str) else None
