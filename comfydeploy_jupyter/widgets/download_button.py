"""A file of the kernel, saved by the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from ..lifeline import script

if TYPE_CHECKING:
    from collections.abc import Callable


class DownloadButton(anywidget.AnyWidget):
    """A button that saves a file on the user's own machine.

    Parameters
    ----------
    label : str
        What is on it.
    on_wanted : callable
        Called on a click; must end in `send_file` or `nothing`.
    """

    _esm = script("download")

    label = t.Unicode().tag(sync=True)

    def __init__(self, label: str, on_wanted: Callable[[], object]) -> None:
        super().__init__(label=label)
        self._on_wanted = on_wanted
        self.on_msg(self._hear)

    def send_file(self, name: str, content: bytes, mime: str) -> None:
        """Give the browser the file."""
        self.send({"type": "file", "name": name, "mime": mime}, [content])

    def nothing(self) -> None:
        """Tell the browser that there is no file after all."""
        self.send({"type": "nothing"})

    def _hear(self, _: object, message: dict[str, Any], __: object) -> None:
        if message["type"] == "wanted":
            self._on_wanted()
