"""Named inputs -> nodes, and the form that a workflow offers.

A run passes through the functions of this package in this order::

    applied = apply_inputs(graph, inputs)
    seeds = apply_seeds(applied.graph, mode, given=applied.given)
    inlined = inline_external(seeds.graph, known_classes, given=applied.given)
    graph = place_files(inlined.graph, {need.node_id: ... for need in inlined.files})
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UnknownInputError
from .author_form import AuthorForm, ChosenInput, author_form
from .definitions import MISSING, NodeDefinitions
from .external import (
    EXTERNAL_PREFIX,
    ExternalInput,
    Target,
    external_inputs,
    external_values,
    value_field,
)
from .formats import (
    AUTOGROW,
    DYNAMIC_COMBO,
    Definitions,
    Graph,
    InputSpec,
    UIGraph,
    UINodes,
    class_of,
    copy_graph,
    declared_inputs,
    inputs_of,
    is_link,
    names_in_group,
    slot_of_group,
    title_of,
)
from .queued_values import wrapped
from .seeds import SEED_NAMES

_KIND_OF_EXTERNAL = {
    "text": "multiline",
    "combo": "combo",
    "float": "float",
    "int": "int",
    "bool": "bool",
    "seed": "seed",
    "checkpoint": "combo",
    "lora": "combo",
    "image": "image",
    "image_alpha": "image",
    "video": "video",
    "video_path": "video",
    "audio": "audio",
}
# What a choice of files says of itself where files can be added to it (ComfyUI
# comfy_api/latest/_io.py); the Video Helper Suite's own script knows it by the class (its
# VHS.core.js, 2025).
_UPLOADS = {
    "image_upload": "image",
    "animated_image_upload": "image",
    "video_upload": "video",
    "audio_upload": "audio",
}
_UPLOADS_OF_CLASS = {
    ("VHS_LoadVideo", "video"): "video",
    ("VHS_LoadVideoFFmpeg", "video"): "video",
    ("VHS_LoadAudioUpload", "audio"): "audio",
}
MEDIA_KINDS = ("image", "video", "audio")
"""The kinds of field that take a file of ComfyUI's input folder."""

# What can be typed into an input of a group that grows, and what a new one holds.
_LITERAL = frozenset({"STRING", "INT", "FLOAT", "BOOLEAN", "*"})
_FRESH = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}
_FIRST_GROUPS, _CHOICES = 3, 6  # of `_rank`: prompts and media; choices
_STEPS = {"float": 0.01, "int": 1.0, "seed": 1.0}
_SIZES = ("width", "height", "batch_size")
_SAMPLING = ("steps", "cfg", *SEED_NAMES, "sampler_name", "scheduler", "denoise")
_PROMPT_NAME = re.compile(
    r"text|prompt|caption|t5xxl|^clip_[lgh]$|^(positive|negative)$", re.IGNORECASE
)
_FILE_NAME = re.compile(r"\S+\.\w{2,12}")
_IMAGE_NAME = re.compile(r".+\.(png|jpe?g|webp|gif|bmp|tiff?)( \[\w+\])?", re.IGNORECASE)
_PLAIN_TITLES = ("", "CLIP Text Encode (Prompt)")


@dataclass(frozen=True)
class AppliedInputs:
    """A graph with the user's values in place.

    Attributes
    ----------
    graph : Graph
        The graph to go on with.
    given : dict of (node id, input name) to str
        Every field that was set, and the key of ``inputs`` that set it.
    unknown : dict of str to list of str
        Keys that matched no input or several, with the candidates.
    """

    graph: Graph
    given: dict[Target, str]
    unknown: dict[str, list[str]]


def apply_inputs(
    graph: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, Any],
    *,
    strict: bool = True,
    definitions: Definitions | None = None,
) -> AppliedInputs:
    """Set inputs of a graph by name.

    A key is looked up as (1) the ``input_id`` of external-input nodes, all of which are set; (2)
    ``"<node id>.<input>"``; (3) ``"<node title>.<input>"``; (4) an input name that exactly one node
    has. The first of these that matches decides. A value replaces a literal or a link. If two keys
    name the same field, the later one wins.

    Parameters
    ----------
    graph : Graph
        API format.
    inputs : dict
        Key -> value. A list becomes what ComfyUI takes for a list (``{"__value__": […]}``) unless
        it is a link to a node of the graph; for an image batch it becomes the JSON text the node
        reads.
    strict : bool
        Refuse keys that match nothing or several inputs; else they are reported and ignored.
    definitions : dict, optional
        ComfyUI's ``object_info``: with it, (2) and (3) may also set inputs that the node's class
        declares but the graph leaves out. Where another option of a dynamic combo is chosen, what
        the old one brought is removed, and what the new one brings is there with its defaults
        unless it is given. None as the value of an input in a group that grows removes that input.

    Returns
    -------
    AppliedInputs

    Raises
    ------
    UnknownInputError
        ``strict``, and a key matches nothing or several. ``details`` has ``field`` and ``unknown``,
        which maps every such key to its candidates.
    """
    result = copy_graph(graph)
    names = _Names(result, definitions)
    classes = NodeDefinitions(definitions) if definitions else None
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
            if len(targets) != 1:
                waiting.append(key)
                unknown[key] = [f"{i}.{n}" for i, n in targets] or names.close_to(key)
                ambiguous.update([key] if targets else [])
                continue
            unknown.pop(key, None)
            ((node_id, name),) = targets
            node = result[node_id]
            before = inputs_of(node)
            node["inputs"] = {**before, name: stored_value(value, graph)}
            given[node_id, name] = key
            if value is None and _may_be_absent(definitions, node, name):
                del node["inputs"][name]
            if classes is not None and before.get(name) != value:
                own = declared_inputs(definitions, class_of(node), node["inputs"]).get(name)
                if own is not None and own.type == DYNAMIC_COMBO:
                    kept = {n for i, n in given if i == node_id}
                    node["inputs"] = _with_branch(node, name, definitions, classes, kept)
                    names.change(node_id, before, node["inputs"])
                    for gone in kept - node["inputs"].keys() - {name}:
                        lost = given.pop((node_id, gone))
                        waiting.append(lost)
                        unknown[lost] = []
                    branched = True
        # What an option brings can be set once that option is chosen.
        pending = waiting if branched else []
    if unknown and strict:
        raise UnknownInputError(
            "; ".join(_complaint(key, unknown[key], key in ambiguous) for key in unknown),
            details={"field": f"inputs.{next(iter(unknown))}", "unknown": unknown},
        )
    return AppliedInputs(result, given, unknown)


def _may_be_absent(definitions: Definitions | None, node: Mapping[str, Any], name: str) -> bool:
    """Return whether an input is one of a group that grows."""
    group = name.rpartition(".")[0]
    specs = declared_inputs(definitions, class_of(node), inputs_of(node)) if group else {}
    return group in specs and specs[group].type == AUTOGROW


def _with_branch(
    node: Mapping[str, Any],
    combo: str,
    definitions: Definitions | None,
    classes: NodeDefinitions,
    kept: Collection[str],
) -> dict[str, Any]:
    """Return the inputs of a node with what the chosen option of a dynamic combo brings.

    Those of other options are gone; those that are not in ``kept`` have their defaults.
    """
    prefix, class_type = f"{combo}.", class_of(node)
    inputs = {
        name: value
        for name, value in inputs_of(node).items()
        if not name.startswith(prefix) or name in kept
    }
    known = classes.get(class_type)
    for widget, value in known.lay_out(inputs) if known is not None else ():
        fresh = widget.name.startswith(prefix) and widget.name not in inputs
        if fresh and widget.emitted and value is not MISSING:
            inputs[widget.name] = wrapped(value)
    specs = declared_inputs(definitions, class_type, inputs)
    return {n: v for n, v in inputs.items() if not n.startswith(prefix) or n in specs}


class _Names:
    """The names by which the inputs of one graph can be set."""

    def __init__(
        self, graph: Mapping[str, Mapping[str, Any]], definitions: Definitions | None
    ) -> None:
        self._graph = graph
        self._definitions = definitions
        self.external: dict[str, list[str]] = defaultdict(list)
        self._titles: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for node_id, node in graph.items():
            inputs = inputs_of(node)
            if class_of(node).startswith(EXTERNAL_PREFIX) and isinstance(
                input_id := inputs.get("input_id"), str
            ):
                self.external[input_id].append(node_id)
            if title := title_of(node):
                self._titles[title].append(node_id)
            for name in inputs:
                self._names[name].append(node_id)

        self._longest = max(map(len, [*graph, *self._titles]), default=0)

    def change(self, node_id: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Take in that a node has other inputs than before."""
        for name in before.keys() - after.keys():
            self._names[name] = [other for other in self._names[name] if other != node_id]
        for name in after.keys() - before.keys():
            self._names[name].append(node_id)

    def find(self, key: str) -> list[Target]:
        """Return every input that the key names, by the first rule that finds any."""
        splits = list(self._splits(key))
        by_id = [t for head, name in splits for t in self._having([head], name)]
        by_title = [
            t for head, name in splits for t in self._having(self._titles.get(head, ()), name)
        ]
        return by_id or by_title or [(node_id, key) for node_id in self._names.get(key, ())]

    def _splits(self, key: str) -> Iterator[tuple[str, str]]:
        """Cut the key at each dot that may end an id or a title: these contain dots themselves."""
        dot = key.find(".", 0, self._longest + 1)
        while dot >= 0:
            yield key[:dot], key[dot + 1 :]
            dot = key.find(".", dot + 1, self._longest + 1)

    def _having(self, node_ids: Iterable[str], name: str) -> Iterator[Target]:
        for node_id in node_ids:
            node = self._graph.get(node_id)
            if node is not None and (
                name in inputs_of(node)
                or name in declared_inputs(self._definitions, class_of(node), inputs_of(node))
            ):
                yield node_id, name

    def close_to(self, key: str) -> list[str]:
        """Return what the user may have meant, closest first."""
        for head, tail in self._splits(key):
            node_ids = [head] if head in self._graph else self._titles.get(head, [])
            names = list(dict.fromkeys(n for i in node_ids for n in inputs_of(self._graph[i])))
            if names:
                close = difflib.get_close_matches(tail, names, n=5) or names
                return [
                    f"{i}.{n}" for n in close for i in node_ids if n in inputs_of(self._graph[i])
                ]
        close = [
            *difflib.get_close_matches(key, [*self.external, *self._names], n=5),
            *difflib.get_close_matches(key.rpartition(".")[2], self._names, n=5),
        ]
        found: dict[str, None] = {}
        for name in close:
            holders = [] if name in self.external else self._names[name]
            found.update(
                dict.fromkeys([name] if len(holders) < 2 else [f"{i}.{name}" for i in holders])
            )
        return list(found)[:8] or list(self.external)


def _complaint(key: str, candidates: Sequence[str], ambiguous: bool) -> str:
    named = ", ".join(candidates[:8])
    if ambiguous:
        return f"inputs.{key}: matches several inputs, name one of them: {named}"
    hint = f"; did you mean {named}?" if named else ""
    return f"inputs.{key}: no input of the workflow has this name{hint}"


def stored_value(value: object, graph: Mapping[str, Any]) -> object:
    """Return a value as the graph holds it: a list that is no link to a node is wrapped.

    ComfyUI would take a bare list of two for a link, and otherwise hand out its items one by one.
    """
    if isinstance(value, list) and not (is_link(value) and value[0] in graph):
        return {"__value__": value}
    return value


@dataclass(frozen=True)
class FormField:
    """One field of the form that a workflow offers.

    Attributes
    ----------
    key : str
        The key of ``inputs`` that sets it: an ``input_id`` or ``"<node id>.<input>"``.
    label : str
        For people: what the author of the workflow wrote, or the node's title and the input.
    kind : str
        text, multiline, int, float, bool, combo, color (0xRRGGBB), seed; image, video or audio: a
        file of ComfyUI's input folder.
    node_id, input_name : str
        The field of the graph.
    value, default : object
        What the workflow has, and what the node class declares (or None).
    min, max, step : float, int or None
        The declared range.
    options : list or None
        The choices of a combo, the known files of an image, a video or a sound.
    tooltip : str
        What the input does, or ``""``.
    advanced : bool
        Rarely changed.
    chosen : bool
        The author of the workflow chose it for its form.
    dynamic : bool
        A choice whose options bring inputs of their own: what is chosen changes the form.
    twins : tuple of str
        Further keys that are set to the same value: a widget of a subgraph may lead to several
        inputs.
    """

    key: str
    label: str
    kind: str
    node_id: str
    input_name: str
    value: Any
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: list[Any] | None = None
    tooltip: str = ""
    advanced: bool = False
    chosen: bool = False
    dynamic: bool = False
    twins: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that is set to its value."""
        return (self.key, *self.twins)


@dataclass(frozen=True)
class InputGroup:
    """A group of inputs of one node that can grow: values can be added, and removed again.

    Attributes
    ----------
    key : str
        ``"<node id>.<group>"``.
    label : str
        For people.
    node_id : str
        The node.
    count : int
        How many inputs of the group the graph has, links among them.
    following : str or None
        The key of the next input; None where the group is full.
    last : str or None
        The key of the input that can be removed; None where the last one is a link, or where no
        fewer are allowed.
    default : object
        The value of a new one.
    advanced : bool
        Whether it belongs to the inputs that are rarely changed.
    """

    key: str
    label: str
    node_id: str
    count: int
    following: str | None
    last: str | None
    default: Any
    advanced: bool = False


@dataclass(frozen=True)
class WorkflowForm:
    """The form that a workflow offers.

    Attributes
    ----------
    fields : list of FormField
        Its inputs, as `input_form` lists them.
    groups : list of InputGroup
        Where inputs can be added.
    outputs : list of str
        Ids of the nodes whose outputs the author chose to show; those of subgraph nodes stand for
        all in them. Empty: all outputs.
    warnings : list of str
        What the author chose and the workflow does not have.
    """

    fields: list[FormField]
    groups: list[InputGroup]
    outputs: list[str]
    warnings: list[str]


def input_form(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> list[FormField]:
    """List what a user may want to change, the most likely first.

    What the author of the workflow chose in App mode is the form, in the author's order; all else
    is ``advanced`` then. Without it, external inputs, pictures, videos and sounds come first and
    then the widgets that are promoted to the nodes of subgraphs, whose other inputs are
    ``advanced``.

    Without these, too: external inputs come first, as the author of the workflow chose them, then
    primitive nodes, which stand in a graph for the same reason; then prompts (positive, negative,
    other texts), pictures, videos, sounds, colours, sizes, sampling, choices, numbers, switches;
    last and ``advanced`` single-line texts and what the definitions call advanced or do not know.

    Parameters
    ----------
    graph : Graph
        API format.
    definitions : dict, optional
        ComfyUI's ``object_info``. Types, ranges, choices and tooltips come from it; without it,
        kinds are guessed from names and values.
    ui : dict, optional
        The workflow in UI format, for what its author chose, and for titles that the graph lacks.

    Returns
    -------
    list of FormField
        Literal inputs only: what is linked is decided elsewhere.
    """
    return workflow_form(graph, definitions, ui).fields


def workflow_form(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> WorkflowForm:
    """Return the form that a workflow offers; parameters as `input_form`."""
    fields = _ranked_fields(graph, definitions, ui)
    authored = AuthorForm([], [], False, []) if ui is None else author_form(ui)
    warnings = list(authored.warnings)
    if authored.inputs:
        fields = _as_chosen(fields, authored, graph, warnings)
    fields = _distinct(fields)
    return WorkflowForm(fields, _groups(graph, definitions, fields), authored.outputs, warnings)


def _as_chosen(
    fields: Sequence[FormField],
    authored: AuthorForm,
    graph: Mapping[str, Mapping[str, Any]],
    warnings: list[str],
) -> list[FormField]:
    """Put what the author chose first, and mark the rest as rarely changed."""
    by_target = {(field.node_id, field.input_name): field for field in fields}
    chosen: dict[Target, FormField] = {}
    twins: set[Target] = set()
    for wanted in authored.inputs:
        found = [target for target in wanted.targets if target in by_target]
        if not found:
            if authored.app:
                warnings.append(_not_there(wanted, graph))
            continue
        first, *further = found
        field = by_target[first]
        keys = tuple(by_target[other].key for other in further)
        twins.update(further)
        label = wanted.label or field.label
        if not wanted.label and wanted.title and not field.label.endswith(" prompt"):
            label = f"{wanted.title}: {_words(wanted.name)}"
        chosen.setdefault(
            first, replace(field, label=label, advanced=False, chosen=True, twins=keys)
        )
    if not chosen:
        return list(fields)
    ordered: dict[Target, FormField] = {}
    brought = _brought_by(chosen.values(), by_target)
    for target, field in chosen.items():
        ordered[target] = field
        for child in brought.get(target, ()):
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


def _brought_by(
    chosen: Iterable[FormField], fields: Mapping[Target, FormField]
) -> dict[Target, list[Target]]:
    """Return the fields that are there because of the options that chosen dynamic combos have."""
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


def _not_there(wanted: ChosenInput, graph: Mapping[str, Mapping[str, Any]]) -> str:
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
    """Return the groups to which values can be added, of nodes that have a field or take texts."""
    found = []
    shown = {field.node_id for field in fields if not field.advanced}
    for node_id, node in graph.items() if definitions else ():
        inputs = inputs_of(node)
        for name, spec in declared_inputs(definitions, class_of(node), inputs).items():
            slot = slot_of_group(spec.options) if spec.type == AUTOGROW else None
            if slot is None or not _LITERAL.intersection(slot.type.split(",")):
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
            found.append(
                InputGroup(
                    f"{node_id}.{name}",
                    f"{title_of(node) or _display_name(definitions, node)}: {_words(name)}",
                    node_id,
                    len(present),
                    f"{node_id}.{free[0]}" if free else None,
                    None if last is None else f"{node_id}.{last}",
                    _FRESH.get(slot.type.split(",")[0], "") if default is None else default,
                    node_id not in shown,
                )
            )
    return found


def _ranked_fields(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None,
    ui: UIGraph | None,
) -> list[FormField]:
    externals = external_inputs(graph)
    external_ids = {external.node_id for external in externals}
    by_input_id = {external.input_id: external for external in reversed(externals)}
    roles = _prompt_roles(graph)
    ui_nodes = UINodes(ui) if ui is not None else None
    ranked: list[tuple[tuple[int, int, int, int, int], FormField]] = []
    for position, (node_id, node) in enumerate(graph.items()):
        if node_id in external_ids:
            continue
        inputs = inputs_of(node)
        specs = declared_inputs(definitions, class_of(node), inputs)
        places = {name: place for place, name in enumerate(inputs)}
        title = title_of(node) or _ui_title(ui_nodes, node_id)
        primitive = class_of(node).startswith("Primitive")
        shown = title or _display_name(definitions, node)
        for name, value in inputs.items():
            kind = _kind_of(class_of(node), name, value, specs.get(name))
            if kind is None:
                continue
            # What belongs to a dynamic combo or a group is shown where that is.
            top = _top_of(name, specs)
            role = roles.get(node_id) if kind == "multiline" else None
            plain = title in (*_PLAIN_TITLES, _display_name(definitions, node))
            label = shown if primitive and title else f"{shown}: {_words(name)}"
            single = kind == "text" and not primitive and top == name
            field = FormField(
                f"{node_id}.{name}",
                f"{role} prompt".capitalize() if role and plain else label,
                kind,
                node_id,
                name,
                value,
                **_declared(specs.get(name)),
                advanced=single or _is_advanced(specs, top),
                dynamic=name in specs and specs[name].type == DYNAMIC_COMBO,
            )
            group, rank = (-1, 0) if primitive and not field.advanced else _rank(field, role)
            if top != name and not field.advanced and group > _FIRST_GROUPS:
                group = _CHOICES
            anchor = places.get(top, places[name])
            ranked.append(((group, position, rank, anchor, places[name]), field))
    ranked.sort(key=lambda item: item[0])
    fields = [_external_field(e, definitions) for e in externals if by_input_id[e.input_id] is e]
    return [*fields, *(field for _, field in ranked)]


def _external_field(external: ExternalInput, definitions: Definitions | None) -> FormField:
    kind = _KIND_OF_EXTERNAL.get(external.kind, "text")
    name = value_field(external.class_type)
    options = external.options
    if external.kind in ("checkpoint", "lora"):
        specs = declared_inputs(definitions, external.class_type)
        options = next((spec.choices for spec in specs.values() if spec.choices), None)
    return FormField(
        external.input_id,
        external.display_name or external.input_id,
        "text" if kind == "combo" and not options else kind,
        external.node_id,
        name,
        external.default,
        min=external.min,
        max=external.max,
        step=_STEPS.get(kind),
        options=options,
        tooltip=external.description,
    )


def _kind_of(class_type: str, name: str, value: object, spec: InputSpec | None) -> str | None:
    """Return the kind of field for a literal, None for what no form can show."""
    if not isinstance(value, (str, int, float)):
        return None
    if spec is not None and spec.type == DYNAMIC_COMBO:
        return "combo"
    if spec is not None and spec.type in ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"):
        if spec.type == "INT" and spec.options.get("display") == "color":
            return "color"
        if spec.type == "INT":
            return "seed" if name.endswith("seed") else "int"
        if spec.type == "STRING":
            return "multiline" if spec.options.get("multiline") else "text"
        if spec.type == "COMBO":
            return _media_kind(class_type, name, spec) or "combo"
        return "float" if spec.type == "FLOAT" else "bool"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "seed" if name.endswith("seed") else "int"
    if isinstance(value, float):
        return "float"
    if class_type.startswith("LoadImage") or _IMAGE_NAME.fullmatch(value):
        return "image" if name == "image" else "text"
    if name in ("sampler_name", "scheduler"):
        return "combo"
    prompt = _PROMPT_NAME.search(name) and not _FILE_NAME.fullmatch(value)
    return "multiline" if prompt or "\n" in value or len(value) > 80 else "text"


def _media_kind(class_type: str, name: str, spec: InputSpec) -> str | None:
    """Return what files a choice offers, if more can be uploaded to it."""
    flagged = (kind for flag, kind in _UPLOADS.items() if spec.options.get(flag))
    return next(flagged, _UPLOADS_OF_CLASS.get((class_type, name)))


def _declared(spec: InputSpec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    numbers = {name: spec.options.get(name) for name in ("min", "max", "step")}
    return {
        **{n: v if isinstance(v, (int, float)) else None for n, v in numbers.items()},
        "default": spec.options.get("default"),
        "options": spec.choices,
        "tooltip": str(spec.options.get("tooltip") or ""),
    }


def _top_of(name: str, specs: Mapping[str, InputSpec]) -> str:
    """Return the dynamic combo or the group of a node that an input is there for, else itself."""
    dot = name.find(".")
    while dot >= 0:
        spec = specs.get(name[:dot])
        if spec is not None and spec.type in (DYNAMIC_COMBO, AUTOGROW):
            return name[:dot]
        dot = name.find(".", dot + 1)
    return name


def _is_advanced(specs: Mapping[str, InputSpec], name: str) -> bool:
    return bool(specs) and (name not in specs or bool(specs[name].options.get("advanced")))


def _rank(field: FormField, role: str | None) -> tuple[int, int]:
    """Return the group of a field and its place among the fields that its node has there."""
    if field.advanced:
        return 9, 0
    if field.kind == "multiline":
        return {"positive": 0, "negative": 1}.get(role or "", 2), 0
    if field.kind in (*MEDIA_KINDS, "color"):
        return 3, int(field.kind == "color")
    if field.input_name in _SIZES:
        return 4, _SIZES.index(field.input_name)
    if field.input_name in _SAMPLING:
        return 5, _SAMPLING.index(field.input_name)
    return {"combo": _CHOICES, "bool": 8}.get(field.kind, 7), 0


def _prompt_roles(graph: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Tell which nodes feed an input named ``positive`` or ``negative``; positive goes first.

    The way leads upstream along all links, but in a node with inputs of these names (a ControlNet,
    say) along the one of the same name.
    """
    roles: dict[str, str] = {}
    for role in ("negative", "positive"):
        waiting = deque(
            inputs[role][0]
            for inputs in map(inputs_of, graph.values())
            if is_link(inputs.get(role))
        )
        seen: set[str] = set()
        while waiting:
            node_id = waiting.popleft()
            if node_id in seen or node_id not in graph:
                continue
            seen.add(node_id)
            inputs = inputs_of(graph[node_id])
            links = [inputs[role]] if is_link(inputs.get(role)) else inputs.values()
            waiting.extend(link[0] for link in links if is_link(link))
        roles.update(dict.fromkeys(seen, role))
    return roles


def _display_name(definitions: Definitions | None, node: Mapping[str, Any]) -> str:
    definition = (definitions or {}).get(class_of(node))
    name = definition.get("display_name") if isinstance(definition, Mapping) else None
    return name if isinstance(name, str) and name else class_of(node)


def _ui_title(nodes: UINodes | None, node_id: str) -> str:
    path = nodes.path(node_id) if nodes else []
    title = path[-1].node.get("title") if len(path) == node_id.count(":") + 1 else None
    return title if isinstance(title, str) else ""


def _words(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


def _distinct(fields: Sequence[FormField]) -> list[FormField]:
    """Name the node where two fields would have the same label."""
    labels = Counter(field.label for field in fields)
    return [
        replace(field, label=f"{field.label} (node {field.node_id})")
        if labels[field.label] > 1
        else field
        for field in fields
    ]
