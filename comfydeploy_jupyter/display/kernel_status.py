"""The message in a page that its kernel has ended."""

from __future__ import annotations

import anywidget
import traitlets as t

from ..view_scripts import script


class KernelStatus(anywidget.AnyWidget):
    """Shows that the kernel has ended, and then disables the controls around it.

    Parameters
    ----------
    around : str
        The CSS class of the widget that contains this one.
    text : str
        The text that it shows.
    """

    _esm = script("kernel_status")

    around = t.Unicode().tag(sync=True)
    text = t.Unicode().tag(sync=True)

    def __init__(self, around: str, text: str) -> None:
        super().__init__(around=around, text=text)
