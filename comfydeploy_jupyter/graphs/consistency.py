"""Whether a workflow in UI format shows the graph in API format that comes with it."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequestError
from .formats import Graph, UINodes, inputs_of, is_link, objects


def check_agreement(graph: Graph, ui: dict[str, Any]) -> None:
    """Refuse a picture of another graph: it would be written into the outputs as their origin.

    Each node must be in the picture, with its class and with the links that it has there. What
    only the editor can tell is not judged: the class of a node that it does not know, and what
    stands behind its reroutes, in its subgraphs, or is bypassed.

    Parameters
    ----------
    graph : Graph
        API format.
    ui : dict
        The UI format.

    Raises
    ------
    InvalidRequestError
        Naming the node.
    """
    nodes = UINodes(ui)
    for node_id, node in graph.items():
        top, _, inner = node_id.partition(":")
        drawn, kind = nodes.node(ui, top), node.get("class_type")
        if drawn is None or (not inner and kind not in (None, drawn.get("type"))):
            raise _another(node_id, f"node {node_id!r} ({kind}) is not in it")
        for slot in () if inner else objects(drawn.get("inputs")):
            name, source = slot.get("name"), nodes.link_source(ui, slot.get("link"))
            value = inputs_of(node).get(name) if isinstance(name, str) else None
            if source and source[0] in graph and is_link(value) and tuple(value) != source:
                found = f"input {name!r} of node {node_id!r} comes from node {source[0]!r} in it"
                raise _another(node_id, found)


def _another(node_id: str, found: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"workflow: is another graph than workflow_api: {found}",
        details={"field": "workflow", "node_id": node_id},
    )
