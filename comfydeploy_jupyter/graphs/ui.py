"""Workflows in the UI format: the one place that reads their nodes, links and subgraphs.

Links are arrays in version 0.4 and objects in version 1; both become a `Link`. `SavedWorkflow` is
what the file says: it needs no definitions, takes any JSON, and reads only what is asked for.
`Workflow` is what the editor has after it has loaded the file: nodes with the inputs, outputs and
widgets of their class, group nodes replaced by their parts.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import InvalidRequestError
from ..util.jsons import rough_size
from . import queued_values
from .definitions import (
    CHOICE,
    CUSTOM_COMBO,
    MISSING,
    UPLOADS,
    VIEWPORT,
    NodeClass,
    NodeDefinitions,
    Widget,
    custom_options,
    fits_by_name,
)
from .dependencies import columns_of
from .formats import (
    BYPASSED,
    MUTED,
    UIGraph,
    inputs_of,
    is_link,
    label_of,
    mapping,
    node_label,
    number_of,
    objects,
    sequence,
    text_of,
)
from .formats import Graph as ApiGraph
from .versions import version_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FROM_OUTSIDE: Final = "-10"
"""The origin of links that come from the inputs of a subgraph."""
TO_OUTSIDE: Final = "-20"
"""The target of links that lead to the outputs of a subgraph."""
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
VIRTUAL: Final = frozenset({REROUTE, PRIMITIVE, "Note", "MarkdownNote", "ComfyDeploy"})
"""Node types that only the editor knows; ``ComfyDeploy`` is that of ComfyUI Deploy's plug-in."""

_NO_ID = "-1"  # of a node that has none
MAX_SHOWN = 60  # characters of a value in a sentence

LinkKey = int | str


@dataclass(slots=True, eq=False)
class Slot:
    """An input of a node: its link, the name of its widget, if any, and its position."""

    name: str
    type: str
    link: LinkKey | None = None
    widget: str | None = None
    number: int = 0
    label: str = ""  # that the author gave it


@dataclass(slots=True)
class Link:
    """A link: ids and slot numbers of its origin and its target."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str = ""


@dataclass(slots=True)
class Port:
    """An input or output of a subgraph definition, and its links inside the subgraph."""

    name: str
    type: str
    links: list[LinkKey]
    label: str = ""  # that the author gave it


# -- a workflow as it is saved -----------------------------------------------------------------


class SavedNode:
    """A node as the editor saved it."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.id = _identifier(raw.get("id")) or ""
        self.type = text_of(raw.get("type"))  # its class, or the id of a subgraph
        self.title = text_of(raw.get("title"))
        mode = raw.get("mode")
        self.mode = mode if isinstance(mode, int) else 0
        self.properties = mapping(raw.get("properties"))
        self.stored: Any = raw.get("widgets_values")
        # which is used only if `stored` is missing, or does not fit
        self.named = mapping(raw.get("widgets_values_named"))

    @cached_property
    def inputs(self) -> list[Slot]:
        return [_saved_slot(raw) for raw in objects(self.raw.get("inputs"))]

    @cached_property
    def _slots(self) -> dict[str | None, Slot]:
        every = reversed(self.inputs)
        return {name: slot for slot in every for name in (slot.name, slot.widget)}

    def slot(self, name: str) -> Slot | None:
        """Return the first input of a name, or whose widget has it."""
        return self._slots.get(name)

    @cached_property
    def proxies(self) -> dict[int, tuple[str, str]]:
        """The inner widgets that a subgraph node shows, by the places of their stored values."""
        # Each is a node id (``"-1"``: an input of the subgraph) and a name.
        return {
            place: (str(entry[0]), entry[1])
            for place, entry in enumerate(sequence(self.properties.get("proxyWidgets")))
            if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], str)
        }

    @property
    def stored_values(self) -> Sequence[Any]:
        """The values of the widgets, however they are saved."""
        found = self.stored
        return [*found.values()] if isinstance(found, dict) else sequence(found)


class SavedGraph:
    """The workflow itself or one subgraph definition as the editor saved it."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.id = _identifier(raw.get("id")) or ""
        self.name = text_of(raw.get("name"))

    @cached_property
    def every(self) -> list[SavedNode]:
        """All nodes, also several with one id."""
        return [SavedNode(raw) for raw in objects(self.raw.get("nodes"))]

    @cached_property
    def nodes(self) -> dict[str, SavedNode]:
        """The nodes by id; of several the first."""
        return {node.id: node for node in reversed(self.every)}

    @cached_property
    def links(self) -> dict[LinkKey, Link]:
        return _links(self.raw.get("links"), {})

    @cached_property
    def targets(self) -> dict[tuple[str, int], list[tuple[str, int]]]:
        """By node id and output number, the inputs that an output is linked to."""
        found: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for link in self.links.values():
            ends = found.setdefault((link.origin, link.origin_slot), [])
            ends.append((link.target, link.target_slot))
        return found

    @cached_property
    def inputs(self) -> list[Port]:
        return _ports(self.raw.get("inputs"))

    def source(self, slot: Slot | None) -> Link | None:
        """Return the link to an input; through the wall of a subgraph from `FROM_OUTSIDE`."""
        return None if slot is None or slot.link is None else self.links.get(slot.link)


class SavedWorkflow:
    """A workflow as the editor saved it, with its subgraph definitions."""

    def __init__(self, ui: UIGraph) -> None:
        self.root = SavedGraph(ui)
        self.extra = mapping(ui.get("extra"))
        definitions = _definitions_by_id(ui, strict=False)
        self.subgraphs = {key: SavedGraph(raw) for key, raw in definitions.items()}
        self._shown: dict[str, Counter[str]] = {}  # how often a title is in a graph

    @classmethod
    def of(cls, ui: AnySaved) -> SavedWorkflow:
        """Return a workflow that may be read already."""
        return ui if isinstance(ui, SavedWorkflow) else cls(ui)

    def graphs(self) -> list[SavedGraph]:
        return [self.root, *self.subgraphs.values()]

    def path(self, node_id: str) -> list[tuple[SavedNode, SavedGraph]]:
        """Return the containers of a node of the API graph, and the node, each with its graph."""
        # ``"12:3"`` is node 3 inside the subgraph node 12. Empty if it is not there. The nodes of
        # an old *group node* end at the group.
        graph, path = self.root, []
        for part in node_id.split(":") if ":" in node_id else (node_id,):
            node = graph.nodes.get(part)
            if node is None:
                return []
            path.append((node, graph))
            inner = self.subgraphs.get(node.type)
            if inner is None:
                break
            graph = inner
        return path

    def label(self, node: SavedNode, graph: SavedGraph) -> str:
        """Return the name of a node in messages, with its id if others have the title, too."""
        if graph.id not in self._shown:
            self._shown[graph.id] = Counter(map(self._title, graph.every))
        title = self._title(node)
        kind = "subgraph" if node.type in self.subgraphs else node.type
        return node_label(node.id, kind, title, unique=self._shown[graph.id][title] == 1)

    def _title(self, node: SavedNode) -> str:
        inner = self.subgraphs.get(node.type)
        return node.title or (node.type if inner is None else inner.name)


AnySaved: TypeAlias = SavedWorkflow | UIGraph


def name_conflicts(saved: SavedWorkflow, definitions: NodeDefinitions) -> list[str]:
    """Return a sentence for each value that is saved differently by its position and its name."""
    found: list[str] = []
    for graph in saved.graphs():
        for node in graph.every:
            by_position = node.stored
            if (
                not node.named
                or not isinstance(by_position, list)
                or node.mode in (MUTED, BYPASSED)
            ):
                continue
            values: list[tuple[str, Any]] = []
            used = ""
            if (known := definitions.get(node.type)) is not None:
                laid, named = known.lay_out(by_position), node.named
                values = [(widget.name, value) for widget, value in laid if widget.emitted]
                by_name = fits_by_name(laid, partial(known.lay_out, named))
                used = f"; the one by {'name' if by_name else 'position'} is used"
            elif node.type in saved.subgraphs:
                names = [slot.name for slot in node.inputs if slot.widget is not None]
                if len(names) == len(by_position) and not node.proxies:
                    values = list(zip(names, by_position, strict=True))
            for name, value in values:
                pair = value, node.named.get(name)
                if pair[0] == pair[1] or not all(
                    isinstance(each, (str, float, int)) for each in pair
                ):
                    continue
                one, two = (json.dumps(each, ensure_ascii=False)[:MAX_SHOWN] for each in pair)
                label = saved.label(node, graph)
                found.append(f"node {label}: {name} is {one} by position, {two} by name{used}")
    return found


# -- a workflow as the editor has loaded it ----------------------------------------------------


class Node(SavedNode):
    """A node with what its class adds; `inputs` are in the editor's order."""

    subgraph: str | None = None  # for a subgraph node: the id of the subgraph's definition
    known: NodeClass | None = None  # its class, if the definitions have it
    # whether its values are those that are saved by name, as those by position do not fit
    by_name = False
    # the names of its inputs by the names of widgets that mean them; None until it is needed
    targets: dict[str, str] | None = None

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.outputs: list[str] = []  # the types of the outputs
        self.widgets: list[Widget] = []  # in order; `values` has their values by name
        self.values: dict[str, Any] = {}
        # for a subgraph node: the values of its promoted widgets, by input number; `promoted_from`
        # has the inner widgets that are promoted
        self.promoted: dict[int, Any] = {}
        self.promoted_from: dict[int, Widget] = {}
        self.twins: dict[int, list[int]] = {}  # the inputs of one name, which have one value
        # for a subgraph node: values of inner widgets, by inner node id and input name
        self.overrides: dict[tuple[str, str], Any] = {}

    def promote(self, number: int, value: Any) -> None:
        """Set the value of a promoted widget, and of those that share it."""
        for each in self.twins.get(number, (number,)):
            self.promoted[each] = value

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each input, by its name."""
        return {slot.name: slot.number for slot in reversed(self.inputs)}

    def saved_number(self, place: int) -> int | None:
        """Return the number of the input that is saved at a place of its list of inputs."""
        saved = objects(self.raw.get("inputs"))
        name = str(saved[place].get("name") or "") if 0 <= place < len(saved) else None
        return None if name is None else self.numbers.get(name)

    @property
    def virtual(self) -> bool:
        """Whether it is never part of a prompt; links pass through it."""
        return self.subgraph is not None or self.type in VIRTUAL

    @property
    def silent(self) -> bool:
        return self.mode in (MUTED, BYPASSED)

    @property
    def runs(self) -> bool:
        return not (self.virtual or self.silent)


@dataclass
class Graph:
    """The nodes and links of the workflow itself or of one subgraph definition."""

    name: str  # the name in messages
    nodes: dict[str, Node]  # by id
    links: dict[LinkKey, Link]  # by id
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    # links to outputs that have another link, by id, and the ids of the others
    replaced: dict[LinkKey, LinkKey] = field(default_factory=dict)

    @cached_property
    def consumers(self) -> dict[LinkKey, tuple[Node, Slot]]:
        return {
            slot.link: (node, slot)
            for node in self.nodes.values()
            for slot in node.inputs
            if slot.link is not None
        }

    @cached_property
    def links_by_origin(self) -> dict[tuple[str, int], dict[LinkKey, None]]:
        """The links of each output, in the order of the file."""
        found: dict[tuple[str, int], dict[LinkKey, None]] = {}
        for key, link in self.links.items():
            found.setdefault((link.origin, link.origin_slot), {})[key] = None
        return found

    def fed_by(self, origin: str, slot: int, order: Iterable[LinkKey] = ()) -> list[FedSlot]:
        """Return the inputs that are linked to an output, first those of the links in `order`."""
        keys = self.links_by_origin.get((origin, slot), {})
        first = [key for key in order if key in keys]
        every = dict.fromkeys([*first, *keys])
        return [self.consumers[key] for key in every if key in self.consumers]

    @cached_property
    def sources(self) -> dict[int, Link]:
        """The link to each output of the subgraph."""
        found: dict[int, Link] = {}
        for number, port in enumerate(self.outputs):
            for key in port.links:
                link = self.links.get(self.replaced.get(key, key))
                if link is not None:
                    found.setdefault(number, link)
        return found


FedSlot = tuple[Node, Slot]


class Workflow:
    """A workflow as the editor has loaded it: the graph itself, and the subgraphs that are used."""

    def __init__(self, workflow: Any, definitions: NodeDefinitions, expansion: Expansion) -> None:
        if not isinstance(workflow, dict):
            raise InvalidRequestError.of_field("workflow", "must be an object")
        if not isinstance(workflow.get("nodes"), list):
            problem = "must be a list: this is not a workflow in the editor's format"
            raise InvalidRequestError.of_field("workflow.nodes", problem)
        self._expansion = expansion
        self._groups = mapping(mapping(workflow.get("extra")).get("groupNodes"))
        self._definitions = definitions
        self._raw = _definitions_by_id(workflow)
        self._inputs, self._outputs = (
            {
                key: _ports(_list_of(raw, side, f"subgraph {raw.get('name')}"))
                for key, raw in self._raw.items()
            }
            for side in ("inputs", "outputs")
        )
        self._renamed = _renumbered(workflow, self._raw) if self._raw else {}
        version = version_parts(text_of(mapping(workflow.get("extra")).get("frontendVersion")))
        # saved by frontend 1.49, which reads some files otherwise than 1.58.1
        self._in_1_49 = version is not None and version[:2] == (1, 49)
        self._last_id = _number(workflow.get("last_node_id"))
        self.warnings: list[str] = []  # a sentence for each error in the file that was corrected
        self.root = self._graph(workflow, "workflow", {})
        subgraphs: dict[str, Graph] = {}
        pending = [self.root]
        while pending:
            for node in pending.pop().nodes.values():
                if node.subgraph is not None and node.subgraph not in subgraphs:
                    graph = subgraphs[node.subgraph] = self._definition(node.subgraph)
                    pending.append(graph)
        self.subgraphs = _innermost_first(subgraphs)

    def graphs(self) -> Iterator[Graph]:
        """Yield all graphs, each before those that contain it."""
        yield from self.subgraphs.values()
        yield self.root

    def _definition(self, key: str) -> Graph:
        raw = self._raw[key]
        name = f"subgraph {raw.get('name') or key}"
        graph = self._graph(raw, name, self._renamed.get(key, {}))
        graph.inputs, graph.outputs = self._inputs[key], self._outputs[key]
        return graph

    def _graph(self, raw: Mapping[str, Any], name: str, renamed: Mapping[str, str]) -> Graph:
        if self._groups:
            raw = expand_groups(raw, self._groups, self._definitions, self._expansion)
        graph = Graph(name, {}, _links(raw.get("links"), renamed))
        if not self._in_1_49:
            graph.links.pop(-1, None)
        ids = (entry.get("id") for entry in objects(raw.get("nodes")))
        unused = count(1 + max((key for key in ids if type(key) is int), default=0))
        for place, entry in enumerate(_list_of(raw, "nodes", name)):
            node = self._node(entry, f"{name}.nodes[{place}]", renamed)
            if node.id == _NO_ID:
                node.id = self._next_id(graph.nodes)
                self.warnings.append(
                    f"{name}: a node has the id -1; it is now {node.id}, without its links"
                )
            if node.id in graph.nodes:
                fresh = str(next(unused))
                self.warnings.append(
                    f"{name}: two nodes have the id {node.id}; the second is now {fresh}"
                )
                node.id = fresh
            graph.nodes[node.id] = node
        if not (self._in_1_49 or _agrees(graph)):
            _connect(graph)
        return graph

    def _next_id(self, before: Mapping[str, Node]) -> str:
        """Return the id that the editor gives a node which is saved with the id -1."""
        # It counts on from the last id of the file and of the nodes that it has read by then.
        states = (mapping(raw.get("state")).get("lastNodeId") for raw in self._raw.values())
        inner = (node.get("id") for raw in self._raw.values() for node in objects(raw.get("nodes")))
        read = (number_of(key) or 0 for key in before)
        last = max(0, self._last_id, *map(_number, states), *map(_number, inner), *read)
        self._last_id = last + 1
        return str(self._last_id)

    def _node(self, raw: Any, place: str, renamed: Mapping[str, str]) -> Node:
        if not isinstance(raw, dict):
            raise InvalidRequestError.of_field(place, "must be an object")
        if not isinstance(raw.get("type"), str):
            raise InvalidRequestError.of_field(f"{place}.type", "must be text")
        if _identifier(raw.get("id")) is None:
            raise InvalidRequestError.of_field(f"{place}.id", "must be a number or text")
        node = Node(raw)
        node.id = renamed.get(node.id, node.id)
        inputs = _list_of(raw, "inputs", place)
        outputs = _list_of(raw, "outputs", place)
        if node.type in self._raw:
            self._read_instance(node, inputs)
        elif node.type not in VIRTUAL and (known := self._definitions.get(node.type)) is not None:
            _read_known(node, known, inputs, outputs)
        else:
            self._read_other(node, outputs)
        for number, slot in enumerate(node.inputs):
            slot.number = number
        return node

    def _read_instance(self, node: Node, inputs: list[Any]) -> None:
        definition = self._raw[node.type]
        node.subgraph = node.type
        node.title = node.title or text_of(definition.get("name"))
        links: dict[str, list[LinkKey | None]] = {}
        for raw in objects(inputs):
            links.setdefault(str(raw.get("name")), []).append(_key(raw.get("link")))
        if self._in_1_49:  # several of one name are one
            links = {name: [found[-1]] * len(found) for name, found in links.items()}
        node.inputs = [
            Slot(port.name, port.type, found.pop(0) if (found := links.get(port.name)) else None)
            for port in self._inputs[node.type]
        ]
        node.outputs = [port.type for port in self._outputs[node.type]]
        if renamed := self._renamed.get(node.type):
            node.proxies = {
                place: (renamed.get(owner, owner), name)
                for place, (owner, name) in node.proxies.items()
            }

    def _read_other(self, node: Node, outputs: list[Any]) -> None:
        node.title = node.title or node.type
        node.outputs = [_type(raw.get("type")) for raw in objects(outputs)]
        stored = sequence(node.stored)
        if node.type in VIRTUAL:
            node.values = {"value" if node.type == PRIMITIVE else "text": v for v in stored[:1]}
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


def _read_known(node: Node, known: NodeClass, inputs: list[Any], outputs: list[Any]) -> None:
    """Add the widgets, inputs and outputs of its class to a node, and its saved links."""
    node.known = known
    node.title = node.title or known.title
    node.inputs = []
    by_name = node.stored is None or (known.unknown and node.named)
    laid = known.lay_out(node.named if by_name else node.stored)
    if node.named and not by_name and fits_by_name(laid, lambda: known.lay_out(node.named)):
        node.by_name, laid = True, known.lay_out(node.named)
    for widget, value in laid:
        node.widgets.append(widget)
        node.values.setdefault(widget.name, _widget_value(node, widget, value))
    if node.type == CUSTOM_COMBO and node.values.get(CHOICE, MISSING) is None:
        texts = (each for each in custom_options(node.values) if isinstance(each, str) and each)
        node.values[CHOICE] = next(texts, None)
    saved = {str(raw.get("name")): raw for raw in objects(inputs)}
    for socket in known.inputs_of(laid):
        if socket.grows:
            grown = [name for name in saved if name.startswith(socket.name)]
            node.inputs.extend(_saved_slot(saved.pop(name)) for name in grown)
            continue
        raw = saved.pop(socket.name, None)
        link = None if raw is None else _key(raw.get("link"))
        widget_name = socket.name if socket.has_widget else None
        kind = socket.type if raw is None or not socket.varies else _type(raw.get("type"))
        node.inputs.append(Slot(socket.name, kind, link, widget_name))
    if saved:
        combos = tuple(f"{widget.name}." for widget in node.widgets if widget.branches)
        unknown = tuple(f"{widget.name}." for widget in known.unknown)
        for slot in map(_saved_slot, saved.values()):
            if slot.name.startswith(combos):
                continue
            if slot.widget is None or slot.widget in node.values or slot.name.startswith(unknown):
                node.inputs.append(slot)
    more = objects(outputs)[len(known.outputs) :]
    node.outputs = [*known.outputs, *(_type(raw.get("type")) for raw in more)]


def _widget_value(node: Node, widget: Widget, value: Any) -> Any:
    """Return the value of a widget after the editor has loaded a saved value into it."""
    if widget.type == "LOAD_3D" and widget.name == VIEWPORT:
        return queued_values.viewport(node.properties)
    if widget.type == "PREVIEW_3D":
        return ""
    if widget.name == "model_file" and node.type in ("Preview3D", "Preview3DAnimation"):
        return node.properties.get("Last Time Model File") or value
    if widget.multiline and value is not MISSING:
        return "" if value is None else queued_values.text(value)
    if value is None and widget.choices and not any(widget.options.get(key) for key in UPLOADS):
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
        return json.dumps(queued_values.plain(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidRequestError.of_field(place, "has values nested too deeply") from None


def _saved_slot(raw: Mapping[str, Any]) -> Slot:
    widget, link, label = raw.get("widget"), raw.get("link"), raw.get("label")
    own = mapping(widget).get("name") if widget else None
    return Slot(
        str(raw.get("name") or ""),
        _type(raw.get("type")),
        None if link is None else _key(link),
        own if isinstance(own, str) else None,
        0,
        text_of(label) if label else "",
    )


_LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def _links(rows: Any, renamed: Mapping[str, str]) -> dict[LinkKey, Link]:
    links: dict[LinkKey, Link] = {}
    for row in sequence(rows):
        if isinstance(row, dict):
            row = [row.get(name) for name in _LINK_FIELDS]
        if not isinstance(row, list) or len(row) < 5:
            continue
        key, origin, origin_slot, target, target_slot = row[:5]
        key, origin, target = _key(key), _identifier(origin), _identifier(target)
        if key is None or origin is None or target is None or key in links:
            continue
        if renamed:
            origin, target = renamed.get(origin, origin), renamed.get(target, target)
        kind = text_of(row[5]) if len(row) > 5 else ""
        links[key] = Link(origin, _number(origin_slot), target, _number(target_slot), kind)
    return links


def _connect(graph: Graph) -> None:
    """Connect the inputs as frontend 1.58.1 does where they and the list of links disagree."""
    # A link leads to the node that the list names: there to the input that names the link, else to
    # the input whose number is in the list, if that is free. Of several links that the list gives
    # one input, the first counts that an input names, else the first; its number decides then.
    lost = {  # the links that only inputs name which the nodes do not have any more
        (node.id, lost_key)
        for node in graph.nodes.values()
        for raw in (objects(node.raw.get("inputs")) if node.subgraph is None else ())
        if (lost_key := _key(raw.get("link"))) is not None
        and str(raw.get("name") or "") not in node.numbers
    }
    naming: dict[LinkKey, list[tuple[str, int]]] = {}
    for node in graph.nodes.values():
        for slot in node.inputs:
            if slot.link is not None:
                naming.setdefault(slot.link, []).append((node.id, slot.number))
    named = naming.keys() | {key for _, key in lost}
    chosen: dict[tuple[str, int], LinkKey] = {}
    several: set[tuple[str, int]] = set()
    for key, link in graph.links.items():
        place = link.target, link.target_slot
        if place in chosen:
            several.add(place)
        if place not in chosen or (key in named and chosen[place] not in named):
            chosen[place] = key
    graph.replaced = {
        key: chosen[link.target, link.target_slot]
        for key, link in graph.links.items()
        if link.target == TO_OUTSIDE
    }
    own = {
        place: [number for owner, number in naming.get(key, ()) if owner == place[0]]
        for place, key in chosen.items()
    }
    free = {
        place for place, key in chosen.items() if not own[place] and (place[0], key) not in lost
    }
    taken: dict[tuple[str, int], LinkKey] = {}
    for place, key in chosen.items():
        if not own[place]:
            continue
        inputs, number = graph.nodes[place[0]].inputs, own[place][0]
        listed = graph.nodes[place[0]].saved_number(place[1])
        if listed in own[place] or (listed is not None and place in several):
            number = listed
        elif place[1] in own[place]:
            number = place[1]
        elif 0 <= place[1] < len(inputs) and inputs[place[1]].link is None:
            number = place[1] if (place[0], number) in free else number
        taken.setdefault((place[0], number), key)
    for place in free:
        taken.setdefault(place, chosen[place])
    for node in graph.nodes.values():
        for slot in node.inputs:
            missing = slot.link is not None and slot.link not in graph.links
            slot.link = taken.get((node.id, slot.number), slot.link if missing else None)


def _agrees(graph: Graph) -> bool:
    """Return whether each link is named by one input, the one to which the list gives it."""
    named = 0
    places = set()
    for node in graph.nodes.values():
        for slot in node.inputs:
            if slot.link is not None:
                link = graph.links.get(slot.link)
                if link is None or link.target != node.id:
                    return False
                places.add((node.id, link.target_slot))
                named += 1
    outer = {link.target_slot for link in graph.links.values() if link.target == TO_OUTSIDE}
    return named == len(places) and named + len(outer) == len(graph.links)


def _ports(entries: Any) -> list[Port]:
    return [
        Port(
            str(entry.get("name") or ""),
            _type(entry.get("type")),
            [key for value in sequence(entry.get("linkIds")) if (key := _key(value)) is not None],
            text_of(entry.get("label")),
        )
        for entry in objects(entries)
    ]


def _definitions_by_id(
    workflow: Mapping[str, Any], *, strict: bool = True
) -> dict[str, Mapping[str, Any]]:
    """Return all subgraph definitions, also those inside others; of equal ids the first."""
    found: dict[str, Mapping[str, Any]] = {}
    pending: list[Any] = [workflow]
    while pending:
        listed = mapping(pending.pop().get("definitions")).get("subgraphs")
        for place, raw in enumerate(sequence(listed)):
            key = _identifier(raw.get("id")) if isinstance(raw, dict) else None
            if key is None and isinstance(raw, dict) and not strict:
                key = f"definition {len(found)}"  # that no node uses
            if key is not None:
                found.setdefault(key, raw)
                pending.append(raw)
            elif strict:
                raise InvalidRequestError.of_field(
                    f"definitions.subgraphs[{place}]", "must be an object with an id"
                )
    return found


def _renumbered(
    workflow: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """Return new ids for inner nodes whose ids other graphs of the workflow have, too."""
    # The editor (1.58.1) keeps all nodes of a workflow in one store. When it loads a file, it
    # replaces ids that several subgraph definitions have by the next free numbers.
    taken = {_identifier(raw.get("id")) for raw in objects(workflow.get("nodes"))}
    last = _number(workflow.get("last_node_id"))
    renamed: dict[str, dict[str, str]] = {}
    for key, raw in definitions.items():
        own = dict.fromkeys(_identifier(node.get("id")) for node in objects(raw.get("nodes")))
        for name in own:
            if name is None or name == _NO_ID:
                continue
            if name in taken:
                last += 1
                while str(last) in taken:
                    last += 1
                renamed.setdefault(key, {})[name] = str(last)
                taken.add(str(last))
            else:
                taken.add(name)
                last = max(last, number_of(name) or 0)
    return renamed


def _innermost_first(subgraphs: dict[str, Graph]) -> dict[str, Graph]:
    """Order definitions so that each comes before those that contain it."""
    inside = {
        key: {node.subgraph for node in graph.nodes.values() if node.subgraph is not None}
        for key, graph in subgraphs.items()
    }
    columns, endless = columns_of(inside)
    if endless:
        names = sorted(subgraphs[key].name for key in endless)
        raise InvalidRequestError.of_field("definitions.subgraphs", f"{names[0]} contains itself")
    return {key: subgraphs[key] for key in sorted(subgraphs, key=columns.__getitem__)}


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
        return str(value) if abs(value) < 2**53 else queued_values.text(value)
    if kind is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return queued_values.text(value)


def _key(value: Any) -> LinkKey | None:
    if value is None or isinstance(value, (int, str)):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _number(value: Any) -> int:
    key = _key(value)
    return key if isinstance(key, int) else 0


def _type(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "*" if value in (None, 0) else str(value)


# -- group nodes, which editors had before subgraphs: one node that contains several ------------
#
# A workflow has the definition of each group in ``extra.groupNodes`` and uses it as a node of type
# ``workflow>NAME`` (``workflow/NAME`` in old files). The inputs, outputs and widgets of the group
# node are those of its inner nodes, called parts, in order, without those that are linked to other
# parts. Part 0 of node 17 becomes node ``17:0``, as in ComfyUI's editor up to 1.32.

_PREFIXES = ("workflow>", "workflow/")
_LINK = 100  # characters that are counted for a link
_COMPANIONS = {"INT": 1, "FLOAT": 1, "COMBO": 2}  # widgets beside the value of a primitive node


def expand_groups(
    graph: Mapping[str, Any],
    groups: Mapping[str, Any],
    definitions: NodeDefinitions,
    expansion: Expansion,
) -> Mapping[str, Any]:
    """Return a saved graph in which all group nodes are replaced by their parts."""
    # Muted and bypassed ones stay, since their saved inputs and outputs suffice to skip them.
    used = {
        number: group
        for number, node in enumerate(sequence(graph.get("nodes")))
        if isinstance(node, dict) and (group := _group_of(SavedNode(node), groups))
    }
    if not used:
        return graph
    for group in used.values():
        expansion.add_nodes(len(sequence(group.get("nodes"))))
        expansion.add_size(_LINK * len(sequence(group.get("links"))))
    links = list(sequence(graph.get("links")))
    expanded: list[Any] = []
    outputs: dict[tuple[str, int], tuple[str, int]] = {}
    inputs: dict[LinkKey, tuple[str, int]] = {}
    for number, node in enumerate(graph["nodes"]):
        if number not in used:
            expanded.append(node)
            continue
        made = _GroupNode(SavedNode(node), used[number], definitions)
        expanded.extend(made.parts(links))
        outputs.update(((made.id, slot), source) for slot, source in enumerate(made.outputs()))
        inputs.update(made.fed)
    moved = [_of_parts(row, outputs, inputs) for row in links]
    return {**graph, "nodes": expanded, "links": moved}


def _group_of(node: SavedNode, groups: Mapping[str, Any]) -> Mapping[str, Any]:
    if node.mode in (MUTED, BYPASSED) or not node.type.startswith(_PREFIXES):
        return {}
    return mapping(groups.get(node.type[len(_PREFIXES[0]) :]))


def _of_parts(
    row: Any,
    outputs: Mapping[tuple[str, int], tuple[str, int]],
    inputs: Mapping[LinkKey, tuple[str, int]],
) -> Any:
    """Return a link of a group node as a link of its parts."""
    for key, link in _links([row], {}).items():
        ends = (link.origin, link.origin_slot), (link.target, link.target_slot)
        moved = outputs.get(ends[0], ends[0]), inputs.get(key, ends[1])
        if moved != ends:
            kind = row.get("type") if isinstance(row, dict) else row[5] if len(row) > 5 else "*"
            return [key, *moved[0], *moved[1], kind]
    return row


class _Part(SavedNode):
    """A node inside the group, and the group's links to it and from it."""

    def __init__(self, number: int, raw: Mapping[str, Any], definitions: NodeDefinitions) -> None:
        super().__init__(raw)
        self.number = number
        self.known = definitions.get(self.type)
        self.fed: set[int] = set()  # the numbers of its inputs that other parts feed
        self.feeds: dict[int, list[list[Any]]] = {}  # the links from each of its outputs
        self.shown: set[int] = set()  # its outputs that the group shows although parts read them

    def place_of(self, name: str) -> int | None:
        return next((place for place, slot in enumerate(self.inputs) if slot.name == name), None)

    def is_fed(self, name: str) -> bool:
        return self.place_of(name) in self.fed

    def output_count(self) -> int:
        if self.known is not None:
            return len(self.known.outputs)
        if self.type == REROUTE:
            return 0 if self.fed and self.feeds and 0 not in self.shown else 1
        return 1 if self.type == PRIMITIVE and self.feeds else 0


class _GroupNode:
    """The inputs, outputs and widgets of a group node, which are those of its parts."""

    def __init__(
        self, node: SavedNode, group: Mapping[str, Any], definitions: NodeDefinitions
    ) -> None:
        self.id = node.id
        self._node = node
        self._config = mapping(group.get("config"))
        self._parts = [
            _Part(number, mapping(raw), definitions)
            for number, raw in enumerate(sequence(group.get("nodes")))
        ]
        self._links = [
            row
            for row in _rows(group.get("links"), 4)
            if self._has(row[0]) and self._has(row[2])
            if isinstance(row[1], int) and isinstance(row[3], int)
        ]
        for row in self._links:
            self._parts[row[2]].fed.add(row[3])
            self._parts[row[0]].feeds.setdefault(row[1], []).append(row)
        for row in _rows(group.get("external"), 3):
            if self._has(row[0]) and isinstance(row[1], int):
                self._parts[row[0]].shown.add(row[1])
        self._names: dict[str, int] = {}
        self._widgets: list[tuple[_Part, Widget]] = []
        self._inputs: dict[str, tuple[_Part, str]] = {}
        self.fed: dict[LinkKey, tuple[str, int]] = {}  # part and number of the inputs with links
        self._collect()

    def outputs(self) -> Iterator[tuple[str, int]]:
        """Yield for each output of the group node the id of the part and the output there."""
        for part in self._parts:
            for slot in range(part.output_count()):
                hidden = slot in part.feeds and slot not in part.shown
                if self._custom(part, "output", slot).get("visible", not hidden):
                    yield f"{self.id}:{part.number}", slot

    def parts(self, links: list[Any]) -> Iterator[dict[str, Any]]:
        """Yield the parts as saved nodes; links between them are appended to `links`."""
        slots = self._slots_of(links)
        values = self._values_of()
        for part in self._parts:
            given = slots.get(part.number, {})
            saved = [
                {**raw, "link": given.pop(place, None)}
                for place, raw in enumerate(objects(part.raw.get("inputs")))
            ]
            extra = [
                {"name": name, "link": link, "type": "*"}
                for name, link in given.items()
                if isinstance(name, str)
            ]
            yield {
                **part.raw,
                "id": f"{self.id}:{part.number}",
                "inputs": [*saved, *extra],
                "widgets_values": values.get(part.number, part.stored),
            }

    def _slots_of(self, links: list[Any]) -> dict[int, dict[int | str, Any]]:
        """Return the links of the parts' inputs, by position or, if that is not saved, by name."""
        found: dict[int, dict[int | str, Any]] = {}
        for number, (origin, slot, target, place, *kind) in enumerate(self._links):
            key = f"{self.id}#{number}"
            ends = [f"{self.id}:{origin}", slot, f"{self.id}:{target}", place]
            links.append([key, *ends, *(kind or ["*"])])
            found.setdefault(target, {})[place] = key
        for own in self._node.inputs:
            if own.link is not None and own.name in self._inputs:
                part, name = self._inputs[own.name]
                input_place = part.place_of(name)
                where = name if input_place is None else input_place
                found.setdefault(part.number, {})[where] = own.link
                unsaved = -1 - len(self.fed)  # a number that no other link has
                number = unsaved if input_place is None else input_place
                self.fed[own.link] = f"{self.id}:{part.number}", number
        return found

    def _values_of(self) -> dict[int, Any]:
        """Return the ``widgets_values`` of each part, by name (a primitive's as a list)."""
        values = sequence(self._node.stored)
        found: dict[int, Any] = {
            part.number: {widget.name: value for widget, value in part.known.lay_out(part.stored)}
            for part in self._parts
            if part.known is not None
        }
        for place, (part, widget) in enumerate(self._widgets):
            value = values[place] if place < len(values) else widget.default
            if part.known is not None:
                found[part.number][widget.name] = value
            elif widget.name == "value" and value is not MISSING:
                found[part.number] = [value]
        return found

    def _collect(self) -> None:
        later: list[tuple[_Part, str]] = []
        for part in self._parts:
            if part.type == PRIMITIVE and part.feeds:
                self._add_primitive(part)
            elif part.type == REROUTE and not part.fed:
                kind = self._type_behind(part)
                self._inputs[self._name(part, kind)] = (part, "")
            elif part.known is not None:
                later.extend(self._add_part(part, part.known))
        for part, name in later:
            if not part.is_fed(name):
                self._add_widgets(part, name)
                self._inputs[self._name(part, name)] = (part, name)

    def _add_part(self, part: _Part, known: NodeClass) -> list[tuple[_Part, str]]:
        """Add a part; return its inputs that had been widgets, which follow those of all parts."""
        owning = {widget.owner for widget in known.widgets}
        converted = [slot.name for slot in part.inputs if slot.widget == slot.name in owning]
        for name in known.input_names:
            if name in owning and name not in converted:
                self._add_widgets(part, name)
                self._name(part, name)
        for socket in known.sockets:
            if not socket.has_widget and not part.is_fed(socket.name):
                key = self._name(part, socket.name)
                if self._custom(part, "input", socket.name).get("visible") is not False:
                    self._inputs[key] = (part, socket.name)
        return [(part, name) for name in dict.fromkeys(converted)]

    def _add_widgets(self, part: _Part, owner: str) -> None:
        widgets = part.known.widgets if part.known is not None else ()
        self._widgets.extend(
            (part, widget) for widget in widgets if widget.owner == owner and widget.stored
        )

    def _add_primitive(self, part: _Part) -> None:
        row = next(iter(part.feeds.values()))[0]
        kind = str(row[5]) if len(row) > 5 else "*"
        self._name(part, "value")
        self._widgets.append((part, Widget("value", kind, "value")))
        companion = Widget("control", "COMBO", "value", emitted=False)
        self._widgets.extend([(part, companion)] * _COMPANIONS.get(kind, 0))

    def _type_behind(self, reroute: _Part) -> str:
        kinds = (
            slots[row[3]].type
            for row in reroute.feeds.get(0, [])
            if row[3] < len(slots := self._parts[row[2]].inputs)
        )
        return next((kind for kind in kinds if kind != "*"), "*")

    def _name(self, part: _Part, name: str) -> str:
        """Return the name of an input of a part on the group node."""
        place = part.place_of(name)
        label = "" if place is None else part.inputs[place].label
        key = shown = str(self._custom(part, "input", name).get("name") or label or name)
        if (part.type == PRIMITIVE and part.title) or shown in self._names:
            title = part.title or part.type
            key = shown = f"{title} {name}"
            if shown in self._names:
                shown = f"{title} {self._names[shown]} {name}"
        self._names[key] = self._names.get(key, 1) + 1
        return shown

    def _custom(self, part: _Part, side: str, key: object) -> Mapping[str, Any]:
        section = mapping(mapping(self._config.get(str(part.number))).get(side))
        return mapping(section.get(str(key)))

    def _has(self, number: Any) -> bool:
        return isinstance(number, int) and 0 <= number < len(self._parts)


def _rows(values: Any, length: int) -> list[list[Any]]:
    return [row for row in sequence(values) if isinstance(row, list) and len(row) >= length]


MAX_NODES = 200_000
"""The most nodes that a workflow may have after its subgraphs and group nodes are expanded."""

MAX_SIZE = 64 << 20
"""The most characters that a workflow may have after it is expanded."""

_PER_VALUE = 16
_PER_NODE = 100


class Expansion:
    """Counts the nodes and characters of an expanded workflow; raises above the limits."""

    # A small file may use a subgraph with a long text a thousand times. Nodes and texts are counted
    # before they are created, so that such a file cannot take unlimited time and memory.

    def __init__(self) -> None:
        self._nodes = 0
        self._size = 0

    def add_nodes(self, count: int) -> None:
        self._nodes += count
        if self._nodes > MAX_NODES:
            raise _too_large(f"{MAX_NODES} nodes once its subgraphs")

    def add_size(self, size: int) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            raise _too_large(f"{MAX_SIZE >> 20} million characters once its subgraphs and patterns")

    def add_written(self, key: str, node: Mapping[str, Any]) -> None:
        """Count one node of the prompt: its id, class, title and inputs."""
        size = _PER_NODE + len(key) + len(node["class_type"]) + len(node["_meta"]["title"])
        for name, value in node["inputs"].items():
            if isinstance(value, str):
                size += len(name) + len(value)
            elif is_link(value):
                size += len(name) + len(value[0]) + _PER_VALUE
            elif isinstance(value, (list, dict)):
                size += len(name) + rough_size(value)
            else:
                size += len(name) + _PER_VALUE
        self.add_size(size)


def _too_large(what: str) -> InvalidRequestError:
    return InvalidRequestError.of_field("workflow", f"has more than {what} are expanded")


# -- checks of saved graphs --------------------------------------------------------------------


def check_integrity(graph: Mapping[str, Any], *, field: str) -> None:
    """Raise if two nodes have the same id, or an input is linked to a node that does not exist."""
    if isinstance(graph.get("nodes"), list):
        saved = SavedWorkflow(graph)
        for level in saved.graphs():
            _check_level(saved, level, field)
        return
    for node_id, node in graph.items():
        for name, value in inputs_of(node).items():
            if is_link(value) and value[0] not in graph:
                label = label_of(graph, node_id)
                raise _missing_origin(field, label, name, f"node {value[0]!r}")


def _check_level(saved: SavedWorkflow, level: SavedGraph, field: str) -> None:
    seen: dict[str, SavedNode | None] = {FROM_OUTSIDE: None, TO_OUTSIDE: None}
    for node in (node for node in level.every if "id" in node.raw):
        if node.id in seen:
            twins = [saved.label(each, level) for each in (seen[node.id], node) if each]
            raise InvalidRequestError.of_field(
                field, f"has two nodes with the id {node.id!r}: {' and '.join(twins)}"
            )
        seen[node.id] = node
    if not isinstance(level.raw.get("links"), list):
        return  # the format does not require them
    links = {str(key): link.origin for key, link in level.links.items()}
    for node in level.every:
        for slot in node.inputs:
            origin = links.get(str(slot.link))
            if slot.link is not None and origin not in seen:
                where = f"link {slot.link}" if origin is None else f"node {origin!r}"
                raise _missing_origin(field, saved.label(node, level), slot.name, where)


def _missing_origin(field: str, label: str, name: str, where: str) -> InvalidRequestError:
    return InvalidRequestError.of_field(
        field, f"input {name!r} of node {label} is linked to {where}, which does not exist"
    )


def check_consistency(graph: ApiGraph, ui: dict[str, Any]) -> None:
    """Raise if the UI format is that of another workflow: ComfyUI saves it with the outputs."""
    # Each node of the graph must be in the UI format, with the same class and the same links. Nodes
    # and links that only the editor can resolve are not checked: virtual nodes, reroutes, subgraphs
    # and bypassed nodes.
    root = SavedGraph(ui)
    for node_id, node in graph.items():
        top, _, inner = node_id.partition(":")
        drawn, kind = root.nodes.get(top), node.get("class_type")
        if drawn is None or (not inner and kind not in (None, drawn.type)):
            raise _another(node_id, f"node {label_of(graph, node_id)} is not in workflow")
        for slot in () if inner else drawn.inputs:
            source, value = root.source(slot), inputs_of(node).get(slot.name)
            if source is None or source.origin not in graph or not is_link(value):
                continue
            if tuple(value) != (source.origin, source.origin_slot):
                origin, label = label_of(graph, source.origin), label_of(graph, node_id)
                found = f"input {slot.name!r} of node {label} comes from node {origin}"
                raise _another(node_id, f"{found} in workflow")


def _another(node_id: str, found: str) -> InvalidRequestError:
    text = f"differs from workflow_api: {found}"
    return InvalidRequestError.of_field("workflow", text, node_id=node_id)
