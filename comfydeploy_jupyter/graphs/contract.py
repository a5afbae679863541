"""The contract of a workflow: its inputs and outputs as JSON Schema, and the check of given values.

The inputs are those of the form (`form.input_form`), so that forms, clients and agents show the
same names, ranges and choices. Annotations that JSON Schema does not have begin with ``x-``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import InvalidInputError
from .external import EXTERNAL_PREFIX, KINDS
from .form import workflow_form
from .form_fields import MEDIA_KINDS, FormField, display_name, external_fields, field_of
from .formats import class_of, inputs_of, is_link, title_of
from .inputs import InputNames
from .issues import not_offered, value_text
from .partial import is_output, nodes_that_need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .formats import Definitions, Graph, UIGraph
    from .inputs import AppliedInputs
    from .node_rules import NodeRules

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COLOR_MAX = 0xFFFFFF
_TYPES = {
    "int": "integer",
    "seed": "integer",
    "color": "integer",
    "float": "number",
    "bool": "boolean",
}
# Types of inputs of an output node, and what files it makes of them.
_MEDIA = {
    "IMAGE": "image",
    "VIDEO": "video",
    "AUDIO": "audio",
    "LATENT": "latent",
    "MESH": "3d",
    "STRING": "text",
    "*": "text",
}
_FILE = {
    "type": "object",
    "required": ["filename"],
    "properties": {
        "filename": {"type": "string"},
        "subfolder": {"type": "string"},
        "type": {"enum": ["output", "temp", "input"]},
    },
}


class Contract(TypedDict):
    """The contract of a workflow."""

    # the JSON Schema of ``inputs`` of a run: names, types, ranges, choices, and as defaults the
    # values that the workflow has
    inputs: dict[str, Any]
    # the JSON Schema of ``outputs`` of its result: one property for each output node
    outputs: dict[str, Any]
    # A sentence for each input that the author chose and the workflow does not have
    warnings: list[str]


def contract_of(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> Contract:
    """Return the contract of a workflow; parameters are those of `form.input_form`."""
    form = workflow_form(graph, definitions, ui)
    ends = [node_id for node_id, node in graph.items() if is_output(node, definitions)]
    inputs = {
        "$schema": DIALECT,
        "type": "object",
        "properties": {field.key: property_of(field) for field in form.fields},
        "required": [field.key for field in form.fields if field.required],
        # Inputs can also be set by other names, such as "<node title>.<input>".
        "additionalProperties": True,
    }
    shown = {node_id for node_id in ends if _is_shown(node_id, form.outputs)}
    outputs = {
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            node_id: _output_of(graph[node_id], definitions, shown=node_id in shown)
            for node_id in ends
        },
        "additionalProperties": True,
    }
    return {"inputs": inputs, "outputs": outputs, "warnings": form.warnings}


def property_of(field: FormField) -> dict[str, Any]:
    """Return the JSON Schema of one input."""
    found: dict[str, Any] = {"title": field.label}
    if field.tooltip:
        found["description"] = field.tooltip
    kind = _TYPES.get(field.kind)
    if field.kind == "combo":
        # A node class may declare choices of any type, and no choice may be known at all.
        if field.options is not None:
            found["enum"] = list(field.options)
        else:
            found["type"] = "string"
    else:
        found["type"] = kind or "string"
    if field.kind == "color":
        found["minimum"], found["maximum"] = 0, COLOR_MAX
    if kind in ("integer", "number"):
        limits = (("minimum", field.min), ("maximum", field.max))
        found.update({name: limit for name, limit in limits if limit is not None})
        if field.step is not None:
            found["x-step"] = field.step
    if field.kind in MEDIA_KINDS and field.options is not None:
        found["examples"] = list(field.options)  # further files can be uploaded
    if field.value is not None and not field.required:
        found["default"] = field.value
    found["x-kind"] = field.kind
    found["x-advanced"] = field.advanced
    return found


def check_inputs(
    graph: Mapping[str, Mapping[str, Any]],
    applied: AppliedInputs,
    definitions: Definitions | None,
    rules: NodeRules | None = None,
) -> None:
    """Raise if a value that a user has given breaks the contract of its input.

    The check is never stricter than ComfyUI: a text with a number counts as a number, ranges and
    choices of inputs that the code of a node class may check itself are left to ComfyUI, and so is
    a graph of which some outputs do not need the wrong values, because ComfyUI executes those. The
    values of external-input nodes are checked here only. ``details["invalid"]`` of the error maps
    each such key to a sentence.
    """
    invalid: dict[str, str] = {}
    wrong: set[str] = set()
    for field, key in _given_fields(graph, applied, definitions):
        if key in invalid:
            continue
        node = applied.graph[field.node_id]
        value = inputs_of(node).get(field.input_name)
        own = _checks_itself(rules, node, field.input_name)
        choices = None if own or field.kind != "combo" else field.options
        if choices is None or value in choices:
            problem = _problem_of(value, property_of(field), bounded=not own)
        else:
            problem = not_offered(value, choices, class_of(node), field.input_name)
        if problem is not None:
            invalid[key] = problem
            wrong.add(field.node_id)
    external = any(
        class_of(applied.graph[node_id]).startswith(EXTERNAL_PREFIX) for node_id in wrong
    )
    if invalid and (external or not _has_output_without(wrong, applied.graph, definitions)):
        names = InputNames(applied.graph, definitions)
        raise InvalidInputError(
            "; ".join(f"inputs.{names.spoken(key)}: {text}" for key, text in invalid.items()),
            details={"field": f"inputs.{next(iter(invalid))}", "invalid": invalid},
        )


def _has_output_without(wrong: set[str], graph: Graph, definitions: Definitions | None) -> bool:
    """Return whether an output node needs none of these nodes."""
    affected = nodes_that_need(graph, wrong)
    return any(
        node_id not in affected and is_output(node, definitions) for node_id, node in graph.items()
    )


def _given_fields(
    graph: Mapping[str, Mapping[str, Any]], applied: AppliedInputs, definitions: Definitions | None
) -> Iterator[tuple[FormField, str]]:
    """Yield the field of each literal that a user has given, with the key that set it."""
    external: dict[tuple[str, str], FormField] | None = None
    for (node_id, name), key in applied.given.items():
        node = applied.graph[node_id]
        value = inputs_of(node).get(name)
        if is_link(value) or isinstance(value, dict):
            continue
        if class_of(node).startswith(EXTERNAL_PREFIX):
            if external is None:
                fields = external_fields(graph, definitions)
                external = {(field.node_id, field.input_name): field for field in fields}
            field = external.get((node_id, name))
        else:
            field = field_of(node_id, node, name, definitions)
        if field is not None and field.kind not in MEDIA_KINDS and name in inputs_of(node):
            yield field, key


def _problem_of(value: Any, wanted: dict[str, Any], *, bounded: bool) -> str | None:
    """Return what is wrong with a value, or None."""
    kind = wanted.get("type")
    if kind in ("integer", "number"):
        try:
            value = int(value) if kind == "integer" else float(value)
        except (TypeError, ValueError, OverflowError):
            article = "an integer" if kind == "integer" else "a number"
            return f"must be {article}, not {value_text(value)}"
        if not bounded:
            return None
        low, high = wanted.get("minimum"), wanted.get("maximum")
        if low is not None and value < low:
            return f"must be at least {low}, not {value}"
        if high is not None and value > high:
            return f"must be at most {high}, not {value}"
        return None
    return None


def _checks_itself(rules: NodeRules | None, node: Mapping[str, Any], name: str) -> bool:
    """Return whether the code of a node class may accept what its declaration does not."""
    if class_of(node) in KINDS:
        return False
    rule = None if rules is None else rules.get(class_of(node))
    if rule is None or rule.foreign:
        return True
    if rule.own is not None and rule.own.takes(name):
        return True
    found = next((one for one in rule.declared(inputs_of(node), [])[0] if one.name == name), None)
    return found is None or not found.checked or found.several


def _is_shown(node_id: str, chosen: list[str]) -> bool:
    """Return whether the author shows the outputs of a node, by its id or that of its subgraph."""
    return not chosen or any(node_id == one or node_id.startswith(f"{one}:") for one in chosen)


def _output_of(
    node: Mapping[str, Any], definitions: Definitions | None, *, shown: bool
) -> dict[str, Any]:
    """Return the JSON Schema of the output of a node: lists of files, texts and values by name."""
    found: dict[str, Any] = {
        "title": title_of(node) or display_name(definitions, node),
        "type": "object",
        "properties": {
            name: {"type": "array", "items": _FILE} for name in ("images", "audio", "video", "3d")
        },
        "additionalProperties": {"type": "array"},
        "x-class": class_of(node),
        "x-shown": shown,
    }
    media = _media_of(node, definitions)
    if media is not None:
        found["x-media"] = media
    return found


def _media_of(node: Mapping[str, Any], definitions: Definitions | None) -> str | None:
    """Return what an output node makes, by its class name, else by what it takes; or None."""
    name = class_of(node).lower()
    for word, media in (("video", "video"), ("webm", "video"), ("audio", "audio")):
        if word in name:
            return media
    definition = (definitions or {}).get(class_of(node)) or {}
    for section in ("required", "optional"):
        entries = (definition.get("input") or {}).get(section) or {}
        for key, entry in entries.items():
            linked = is_link(inputs_of(node).get(key))
            kind = entry[0] if isinstance(entry, (list, tuple)) and entry else None
            if linked and isinstance(kind, str) and kind.split(",")[0] in _MEDIA:
                return _MEDIA[kind.split(",")[0]]
    return "image" if "image" in name else None
