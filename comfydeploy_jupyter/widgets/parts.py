"""Small widgets that several panels use."""

from __future__ import annotations

import html
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..display.page import View, script
from ..errors import ComfyDeployError
from .base import GAP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .base import Panel, Problem

LABEL_WIDTH = "100px"


def row(*children: w.Widget) -> w.HBox:
    """Return a row of widgets, which wraps where it is too wide."""
    layout = w.Layout(align_items="center", grid_gap=GAP, width="100%", flex_flow="row wrap")
    return w.HBox(list(children), layout=layout)


def column(*children: w.Widget, **layout: str) -> w.VBox:
    """Return widgets below each other."""
    return w.VBox(list(children), layout=w.Layout(**{"width": "100%", "grid_gap": GAP, **layout}))


def field(
    kind: type[w.Widget],
    label: str,
    basis: str = "",
    *,
    label_width: str = LABEL_WIDTH,
    **traits: Any,
) -> Any:
    """Return a labelled control; in a row it grows from the width ``basis``."""
    size = {"width": "auto", "flex": f"1 1 {basis}"} if basis else {"width": "100%"}
    style = {"description_width": label_width}
    return kind(description=label, style=style, layout=w.Layout(margin="0", **size), **traits)


def checkbox(label: str, *, value: bool = False, width: str = "auto") -> w.Checkbox:
    """Return a checkbox whose label is beside it."""
    layout = w.Layout(width=width, margin="0")
    return w.Checkbox(value, description=label, indent=False, layout=layout)


def text_box(value: str = "", **layout: str) -> w.HTML:
    """Return a place for HTML."""
    return w.HTML(value, layout=w.Layout(**{"margin": "0", "width": "auto", **layout}))


def box(css_class: str, *children: w.Widget) -> w.VBox:
    """Return a box of widgets whose layout is that of a class in ``panel.css``."""
    made = w.VBox(list(children))
    made.add_class(css_class)
    return made


def note(text: str, *, live: bool = False) -> str:
    """Return a line of text in a faint colour, as escaped HTML for `ipywidgets.HTML`."""
    role = ' role="status" aria-live="polite"' if live else ""
    return f'<div class="comfydeploy-note"{role}>{html.escape(text)}</div>'


class Note(w.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """A line of text in a faint colour; hidden while it is empty."""

    def __init__(self, text: str = "", **layout: str) -> None:
        super().__init__(layout=w.Layout(**{"margin": "0", "width": "auto", **layout}))
        self.show(text)

    def show(self, text: str) -> None:
        """Show a text, or nothing."""
        self.value = note(text, live=True) if text else ""
        self.layout.display = "" if text else "none"


def state_html(text: str, colour: str, *, bold: bool = False) -> str:
    """Return a state behind a dot of a colour, as escaped HTML."""
    words = html.escape(text)
    return (
        '<div role="status" aria-live="polite"><span aria-hidden="true" '
        f'style="color:{colour}">●</span> {f"<b>{words}</b>" if bold else words}</div>'
    )


class OwnChoices:
    """Tells choices that code makes in a control from those of the user."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextmanager
    def made(self) -> Iterator[None]:
        """Mark choices that this thread makes in the ``with`` block as not the user's."""
        self._thread.here = True
        try:
            yield
        finally:
            self._thread.here = False

    @property
    def by_user(self) -> bool:
        """Whether a choice of this thread is the user's."""
        return not getattr(self._thread, "here", False)


def button(
    label: str,
    do: Callable[[], object],
    *,
    icon: str = "",
    hint: str = "",
    style: str = "",
    disabled: bool = False,
) -> Button:
    """Return a button."""
    made = Button(
        description=label, icon=icon, hint=hint or label, button_style=style, disabled=disabled
    )
    made.on_click(do)
    return made


class Button(anywidget.AnyWidget):
    """A button like `ipywidgets.Button` that has an accessible name also without a label."""

    _esm = script("button")

    description = t.Unicode().tag(sync=True)
    icon = t.Unicode().tag(sync=True)
    hint = t.Unicode().tag(sync=True)
    button_style = t.Unicode().tag(sync=True)
    disabled = t.Bool(False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._do: list[Callable[[], object]] = []
        super().__init__(**traits)
        self.on_msg(self._receive)

    def on_click(self, do: Callable[[], object]) -> None:
        """Call a function on each click, without arguments."""
        self._do.append(do)

    def click(self) -> None:
        """Call what a click calls."""
        for do in self._do:
            do()

    def _receive(self, _: object, content: object, __: object) -> None:
        if not self.disabled and isinstance(content, dict) and content.get("kind") == "click":
            self.click()


class SearchCombo(anywidget.AnyWidget):
    """A labelled text field with a list of options that can be searched.

    Observe ``value``. Options are texts, or ``(text, value)`` or ``(text, value, note)``.
    """

    _esm = script("search_combo")

    description = t.Unicode().tag(sync=True)
    options: t.List[Any] = t.List().tag(sync=True)
    value = t.Any("").tag(sync=True)
    placeholder = t.Unicode().tag(sync=True)
    free = t.Bool(True).tag(sync=True)


class FileButton(View):
    """A button that receives a file of the user's computer, of any size.

    It also receives a file that is dropped on its panel, unless another part of the panel takes it.
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
        """Pass the file on; its temporary path is removed from error messages."""
        self._problem.clear()
        try:
            self._take(path)
        except (ComfyDeployError, OSError) as error:
            self._problem.show(str(error).replace(f"{path.parent}{os.sep}", ""))

    def _on_refused(self, message: dict[str, Any], _: object) -> None:
        kinds = self.accept.replace(",", ", ")
        self._problem.show(f"{message['name']} cannot be opened here: {self.label} takes {kinds}")
