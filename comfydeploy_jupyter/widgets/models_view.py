"""The table of ComfyUI's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from ..display.page import STATIC, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..client.files import Model

READING = "!"
"""In place of the hash of a model whose file is being read."""


class ModelsView(anywidget.AnyWidget):
    """A table of models, searched and sorted in the page.

    Parameters
    ----------
    on_refresh : callable
        Called when the user asks for a new list.
    on_hash : callable
        Called with ``"<folder>/<name>"`` when the user asks for the hash of a model.
    on_order : callable
        Called with a message of the page about one model: ``type`` (``uses``, ``delete`` or
        ``move``), ``folder`` and ``name``, also ``in_use``, ``to_folder`` and ``to_name``.

    Attributes
    ----------
    models : list of dict
        ``name``, ``folder``, ``size`` (bytes) and ``modified`` (seconds since 1970) of each.
    loaded : bool
        Whether ComfyUI has been asked for them.
    disk : dict
        ``free`` and ``total`` of the disk that the models are on, bytes; empty if not known.
    hashes : dict
        The known SHA-256 by ``"<folder>/<name>"``; ``"!"`` while a file is being read.
    folders : list of str
        The models folders that a model can be moved to; empty if the files are not on the server's
        machine, so that they can be neither moved nor deleted.
    """

    _esm = script("models")
    _css = STATIC / "models.css"

    models: t.List[dict[str, Any]] = t.List().tag(sync=True)
    loaded = t.Bool().tag(sync=True)
    disk = t.Dict().tag(sync=True)
    hashes = t.Dict().tag(sync=True)
    folders: t.List[str] = t.List().tag(sync=True)

    def __init__(
        self,
        on_refresh: Callable[[], object],
        on_hash: Callable[[str], object],
        on_order: Callable[[dict[str, Any]], object],
    ) -> None:
        super().__init__()
        self._on_order = on_order
        self._on_refresh = on_refresh
        self._on_hash = on_hash
        self.on_msg(self._receive)

    def show(self, models: Iterable[Model], disk: dict[str, int]) -> None:
        """Show these models and their disk; forget the hashes of files that have changed."""
        before = {(m["folder"], m["name"]): (m["size"], m["modified"]) for m in self.models}
        shown = [
            {"name": m.name, "folder": m.folder, "size": m.size, "modified": m.modified}
            for m in models
        ]
        same = {
            f"{m['folder']}/{m['name']}"
            for m in shown
            if before.get((m["folder"], m["name"])) == (m["size"], m["modified"])
        }
        self.hashes = {key: value for key, value in self.hashes.items() if key in same}
        self.models, self.disk = shown, disk
        self.loaded = True

    def set_hash(self, key: str, value: str | None) -> None:
        """Show a hash; None if the file could not be read."""
        others = {name: known for name, known in self.hashes.items() if name != key}
        self.hashes = others if value is None else {**others, key: value}

    def _receive(self, _: object, message: dict[str, Any], __: object) -> None:
        if message["type"] == "refresh":
            self._on_refresh()
        elif message["type"] == "hash":
            self._on_hash(str(message["key"]))
        else:
            self._on_order(message)
