"""UI format → API format: what ComfyUI's editor sends when it queues the workflow.

The editor (frontend 1.32.9 to 1.58.1) is the measure; where the two differ, 1.58.1. The way
there has named steps, each a function on the whole workflow:

1. `read_workflow`: nodes with their inputs and widgets, group nodes replaced by their parts;
2. `_promote_widgets`: what the widgets on subgraph instances hold;
3. `_apply_primitives`: primitive nodes write into the widgets that they are connected to;
4. `_expand`: every use of a subgraph becomes an instance with its own execution ids;
5. `_Links`: each input is followed through reroutes, bypassed nodes and subgraph borders;
6. `_emit`: the prompt.

Nothing recurses along the user's graph, so its depth does not matter.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from . import javascript, queued_values
from .definitions import CUSTOM_COMBO, MISSING, NodeDefinitions, Widget
from .expansion import Expansion
from .formats import BYPASSED, MUTED
from .misfits import misfits_of
from .ui_graph import (
    FROM_OUTSIDE,
    PRIMITIVE,
    Graph,
    Link,
    Node,
    Slot,
    Workflow,
    read_workflow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NAMES_FILES = frozenset(
    {
        "CLIPSave",
        "LoraSave",
        "ModelSave",
        "Save3DAdvanced",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveAudio",
        "SaveAudioAdvanced",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveGLB",
        "SaveGaussianSplat",
        "SaveImage",
        "SaveImageAdvanced",
        "SaveLatent",
        "SavePointCloud",
        "SaveSVGNode",
        "SaveVideo",
        "SaveWEBM",
        "VAESave",
    }
)
_NODE_NAME = "Node name for S&R"
_REPLACES = "Run widget replace on values"
_MOST_PREFIXES = 100
_OUTER_PREFIX = re.compile(r"\s*(\d+)\s*:\s*(.+)", re.DOTALL)


@dataclass
class Converted:
    """A workflow in the API format.

    Attributes
    ----------
    graph : dict of str to dict
        By execution id (``"3"``, inside subgraphs ``"12:3"``): ``class_type``, ``inputs`` and
        ``_meta`` with the ``title``. Numeric ids come first, in ascending order, as JavaScript
        orders them.
    warnings : list of str
        One sentence for each thing that ComfyUI will not take, or that did not come along.
    """

    graph: dict[str, dict[str, Any]]
    warnings: list[str]


def ui_to_api(
    workflow: dict[str, Any],
    definitions: NodeDefinitions | Mapping[str, Any],
    *,
    rng: random.Random | None = None,
    now: datetime | None = None,
) -> Converted:
    """Convert a workflow from the UI format to the API format.

    Parameters
    ----------
    workflow : dict
        What the editor saves, version 0.4 or 1. It is not changed.
    definitions : NodeDefinitions or Mapping
        The node classes, or the JSON of ``object_info``. Give `NodeDefinitions` where you
        convert more than once: it remembers what it has read.
    rng : random.Random, optional
        Chooses among the options of dynamic prompts.
    now : datetime, optional
        The time for ``%date:…%`` in file names; the local time if not given.

    Returns
    -------
    Converted
        A class that the definitions do not have stays in the graph, with a warning.

    Raises
    ------
    InvalidRequestError
        It is not such a workflow (the place is named), a subgraph contains itself, links form a
        circle through reroutes or bypassed nodes (the editor refuses these, too), or the
        expanded graph is larger than `expansion` allows.
    """
    known = (
        definitions if isinstance(definitions, NodeDefinitions) else NodeDefinitions(definitions)
    )
    expansion = Expansion()
    flow = read_workflow(workflow, known, expansion)
    _promote_widgets(flow)
    names = _Names(flow, now, expansion)
    _apply_primitives(flow, names)
    nodes = list(_expand(flow, _Instance(flow.root), expansion))
    warnings = _Warnings(flow.warnings, expansion)
    graph = _emit(nodes, warnings, names, rng or random.Random(), expansion)
    return Converted(graph, list(warnings))


class _Warnings(list[str]):
    """Warnings, which count as part of what the workflow becomes."""

    def __init__(self, before: list[str], expansion: Expansion) -> None:
        super().__init__(before)
        self._expansion = expansion

    def append(self, warning: str) -> None:
        self._expansion.add_size(len(warning))
        super().append(warning)

    def extend(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self.append(warning)


@dataclass(eq=False)
class _Instance:
    """One use of a graph: the workflow itself, or one subgraph node and what is inside it."""

    graph: Graph
    prefix: str = ""
    parent: _Instance | None = None
    host: Node | None = None
    children: dict[str, _Instance] = field(default_factory=dict)

    def execution_id(self, node: Node) -> str:
        return f"{self.prefix}{node.id}"


_Placed = tuple[_Instance, Node]


# --- promoted widgets


def _promote_widgets(flow: Workflow) -> None:
    """Find what the widgets on subgraph instances hold, innermost graphs first."""
    for graph in flow.graphs():
        for node in graph.nodes.values():
            if node.subgraph is not None:
                _promote(node, flow.subgraphs[node.subgraph], flow)


def _promote(host: Node, inner: Graph, flow: Workflow) -> None:
    sources: dict[tuple[str, str], int] = {}
    for number, port in enumerate(inner.inputs):
        for node, slot in inner.fed_by(FROM_OUTSIDE, number, port.links):
            widget = _widget_of(node, slot)
            if widget is not None:
                host.promoted_from[number] = widget
                host.promoted[number] = _value_of(node, slot, widget)
                sources[node.id, slot.name] = number
                break
    if isinstance(host.stored, list):
        proxied = "proxyWidgets" in host.properties
        for number, value in zip(host.promoted, host.stored, strict=False):
            if value is not None or not proxied:
                host.promoted[number] = value
    elif isinstance(host.stored, dict):
        for number in host.promoted:
            name = host.inputs[number].name
            host.promoted[number] = host.stored.get(name, host.promoted[number])
    _apply_proxies(host, inner, sources, flow)


def _widget_of(node: Node, slot: Slot) -> Widget | None:
    """Return the widget beside an input, on a subgraph instance the inner one behind it."""
    if node.subgraph is not None:
        return node.promoted_from.get(slot.number)
    if node.known is None or slot.widget is None:
        return None
    return next((widget for widget in node.widgets if widget.name == slot.widget), None)


def _value_of(node: Node, slot: Slot, widget: Widget) -> Any:
    if node.subgraph is not None:
        return node.promoted[slot.number]
    return node.values[widget.name]


def _apply_proxies(
    host: Node, inner: Graph, sources: Mapping[tuple[str, str], int], flow: Workflow
) -> None:
    """Read ``properties.proxyWidgets``, which names a widget for each of the stored values.

    Null leaves the inner value: 1.32.9 does so; 1.58.1 queues null, which the server refuses.
    """
    entries = host.properties.get("proxyWidgets")
    values = host.stored if isinstance(host.stored, list) else []
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, list) or len(entry) < 2:
            continue
        owner, name = str(entry[0]), str(entry[1])
        node = inner.nodes.get(owner)
        value = values[place] if place < len(values) else _behind_primitive(node, inner)
        if value is None:
            continue
        number = _promoted_input(host, owner, name, sources)
        if number is not None:
            host.promoted[number] = value
            continue
        for target in _proxied(node, name, inner, flow) if node is not None else ():
            if target in sources:
                host.promoted[sources[target]] = value
            else:
                host.overrides[target] = value


def _behind_primitive(node: Node | None, inner: Graph) -> Any:
    """Return what a promoted primitive node stands for where no value is stored.

    That is what the widget of its first target holds (1.58.1); None where there is no widget.
    """
    if node is None or node.type != PRIMITIVE:
        return None
    for target, slot in inner.fed_by(node.id, 0)[:1]:
        widget = _widget_of(target, slot)
        return None if widget is None else _value_of(target, slot, widget)
    return None


def _promoted_input(
    host: Node, owner: str, name: str, sources: Mapping[tuple[str, str], int]
) -> int | None:
    if owner != "-1":
        return sources.get((owner, name))
    number = host.number_of(name)
    return number if number in host.promoted else None


def _proxied(node: Node, name: str, inner: Graph, flow: Workflow) -> list[tuple[str, str]]:
    """Return the inner inputs, by node and name, that one entry of ``proxyWidgets`` means."""
    if node.type == PRIMITIVE:
        return [(target.id, slot.name) for target, slot in inner.fed_by(node.id, 0)]
    targets = _targets_on(node, flow)
    for _ in range(_MOST_PREFIXES):
        prefixed = _OUTER_PREFIX.fullmatch(name)
        if name in targets:
            return [(node.id, targets[name])]
        if prefixed is None:
            break
        name = prefixed[2]
    return []


def _targets_on(node: Node, flow: Workflow) -> Mapping[str, str]:
    """Return the inputs of a node by the widget names that may stand for them."""
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


# --- primitive nodes


def _apply_primitives(flow: Workflow, names: _Names) -> None:
    """Let each primitive node write its value into the widgets that it is connected to."""
    for graph in flow.graphs():
        for node in graph.nodes.values():
            if node.type == PRIMITIVE and node.subgraph is None:
                _apply_primitive(node, graph, flow, names)


def _apply_primitive(node: Node, graph: Graph, flow: Workflow, names: _Names) -> None:
    targets = graph.fed_by(node.id, 0)
    widgets = [_widget_of(target, slot) for target, slot in targets]
    value = node.values.pop("value", MISSING)
    if not widgets or (first := widgets[0]) is None:
        return
    if value is MISSING or node.outputs[:1] != [first.type]:
        value = _value_of(*targets[0], first)
    if isinstance(value, str) and value and node.properties.get(_REPLACES):
        value = names.fill(value)
    value = _own_value(first, [widget for widget in widgets if widget is not None], value)
    node.values["value"] = value
    for (target, slot), widget in zip(targets, widgets, strict=True):
        if widget is not None and target.subgraph is None:
            taken = queued_values.snapped(widget.type, widget.options, value)
            target.values[widget.name] = javascript.text(taken) if widget.multiline else taken
        elif widget is not None:
            flow.warnings.append(
                f"{graph.name}: the primitive node {node.id} does not reach into the subgraph node "
                f"{target.id} ({slot.name}); the value inside stays"
            )


def _own_value(first: Widget, widgets: list[Widget], value: Any) -> Any:
    """Return what the widget on the primitive node itself holds.

    It is like the widget of its first target, narrowed by every other target that fits.
    """
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
            value = queued_values.snapped(first.type, options, _within(options, value))
    return value


def _within(options: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return min(max(value, options["min"]), options["max"])


# --- names in patterns


class _Names:
    """Finds widgets by the name of their node, for patterns such as ``%KSampler.seed%``."""

    def __init__(self, flow: Workflow, now: datetime | None, expansion: Expansion) -> None:
        self._flow = flow
        self._now = now
        self._expansion = expansion
        self._nodes: dict[str, Node] | None = None

    def fill(self, text: str) -> str:
        """Fill the patterns of a text."""
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
        if node.subgraph is not None:
            number = node.number_of(widget)
            if number is None or number not in node.promoted:
                return None
            value = node.promoted[number]
            return "" if value is None else javascript.text(value)
        if widget not in node.values:
            return None
        value = node.values[widget]
        return "" if value is None or value is MISSING else javascript.text(value)

    def _by_name(self) -> dict[str, Node]:
        nodes = list(self._every_node())
        names: dict[str, Node] = {}
        for node in nodes:
            default = node.type if node.known and node.type not in _NAMES_FILES else None
            name = node.properties.get(_NODE_NAME, default)
            if isinstance(name, str):
                names.setdefault(name, node)
        for node in nodes:
            names.setdefault(node.title, node)
        return names

    def _every_node(self) -> Iterator[Node]:
        """Yield the nodes in the editor's order: those inside a subgraph before its node."""
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


# --- subgraphs


def _expand(flow: Workflow, root: _Instance, expansion: Expansion) -> Iterator[_Placed]:
    """Yield every node that is not inside a muted or bypassed subgraph, in order.

    That goes for subgraphs in the workflow itself: of those inside others, the editor queues
    the nodes all the same, only no link goes through (1.49.6, 1.58.1).
    """
    pending: list[tuple[_Instance, Iterator[Node]]] = [(root, iter(root.graph.nodes.values()))]
    while pending:
        instance, nodes = pending[-1]
        node = next(nodes, None)
        if node is None:
            pending.pop()
            continue
        expansion.add_nodes(1)
        if node.subgraph is None:
            yield instance, node
        elif instance.host is not None or not node.silent:
            child = _Instance(
                flow.subgraphs[node.subgraph], f"{instance.prefix}{node.id}:", instance, node
            )
            expansion.add_size(len(child.prefix))
            instance.children[node.id] = child
            pending.append((child, iter(child.graph.nodes.values())))


# --- links


@dataclass(frozen=True)
class _Value:
    """An input that a widget of an enclosing subgraph node feeds."""

    value: Any


_Found = list[Any] | _Value | None
_Output = tuple[_Instance, Node, int, str]


class _Links:
    """Follows inputs to the node that feeds them, or to a promoted value."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings
        self._known: dict[_Output, _Found] = {}

    def find(self, instance: _Instance, node: Node, number: int) -> _Found:
        """Return the link or the promoted value of an input; None where nothing feeds it."""
        seen: dict[_Output, None] = {}
        step: tuple[_Instance, Node, int, str | None] | _Found = (instance, node, number, None)
        while isinstance(step, tuple):
            output = self._source(*step)
            if not isinstance(output, tuple):
                step = output
            elif output in self._known:
                step = self._known[output]
            elif output in seen:
                stuck = output[1]
                raise InvalidRequestError.of_field(
                    f"node {output[0].execution_id(stuck)}",
                    f"({stuck.title}) is part of a circle of reroutes or bypassed nodes",
                )
            else:
                seen[output] = None
                step = self._through(*output)
        for output in seen:
            self._known[output] = step
        return step

    def _source(
        self, instance: _Instance, node: Node, number: int, wanted: str | None
    ) -> _Output | _Found:
        """Go from an input to the output that it is linked to, out of subgraphs if need be."""
        while True:
            slot = node.inputs[number]
            host = instance.host
            if host is not None and host.overrides:
                value = host.overrides.get((node.id, slot.name), MISSING)
                if value is not MISSING:
                    return _Value(value)
            if slot.link is None:
                value = node.promoted.get(number, MISSING)
                return None if value is MISSING else _Value(value)
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
        self, instance: _Instance, node: Node, number: int, wanted: str
    ) -> tuple[_Instance, Node, int, str | None] | _Found:
        """Go from an output to what it stands for: itself, or an input of the same node."""
        while True:
            if node.mode == MUTED:
                return None
            if node.mode == BYPASSED:
                passed = _passed_on(node, number, wanted)
                return None if passed is None else (instance, node, passed, None)
            if node.subgraph is None:
                break
            child = instance.children[node.id]
            link = child.graph.sources.get(number)
            if link is None:
                return None
            if link.origin == FROM_OUTSIDE:
                return _own_input(instance, node, link, wanted)
            inner = child.graph.nodes.get(link.origin)
            if inner is None:
                return None
            instance, node, number = child, inner, link.origin_slot
        if not node.virtual:
            return [instance.execution_id(node), number]
        if 0 <= number < len(node.inputs) and node.inputs[number].link is not None:
            return instance, node, number, wanted
        return None

    def _warn_of(self, instance: _Instance, node: Node, slot: Slot) -> None:
        self._warnings.append(
            f"node {instance.execution_id(node)} ({node.title}): what its input {slot.name} is "
            "linked to does not exist; left out"
        )


def _own_input(
    instance: _Instance, node: Node, link: Link, wanted: str
) -> tuple[_Instance, Node, int, str | None] | None:
    """Follow a link that goes straight through a subgraph, from its input to its output."""
    if 0 <= link.origin_slot < len(node.inputs):
        return instance, node, link.origin_slot, wanted
    return None


def _passed_on(node: Node, number: int, wanted: str) -> int | None:
    """Return the input that a bypassed node passes on at an output, for a link of a type."""
    inputs = node.inputs
    if wanted in ("*", ""):
        return (number if number < len(inputs) else 0) if inputs else None
    own = node.outputs[number] if 0 <= number < len(node.outputs) else "*"
    if number < len(inputs) and _fits(inputs[number].type, own, wanted):
        return number
    for place, slot in enumerate(inputs):
        if slot.type == wanted:
            return place
    for place, slot in enumerate(inputs):
        if _fits(slot.type, own, wanted):
            return place
    return None


def _fits(kind: str, own: str, wanted: str) -> bool:
    return _compatible(kind, own) and _compatible(kind, wanted)


def _compatible(one: str, other: str) -> bool:
    """Whether a link may join two types: the same, any, or one of several (``"A,B"``)."""
    if one == other or one in ("*", "") or other in ("*", ""):
        return True
    left, right = one.lower().split(","), other.lower().split(",")
    both = {*left} & {*right}
    return bool(both) or not {"*", ""}.isdisjoint((*left, *right))


# --- the prompt


def _emit(
    nodes: list[_Placed],
    warnings: list[str],
    names: _Names,
    rng: random.Random,
    expansion: Expansion,
) -> dict[str, dict[str, Any]]:
    links = _Links(warnings)
    graph: dict[str, dict[str, Any]] = {}
    for instance, node in nodes:
        if node.virtual or node.silent:
            continue
        key = instance.execution_id(node)
        if node.known is None:
            warnings.append(
                f"node {key} ({node.type}): this ComfyUI has no such node class; it is kept"
            )
        inputs = _widget_inputs(node, names, rng)
        overridden = instance.host is not None and bool(instance.host.overrides)
        for number, slot in enumerate(node.inputs):
            if slot.link is None and not overridden:
                continue
            found = links.find(instance, node, number)
            if isinstance(found, _Value):
                inputs[slot.name] = queued_values.wrapped(found.value)
            elif found is not None:
                inputs[slot.name] = list(found)
        if node.type == CUSTOM_COMBO and node.known is not None:
            inputs["index"] = _chosen_option(node, inputs.get("choice"))
        if node.known is not None:
            misfits = misfits_of(key, node.title, node.widgets, inputs)
            warnings.extend(str(misfit) for misfit in misfits)
        written = {"class_type": node.type, "inputs": inputs, "_meta": {"title": node.title}}
        expansion.add_written(key, written)
        graph[key] = written
    return _in_order(graph)


def _widget_inputs(node: Node, names: _Names, rng: random.Random) -> dict[str, Any]:
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
            elif widget.name == "filename_prefix" and node.type in _NAMES_FILES:
                value = names.fill(value)
        elif widget.type == "CURVE":
            value = queued_values.curve(value)
        else:
            value = queued_values.wrapped(value)
        inputs[widget.name] = value
    return inputs


def _chosen_option(node: Node, choice: Any) -> int:
    """Return the place of the chosen option among those written on the node; -1 for none."""
    choice = node.values["choice"] if isinstance(choice, list) else choice
    written = [node.values[widget.name] for widget in node.widgets if widget.stem]
    return written.index(choice) if choice in written else -1


def _in_order(graph: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    numeric = sorted((key for key in graph if key.isdecimal()), key=int)
    return {key: graph[key] for key in [*numeric, *(key for key in graph if not key.isdecimal())]}
