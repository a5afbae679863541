"""What is on its way: uploads of the page, and transfers of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..lifeline import STATIC, script

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN = frozenset({"queued", "active", "finishing", "retrying"})
"""The states of what has not ended."""


# ipywidgets, which it is made of, has no types
class TransfersView(anywidget.AnyWidget):
    """The place where files are chosen or dropped, and a row for each file on its way.

    The page sends the files by itself and tells of them in messages, which are the same for every
    page that shows the widget. A page that is left takes its uploads along: whatever is open when
    another page comes, and is not claimed by a page that lives, is ``lost``.

    Parameters
    ----------
    on_order : callable
        Called with each message of the page that asks for something: ``type`` is ``cancel``,
        ``retry`` (a transfer of the server), ``forget``, ``open``, ``chunk``, ``abort`` or
        ``changed`` (the ``uploads`` that have another state), and with the buffers of the message.
    fields : dict of str to ipywidgets.Widget
        As the attribute.

    Attributes
    ----------
    fields : dict of str to ipywidgets.Widget
        The fields that say where files go: ``place`` (a dropdown), ``subfolder``, ``overwrite``.
        The page reads them at the moment when files are chosen.
    places : dict of str to str
        What the choices of ``place`` stand for: the ``type`` of an upload.
    machine : str
        The machine that gets them; empty: the default one.
    instance : str
        Which server the kernel uses; empty as long as it is not known.
    transfers : list of dict
        The transfers of the server that are shown, as in ``upload-queue-status``.
    uploads : dict of str to dict
        The uploads of all pages by their ids: ``name``, ``where``, ``size``, ``sent`` (bytes),
        ``state``, ``error``, ``kept`` (whether its page still has the file), and the ``result`` of
        those that are done.
    """

    _esm = script("transfers")
    _css = STATIC / "transfers.css"

    fields = t.Dict().tag(sync=True, **w.widget_serialization)
    places = t.Dict().tag(sync=True)
    machine = t.Unicode().tag(sync=True)
    instance = t.Unicode().tag(sync=True)
    transfers: t.List[dict[str, Any]] = t.List().tag(sync=True)

    def __init__(
        self,
        on_order: Callable[[dict[str, Any], list[Any]], None],
        fields: dict[str, w.Widget],
    ) -> None:
        super().__init__(fields=fields)
        self.uploads: dict[str, dict[str, Any]] = {}
        self._on_order = on_order
        self.on_msg(self._hear)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to all pages."""
        self.send(message)

    def forget(self, ids: list[str]) -> None:
        """Take uploads out of the list of every page."""
        for upload_id in ids:
            self.uploads.pop(upload_id, None)
        self.tell({"type": "forget", "ids": ids})

    def _hear(self, _: object, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["type"] == "hello":
            self._greet()
        elif message["type"] == "uploads":
            self._take(message["uploads"])
        elif message["type"] in {"cancel", "retry"} and message["id"] in self.uploads:
            self.tell(message)  # to the page that has the file
        else:
            self._on_order(message, buffers)

    def _take(self, uploads: list[dict[str, Any]]) -> None:
        changed = []
        for upload in uploads:
            before = self.uploads.get(upload["id"], {}).get("state")
            self.uploads[upload["id"]] = upload
            if before != upload["state"]:
                changed.append(upload)
        self.tell({"type": "uploads", "uploads": uploads})
        if changed:
            self._on_order({"type": "changed", "uploads": changed}, [])

    def _greet(self) -> None:
        """Tell a new page of the uploads, and let the pages that live claim theirs."""
        for upload in self.uploads.values():
            upload["kept"] = False
            if upload["state"] in OPEN:
                upload["state"] = "lost"
        self.tell({"type": "uploads", "uploads": list(self.uploads.values())})
        self.tell({"type": "report"})
