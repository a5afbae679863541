"""The form that a workflow offers: its fields, and which of them its author chose."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .author_form import AuthorForm, ChosenInput, author_form
from .form_fields import (
    MEDIA_KINDS,
    FormField,
    display_name,
    is_loadable,
    missing_fields,
    ranked_fields,
    words,
)
from .formats import (
    AUTOGROW,
    Definitions,
    UIGraph,
    class_of,
    declared_inputs,
    inputs_of,
    is_link,
    names_in_group,
    slot_of_group,
    title_of,
)
from .partial import is_output, only_what_is_needed
from .type_mismatches import type_mismatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .external import Target

# Types of autogrow inputs into which users can type, and the values of new inputs.
_LITERAL = frozenset({"STRING", "INT", "FLOAT", "BOOLEAN", "*"})
_FRESH = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}


@dataclass(frozen=True)
class InputGroup:
    """An autogrow group of one node: inputs that users can add to and remove."""

    key: str  # ``"<node id>.<group>"``
    label: str  # the label that is shown
    node_id: str  # the node
    count: int  # how many inputs of the group the graph has, including links
    following: str | None  # the key of the input that can be added; None if the group is full
    # the key of the input that can be removed; None if it is a link, or if the group has as few
    # inputs as the node class allows
    last: str | None
    default: Any  # the value of a new input
    advanced: bool = False  # whether it is rarely changed
    title: str = ""  # the title of the node


@dataclass(frozen=True)
class WorkflowForm:
    """The form of a workflow."""

    fields: list[FormField]  # the fields, as `input_form` returns them
    groups: list[InputGroup]  # the groups to which inputs can be added
    # ids of the nodes whose outputs the author chose to show; the id of a subgraph node means all
    # nodes in it. Empty: all outputs are shown
    outputs: list[str]
    # A sentence for each input that the author chose and the workflow does not have
    warnings: list[str]


def input_form(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> list[FormField]:
    """Return the fields for the inputs that a user may want to change, the most useful first.

    If the author of the workflow chose inputs in App mode, these come first, in the author's order,
    and all others are ``advanced``. Otherwise, if subgraphs have promoted widgets: external inputs
    and media files, then the promoted widgets; the other inputs in subgraphs are ``advanced``.

    Otherwise: external inputs and primitive nodes, since the author put them there to be changed;
    then prompts (positive, negative, other texts), media files, colours, sizes, sampling, choices,
    numbers, switches. Single-line texts, and inputs that the definitions call advanced or do not
    know, come last and are ``advanced``. Without definitions, kinds are guessed from names and
    values. The field of a value whose type cannot be that of its input is empty and required.

    Inputs that the workflow has to get from each run come before those that the author did not
    choose: the node class of a node that an output needs requires them, and the node does not have
    them.
    """
    return workflow_form(graph, definitions, ui).fields


def workflow_form(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> WorkflowForm:
    """Return the form of a workflow; parameters are those of `input_form`."""
    missing = _missing(graph, definitions)
    fields = [*missing, *ranked_fields(graph, definitions, ui)]
    authored = AuthorForm([], [], False, []) if ui is None else author_form(ui)
    warnings = list(authored.warnings)
    if authored.inputs:
        fields = _as_chosen(fields, authored, graph, warnings)
        fields.sort(key=lambda field: not (field.chosen or field.required))
    wrong = {(each.node, each.input) for each in type_mismatches(graph, definitions or {})}
    fields = [
        replace(field, value=None, default=None, required=True)
        if (field.node_id, field.input_name) in wrong and not field.dynamic
        else field
        for field in _distinct(fields)
    ]
    return WorkflowForm(fields, _groups(graph, definitions, fields), authored.outputs, warnings)


def _missing(
    graph: Mapping[str, Mapping[str, Any]], definitions: Definitions | None
) -> list[FormField]:
    """Return the fields of the inputs that the nodes of some output require and do not have."""
    missing = missing_fields(graph, definitions)
    if not missing:
        return []
    ends = [node_id for node_id, node in graph.items() if is_output(node, definitions)]
    needed = only_what_is_needed({node_id: dict(node) for node_id, node in graph.items()}, ends)
    return [field for field in missing if field.node_id in needed]


def _as_chosen(
    fields: Sequence[FormField],
    authored: AuthorForm,
    graph: Mapping[str, Mapping[str, Any]],
    warnings: list[str],
) -> list[FormField]:
    """Put the fields that the author chose first, and mark others as rarely changed."""
    by_target = {(field.node_id, field.input_name): field for field in fields}
    chosen: dict[Target, FormField] = {}
    twins: set[Target] = set()
    for wanted in authored.inputs:
        found = [target for target in wanted.targets if target in by_target]
        if not found:
            if authored.app:
                warnings.append(_why_missing(wanted, graph))
            continue
        first, *further = found
        field = by_target[first]
        keys = tuple(by_target[other].key for other in further)
        twins.update(further)
        label = wanted.label or field.label
        if not wanted.label and wanted.title and not field.label.endswith(" prompt"):
            label = f"{wanted.title}: {words(wanted.name)}"
        chosen.setdefault(
            first,
            replace(
                field,
                label=label,
                advanced=False,
                chosen=True,
                twins=keys,
                title=wanted.title or field.title,
            ),
        )
    if not chosen:
        return list(fields)
    ordered: dict[Target, FormField] = {}
    children = _children_of(chosen.values(), by_target)
    for target, field in chosen.items():
        ordered[target] = field
        for child in children.get(target, ()):
            ordered.setdefault(child, replace(by_target[child], advanced=False, chosen=True))
    others = [f for target, f in by_target.items() if target not in ordered and target not in twins]
    if authored.app:
        return [*ordered.values(), *(replace(field, advanced=True) for field in others)]
    groups: dict[int, list[FormField]] = defaultdict(list)
    for field in others:
        inner = ":" in field.node_id
        shown = not inner and not field.advanced
        if _is_external(field) or (shown and field.kind in MEDIA_KINDS):
            groups[0].append(field)
        elif shown:
            groups[1].append(field)
        else:
            groups[3 if field.advanced else 2].append(replace(field, advanced=True))
    return [*groups[0], *ordered.values(), *groups[1], *groups[2], *groups[3]]


def _children_of(
    chosen: Iterable[FormField], fields: Mapping[Target, FormField]
) -> dict[Target, list[Target]]:
    """Return the fields that exist because of the options of chosen dynamic combos."""
    combos: dict[str, list[str]] = defaultdict(list)
    for field in chosen:
        if field.dynamic:
            combos[field.node_id].append(field.input_name)
    found: dict[Target, list[Target]] = defaultdict(list)
    for node_id, name in fields:
        for combo in combos.get(node_id, ()):
            if name.startswith(f"{combo}."):
                found[node_id, combo].append((node_id, name))
    return found


def _is_external(field: FormField) -> bool:
    return field.key != f"{field.node_id}.{field.input_name}"


def _why_missing(wanted: ChosenInput, graph: Mapping[str, Mapping[str, Any]]) -> str:
    node_id, name = wanted.targets[0]
    if node_id not in graph:
        why = "that node does not run"
    elif is_link(inputs_of(graph[node_id]).get(name)):
        why = "it is connected"
    else:
        why = "there is no such value"
    return f"extra.linearData: {node_id}.{name} is not in the form: {why}"


def _groups(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None,
    fields: Sequence[FormField],
) -> list[InputGroup]:
    """Return the autogrow groups to which values, or files that a loader reads, can be added."""
    found = []
    shown = {field.node_id for field in fields if not field.advanced}
    for node_id, node in graph.items() if definitions else ():
        inputs = inputs_of(node)
        for name, spec in declared_inputs(definitions, class_of(node), inputs).items():
            slot = slot_of_group(spec.options) if spec.type == AUTOGROW else None
            if slot is None or not (
                _LITERAL.intersection(slot.type.split(",")) or is_loadable(definitions, slot)
            ):
                continue
            names = [f"{name}.{own}" for own in names_in_group(spec.options)]
            present = [own for own in names if own in inputs]
            free = [own for own in names if own not in inputs]
            least = spec.options.get("template", {}).get("min")
            fewer = len(present) > (least if isinstance(least, int) else 1)
            last = present[-1] if present and fewer else None
            if last is not None and isinstance(inputs[last], (list, dict)):
                last = None
            default = slot.options.get("default")
            # A group is shown beside what feeds it, too.
            beside = {inputs[own][0] for own in present if is_link(inputs[own])} | {node_id}
            title = title_of(node) or display_name(definitions, node)
            found.append(
                InputGroup(
                    f"{node_id}.{name}",
                    f"{title}: {words(name)}",
                    node_id,
                    len(present),
                    f"{node_id}.{free[0]}" if free else None,
                    None if last is None else f"{node_id}.{last}",
                    _FRESH.get(slot.type.split(",")[0], "") if default is None else default,
                    beside.isdisjoint(shown),
                    title,
                )
            )
    labels = Counter([*(field.label for field in fields), *(group.label for group in found)])
    return [
        replace(group, label=f"{group.label} (node {group.node_id})")
        if labels[group.label] > 1
        else group
        for group in found
    ]


def _distinct(fields: Sequence[FormField]) -> list[FormField]:
    """Add to labels that several fields have what differs: inputs, nodes, or both."""
    alike: dict[str, list[FormField]] = defaultdict(list)
    for field in fields:
        alike[field.label].append(field)
    made = []
    taken = {label for label, found in alike.items() if len(found) == 1}
    for field in fields:
        others = alike[field.label]
        label = field.label
        if len(others) > 1:
            node, name = f"node {field.node_id}", words(field.input_name)
            if len({each.input_name for each in others}) == len(others):
                label += f" ({name})"
            elif len({each.node_id for each in others}) == len(others):
                label += f" ({node})"
            else:
                label += f" ({name}, {node})"
            if label in taken:
                label = f"{field.label} ({field.key})"
            taken.add(label)
        made.append(replace(field, label=label))
    return made
