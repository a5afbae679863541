"""A short description of the nodes of a prompt, to determine how much work two prompts share.

ComfyUI takes the outputs of a node from its cache if the last prompt had a node of the same class
with the same inputs, and the same holds for all nodes before it (``comfy_execution/caching.py``).
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from .formats import class_of, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 24
"""The most nodes that a fingerprint describes; of a larger graph, it describes a sample."""


def fingerprint_of(graph: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the hashes of the nodes of a prompt, 4 bytes each.

    The hash of a node depends on its class, its inputs and the nodes before it. The `KEPT` smallest
    ones are returned, so that the samples of two prompts have as many hashes in common as the
    prompts have nodes in common, in proportion.
    """
    found: dict[str, int] = {}
    sources: dict[str, list[str]] = {}  # a node in it without a hash is in a cycle
    waiting = list(graph)
    while waiting:
        node_id = waiting[-1]
        inputs = inputs_of(graph[node_id])
        if node_id not in sources:
            links = [value[0] for value in inputs.values() if is_link(value)]
            sources[node_id] = [source for source in links if source in graph]
            waiting.extend(source for source in sources[node_id] if source not in sources)
            continue
        waiting.pop()
        if node_id not in found:
            before = [found.get(source) for source in sources[node_id]]
            text = repr((class_of(graph[node_id]), inputs, before))
            digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
            found[node_id] = int.from_bytes(digest, "little")
    return array("I", nsmallest(KEPT, set(found.values()))).tobytes()


def nodes_in(fingerprint: bytes) -> frozenset[int]:
    """Return the hashes in a fingerprint."""
    return frozenset(memoryview(fingerprint).cast("I"))
