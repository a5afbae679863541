"""Follows links through subgraphs, reroutes and bypassed nodes to the nodes that will run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .definitions import MISSING
from .formats import BYPASSED, MUTED, node_label
from .ui_graph import FROM_OUTSIDE, Graph, Link, Node, Slot, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .expansion import Expansion


@dataclass(eq=False)
class Instance:
    """One use of a graph: the workflow itself, or the inner graph of one subgraph node."""

    graph: Graph
    prefix: str = ""
    parent: Instance | None = None
    host: Node | None = None
    children: dict[str, Instance] = field(default_factory=dict)

    def execution_id(self, node: Node) -> str:
        """Return the id of a node in the prompt, e.g. ``"12:3"``."""
        return f"{self.prefix}{node.id}"


PlacedNode = tuple[Instance, Node]


def expand(flow: Workflow, root: Instance, expansion: Expansion) -> Iterator[PlacedNode]:
    """Yield all nodes with the use of their graph, except those in silent subgraph nodes.

    A subgraph node comes before its inner nodes.

    A subgraph node is silent if it is muted or bypassed. If it is itself inside a subgraph, the
    editor queues its inner nodes all the same, without links from outside (1.49.6, 1.58.1).
    """
    pending: list[tuple[Instance, Iterator[Node]]] = [(root, iter(root.graph.nodes.values()))]
    while pending:
        instance, nodes = pending[-1]
        node = next(nodes, None)
        if node is None:
            pending.pop()
            continue
        expansion.add_nodes(1)
        yield instance, node
        if node.subgraph is not None and (instance.host is not None or not node.silent):
            child = Instance(
                flow.subgraphs[node.subgraph], f"{instance.prefix}{node.id}:", instance, node
            )
            expansion.add_size(len(child.prefix))
            instance.children[node.id] = child
            pending.append((child, iter(child.graph.nodes.values())))


class Labels:
    """The names of nodes in messages: `node_label`.

    The id is left out if no other node has the title. Nodes that run and all others are compared
    separately, so that a node has the same name as in the prompt.
    """

    def __init__(self, nodes: Iterable[PlacedNode]) -> None:
        self._alike = Counter((node.title or node.type, node.runs) for _, node in nodes)

    def of(self, instance: Instance, node: Node) -> str:
        """Return the name of a node."""
        kind = node.type if node.subgraph is None else "subgraph"
        unique = self._alike[node.title or node.type, node.runs] == 1
        return node_label(instance.execution_id(node), kind, node.title, unique=unique)


@dataclass(frozen=True)
class PromotedValue:
    """The value of an input that a promoted widget of a subgraph node sets."""

    value: Any


_Found = list[Any] | PromotedValue | None
_Output = tuple[Instance, Node, int, str]


class Links:
    """Finds for each input the output that it is linked to, or a promoted value."""

    def __init__(self, warnings: list[str], labels: Labels) -> None:
        self._warnings = warnings
        self._labels = labels
        self._known: dict[_Output, _Found] = {}

    def find(self, instance: Instance, node: Node, number: int) -> _Found:
        """Return the link or the promoted value of an input; None if it has neither."""
        seen: dict[_Output, None] = {}
        step: tuple[Instance, Node, int, str | None] | _Found = (instance, node, number, None)
        while isinstance(step, tuple):
            output = self._source(*step)
            if not isinstance(output, tuple):
                step = output
            elif output in self._known:
                step = self._known[output]
            elif output in seen:
                place, stuck = output[:2]
                problem = "is part of a cycle of reroutes or bypassed nodes"
                raise InvalidRequestError(
                    f"node {self._labels.of(place, stuck)} {problem}",
                    details={"field": f"node {place.execution_id(stuck)}", "problem": problem},
                )
            else:
                seen[output] = None
                step = self._through(*output)
        for output in seen:
            self._known[output] = step
        return step

    def _source(
        self, instance: Instance, node: Node, number: int, wanted: str | None
    ) -> _Output | _Found:
        """Return the output that an input is linked to, which may be in an outer graph."""
        while True:
            slot = node.inputs[number]
            host = instance.host
            if host is not None and host.overrides:
                value = host.overrides.get((node.id, slot.name), MISSING)
                if value is not MISSING:
                    return PromotedValue(value)
            if slot.link is None:
                value = node.promoted.get(number, MISSING)
                return None if value is MISSING else PromotedValue(value)
            link = instance.graph.links.get(slot.link)
            if link is None:
                self._warn_of(instance, node, slot)
                return None
            if link.origin != FROM_OUTSIDE or host is None or instance.parent is None:
                origin = instance.graph.nodes.get(link.origin)
                if origin is None:
                    self._warn_of(instance, node, slot)
                    return None
                return instance, origin, link.origin_slot, wanted or slot.type
            if not 0 <= link.origin_slot < len(host.inputs):
                self._warn_of(instance, node, slot)
                return None
            instance, node, number, wanted = instance.parent, host, link.origin_slot, None

    def _through(
        self, instance: Instance, node: Node, number: int, wanted: str
    ) -> tuple[Instance, Node, int, str | None] | _Found:
        """Return the link to an output; or the input that replaces it if its node does not run."""
        while True:
            if node.mode == MUTED:
                return None
            if node.mode == BYPASSED:
                passed = passed_on(node, number, wanted)
                if passed is None or node.inputs[passed].link is None:
                    return None
                return instance, node, passed, None
            if node.subgraph is None:
                break
            child = instance.children[node.id]
            link = child.graph.sources.get(number)
            if link is None:
                return None
            if link.origin == FROM_OUTSIDE:
                return _input_of(instance, node, link, wanted)
            inner = child.graph.nodes.get(link.origin)
            if inner is None:
                return None
            instance, node, number = child, inner, link.origin_slot
        if not node.virtual:
            return [instance.execution_id(node), number]
        if 0 <= number < len(node.inputs) and node.inputs[number].link is not None:
            return instance, node, number, wanted
        return None

    def _warn_of(self, instance: Instance, node: Node, slot: Slot) -> None:
        self._warnings.append(
            f"node {self._labels.of(instance, node)}: its input {slot.name} is linked to something"
            " that does not exist; the link is omitted"
        )


def _input_of(
    instance: Instance, node: Node, link: Link, wanted: str
) -> tuple[Instance, Node, int, str | None] | None:
    """Return the input of a subgraph node that is linked to its output without a node between."""
    if 0 <= link.origin_slot < len(node.inputs):
        return instance, node, link.origin_slot, wanted
    return None


def passed_on(node: Node, number: int, wanted: str) -> int | None:
    """Return the input of a bypassed node that replaces an output, for a link of a type."""
    inputs = node.inputs
    if wanted in ("*", ""):
        return (number if number < len(inputs) else 0) if inputs else None
    own = node.outputs[number] if 0 <= number < len(node.outputs) else "*"
    if number < len(inputs) and _fits(inputs[number].type, own, wanted):
        return number
    for place, slot in enumerate(inputs):
        if slot.type == wanted:
            return place
    for place, slot in enumerate(inputs):
        if _fits(slot.type, own, wanted):
            return place
    return None


def _fits(kind: str, own: str, wanted: str) -> bool:
    return _compatible(kind, own) and _compatible(kind, wanted)


def _compatible(one: str, other: str) -> bool:
    """Return whether a link may connect two types: equal, any (``*``), or several (``"A,B"``)."""
    if one == other or one in ("*", "") or other in ("*", ""):
        return True
    left, right = one.lower().split(","), other.lower().split(",")
    both = {*left} & {*right}
    return bool(both) or not {"*", ""}.isdisjoint((*left, *right))
