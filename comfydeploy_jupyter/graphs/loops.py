"""Loops: which ``EndLoop`` closes which ``StartLoop``, and what ComfyUI refuses about them.

A loop is no construct of the prompt: its body is what lies between its two nodes. ComfyUI pairs
them once, after all outputs are validated, and reports only the first fault it finds (recorded from
0.38).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .formats import is_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

START, END = "StartLoop", "EndLoop"


class LoopFault(NamedTuple):
    kind: str  # ``loop_error_type``
    message: str
    details: str
    node_ids: list[str]  # sorted as text
    output_ids: list[str]  # the output nodes that depend on them; none: ComfyUI answers 500


class _LoopError(Exception):
    def __init__(self, kind: str, message: str, details: str, nodes: Iterable[str]) -> None:
        super().__init__(kind, message, details, sorted(nodes))


def loop_fault(
    prompt: Mapping[str, Any], validated: Collection[str], outputs: Collection[str]
) -> LoopFault | None:
    """Return the fault of a prompt's loops that ComfyUI reports, if they have one.

    `validated` has the ids of the nodes that were looked at, `outputs` those of the output nodes.
    """
    if not any(node.get("class_type") in (START, END) for node in prompt.values()):
        return None
    loops = _Loops(prompt, validated, outputs)
    try:
        loops.pair()
    except _LoopError as found:
        kind, message, details, node_ids = found.args
        reached = loops.walk(node_ids, loops.children)
        return LoopFault(kind, message, details, node_ids, sorted(reached & {*outputs}))
    return None


class _Loops:
    def __init__(
        self, prompt: Mapping[str, Any], validated: Collection[str], outputs: Collection[str]
    ) -> None:
        self.prompt = prompt
        above = {node_id: {*_sources(node)} & prompt.keys() for node_id, node in prompt.items()}
        below: dict[str, set[str]] = {node_id: set() for node_id in prompt}
        for node_id, sources in above.items():
            for source in sources:
                below[source].add(node_id)
        starts = self.starts(prompt)
        down = self.walk(outputs, below, starts) - starts
        self.nodes = {*validated} | down | self.walk(self.ends(down), above, starts)
        self.parents = {node_id: above[node_id] & self.nodes for node_id in self.nodes}
        self.children = {node_id: below[node_id] & self.nodes for node_id in self.nodes}
        self.outputs = {*outputs}

    def starts(self, node_ids: Iterable[str]) -> set[str]:
        return {each for each in node_ids if self.prompt[each].get("class_type") == START}

    def ends(self, node_ids: Iterable[str]) -> set[str]:
        return {each for each in node_ids if self.prompt[each].get("class_type") == END}

    @staticmethod
    def walk(
        begin: Iterable[str], edges: Mapping[str, Iterable[str]], stop: Collection[str] = ()
    ) -> set[str]:
        """Return what can be reached, with the beginning; nothing behind `stop`."""
        found = set(begin)
        rest = list(found)
        while rest:
            node_id = rest.pop()
            if node_id in stop:
                continue
            new = set(edges.get(node_id, ())) - found
            found |= new
            rest += new
        return found

    def pair(self) -> dict[str, str]:
        """Return the Start of each End; raise _LoopError."""
        starts, ends = self.starts(self.nodes), self.ends(self.nodes)
        above = {end: self.walk(self.parents[end], self.parents) for end in ends}
        loops: dict[str, str] = {}
        while ends:
            ready = sorted(end for end in ends if not above[end] & ends)
            if not ready:
                names = ", ".join(sorted(ends))
                details = (
                    "End Loops depend on each other, so none of them can be closed first: " + names
                )
                raise _LoopError("loop_end_cycle", "End Loops depend on each other", details, ends)
            end = ready[0]
            start = self._start_of(end, starts)
            starts.remove(start)
            ends.remove(end)
            loops[end] = start
            body = self.walk([start], self.children, {end, *ends}) - {end}
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
        if starts:
            details = f"Start Loops without End Loops: {', '.join(sorted(starts))}"
            raise _LoopError(
                "loop_start_without_end", "Start Loop has no End Loop", details, starts
            )
        self._check_accumulate(loops)
        return loops

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

    def _check_accumulate(self, loops: Mapping[str, str]) -> None:
        for end in sorted(loops):
            start = loops[end]
            link = self.prompt[end]["inputs"].get("accumulate")
            if not is_link(link):
                continue
            source = link[0]
            if source in self.walk([start], self.children, {end}):
                details = (
                    f"End Loop {end} accumulate is driven by loop node {source} under"
                    f" Start Loop {start}"
                )
                message = "End Loop accumulate depends on its loop body"
                raise _LoopError(
                    "loop_accumulate_from_body", message, details, {start, end, source}
                )


def _sources(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids of the nodes that a node has links to."""
    inputs = node.get("inputs")
    for value in inputs.values() if isinstance(inputs, dict) else ():
        if is_link(value):
            yield value[0]
