"""Small pieces that several panels are made of."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import anywidget
import ipywidgets as w
import traitlets as t

from .base import GAP, LABEL_WIDTH, STATIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


def card(title: str, *children: w.Widget) -> w.VBox:
    """Return widgets in a frame under a title."""
    head = w.HTML(f'<div class="comfydeploy-title">{html.escape(title)}</div>')
    box = w.VBox([head, *children], layout=w.Layout(width="100%", grid_gap=GAP))
    box.add_class("comfydeploy-card")
    return box


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
    tooltip: str = "",
    style: str = "",
    disabled: bool = False,
) -> w.Button:
    """Return a button.

    Parameters
    ----------
    label : str
        What is on it; empty for one with an icon only, which then needs a tooltip as its name.
    do : callable
        Called on a click, without arguments; give it `Panel.attempt` or `Panel.start` so that its
        errors are shown.
    icon : str
        A name of Font Awesome 4.
    tooltip : str
        What it does, for the mouse and for screen readers.
    style : str
        ``primary``, ``success``, ``warning``, ``danger``, ``info`` or nothing.
    disabled : bool
        Whether it starts disabled.
    """
    made = w.Button(
        description=label,
        icon=icon,
        tooltip=tooltip or label,
        button_style=style,
        disabled=disabled,
        layout=w.Layout(width="auto" if label else "36px", margin="0"),
    )
    made.on_click(lambda _: do())
    return made


def search_combo(label: str, options: Sequence[str], value: str = "", hint: str = "") -> w.Combobox:
    """Return a field that offers the options which contain what is typed.

    Any text can be typed; look at ``options`` where only these will do.

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
    return w.Combobox(
        description=label,
        options=tuple(options),
        value=value,
        placeholder=hint,
        continuous_update=False,
        style={"description_width": LABEL_WIDTH},
        layout=w.Layout(flex="1 1 240px", width="auto", margin="0"),
    )


class CopyButton(anywidget.AnyWidget):
    """A button that puts a text on the clipboard and says so.

    Parameters
    ----------
    text : str
        What is copied; may be changed at any time.
    label : str
        What is on the button.
    """

    _esm = STATIC / "copy_button.js"

    text = t.Unicode().tag(sync=True)
    label = t.Unicode("Copy").tag(sync=True)

    def __init__(self, text: str = "", label: str = "Copy") -> None:
        super().__init__(text=text, label=label)
