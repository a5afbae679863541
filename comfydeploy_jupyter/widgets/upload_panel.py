"""Sending files to ComfyUI, the list of transfers, the models, and adding one from a link."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Literal

import traitlets as t

from ..client.files import UploadedFile
from ..client.text import text_table
from ..util.markup import html_table
from .panel import Panel

if TYPE_CHECKING:
    from ..client import Comfy

ADVICE = "No files were sent. Without widgets: connect().upload('picture.png')"
HEADS = ("file", "destination", "size", "state", "SHA-256")


class UploadPanel(Panel):
    """A panel that sends files to ComfyUI, and shows transfers and models.

    The browser sends files of any size directly to the Jupyter server, also while the kernel is
    busy. Where the browser cannot reach the server that the kernel uses (VS Code, Colab), files go
    through the kernel in chunks.

    Parameters
    ----------
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    destination : str
        The destination that is chosen first: ``input``, ``output``, ``temp`` or
        ``models/<folder>``.
    subfolder : str
        The subfolder of the destination.
    machine : str, optional
        The machine whose ComfyUI receives the files, by its id or name; default the default one.
    choose_machine : bool
        Whether the machine can be chosen, where there are several.
    **kwargs
        Traits of `ipywidgets.DOMWidget`, such as ``layout``.

    Attributes
    ----------
    machine : str or None
        The machine that receives the next files; None for the default one; can be set.
    uploads : list of dict
        The files that were chosen, in all pages that show the panel: ``name``, ``where``, ``size``
        and ``sent`` (bytes), ``state``, ``error``, and the ``result`` of those that are done.

    Examples
    --------
    >>> panel = UploadPanel(destination="models/loras")            # doctest: +SKIP
    >>> panel.uploaded[-1]                                         # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("comfy", "destination", "subfolder", "machine", "choose_machine")

    place = t.Unicode("input").tag(sync=True)
    subfolder = t.Unicode().tag(sync=True)
    overwrite = t.Bool().tag(sync=True)
    machine = t.Unicode(None, allow_none=True).tag(sync=True)
    choose_machine = t.Bool(True).tag(sync=True)
    uploads: t.List[dict[str, Any]] = t.List(t.Dict()).tag(sync=True)
    # the transfers of the server that were seen, by their ids, and whether they are still shown
    followed: t.Dict[str, bool] = t.Dict().tag(sync=True)
    # what the saved notebook shows
    rows: t.List[list[str]] = t.List(t.List(t.Unicode())).tag(sync=True)
    # another number has the page request the models again
    refreshed = t.Int().tag(sync=True)

    def __init__(
        self,
        comfy: Comfy | Panel | None = None,
        *,
        destination: str = "input",
        subfolder: str = "",
        machine: str | None = None,
        choose_machine: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            comfy,
            place=destination,
            subfolder=subfolder,
            machine=machine,
            choose_machine=choose_machine,
            **kwargs,
        )
        self.observe(self._keep_rows, "rows")
        self._keep_rows()

    @property
    def uploaded(self) -> list[UploadedFile]:
        """The files that have arrived; ``str()`` of one is the name that a loader node takes."""
        results = [upload["result"] for upload in self.uploads if upload["state"] == "done"]
        return [
            UploadedFile(r["name"], r["subfolder"], r["type"], r["size"], r["file_hash"])
            for r in results
        ]

    @property
    def transfers(self) -> list[dict[str, Any]]:
        """The transfers of the server, as in ``upload-queue-status``."""
        return list(self.comfy.uploads()["uploads"])

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models of the machine: ``name``, ``folder``, ``size``, ``modified``."""
        return [
            {"name": m.name, "folder": m.folder, "size": m.size, "modified": m.modified}
            for m in self.comfy.models(machine=self.machine)
        ]

    @property
    def destination(self) -> dict[str, Any]:
        """Where the next files go: ``type``, ``subfolder``, ``overwrite`` and ``machine``."""
        return {
            "type": self.place,
            "subfolder": self.subfolder.strip().strip("/"),
            "overwrite": self.overwrite,
            "machine": self.machine or "",
        }

    def add_model(
        self,
        url: str,
        folder: str,
        *,
        filename: str | None = None,
        sha256: str | None = None,
        source: Literal["link", "huggingface", "civitai"] | None = None,
    ) -> None:
        """Download a model, like the button *Add model*; do not wait for it.

        Parameters
        ----------
        url, folder, filename, sha256, source
            As in `Comfy.add_model`.
        """
        self.clear_error()
        self.start(self._add_model, url, folder, filename, sha256, source)

    def refresh(self) -> None:
        """Have the page request the models again; do not wait for them."""
        self.refreshed += 1

    def _add_model(self, url: str, folder: str, *more: Any) -> None:
        filename, sha256, source = more
        made = self.comfy.add_model(
            url, folder, filename=filename, sha256=sha256, source=source, machine=self.machine
        )
        self.followed = {**self.followed, str(made["id"]): True}

    def _keep_rows(self, _: object = None) -> None:
        """Set the output that the saved notebook shows."""
        if self.rows:
            rows = [tuple(row) for row in self.rows]
            self.keep(html_table(HEADS, rows), text_table([HEADS, *rows]))
        else:
            self.keep(f"<p>{html.escape(ADVICE)}</p>", ADVICE)
