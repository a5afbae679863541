"""What ComfyUI says about copies of nodes, as what it means for the nodes of the graph.

ComfyUI executes a loop, and what a node expands to, as copies of nodes with ids of their own
(``1.0.0.2_3``: iteration 2 of node 3 in the loop that node 1 starts). People know only the nodes
of the graph, so events, outputs and errors are given to the node that a copy stands for, its
``display_node``. Recorded from ComfyUI 0.38.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..graphs.formats import START, mapping
from .progress import FINISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .progress import Iterations, NodeName

_NUMBERS = re.compile(r"[0-9]+")
_ITERATION = re.compile(r"Iteration ([0-9]{1,18}) / ([0-9]{1,18})")


def outputs_of_nodes(
    outputs: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the outputs in a history by the nodes of the graph, iterations in their order."""
    copies: dict[str, list[str]] = {}
    for node in outputs:
        shown = mapping(meta.get(node)).get("display_node")
        copies.setdefault(shown if isinstance(shown, str) else node, []).append(node)
    found: dict[str, dict[str, Any]] = {}
    for own, nodes in copies.items():
        for node in sorted(nodes, key=_numbers_in):
            if not isinstance(outputs[node], dict):
                continue
            add_output(found.setdefault(own, {}), outputs[node])
    return found


def _numbers_in(node: str) -> list[tuple[int, str]]:
    """Return what sorts the copies of a node by the numbers in their ids, however long."""
    numbers = (number.lstrip("0") for number in _NUMBERS.findall(node))
    return [(len(number), number) for number in numbers]


def add_output(merged: dict[str, Any], output: Mapping[str, Any]) -> None:
    """Add the output of the next iteration of a node; the lists of ``merged`` are its own."""
    for key, value in output.items():
        before = merged.get(key)
        if isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        else:
            merged[key] = [*value] if isinstance(value, list) else value


class NodeEvents:
    """Changes the data of a run's events, so that they are about the nodes of its graph."""

    def __init__(self, nodes: Mapping[str, NodeName]) -> None:
        self._nodes = nodes
        self._shown: dict[str, str] = {}  # nodes of the graph by executing copy
        self._states: dict[str, dict[str, Any]] = {}  # the last states that were given
        # by the node that starts an outermost loop, and for this and the loops in it that are
        # executing, innermost last: the iterations that ended, and their number
        self.iterations: dict[str, Iterations] = {}
        self._around = ""  # the outermost loop in which a node is executing, if there is one

    @property
    def present(self) -> Iterations:
        """The iterations of the loops around the node that is executing."""
        return self.iterations.get(self._around, {})

    def node_of(self, node: str) -> str:
        """Return the node of the graph that a copy stands for."""
        if node in self._nodes:
            return node
        known = self._shown.get(node)
        if known is not None:
            return known
        last = node.rpartition("_")[2]
        return last if last in self._nodes else node.split(".", 1)[0]

    def _own(self, node: str, shown: object) -> str:
        """Return the node of the graph that a copy stands for, as ComfyUI says it if it does."""
        return shown if isinstance(shown, str) and shown in self._nodes else self.node_of(node)

    def read(self, kind: str, data: dict[str, Any]) -> dict[str, Any] | None:
        """Return the data for the graph's nodes; None if it says nothing new about them."""
        if kind == "progress_state":
            return self._changes(data)
        for key in ("executed", "current_outputs"):  # of the end of a failed or interrupted run
            if isinstance(data.get(key), list):
                nodes = [self.node_of(str(node)) for node in data[key]]
                data = {**data, key: [*dict.fromkeys(nodes)]}
        node = data.get("node")
        if not isinstance(node, str):
            return data
        own = self._own(node, data.get("display_node"))
        head = node.split(".", 1)[0]
        outermost = head if head in self._nodes else own
        if kind == "executing":
            self._shown = {node: own}
            self._around = outermost
        if kind == "progress_text":
            self._note_iteration(own, outermost, data.get("text"))
        return data if own == node else {**data, "node": own, "display_node": own}

    def _note_iteration(self, node: str, outermost: str, text: Any) -> None:
        named = self._nodes.get(node)
        is_loop = named is not None and named.class_type == START and isinstance(text, str)
        found = _ITERATION.fullmatch(text) if is_loop else None
        if found is not None:
            loops = self.iterations.setdefault(outermost, {})
            loops.pop(node, None)
            if (done := int(found[1])) < (total := int(found[2])):
                loops[node] = done, total
            if not loops:
                del self.iterations[outermost]

    def _changes(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """Return the states that differ from the last ones, if a loop or copies are executed."""
        states = data.get("nodes")
        if not isinstance(states, dict):
            return data
        if not self.iterations and all(node in self._nodes for node in states):
            return data
        now: dict[str, dict[str, Any]] = {}
        for node, state in states.items():
            if not isinstance(state, dict):
                continue
            own = self._own(node, state.get("display_node_id"))
            running = state.get("state") != FINISHED
            if running or now.get(own, state).get("state") == FINISHED:
                ids = {"node_id": own, "display_node_id": own, "real_node_id": own}
                now[own] = {**state, **ids, "parent_node_id": None}
        for loops in self.iterations.values():
            for node, (done, total) in loops.items():
                if node in now:
                    now[node].update(state="running", value=done, max=total)
        changed = {node: state for node, state in now.items() if self._states.get(node) != state}
        self._states.update(changed)
        return {**data, "nodes": changed} if changed else None
