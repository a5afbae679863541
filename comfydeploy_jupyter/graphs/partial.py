"""Graphs of which only some outputs are executed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from .formats import Graph, is_link

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_nodes(graph: Graph, node_ids: Iterable[str], *, field: str) -> None:
    """Make sure that a graph has some nodes.

    Raises
    ------
    InvalidRequestError
        It lacks one, which the message names; ``details`` has the closest ids.
    """
    for node_id in node_ids:
        if node_id not in graph:
            close = difflib.get_close_matches(node_id, graph, n=3, cutoff=0.5)
            raise InvalidRequestError(
                f"{field}: there is no node {node_id!r} in the graph",
                details={"field": field, "node_id": node_id, "candidates": close},
            )


def only_what_is_needed(graph: Graph, node_ids: Iterable[str]) -> Graph:
    """Return the part of a graph that some nodes need: themselves, and what leads to them.

    Parameters
    ----------
    graph : dict
        In API format; it stays as it is.
    node_ids : iterable of str
        Nodes of the graph.

    Returns
    -------
    dict
        In the order of `graph`. Links to nodes that are not in the graph stay in it.
    """
    needed: set[str] = set()
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        if node_id in needed or node_id not in graph:
            continue
        needed.add(node_id)
        values = graph[node_id].get("inputs", {}).values()
        waiting.extend(str(value[0]) for value in values if is_link(value))
    return {node_id: node for node_id, node in graph.items() if node_id in needed}
