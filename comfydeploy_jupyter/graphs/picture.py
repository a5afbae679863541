"""The data of a picture of a workflow: nodes with their positions, links, groups and subgraphs.

A workflow in the editor's format keeps its positions; the nodes of one in API format are put into
columns. The content of workflows is not trusted: all texts are cut, and all numbers are bounded.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from .api_to_ui import COLUMN_GAP, COLUMN_WIDTH, ROW_GAP, column_numbers
from .formats import title_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_NODES = 5000
"""How many nodes of a graph are shown at most."""

MOST_SUBGRAPHS = 200
MOST_LINKS = 20_000
MOST_SLOTS = 200
LONGEST = 200  # characters of a text
FARTHEST = 1e7  # pixels
TITLE, SLOT = 30, 20  # pixels
COLLAPSED_WIDTH = 160  # pixels
NEVER, BYPASSED = 2, 4  # modes of nodes


def picture_of(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a picture of a workflow. No workflow makes this function raise.

    ``graph``, and ``subgraphs`` by id: nodes (``box`` is left, top, width, height in pixels), links
    (origin, its slot, target, its slot, type), groups, and ``left_out``, the number of nodes that
    are too many.
    """
    if not isinstance(workflow.get("nodes"), list):
        return {"graph": _of_api(workflow), "subgraphs": {}}
    definitions = workflow.get("definitions")
    found = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {
        str(each["id"]): each
        for each in islice(_objects(found), MOST_SUBGRAPHS)
        if isinstance(each.get("id"), str)
    }
    return {
        "graph": _of_ui(workflow, subgraphs),
        "subgraphs": {key: _of_ui(each, subgraphs) for key, each in subgraphs.items()},
    }


def _of_ui(graph: Mapping[str, Any], subgraphs: Mapping[str, Any]) -> dict[str, Any]:
    given = list(_objects(graph.get("nodes")))
    nodes = [_node(node, subgraphs) for node in given[:MOST_NODES]]
    nodes += [
        _terminal(graph.get(side), title, graph.get(slots), outwards)
        for side, title, slots, outwards in (
            ("inputNode", "Inputs", "inputs", True),
            ("outputNode", "Outputs", "outputs", False),
        )
        if isinstance(graph.get(side), dict)
    ]
    ids = {node["id"] for node in nodes}
    links = (_link(link) for link in _items(graph.get("links")))
    return {
        "name": _text(graph.get("name")),
        "nodes": nodes,
        "links": list(
            islice((ln for ln in links if ln and ln[0] in ids and ln[2] in ids), MOST_LINKS)
        ),
        "groups": [
            {
                "title": _text(group.get("title")),
                "box": _box(group.get("bounding")),
                "color": _text(group.get("color")),
            }
            for group in islice(_objects(graph.get("groups")), MOST_NODES)
        ],
        "left_out": max(0, len(given) - MOST_NODES),
    }


def _node(node: Mapping[str, Any], subgraphs: Mapping[str, Any]) -> dict[str, Any]:
    kind = _text(node.get("type"))
    ins, outs = _names(node.get("inputs")), _names(node.get("outputs"))
    left, top = _pair(node.get("pos"), 0.0)
    width, height = _pair(node.get("size"), 0.0)
    flags = node.get("flags")
    if isinstance(flags, dict) and flags.get("collapsed"):
        width, height, ins, outs = COLLAPSED_WIDTH, 0.0, [], []
    slots = SLOT * max(len(ins), len(outs))
    inner = subgraphs.get(kind)
    return {
        "id": _text(node.get("id")),
        "title": _text(node.get("title")) or _text(inner and inner.get("name")) or kind,
        "kind": _text(inner and inner.get("name")) or kind,
        # the editor's sizes do not contain the title
        "box": [left, top - TITLE, max(width, 60.0), max(height, slots) + TITLE],
        "ins": ins,
        "outs": outs,
        "color": _text(node.get("color") or node.get("bgcolor")),
        "mode": {NEVER: "muted", BYPASSED: "bypassed"}.get(_mode(node), ""),
        "subgraph": kind if inner is not None else "",
    }


def _terminal(side: Any, title: str, slots: Any, outwards: bool) -> dict[str, Any]:
    """Return the inputs or the outputs of a subgraph as a node."""
    names = _names(slots)
    left, top, width, height = _box(side.get("bounding"))
    return {
        "id": _text(side.get("id")),
        "title": title,
        "kind": "",
        "box": [left, top, max(width, 90.0), max(height, TITLE + SLOT * len(names))],
        "ins": [] if outwards else names,
        "outs": names if outwards else [],
        "color": "",
        "mode": "",
        "subgraph": "",
    }


def _of_api(graph: Mapping[str, Any]) -> dict[str, Any]:
    given = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    feeders: dict[str, list[str]] = {}
    shown = dict(islice(given.items(), MOST_NODES))
    outputs = dict.fromkeys(shown, 0)
    for key, node in shown.items():
        inputs = node.get("inputs")
        ins: list[str] = []
        feeders[key] = []
        for name, value in islice(inputs.items(), MOST_SLOTS) if isinstance(inputs, dict) else ():
            origin, slot = _origin(value)
            if origin not in shown or len(links) >= MOST_LINKS:
                continue
            links.append([_text(origin), slot, _text(key), len(ins), ""])
            ins.append(_text(name))
            feeders[key].append(origin)
            outputs[origin] = max(outputs[origin], slot + 1)
        nodes.append(
            {
                "id": _text(key),
                "title": _text(title_of(node)) or _text(node.get("class_type")),
                "kind": _text(node.get("class_type")),
                "ins": ins,
                "outs": [],
                "color": "",
                "mode": "",
                "subgraph": "",
            }
        )
    bottoms: dict[int, float] = {}
    for node, key, column in zip(nodes, shown, column_numbers(feeders), strict=True):
        node["outs"] = [""] * outputs[key]
        height = TITLE + SLOT * max(1, len(node["ins"]), outputs[key])
        top = bottoms.get(column, 0.0)
        node["box"] = [column * (COLUMN_WIDTH * 0.6 + COLUMN_GAP), top, COLUMN_WIDTH * 0.6, height]
        bottoms[column] = top + height + ROW_GAP / 2
    left_out = len(given) - len(shown)
    return {"name": "", "nodes": nodes, "links": links, "groups": [], "left_out": left_out}


def _origin(value: Any) -> tuple[str, int]:
    """Return the node and the slot that a link of the API format comes from."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)):
        return str(value[0]), _slot(value[1])
    return "", 0


def _link(link: Any) -> list[Any] | None:
    if isinstance(link, dict):
        keys = ("origin_id", "origin_slot", "target_id", "target_slot", "type")
        link = [None, *(link.get(key) for key in keys)]
    if not isinstance(link, list) or len(link) < 5:
        return None
    kind = _text(link[5]) if len(link) > 5 else ""
    return [_text(link[1]), _slot(link[2]), _text(link[3]), _slot(link[4]), kind]


def _slot(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < MOST_SLOTS else 0


def _mode(node: Mapping[str, Any]) -> int:
    mode = node.get("mode")
    return mode if isinstance(mode, int) else 0


def _names(ports: Any) -> list[str]:
    return [
        _text(port.get("label")) or _text(port.get("name"))
        for port in islice(_objects(ports), MOST_SLOTS)
    ]


def _items(value: Any) -> list[Any]:
    """Return the items of a list, or the values of an object in place of a list."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in _items(value) if isinstance(item, dict))


def _pair(value: Any, default: float) -> tuple[float, float]:
    numbers = [_number(item, default) for item in _items(value)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (default, default)


def _box(value: Any) -> list[float]:
    numbers = [_number(item, 0.0) for item in _items(value)[:4]]
    return numbers if len(numbers) == 4 else [0.0] * 4


def _number(value: Any, default: float) -> float:
    if not isinstance(value, (int, float)) or not abs(value) <= FARTHEST:
        return default
    return float(value) if math.isfinite(value) else default


def _text(value: Any) -> str:
    return str(value)[:LONGEST] if isinstance(value, (str, int)) else ""
