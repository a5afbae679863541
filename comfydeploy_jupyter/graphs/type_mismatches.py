"""Values whose type cannot be that of their input.

A saved workflow has the values of a node by position. If the node has more or fewer inputs in
another version, all following values are in wrong inputs: a sampler named 5, a checkpoint named
4096. ComfyUI may even run that, so there are warnings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .definitions import MISSING, NodeDefinitions, Widget
from .formats import class_of, inputs_of, is_link, node_label, title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VALUES_BY_NAME = (
    "its saved values do not fit its inputs by position, so they are taken by name; the workflow "
    "may be for another version of this node"
)
"""A warning about the values of a node, after its name."""

_SHOWN = 60
_EXPECTED = {
    "INT": "an integer",
    "FLOAT": "a number",
    "BOOLEAN": "true or false",
    "STRING": "text",
    "COLOR": "text",
    "COMBO": "one of its options",
}
_FITTING = {
    ("INT", int),
    ("FLOAT", int),
    ("FLOAT", float),
    ("BOOLEAN", bool),
    ("STRING", str),
    ("COLOR", str),
}


@dataclass(frozen=True)
class TypeMismatch:
    """A value whose type cannot be that of its input."""

    node: str
    label: str
    input: str  # the name of the input
    value: Any  # its value
    expected: str  # A description of valid values, such as ``"an integer"``

    def __str__(self) -> str:
        shown = json.dumps(self.value, ensure_ascii=False, default=str)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return (
            f"node {self.label}: the value of its input {self.input} must be {self.expected}, but "
            f"is {shown}; the workflow may be for another version of this node"
        )


def type_mismatches(
    graph: Mapping[str, Any], definitions: NodeDefinitions | Mapping[str, Any]
) -> list[TypeMismatch]:
    """Return the values of a graph whose type cannot be that of their input.

    The text of a number is valid for a number, as in ComfyUI. Any text is valid for a combo, whose
    options may be files that are missing. Invalid nodes are ignored.
    """
    known = (
        definitions if isinstance(definitions, NodeDefinitions) else NodeDefinitions(definitions)
    )
    found: list[TypeMismatch] = []
    nodes = [node for node in graph.values() if isinstance(node, Mapping)]
    alike = Counter(title_of(node) or class_of(node) for node in nodes)
    for key, node in graph.items():
        node_class = known.get(class_of(node)) if isinstance(node, Mapping) else None
        if node_class is None:
            continue
        inputs = inputs_of(node)
        named = {name: unwrapped(value) for name, value in inputs.items() if not is_link(value)}
        widgets = [widget for widget, _ in node_class.lay_out(named)]
        kind, title = class_of(node), title_of(node)
        label = partial(node_label, key, kind, title, unique=alike[title or kind] == 1)
        found.extend(type_mismatches_of(key, label, widgets, inputs))
    return found


def type_mismatches_of(
    key: str, label: Callable[[], str], widgets: Iterable[Widget], inputs: Mapping[str, Any]
) -> Iterator[TypeMismatch]:
    """Yield the mismatches of one node with these widgets."""
    for widget in widgets:
        value = inputs.get(widget.name, MISSING)
        if not _can_be(widget, value):
            yield TypeMismatch(key, label(), widget.name, unwrapped(value), _EXPECTED[widget.type])


def misfits(laid: Iterable[tuple[Widget, Any]]) -> int:
    """Return how many saved values cannot be those of their widgets; null says nothing."""
    return sum(value is not None and not _can_be(widget, value) for widget, value in laid)


def _can_be(widget: Widget, value: Any) -> bool:
    if (widget.type, type(value)) in _FITTING or value is MISSING or not widget.emitted:
        return True
    return widget.type not in _EXPECTED or is_link(value) or _fits(widget, unwrapped(value))


def unwrapped(value: Any) -> Any:
    """Return a value without the object in which the editor wraps lists."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _fits(widget: Widget, value: Any) -> bool:
    if widget.type == "COMBO":
        return _fits_combo(widget, value)
    if widget.type == "BOOLEAN":
        return isinstance(value, (bool, int)) and value in (0, 1)
    if widget.type not in ("INT", "FLOAT"):
        return isinstance(value, str)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return widget.type == "FLOAT" or isinstance(value, int) or value.is_integer()


def _fits_combo(widget: Widget, value: Any) -> bool:
    if widget.branches:
        return value in widget.choices
    if isinstance(value, list):
        multiple = widget.options.get("multiselect") or widget.options.get("multi_select")
        return bool(multiple) or isinstance(widget.default, list)
    first = widget.choices[0] if widget.choices else ""
    return isinstance(value, (str, type(first))) and (
        isinstance(first, str) or value in widget.choices
    )
