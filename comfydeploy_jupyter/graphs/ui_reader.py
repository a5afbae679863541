"""Reads a workflow in the UI format as the editor loads it.

Links are arrays in version 0.4 and objects in version 1; both become a `Link`. Nodes get the
inputs, outputs and widgets of their class.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from . import group_nodes, javascript, queued_values
from .definitions import MISSING, VIEWPORT, NodeClass, NodeDefinitions, Widget
from .formats import objects
from .type_mismatches import misfits
from .ui_graph import PRIMITIVE, VIRTUAL, Graph, Link, LinkKey, Node, Port, Slot, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .expansion import Expansion


def read_workflow(workflow: Any, definitions: NodeDefinitions, expansion: Expansion) -> Workflow:
    """Read a workflow in the UI format."""
    if not isinstance(workflow, dict):
        raise InvalidRequestError.of_field("workflow", "must be an object")
    if not isinstance(workflow.get("nodes"), list):
        raise InvalidRequestError.of_field(
            "workflow.nodes", "must be a list: this is not a workflow in the editor's format"
        )
    return _Reader(workflow, definitions, expansion).read()


class _Reader:
    def __init__(
        self, workflow: Mapping[str, Any], definitions: NodeDefinitions, expansion: Expansion
    ) -> None:
        self._expansion = expansion
        extra = workflow.get("extra")
        groups = extra.get("groupNodes") if isinstance(extra, dict) else None
        self._groups = groups if isinstance(groups, dict) else {}
        self._definitions = definitions
        self._workflow = workflow
        self._raw = _definitions_by_id(workflow)
        self._inputs = {key: _ports(raw, "inputs") for key, raw in self._raw.items()}
        self._outputs = {key: _ports(raw, "outputs") for key, raw in self._raw.items()}
        self._warnings: list[str] = []
        self._renamed = _renumbered(workflow, self._raw) if self._raw else {}

    def read(self) -> Workflow:
        root = self._graph(self._workflow, "workflow", {})
        subgraphs: dict[str, Graph] = {}
        pending = [root]
        while pending:
            for node in pending.pop().nodes.values():
                if node.subgraph is not None and node.subgraph not in subgraphs:
                    graph = self._definition(node.subgraph)
                    subgraphs[node.subgraph] = graph
                    pending.append(graph)
        return Workflow(root, _innermost_first(subgraphs), self._warnings)

    def _definition(self, key: str) -> Graph:
        raw = self._raw[key]
        name = f"subgraph {raw.get('name') or key}"
        graph = self._graph(raw, name, self._renamed.get(key, {}))
        graph.inputs, graph.outputs = self._inputs[key], self._outputs[key]
        return graph

    def _graph(self, raw: Mapping[str, Any], name: str, renamed: Mapping[str, str]) -> Graph:
        if self._groups:
            raw = group_nodes.expand(raw, self._groups, self._definitions, self._expansion)
        graph = Graph(name, {}, _links(raw.get("links"), renamed))
        numbers = _Numbers(raw)
        names: set[tuple[str, LinkKey | None]] = set()
        for place, entry in enumerate(_list_of(raw, "nodes", name)):
            node = self._node(entry, f"{name}.nodes[{place}]", renamed)
            if node.id in graph.nodes:
                fresh = numbers.next()
                self._warnings.append(
                    f"{name}: two nodes have the id {node.id}; the second is now {fresh}"
                )
                node.id = fresh
            graph.nodes[node.id] = node
            kept = {slot.name for slot in node.inputs}
            for saved in map(_saved_slot, objects(entry.get("inputs"))):
                if saved.link is not None and saved.name not in kept:
                    names.add((node.id, saved.link))
        _connect(graph, names)
        return graph

    def _node(self, raw: Any, place: str, renamed: Mapping[str, str]) -> Node:
        if not isinstance(raw, dict):
            raise InvalidRequestError.of_field(place, "must be an object")
        kind = raw.get("type")
        if not isinstance(kind, str):
            raise InvalidRequestError.of_field(f"{place}.type", "must be text")
        own = _identifier(raw.get("id"))
        if own is None:
            raise InvalidRequestError.of_field(f"{place}.id", "must be a number or text")
        mode = raw.get("mode")
        properties = raw.get("properties")
        named = raw.get("widgets_values_named")
        node = Node(
            id=renamed.get(own, own),
            type=kind,
            title=str(raw.get("title") or ""),
            mode=mode if isinstance(mode, int) else 0,
            inputs=[],
            outputs=[],
            properties=properties if isinstance(properties, dict) else {},
            stored=raw.get("widgets_values"),
            named=named if isinstance(named, dict) else {},
        )
        inputs = _list_of(raw, "inputs", place)
        outputs = _list_of(raw, "outputs", place)
        if kind in self._raw:
            self._read_instance(node, inputs)
        elif kind not in VIRTUAL and (known := self._definitions.get(kind)) is not None:
            _read_known(node, known, inputs, outputs)
        else:
            self._read_other(node, inputs, outputs)
        for number, slot in enumerate(node.inputs):
            slot.number = number
        return node

    def _read_instance(self, node: Node, inputs: list[Any]) -> None:
        definition = self._raw[node.type]
        node.subgraph = node.type
        node.title = node.title or str(definition.get("name") or "")
        links = {str(raw.get("name")): _key(raw.get("link")) for raw in objects(inputs)}
        node.inputs = [
            Slot(port.name, port.type, links.get(port.name)) for port in self._inputs[node.type]
        ]
        node.outputs = [port.type for port in self._outputs[node.type]]
        renamed = self._renamed.get(node.type)
        entries = node.properties.get("proxyWidgets")
        if renamed and isinstance(entries, list):
            moved = [
                [renamed.get(str(entry[0]), entry[0]), *entry[1:]]
                for entry in entries
                if isinstance(entry, list) and entry
            ]
            node.properties = {**node.properties, "proxyWidgets": moved}

    def _read_other(self, node: Node, inputs: list[Any], outputs: list[Any]) -> None:
        node.title = node.title or node.type
        node.inputs = [_saved_slot(raw) for raw in objects(inputs)]
        node.outputs = [_type(raw.get("type")) for raw in objects(outputs)]
        stored = node.stored if isinstance(node.stored, list) else []
        if node.type in VIRTUAL:
            names = {PRIMITIVE: "value"}
            node.values = {names.get(node.type, "text"): value for value in stored[:1]}
            return
        for number, value in enumerate(stored):
            name = f"UNKNOWN_{number}" if number else "UNKNOWN"
            if value is None or isinstance(value, (list, dict)):
                value = _json(value, f"node {node.id}")
            node.widgets.append(Widget(name, "*", name))
            node.values[name] = value
        for name, value in node.named.items() if node.stored is None else ():
            node.widgets.append(Widget(name, "*", name))
            node.values[name] = value


class _Numbers:
    """Returns node ids that a graph does not have."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        ids = (raw_node.get("id") for raw_node in objects(raw.get("nodes")))
        self._last = max((key for key in ids if type(key) is int), default=0)

    def next(self) -> str:
        self._last += 1
        return str(self._last)


def _read_known(node: Node, known: NodeClass, inputs: list[Any], outputs: list[Any]) -> None:
    """Add the widgets, inputs and outputs of its class to a node, and its saved links."""
    node.known = known
    node.title = node.title or known.title
    laid = known.lay_out(node.named if node.stored is None else node.stored)
    by_name = known.lay_out(node.named) if node.named and misfits(laid) else laid
    node.by_name = misfits(by_name) < misfits(laid)
    laid = by_name if node.by_name else laid
    for widget, value in laid:
        node.widgets.append(widget)
        node.values.setdefault(widget.name, _widget_value(node, widget, value))
    saved = {str(raw.get("name")): raw for raw in objects(inputs)}
    for socket in known.inputs_of(laid):
        if socket.grows:
            grown = [name for name in saved if name.startswith(socket.name)]
            node.inputs.extend(_saved_slot(saved.pop(name)) for name in grown)
            continue
        raw = saved.pop(socket.name, None)
        link = None if raw is None else _key(raw.get("link"))
        widget_name = socket.name if socket.has_widget else None
        node.inputs.append(Slot(socket.name, socket.type, link, widget_name))
    combos = tuple(f"{widget.name}." for widget in node.widgets if widget.branches)
    for raw in saved.values():
        slot = _saved_slot(raw)
        if slot.name.startswith(combos):
            continue
        if slot.widget is None or slot.widget in node.values:
            node.inputs.append(slot)
    types = [_type(raw.get("type")) for raw in objects(outputs)]
    node.outputs = [*known.outputs, *types[len(known.outputs) :]]


def _widget_value(node: Node, widget: Widget, value: Any) -> Any:
    """Return the value of a widget after the editor has loaded a saved value into it."""
    if widget.type == "LOAD_3D" and widget.name == VIEWPORT:
        return queued_values.viewport(node.properties)
    if widget.type == "PREVIEW_3D":
        return ""
    if widget.name == "model_file" and node.type in ("Preview3D", "Preview3DAnimation"):
        return node.properties.get("Last Time Model File") or value
    if widget.multiline and value is not MISSING:
        return "" if value is None else javascript.text(value)
    if value is None and widget.choices:
        return widget.choices[0]
    if (
        widget.name == "sampler_name"
        and node.type in ("KSampler", "KSamplerAdvanced")
        and isinstance(value, str)
    ):
        return value.removeprefix("sample_")
    return value


def _json(value: Any, place: str) -> str:
    try:
        return json.dumps(javascript.plain(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidRequestError.of_field(place, "has values nested too deeply") from None


def _saved_slot(raw: Mapping[str, Any]) -> Slot:
    widget = raw.get("widget")
    name = widget.get("name") if isinstance(widget, dict) else None
    return Slot(
        name=str(raw.get("name") or ""),
        type=_type(raw.get("type")),
        link=_key(raw.get("link")),
        widget=name if isinstance(name, str) else None,
    )


def _links(rows: Any, renamed: Mapping[str, str]) -> dict[LinkKey, Link]:
    links: dict[LinkKey, Link] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) >= 5:
            key, origin, origin_slot, target, target_slot = row[:5]
        elif isinstance(row, dict):
            key, origin, target = row.get("id"), row.get("origin_id"), row.get("target_id")
            origin_slot, target_slot = row.get("origin_slot"), row.get("target_slot")
        else:
            continue
        key, origin, target = _key(key), _identifier(origin), _identifier(target)
        if key is None or origin is None or target is None or key in links:
            continue
        if renamed:
            origin, target = renamed.get(origin, origin), renamed.get(target, target)
        links[key] = Link(origin, _number(origin_slot), target, _number(target_slot))
    return links


def _connect(graph: Graph, names: set[tuple[str, LinkKey | None]]) -> None:
    """Connect the inputs as frontend 1.58.1 does where they and the list of links disagree.

    A link leads to the node that the list names, and there to the input that names the link, else
    to the input whose number is in the list. Of several links to one input, the first that an input
    names counts, else the first in the list.
    """
    named = [(node, slot) for node in graph.nodes.values() for slot in node.inputs]
    names.update((node.id, slot.link) for node, slot in named)
    unnamed = {
        (link.target, link.target_slot): key
        for key, link in reversed(graph.links.items())
        if (link.target, key) not in names
    }
    taken: dict[tuple[str, int], LinkKey] = {}
    connected: set[LinkKey] = set()
    for node, slot in named:
        link = None if slot.link is None else graph.links.get(slot.link)
        if slot.link is None or link is None or slot.link in connected:
            continue
        number = link.target_slot
        if link.target == node.id or link.target not in graph.nodes:
            listed = node.inputs[number].link if 0 <= number < len(node.inputs) else ""
            moved = listed is None and (node.id, slot.number) in unnamed
            number = number if moved or listed == slot.link else slot.number
        target = link.target if link.target in graph.nodes else node.id
        connected.add(taken.setdefault((target, number), slot.link))
    for place, key in unnamed.items():
        taken.setdefault(place, key)
    for node, slot in named:
        lost = slot.link is not None and slot.link not in graph.links
        slot.link = taken.get((node.id, slot.number), slot.link if lost else None)


def _ports(raw: Mapping[str, Any], key: str) -> list[Port]:
    ports = []
    for entry in objects(_list_of(raw, key, f"subgraph {raw.get('name')}")):
        ids = entry.get("linkIds")
        keys = [_key(value) for value in ids] if isinstance(ids, list) else []
        ports.append(
            Port(
                str(entry.get("name") or ""),
                _type(entry.get("type")),
                [value for value in keys if value is not None],
            )
        )
    return ports


def _definitions_by_id(workflow: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return all subgraph definitions, also those inside others; of equal ids the first."""
    found: dict[str, Mapping[str, Any]] = {}
    pending: list[Any] = [workflow]
    while pending:
        holder = pending.pop()
        block = holder.get("definitions")
        listed = block.get("subgraphs") if isinstance(block, dict) else None
        for place, raw in enumerate(listed if isinstance(listed, list) else ()):
            key = _identifier(raw.get("id")) if isinstance(raw, dict) else None
            if key is None:
                raise InvalidRequestError.of_field(
                    f"definitions.subgraphs[{place}]", "must be an object with an id"
                )
            found.setdefault(key, raw)
            pending.append(raw)
    return found


def _renumbered(
    workflow: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """Return new ids for inner nodes whose ids other graphs of the workflow have, too.

    The editor (1.58.1) keeps all nodes of a workflow in one store. When it loads a file, it
    replaces ids that several subgraph definitions have by the next free numbers.
    """
    taken = {_identifier(raw.get("id")) for raw in objects(workflow.get("nodes"))}
    last = _number(workflow.get("last_node_id"))
    renamed: dict[str, dict[str, str]] = {}
    for key, raw in definitions.items():
        own = dict.fromkeys(_identifier(node.get("id")) for node in objects(raw.get("nodes")))
        for name in own:
            if name is None:
                continue
            if name in taken:
                last += 1
                while str(last) in taken:
                    last += 1
                renamed.setdefault(key, {})[name] = str(last)
                taken.add(str(last))
            else:
                taken.add(name)
                last = max(last, int(name)) if name.isdecimal() else last
    return renamed


def _innermost_first(subgraphs: dict[str, Graph]) -> dict[str, Graph]:
    """Order definitions so that each comes before those that contain it."""
    inside = {
        key: {node.subgraph for node in graph.nodes.values() if node.subgraph is not None}
        for key, graph in subgraphs.items()
    }
    users: dict[str, list[str]] = {key: [] for key in subgraphs}
    for key, used in inside.items():
        for inner in used:
            users[inner].append(key)
    waiting = {key: len(used) for key, used in inside.items()}
    ready = [key for key, count in waiting.items() if not count]
    ordered: dict[str, Graph] = {}
    while ready:
        key = ready.pop()
        ordered[key] = subgraphs[key]
        for user in users[key]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    if len(ordered) < len(subgraphs):
        names = sorted(graph.name for key, graph in subgraphs.items() if key not in ordered)
        raise InvalidRequestError.of_field("definitions.subgraphs", f"{names[0]} contains itself")
    return ordered


def _list_of(raw: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = raw.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequestError.of_field(f"{place}.{key}", "must be a list")
    return value


def _identifier(value: Any) -> str | None:
    """Return a node id as text, like execution ids; None for other values."""
    kind = type(value)
    if kind is int:
        return str(value) if abs(value) < 2**53 else javascript.text(value)
    if kind is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return javascript.text(value)


def _key(value: Any) -> LinkKey | None:
    if value is None or isinstance(value, (int, str)):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _number(value: Any) -> int:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else 0


def _type(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "*" if value in (None, 0) else str(value)
