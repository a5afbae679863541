"""API format → UI format: a workflow that opens in ComfyUI's editor, laid out in columns.

A prompt has no positions and only the inputs that ComfyUI needs. The rest comes from the node
definitions. `ui_to_api` of the result returns the prompt again, with these exceptions, which the
format does not allow to avoid:

- widgets that the prompt does not have get their defaults;
- values of inputs that the class does not declare are lost, and so are links to inputs of options
  of a dynamic combo that are not chosen;
- comments (``//``) in the text of a widget with dynamic prompts are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from ..errors import InvalidRequestError
from .definitions import CONTROL, MISSING, VIEWPORT, NodeClass, NodeDefinitions, Socket
from .dependencies import columns_of
from .formats import (
    MODES,
    AnyGraph,
    inputs_of,
    mapping,
    number_of,
    objects,
    sequence,
    title_of,
    unwrapped,
)
from .ui import Link, SavedGraph, SavedNode, SavedWorkflow

COLUMN_WIDTH, COLUMN_GAP = 400, 100
ROW_GAP = 80
MAX_OUTPUTS = 1000
"""The most outputs of a node to which links are drawn."""
_TITLE, _SLOT, _WIDGET, _TEXT_AREA, _PICTURE = 40, 22, 30, 180, 300


def api_to_ui(graph: AnyGraph, definitions: NodeDefinitions | Mapping[str, Any]) -> dict[str, Any]:
    """Convert a workflow from the API format to the UI format, version 0.4."""
    # Nodes of unknown classes keep their inputs by name. Seeds are ``fixed``, so that queueing the
    # workflow repeats the run.
    known = NodeDefinitions.of(definitions)
    _check(graph)
    sketch = _Sketch(graph, known)
    nodes = [sketch.node(key) for key in graph]
    _place(nodes, list(columns_of(sketch.feeders)[0].values()))
    numbers = [node["id"] for node in nodes if isinstance(node["id"], int)]
    return {
        "last_node_id": max(numbers, default=0),
        "last_link_id": len(sketch.links),
        "nodes": nodes,
        "links": sketch.links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _check(graph: Any) -> None:
    if not isinstance(graph, Mapping):
        raise InvalidRequestError.of_field("workflow_api", "must be an object")
    for key, node in graph.items():
        if not isinstance(node, Mapping):
            raise InvalidRequestError.of_field(f"workflow_api.{key}", "must be an object")
        if not isinstance(node.get("class_type"), str):
            raise InvalidRequestError.of_field(f"workflow_api.{key}.class_type", "must be text")
        if not isinstance(node.get("inputs", {}), dict):
            raise InvalidRequestError.of_field(f"workflow_api.{key}.inputs", "must be an object")


class _Sketch:
    """The nodes and links of the workflow, without positions."""

    def __init__(self, graph: AnyGraph, definitions: NodeDefinitions) -> None:
        self._graph = graph
        self._classes = {key: definitions.get(node["class_type"]) for key, node in graph.items()}
        self._leaving: dict[str, dict[int, list[int]]] = {key: {} for key in graph}
        self._entering: dict[str, dict[str, int]] = {key: {} for key in graph}
        self.feeders: dict[str, list[str]] = {key: [] for key in graph}
        self.links: list[list[Any]] = []
        self._sockets = {key: self._sockets_of(key) for key in graph}
        for key in graph:
            places = {socket.name: place for place, socket in enumerate(self._sockets[key])}
            for name, value in inputs_of(self._graph[key]).items():
                if self._is_link(value):
                    if value[1] >= MAX_OUTPUTS:
                        problem = f"is linked to an output beyond the {MAX_OUTPUTS} of a node"
                        place = f"workflow_api.{key}.inputs.{name}"
                        raise InvalidRequestError.of_field(place, problem)
                    self._link(str(value[0]), value[1], key, name, places[name])

    def node(self, key: str) -> dict[str, Any]:
        """Return a node in the editor's format."""
        known = self._classes[key]
        kind = self._graph[key]["class_type"]
        slots, outputs = self._slots(key), self._outputs(key)
        node: dict[str, Any] = {
            "id": _id(key),
            "type": kind,
            "pos": [0, 0],
            "size": [COLUMN_WIDTH, _height(known, len(slots), len(outputs))],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": slots,
            "outputs": outputs,
            "properties": {"Node name for S&R": kind},
        }
        literals = self._literals(key)
        view = literals.get(VIEWPORT)
        if isinstance(view, Mapping):
            node["properties"]["Camera Config"] = {"state": view.get("camera_info")}
        if known is None:
            node["widgets_values_named"] = literals
        elif known.widgets:
            node["widgets_values"] = _stored(known, literals)
            if known.unknown:  # these may have brought others
                node["widgets_values_named"] = literals
        title = title_of(self._graph[key])
        if title and (known is None or title != known.title):
            node["title"] = title
        return node

    def _is_link(self, value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], (str, int))
            and isinstance(value[1], int)
            and value[1] >= 0
            and str(value[0]) in self._graph
        )

    def _link(self, origin: str, slot: int, target: str, name: str, place: int) -> None:
        number = len(self.links) + 1
        self._entering[target][name] = number
        self._leaving[origin].setdefault(slot, []).append(number)
        self.feeders[target].append(origin)
        known = self._classes[origin]
        kind = known.outputs[slot] if known is not None and slot < len(known.outputs) else "*"
        self.links.append([number, _id(origin), slot, _id(target), place, kind])

    def _sockets_of(self, key: str) -> list[Socket]:
        """Return the inputs of a node: those of its class, then those that only the prompt has."""
        known = self._classes[key]
        inputs = inputs_of(self._graph[key])
        linked = {name: None for name, value in inputs.items() if self._is_link(value)}
        sockets: list[Socket] = []
        laid = [] if known is None else known.lay_out(self._literals(key))
        for socket in () if known is None else known.inputs_of(laid):
            grown = [name for name in linked if name.startswith(socket.name)]
            for name in grown if socket.grows else ():
                del linked[name]
                sockets.append(Socket(name, "*"))
            if not socket.grows:
                linked.pop(socket.name, None)
                sockets.append(socket)
        return [*sockets, *(Socket(name, "*") for name in linked)]

    def _literals(self, key: str) -> dict[str, Any]:
        return {
            name: unwrapped(value)
            for name, value in inputs_of(self._graph[key]).items()
            if not self._is_link(value)
        }

    def _slots(self, key: str) -> list[dict[str, Any]]:
        slots = []
        for socket in self._sockets[key]:
            slot: dict[str, Any] = {
                "name": socket.name,
                "type": socket.type,
                "link": self._entering[key].get(socket.name),
            }
            if socket.has_widget:
                slot["widget"] = {"name": socket.name}
            slots.append(slot)
        return slots

    def _outputs(self, key: str) -> list[dict[str, Any]]:
        known = self._classes[key]
        leaving = self._leaving[key]
        kinds = [] if known is None else list(known.outputs)
        kinds += ["*"] * (max(leaving, default=-1) + 1 - len(kinds))
        return [
            {"name": kind, "type": kind, "links": leaving.get(slot, [])}
            for slot, kind in enumerate(kinds)
        ]


def _stored(known: NodeClass, literals: Mapping[str, Any]) -> list[Any]:
    values = []
    boxes = {
        f"{name}.{part}": number
        for name, box in literals.items()
        if isinstance(box, Mapping)
        for part, number in box.items()
    }
    for widget, value in known.lay_out({**boxes, **literals, CONTROL: "fixed"}):
        if not widget.stored:
            continue
        value = None if value is MISSING else value
        if widget.dynamic_prompts and isinstance(value, str):
            value = value.replace("{", "\\{").replace("}", "\\}")
        values.append(value)
    return values


def _id(key: str) -> int | str:
    """Return an id as the editor saves it: as a number, if it is one."""
    number = number_of(key)
    return key if number is None else number


def _height(known: NodeClass | None, inputs: int, outputs: int) -> int:
    widgets = () if known is None else known.widgets
    height = _TITLE + _SLOT * (inputs + outputs)
    height += sum(_TEXT_AREA if widget.multiline else _WIDGET for widget in widgets)
    uploads = any(widget.type == "IMAGEUPLOAD" for widget in widgets)
    return height + (_PICTURE if uploads or (known is not None and known.output_node) else 0)


def _place(nodes: list[dict[str, Any]], columns: list[int]) -> None:
    bottoms: dict[int, int] = {}
    for node, column in zip(nodes, columns, strict=True):
        top = bottoms.get(column, 0)
        node["pos"] = [column * (COLUMN_WIDTH + COLUMN_GAP), top]
        bottoms[column] = top + node["size"][1] + ROW_GAP
    order = sorted(range(len(nodes)), key=lambda place: columns[place])
    for rank, place in enumerate(order):
        nodes[place]["order"] = rank


# -- the data of a picture of a workflow -------------------------------------------------------
#
# A workflow in the editor's format keeps its positions; the nodes of one in API format are put into
# columns. The content of workflows is not trusted: all texts are cut, and all numbers are bounded.

MAX_NODES = 5000
"""How many nodes of a graph are shown at most."""

MAX_SUBGRAPHS = 200
MAX_LINKS = 20_000
MAX_SLOTS = 200
MAX_TEXT = 200  # characters of a text
FARTHEST = 1e7  # pixels
TITLE, SLOT = 30, 20  # pixels
COLLAPSED_WIDTH = 160  # pixels
_PLAIN = dict.fromkeys(("kind", "color", "mode", "subgraph"), "")  # of a node without these


def picture_of(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a picture of a workflow. No workflow makes this function raise."""
    # ``graph``, and ``subgraphs`` by id: nodes (``box`` is left, top, width, height in pixels),
    # links (origin, its slot, target, its slot, type), groups, and ``left_out``, the number of
    # nodes that are too many.
    if not isinstance(workflow.get("nodes"), list):
        return {"graph": _of_api(workflow), "subgraphs": {}}
    saved = SavedWorkflow(workflow)
    subgraphs = dict(islice(saved.subgraphs.items(), MAX_SUBGRAPHS))
    return {
        "graph": _of_ui(saved.root, subgraphs),
        "subgraphs": {key: _of_ui(graph, subgraphs) for key, graph in subgraphs.items()},
    }


def _of_ui(graph: SavedGraph, subgraphs: Mapping[str, SavedGraph]) -> dict[str, Any]:
    nodes = [_node(node, subgraphs) for node in graph.every[:MAX_NODES]]
    nodes += [
        _terminal(graph.raw[side], title, graph.raw.get(slots), outwards)
        for side, title, slots, outwards in (
            ("inputNode", "Inputs", "inputs", True),
            ("outputNode", "Outputs", "outputs", False),
        )
        if isinstance(graph.raw.get(side), dict)
    ]
    ids = {node["id"] for node in nodes}
    links = map(_link, graph.links.values())
    return {
        "name": _text(graph.name),
        "nodes": nodes,
        "links": list(islice((row for row in links if {row[0], row[2]} <= ids), MAX_LINKS)),
        "groups": [
            {
                "title": _text(group.get("title")),
                "box": _numbers(group.get("bounding"), 4),
                "color": _text(group.get("color")),
            }
            for group in objects(graph.raw.get("groups"))[:MAX_NODES]
        ],
        "left_out": max(0, len(graph.every) - MAX_NODES),
    }


def _node(node: SavedNode, subgraphs: Mapping[str, SavedGraph]) -> dict[str, Any]:
    raw = node.raw
    ins, outs = _names(raw.get("inputs")), _names(raw.get("outputs"))
    left, top = _numbers(raw.get("pos"), 2)
    width, height = _numbers(raw.get("size"), 2)
    if mapping(raw.get("flags")).get("collapsed"):
        width, height, ins, outs = COLLAPSED_WIDTH, 0.0, [], []
    slots = SLOT * max(len(ins), len(outs))
    inner = subgraphs.get(node.type)
    kind = _text((inner and inner.name) or node.type)
    return {
        "id": _text(node.id),
        "title": _text(node.title) or kind,
        "kind": kind,
        # the editor's sizes do not contain the title
        "box": [left, top - TITLE, max(width, 60.0), max(height, slots) + TITLE],
        "ins": ins,
        "outs": outs,
        "color": _text(raw.get("color") or raw.get("bgcolor")),
        "mode": MODES.get(node.mode, ""),
        "subgraph": "" if inner is None else node.type,
    }


def _terminal(side: Any, title: str, slots: Any, outwards: bool) -> dict[str, Any]:
    """Return the inputs or the outputs of a subgraph as a node."""
    names = _names(slots)
    left, top, width, height = _numbers(side.get("bounding"), 4)
    return {
        **_PLAIN,
        "id": _text(side.get("id")),
        "title": title,
        "box": [left, top, max(width, 90.0), max(height, TITLE + SLOT * len(names))],
        "ins": [] if outwards else names,
        "outs": names if outwards else [],
    }


def _of_api(graph: Mapping[str, Any]) -> dict[str, Any]:
    given = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    feeders: dict[str, list[str]] = {}
    shown = dict(islice(given.items(), MAX_NODES))
    outputs = dict.fromkeys(shown, 0)
    for key, node in shown.items():
        ins: list[str] = []
        feeders[key] = []
        for name, value in islice(inputs_of(node).items(), MAX_SLOTS):
            origin, slot = _origin(value)
            if origin not in shown or len(links) >= MAX_LINKS:
                continue
            links.append([_text(origin), slot, _text(key), len(ins), ""])
            ins.append(_text(name))
            feeders[key].append(origin)
            outputs[origin] = max(outputs[origin], slot + 1)
        kind = _text(node.get("class_type"))
        title = _text(title_of(node)) or kind
        nodes.append({**_PLAIN, "id": _text(key), "title": title, "kind": kind, "ins": ins})
    bottoms: dict[int, float] = {}
    for node, key, column in zip(nodes, shown, columns_of(feeders)[0].values(), strict=True):
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


def _link(link: Link) -> list[Any]:
    origin, target = _text(link.origin), _text(link.target)
    return [origin, _slot(link.origin_slot), target, _slot(link.target_slot), _text(link.type)]


def _slot(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < MAX_SLOTS else 0


def _names(ports: Any) -> list[str]:
    return [
        _text(port.get("label")) or _text(port.get("name")) for port in objects(ports)[:MAX_SLOTS]
    ]


def _numbers(value: Any, count: int) -> list[float]:
    """Return the numbers of a list, or of an object in place of a list; zeros if there are less."""
    items = list(value.values()) if isinstance(value, dict) else sequence(value)
    numbers = [
        float(item) if isinstance(item, (int, float)) and abs(item) <= FARTHEST else 0.0
        for item in items[:count]
    ]
    return numbers if len(numbers) == count else [0.0] * count


def _text(value: Any) -> str:
    return str(value)[:MAX_TEXT] if isinstance(value, (str, int)) else ""
