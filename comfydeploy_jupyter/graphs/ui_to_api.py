"""UI format → API format: the prompt that ComfyUI's editor queues for a workflow.

The result is that of the editor (frontend 1.32.9 to 1.58.1; where they differ, 1.58.1). There are
six steps, each for the workflow as a whole:

1. `ui.Workflow`: read nodes, inputs and widgets; replace group nodes by their nodes;
2. `promote_widgets`: set the values of widgets on subgraph nodes;
3. `_apply_primitives`: set the widgets that primitive nodes are connected to;
4. `expand`: give each use of a subgraph its own instance and execution ids;
5. `Links`: follow each input through reroutes, bypassed nodes and subgraphs;
6. `_emit`: write the prompt.

No function recurses along the graph, so graphs may be of any depth.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from . import queued_values
from .definitions import (
    CHOICE,
    CUSTOM_COMBO,
    INDEX,
    MISSING,
    ROWS,
    VALUES_BY_NAME,
    NodeDefinitions,
    Widget,
    fits_by_name,
    index_of_choice,
    type_mismatches_of,
    unknown_kinds,
)
from .formats import BYPASSED, MUTED, is_link, node_label, number_of, sequence, unwrapped
from .ui import FROM_OUTSIDE, PRIMITIVE, Expansion, FedSlot, Graph, Node, Slot, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NO_CLASS = "this ComfyUI has no such node class; it is kept"  # the end of a warning
_REPLACES = "Run widget replace on values"
_CHANCE = random.Random()  # a new one costs as much as reading a node


@dataclass
class Converted:
    """A workflow in the API format."""

    # by execution id (inside subgraphs ``"12:3"``), numeric ones first, as JavaScript orders them
    graph: dict[str, dict[str, Any]]
    # a sentence for each thing that ComfyUI will refuse, or that could not be converted
    warnings: list[str]
    # a sentence for each kind of input that is not known here
    unknown: list[str]


def ui_to_api(
    workflow: dict[str, Any],
    definitions: NodeDefinitions | Mapping[str, Any],
    *,
    rng: random.Random | None = None,
    now: datetime | None = None,
) -> Converted:
    """Convert a workflow that the editor saved, version 0.4 or 1, to the API format.

    `definitions` may be the JSON of ``object_info``; a `NodeDefinitions` keeps the classes that
    have been read. `rng` chooses among the options of dynamic prompts, and `now` is the time for
    ``%date:…%`` in file names. Nodes of unknown classes stay in the graph, with a warning.

    `InvalidRequestError`: it is not such a workflow (the message names the place), a subgraph
    contains itself, links form a circle through reroutes or bypassed nodes (the editor refuses
    these, too), or the expanded graph is larger than `ui.Expansion` allows.
    """
    known = NodeDefinitions.of(definitions)
    expansion = Expansion()
    flow = Workflow(workflow, known, expansion)
    promote_widgets(flow)
    names = NamePatterns(flow, now, expansion)
    _apply_primitives(flow, names)
    nodes = list(expand(flow, Instance(flow.root), expansion))
    graph = _emit(nodes, flow.warnings, names, rng or _CHANCE, expansion)
    classes = {node.type: node.known for _, node in nodes if node.known is not None}
    return Converted(graph, flow.warnings, unknown_kinds(classes.values()))


def _apply_primitives(flow: Workflow, names: NamePatterns) -> None:
    for graph in flow.graphs():
        place = Instance(graph)
        label = partial(Labels((place, node) for node in graph.nodes.values()).of, place)
        for node in graph.nodes.values():
            if node.type == PRIMITIVE and node.subgraph is None:
                _apply_primitive(node, graph, flow, names, label)


def _apply_primitive(
    node: Node, graph: Graph, flow: Workflow, names: NamePatterns, label: Callable[[Node], str]
) -> None:
    targets = graph.fed_by(node.id, 0)
    widgets = [widget_of(target, slot) for target, slot in targets]
    value = node.values.pop("value", MISSING)
    if not widgets or (first := widgets[0]) is None:
        return
    if value is MISSING and _is_in_row(targets[0][0], first):
        return  # it gets no widget, as the rows are made after it (1.58.1)
    if value is MISSING or node.outputs[:1] != [first.type]:
        value = value_of(*targets[0], first)
    if isinstance(value, str) and value and node.properties.get(_REPLACES):
        value = names.fill(value)
    value = _own_value(first, [widget for widget in widgets if widget is not None], value)
    node.values["value"] = value
    for (target, slot), widget in zip(targets, widgets, strict=True):
        if widget is not None and target.subgraph is None:
            taken = queued_values.snapped(widget.type, widget.options, value)
            target.values[widget.name] = queued_values.text(taken) if widget.multiline else taken
        elif widget is not None:
            flow.warnings.append(
                f"{graph.name}: node {label(node)} does not set the input {slot.name} of node "
                f"{label(target)}; that value is not changed"
            )


def _is_in_row(node: Node, widget: Widget) -> bool:
    groups = (each.branches for each in node.widgets)
    return any(
        group is not None and group.type == ROWS and widget.name.startswith(f"{group.name}.")
        for group in groups
    )


def _own_value(first: Widget, widgets: list[Widget], value: Any) -> Any:
    """Return the value of the widget on the primitive node itself."""
    # This widget has the options of the first target, limited to the ranges of the other targets of
    # the same type.
    if first.type == "COMBO" and value is None and first.choices:
        return first.choices[0]
    if first.type not in ("INT", "FLOAT"):
        return value
    options: Mapping[str, Any] = first.options
    for widget in widgets:
        merged = (
            queued_values.merged(options, widget.options) if widget.type == first.type else None
        )
        if merged is not None:
            options = merged
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                value = min(max(value, options["min"]), options["max"])
            value = queued_values.snapped(first.type, options, value)
    return value


def _emit(
    nodes: list[PlacedNode],
    warnings: list[str],
    names: NamePatterns,
    rng: random.Random,
    expansion: Expansion,
) -> dict[str, dict[str, Any]]:
    labels = Labels(nodes)
    links = Links(warnings, labels)
    graph: dict[str, dict[str, Any]] = {}
    counted = len(warnings)
    for instance, node in nodes:
        expansion.add_size(sum(map(len, warnings[counted:])))
        counted = len(warnings)
        label = partial(labels.of, instance, node)
        if node.by_name and not node.silent:
            warnings.append(f"node {label()}: {VALUES_BY_NAME}")
        if not node.runs:
            continue
        key = instance.execution_id(node)
        if node.known is None:
            warnings.append(f"node {label()}: {NO_CLASS}")
        inputs = _widget_inputs(node, names, rng)
        overridden = instance.host is not None and bool(instance.host.overrides)
        for number, slot in enumerate(node.inputs):
            if slot.link is None and not overridden:
                continue
            found = links.find(instance, node, number)
            if isinstance(found, PromotedValue):
                inputs[slot.name] = queued_values.wrapped(found.value)
            elif found is not None:
                inputs[slot.name] = list(found)
        if node.type == CUSTOM_COMBO and node.known is not None:
            chosen = inputs.get(CHOICE)
            values = node.values if isinstance(chosen, list) else {**node.values, CHOICE: chosen}
            inputs[INDEX] = index_of_choice(values)
        if node.known is not None:
            type_mismatches = type_mismatches_of(key, label, node.widgets, inputs)
            warnings.extend(str(mismatch) for mismatch in type_mismatches)
            if instance.host is not None:
                warnings.extend(f"node {label()}: {why}" for why in _outdated(node, inputs))
        written = {"class_type": node.type, "inputs": inputs, "_meta": {"title": node.title}}
        expansion.add_written(key, written)
        graph[key] = written
    numeric = sorted((key for key in graph if number_of(key) is not None), key=int)
    return {key: graph[key] for key in dict.fromkeys([*numeric, *graph])}


def _outdated(node: Node, inputs: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each promoted choice whose inputs are those of another option."""
    # The editor changes only the value when it is set on the subgraph (1.58.1).
    for widget in node.widgets:
        if widget.branches is None or not widget.emitted:
            continue
        value, own = unwrapped(inputs.get(widget.name)), node.values[widget.name]
        if not is_link(value) and value != own:
            shown = [
                json.dumps(each, ensure_ascii=False, default=str)[:60] for each in (value, own)
            ]
            yield (
                f"its input {widget.name} is {shown[0]}, but the inputs that belong to it are those"
                f" of {shown[1]}: the subgraph sets only the value"
            )


def _widget_inputs(node: Node, names: NamePatterns, rng: random.Random) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for widget in node.widgets:
        if not widget.emitted:
            continue
        value = node.values[widget.name]
        if value is MISSING:
            continue
        if isinstance(value, str):
            if widget.dynamic_prompts:
                value = queued_values.dynamic_prompt(value, rng)
            elif widget.name == "filename_prefix" and node.type in FILE_SAVERS:
                value = names.fill(value)
        elif widget.type == "CURVE":
            value = queued_values.curve(value)
        else:
            value = queued_values.wrapped(value)
        inputs[widget.name] = value
    return inputs


_MAX_PREFIXES = 100
_OUTER_PREFIX = re.compile(r"\s*(\d+)\s*:\s*(.+)", re.DOTALL)


def promote_widgets(flow: Workflow) -> None:
    """Set the values of the promoted widgets of all subgraph nodes, innermost graphs first."""
    for graph in flow.graphs():
        for node in graph.nodes.values():
            if node.subgraph is not None:
                _promote_inputs(node, flow.subgraphs[node.subgraph], flow)


def _promote_inputs(host: Node, inner: Graph, flow: Workflow) -> None:
    sources: dict[tuple[str, str], int] = {}
    for number, port in enumerate(inner.inputs):
        links = port.links and inner.links_by_origin.get((FROM_OUTSIDE, number), {})
        if links and not links.keys().isdisjoint(port.links):
            _promote_first(host, number, inner.fed_by(FROM_OUTSIDE, number, port.links), sources)
    unresolved = _unresolved(host)
    _share(host)
    for number, value in _stored(host).items():
        host.promote(number, _loaded(host.promoted_from[number], value))
    _apply_proxies(host, inner, sources, flow)
    for number in host.promoted:
        host.promoted[number] = unresolved.get(host.inputs[number].name, host.promoted[number])


def _promote_first(
    host: Node, number: int, targets: Iterable[FedSlot], sources: dict[tuple[str, str], int]
) -> None:
    """Promote the first widget of those that an input of a subgraph is linked to."""
    for node, slot in targets:
        widget = widget_of(node, slot)
        if widget is not None:
            host.promoted_from[number] = widget
            host.promoted[number] = value_of(node, slot, widget)
            sources[node.id, slot.name] = number
            return


def _share(host: Node) -> None:
    """Give promoted widgets of one name one value, as the editor does."""
    # It is that of the first of them, or of a later one of another type; once a value is set, it is
    # that. Editors that save the values of all of them by name (``name#1``) keep them apart.
    alike: dict[str, list[int]] = {}
    for number in host.promoted:
        alike.setdefault(host.inputs[number].name, []).append(number)
    for name, numbers in alike.items():
        if len(numbers) == 1 or f"{name}#1" in host.named:
            continue
        first = numbers[0]
        for number in numbers[1:]:
            if _state(host.promoted_from[number]) != _state(host.promoted_from[first]):
                first = number
        host.twins.update(dict.fromkeys(numbers, numbers))
        host.promote(first, host.promoted[first])


def _state(widget: Widget) -> str:
    """Return what kind of value the editor keeps for a widget."""
    return "number" if widget.type in ("INT", "FLOAT") else f"{widget.type} {widget.multiline}"


def _stored(host: Node) -> dict[int, Any]:
    """Return the saved values of the promoted widgets, by input number."""
    names: dict[int, str] = {}
    counted: Counter[str] = Counter()
    for number in host.promoted:
        name = host.inputs[number].name
        names[number] = f"{name}#{counted[name]}" if counted[name] and not host.twins else name
        counted[name] += 1
    if isinstance(host.stored, dict):
        saved = host.stored
        return {number: saved[name] for number, name in names.items() if name in saved}
    stored = dict(zip(host.promoted, sequence(host.stored), strict=False))
    named = {number: host.named[name] for number, name in names.items() if name in host.named}
    if host.stored is None and not {*names.values()} <= {host.inputs[n].name for n in names}:
        return named  # of an editor that keeps equal names apart, and so reads them
    by_position, by_name = (
        [(host.promoted_from[number], value) for number, value in values.items()]
        for values in (stored, named)
    )
    host.by_name = bool(named) and fits_by_name(by_position, lambda: by_name)
    return named if host.by_name else stored


def _loaded(widget: Widget | None, value: Any) -> Any:
    """Return the value of a promoted widget for a stored one: null is a combo's first choice."""
    # So does frontend 1.58.1; 1.32.9 queues null, which ComfyUI refuses.
    return widget.choices[0] if value is None and widget and widget.choices else value


def _unresolved(host: Node) -> dict[str, Any]:
    """Return the values that the editor keeps for promoted inputs, by name."""
    # When the editor migrates ``proxyWidgets``, it saves entries that it could not resolve as
    # ``proxyWidgetErrorQuarantine``. Frontends 1.49.6 and 1.58.1 queue their values instead of
    # those in ``widgets_values``; of several entries with one name the first.
    found: dict[str, Any] = {}
    for entry in sequence(host.properties.get("proxyWidgetErrorQuarantine")):
        match entry:
            case {"hostValue": value, "originalEntry": ["-1", str(name), *_]}:
                found.setdefault(name, value)
    return found


def widget_of(node: Node, slot: Slot) -> Widget | None:
    """Return the widget of an input; for a subgraph node, the inner widget that is promoted."""
    if node.subgraph is not None:
        return node.promoted_from.get(slot.number)
    if node.known is None or slot.widget is None:
        return None
    return next((widget for widget in node.widgets if widget.name == slot.widget), None)


def value_of(node: Node, slot: Slot, widget: Widget) -> Any:
    if node.subgraph is not None:
        return node.promoted[slot.number]
    return node.values[widget.name]


def _apply_proxies(
    host: Node, inner: Graph, sources: Mapping[tuple[str, str], int], flow: Workflow
) -> None:
    """Read ``properties.proxyWidgets``, which names an inner widget for each stored value."""
    # Null is the first choice of a combo. For other widgets it is null (frontends 1.49.6, 1.58.1);
    # but for those that are no input of the subgraph it keeps the inner value, as in 1.49.6. There
    # 1.58.1 queues null, which ComfyUI refuses.
    values = sequence(host.stored)
    for place, (owner, name) in host.proxies.items():
        node = inner.nodes.get(owner)
        value = values[place] if place < len(values) else _behind_primitive(node, inner)
        if value is None and place >= len(values):
            continue
        number = sources.get((owner, name))
        if owner == "-1" and host.numbers.get(name) in host.promoted:
            number = host.numbers[name]
        if number is not None:
            host.promote(number, _loaded(host.promoted_from[number], value))
            continue
        for target in _proxied(node, name, inner, flow) if node is not None else ():
            number = sources.get(target)
            loaded = _loaded(_widget_at(inner, *target), value)
            if loaded is not None and number is not None:
                host.promote(number, loaded)
            elif loaded is not None:
                host.overrides[target] = loaded


def _widget_at(inner: Graph, key: str, name: str) -> Widget | None:
    node = inner.nodes[key]
    return widget_of(node, node.inputs[node.numbers[name]]) if name in node.numbers else None


def _behind_primitive(node: Node | None, inner: Graph) -> Any:
    """Return the value of a promoted primitive node that has no stored value."""
    # It is the value of the widget of its first target (frontend 1.58.1); None without a widget.
    if node is None or node.type != PRIMITIVE:
        return None
    for target, slot in inner.fed_by(node.id, 0)[:1]:
        widget = widget_of(target, slot)
        return None if widget is None else value_of(target, slot, widget)
    return None


def _proxied(node: Node, name: str, inner: Graph, flow: Workflow) -> list[tuple[str, str]]:
    """Return node id and name of the inner inputs for an entry of ``proxyWidgets``."""
    if node.type == PRIMITIVE:
        return [(target.id, slot.name) for target, slot in inner.fed_by(node.id, 0)]
    targets = _targets_on(node, flow)
    for _ in range(_MAX_PREFIXES):
        prefixed = _OUTER_PREFIX.fullmatch(name)
        if name in targets:
            return [(node.id, targets[name])]
        if prefixed is None:
            break
        name = prefixed[2]
    return []


def _targets_on(node: Node, flow: Workflow) -> Mapping[str, str]:
    """Return the names of the inputs of a node, by the names of their widgets."""
    if node.targets is None:
        node.targets = {}
        for slot in node.inputs:
            if node.subgraph is None and slot.widget is not None:
                node.targets.setdefault(slot.widget, slot.name)
            elif slot.number in node.promoted and node.subgraph is not None:
                behind = flow.subgraphs[node.subgraph].fed_by(FROM_OUTSIDE, slot.number)
                for name in (slot.name, *(inner.name for _, inner in behind)):
                    node.targets.setdefault(name, slot.name)
    return node.targets


@dataclass(eq=False)
class Instance:
    """One use of a graph: the workflow itself, or the inner graph of one subgraph node."""

    graph: Graph
    prefix: str = ""
    parent: Instance | None = None
    host: Node | None = None
    children: dict[str, Instance] = field(default_factory=dict)

    def execution_id(self, node: Node) -> str:
        return f"{self.prefix}{node.id}"


PlacedNode = tuple[Instance, Node]


def expand(flow: Workflow, root: Instance, expansion: Expansion) -> Iterator[PlacedNode]:
    """Yield all nodes with the use of their graph, except those in silent subgraph nodes."""
    # A subgraph node comes before its inner nodes.
    # A subgraph node is silent if it is muted or bypassed. If it is itself inside a subgraph, the
    # editor queues its inner nodes all the same, without links from outside (1.49.6, 1.58.1).
    pending: list[tuple[Instance, Iterator[Node]]] = [(root, iter(root.graph.nodes.values()))]
    while pending:
        instance, nodes = pending[-1]
        node = next(nodes, None)
        if node is None:
            pending.pop()
            continue
        expansion.add_nodes(1)
        yield instance, node
        if node.subgraph is not None and (instance.host is not None or not node.silent):
            child = Instance(
                flow.subgraphs[node.subgraph], f"{instance.prefix}{node.id}:", instance, node
            )
            expansion.add_size(len(child.prefix))
            instance.children[node.id] = child
            pending.append((child, iter(child.graph.nodes.values())))


class Labels:
    """The names of nodes in messages: `node_label`."""

    # The id is left out if no other node has the title. Nodes that run and all others are compared
    # separately, so that a node has the same name as in the prompt.

    def __init__(self, nodes: Iterable[PlacedNode]) -> None:
        self._alike = Counter((node.title or node.type, node.runs) for _, node in nodes)

    def of(self, instance: Instance, node: Node) -> str:
        kind = node.type if node.subgraph is None else "subgraph"
        unique = self._alike[node.title or node.type, node.runs] == 1
        return node_label(instance.execution_id(node), kind, node.title, unique=unique)


@dataclass(frozen=True)
class PromotedValue:
    """The value of an input that a promoted widget of a subgraph node sets."""

    value: Any


_Found = list[Any] | PromotedValue | None
_Output = tuple[Instance, Node, int, str]


class Links:
    """Finds for each input the output that it is linked to, or a promoted value."""

    def __init__(self, warnings: list[str], labels: Labels) -> None:
        self._warnings = warnings
        self._labels = labels
        self._known: dict[_Output, _Found] = {}

    def find(self, instance: Instance, node: Node, number: int) -> _Found:
        """Return the link or the promoted value of an input; None if it has neither."""
        seen: dict[_Output, None] = {}
        step: tuple[Instance, Node, int, str | None] | _Found = (instance, node, number, None)
        while isinstance(step, tuple):
            output = self._source(*step)
            if not isinstance(output, tuple):
                step = output
            elif output in self._known:
                step = self._known[output]
            elif output in seen:
                place, stuck = output[:2]
                problem = "is part of a cycle of reroutes or bypassed nodes"
                raise InvalidRequestError(
                    f"node {self._labels.of(place, stuck)} {problem}",
                    details={"field": f"node {place.execution_id(stuck)}", "problem": problem},
                )
            else:
                seen[output] = None
                step = self._through(*output)
        for output in seen:
            self._known[output] = step
        return step

    def _source(
        self, instance: Instance, node: Node, number: int, wanted: str | None
    ) -> _Output | _Found:
        """Return the output that an input is linked to, which may be in an outer graph."""
        while True:
            slot = node.inputs[number]
            host = instance.host
            if host is not None and host.overrides:
                value = host.overrides.get((node.id, slot.name), MISSING)
                if value is not MISSING:
                    return PromotedValue(value)
            if slot.link is None:
                value = node.promoted.get(number, MISSING)
                return None if value is MISSING else PromotedValue(value)
            link = instance.graph.links.get(slot.link)
            if link is None:
                self._warn_of(instance, node, slot)
                return None
            if link.origin != FROM_OUTSIDE or host is None or instance.parent is None:
                origin = instance.graph.nodes.get(link.origin)
                if origin is None:
                    self._warn_of(instance, node, slot)
                    return None
                return instance, origin, link.origin_slot, wanted or slot.type
            if not 0 <= link.origin_slot < len(host.inputs):
                self._warn_of(instance, node, slot)
                return None
            instance, node, number, wanted = instance.parent, host, link.origin_slot, None

    def _through(
        self, instance: Instance, node: Node, number: int, wanted: str
    ) -> tuple[Instance, Node, int, str | None] | _Found:
        """Return the link to an output; or the input that replaces it if its node does not run."""
        while True:
            if node.mode == MUTED:
                return None
            if node.mode == BYPASSED:
                passed = passed_on(node, number, wanted)
                if passed is None or node.inputs[passed].link is None:
                    return None
                return instance, node, passed, None
            if node.subgraph is None:
                break
            child = instance.children[node.id]
            link = child.graph.sources.get(number)
            if link is None:
                return None
            if link.origin == FROM_OUTSIDE:  # its output is linked to its input
                within = 0 <= link.origin_slot < len(node.inputs)
                return (instance, node, link.origin_slot, wanted) if within else None
            inner = child.graph.nodes.get(link.origin)
            if inner is None:
                return None
            instance, node, number = child, inner, link.origin_slot
        if not node.virtual:
            return [instance.execution_id(node), number]
        if 0 <= number < len(node.inputs) and node.inputs[number].link is not None:
            return instance, node, number, wanted
        return None

    def _warn_of(self, instance: Instance, node: Node, slot: Slot) -> None:
        self._warnings.append(
            f"node {self._labels.of(instance, node)}: its input {slot.name} is linked to something"
            " that does not exist; the link is omitted"
        )


def passed_on(node: Node, number: int, wanted: str) -> int | None:
    """Return the input of a bypassed node that replaces an output, for a link of a type."""
    inputs = node.inputs
    if wanted in ("*", ""):
        return (number if 0 <= number < len(inputs) else 0) if inputs else None
    own = node.outputs[number] if 0 <= number < len(node.outputs) else "*"
    if 0 <= number < len(inputs) and _fits(inputs[number].type, own, wanted):
        return number
    same = [place for place, slot in enumerate(inputs) if slot.type == wanted]
    similar = (place for place, slot in enumerate(inputs) if _fits(slot.type, own, wanted))
    return same[0] if same else next(similar, None)


def _fits(kind: str, own: str, wanted: str) -> bool:
    return _compatible(kind, own) and _compatible(kind, wanted)


def _compatible(one: str, other: str) -> bool:
    """Return whether a link may connect two types: equal, any (``*``), or several (``"A,B"``)."""
    if one == other or one in ("*", "") or other in ("*", ""):
        return True
    left, right = one.lower().split(","), other.lower().split(",")
    both = {*left} & {*right}
    return bool(both) or not {"*", ""}.isdisjoint((*left, *right))


FILE_SAVERS = frozenset(
    [
        *("CLIPSave", "LoraSave", "ModelSave", "Save3DAdvanced", "SaveAnimatedPNG"),
        *("SaveAnimatedWEBP", "SaveAudio", "SaveAudioAdvanced", "SaveAudioMP3", "SaveAudioOpus"),
        *("SaveGLB", "SaveGaussianSplat", "SaveImage", "SaveImageAdvanced", "SaveLatent"),
        *("SavePointCloud", "SaveSVGNode", "SaveVideo", "SaveWEBM", "VAESave"),
    ]
)
"""The classes whose ``filename_prefix`` has patterns."""

_NODE_NAME = "Node name for S&R"


class NamePatterns:
    """Replaces patterns such as ``%KSampler.seed%`` and ``%date:yyyy-MM-dd%`` in texts."""

    def __init__(self, flow: Workflow, now: datetime | None, expansion: Expansion) -> None:
        self._flow = flow
        self._now = now
        self._expansion = expansion
        self._nodes: dict[str, Node] | None = None

    def fill(self, text: str) -> str:
        if "%" not in text:
            return text
        return queued_values.file_name(text, self._text, self._now or datetime.now().astimezone())

    def _text(self, name: str, widget: str) -> str | None:
        found = self._find(name, widget)
        self._expansion.add_size(len(found or ""))
        return found

    def _find(self, name: str, widget: str) -> str | None:
        if self._nodes is None:
            self._nodes = self._by_name()
        node = self._nodes.get(name)
        if node is None:
            return None
        values: Mapping[Any, Any] = node.values if node.subgraph is None else node.promoted
        key = widget if node.subgraph is None else node.numbers.get(widget)
        if key not in values:
            return None
        value = values[key]
        return "" if value is None or value is MISSING else queued_values.text(value)

    def _by_name(self) -> dict[str, Node]:
        nodes = list(self._every_node())
        names: dict[str, Node] = {}
        for node in nodes:
            default = node.type if node.known and node.type not in FILE_SAVERS else None
            name = node.properties.get(_NODE_NAME, default)
            if isinstance(name, str):
                names.setdefault(name, node)
        for node in nodes:
            names.setdefault(node.title, node)
        return names

    def _every_node(self) -> Iterator[Node]:
        """Yield all nodes in the editor's order: those inside a subgraph before its node."""
        entered: set[str] = set()
        pending: list[Iterator[Node]] = [iter(self._flow.root.nodes.values())]
        hosts: list[Node] = []
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
                if hosts:
                    yield hosts.pop()
            elif node.subgraph is not None and node.subgraph not in entered:
                entered.add(node.subgraph)
                hosts.append(node)
                pending.append(iter(self._flow.subgraphs[node.subgraph].nodes.values()))
            else:
                yield node
