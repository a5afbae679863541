"""How deep a graph goes: ComfyUI follows links and copies values by recursion, which has an end.

Where that end is reached, the thread of ComfyUI that executes prompts dies of it: the run never
ends, and nothing more runs until a restart. With Python's usual limit it has been seen from 519
nodes in a row, also where no output needs them (comfy_execution/caching.py; in ComfyUI 0.33.0 850
went well and 980 did not), and from 486 values within each other (copies of prompts and of the
history in execution.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequestError
from .formats import Graph, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Iterator

Holder: TypeAlias = dict[str, Any] | list[Any]

LONGEST_CHAIN = 500
"""How many nodes in a row ComfyUI gets through for sure."""

DEEPEST_VALUE = 200
"""How many lists and objects within each other it gets through for sure."""

_LONG = (
    f"is in a cycle, or at the end of more than {LONGEST_CHAIN} nodes in a row, and ComfyUI breaks"
    " down of such a chain"
)
_DEEP = (
    f"has more than {DEEPEST_VALUE} lists or objects within each other, and ComfyUI breaks down of"
    " such a value"
)


def check_depth(graph: Graph, ui: dict[str, Any] | None) -> None:
    """Refuse a graph that ComfyUI would break down of.

    Parameters
    ----------
    graph : Graph
        API format; every node has its ``inputs``.
    ui : dict or None
        The same in UI format, which ComfyUI copies with it.

    Raises
    ------
    InvalidRequestError
        Naming the field, and the node where it is one's.
    """
    for node_id, fault in too_deep(graph):
        raise InvalidRequestError(
            f"workflow_api: node {node_id!r} {fault}",
            details={"field": "workflow_api", "node_id": node_id},
        )
    if ui is not None and is_deeper_than(ui, DEEPEST_VALUE):
        raise InvalidRequestError.of_field("workflow", _DEEP)


def too_deep(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the nodes that ComfyUI would break down of, each with what is wrong with it."""
    last = end_of_long_chain(graph)
    if last is not None:
        yield last, _LONG
    if is_deeper_than(graph, DEEPEST_VALUE + 1):  # all at once, which is how nearly all end
        yield from (
            (node_id, _DEEP)
            for node_id, node in graph.items()
            if is_deeper_than(node, DEEPEST_VALUE)
        )


def end_of_long_chain(graph: Graph) -> str | None:
    """Return a node that more than `LONGEST_CHAIN` nodes in a row lead to, or None.

    The nodes of cycles, and those behind them, count as one row: ComfyUI goes round each once.
    """
    if len(graph) <= LONGEST_CHAIN:
        return None
    waiting: dict[str, int] = {}  # how many of its links are not followed yet
    users: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        sources = [value[0] for value in inputs_of(node).values() if is_link(value)]
        sources = [source for source in sources if source in graph]
        waiting[node_id] = len(sources)
        for source in sources:
            users.setdefault(source, []).append(node_id)
    row = [node_id for node_id, count in waiting.items() if not count]
    length = 0
    while row:  # all nodes that chains of this length lead to, and no longer ones
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
    """Tell whether more than ``limit`` lists and objects of a JSON value are within each other."""
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
