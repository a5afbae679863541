"""The node packs that a workflow needs, and their installation by ComfyUI-Manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..util.markup import html_table
from .models import Followed
from .server import fields_in

if TYPE_CHECKING:
    from .server import Server

STATES = {
    "missing": "is missing",
    "waiting": "waits for the one before it",
    "installing": "is being installed",
    "installed": "is installed; ComfyUI has to be restarted: comfy.machines.update(restart=True)",
    "failed": "is not installed",
    "no_manager": "is missing, and this ComfyUI has no ComfyUI-Manager that could install it",
    "cancelled": "is cancelled",
}


@dataclass
class NodePack:
    """A node pack that has missing node classes of a workflow."""

    pack: str
    """Its id in ComfyUI's registry, or the address of its repository."""
    title: str
    url: str
    """The address of a page about it."""
    classes: list[str]
    """The missing node classes that it has."""
    state: str
    """``missing``, ``waiting``, ``installing``, ``installed`` (ComfyUI loads it when it is
    restarted), ``failed``, ``cancelled``, or ``no_manager``: nothing here can install it."""
    problem: str | None = None
    """Why it is not installed: what ComfyUI-Manager says."""
    progress: str | None = None
    """What ComfyUI's log says while it is being installed."""

    def _row(self) -> tuple[str, str, str]:
        said = STATES.get(self.state, self.state)
        more = self.problem or (self.progress if self.state == "installing" else None)
        return self.title, ", ".join(self.classes), f"{said}: {more}" if more else said


class NodePacks(Followed[NodePack]):
    """The node packs that a workflow lacks, with the progress of their installations.

    Made by `Comfy.install_packs`.
    """

    def __init__(self, reply: dict[str, Any], server: Server) -> None:
        self._entries = [fields_in(NodePack, entry) for entry in reply["packs"]]
        self._server = server
        self.machine = str(reply["machine"])
        """The machine whose ComfyUI lacks them."""
        self.manager: str | None = reply["manager"]
        """The version of its ComfyUI-Manager; None without one, or if nothing is missing."""
        self.others: list[dict[str, Any]] = list(reply["others"])
        """The missing node classes whose pack is not known: ``class_type``, ``needs``."""

    @property
    def done(self) -> bool:
        """Whether nothing was being installed at the last `refresh`."""
        return all(pack.state not in ("waiting", "installing") for pack in self._entries)

    def refresh(self) -> NodePacks:
        """Get the progress of the installations from the server; return this list."""
        if not self.done:
            found = self._server.get("node-packs", machine=self.machine)
            known = {one["pack"]: one for one in found}
            for pack in self._entries:
                if one := known.get(pack.pack):
                    pack.state, pack.problem = one["state"], one["problem"]
                    pack.progress = one["progress"]
        return self

    def wait(self, timeout: float | None = None) -> NodePacks:
        """Wait until the installations have ended; return this list.

        Raises RunTimeoutError if they have not ended in time; they continue.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s; by default there is no limit.
        """
        return self._wait(timeout, "The node packs are not installed", "it continues")

    def cancel(self) -> NodePacks:
        """Cancel the installations that wait; ComfyUI-Manager cannot end one that it has begun."""
        for pack in self.refresh():
            if pack.state == "waiting":
                body = {"pack": pack.pack, "machine": self.machine}
                pack.state = self._server.post("cancel-node-packs", body)["state"]
        return self

    def _rows(self) -> list[tuple[str, str, str]]:
        others = [
            (str(each.get("pack") or "?"), str(each["class_type"]), str(each.get("needs") or ""))
            for each in self.others
        ]
        return [*(pack._row() for pack in self._entries), *others]

    def __repr__(self) -> str:
        """Return a line for each pack."""
        lines = ["  ".join(row).rstrip() for row in self._rows()]
        return printable("\n".join(lines or ["no node pack is missing"]))

    def _repr_html_(self) -> str:
        rows = self._rows()
        return html_table(("node pack", "node classes", ""), rows) if rows else f"<p>{self!r}</p>"
