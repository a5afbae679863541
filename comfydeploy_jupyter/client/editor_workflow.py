"""EditorWorkflow: a workflow file of ComfyUI's editor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import printable
from .graph import Source
from .workflow import Workflow

if TYPE_CHECKING:
    from .server import Server


class EditorWorkflow:
    """A workflow file of ComfyUI's editor; made by `Workflows.in_editor`.

    Attributes
    ----------
    path : str
        Its path in the editor's folder, such as ``people/portrait.json``.
    size : int
        Its size, bytes.
    updated_at : str
        When it was last changed: ISO 8601, UTC.
    """

    def __init__(self, server: Server, record: dict[str, Any], machine: str | None = None) -> None:
        self._server = server
        self._machine = machine
        self.path = str(record["path"])
        self.size = int(record["size"])
        self.updated_at = str(record["updated_at"])

    @property
    def name(self) -> str:
        """Its name without folders and ending."""
        return self.path.rpartition("/")[2].removesuffix(".json")

    @property
    def source(self) -> Source:
        """Its graph, as it is now."""
        found = self._server.get("editor/workflow", file=self.path, machine=self._machine)
        return Source(found["workflow"] or found["workflow_api"])

    def load(self) -> Workflow:
        """Return it as a `Workflow`, as ``comfy.load`` does."""
        return Workflow(self._server, self.source, title=self.name)

    def __repr__(self) -> str:
        when = self.updated_at[:16].replace("T", " ")
        return printable(f"<editor workflow {self.path!r}, {when}>")
