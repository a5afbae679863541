"""Promoted widgets: inner widgets of a subgraph that its node shows, and their values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .type_mismatches import misfits
from .ui_graph import FROM_OUTSIDE, PRIMITIVE, Graph, Node, Slot, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .definitions import Widget

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
        for node, slot in inner.fed_by(FROM_OUTSIDE, number, port.links):
            widget = widget_of(node, slot)
            if widget is not None:
                host.promoted_from[number] = widget
                host.promoted[number] = value_of(node, slot, widget)
                sources[node.id, slot.name] = number
                break
    unresolved = _unresolved(host)
    proxied = "proxyWidgets" in host.properties
    for number, value in _stored(host).items():
        if value is not None or not proxied:
            host.promoted[number] = _loaded(host.promoted_from[number], value)
    _apply_proxies(host, inner, sources, flow)
    for number in host.promoted:
        host.promoted[number] = unresolved.get(host.inputs[number].name, host.promoted[number])


def _stored(host: Node) -> dict[int, Any]:
    """Return the saved values of the promoted widgets, by input number.

    They are saved by position. If these do not fit, because an inner class has other widgets now,
    those that are saved by name are taken.
    """
    names = {number: host.inputs[number].name for number in host.promoted}
    if isinstance(host.stored, dict):
        saved = host.stored
        return {number: saved[name] for number, name in names.items() if name in saved}
    if not isinstance(host.stored, list):
        return {}
    stored = dict(zip(host.promoted, host.stored, strict=False))
    named = {number: host.named[name] for number, name in names.items() if name in host.named}
    wrong = [
        misfits((host.promoted_from[number], value) for number, value in values.items())
        for values in (stored, named)
    ]
    if not named or wrong[1] >= wrong[0]:
        return stored
    host.by_name = True
    return named


def _loaded(widget: Widget | None, value: Any) -> Any:
    """Return the value of a promoted widget for a stored one: null is the first choice of a combo.

    So does frontend 1.58.1; 1.32.9 queues null, which ComfyUI refuses.
    """
    return widget.choices[0] if value is None and widget and widget.choices else value


def _unresolved(host: Node) -> dict[str, Any]:
    """Return the values that the editor keeps for promoted inputs, by name.

    When the editor migrates ``proxyWidgets``, it saves entries that it could not resolve as
    ``proxyWidgetErrorQuarantine``. Frontends 1.49.6 and 1.58.1 queue their values instead of those
    in ``widgets_values``; of several entries with one name the first.
    """
    entries = host.properties.get("proxyWidgetErrorQuarantine")
    found: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and "hostValue" in entry:
            match entry.get("originalEntry"):
                case ["-1", str(name), *_]:
                    found.setdefault(name, entry["hostValue"])
    return found


def widget_of(node: Node, slot: Slot) -> Widget | None:
    """Return the widget of an input; for a subgraph node, the inner widget that is promoted."""
    if node.subgraph is not None:
        return node.promoted_from.get(slot.number)
    if node.known is None or slot.widget is None:
        return None
    return next((widget for widget in node.widgets if widget.name == slot.widget), None)


def value_of(node: Node, slot: Slot, widget: Widget) -> Any:
    """Return the value of the widget of an input."""
    if node.subgraph is not None:
        return node.promoted[slot.number]
    return node.values[widget.name]


def _apply_proxies(
    host: Node, inner: Graph, sources: Mapping[tuple[str, str], int], flow: Workflow
) -> None:
    """Read ``properties.proxyWidgets``, which names an inner widget for each stored value.

    Null is the first choice of a combo (frontend 1.58.1). For other widgets it keeps the inner
    value, as in frontend 1.32.9; 1.58.1 queues null, which ComfyUI refuses.
    """
    entries = host.properties.get("proxyWidgets")
    values = host.stored if isinstance(host.stored, list) else []
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, list) or len(entry) < 2:
            continue
        owner, name = str(entry[0]), str(entry[1])
        node = inner.nodes.get(owner)
        value = values[place] if place < len(values) else _behind_primitive(node, inner)
        if value is None and place >= len(values):
            continue
        number = _promoted_input(host, owner, name, sources)
        if number is not None:
            loaded = _loaded(host.promoted_from[number], value)
            host.promoted[number] = host.promoted[number] if loaded is None else loaded
            continue
        for target in _proxied(node, name, inner, flow) if node is not None else ():
            number = sources.get(target)
            loaded = _loaded(_widget_at(inner, *target), value)
            if loaded is not None and number is not None:
                host.promoted[number] = loaded
            elif loaded is not None:
                host.overrides[target] = loaded


def _widget_at(inner: Graph, key: str, name: str) -> Widget | None:
    node = inner.nodes[key]
    number = node.number_of(name)
    return None if number is None else widget_of(node, node.inputs[number])


def _behind_primitive(node: Node | None, inner: Graph) -> Any:
    """Return the value of a promoted primitive node that has no stored value.

    It is the value of the widget of its first target (frontend 1.58.1); None without a widget.
    """
    if node is None or node.type != PRIMITIVE:
        return None
    for target, slot in inner.fed_by(node.id, 0)[:1]:
        widget = widget_of(target, slot)
        return None if widget is None else value_of(target, slot, widget)
    return None


def _promoted_input(
    host: Node, owner: str, name: str, sources: Mapping[tuple[str, str], int]
) -> int | None:
    if owner != "-1":
        return sources.get((owner, name))
    number = host.number_of(name)
    return number if number in host.promoted else None


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
