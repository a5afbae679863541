"""UI format → API format: the prompt that ComfyUI's editor queues for a workflow.

The result is that of the editor (frontend 1.32.9 to 1.58.1; where they differ, 1.58.1). There are
six steps, each for the workflow as a whole:

1. `ui_reader.read_workflow`: read nodes, inputs and widgets; replace group nodes by their nodes;
2. `promoted_widgets.promote_widgets`: set the values of widgets on subgraph nodes;
3. `_apply_primitives`: set the widgets that primitive nodes are connected to;
4. `ui_links.expand`: give each use of a subgraph its own instance and execution ids;
5. `ui_links.Links`: follow each input through reroutes, bypassed nodes and subgraphs;
6. `_emit`: write the prompt.

No function recurses along the graph, so graphs may be of any depth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from . import javascript, queued_values
from .custom_combo import CUSTOM_COMBO
from .definitions import MISSING, NodeDefinitions, Widget
from .expansion import Expansion
from .name_patterns import FILE_SAVERS, NamePatterns
from .promoted_widgets import promote_widgets, value_of, widget_of
from .type_mismatches import VALUES_BY_NAME, type_mismatches_of
from .ui_graph import PRIMITIVE, Graph, Node, Workflow
from .ui_links import Instance, Labels, Links, PlacedNode, PromotedValue, expand
from .ui_reader import read_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

_REPLACES = "Run widget replace on values"


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
        A sentence for each thing that ComfyUI will refuse, or that could not be converted.
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
        The JSON that the editor saves, version 0.4 or 1. It is not changed.
    definitions : NodeDefinitions or Mapping
        The node classes, or the JSON of ``object_info``. To convert several workflows, pass the
        same `NodeDefinitions`, which keep the classes that have been read.
    rng : random.Random, optional
        Chooses among the options of dynamic prompts.
    now : datetime, optional
        The time for ``%date:…%`` in file names; by default the local time.

    Returns
    -------
    Converted
        Nodes of unknown classes stay in the graph, with a warning.

    Raises
    ------
    InvalidRequestError
        It is not such a workflow (the message names the place), a subgraph contains itself, links
        form a circle through reroutes or bypassed nodes (the editor refuses these, too), or the
        expanded graph is larger than `expansion` allows.
    """
    known = (
        definitions if isinstance(definitions, NodeDefinitions) else NodeDefinitions(definitions)
    )
    expansion = Expansion()
    flow = read_workflow(workflow, known, expansion)
    promote_widgets(flow)
    names = NamePatterns(flow, now, expansion)
    _apply_primitives(flow, names)
    nodes = list(expand(flow, Instance(flow.root), expansion))
    warnings = _Warnings(flow.warnings, expansion)
    graph = _emit(nodes, warnings, names, rng or random.Random(), expansion)
    return Converted(graph, list(warnings))


class _Warnings(list[str]):
    """Warnings, whose size counts as part of the expanded workflow."""

    def __init__(self, before: list[str], expansion: Expansion) -> None:
        super().__init__(before)
        self._expansion = expansion

    def append(self, warning: str) -> None:
        self._expansion.add_size(len(warning))
        super().append(warning)

    def extend(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self.append(warning)


def _apply_primitives(flow: Workflow, names: NamePatterns) -> None:
    """Set the widgets that primitive nodes are connected to."""
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
    if value is MISSING or node.outputs[:1] != [first.type]:
        value = value_of(*targets[0], first)
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
                f"{graph.name}: node {label(node)} does not set the input {slot.name} of node "
                f"{label(target)}; that value is not changed"
            )


def _own_value(first: Widget, widgets: list[Widget], value: Any) -> Any:
    """Return the value of the widget on the primitive node itself.

    This widget has the options of the first target, limited to the ranges of the other targets of
    the same type.
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
    for instance, node in nodes:
        label = partial(labels.of, instance, node)
        if node.by_name and not node.silent:
            warnings.append(f"node {label()}: {VALUES_BY_NAME}")
        if not node.runs:
            continue
        key = instance.execution_id(node)
        if node.known is None:
            warnings.append(f"node {label()}: this ComfyUI has no such node class; it is kept")
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
            inputs["index"] = _chosen_option(node, inputs.get("choice"))
        if node.known is not None:
            type_mismatches = type_mismatches_of(key, label, node.widgets, inputs)
            warnings.extend(str(mismatch) for mismatch in type_mismatches)
        written = {"class_type": node.type, "inputs": inputs, "_meta": {"title": node.title}}
        expansion.add_written(key, written)
        graph[key] = written
    return _in_order(graph)


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


def _chosen_option(node: Node, choice: Any) -> int:
    """Return the index of the chosen option among those on the node; -1 for none."""
    choice = node.values["choice"] if isinstance(choice, list) else choice
    written = [node.values[widget.name] for widget in node.widgets if widget.stem]
    return written.index(choice) if choice in written else -1


def _in_order(graph: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    numeric = sorted((key for key in graph if key.isdecimal()), key=int)
    return {key: graph[key] for key in [*numeric, *(key for key in graph if not key.isdecimal())]}
