"""Graphs of which only some outputs are executed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .formats import Definitions, Graph, class_of, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def check_nodes(graph: Graph, node_ids: Iterable[str], *, field: str) -> None:
    """Raise if a graph does not have some nodes."""
    for node_id in node_ids:
        if node_id not in graph:
            close = difflib.get_close_matches(node_id, graph, n=3, cutoff=0.5)
            raise InvalidRequestError(
                f"{field}: there is no node {node_id!r} in the graph",
                details={"field": field, "node_id": node_id, "candidates": close},
            )


def only_what_is_needed(graph: Graph, node_ids: Iterable[str]) -> Graph:
    """Return the part of a graph with some nodes and all nodes that they depend on."""
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


def nodes_that_need(graph: Graph, node_ids: Iterable[str]) -> set[str]:
    """Return the ids of some nodes, and of all nodes that depend on them."""
    return nodes_behind(node_ids, readers_of(graph))


def readers_of(graph: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the ids of the nodes that read an output of each node, if there are any."""
    readers: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        for value in inputs_of(node).values():
            if is_link(value):
                readers.setdefault(str(value[0]), []).append(node_id)
    return readers


def nodes_behind(node_ids: Iterable[str], readers: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the ids of some nodes, and of all nodes that depend on them, by `readers_of`."""
    found: set[str] = set()
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting.extend(readers.get(node_id, ()))
    return found


def is_output(node: Mapping[str, Any], definitions: Definitions | None) -> bool:
    """Return whether a node is an output node; without its definition, by its class name."""
    definition = (definitions or {}).get(class_of(node))
    if definition is None:
        return class_of(node).startswith(("Save", "Preview"))
    return bool(definition.get("output_node"))
