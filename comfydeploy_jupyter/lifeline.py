"""What tells in the page that a kernel is gone; and the scripts of widgets, wherever they are."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets as t

STATIC = Path(__file__).parent / "widgets" / "static"
"""The style sheets and the scripts of widgets."""


def script(name: str) -> str:
    """Return a script with what all scripts share before it, as one module."""
    return "\n".join(
        (STATIC / f"{part}.js").read_text(encoding="utf-8") for part in ("common", name)
    )


class Lifeline(anywidget.AnyWidget):
    """Notices in the page that the kernel is gone; then it says so and disables what is around it.

    Parameters
    ----------
    around : str
        The class, in the page, of the widget that it is in.
    text : str
        What it says.
    """

    _esm = script("lifeline")

    around = t.Unicode().tag(sync=True)
    text = t.Unicode().tag(sync=True)

    def __init__(self, around: str, text: str) -> None:
        super().__init__(around=around, text=text)
