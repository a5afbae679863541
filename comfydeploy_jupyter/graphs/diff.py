"""The differences between two versions of a workflow, as sentences."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from ..errors import InvalidRequestError
from .formats import (
    BYPASSED,
    CONTROLS,
    MUTED,
    GraphFormat,
    class_of,
    detect_format,
    inputs_of,
    is_link,
    node_label,
    sequence,
    title_of,
)
from .ui import SavedGraph, SavedNode, SavedWorkflow

SHOWN = 60  # the most characters of a value that are shown
LEAD = 20  # how many of these are before the first difference
MODES = {MUTED: "muted", BYPASSED: "bypassed"}  # all others count as active


@dataclass(frozen=True)
class Change:
    # ``removed``, ``added``, ``replaced`` (another class), ``switched`` (muted, bypassed, active),
    # ``renamed``, ``rewired`` or ``changed`` (a value)
    kind: str
    node_id: str  # the node; ``"<subgraph id>:<node id>"`` inside the definition of a subgraph
    text: str  # the difference in words
    input_name: str | None = None  # the input that was rewired or changed
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class GraphDiff:
    """All differences between two graphs: removed nodes, added nodes, then node by node."""

    # It is true if there are any; ``str()`` of it has a line for each.

    changes: tuple[Change, ...]  # the differences that matter for a run, and those of titles
    layout: bool = False  # whether anything else differs, such as the positions of nodes

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __str__(self) -> str:
        if self.changes:
            return "\n".join(change.text for change in self.changes)
        return "only the layout differs" if self.layout else "no differences"

    __repr__ = __str__


@dataclass
class _Node:
    """The parts of a node of either format that are compared."""

    id: str
    class_type: str
    title: str = ""
    mode: str = "active"
    place: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, tuple[str, Any]] = field(default_factory=dict)
    unique: bool = False

    @property
    def name(self) -> str:
        own_id = self.id.rpartition(":")[2] if self.place else self.id
        label = node_label(own_id, self.class_type, self.title, unique=self.unique)
        return f"{label}{self.place}"


def diff_graphs(old: Mapping[str, Any], new: Mapping[str, Any]) -> GraphDiff:
    """Return the differences between two graphs of the same format."""
    # Nodes are matched by their ids, which ComfyUI's editor keeps. In API format, all inputs have
    # names. In UI format, values have names only if the editor saved them with the inputs of the
    # node; otherwise they are numbered.
    kind = detect_format(old, field="old")
    if detect_format(new, field="new") is not kind:
        raise InvalidRequestError.of_field("new", "is in another format than the old graph")
    read = _api_nodes if kind is GraphFormat.API else _ui_nodes
    before, after = read(old), read(new)
    alike: dict[tuple[str, str], set[str]] = defaultdict(set)
    nodes = [*before.values(), *after.values()]
    for node in nodes:
        alike[node.place, node.title or node.class_type].add(node.id)
    for node in nodes:
        node.unique = len(alike[node.place, node.title or node.class_type]) == 1
    changes = [
        Change(kind, key, f"{kind} {node.name}")
        for kind, nodes_of, others in (("removed", before, after), ("added", after, before))
        for key, node in nodes_of.items()
        if key not in others
    ]
    for key, node in after.items():
        if key in before:
            changes += _compare(before[key], node, before, after)
    return GraphDiff(tuple(changes), layout=not changes and old != new)


def _compare(
    old: _Node, new: _Node, before: Mapping[str, _Node], after: Mapping[str, _Node]
) -> Iterator[Change]:
    if old.class_type != new.class_type:
        text = f"{old.name} became {new.name}"
        yield Change("replaced", new.id, text, None, old.class_type, new.class_type)
        return
    if old.mode != new.mode:
        yield Change("switched", new.id, f"{new.name} is now {new.mode}", None, old.mode, new.mode)
    if old.title != new.title:
        text = f"{old.name} is now called {new.title or new.class_type!r}"
        yield Change("renamed", new.id, text, None, old.title, new.title)
    for name in dict.fromkeys((*new.links, *new.values, *old.links, *old.values)):
        was, now = old.links.get(name), new.links.get(name)
        if was != now:
            yield _rewired(old, new, name, _source(was, before), _source(now, after))
        elif now is None and not _same(old.values.get(name, _UNSET), new.values.get(name, _UNSET)):
            a, b = _excerpts(old.values.get(name, _UNSET), new.values.get(name, _UNSET))
            text, values = f"{new.name}: {name} {a} → {b}", (old.values, new.values)
            yield Change("changed", new.id, text, name, *(each.get(name) for each in values))


def _rewired(old: _Node, new: _Node, name: str, was: str | None, now: str | None) -> Change:
    if was is None:
        value = f", was {_shown(old.values[name])}" if name in old.values else ""
        text = f"{name} now comes from {now}{value}"
    elif now is None:
        value = f", but is {_shown(new.values[name])}" if name in new.values else ""
        text = f"{name} no longer comes from {was}{value}"
    else:
        text = f"{name} now comes from {now}, was {was}"
    return Change("rewired", new.id, f"{new.name}: {text}", name, was, now)


def _source(link: tuple[str, Any] | None, nodes: Mapping[str, _Node]) -> str | None:
    """Return a description of the origin of a link."""
    if link is None:
        return None
    node_id, slot = link
    node = nodes.get(node_id)
    if node is None:
        inner = node_id.rpartition(":")[2]
        return f"input {slot} of the subgraph" if inner == "-10" else f"node {inner}, output {slot}"
    return f"{node.name}, output {slot}"


def _api_nodes(graph: Mapping[str, Any]) -> dict[str, _Node]:
    return {
        str(key): _Node(
            str(key),
            class_of(node),
            title_of(node),
            values={name: value for name, value in inputs_of(node).items() if not is_link(value)},
            links={name: (v[0], v[1]) for name, v in inputs_of(node).items() if is_link(v)},
        )
        for key, node in graph.items()
    }


def _ui_nodes(ui: Mapping[str, Any]) -> dict[str, _Node]:
    saved = SavedWorkflow(ui)
    names = {key: graph.name for key, graph in saved.subgraphs.items()}
    found = {}
    for graph in saved.graphs():
        inner = graph is not saved.root
        prefix = f"{graph.id}:" if inner else ""
        place = f' in subgraph "{graph.name}"' if inner else ""
        for node in graph.every:
            found[f"{prefix}{node.id}"] = _ui_node(node, graph, prefix, place, names)
    return found


def _ui_node(
    node: SavedNode, graph: SavedGraph, prefix: str, place: str, names: Mapping[str, str]
) -> _Node:
    links = {}
    for index, slot in enumerate(node.inputs):
        source = graph.source(slot)
        if source is not None:
            name = slot.name or slot.label or f"input {index}"
            links[name] = (f"{prefix}{source.origin}", source.origin_slot)
    return _Node(
        f"{prefix}{node.id}",
        names.get(node.type) or node.type,
        node.title,
        MODES.get(node.mode, "active"),
        place,
        _widget_values(node),
        links,
    )


def _widget_values(node: SavedNode) -> dict[str, Any]:
    """Return the values of a node's widgets by name."""
    # Newer editors save every widget as an input; the control of a seed has a value but no input.
    if isinstance(node.stored, Mapping):
        return {str(name): value for name, value in node.stored.items()}
    values = sequence(node.stored)
    names = [slot.name for slot in node.inputs if slot.widget is not None]
    if len(names) != len(values):
        for place in range(1, len(values)):
            control = isinstance(values[place], str) and values[place] in CONTROLS
            if control and names[place - 1 : place] and names[place - 1].endswith("seed"):
                names.insert(place, f"{names[place - 1]} control")
    if len(names) != len(values) or len(set(names)) != len(names):
        names = [f"value {place}" for place in range(1, len(values) + 1)]
    return dict(zip(names, values, strict=True))


class _Unset:
    def __repr__(self) -> str:
        return "not set"


_UNSET = _Unset()


def _same(a: Any, b: Any) -> bool:
    """Return whether JSON values are equal: 1 equals 1.0, but not true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def _shown(value: Any) -> str:
    if value is _UNSET:
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _excerpts(a: Any, b: Any) -> tuple[str, str]:
    """Return two values as text; of long texts, the parts around their first difference."""
    if not (isinstance(a, str) and isinstance(b, str)) or max(len(a), len(b)) <= SHOWN:
        return _shown(a), _shown(b)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    start = max(0, same - LEAD)
    return _excerpt(a, start), _excerpt(b, start)


def _excerpt(text: str, start: int) -> str:
    end = start + SHOWN
    shown = json.dumps(text[start:end], ensure_ascii=False)[1:-1]
    return f'"{"…" if start else ""}{shown}{"…" if end < len(text) else ""}"'
