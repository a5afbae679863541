"""Sets the inputs of a graph by name.

A run passes through the functions of this package in this order::

    applied = load_files(apply_inputs(graph, inputs, definitions=definitions), definitions)
    seeds = apply_seeds(applied.graph, mode, given=applied.given)
    inlined = inline_external(seeds.graph, known_classes, given=applied.given)
    graph = place_files(inlined.graph, {need.node_id: ... for need in inlined.files})
"""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidInputError, UnknownInputError
from .definitions import (
    CHOICE,
    CUSTOM_COMBO,
    DYNAMIC_COMBO,
    INDEX,
    MISSING,
    ROWS,
    AnyDefinitions,
    Input,
    NodeDefinitions,
    Widget,
    index_of_choice,
)
from .dependencies import nodes_that_need
from .external import EXTERNAL_PREFIX, KINDS, Target, external_values
from .form import (
    LOADERS,
    MEDIA_KINDS,
    FormField,
    InputGroup,
    external_fields,
    field_of,
    group_of,
    is_raw,
    with_rows,
    words,
    workflow_form,
)
from .formats import (
    AnyGraph,
    Graph,
    UIGraph,
    class_of,
    copy_graph,
    inputs_of,
    is_link,
    texts_in,
    title_of,
    unwrapped,
)
from .queued_values import wrapped
from .validation import not_offered, own_check, value_text
from .video_edit import PARTS, VIDEO_EDIT, edit_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

MAX_TITLE = 60  # characters of a title in the name of an input


@dataclass(frozen=True)
class AppliedInputs:
    """A graph with the values of a user."""

    graph: Graph  # the graph with the values
    given: dict[Target, str]  # the inputs that were set, and the key of ``inputs`` that set each
    # the keys that match no input or several, each with the candidates
    unknown: dict[str, list[str]]
    names: InputNames  # the names of the inputs of the graph


def apply_inputs(
    graph: AnyGraph,
    inputs: Mapping[str, Any],
    *,
    strict: bool = True,
    definitions: AnyDefinitions = None,
) -> AppliedInputs:
    """Set inputs of a graph by name."""
    # A key is looked up as (1) the ``input_id`` of external-input nodes, all of which are set; (2)
    # ``"<node id>.<input>"``; (3) ``"<node title>.<input>"``; (4) an input name that exactly one
    # node has; (5) the title of a node that has one value. The first of these that matches decides.
    # A value replaces a literal or a link. If two keys name the same field, the later one wins. A
    # choice of a Custom Combo also sets its index.
    # With ``definitions``, (2) and (3) may also set inputs that the node's class declares and the
    # graph leaves out. If another option of a dynamic combo is chosen, the inputs of the old option
    # are removed, and those of the new option are added with their defaults. None as the value of
    # an input in an autogrow group removes that input, and as that of a field of a row the row. A
    # group of rows takes a list of objects, which replaces its rows; a new row gets the defaults of
    # its other fields. Without ``strict``,
    # keys that match no input or several are ignored.
    definitions = NodeDefinitions.of(definitions)
    result = copy_graph(graph)
    names = InputNames(result, definitions)
    given: dict[Target, str] = {}
    unknown: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    pending = list(inputs)
    while pending:
        branched = False
        waiting = []
        for key in pending:
            value = inputs[key]
            for node_id in names.external.get(key, ()):
                for name, stored in external_values(class_of(graph[node_id]), value):
                    result[node_id]["inputs"][name] = stored
                    given[node_id, name] = key
            if key in names.external:
                continue
            targets = names.find(key)
            if len(targets) > 1 and is_output(value):  # such as the picture of the only loader
                free = [(i, n) for i, n in targets if not is_link(inputs_of(result[i]).get(n))]
                targets = free if len(free) == 1 else targets
            if len(targets) != 1:
                waiting.append(key)
                unknown[key] = [names.name(*target) for target in targets] or names.close_to(key)
                ambiguous.update([key] if targets else [])
                continue
            unknown.pop(key, None)
            ((node_id, name),) = targets
            node = result[node_id]
            node["inputs"] = inputs_of(node)
            stored, declared = node["inputs"], names.declared(node_id)
            own = declared(name)
            if (
                own is not None
                and own.type == VIDEO_EDIT
                and isinstance(value, str)
                and value.startswith("{")
            ):
                value = edit_in(value)  # pages keep the edit of a video as JSON text
            elif isinstance(value, str) and is_raw(name, declared):
                value = _raw_value(value, stored.get(name))
            if own is not None and own.type == ROWS:
                before = dict(stored)
                for old in [n for n in before if n.startswith(f"{name}.")]:
                    del stored[old]
                given[node_id, name] = key
                placed = _put_rows(node, own, value, key, graph, definitions)
                given.update({(node_id, field): key for field in placed})
                names.update(node_id, before, stored)
                continue
            group = group_of(name, declared) if value is None and "." in name else None
            given[node_id, name] = key
            if group is not None:
                row = name.removeprefix(f"{group.name}.").partition(".")[0]
                start = f"{group.name}.{row}." if group.type == ROWS else None
                before = dict(stored)
                for other in before:
                    if other == name or (start is not None and other.startswith(start)):
                        del stored[other]
                names.update(node_id, before, stored)
                continue
            changed = name not in stored or stored[name] != value
            stored[name] = stored_value(value, graph)
            if changed and own is not None and own.type == DYNAMIC_COMBO:
                before = dict(stored)
                kept = {n for i, n in given if i == node_id and n.startswith(f"{name}.")}
                node["inputs"] = _with_branch(node, name, definitions, kept)
                names.update(node_id, before, node["inputs"])
                for lost in {given.pop((node_id, n)) for n in kept - node["inputs"].keys()}:
                    waiting.append(lost)
                    unknown[lost] = []
                branched = True
        # The inputs of an option can be set once that option is chosen.
        pending = waiting if branched else []
    if unknown and strict:
        raise UnknownInputError(
            "; ".join(
                _complaint(key, unknown[key], key in ambiguous, names.rows_around(key))
                for key in unknown
            ),
            details={"field": f"inputs.{next(iter(unknown))}", "unknown": unknown},
        )
    _complete_rows(given, names, result)
    for node_id in {node_id for node_id, name in given if name == CHOICE}:
        node = result[node_id]
        if class_of(node) == CUSTOM_COMBO and (node_id, INDEX) not in given:
            node["inputs"][INDEX] = index_of_choice(node["inputs"])
    return AppliedInputs(result, given, unknown, names)


def _raw_value(text: str, before: Any) -> Any:
    """Return what a text means that a form has for a value whose kind is not known."""
    if before is None or isinstance(unwrapped(before), str):
        return text
    try:
        return json.loads(text)  # as it is shown, see `form.page_value`
    except (ValueError, RecursionError):
        return text


def _put_rows(
    node: dict[str, Any],
    group: Input,
    rows: Any,
    key: str,
    graph: AnyGraph,
    definitions: NodeDefinitions,
) -> list[str]:
    """Put the rows that a user gives for a group into a node; return the names of their fields."""
    # A row is an object. Its keys are the names of fields, those of an option with that of its
    # combo: ``{"mode": "large", "mode.size": 8}``. Without a value, or with null, a field gets its
    # default.
    least, most, _ = group.replaced.rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _invalid(key, f"must be a list with an object for each row, not {value_text(rows)}")
    if not least <= len(rows) <= most:
        raise _invalid(key, f"must have {least} to {most} rows, not {len(rows)}")
    inputs, placed = node["inputs"], []
    for number, row in enumerate(rows):
        start = f"{group.name}.{number}."
        fields = {name: value for name, value in row.items() if value is not None}
        inputs.update((f"{start}{name}", stored_value(v, graph)) for name, v in fields.items())
        _fill(node, group.row(number).made.widgets)
        for name, value in sorted(fields.items(), key=lambda field: field[0].count(".")):
            own = definitions.declared_input(class_of(node), f"{start}{name}", inputs)
            if own is None:
                known = ", ".join(
                    sorted(each.name[len(start) :] for each in group.row(number).inputs)
                )
                text = f"row {number} has no field {name!r}; the fields are {known}"
                raise _invalid(key, text)
            if own.type == ROWS:
                del inputs[own.name]
                further = f"{key}.{number}.{name}"
                placed += _put_rows(node, own, value, further, graph, definitions)
        placed += [f"{start}{name}" for name in fields]
    return placed


def _invalid(key: str, problem: str) -> InvalidInputError:
    details = {"field": f"inputs.{key}", "invalid": {key: problem}}
    return InvalidInputError(f"inputs.{key}: {problem}", details=details)


def _complete_rows(given: Iterable[Target], names: InputNames, graph: Graph) -> None:
    """Give the fields that rows lack their defaults, if a user has set other fields of them."""
    rows: dict[tuple[str, str], tuple[Input, int]] = {}
    for node_id, name in given:
        group = group_of(name, names.declared(node_id)) if "." in name else None
        if group is not None and group.type == ROWS and name in graph[node_id]["inputs"]:
            for index in group.rows_in([name]):
                rows[node_id, f"{group.name}.{index}"] = group, index
    for (node_id, _), (group, index) in rows.items():
        _fill(graph[node_id], group.row(index).made.widgets)


def _fill(node: dict[str, Any], widgets: Iterable[Widget]) -> None:
    """Give the inputs of a node that are missing their defaults, also those of chosen options."""
    inputs, pending = node["inputs"], [*widgets]
    while pending:
        widget = pending.pop()
        if widget.emitted and widget.default is not MISSING:
            inputs.setdefault(widget.name, wrapped(widget.default))
        own = widget.branches
        if own is not None and own.type == ROWS:
            pending += [] if own.rows_in(inputs) else own.made_rows(None).widgets
        elif own is not None and (section := own.branch(inputs.get(widget.name))) is not None:
            pending += section.made.widgets


def may_be_absent(definitions: NodeDefinitions, node: Mapping[str, Any], name: str) -> bool:
    """Return whether an input belongs to an autogrow group, or to a group of rows."""
    declared = partial(_declared, definitions, node)
    return group_of(name, declared) is not None


def _declared(definitions: NodeDefinitions, node: Mapping[str, Any], name: str) -> Input | None:
    return definitions.declared_input(class_of(node), name, inputs_of(node))


def _with_branch(
    node: Mapping[str, Any], combo: str, definitions: NodeDefinitions, kept: Collection[str]
) -> dict[str, Any]:
    """Return the inputs of a node with those of the chosen option of a dynamic combo."""
    # The inputs of other options are removed. Those that are not in ``kept`` get their defaults.
    prefix, class_type = f"{combo}.", class_of(node)
    inputs = {
        name: value
        for name, value in inputs_of(node).items()
        if not name.startswith(prefix) or name in kept
    }
    known = definitions.get(class_type)
    for widget, value in known.lay_out(inputs) if known is not None else ():
        fresh = widget.name.startswith(prefix) and widget.name not in inputs
        if fresh and widget.emitted and value is not MISSING:
            inputs[widget.name] = wrapped(value)
    specs = definitions.declared(class_type, inputs)
    return {n: v for n, v in inputs.items() if not n.startswith(prefix) or n in specs}


class _Index(NamedTuple):
    """The nodes of a graph by what names their inputs, and the longest id or title."""

    external: dict[str, list[str]]
    titles: dict[str, list[str]]
    names: dict[str, list[str]]
    longest: int


class InputNames:
    """The names by which the inputs of one graph can be set."""

    def __init__(self, graph: AnyGraph, definitions: AnyDefinitions = None) -> None:
        self._graph = graph
        self._definitions = NodeDefinitions.of(definitions)

    @cached_property
    def _index(self) -> _Index:
        external, titles, names = (defaultdict[str, list[str]](list) for _ in range(3))
        for node_id, node in self._graph.items():
            inputs = inputs_of(node)
            input_id = inputs.get("input_id")
            if class_of(node).startswith(EXTERNAL_PREFIX) and isinstance(input_id, str):
                external[input_id].append(node_id)
            if title := title_of(node):
                titles[title].append(node_id)
            for name in inputs:
                names[name].append(node_id)
        longest = max(map(len, [*self._graph, *titles]), default=0)
        return _Index(external, titles, names, longest)

    @property
    def external(self) -> dict[str, list[str]]:
        """The external-input nodes, by their ``input_id``."""
        return self._index.external

    def update(self, node_id: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Record that the inputs of a node have changed."""
        self.__dict__.pop("_groups", None)
        names = self._index.names
        for name in before.keys() - after.keys():
            names[name] = [other for other in names[name] if other != node_id]
        for name in after.keys() - before.keys():
            names[name].append(node_id)

    def find(self, key: str) -> list[Target]:
        """Return the inputs that a key names, by the first rule that finds any."""
        splits = list(self._splits(key))
        return (
            [target for head, name in splits for target in self._with_input([head], name)]
            or [
                t
                for head, name in splits
                for t in self._with_input(self._index.titles.get(head, ()), name)
            ]
            or [(node_id, key) for node_id in self._named(key)]
            or self._values_of(self._index.titles.get(key, ()))
        )

    def name(self, node_id: str, name: str) -> str:
        """Return the name of an input for people, by which `find` finds it."""
        # It has the title of the node, or its id if the title is missing or fits several inputs.
        title = title_of(self._graph[node_id])
        if title and title.isprintable() and len(title) <= MAX_TITLE:
            by_title = f"{title}.{name}"
            if by_title not in self.external and self.find(by_title) == [(node_id, name)]:
                return by_title
        return f"{node_id}.{name}"

    def _named(self, name: str) -> list[str]:
        """Return the nodes with an input, or a group of rows, of this name."""
        return [*self._index.names.get(name, ()), *self._groups.get(name, ())]

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        """The nodes with a group of rows, by its name; choosing an option may change them."""
        found: dict[str, list[str]] = defaultdict(list)
        for node_id, node in self._graph.items():
            for name in self._definitions.groups_of_rows(class_of(node), inputs_of(node)):
                found[name].append(node_id)
        return found

    def declared(self, node_id: str) -> Callable[[str], Input | None]:
        """Return the function that finds the declared inputs of a node by their names."""
        return partial(_declared, self._definitions, self._graph[node_id])

    def of(self, node_id: str, name: str) -> list[str]:
        """Return all names by which exactly this input is set."""
        title = title_of(self._graph[node_id])
        first = f"{node_id}.{name}"
        names = [] if self._has_plain_ids else [first]
        named = len(self._index.names.get(name, ())) + len(self._groups.get(name, ()))
        names += [name] if named == 1 else []
        if len(self._index.titles.get(title, ())) == 1:
            names += [f"{title}.{name}"]
            names += [title] if node_id in self._with_one_value else []
        own = inputs_of(self._graph[node_id]).get("input_id")
        external = [own] if isinstance(own, str) and node_id in self.external.get(own, ()) else []
        if self._has_plain_ids and first not in self.external:
            external.append(first)
        target = [(node_id, name)]
        return external + [n for n in names if n not in self.external and self.find(n) == target]

    @cached_property
    def _has_plain_ids(self) -> bool:
        return not any("." in node_id for node_id in self._graph)

    @cached_property
    def _with_one_value(self) -> set[str]:
        return {node_id for node_id in self._graph if len(self._values_of([node_id])) == 1}

    def all(self) -> list[str]:
        """Return the names of all external inputs, and of all other values."""
        inner = {node_id for nodes in self.external.values() for node_id in nodes}
        others = self._values_of(node_id for node_id in self._graph if node_id not in inner)
        return [*self.external, *(self.name(*target) for target in others)]

    def spoken(self, key: str) -> str:
        """Return a key as it is written for people, who do not know the id of a node in it."""
        if key not in self.external and key.partition(".")[0] in self._graph:
            targets = self.find(key)
            if len(targets) == 1:
                return self.name(*targets[0])
        return key

    def _splits(self, key: str) -> Iterator[tuple[str, str]]:
        """Split a key at each dot that may follow an id or a title, which may contain dots."""
        dot = key.find(".", 0, self._index.longest + 1)
        while dot >= 0:
            yield key[:dot], key[dot + 1 :]
            dot = key.find(".", dot + 1, self._index.longest + 1)

    def _with_input(self, node_ids: Iterable[str], name: str) -> Iterator[Target]:
        for node_id in node_ids:
            node = self._graph.get(node_id)
            if node is not None and (
                name in inputs_of(node) or _declared(self._definitions, node, name) is not None
            ):
                yield node_id, name

    def _values_of(self, node_ids: Iterable[str]) -> list[Target]:
        return [
            (node_id, name)
            for node_id in node_ids
            for name, value in inputs_of(self._graph[node_id]).items()
            if not is_link(value)
        ]

    def rows_around(self, key: str) -> Input | None:
        """Return the group of rows in which a key would be, if it is one that a node has."""
        for head, tail in self._splits(key):
            for node_id in [head] if head in self._graph else self._index.titles.get(head, ()):
                group = group_of(tail, self.declared(node_id)) if "." in tail else None
                if group is not None and group.type == ROWS:
                    return group
        return None

    def close_to(self, key: str) -> list[str]:
        """Return the names of inputs with similar names, the most similar first."""
        for head, tail in self._splits(key):
            found = self._of_nodes(
                [head] if head in self._graph else self._index.titles.get(head), tail
            )
            if found:
                return found
        head, dot, tail = key.rpartition(".")
        titles = difflib.get_close_matches(head if dot else key, self._index.titles, n=3)
        by_title = [
            name
            for title in titles
            for name in self._of_nodes(self._index.titles[title], tail if dot else "")
        ]
        if dot and by_title:
            return by_title[:8]
        close = [
            *difflib.get_close_matches(
                key, [*self.external, *self._index.names, *self._groups], n=5
            ),
            *difflib.get_close_matches(tail, self._index.names, n=5),
        ]
        by_name: list[str] = []
        for name in close:
            holders = [] if name in self.external else self._named(name)
            by_name += [name] if len(holders) < 2 else [self.name(i, name) for i in holders]
        return list(dict.fromkeys([*by_name, *by_title]))[:8] or list(self.external)

    def _of_nodes(self, node_ids: Sequence[str] | None, tail: str) -> list[str]:
        """Return the names of inputs of these nodes: those similar to ``tail``, else all values."""
        groups = [(i, name) for name, nodes in self._groups.items() for i in nodes]
        targets = [(i, n) for i in node_ids or () for n in inputs_of(self._graph[i])]
        targets += [target for target in groups if target[0] in (node_ids or ())]
        close = difflib.get_close_matches(tail, {name for _, name in targets}, n=5)
        similar = [target for name in close for target in targets if target[1] == name]
        return [self.name(*target) for target in similar or self._values_of(node_ids or ())]


def _complaint(key: str, candidates: Sequence[str], ambiguous: bool, group: Input | None) -> str:
    named = ", ".join(candidates[:8])
    if ambiguous:
        return f"inputs.{key}: matches several inputs, name one of them: {named}"
    if group is not None and (most := group.replaced.rows[1]) > 0:
        form = f"{group.name}.<0 to {most - 1}>.<field>"
        fields = ", ".join(sorted(each.name.split(".")[-1] for each in group.row(0).inputs))
        return f"inputs.{key}: must be {form}, with a field of {fields}"
    hint = f"; did you mean {named}?" if named else ""
    return f"inputs.{key}: no input of the workflow has this name{hint}"


def stored_value(value: object, graph: Mapping[str, Any]) -> object:
    """Return a value in the form that a graph has: a list that is no link to a node is wrapped."""
    # ComfyUI reads a list of two items as a link, and runs a node once for each item of another
    # list.
    if isinstance(value, list) and not (is_link(value) and value[0] in graph):
        return {"__value__": value}
    return value


_FILE_NAME = re.compile(r"[^\n\0]{1,250}\.\w{1,8}( \[input\])?")


def file_names_in(graph: AnyGraph) -> frozenset[str]:
    """Return the texts in the inputs of a graph that may name files in ComfyUI's input folder."""
    texts = (text for text in texts_in(graph) if len(text) < 260)
    return frozenset(filter(_FILE_NAME.fullmatch, texts))


def load_files(applied: AppliedInputs, definitions: AnyDefinitions) -> AppliedInputs:
    """Put a loader node before each picture, video or sound input that was given a file's name."""
    # Only a link can feed such an input. An empty name removes the input of a group that grows. The
    # graph of ``applied`` is changed; loaders have the ids ``"<node id>.<input>"``.
    graph, definitions = applied.graph, NodeDefinitions.of(definitions)
    for node_id, name in applied.given:
        node = graph[node_id]
        value = inputs_of(node).get(name)
        if not isinstance(value, str):
            continue
        spec = _declared(definitions, node, name)
        class_type, file_input, _ = LOADERS.get(spec.type if spec else "", ("", "", ""))
        loader = f"{node_id}.{name}"
        if class_type not in definitions:
            continue
        if class_of(graph.get(loader, {})) not in ("", class_type):
            continue  # a node that happens to have this id
        if not value and may_be_absent(definitions, node, name):
            del node["inputs"][name]
            continue
        title = f"{title_of(node) or definitions.title(class_of(node))}: {words(name)}"
        inputs = {file_input: value}
        graph[loader] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}
        node["inputs"][name] = [loader, 0]
    return applied


# -- the contract of a workflow: its inputs and outputs as JSON Schema, and the check of values -
#
# The inputs are those of the form (`workflow_form`), so that forms, clients and agents show the
# same names, ranges and choices. Annotations that JSON Schema does not have begin with ``x-``.

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


def contract_of(
    graph: AnyGraph, definitions: AnyDefinitions = None, ui: UIGraph | None = None
) -> dict[str, Any]:
    """Return the JSON Schemas of the ``inputs`` of a run and of the ``outputs`` of its result."""
    # ``warnings`` has a sentence for each input that the author chose and the workflow lacks.
    definitions = NodeDefinitions.of(definitions)
    form = workflow_form(graph, definitions, ui)
    ends = [node_id for node_id, node in graph.items() if definitions.is_output(class_of(node))]
    inputs = {
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            each.key: property_of(each) if isinstance(each, FormField) else _rows_property(each)
            for each in with_rows(form)
        },
        "required": [field.key for field in form.fields if field.required],
        # Inputs can also be set by other names, such as "<node title>.<input>".
        "additionalProperties": True,
    }
    # The outputs of a subgraph are those of the nodes in it. If none are chosen, all are shown.
    chosen = form.outputs
    shown = {
        node_id
        for node_id in ends
        if not chosen or any(f"{node_id}:".startswith(f"{each}:") for each in chosen)
    }
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


def _rows_property(group: InputGroup) -> dict[str, Any]:
    values = [
        {name: value for name, value in row.items() if not isinstance(value, (list, dict))}
        for row in (group.rows or {}).values()
    ]
    return {
        "title": group.label,
        "type": "array",
        "minItems": group.least,
        "maxItems": group.most,
        "items": {
            "type": "object",
            "properties": {field.key: property_of(field) for field in group.template},
            # such as a link, or the inputs that an option brings
            "additionalProperties": not group.flat,
        },
        "default": values,
        "x-kind": "rows",
        "x-advanced": group.advanced,
    }


def property_of(field: FormField) -> dict[str, Any]:
    found: dict[str, Any] = {"title": field.label}
    if field.tooltip:
        found["description"] = field.tooltip
    kind = _TYPES.get(field.kind)
    # A node class may declare choices of any type, and no choice may be known at all.
    if field.kind == "combo" and field.options is not None and not field.remote:
        found["enum"] = list(field.options)
    elif field.kind == "video_edit":
        found["type"] = "object"
        found["properties"] = {
            part: {
                "type": "object",
                "properties": {
                    name: {"type": "integer" if part == "crop" else "number", "minimum": 0}
                    for name in PARTS[part]
                },
            }
            for part in field.features
        }
    elif not field.remote and not field.raw:
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


def check_inputs(graph: AnyGraph, applied: AppliedInputs, definitions: AnyDefinitions) -> None:
    """Raise if a value that a user has given breaks the contract of its input."""
    # The check is never stricter than ComfyUI: a text with a number counts as a number, ranges and
    # choices of inputs that the code of a node class may check itself are left to ComfyUI, and so
    # is a graph of which some outputs do not need the wrong values, because ComfyUI executes those.
    # The values of external-input nodes are checked here only. ``details["invalid"]`` of the error
    # maps each such key to a sentence.
    definitions = NodeDefinitions.of(definitions)
    invalid: dict[str, str] = {}
    wrong: set[str] = set()
    checks = ValueChecks(applied.graph, definitions)
    for field, key in given_fields(graph, applied, definitions):
        if key in invalid:
            continue
        problem = checks.problem(field, inputs_of(applied.graph[field.node_id])[field.input_name])
        if problem is not None:
            invalid[_path_of(field, key, applied.names)] = problem
            wrong.add(field.node_id)
    classes = [class_of(applied.graph[node_id]) for node_id in wrong]
    external = any(class_type.startswith(EXTERNAL_PREFIX) for class_type in classes)
    if invalid and (external or not _has_output_without(wrong, applied.graph, definitions)):
        names = InputNames(applied.graph, definitions)
        raise InvalidInputError(
            "; ".join(f"inputs.{names.spoken(key)}: {text}" for key, text in invalid.items()),
            details={"field": f"inputs.{next(iter(invalid))}", "invalid": invalid},
        )


class ValueChecks:
    """Finds what is wrong with single values of a graph."""

    def __init__(self, graph: AnyGraph, definitions: NodeDefinitions) -> None:
        self._graph = graph
        self._definitions = definitions
        self._checked: dict[str, Collection[str]] = {}

    def problem(self, field: FormField, value: Any) -> str | None:
        """Return what the contract of an input says against a value, or None."""
        node = self._graph[field.node_id]
        if field.node_id not in self._checked:
            self._checked[field.node_id] = _surely_checked(self._definitions, node)
        own = field.input_name not in self._checked[field.node_id]
        choices = None if own or field.kind != "combo" or field.remote else field.options
        if field.kind == "video_edit":
            return f"must be an object, not {value_text(value)}"
        if choices is None or value in choices:
            return _problem_of(value, property_of(field), bounded=not own)
        return not_offered(value, choices, class_of(node), field.input_name)


OUTPUT = "$output"  # the key of an input that is an output of another run
VARY, WITH = "$vary", "$with"  # the keys of several values of an input, and of what changes with it
EACH = "$each"  # the key of values that are the outputs of runs and batches
MAX_POINTS = 100_000  # the most points of a batch; more are likely a mistake
# What stands for the output of another run in a graph until that is known.
MARK = re.compile(rf"{re.escape(OUTPUT)}-[0-9a-f]{{32}}")
# Kinds of inputs that take neither a file nor a text.
_NO_OUTPUT = {"int": "a whole number", "seed": "a whole number", "float": "a number"}
_NO_OUTPUT |= {"color": "a colour", "bool": "true or false", "video_edit": "an object"}
_NO_OUTPUT |= dict.fromkeys(("checkpoint", "lora", "face_model"), "the name of a model")


def is_output(value: Any) -> bool:
    """Return whether a value of an input is an output of a run, or its mark."""
    return (isinstance(value, dict) and OUTPUT in value) or bool(marks_in(value))


def marks_in(value: Any) -> list[str]:
    """Return the marks in a value of an input."""
    if isinstance(value, str):
        return MARK.findall(value) if value.find(f"{OUTPUT}-") >= 0 else []
    return MARK.findall(json.dumps(value)) if isinstance(value, (list, dict)) else []


def marked_kinds(applied: AppliedInputs, definitions: AnyDefinitions) -> dict[str, str]:
    """Return the kind of the input that each mark is the value of; raise if it takes no output."""
    definitions = NodeDefinitions.of(definitions)
    found: dict[str, str] = {}
    for (node_id, name), key in applied.given.items():
        node = applied.graph[node_id]
        for mark in marks_in(inputs_of(node).get(name)):
            kind = KINDS.get(class_of(node))
            if kind is None:
                field = field_of(node_id, node, name, definitions)
                kind = "" if field is None else field.kind
            if kind in _NO_OUTPUT:
                raise _invalid(key, f"takes {_NO_OUTPUT[kind]}, not an output of a run")
            found[mark] = kind
    return found


def _path_of(field: FormField, key: str, names: InputNames) -> str:
    """Return the key that set a field; for the list of rows that did, the key of this field."""
    targets = [] if key in names.external else names.find(key)
    groups = [f"{name}." for node_id, name in targets if node_id == field.node_id]
    within = next((start for start in groups if field.input_name.startswith(start)), None)
    return key if within is None else f"{key}.{field.input_name.removeprefix(within)}"


def _has_output_without(wrong: set[str], graph: Graph, definitions: NodeDefinitions) -> bool:
    """Return whether an output node needs none of these nodes."""
    affected = nodes_that_need(graph, wrong)
    return any(
        node_id not in affected and definitions.is_output(class_of(node))
        for node_id, node in graph.items()
    )


def given_fields(
    graph: AnyGraph, applied: AppliedInputs, definitions: NodeDefinitions
) -> Iterator[tuple[FormField, str]]:
    """Yield the field of each literal that a user has given, with the key that set it."""
    external: dict[tuple[str, str], FormField] | None = None
    for (node_id, name), key in applied.given.items():
        node = applied.graph[node_id]
        value = inputs_of(node).get(name)
        if is_link(value) or marks_in(value):
            continue
        if class_of(node).startswith(EXTERNAL_PREFIX):
            if external is None:
                fields = external_fields(graph, definitions)
                external = {(field.node_id, field.input_name): field for field in fields}
            field = external.get((node_id, name))
        else:
            field = field_of(node_id, node, name, definitions)
        if field is None or field.kind in MEDIA_KINDS or name not in inputs_of(node):
            continue
        if not isinstance(value, dict) or field.kind in ("int", "seed", "float"):
            yield field, key


def _problem_of(value: Any, wanted: dict[str, Any], *, bounded: bool) -> str | None:
    kind, value = wanted.get("type"), unwrapped(value)
    if kind not in ("integer", "number"):
        return None
    try:
        value = int(value) if kind == "integer" else float(value)
    except (TypeError, ValueError, OverflowError):
        article = "an integer" if kind == "integer" else "a number"
        return f"must be {article}, not {value_text(value)}"
    low, high = wanted.get("minimum"), wanted.get("maximum")
    if bounded and low is not None and value < low:
        return f"must be at least {low}, not {value}"
    if bounded and high is not None and value > high:
        return f"must be at most {high}, not {value}"
    return None


def _surely_checked(definitions: NodeDefinitions, node: Mapping[str, Any]) -> Collection[str]:
    """Return the inputs of which a node's class certainly refuses what its declaration does not."""
    if class_of(node) in KINDS:
        return inputs_of(node)
    known = definitions.get(class_of(node))
    if known is None or known.foreign:
        return ()
    own = own_check(known)
    checked = known.checked_inputs(inputs_of(node), [])[0]
    names = {each.name for each in checked if each.checked and not each.several}
    return {name for name in names if own is None or not own.takes(name)}


def _output_of(
    node: Mapping[str, Any], definitions: NodeDefinitions, *, shown: bool
) -> dict[str, Any]:
    """Return the JSON Schema of the output of a node: lists of files, texts and values by name."""
    found: dict[str, Any] = {
        "title": title_of(node) or definitions.title(class_of(node)),
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


def _media_of(node: Mapping[str, Any], definitions: NodeDefinitions) -> str | None:
    """Return what an output node makes, by its class name, else by what it takes; or None."""
    name = class_of(node).lower()
    for word, media in (("video", "video"), ("webm", "video"), ("audio", "audio")):
        if word in name:
            return media
    for key, declared in definitions.declared(class_of(node)).items():
        kind = declared.type.split(",")[0]
        if is_link(inputs_of(node).get(key)) and kind in _MEDIA:
            return _MEDIA[kind]
    return "image" if "image" in name else None
