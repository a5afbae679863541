"""The differences between two versions of a workflow, as sentences."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from itertools import takewhile, zip_longest
from typing import Any

from ..errors import InvalidRequestError
from .formats import (
    CONTROLS,
    MODES,
    GraphFormat,
    class_of,
    detect_format,
    inputs_of,
    is_link,
    node_label,
    sequence,
    title_of,
    without_added,
)
from .ui import SavedGraph, SavedNode, SavedWorkflow

SHOWN = 60  # the most characters of a value that are shown
LEAD = 20  # how many of these are before the first difference
MAX_ROWS = 1000  # of a group; rows of larger ones are compared by their places

_ROW = re.compile(r"(.+?)\.(0|[1-9][0-9]{0,8})\.(.+)", re.ASCII)  # a field of a row of a group


@dataclass(frozen=True)
class Change:
    # ``removed``, ``added``, ``replaced`` (another class), ``switched`` (muted, bypassed, active),
    # ``renamed``, ``rewired``, ``changed`` (a value) or ``row`` (of a group; the old and new one)
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

    @cached_property
    def groups(self) -> dict[str, dict[int, dict[str, str]]]:
        """The groups of rows: the names of the inputs of each row, by their fields."""
        found: dict[str, dict[int, dict[str, str]]] = defaultdict(dict)
        for name in (*self.values, *self.links):
            if part := _ROW.fullmatch(name):
                found[part[1]].setdefault(int(part[2]), {})[part[3]] = name
        return found

    def names_in(self, group: str) -> list[str]:
        return [name for row in self.groups.get(group, {}).values() for name in row.values()]

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
    if kind is GraphFormat.API:
        old, new = ({key: without_added(node) for key, node in g.items()} for g in (old, new))
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
    grouped: set[str] = set()
    for group in dict.fromkeys((*new.groups, *old.groups)):
        grouped.update((group, *(name for each in (old, new) for name in each.names_in(group))))
        yield from _compare_rows(old, new, group, before, after)
    for name in dict.fromkeys((*new.links, *new.values, *old.links, *old.values)):
        if name in grouped:
            continue
        was, now = old.links.get(name), new.links.get(name)
        if was != now:
            yield _rewired(old, new, name, _source(was, before), _source(now, after))
        elif now is None and not _same(old.values.get(name, _UNSET), new.values.get(name, _UNSET)):
            a, b = _excerpts(old.values.get(name, _UNSET), new.values.get(name, _UNSET))
            text, values = f"{new.name}: {name} {a} → {b}", (old.values, new.values)
            yield Change("changed", new.id, text, name, *(each.get(name) for each in values))


def _compare_rows(
    old: _Node, new: _Node, group: str, before: Mapping[str, _Node], after: Mapping[str, _Node]
) -> Iterator[Change]:
    """Yield the rows that were removed, added, moved or changed; people count them from 1."""
    was, now = _rows(old, group, before), _rows(new, group, after)
    keys = [[json.dumps(row, sort_keys=True) for row in rows] for rows in (was, now)]
    for place, other in _pairs(*keys):
        a = None if place is None else was[place]
        b = None if other is None else now[other]
        for text in _row_texts(place, other, a, b):
            yield Change("row", new.id, f"{new.name}: {group} row {text}", group, a, b)


def _row_texts(
    place: int | None, other: int | None, a: dict[str, Any] | None, b: dict[str, Any] | None
) -> Iterator[str]:
    if place is None or a is None:
        yield f"{(other or 0) + 1} added ({_row_text(b or {})})"
    elif other is None or b is None:
        yield f"{place + 1} removed ({_row_text(a)})"
    else:
        if place != other and a == b:
            yield f"{place + 1} moved to {other + 1}"
        for name in dict.fromkeys((*b, *a)):
            values = a.get(name, _UNSET), b.get(name, _UNSET)
            if not _same(*values):
                yield f"{other + 1} {name} {' → '.join(_excerpts(*values))}"


def _row_text(row: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {_shown(value)}" for name, value in row.items())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _rows(node: _Node, group: str, nodes: Mapping[str, _Node]) -> list[dict[str, Any]]:
    """Return the rows of a group: values, and descriptions of the origins of links."""
    return [
        {
            field: _Origin(f"from {_source(node.links[name], nodes)}")
            if name in node.links
            else node.values[name]
            for field, name in row.items()
        }
        for _, row in sorted(node.groups.get(group, {}).items())
    ]


def _pairs(old: list[str], new: list[str]) -> list[tuple[int | None, int | None]]:
    """Return which old row is which new one; None for one that was removed or added."""
    # Equal rows are the same, in their order as far as possible. Of the others, those at the same
    # place among the equal ones are, and what is left was removed or added.
    pairs: list[tuple[int | None, int | None]] = []
    gaps: list[tuple[list[int], list[int]]] = []
    kept: list[tuple[int, int]] = []
    if max(len(old), len(new)) <= MAX_ROWS:
        matcher = SequenceMatcher(None, old, new, autojunk=False)
        for kind, a1, a2, b1, b2 in matcher.get_opcodes():
            if kind == "equal":
                kept += zip(range(a1, a2), range(b1, b2), strict=True)
            else:
                gaps.append((list(range(a1, a2)), list(range(b1, b2))))
    else:
        gaps.append((list(range(len(old))), list(range(len(new)))))
    places: dict[str, list[int]] = defaultdict(list)
    for _, added in gaps:
        for other in added:
            places[new[other]].append(other)
    for removed, _ in gaps:
        for place in list(removed):
            if places[old[place]]:
                other = places[old[place]].pop(0)
                removed.remove(place)
                next(added for _, added in gaps if other in added).remove(other)
                pairs.append((place, other))
    for removed, added in gaps:
        pairs += zip_longest(removed, added)
    return sorted(pairs, key=lambda pair: (pair[1] is not None, pair[1] or 0, pair[0] or 0))


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
    names: list[str] = []
    for slot in node.inputs:
        if slot.widget is not None:
            row = _ROW.fullmatch(slot.name)
            if row is not None and row[1] not in names:
                names.append(row[1])  # the number of rows is before them
            names.append(slot.name)
    if len(names) != len(values):
        for place in range(1, len(values)):
            control = isinstance(values[place], str) and values[place] in CONTROLS
            if control and names[place - 1 : place] and names[place - 1].endswith("seed"):
                names.insert(place, f"{names[place - 1]} control")
    if len(names) != len(values) or len(set(names)) != len(names):
        if node.named:
            return dict(node.named)
        names = [f"value {place}" for place in range(1, len(values) + 1)]
    return dict(zip(names, values, strict=True))


_UNSET = object()


class _Origin(str):
    """The description of the origin of a link, in place of a value."""

    __slots__ = ()


def _same(a: Any, b: Any) -> bool:
    """Return whether JSON values are equal: 1 equals 1.0, but not true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def _shown(value: Any) -> str:
    if value is _UNSET:
        return "not set"
    if isinstance(value, _Origin):
        return str(value)
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
