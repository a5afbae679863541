"""Loops: which ``EndLoop`` closes which ``StartLoop``, what ComfyUI refuses, and what to expect.

A loop is no construct of the prompt: its body is what lies between its two nodes. ComfyUI pairs
them once, after all outputs are validated, and reports only the first fault it finds (recorded from
0.38).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from .definitions import NodeDefinitions
from .dependencies import nodes_behind, sources_of
from .formats import END, START, AnyGraph, class_of, inputs_of, is_link, label_of, unwrapped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

LOOP_CLASSES = frozenset({START, END})


class LoopFault(NamedTuple):
    kind: str  # ``loop_error_type``
    message: str
    details: str
    node_ids: list[str]  # sorted as text
    output_ids: list[str]  # the output nodes that depend on them; none: ComfyUI answers 500


MAX_STEPS = 300_000
"""How many links are followed at most while loops are paired: usual graphs need few thousands."""


class TooManyLoopsError(Exception):
    """A graph has so many loops that pairing them would take long."""


class _LoopError(Exception):
    def __init__(self, kind: str, message: str, details: str, nodes: Iterable[str]) -> None:
        super().__init__(kind, message, details, sorted(nodes))


def loop_fault(
    prompt: Mapping[str, Any], validated: Collection[str], outputs: Collection[str]
) -> LoopFault | None:
    """Return the fault of a prompt's loops that ComfyUI reports, if they have one.

    `validated` has the ids of the nodes that were looked at, `outputs` those of the output nodes.
    Raises TooManyLoopsError.
    """
    classes = {node_id: str(node.get("class_type")) for node_id, node in prompt.items()}
    loops = _Loops(classes, sources_of(prompt), validated, outputs)
    try:
        paired = loops.pair()
        for end in sorted(paired):
            link = prompt[end]["inputs"].get("accumulate")
            if is_link(link):
                loops.check_accumulate(paired[end], end, link[0])
    except _LoopError as found:
        kind, message, details, node_ids = found.args
        reached = loops.walk(node_ids, loops.children)
        return LoopFault(kind, message, details, node_ids, sorted(reached & {*outputs}))
    return None


def loop_bodies(
    classes: Mapping[str, str], sources: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Return the nodes that are executed in loops, each with the Start of the outermost one.

    Empty if the loops of the graph are not valid.
    """
    found = [(start, body) for start, _, body in _bodies(classes, sources)]
    inner = {node_id for _, body in found for node_id in body}
    return {node_id: start for start, body in found if start not in inner for node_id in body}


def _bodies(
    classes: Mapping[str, str], sources: Mapping[str, Collection[str]]
) -> list[tuple[str, str, set[str]]]:
    """Return Start, End and the nodes between them of each loop; nothing if they are not valid."""
    if START not in classes.values():
        return []
    loops = _Loops(classes, sources, classes, ())
    try:
        paired = loops.pair()
        return [
            (start, end, loops.walk([start], loops.children, {end}) - {start, end})
            for end, start in paired.items()
        ]
    except (_LoopError, TooManyLoopsError):
        return []


# -- what to expect of loops that ComfyUI accepts ----------------------------------------------

MANY = 10_000
"""How often a node may be executed in loops without a notice."""

_SHOWN = 10**18  # a larger number is not written


def iterations_of(node: Mapping[str, Any]) -> int | None:
    """Return how often a Start Loop executes its body, if its inputs are numbers and not links."""
    inputs = inputs_of(node)
    try:
        if inputs.get("mode") == "simple":
            return max(0, int(unwrapped(inputs["mode.num_iterations"])))
        if inputs.get("mode") == "For":
            names = ("start_iteration_index", "max_iteration", "step")
            first, last, step = (int(unwrapped(inputs[f"mode.{name}"])) for name in names)
            return len(range(first, last, step)) if last - first < _SHOWN else _SHOWN
        listed = unwrapped(inputs["mode.list"])
        return len(listed) if isinstance(listed, list) and not is_link(listed) else None
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def executions(graph: AnyGraph) -> dict[str, int]:
    """Return how often each node in a loop is executed, as far as that is known."""
    classes = {node_id: class_of(node) for node_id, node in graph.items()}
    counts: dict[str, int] = {}
    for start, _, body in _bodies(classes, sources_of(graph)):
        count = iterations_of(graph[start])
        for node_id in {start, *body}:
            counts[node_id] = min(counts.get(node_id, 1) * (1 if count is None else count), _SHOWN)
    return counts


def loop_notices(graph: AnyGraph) -> Iterator[str]:
    """Yield a sentence for each loop that is not executed, or very often."""
    starts = [node_id for node_id, node in graph.items() if class_of(node) == START]
    counts = executions(graph) if starts else {}
    for start in starts:
        own = iterations_of(graph[start])
        count = counts.get(start, own)
        if own == 0:
            why = "has 0 iterations: its body is not executed, and its End Loop gives an empty list"
            yield f"Node {label_of(graph, start)} {why}."
        elif own is not None and count is not None and count > MANY:
            inside = f", {_number(count)} with the loops around it" if count > own else ""
            yield f"Node {label_of(graph, start)} has {_number(own)} iterations{inside}."


def _number(count: int) -> str:
    return f"{count:,}" if count < _SHOWN else f"more than {_SHOWN:,}"


def also_executed(
    graph: AnyGraph, targets: Collection[str], definitions: NodeDefinitions | None
) -> Iterator[str]:
    """Yield a sentence for each output in a loop that wanted outputs execute, too."""
    classes = {node_id: class_of(node) for node_id, node in graph.items()}
    sources = sources_of(graph)
    needed = nodes_behind(targets, sources) - {*targets}
    for start, _, body in _bodies(classes, sources):
        for node_id in sorted(body & needed):
            if NodeDefinitions.of(definitions).is_output(classes[node_id]):
                why = f"in the loop of node {label_of(graph, start)}, on which a wanted one depends"
                yield f"Output node {label_of(graph, node_id)} is executed, too: it is {why}."


class _Loops:
    def __init__(
        self,
        classes: Mapping[str, str],
        sources: Mapping[str, Collection[str]],
        validated: Collection[str],
        outputs: Collection[str],
    ) -> None:
        self._classes = classes
        self._steps = 0
        above = {node_id: {*found} & classes.keys() for node_id, found in sources.items()}
        below: dict[str, set[str]] = {node_id: set() for node_id in classes}
        for node_id, found in above.items():
            for source in found:
                below[source].add(node_id)
        starts = self.starts(classes)
        down = self.walk(outputs, below, starts) - starts
        self.nodes = {*validated} | down | self.walk(self.ends(down), above, starts)
        self.parents = {node_id: above[node_id] & self.nodes for node_id in self.nodes}
        self.children = {node_id: below[node_id] & self.nodes for node_id in self.nodes}
        self.outputs = {*outputs}

    def starts(self, node_ids: Iterable[str]) -> set[str]:
        return {each for each in node_ids if self._classes[each] == START}

    def ends(self, node_ids: Iterable[str]) -> set[str]:
        return {each for each in node_ids if self._classes[each] == END}

    def walk(
        self,
        begin: Iterable[str],
        edges: Mapping[str, Collection[str]],
        stop: Collection[str] = (),
    ) -> set[str]:
        """Return what can be reached, with the beginning; nothing behind `stop`."""
        found = set(begin)
        rest = list(found)
        while rest:
            node_id = rest.pop()
            if node_id in stop:
                continue
            links = edges.get(node_id, ())
            self._steps += 1 + len(links)
            if self._steps > MAX_STEPS:
                raise TooManyLoopsError
            new = {*links} - found
            found |= new
            rest += new
        return found

    def pair(self) -> dict[str, str]:
        """Return the Start of each End; raise _LoopError."""
        starts, ends = self.starts(self.nodes), self.ends(self.nodes)
        # an End can be closed once those that it depends on are: these, and what they depend on
        before = {end: self.walk(self.parents[end], self.parents, ends) & ends for end in ends}
        after: dict[str, list[str]] = {end: [] for end in ends}
        for end, others in before.items():
            for other in others:
                after[other].append(end)
        ready = sorted(end for end in ends if not before[end])
        loops: dict[str, str] = {}
        while ends:
            if not ready:
                names = ", ".join(sorted(ends))
                details = (
                    "End Loops depend on each other, so none of them can be closed first: " + names
                )
                raise _LoopError("loop_end_cycle", "End Loops depend on each other", details, ends)
            end = heappop(ready)
            start = self._start_of(end, starts)
            starts.remove(start)
            ends.remove(end)
            loops[end] = start
            self._check_escapes(start, end, ends)
            for other in after[end]:
                before[other].discard(end)
                if not before[other]:
                    heappush(ready, other)
        if starts:
            details = f"Start Loops without End Loops: {', '.join(sorted(starts))}"
            message = "Start Loop has no End Loop"
            raise _LoopError("loop_start_without_end", message, details, starts)
        return loops

    def _check_escapes(self, start: str, end: str, ends: set[str]) -> None:
        body = self.walk([start], self.children, ends | {end}) - {end}
        escapes = sorted(
            each
            for each in body
            if each in ends or (each in self.outputs and not self.children[each])
        )
        if escapes:
            details = (
                f"Start Loop {start} reaches {', '.join(escapes)} without passing through"
                f" End Loop {end}"
            )
            involved = (start, end, *escapes)
            raise _LoopError("loop_escape", "Loop body is not closed", details, involved)

    def _start_of(self, end: str, starts: set[str]) -> str:
        met = self.walk(self.parents[end], self.parents, starts) & starts
        if not met:
            details = f"End Loop {end} has no available Start Loop"
            raise _LoopError("loop_end_without_start", "End Loop has no Start Loop", details, [end])
        for start in met:
            if met <= self.walk([start], self.parents):
                return start
        names = ", ".join(sorted(met))
        details = f"End Loop {end} can close multiple unrelated Start Loops: {names}"
        message = "End Loop has ambiguous Start Loops"
        raise _LoopError("ambiguous_loop_nesting", message, details, (*met, end))

    def check_accumulate(self, start: str, end: str, source: str) -> None:
        if source in self.walk([start], self.children, {end}):
            details = (
                f"End Loop {end} accumulate is driven by loop node {source} under"
                f" Start Loop {start}"
            )
            message = "End Loop accumulate depends on its loop body"
            raise _LoopError("loop_accumulate_from_body", message, details, {start, end, source})
