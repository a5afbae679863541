"""A hash of a graph's structure, which does not depend on its values."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..util.json_stream import dumps, sorted_keys
from .formats import class_of, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Mapping


def structure_of(graph: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a hash of the structure of a graph: its node ids, classes and links."""
    nodes = [
        [
            node_id,
            class_of(graph[node_id]),
            sorted(
                [name, *value]
                for name, value in inputs_of(graph[node_id]).items()
                if is_link(value)
            ),
        ]
        for node_id in sorted_keys(list(graph))
    ]
    return sha256(dumps(nodes).encode()).hexdigest()[:32]
