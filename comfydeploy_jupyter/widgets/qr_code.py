"""A QR code of a link."""

from __future__ import annotations

import anywidget
import traitlets as t

from ..view_scripts import script


class QrCode(anywidget.AnyWidget):
    """Shows a text as a QR code, which the page makes; folded at first.

    Attributes
    ----------
    text : str
        The text; nothing is shown while it is empty.
    """

    _esm = script("qr_code")

    text = t.Unicode().tag(sync=True)
