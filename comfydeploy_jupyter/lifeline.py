"""The message in a page that its kernel has ended, and the folder of the widgets' scripts."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets as t

STATIC = Path(__file__).parent / "widgets" / "static"
"""The folder of the widgets' style sheets, and of their scripts, which `js/build.mjs` makes."""


def script(name: str) -> str:
    """Return the script of a view: a single module that imports no others."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")


class Lifeline(anywidget.AnyWidget):
    """Shows that the kernel has ended, and then disables the controls around it.

    Parameters
    ----------
    around : str
        The CSS class of the widget that it is in.
    text : str
        The text that it shows.
    """

    _esm = script("lifeline")

    around = t.Unicode().tag(sync=True)
    text = t.Unicode().tag(sync=True)

    def __init__(self, around: str, text: str) -> None:
        super().__init__(around=around, text=text)
