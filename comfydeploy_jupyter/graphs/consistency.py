"""Whether a workflow in UI format is the same workflow as a graph in API format."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequestError
from .formats import Graph, UINodes, inputs_of, is_link, objects


def check_consistency(graph: Graph, ui: dict[str, Any]) -> None:
    """Raise if the UI format is that of another workflow, since ComfyUI saves it with the outputs.

    Each node of the graph must be in the UI format, with the same class and the same links. Nodes
    and links that only the editor can resolve are not checked: virtual nodes, reroutes, subgraphs
    and bypassed nodes.
    """
    nodes = UINodes(ui)
    for node_id, node in graph.items():
        top, _, inner = node_id.partition(":")
        drawn, kind = nodes.node(ui, top), node.get("class_type")
        if drawn is None or (not inner and kind not in (None, drawn.get("type"))):
            raise _another(node_id, f"node {node_id!r} ({kind}) is not in workflow")
        for slot in () if inner else objects(drawn.get("inputs")):
            name, source = slot.get("name"), nodes.link_source(ui, slot.get("link"))
            value = inputs_of(node).get(name) if isinstance(name, str) else None
            if source and source[0] in graph and is_link(value) and tuple(value) != source:
                found = f"input {name!r} of node {node_id!r} comes from node {source[0]!r}"
                raise _another(node_id, f"{found} in workflow")


def _another(node_id: str, found: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"workflow: differs from workflow_api: {found}",
        details={"field": "workflow", "node_id": node_id},
    )
