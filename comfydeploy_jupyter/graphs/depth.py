"""Limits for chains of nodes and for nested values, which ComfyUI follows by recursion.

If Python's recursion limit is reached, the thread of ComfyUI that executes prompts ends: the run
never ends, and nothing runs until a restart. This was observed with chains of 519 nodes or more,
also of nodes that no output needs (comfy_execution/caching.py; in ComfyUI 0.33.0, 850 nodes worked
and 980 did not), and with 486 levels of nested values (copies of prompts and of the history in
execution.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequestError
from .formats import Graph, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Iterator

Holder: TypeAlias = dict[str, Any] | list[Any]

LONGEST_CHAIN = 500
"""The longest chain of nodes that ComfyUI can run for certain."""

DEEPEST_VALUE = 200
"""The most levels of nested lists and objects that ComfyUI can copy for certain."""

_LONG = (
    f"is in a cycle, or at the end of more than {LONGEST_CHAIN} nodes in a row, and such a chain"
    " makes ComfyUI fail"
)
_DEEP = (
    f"has more than {DEEPEST_VALUE} nested lists or objects, and such a value makes ComfyUI fail"
)


def check_depth(graph: Graph, ui: dict[str, Any] | None) -> None:
    """Raise if a graph would end the thread of ComfyUI that executes prompts."""
    for node_id, fault in too_deep(graph):
        raise InvalidRequestError(
            f"workflow_api: node {node_id!r} {fault}",
            details={"field": "workflow_api", "node_id": node_id},
        )
    if ui is not None and is_deeper_than(ui, DEEPEST_VALUE):
        raise InvalidRequestError.of_field("workflow", _DEEP)


def too_deep(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the nodes that exceed a limit, each with the sentence that says which."""
    last = end_of_long_chain(graph)
    if last is not None:
        yield last, _LONG
    if is_deeper_than(graph, DEEPEST_VALUE + 1):  # a quick check of all nodes at once
        yield from (
            (node_id, _DEEP)
            for node_id, node in graph.items()
            if is_deeper_than(node, DEEPEST_VALUE)
        )


def end_of_long_chain(graph: Graph) -> str | None:
    """Return a node at the end of a chain of more than `LONGEST_CHAIN` nodes, or None.

    The nodes of cycles and those that depend on them count as one chain, since ComfyUI follows a
    cycle once.
    """
    if len(graph) <= LONGEST_CHAIN:
        return None
    waiting: dict[str, int] = {}  # the number of its links that have not been followed
    users: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        sources = [value[0] for value in inputs_of(node).values() if is_link(value)]
        sources = [source for source in sources if source in graph]
        waiting[node_id] = len(sources)
        for source in sources:
            users.setdefault(source, []).append(node_id)
    row = [node_id for node_id, count in waiting.items() if not count]
    length = 0
    while row:  # all nodes whose longest chain has this length
        length += 1
        if length > LONGEST_CHAIN:
            return row[0]
        following = []
        for node_id in row:
            del waiting[node_id]
            for user in users.get(node_id, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    following.append(user)
        row = following
    return next(iter(waiting)) if length + len(waiting) > LONGEST_CHAIN else None


def is_deeper_than(value: Holder, limit: int) -> bool:
    """Return whether a JSON value has more than ``limit`` levels of lists and objects."""
    level = [value]
    for _ in range(limit):
        level = [
            part
            for holder in level
            for part in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return False
    return True
