"""The work in a graph: which nodes run, and the number of steps of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .formats import class_of, inputs_of, is_link

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .definitions import NodeDefinitions

# Their `steps` are the steps of the sampler that is linked to their sigmas.
_SCHEDULE_NAMES = ("Scheduler", "Sigmas")
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Workload:
    """The work in a graph."""

    # the probable number of steps of each node, by node id; 0 if it is not known
    steps: dict[str, int]
    sources: dict[str, list[str]]  # the nodes that each node is linked to, by node id
    classes: dict[str, str]  # the class of each node, by node id

    def needed_steps(
        self, definitions: NodeDefinitions | None, targets: Collection[str] | None
    ) -> dict[str, int]:
        """Return the `steps` of the nodes that `needed` returns."""
        needed = self.needed(definitions, targets)
        return {node_id: steps for node_id, steps in self.steps.items() if node_id in needed}

    def only_needed(
        self, definitions: NodeDefinitions | None, targets: Collection[str] | None
    ) -> Workload:
        """Return the work without the nodes that ComfyUI will not execute."""
        needed = self.needed(definitions, targets)
        kept = [node_id for node_id in self.steps if node_id in needed]
        return Workload(
            {node_id: self.steps[node_id] for node_id in kept},
            {node_id: self.sources[node_id] for node_id in kept},
            {node_id: self.classes[node_id] for node_id in kept},
        )

    def needed(
        self, definitions: NodeDefinitions | None, targets: Collection[str] | None = None
    ) -> set[str]:
        """Return the nodes that ComfyUI will execute: output nodes and what they depend on."""

        def is_output(node_id: str) -> bool:
            known = None if definitions is None else definitions.get(self.classes[node_id])
            return known is None or known.output_node

        outputs = self.steps if targets is None else targets
        waiting = [node_id for node_id in outputs if node_id in self.steps and is_output(node_id)]
        found: set[str] = set()
        while waiting:
            node_id = waiting.pop()
            if node_id not in found and node_id in self.steps:
                found.add(node_id)
                waiting += self.sources[node_id]
        return found


def workload(graph: Mapping[str, Mapping[str, Any]]) -> Workload:
    """Return the work in a graph in API format."""
    sources = {
        node_id: [value[0] for value in inputs_of(node).values() if is_link(value)]
        for node_id, node in graph.items()
    }
    classes = {node_id: class_of(node) for node_id, node in graph.items()}
    steps = {node_id: _steps(graph, node_id) for node_id in graph}
    return Workload(steps, sources, classes)


def _steps(graph: Mapping[str, Mapping[str, Any]], node_id: str) -> int:
    """Return the number of steps of a node, from its own input or that of its scheduler."""
    node = graph[node_id]
    inputs = inputs_of(node)
    if any(name in class_of(node) for name in _SCHEDULE_NAMES):
        return 0
    if "sigmas" in inputs:
        return _number(_upstream(graph, inputs["sigmas"], lambda found: found.get("steps")), graph)
    steps = _number(inputs.get("steps"), graph)
    first, last = (_number(inputs.get(f"{end}_at_step"), graph) for end in ("start", "end"))
    return max(min(last, steps) - first, 0) if last else steps


def _upstream(
    graph: Mapping[str, Mapping[str, Any]],
    link: object,
    look: Callable[[Mapping[str, Any]], object],
) -> object:
    """Return the number of steps of the nearest node upstream of a link that has one."""
    waiting, seen = [link], set()
    while waiting:
        here = waiting.pop(0)
        if not is_link(here) or here[0] in seen or here[0] not in graph:
            continue
        seen.add(here[0])
        inputs = inputs_of(graph[here[0]])
        found = look(inputs)
        if found is not None:
            return found
        waiting += inputs.values()
    return None


def _number(value: object, graph: Mapping[str, Mapping[str, Any]]) -> int:
    """Return a number from an input, or from the linked node if that has only one; else 0."""
    if is_link(value) and value[0] in graph:
        numbers = [v for v in inputs_of(graph[value[0]]).values() if type(v) is int]
        value = numbers[0] if len(numbers) == 1 else None
    return value if type(value) is int and 0 < value <= _MOST_STEPS else 0
