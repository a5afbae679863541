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

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeGuard

from ..errors import InvalidRequestError, printable
from .custom_combo import CHOICE, CUSTOM_COMBO, custom_options

Node: TypeAlias = dict[str, Any]
Graph: TypeAlias = dict[str, Node]
UIGraph: TypeAlias = Mapping[str, Any]
Definitions: TypeAlias = Mapping[str, Any]
"""ComfyUI's ``GET /object_info``: class name -> definition of the node."""


MUTED, BYPASSED = 2, 4
"""The modes in which a node does not run; in all others it runs."""

CONTROLS = frozenset({"fixed", "increment", "increment-wrap", "decrement", "randomize"})
"""How the editor may change a value after it has queued it (*control after generate*)."""


class GraphFormat(str, Enum):
    """The two formats of a workflow."""

    API = "api"
    UI = "ui"


DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
"""The type of a combo whose options have additional inputs, ``"<combo>.<name>"``."""

AUTOGROW = "COMFY_AUTOGROW_V3"
"""The type of a group to which inputs can be added, ``"<group>.<name>"``."""

_DEEPEST = 16
_MAX_GROWN = 100


class InputSpec(NamedTuple):
    """The declaration of one input of a node class."""

    type: str  # ``"INT"``, ``"STRING"``, ``"MODEL"``, …, or ``"COMBO"``
    options: dict[str, Any]  # its options: ``default``, ``min``, ``max``, ``step``, ``tooltip``, …
    choices: list[Any] | None  # the values of a combo


@dataclass(frozen=True)
class UIPlace:
    """A node in a UI workflow and the graph that has it."""

    node: Mapping[str, Any]  # the node as the editor saved it
    # the workflow or the subgraph definition that has it, with its ``links``
    scope: Mapping[str, Any]


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
        if not isinstance(node, Mapping):
            raise InvalidRequestError.of_field(
                field, f"is not a workflow: {key!r} must be a node object, not {_json_type(node)}"
            )
    return GraphFormat.API


def check_api_graph(value: object, *, field: str = "workflow_api") -> Graph:
    """Return a graph in API format; raise if the value is not such a graph.

    Errors for which ComfyUI has messages (no ``class_type``, an unknown class, no or invalid
    ``inputs``) are not raised here, so that users get ComfyUI's messages. Errors to which ComfyUI
    replies 500 without a message are raised: nodes that are not objects, and a ``class_type`` that
    is a list or an object.
    """
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
        if isinstance(node.get("class_type"), (list, Mapping)):
            raise InvalidRequestError.of_field(
                field, f"the class_type of node {node_id!r} must be a string"
            )
        graph[node_id] = dict(node)
    return graph


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys are unique; for ``object_pairs_hook``."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def no_constant(name: str) -> Any:
    """Raise for ``NaN`` and ``Infinity``, which JSON does not have; for ``parse_constant``."""
    raise ValueError(f"{name} is not JSON")


def finite(text: str) -> float:
    """Return a finite number; for ``parse_float``. ``1e999`` would be infinite."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


@cache
def decoder(*, unique: bool = False) -> json.JSONDecoder:
    """Return the decoder for the JSON of requests, which accepts only standard JSON."""
    return json.JSONDecoder(
        parse_constant=no_constant,
        parse_float=finite,
        object_pairs_hook=unique_keys if unique else None,
    )


def copy_graph(graph: Mapping[str, Mapping[str, Any]]) -> Graph:
    """Return a copy whose nodes and ``inputs`` may be changed; the input values are shared."""
    return {
        node_id: {**node, "inputs": dict(inputs)}
        if isinstance(inputs := node.get("inputs"), Mapping)
        else dict(node)
        for node_id, node in graph.items()
    }


def class_of(node: Mapping[str, Any]) -> str:
    """Return the class of a node, or ``""``."""
    name = node.get("class_type")
    return name if isinstance(name, str) else ""


def inputs_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``inputs`` of a node; empty if it has none."""
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def title_of(node: Mapping[str, Any]) -> str:
    """Return the title in the ``_meta`` of a node in API format, or ``""``."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) else ""


_DIRECTIONS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def shown_title(title: str) -> str:
    """Return a title without the characters that change the direction of the text after it."""
    return title.translate(_DIRECTIONS)


def node_label(node_id: str, class_type: str, title: str, *, unique: bool) -> str:
    """Return the name of a node in messages: title and class, and the id if others have them."""
    kind = class_type or "node"
    place = "" if unique else f"id {node_id}"
    if title and title != class_type:
        label = f'"{shown_title(title)}" ({", ".join(filter(None, (kind, place)))})'
    else:
        label = f"{kind} ({place})" if place else kind
    return printable(label)


def is_link(value: object) -> TypeGuard[list[Any]]:
    """Return whether a value is a link: a list of a node id (str) and an output slot (number).

    The rule is that of ComfyUI comfy_execution/graph_utils.py.
    """
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def same_graph(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether two graphs have the same ids, classes and inputs; ``_meta`` is ignored."""

    def content(graph: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
        return {key: (node.get("class_type"), inputs_of(node)) for key, node in graph.items()}

    return content(a) == content(b)


def declared_inputs(
    definitions: Definitions | None,
    class_type: str,
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, InputSpec]:
    """Return the inputs that a node class declares, in the order of its widgets; no hidden ones.

    With the inputs of a node, those of the chosen option of a dynamic combo are included
    (``"<combo>.<name>"``) and all possible ones of an autogrow group (``"<group>.<name>"``). The
    choices of a Custom Combo are those on the node.
    """
    definition = (definitions or {}).get(class_type)
    declared = definition.get("input") if isinstance(definition, Mapping) else None
    found: dict[str, InputSpec] = {}
    _declare(found, declared, "", inputs or {})
    if class_type == CUSTOM_COMBO and CHOICE in found and inputs:
        options = [each for each in custom_options(inputs) if isinstance(each, str) and each]
        found[CHOICE] = InputSpec("COMBO", found[CHOICE].options, options)
    return found


def _declare(
    found: dict[str, InputSpec], declared: Any, prefix: str, inputs: Mapping[str, Any]
) -> None:
    for section in ("required", "optional"):
        entries = declared.get(section) if isinstance(declared, Mapping) else None
        for key, entry in entries.items() if isinstance(entries, Mapping) else ():
            if not isinstance(entry, (list, tuple)) or not entry:
                continue
            name = f"{prefix}{key}"
            options = entry[1] if len(entry) > 1 and isinstance(entry[1], Mapping) else {}
            choices = entry[0] if isinstance(entry[0], list) else options.get("options")
            kind = "COMBO" if isinstance(entry[0], list) else str(entry[0])
            brought = objects(choices) if kind == DYNAMIC_COMBO else []
            combo = choices if kind == "COMBO" and isinstance(choices, list) else None
            if kind == DYNAMIC_COMBO:
                combo = [each["key"] for each in brought if isinstance(each.get("key"), str)]
            found[name] = InputSpec(kind, dict(options), combo)
            if name.count(".") >= _DEEPEST:
                continue
            if name in inputs:
                for option in brought:
                    if option.get("key") == inputs[name]:
                        _declare(found, option.get("inputs"), f"{name}.", inputs)
                        break
            if kind == AUTOGROW and inputs:
                slot = slot_of_group(options)
                names = names_in_group(options) if slot is not None else []
                found.update((f"{name}.{own}", slot) for own in names if slot is not None)


def slot_of_group(options: Mapping[str, Any]) -> InputSpec | None:
    """Return the declaration of the inputs of an autogrow group; None if there are several."""
    template = options.get("template")
    declared: dict[str, InputSpec] = {}
    _declare(declared, template.get("input") if isinstance(template, Mapping) else None, "", {})
    return next(iter(declared.values())) if len(declared) == 1 else None


def names_in_group(options: Mapping[str, Any]) -> list[str]:
    """Return the possible names of the inputs of a group, in order, without the group's name."""
    template = options.get("template")
    if not isinstance(template, Mapping):
        return []
    names = template.get("names")
    if isinstance(names, list) and names:
        return [name for name in names[:_MAX_GROWN] if isinstance(name, str)]
    most, prefix = template.get("max", _MAX_GROWN), template.get("prefix")
    if not isinstance(most, int) or not isinstance(prefix, str):
        return []
    return [f"{prefix}{number}" for number in range(min(most, _MAX_GROWN))]


class UINodes:
    """Finds the nodes and links of a UI workflow, also in its subgraphs."""

    def __init__(self, ui: UIGraph) -> None:
        self._ui = ui
        self._subgraphs = {str(subgraph.get("id")): subgraph for subgraph in subgraphs_of(ui)}
        self._nodes: dict[int, dict[str, Mapping[str, Any]]] = {}
        self._sources: dict[int, dict[Any, tuple[str, int]]] = {}

    def node(self, scope: Mapping[str, Any], node_id: str) -> Mapping[str, Any] | None:
        """Return one node of a graph or subgraph definition."""
        if id(scope) not in self._nodes:
            nodes = objects(scope.get("nodes"))
            self._nodes[id(scope)] = {str(node.get("id")): node for node in nodes}
        return self._nodes[id(scope)].get(node_id)

    def path(self, node_id: str) -> list[UIPlace]:
        """Return the containers of a node of the API graph, and the node; empty if it is not there.

        ``"12:3"`` is node 3 inside the subgraph node 12. The nodes of an old *group node* end at
        the group.
        """
        scope: Mapping[str, Any] = self._ui
        path: list[UIPlace] = []
        for part in node_id.split(":"):
            node = self.node(scope, part)
            if node is None:
                return []
            path.append(UIPlace(node, scope))
            inner = self._subgraphs.get(str(node.get("type")))
            if inner is None:
                break
            scope = inner
        return path

    def link_source(self, scope: Mapping[str, Any], link_id: object) -> tuple[str, int] | None:
        """Return where a link starts: node id and output slot.

        Links are arrays ``[id, from, slot, to, slot, type]`` in version 0.4 and objects in version
        1 and in subgraphs. A link through the wall of a subgraph starts at node ``"-10"``.
        """
        if id(scope) not in self._sources:
            links = scope.get("links")
            self._sources[id(scope)] = dict(
                source
                for link in (links if isinstance(links, list) else ())
                if (source := _source(link)) is not None
            )
        known = isinstance(link_id, (int, str))
        return self._sources[id(scope)].get(link_id) if known else None


def _source(link: object) -> tuple[Any, tuple[str, int]] | None:
    if isinstance(link, Mapping):
        link = [link.get("id"), link.get("origin_id"), link.get("origin_slot")]
    if not isinstance(link, list) or len(link) < 3 or not isinstance(link[2], int):
        return None
    return (link[0], (str(link[1]), link[2])) if isinstance(link[0], (int, str)) else None


def subgraphs_of(ui: UIGraph) -> list[Mapping[str, Any]]:
    """Return the subgraph definitions of a UI workflow, as saved."""
    definitions = ui.get("definitions")
    return objects(definitions.get("subgraphs")) if isinstance(definitions, Mapping) else []


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the JSON objects of a list; none if the value is not a list."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list")
