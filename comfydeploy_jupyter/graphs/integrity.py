"""Whether a graph is valid: node ids are unique, and the origins of all links exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from .formats import inputs_of, is_link, objects, subgraphs_of
from .ui_graph import FROM_OUTSIDE, TO_OUTSIDE


def check_integrity(graph: Mapping[str, Any], *, field: str) -> None:
    """Raise if two nodes have the same id, or an input is linked to a node that does not exist."""
    if isinstance(graph.get("nodes"), list):
        for level in (graph, *subgraphs_of(graph)):
            _check_level(level, field)
        return
    for node_id, node in graph.items():
        for name, value in inputs_of(node).items():
            if is_link(value) and value[0] not in graph:
                raise _missing_origin(field, node_id, name, f"node {value[0]!r}")


def _check_level(level: Mapping[str, Any], field: str) -> None:
    nodes = objects(level.get("nodes"))
    ids = {FROM_OUTSIDE, TO_OUTSIDE}
    for node_id in (str(node["id"]) for node in nodes if "id" in node):
        if node_id in ids:
            raise InvalidRequestError.of_field(field, f"has two nodes with the id {node_id!r}")
        ids.add(node_id)
    rows = level.get("links")
    if not isinstance(rows, list):
        return  # the format does not require them
    links = {str(found[0]): str(found[1]) for found in map(_origin, rows) if found is not None}
    for node in nodes:
        for slot in objects(node.get("inputs")):
            link = slot.get("link")
            if link is None or links.get(str(link)) in ids:
                continue
            origin = links.get(str(link))
            where = f"link {link}" if origin is None else f"node {origin!r}"
            raise _missing_origin(field, str(node.get("id")), str(slot.get("name")), where)


def _origin(row: object) -> tuple[Any, Any] | None:
    """Return the id of a link, which is an array or an object, and the id of its origin."""
    if isinstance(row, list) and len(row) > 1:
        return row[0], row[1]
    if isinstance(row, Mapping):
        return row.get("id"), row.get("origin_id")
    return None


def _missing_origin(field: str, node_id: str, name: str, where: str) -> InvalidRequestError:
    return InvalidRequestError.of_field(
        field, f"input {name!r} of node {node_id!r} is linked to {where}, which does not exist"
    )
