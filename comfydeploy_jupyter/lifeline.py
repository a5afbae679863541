"""The message in a page that its kernel is gone; and where the scripts of widgets are."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets as t

STATIC = Path(__file__).parent / "widgets" / "static"
"""The style sheets of widgets, and their scripts, which `js/build.mjs` makes."""


def script(name: str) -> str:
    """Return the script of a view: one module that imports no other."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")


class Lifeline(anywidget.AnyWidget):
    """Shows that the kernel is gone, and then disables the controls around it.

    Parameters
    ----------
    around : str
        The CSS class of the widget that it is in.
    text : str
        What it shows.
    """

    _esm = script("lifeline")

    around = t.Unicode().tag(sync=True)
    text = t.Unicode().tag(sync=True)

    def __init__(self, around: str, text: str) -> None:
        super().__init__(around=around, text=text)
