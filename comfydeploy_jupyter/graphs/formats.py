"""The two formats of a workflow, and functions that read them.

Two formats describe the same workflow. The *API format* is what ComfyUI runs::

    {"3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["4", 0]},
           "_meta": {"title": "Sampler"}}}

An input is a literal or a link ``[node id, output slot]``. The *UI format* is what the editor
saves: a list of ``nodes`` with positions, ``links`` and positional ``widgets_values``.

The functions of this package never change their arguments. A returned graph may share values with
the graph that was given, so graphs must be treated as read-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias, TypeGuard

from ..errors import InvalidRequestError, printable

Node: TypeAlias = dict[str, Any]
Graph: TypeAlias = dict[str, Node]
AnyGraph: TypeAlias = Mapping[str, Mapping[str, Any]]
"""A graph in API format that is only read."""
UIGraph: TypeAlias = Mapping[str, Any]

MUTED, BYPASSED = 2, 4
MODES = {MUTED: "muted", BYPASSED: "bypassed"}
"""The modes in which a node does not run; in all others it runs."""

CONTROLS = frozenset({"fixed", "increment", "increment-wrap", "decrement", "randomize"})
"""How the editor may change a value after it has queued it (*control after generate*)."""


START, END = "StartLoop", "EndLoop"  # the classes of the nodes around a loop
_ADDED = frozenset({"is_changed", "_loop_body", "_loop_end"})


class GraphFormat(str, Enum):
    API = "api"
    UI = "ui"


def detect_format(value: object, *, field: str = "workflow_api") -> GraphFormat:
    """Return whether a JSON value is a workflow in API or in UI format."""
    if not isinstance(value, Mapping):
        raise InvalidRequestError.of_field(
            field, f"must be a workflow, a JSON object, not {_json_type(value)}"
        )
    if isinstance(value.get("nodes"), list):
        return GraphFormat.UI
    if not value:
        raise InvalidRequestError.of_field(field, "is an empty object, not a workflow")
    for key, node in value.items():
        if not isinstance(node, (dict, Mapping)):
            raise InvalidRequestError.of_field(
                field, f"is not a workflow: {key!r} must be a node object, not {_json_type(node)}"
            )
    return GraphFormat.API


def check_api_graph(value: object, *, field: str = "workflow_api") -> Graph:
    """Return a graph in API format; raise if the value is not such a graph."""
    # Errors for which ComfyUI has messages (no ``class_type``, an unknown class, no or invalid
    # ``inputs``) are not raised here, so that users get ComfyUI's messages. Errors to which ComfyUI
    # replies 500 without a message are raised: nodes that are not objects, and a ``class_type``
    # that is a list or an object.
    if detect_format(value, field=field) is GraphFormat.UI:
        raise InvalidRequestError.of_field(
            field, "is in the editor's format; send it as workflow, or export it in API format"
        )
    assert isinstance(value, Mapping)
    graph: Graph = {}
    for key, node in value.items():
        node_id = str(key)
        if node_id in graph:
            raise InvalidRequestError.of_field(field, f"has two nodes with the id {node_id!r}")
        if isinstance(node.get("class_type"), (list, dict, Mapping)):
            raise InvalidRequestError.of_field(
                field, f"the class_type of node {node_id!r} must be a string"
            )
        graph[node_id] = without_added(node)
    return graph


def without_added(node: Mapping[str, Any]) -> Node:
    """Return a copy of a node without what ComfyUI adds to the nodes that it executes."""
    if _ADDED.isdisjoint(node):
        return dict(node)
    return {key: part for key, part in node.items() if key not in _ADDED}


def copy_graph(graph: AnyGraph) -> Graph:
    """Return a copy whose nodes and ``inputs`` may be changed; the input values are shared."""
    return {
        node_id: {**node, "inputs": dict(inputs)}
        if isinstance(inputs := node.get("inputs"), (dict, Mapping))
        else dict(node)
        for node_id, node in graph.items()
    }


def class_of(node: Mapping[str, Any]) -> str:
    """Return the class of a node, or ``""``."""
    kind = node.get("class_type")
    return kind if isinstance(kind, str) else ""


def inputs_of(node: Mapping[str, Any]) -> dict[str, Any]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def texts_in(graph: AnyGraph) -> Iterator[str]:
    """Yield the texts among the inputs of a graph."""
    for node in graph.values():
        yield from (value for value in inputs_of(node).values() if isinstance(value, str))


def title_of(node: Mapping[str, Any]) -> str:
    """Return the title in the ``_meta`` of a node in API format, or ``""``."""
    meta = node.get("_meta")
    return text_of(meta.get("title")) if isinstance(meta, dict) else ""


_DIRECTIONS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def shown_title(title: str) -> str:
    """Return a title without the characters that change the direction of the text after it."""
    return title if title.isascii() else title.translate(_DIRECTIONS)


def node_label(node_id: str, class_type: str, title: str, *, unique: bool) -> str:
    """Return the name of a node in messages: title and class, and the id if others have them."""
    kind = class_type or "node"
    place = "" if unique else f"id {node_id}"
    if title and title != class_type:
        label = f'"{shown_title(title)}" ({", ".join(filter(None, (kind, place)))})'
    else:
        label = f"{kind} ({place})" if place else kind
    return printable(label)


def label_of(graph: AnyGraph, node_id: str) -> str:
    """Return the `node_label` of a node of a graph in API format."""
    kind, title = class_of(graph[node_id]), title_of(graph[node_id])
    shown = [title_of(node) or class_of(node) for node in graph.values()]
    return node_label(node_id, kind, title, unique=shown.count(title or kind) == 1)


def number_of(node_id: str) -> int | None:
    """Return the number that the editor writes for a node id, or None: it takes up to 2**53."""
    if not (node_id.isascii() and node_id.isdecimal()) or len(node_id) > len(str(_MAX_ID)):
        return None
    number = int(node_id)
    return number if number <= _MAX_ID and str(number) == node_id else None


_MAX_ID = 2**53


def is_link(value: object) -> TypeGuard[list[Any]]:
    """Return whether a value is a link: a list of a node id (str) and an output slot (number)."""
    # The rule is that of ComfyUI comfy_execution/graph_utils.py.
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def unwrapped(value: Any) -> Any:
    """Return a value without the object in which the editor wraps lists."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def same_graph(a: AnyGraph, b: AnyGraph) -> bool:
    """Return whether two graphs have the same ids, classes and inputs; ``_meta`` is ignored."""

    def content(graph: AnyGraph) -> dict[str, tuple[Any, Any]]:
        return {key: (node.get("class_type"), inputs_of(node)) for key, node in graph.items()}

    return content(a) == content(b)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, and an empty one for any other value."""
    return value if value and isinstance(value, (dict, Mapping)) else {}


def sequence(value: object) -> Sequence[Any]:
    """Return a list, and an empty one for any other value."""
    return value if isinstance(value, (list, tuple)) else ()


def text_of(value: object) -> str:
    """Return a text, and ``""`` for any other value."""
    return value if isinstance(value, str) else ""


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the JSON objects of a list; none if the value is not a list."""
    return [v for v in sequence(value) if isinstance(v, (dict, Mapping))]


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list")
