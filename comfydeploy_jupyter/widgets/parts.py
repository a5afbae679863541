"""Small pieces that several panels are made of."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..errors import ComfyDeployError
from ..lifeline import script
from .base import GAP
from .view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .base import Panel, Problem


def row(*children: w.Widget, **layout: str) -> w.HBox:
    """Return widgets side by side; they go to the next line where there is no room."""
    return w.HBox(
        list(children),
        layout=w.Layout(
            **{
                "align_items": "center",
                "grid_gap": GAP,
                "width": "100%",
                "flex_flow": "row wrap",
                **layout,
            }
        ),
    )


def note(text: str, *, live: bool = False) -> str:
    """Return a quiet line of text as HTML for `ipywidgets.HTML`, escaped.

    Parameters
    ----------
    text : str
        What it says.
    live : bool
        Whether screen readers shall read it whenever it changes.
    """
    role = ' role="status" aria-live="polite"' if live else ""
    return f'<div class="comfydeploy-note"{role}>{html.escape(text)}</div>'


def button(
    label: str,
    do: Callable[[], object],
    *,
    icon: str = "",
    hint: str = "",
    style: str = "",
    disabled: bool = False,
) -> Button:
    """Return a button.

    Parameters
    ----------
    label : str
        What is on it; empty for one with an icon only, which then needs a hint as its name.
    do : callable
        Called on a click, without arguments; let it use `Panel.attempt` or `Panel.start` so that
        its errors are shown.
    icon : str
        A name of Font Awesome 4.
    hint : str
        What it does, for the mouse and for screen readers.
    style : str
        ``primary`` or nothing.
    disabled : bool
        Whether it starts disabled.
    """
    made = Button(
        description=label, icon=icon, hint=hint or label, button_style=style, disabled=disabled
    )
    made.on_click(do)
    return made


class Button(anywidget.AnyWidget):
    """A button as `ipywidgets.Button`, but with a name for screen readers where it has none."""

    _esm = script("button")

    description = t.Unicode().tag(sync=True)
    icon = t.Unicode().tag(sync=True)
    hint = t.Unicode().tag(sync=True)
    button_style = t.Unicode().tag(sync=True)
    disabled = t.Bool(False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._do: list[Callable[[], object]] = []
        super().__init__(**traits)
        self.on_msg(self._hear)

    def on_click(self, do: Callable[[], object]) -> None:
        """Call a function on each click, without arguments."""
        self._do.append(do)

    def click(self) -> None:
        """Do what a click does."""
        for do in self._do:
            do()

    def _hear(self, _: object, content: object, __: object) -> None:
        if not self.disabled and isinstance(content, dict) and content.get("kind") == "click":
            self.click()


def search_combo(
    label: str, options: Sequence[str] = (), value: str = "", hint: str = ""
) -> SearchCombo:
    """Return a field that offers the options which contain the words that are typed.

    Any text can be typed; set its trait ``free`` to False where only the options will do.

    Parameters
    ----------
    label : str
        Its label.
    options : sequence of str
        What to choose from.
    value : str
        What is chosen.
    hint : str
        Shown while it is empty.
    """
    return SearchCombo(description=label, options=list(options), value=value, placeholder=hint)


class SearchCombo(anywidget.AnyWidget):
    """A labelled field with a list that can be searched: words in any order, arrows, Enter, Escape.

    Observe ``value``. Options are texts, or ``(text, value)`` or ``(text, value, note)``.
    """

    _esm = script("search_combo")

    description = t.Unicode().tag(sync=True)
    options: t.List[Any] = t.List().tag(sync=True)
    value = t.Any("").tag(sync=True)
    placeholder = t.Unicode().tag(sync=True)
    free = t.Bool(True).tag(sync=True)


class FileButton(View):
    """A button that takes a file of the user's computer, of any size.

    It takes files that are dropped on its panel, too, where nothing else takes them.

    Parameters
    ----------
    panel : Panel
        Where it is.
    label, hint : str
        What is on it, and what it does.
    accept : str
        Endings of file names, as HTML has them: ``".json,.png"``.
    take : callable
        Called in a thread with the `pathlib.Path` of the file, which is gone afterwards.
    problem : Problem
        Shows why the last file could not be taken.
    """

    _esm = script("file_button")

    label = t.Unicode().tag(sync=True)
    hint = t.Unicode().tag(sync=True)
    accept = t.Unicode().tag(sync=True)

    def __init__(
        self,
        panel: Panel,
        label: str,
        take: Callable[[Path], object],
        problem: Problem,
        *,
        hint: str = "",
        accept: str = "",
    ) -> None:
        self._take = take
        self._problem = problem
        super().__init__(panel, label=label, hint=hint or label, accept=accept)

    def received(self, path: Path, message: dict[str, Any]) -> None:
        """Hand the file on; where it was in between is nobody's concern."""
        self._problem.clear()
        try:
            self._take(path)
        except (ComfyDeployError, OSError) as error:
            self._problem.show(str(error).replace(f"{path.parent}{os.sep}", ""))

    def _on_refused(self, message: dict[str, Any], _: object) -> None:
        kinds = self.accept.replace(",", ", ")
        self._problem.show(f"{message['name']} is no such file: {self.label} takes {kinds}")


class CopyButton(anywidget.AnyWidget):
    """A button that puts a text on the clipboard and says so.

    Parameters
    ----------
    text : str
        What is copied; may be changed at any time.
    label : str
        What is on the button.
    """

    _esm = script("copy_button")

    text = t.Unicode().tag(sync=True)
    label = t.Unicode("Copy").tag(sync=True)

    def __init__(self, text: str = "", label: str = "Copy") -> None:
        super().__init__(text=text, label=label)
