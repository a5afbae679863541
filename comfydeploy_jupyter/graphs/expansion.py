"""Limits for the size of a workflow after its subgraphs, group nodes and patterns are expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NODES = 200_000
"""The most nodes that a workflow may have after its subgraphs and group nodes are expanded."""

MAX_SIZE = 64 << 20
"""The most characters that a workflow may have after it is expanded."""

_PER_VALUE = 16
_PER_NODE = 100


class Expansion:
    """Counts the nodes and characters of an expanded workflow; raises above the limits.

    A small file may use a subgraph with a long text a thousand times. Nodes and texts are counted
    before they are created, so that such a file cannot take unlimited time and memory.
    """

    def __init__(self) -> None:
        self._nodes = 0
        self._size = 0

    def add_nodes(self, count: int) -> None:
        """Count nodes."""
        self._nodes += count
        if self._nodes > MAX_NODES:
            raise _too_large(f"{MAX_NODES} nodes once its subgraphs")

    def add_size(self, size: int) -> None:
        """Count characters."""
        self._size += size
        if self._size > MAX_SIZE:
            raise _too_large(f"{MAX_SIZE >> 20} million characters once its subgraphs and patterns")

    def add_written(self, key: str, node: Mapping[str, Any]) -> None:
        """Count one node of the prompt: its id, class, title and inputs."""
        size = _PER_NODE + len(key) + len(node["class_type"]) + len(node["_meta"]["title"])
        for name, value in node["inputs"].items():
            if isinstance(value, str):
                size += len(name) + len(value)
            elif isinstance(value, (list, dict)):
                size += len(name) + _size_of(value)
            else:
                size += len(name) + _PER_VALUE
        self.add_size(size)


def _size_of(value: Any) -> int:
    size = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        size += _PER_VALUE
    return size


def _too_large(what: str) -> InvalidRequestError:
    return InvalidRequestError.of_field("workflow", f"has more than {what} are expanded")
