"""A batch: its progress, its points as a contact sheet, stars for the best, downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets as t

from .panel import Panel

if TYPE_CHECKING:
    from ..client import Comfy

ENDED = ("Done", "Cancelled")


class BatchPanel(Panel):
    """A panel that shows a batch while it runs and afterwards.

    It has the points as a contact sheet, stars for the best, downloads, and buttons to pause, stop,
    continue and retry. The batch belongs to the Jupyter server: it goes on when the panel or the
    kernel is closed.

    Parameters
    ----------
    batch : str
        The id of a batch.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    **kwargs
        Traits of `ipywidgets.DOMWidget`, such as ``layout``.

    Raises
    ------
    TypeError
        An argument is unknown; the message names the closest one.

    Examples
    --------
    >>> BatchPanel("1f0c…")                                              # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("batch", "comfy")

    batch = t.Unicode().tag(sync=True)
    # what the page says about its state
    summary = t.Unicode().tag(sync=True)
    # what Python says about it, for a page that does not reach the server meanwhile
    status = t.Unicode().tag(sync=True)

    def __init__(self, batch: str, comfy: Comfy | Panel | None = None, **kwargs: Any) -> None:
        super().__init__(comfy, batch=batch, **kwargs)
        self.keep("", f"<BatchPanel: {batch}>")
        self.observe(self._changed, "summary")

    def keep_sheet(self) -> None:
        """Store the present sheet and table in the notebook."""
        path, server = f"batch/{self.batch}", self.comfy.server
        with server.request("GET", server.address(f"{path}/sheet", {"format": "html"})) as reply:
            page = reply.content.decode()
        found = server.get(path)
        done = found["counts"].get("success", 0)
        text = f"<BatchPanel: {found['state']}, {done} of {found['total']} points>"
        self.keep(page, text)

    def _changed(self, change: Any) -> None:
        if change["new"].startswith(ENDED):
            self.start(self.keep_sheet)
