"""What people read of a workflow: the names of its nodes, and a table of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .formats import (
    Graph,
    class_of,
    inputs_of,
    is_link,
    node_label,
    shown_title,
    title_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class NodeName:
    """The id, class and title of a node, and whether no other node of its workflow has them."""

    id: str
    type: str = ""
    title: str = ""
    unique: bool = False

    def __str__(self) -> str:
        return node_label(self.id, self.type, self.title, unique=self.unique)

    @property
    def short(self) -> str:
        """The title, else the class, else the id."""
        return shown_title(self.title) or self.type or f"node {self.id}"


def node_names(graph: Mapping[str, Any]) -> dict[str, NodeName]:
    """Return the names of the nodes of a workflow in either format."""
    nodes = graph.get("nodes")
    if isinstance(nodes, list):
        found = [
            (str(node["id"]), str(node.get("type") or ""), str(node.get("title") or ""))
            for node in nodes
            if isinstance(node, dict) and "id" in node
        ]
    else:
        found = [
            (key, class_of(node), title_of(node))
            for key, node in graph.items()
            if isinstance(node, dict)
        ]
    alike = Counter(title or type_ for _, type_, title in found)
    return {
        key: NodeName(key, type_, title, unique=alike[title or type_] == 1)
        for key, type_, title in found
    }


MAX_VALUE = 40
"""Longest value of an input that is shown in full, characters."""


def run_order(graph: Graph) -> list[str]:
    """Return the node ids so that each comes after the nodes that it depends on.

    Otherwise the order is that of the graph. A cycle, which ComfyUI refuses, is ordered from the
    node of it that is reached first.
    """
    order: dict[str, None] = {}
    entered: set[str] = set()
    for start in graph:
        stack: list[tuple[str, Iterator[str]]] = []
        waiting = iter([start])
        while True:
            node_id = next(waiting, None)
            if node_id is None:
                if not stack:
                    break
                done, waiting = stack.pop()
                order[done] = None
            elif node_id in graph and node_id not in entered:
                entered.add(node_id)
                stack.append((node_id, waiting))
                links = inputs_of(graph[node_id]).values()
                waiting = iter([link[0] for link in links if is_link(link)])
    return list(order)


def graph_rows(graph: Graph) -> list[tuple[str, str, str, str]]:
    """Return title, class, id and inputs of each node, in the order in which they run."""
    names, rows = node_names(graph), []
    for node_id in run_order(graph):
        node = graph[node_id]
        kind, inputs = class_of(node), inputs_text(inputs_of(node), names)
        rows.append((title_of(node) or kind, kind, node_id, inputs))
    return rows


def inputs_text(inputs: dict[str, Any], names: Mapping[str, NodeName]) -> str:
    """Return the inputs of a node on one line: values first, then links as ``model ← Loader.0``.

    A number that is a colour by the name of its input is shown as the form shows it, too:
    ``color=255 (#0000ff)``.
    """
    values, links = [], []
    for name, value in inputs.items():
        if is_link(value):
            known = names.get(value[0])
            origin = known.short if known is not None and known.unique else value[0]
            links.append(f"{name} ← {origin}.{value[1]}")
        else:
            values.append(f"{name}={shown(value)}{_colour(name, value)}")
    return ", ".join([*values, *links])


def _colour(name: str, value: object) -> str:
    named = name.split("_")[-1] in ("color", "colour")
    if named and type(value) is int and 0 <= value <= 0xFFFFFF:
        return f" (#{value:06x})"
    return ""


def shown(value: object) -> str:
    """Return a value on one line, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 2]} …"
