"""The list of transfers: uploads of the page, and transfers of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..display.page import STATIC, script

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN = frozenset({"queued", "active", "finishing", "retrying"})
"""The states of transfers that have not ended."""


# ipywidgets, which it is made of, has no types
class TransfersView(anywidget.AnyWidget):
    """An area where files are chosen or dropped, and a row for each transfer.

    The page sends the files by itself and reports them in messages, which the kernel passes on to
    all pages that show the widget. The uploads of a page end when it is closed: when another page
    is opened, each unfinished upload that no open page reports again becomes ``lost``.

    Parameters
    ----------
    on_order : callable
        Called with a message of the page and its buffers. Its ``type`` is ``cancel`` or ``retry``
        (of a transfer of the server), ``forget``, ``open``, ``chunk``, ``abort`` or ``changed``
        (``uploads`` are those with a new state).
    fields : dict of str to ipywidgets.Widget
        See the attribute.

    Attributes
    ----------
    fields : dict of str to ipywidgets.Widget
        The fields with the destination: ``place`` (a dropdown), ``subfolder``, ``overwrite``. The
        page reads them when files are chosen.
    places : dict of str to str
        The ``type`` of an upload by the label of each choice of ``place``.
    machine : str
        The machine that receives the files; empty for the default one.
    instance : str
        The id of the server that the kernel uses; empty until it is known.
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
        self._forgotten: set[str] = set()
        self._on_order = on_order
        self.on_msg(self._receive)

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a message to all pages that show the widget."""
        self.send(message)

    def forget(self, ids: list[str]) -> None:
        """Remove uploads from the lists of all pages.

        Messages about these uploads that arrive later are ignored: JupyterLab sends the first
        messages of a page to the kernel's main thread, which may be busy, and others to a subshell.
        """
        self._forgotten.update(ids)
        for upload_id in ids:
            self.uploads.pop(upload_id, None)
        self.broadcast({"type": "forget", "ids": ids})

    def _receive(self, _: object, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["type"] == "hello":
            self._send_state()
        elif message["type"] == "uploads":
            self._take(message["uploads"])
        elif message["type"] in {"cancel", "retry"} and message["id"] in self.uploads:
            self.broadcast(message)  # to the page that has the file
        else:
            self._on_order(message, buffers)

    def _take(self, uploads: list[dict[str, Any]]) -> None:
        uploads = [upload for upload in uploads if upload["id"] not in self._forgotten]
        changed = []
        for upload in uploads:
            before = self.uploads.get(upload["id"], {}).get("state")
            self.uploads[upload["id"]] = upload
            if before != upload["state"]:
                changed.append(upload)
        self.broadcast({"type": "uploads", "uploads": uploads})
        if changed:
            self._on_order({"type": "changed", "uploads": changed}, [])

    def _send_state(self) -> None:
        """Send a new page the uploads, and ask all pages to report theirs again."""
        for upload in self.uploads.values():
            upload["kept"] = False
            if upload["state"] in OPEN:
                upload["state"] = "lost"
        self.broadcast({"type": "uploads", "uploads": list(self.uploads.values())})
        self.broadcast({"type": "report"})
