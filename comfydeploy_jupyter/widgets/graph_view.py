"""A picture of a workflow, in which nodes are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from ..display.page import script
from ..graphs.layout import picture_of

if TYPE_CHECKING:
    from ..client import Result
    from ..client.workflow import Validation, Workflow

FAILED, RUNNING = "failed", "running"
LONGEST = 500  # characters of the text about a node


class GraphView(anywidget.AnyWidget):
    """A picture of a workflow that users can move and zoom in the page.

    Attributes
    ----------
    picture : dict
        What is shown, as `picture_of` returns it; empty if there is no workflow.
    marks : dict of str to str
        How nodes are marked, ``"running"`` or ``"failed"``, by their ids in the API format.
    problems : dict of str to str
        What is wrong with nodes, by their ids.
    """

    _esm = script("graph")

    picture: t.Dict[str, Any] = t.Dict().tag(sync=True)
    marks: t.Dict[str, str] = t.Dict().tag(sync=True)
    problems: t.Dict[str, str] = t.Dict().tag(sync=True)

    def show(self, workflow: Workflow) -> None:
        """Show a workflow without marks; its nodes have the same positions as in the editor."""
        picture = picture_of(workflow.source.ui or workflow.to_api())
        with self.hold_sync():
            self.picture, self.marks, self.problems = picture, {}, {}

    def mark_findings(self, found: Validation) -> None:
        """Mark the nodes in which a validation has found errors."""
        self._mark_failed({key: "; ".join(problems) for key, problems in found.by_node.items()})

    def mark_running(self, node_id: str | None) -> None:
        """Mark the node that runs now; None if none does."""
        with self.hold_sync():
            self.marks = {} if node_id is None else {node_id: RUNNING}
            self.problems = {}

    def mark_result(self, result: Result) -> None:
        """Mark the node in which a run has failed, if one has."""
        node_id = (result.error or {}).get("node_id")
        self._mark_failed({} if node_id is None else {str(node_id): result.failure or ""})

    def _mark_failed(self, texts: dict[str, str]) -> None:
        with self.hold_sync():
            self.marks = dict.fromkeys(texts, FAILED)
            self.problems = {key: text[:LONGEST] for key, text in texts.items()}
