"""Sets the inputs of a graph by name.

A run passes through the functions of this package in this order::

    applied = load_files(apply_inputs(graph, inputs, definitions=definitions), definitions)
    seeds = apply_seeds(applied.graph, mode, given=applied.given)
    inlined = inline_external(seeds.graph, known_classes, given=applied.given)
    graph = place_files(inlined.graph, {need.node_id: ... for need in inlined.files})
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UnknownInputError
from .custom_combo import CHOICE, CUSTOM_COMBO, INDEX, index_of_choice
from .definitions import MISSING, NodeDefinitions
from .external import EXTERNAL_PREFIX, Target, external_values
from .formats import (
    AUTOGROW,
    DYNAMIC_COMBO,
    Definitions,
    Graph,
    class_of,
    copy_graph,
    declared_inputs,
    inputs_of,
    is_link,
    title_of,
)
from .queued_values import wrapped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence


LONGEST_TITLE = 60  # characters of a title in the name of an input


@dataclass(frozen=True)
class AppliedInputs:
    """A graph with the values of a user."""

    graph: Graph  # the graph with the values
    given: dict[Target, str]  # the inputs that were set, and the key of ``inputs`` that set each
    # the keys that match no input or several, each with the candidates
    unknown: dict[str, list[str]]


def apply_inputs(
    graph: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, Any],
    *,
    strict: bool = True,
    definitions: Definitions | None = None,
) -> AppliedInputs:
    """Set inputs of a graph by name.

    A key is looked up as (1) the ``input_id`` of external-input nodes, all of which are set; (2)
    ``"<node id>.<input>"``; (3) ``"<node title>.<input>"``; (4) an input name that exactly one node
    has; (5) the title of a node that has one value. The first of these that matches decides. A
    value replaces a literal or a link. If two keys name the same field, the later one wins. A
    choice of a Custom Combo also sets its index.

    With ``definitions``, (2) and (3) may also set inputs that the node's class declares and the
    graph leaves out. If another option of a dynamic combo is chosen, the inputs of the old option
    are removed, and those of the new option are added with their defaults. None as the value of an
    input in an autogrow group removes that input. Without ``strict``, keys that match no input or
    several are ignored.
    """
    result = copy_graph(graph)
    names = InputNames(result, definitions)
    classes = NodeDefinitions(definitions) if definitions else None
    given: dict[Target, str] = {}
    unknown: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    pending = list(inputs)
    while pending:
        branched = False
        waiting = []
        for key in pending:
            value = inputs[key]
            for node_id in names.external.get(key, ()):
                for name, stored in external_values(class_of(graph[node_id]), value):
                    result[node_id]["inputs"][name] = stored
                    given[node_id, name] = key
            if key in names.external:
                continue
            targets = names.find(key)
            if len(targets) != 1:
                waiting.append(key)
                unknown[key] = [names.name(*target) for target in targets] or names.close_to(key)
                ambiguous.update([key] if targets else [])
                continue
            unknown.pop(key, None)
            ((node_id, name),) = targets
            node = result[node_id]
            before = inputs_of(node)
            node["inputs"] = {**before, name: stored_value(value, graph)}
            given[node_id, name] = key
            if value is None and may_be_absent(definitions, node, name):
                del node["inputs"][name]
            if classes is not None and before.get(name) != value:
                own = declared_inputs(definitions, class_of(node), node["inputs"]).get(name)
                if own is not None and own.type == DYNAMIC_COMBO:
                    kept = {n for i, n in given if i == node_id}
                    node["inputs"] = _with_branch(node, name, definitions, classes, kept)
                    names.update(node_id, before, node["inputs"])
                    for gone in kept - node["inputs"].keys() - {name}:
                        lost = given.pop((node_id, gone))
                        waiting.append(lost)
                        unknown[lost] = []
                    branched = True
        # The inputs of an option can be set once that option is chosen.
        pending = waiting if branched else []
    if unknown and strict:
        raise UnknownInputError(
            "; ".join(_complaint(key, unknown[key], key in ambiguous) for key in unknown),
            details={"field": f"inputs.{next(iter(unknown))}", "unknown": unknown},
        )
    for node_id in {node_id for node_id, name in given if name == CHOICE}:
        node = result[node_id]
        if class_of(node) == CUSTOM_COMBO and (node_id, INDEX) not in given:
            node["inputs"][INDEX] = index_of_choice(node["inputs"])
    return AppliedInputs(result, given, unknown)


def may_be_absent(definitions: Definitions | None, node: Mapping[str, Any], name: str) -> bool:
    """Return whether an input belongs to an autogrow group."""
    group = name.rpartition(".")[0]
    specs = declared_inputs(definitions, class_of(node), inputs_of(node)) if group else {}
    return group in specs and specs[group].type == AUTOGROW


def _with_branch(
    node: Mapping[str, Any],
    combo: str,
    definitions: Definitions | None,
    classes: NodeDefinitions,
    kept: Collection[str],
) -> dict[str, Any]:
    """Return the inputs of a node with those of the chosen option of a dynamic combo.

    The inputs of other options are removed. Those that are not in ``kept`` get their defaults.
    """
    prefix, class_type = f"{combo}.", class_of(node)
    inputs = {
        name: value
        for name, value in inputs_of(node).items()
        if not name.startswith(prefix) or name in kept
    }
    known = classes.get(class_type)
    for widget, value in known.lay_out(inputs) if known is not None else ():
        fresh = widget.name.startswith(prefix) and widget.name not in inputs
        if fresh and widget.emitted and value is not MISSING:
            inputs[widget.name] = wrapped(value)
    specs = declared_inputs(definitions, class_type, inputs)
    return {n: v for n, v in inputs.items() if not n.startswith(prefix) or n in specs}


class InputNames:
    """The names by which the inputs of one graph can be set."""

    def __init__(
        self, graph: Mapping[str, Mapping[str, Any]], definitions: Definitions | None = None
    ) -> None:
        self._graph = graph
        self._definitions = definitions
        self.external: dict[str, list[str]] = defaultdict(list)
        self._titles: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for node_id, node in graph.items():
            inputs = inputs_of(node)
            if class_of(node).startswith(EXTERNAL_PREFIX) and isinstance(
                input_id := inputs.get("input_id"), str
            ):
                self.external[input_id].append(node_id)
            if title := title_of(node):
                self._titles[title].append(node_id)
            for name in inputs:
                self._names[name].append(node_id)

        self._longest = max(map(len, [*graph, *self._titles]), default=0)

    def update(self, node_id: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Record that the inputs of a node have changed."""
        for name in before.keys() - after.keys():
            self._names[name] = [other for other in self._names[name] if other != node_id]
        for name in after.keys() - before.keys():
            self._names[name].append(node_id)

    def find(self, key: str) -> list[Target]:
        """Return the inputs that a key names, by the first rule that finds any."""
        splits = list(self._splits(key))
        by_id = [t for head, name in splits for t in self._with_input([head], name)]
        by_title = [
            t for head, name in splits for t in self._with_input(self._titles.get(head, ()), name)
        ]
        by_name = [(node_id, key) for node_id in self._names.get(key, ())]
        return by_id or by_title or by_name or self._values_of(self._titles.get(key, ()))

    def name(self, node_id: str, name: str) -> str:
        """Return the name of an input for people, by which `find` finds it.

        It has the title of the node, or its id if the title is missing or fits several inputs.
        """
        title = title_of(self._graph[node_id])
        if title and title.isprintable() and len(title) <= LONGEST_TITLE:
            by_title = f"{title}.{name}"
            if by_title not in self.external and self.find(by_title) == [(node_id, name)]:
                return by_title
        return f"{node_id}.{name}"

    def all(self) -> list[str]:
        """Return the names of all external inputs, and of all other values."""
        inner = {node_id for nodes in self.external.values() for node_id in nodes}
        others = self._values_of(node_id for node_id in self._graph if node_id not in inner)
        return [*self.external, *(self.name(*target) for target in others)]

    def spoken(self, key: str) -> str:
        """Return a key as it is written for people, who do not know the id of a node in it."""
        if key not in self.external and key.partition(".")[0] in self._graph:
            targets = self.find(key)
            if len(targets) == 1:
                return self.name(*targets[0])
        return key

    def _splits(self, key: str) -> Iterator[tuple[str, str]]:
        """Split a key at each dot that may follow an id or a title, which may contain dots."""
        dot = key.find(".", 0, self._longest + 1)
        while dot >= 0:
            yield key[:dot], key[dot + 1 :]
            dot = key.find(".", dot + 1, self._longest + 1)

    def _with_input(self, node_ids: Iterable[str], name: str) -> Iterator[Target]:
        for node_id in node_ids:
            node = self._graph.get(node_id)
            if node is not None and (
                name in inputs_of(node)
                or name in declared_inputs(self._definitions, class_of(node), inputs_of(node))
            ):
                yield node_id, name

    def _values_of(self, node_ids: Iterable[str]) -> list[Target]:
        return [
            (node_id, name)
            for node_id in node_ids
            for name, value in inputs_of(self._graph[node_id]).items()
            if not is_link(value)
        ]

    def close_to(self, key: str) -> list[str]:
        """Return the names of inputs with similar names, the most similar first."""
        for head, tail in self._splits(key):
            found = self._of_nodes([head] if head in self._graph else self._titles.get(head), tail)
            if found:
                return found
        head, dot, tail = key.rpartition(".")
        titles = difflib.get_close_matches(head if dot else key, self._titles, n=3)
        by_title = [
            name
            for title in titles
            for name in self._of_nodes(self._titles[title], tail if dot else "")
        ]
        if dot and by_title:
            return by_title[:8]
        close = [
            *difflib.get_close_matches(key, [*self.external, *self._names], n=5),
            *difflib.get_close_matches(tail, self._names, n=5),
        ]
        by_name: list[str] = []
        for name in close:
            holders = [] if name in self.external else self._names[name]
            by_name += [name] if len(holders) < 2 else [self.name(i, name) for i in holders]
        return list(dict.fromkeys([*by_name, *by_title]))[:8] or list(self.external)

    def _of_nodes(self, node_ids: Sequence[str] | None, tail: str) -> list[str]:
        """Return the names of inputs of these nodes: those similar to ``tail``, else all values."""
        targets = [(i, n) for i in node_ids or () for n in inputs_of(self._graph[i])]
        close = difflib.get_close_matches(tail, {name for _, name in targets}, n=5)
        similar = [target for name in close for target in targets if target[1] == name]
        return [self.name(*target) for target in similar or self._values_of(node_ids or ())]


def _complaint(key: str, candidates: Sequence[str], ambiguous: bool) -> str:
    named = ", ".join(candidates[:8])
    if ambiguous:
        return f"inputs.{key}: matches several inputs, name one of them: {named}"
    hint = f"; did you mean {named}?" if named else ""
    return f"inputs.{key}: no input of the workflow has this name{hint}"


def stored_value(value: object, graph: Mapping[str, Any]) -> object:
    """Return a value in the form that a graph has: a list that is no link to a node is wrapped.

    ComfyUI reads a list of two items as a link, and runs a node once for each item of another
    list.
    """
    if isinstance(value, list) and not (is_link(value) and value[0] in graph):
        return {"__value__": value}
    return value
