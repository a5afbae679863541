"""How large a workflow may become when its parts that stand for others are written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NODES = 200_000
"""How many nodes a workflow may have once its subgraphs and group nodes are expanded."""

MAX_SIZE = 64 << 20
"""How many characters a workflow may have once it is expanded."""

_PER_VALUE = 16
_PER_NODE = 100


class Expansion:
    """Counts what one workflow becomes, and refuses more than the bounds.

    A small file may use one subgraph a thousand times, with a long text in it. What it becomes
    is counted before it is made, so that neither time nor memory follow from the file alone.
    """

    def __init__(self) -> None:
        self._nodes = 0
        self._size = 0

    def add_nodes(self, count: int) -> None:
        """Count nodes.

        Raises
        ------
        InvalidRequestError
            These are more than `MAX_NODES`, with all that were counted before.
        """
        self._nodes += count
        if self._nodes > MAX_NODES:
            raise InvalidRequestError.of_field(
                "workflow", f"has more than {MAX_NODES} nodes once its subgraphs are expanded"
            )

    def add_size(self, size: int) -> None:
        """Count characters.

        Raises
        ------
        InvalidRequestError
            These are more than `MAX_SIZE`, with all that were counted before.
        """
        self._size += size
        if self._size > MAX_SIZE:
            raise InvalidRequestError.of_field(
                "workflow",
                f"has more than {MAX_SIZE >> 20} million characters once its subgraphs and "
                "patterns are expanded",
            )

    def add_written(self, key: str, node: Mapping[str, Any]) -> None:
        """Count one node of the prompt: its id, class, title and inputs.

        Raises
        ------
        InvalidRequestError
            As `add_size` does.
        """
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
