"""A short description of the nodes of a prompt, which tells how much work two prompts share.

ComfyUI takes the outputs of a node from its cache if the last prompt had a node of the same class
with the same inputs, and the same holds for all nodes before it (``comfy_execution/caching.py``).
"""

from __future__ import annotations

from array import array
from heapq import nsmallest
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .formats import class_of, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 24
"""The most nodes that a fingerprint describes; of a larger graph, it describes a sample."""


def fingerprint_of(graph: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the hashes of the nodes of a prompt, 4 bytes each.

    The hash of a node depends on its class, its values and the nodes before it. The `KEPT` smallest
    ones are returned, so that the samples of two prompts have as many hashes in common as the
    prompts have nodes in common, in proportion.

    Parameters
    ----------
    graph : Graph
        API format.

    Returns
    -------
    bytes
        For `nodes_in`.
    """
    found: dict[str, int] = {}
    entered: set[str] = set()  # one that has no hash yet depends on the present node: a cycle
    waiting = list(graph)
    while waiting:
        node_id = waiting[-1]
        if node_id not in entered:
            entered.add(node_id)
            links = (value[0] for value in inputs_of(graph[node_id]).values() if is_link(value))
            waiting.extend(source for source in links if source in graph and source not in entered)
            continue
        waiting.pop()
        if node_id not in found:
            found[node_id] = _hash(graph[node_id], found)
    return array("I", nsmallest(KEPT, set(found.values()))).tobytes()


def nodes_in(fingerprint: bytes) -> frozenset[int]:
    """Return the hashes in a fingerprint."""
    return frozenset(memoryview(fingerprint).cast("I"))


def _hash(node: Mapping[str, Any], found: Mapping[str, int]) -> int:
    inputs = sorted(
        (name, (found.get(str(value[0])), value[1]) if is_link(value) else value)
        for name, value in inputs_of(node).items()
    )
    return crc32(repr((class_of(node), inputs)).encode("utf-8", "surrogatepass"))
