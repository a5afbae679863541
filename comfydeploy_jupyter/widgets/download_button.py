"""A button that downloads a file of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from ..display.page import script

if TYPE_CHECKING:
    from collections.abc import Callable


class DownloadButton(anywidget.AnyWidget):
    """A button with which the browser saves a file of the kernel.

    Parameters
    ----------
    label : str
        Its text.
    on_wanted : callable
        Called on a click; must lead to a call of `send_file` or `nothing`.
    """

    _esm = script("download")

    label = t.Unicode().tag(sync=True)

    def __init__(self, label: str, on_wanted: Callable[[], object]) -> None:
        super().__init__(label=label)
        self._on_wanted = on_wanted
        self.on_msg(self._receive)

    def send_file(self, name: str, content: bytes, mime: str) -> None:
        """Send the file to the browser."""
        self.send({"type": "file", "name": name, "mime": mime}, [content])

    def nothing(self) -> None:
        """Enable the button again without sending a file."""
        self.send({"type": "nothing"})

    def _receive(self, _: object, message: dict[str, Any], __: object) -> None:
        if message["type"] == "wanted":
            self._on_wanted()
