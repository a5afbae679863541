"""The preview of a run in a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import traitlets as t

from ..display.page import View, script

if TYPE_CHECKING:
    from .base import Panel


class Preview(View):
    """Shows the previews of a run in place of the last result.

    Previews are sent as messages and are not part of the state, so that the notebook does not grow.

    Parameters
    ----------
    panel : Panel
        The panel that contains it.
    """

    _esm = script("preview")

    shown = t.Bool(False).tag(sync=True)

    def __init__(self, panel: Panel) -> None:
        self._content = b""
        self._format = ""
        super().__init__(panel)

    def begin(self) -> None:
        """Begin to show the previews of another run."""
        self._content = b""
        self.shown = False

    def show(self, content: bytes | None, form: str) -> None:
        """Show a picture, unless it is the one that is shown; None changes nothing.

        Parameters
        ----------
        content : bytes or None
            The file of the picture.
        form : str
            Its format, as in ``"image/<format>"``.
        """
        if content and content is not self._content:
            self._content, self._format = content, form
            self.shown = True
            self._send_picture()

    def end(self) -> None:
        """Show nothing until the next preview."""
        self.begin()

    def _send_picture(self) -> None:
        self.send({"kind": "preview", "mime": f"image/{self._format}"}, [self._content])

    def _on_hello(self, _: object, __: object) -> None:
        if self._content:
            self._send_picture()
