"""What depends on what in a graph: the nodes that run, their work, and what they share."""

from __future__ import annotations

import difflib
from array import array
from dataclasses import dataclass
from hashlib import blake2b, sha256
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequestError
from ..util.jsons import dumps, sorted_keys
from .formats import END, START, AnyGraph, Graph, class_of, inputs_of, is_link, label_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from .definitions import NodeDefinitions


def check_nodes(graph: Graph, node_ids: Iterable[str], *, field: str) -> None:
    for node_id in node_ids:
        if node_id not in graph:
            close = difflib.get_close_matches(node_id, graph, n=3, cutoff=0.5)
            text = f"there is no node {node_id!r} in the graph"
            raise InvalidRequestError.of_field(field, text, node_id=node_id, candidates=close)


def sources_of(graph: AnyGraph) -> dict[str, list[str]]:
    """Return the ids of the nodes that each node is linked to."""
    return {
        node_id: [value[0] for value in inputs_of(node).values() if is_link(value)]
        for node_id, node in graph.items()
    }


def dangling_links(graph: AnyGraph) -> list[tuple[str, str, str]]:
    """Return the links to nodes that do not exist: node, input and the missing node."""
    return [
        (node_id, name, value[0])
        for node_id, node in graph.items()
        for name, value in inputs_of(node).items()
        if type(value) is list and is_link(value) and value[0] not in graph
    ]


def executed_anew(graph: AnyGraph) -> set[str]:
    """Return the nodes that ComfyUI executes in each run: loops, and what depends on them."""
    # With ``cache_iterations`` the nodes between Start and End are taken from the cache.
    starts = [node_id for node_id, node in graph.items() if class_of(node) == START]
    if not starts:
        return set()
    ends = [node_id for node_id, node in graph.items() if class_of(node) == END]
    cached = {each for each in starts if inputs_of(graph[each]).get("cache_iterations") is True}
    return (
        nodes_that_need(graph, [*ends, *(each for each in starts if each not in cached)]) | cached
    )


def only_what_is_needed(graph: Graph, node_ids: Iterable[str]) -> Graph:
    """Return the part of a graph with some nodes and all nodes that they depend on."""
    needed = nodes_behind(node_ids, sources_of(graph))
    return {node_id: node for node_id, node in graph.items() if node_id in needed}


def nodes_that_need(graph: AnyGraph, node_ids: Iterable[str]) -> set[str]:
    return nodes_behind(node_ids, readers_of(graph))


def readers_of(graph: AnyGraph) -> dict[str, list[str]]:
    """Return the ids of the nodes that read an output of each node, if there are any."""
    readers: dict[str, list[str]] = {}
    for node_id, sources in sources_of(graph).items():
        for source in sources:
            readers.setdefault(source, []).append(node_id)
    return readers


def nodes_behind(node_ids: Iterable[str], readers: Mapping[str, Iterable[str]]) -> set[str]:
    """Return some nodes and all that follow them, by `readers_of` or `sources_of`."""
    found: set[str] = set()
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting.extend(readers.get(node_id, ()))
    return found


def columns_of(sources: Mapping[str, Iterable[str]]) -> tuple[dict[str, int], list[str]]:
    """Return the number of nodes in a row before each node, and the nodes that never get one."""
    # The latter are in cycles, or depend on such nodes.
    readers: dict[str, list[str]] = {key: [] for key in sources}
    waiting = dict.fromkeys(sources, 0)
    for key, origins in sources.items():
        for origin in origins:
            if origin in readers:
                readers[origin].append(key)
                waiting[key] += 1
    columns = dict.fromkeys(sources, 0)
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        key = ready.pop()
        for reader in readers[key]:
            columns[reader] = max(columns[reader], columns[key] + 1)
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    return columns, [key for key, count in waiting.items() if count]


# Their `steps` are the steps of the sampler that is linked to their sigmas.
_SCHEDULE_NAMES = ("Scheduler", "Sigmas")
_MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class Workload:
    # the probable number of steps of each node, by node id; 0 if it is not known
    steps: dict[str, int]
    sources: dict[str, list[str]]  # the nodes that each node is linked to, by node id
    classes: dict[str, str]  # the class of each node, by node id

    def only_needed(
        self, definitions: NodeDefinitions | None, targets: Collection[str] | None
    ) -> Workload:
        """Return the work without the nodes that ComfyUI will not execute."""
        # It executes output nodes, and what they depend on.

        def is_output(node_id: str) -> bool:
            known = None if definitions is None else definitions.get(self.classes[node_id])
            return known is None or known.output_node

        outputs = self.steps if targets is None else targets
        ends = [node_id for node_id in outputs if node_id in self.steps and is_output(node_id)]
        needed = nodes_behind(ends, self.sources)
        kept = [node_id for node_id in self.steps if node_id in needed]
        return Workload(
            {node_id: self.steps[node_id] for node_id in kept},
            {node_id: self.sources[node_id] for node_id in kept},
            {node_id: self.classes[node_id] for node_id in kept},
        )


def workload(graph: AnyGraph) -> Workload:
    classes = {node_id: class_of(node) for node_id, node in graph.items()}
    steps = {node_id: _steps(graph, node_id) for node_id in graph}
    return Workload(steps, sources_of(graph), classes)


def _steps(graph: AnyGraph, node_id: str) -> int:
    """Return the number of steps of a node, from its own input or that of its scheduler."""
    node = graph[node_id]
    inputs = inputs_of(node)
    if any(name in class_of(node) for name in _SCHEDULE_NAMES):
        return 0
    if "sigmas" in inputs:
        return _number(_steps_upstream(graph, inputs["sigmas"]), graph)
    steps = _number(inputs.get("steps"), graph)
    first, last = (_number(inputs.get(f"{end}_at_step"), graph) for end in ("start", "end"))
    return max(min(last, steps) - first, 0) if last else steps


def _steps_upstream(graph: AnyGraph, link: object) -> object:
    """Return the number of steps of the nearest node upstream of a link that has one."""
    waiting, seen = [link], set()
    while waiting:
        here = waiting.pop(0)
        if not is_link(here) or here[0] in seen or here[0] not in graph:
            continue
        seen.add(here[0])
        inputs = inputs_of(graph[here[0]])
        if inputs.get("steps") is not None:
            return inputs["steps"]
        waiting += inputs.values()
    return None


def _number(value: object, graph: AnyGraph) -> int:
    """Return a number from an input, or from the linked node if that has only one; else 0."""
    if is_link(value) and value[0] in graph:
        numbers = [v for v in inputs_of(graph[value[0]]).values() if type(v) is int]
        value = numbers[0] if len(numbers) == 1 else None
    return value if type(value) is int and 0 < value <= _MAX_STEPS else 0


# -- limits of chains and of nested values, which ComfyUI follows by recursion -----------------
#
# If Python's recursion limit is reached, the thread of ComfyUI that executes prompts ends: the run
# never ends, and nothing runs until a restart. This was observed with chains of 519 nodes or more,
# also of nodes that no output needs (comfy_execution/caching.py; in ComfyUI 0.33.0, 850 nodes
# worked and 980 did not), and with 486 levels of nested values (copies of prompts and of the
# history in execution.py).

Holder: TypeAlias = dict[str, Any] | list[Any]

MAX_CHAIN = 500
"""The longest chain of nodes that ComfyUI can run for certain."""

MAX_DEPTH = 200
"""The most levels of nested lists and objects that ComfyUI can copy for certain."""

_LONG = (
    f"is in a cycle, or at the end of more than {MAX_CHAIN} nodes in a row, and such a chain"
    " makes ComfyUI fail"
)
_DEEP = f"has more than {MAX_DEPTH} nested lists or objects, and such a value makes ComfyUI fail"


def check_depth(graph: Graph, ui: dict[str, Any] | None) -> None:
    """Raise if a graph would end the thread of ComfyUI that executes prompts."""
    for node_id, fault in too_deep(graph):
        text = f"node {label_of(graph, node_id)} {fault}"
        raise InvalidRequestError.of_field("workflow_api", text, node_id=node_id)
    if ui is not None and is_deeper_than(ui, MAX_DEPTH):
        raise InvalidRequestError.of_field("workflow", _DEEP)


def too_deep(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the nodes that exceed a limit, each with the sentence that says which."""
    last = end_of_long_chain(graph)
    if last is not None:
        yield last, _LONG
    if is_deeper_than(graph, MAX_DEPTH + 1):  # a quick check of all nodes at once
        deep = (node_id for node_id, node in graph.items() if is_deeper_than(node, MAX_DEPTH))
        yield from ((node_id, _DEEP) for node_id in deep)


def end_of_long_chain(graph: Graph) -> str | None:
    """Return a node at the end of a chain of more than `MAX_CHAIN` nodes, or None."""
    # The nodes of cycles and those that depend on them count as one chain, since ComfyUI follows a
    # cycle once.
    if len(graph) <= MAX_CHAIN:
        return None
    columns, stuck = columns_of(sources_of(graph))
    lengths = {node_id: columns[node_id] + 1 for node_id in columns.keys() - set(stuck)}
    ends = (node_id for node_id in graph if lengths.get(node_id, 0) > MAX_CHAIN)
    length = max(lengths.values(), default=0)
    return next(ends, stuck[0] if stuck and length + len(stuck) > MAX_CHAIN else None)


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


# -- how much work two prompts share -----------------------------------------------------------
#
# ComfyUI takes the outputs of a node from its cache if the last prompt had a node of the same class
# with the same inputs, and the same holds for all nodes before it (``comfy_execution/caching.py``).

KEPT = 24
"""The most nodes that a fingerprint describes; of a larger graph, it describes a sample."""


def fingerprint_of(graph: AnyGraph) -> bytes:
    """Return the hashes of the nodes of a prompt, 4 bytes each."""
    # The hash of a node depends on its class, its inputs and the nodes before it. The `KEPT`
    # smallest ones are returned, so that the samples of two prompts have as many hashes in common
    # as the prompts have nodes in common, in proportion. What is executed each
    # time is not among them.
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
    cached = {found[node_id] for node_id in found.keys() - executed_anew(graph)}
    return array("I", nsmallest(KEPT, cached)).tobytes()


def nodes_in(fingerprint: bytes) -> frozenset[int]:
    return frozenset(memoryview(fingerprint).cast("I"))


def structure_of(graph: AnyGraph) -> str:
    """Return a hash of the structure of a graph: its node ids, classes and links."""

    def links(node: Mapping[str, Any]) -> list[list[Any]]:
        return sorted([name, *link] for name, link in inputs_of(node).items() if is_link(link))

    ordered = ((node_id, graph[node_id]) for node_id in sorted_keys(list(graph)))
    nodes = [[node_id, class_of(node), links(node)] for node_id, node in ordered]
    return sha256(dumps(nodes).encode()).hexdigest()[:32]
