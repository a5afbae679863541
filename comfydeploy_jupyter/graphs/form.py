"""The form that a workflow offers: its fields, their order, and which of them its author chose.

The editor has two ways to choose them. *App mode* (frontend 1.41 and later) stores them in
``extra.linearData``: ``{"inputs": [[node id, widget name, settings?], …], "outputs": [node id,
…]}``. Without it, the widgets that were promoted to the nodes of subgraphs are the form: inputs of
a subgraph that lead to widgets, and those that ``properties.proxyWidgets`` names.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlencode

from ..errors import InvalidRequestError
from .definitions import (
    AUTOGROW,
    DYNAMIC_COMBO,
    ROWS,
    AnyDefinitions,
    Input,
    NodeDefinitions,
    TypeMismatch,
    type_mismatches,
)
from .dependencies import nodes_behind, sources_of
from .external import KINDS, Target, default_of, enum_options, is_external_input, value_field
from .formats import (
    AnyGraph,
    UIGraph,
    class_of,
    inputs_of,
    is_link,
    mapping,
    sequence,
    shown_title,
    text_of,
    title_of,
    unwrapped,
)
from .remote import RemoteList, deciding
from .seeds import SEED_NAMES
from .ui import (
    FROM_OUTSIDE,
    PRIMITIVE,
    REROUTE,
    AnySaved,
    Port,
    SavedGraph,
    SavedNode,
    SavedWorkflow,
    Slot,
)
from .video_edit import VIDEO_EDIT, changes, edit_text, features_of

# Types of autogrow inputs into which users can type, and the values of new inputs.
_LITERAL = frozenset({"STRING", "INT", "FLOAT", "BOOLEAN", "*"})
_FRESH = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}
_FRESH_OF_KIND = {"int": 0, "seed": 0, "color": 0, "float": 0.0, "bool": False}


@dataclass(frozen=True)
class InputGroup:
    """A group of one node to which users can add inputs: an autogrow group, or one of rows."""

    key: str  # ``"<node id>.<group>"``
    label: str  # the label that is shown
    node_id: str  # the node
    count: int  # how many inputs, or rows, the graph has, including links
    least: int  # how few and how many the node class allows
    most: int
    # the keys and initial values of the input, or of the fields of the row, that can be added;
    # empty if the group is full
    next: Mapping[str, Any]
    # the keys of the input, or of the fields of the row, that can be removed; empty if the group
    # has as few as the node class allows, or if the last input is a link
    last: tuple[str, ...]
    # of a group of rows, else None: what its rows have, by their indexes and the names of their
    # fields, also links
    rows: dict[int, dict[str, Any]] | None = None
    row_name: str = "Row"
    template: tuple[FormField, ...] = ()  # the fields of a new row; their keys are their names
    flat: bool = True  # whether a row has no other fields than these
    advanced: bool = False  # whether it is rarely changed
    title: str = ""  # the title of the node

    @property
    def input_name(self) -> str:
        return self.key.removeprefix(f"{self.node_id}.")


@dataclass(frozen=True)
class WorkflowForm:
    fields: list[FormField]  # in the order that `workflow_form` describes
    groups: list[InputGroup]  # the groups to which inputs can be added
    # ids of the nodes whose outputs the author chose to show; the id of a subgraph node means all
    # nodes in it. Empty: all outputs are shown
    outputs: list[str]
    # a sentence for each input that the author chose and the workflow does not have
    warnings: list[str]
    mismatches: list[TypeMismatch]  # the values whose type cannot be that of their inputs
    author: AuthorForm  # what the author chose


def with_rows(form: WorkflowForm) -> list[FormField | InputGroup]:
    """Return the fields of a form, with each group of rows in place of the fields in them."""
    groups = {group.key: group for group in form.groups if group.rows is not None}
    found: dict[str, FormField | InputGroup] = {}
    for field in form.fields:
        group = next((groups[key] for key in above(field.key) if key in groups), None)
        each = group or field
        found.setdefault(each.key, each)
    return [*(found | {key: group for key, group in groups.items() if key not in found}).values()]


def workflow_form(
    graph: AnyGraph, definitions: AnyDefinitions = None, ui: AnySaved | None = None
) -> WorkflowForm:
    """Return the form of a workflow: the inputs that a user may want to change, and their groups.

    The most useful fields are first. If the author of the workflow chose inputs in App mode, these
    are, in the author's order, and all others are ``advanced``. Otherwise, if subgraphs have
    promoted widgets: external inputs and media files, then the promoted widgets; the other inputs
    in subgraphs are ``advanced``.

    Otherwise: external inputs and primitive nodes, since the author put them there to be changed;
    then prompts (positive, negative, other texts), media files, colours, sizes, sampling, choices,
    numbers, switches. Single-line texts, and inputs that the definitions call advanced or do not
    know, come last and are ``advanced``. Without definitions, kinds are guessed from names and
    values. The field of a value whose type cannot be that of its input is empty and required.

    Inputs that the workflow has to get from each run come before those that the author did not
    choose: the node class of a node that an output needs requires them, and the node does not have
    them.
    """
    definitions = NodeDefinitions.of(definitions)
    saved = None if ui is None else SavedWorkflow.of(ui)
    missing = _missing(graph, definitions)
    ranked = ranked_fields(graph, definitions, saved)
    fields = [_with_video(field, graph, definitions) for field in [*missing, *ranked]]
    authored = AuthorForm(saved or {})
    warnings = list(authored.warnings)
    if saved is not None:
        for field in fields:
            field.label = authored.label((field.node_id, field.input_name)) or field.label
    if authored.inputs:
        fields = _as_chosen(fields, authored, graph, warnings)
        fields.sort(key=lambda field: not (field.chosen or field.required))
    mismatches = type_mismatches(graph, definitions)
    wrong = {(each.node, each.input) for each in mismatches}
    _make_distinct(fields)
    fields = [
        field.copied(value=None, default=None, required=True)
        if (field.node_id, field.input_name) in wrong and not field.dynamic
        else field
        for field in fields
    ]
    groups = _groups(graph, definitions, fields)
    return WorkflowForm(fields, groups, authored.outputs, warnings, mismatches, authored)


def choose_inputs(
    graph: AnyGraph,
    ui: UIGraph,
    front: Mapping[str, str | None],
    definitions: AnyDefinitions = None,
) -> dict[str, Any]:
    """Return a workflow in the editor's format with the inputs of these keys in front of its form.

    They get these labels, and keep theirs for None. ``extra.linearData``, which is App mode's,
    keeps the order; without keys the workflow has no choice of its author.
    """
    definitions = NodeDefinitions.of(definitions)
    form = workflow_form(graph, definitions, ui)
    fields = {key: field for field in form.fields for key in field.keys}
    for key in front:
        if key not in fields:
            raise InvalidRequestError.of_field("front", f"the form has no input {_brief(key)}")
    ends = {
        key.split(":")[0]: None
        for key, node in graph.items()
        if definitions.is_output(class_of(node))
    }
    chosen = [(fields[key], label) for key, label in front.items()]
    return form.author.choose(chosen, form, list(ends))


def _missing(graph: AnyGraph, definitions: NodeDefinitions) -> list[FormField]:
    """Return the fields of the inputs that the nodes of some output require and do not have."""
    # Only inputs whose values users can type or upload; others need a link.
    missing: list[FormField] = []
    for node_id, node in graph.items():
        known = definitions.get(class_of(node))
        inputs = inputs_of(node)
        for name in () if known is None else known.required:
            if name in inputs:
                continue
            field = field_of(node_id, node, name, definitions)
            missing += [] if field is None else [field.copied(required=True)]
    if not missing:
        return []
    ends = [node_id for node_id, node in graph.items() if definitions.is_output(class_of(node))]
    needed = nodes_behind(ends, sources_of(graph))
    return [field for field in missing if field.node_id in needed]


def _as_chosen(
    fields: Sequence[FormField], authored: AuthorForm, graph: AnyGraph, warnings: list[str]
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
        label, title = wanted.label or field.label, wanted.title or field.title
        other = shown_title(title) != field.title and not field.label.endswith(" prompt")
        if other and not wanted.label:
            label = f"{title}: {words(wanted.name)}"
        shown = field.copied(advanced=False, chosen=True)
        chosen.setdefault(first, shown.copied(label=label, twins=keys, title=title))
    if not chosen:
        return list(fields)
    names: dict[str, list[str]] = defaultdict(list)
    for node_id, name in by_target:
        names[node_id].append(name)
    ordered: dict[Target, FormField] = {}
    for (node_id, name), field in chosen.items():
        ordered[node_id, name] = field
        for child in names[node_id] if field.dynamic else ():
            if child.startswith(f"{name}."):
                shown = by_target[node_id, child].copied(advanced=False, chosen=True)
                ordered.setdefault((node_id, child), shown)
    others = [f for target, f in by_target.items() if target not in ordered and target not in twins]
    if authored.app:
        rest = (field.copied(advanced=True, unchosen=True) for field in others)
        return [*ordered.values(), *rest]
    groups: dict[int, list[FormField]] = defaultdict(list)
    for field in others:
        external = field.key != f"{field.node_id}.{field.input_name}"
        outside = ":" not in field.node_id and not field.advanced
        if external or (outside and field.kind in MEDIA_KINDS):
            groups[0].append(field)
        elif outside:
            groups[1].append(field)
        else:
            groups[3 if field.advanced else 2].append(field.copied(advanced=True))
    return [*groups[0], *ordered.values(), *groups[1], *groups[2], *groups[3]]


def _why_missing(wanted: ChosenInput, graph: AnyGraph) -> str:
    node_id, name = wanted.targets[0]
    if node_id not in graph:
        why = "that node does not run"
    elif is_link(inputs_of(graph[node_id]).get(name)):
        why = "it is connected"
    else:
        why = "there is no such value"
    return f"extra.linearData: {name} of node {wanted.node} is not in the form: {why}"


def _groups(
    graph: AnyGraph, definitions: NodeDefinitions, fields: Sequence[FormField]
) -> list[InputGroup]:
    """Return the groups to which values, files that a loader reads, or rows can be added."""
    found = []
    shown = {field.node_id for field in fields if not field.advanced}
    for node_id, node in graph.items():
        known = definitions.get(class_of(node))
        inputs = inputs_of(node)
        for name, spec in known.declared(inputs).items() if known and known.varies else ():
            if spec.type not in (AUTOGROW, ROWS):
                continue
            made = (_rows_of if spec.type == ROWS else _grown)(node_id, spec, inputs, definitions)
            if made is None:
                continue
            # A group is shown beside what feeds it, too.
            own = [value for key, value in inputs.items() if key.startswith(f"{name}.")]
            beside = {link[0] for link in own if is_link(link)} | {node_id}
            title = title_of(node) or definitions.title(class_of(node))
            label = f"{title}: {words(name)}"
            advanced = beside.isdisjoint(shown)
            found.append(replace(made, label=label, title=title, advanced=advanced))
    if not found:
        return []
    labels = Counter([*(field.label for field in fields), *(group.label for group in found)])
    return [
        replace(group, label=f"{group.label} (node {group.node_id})")
        if labels[group.label] > 1
        else group
        for group in found
    ]


def _grown(
    node_id: str, spec: Input, inputs: Mapping[str, Any], definitions: NodeDefinitions
) -> InputGroup | None:
    """Return an autogrow group, unless its inputs are neither values nor files."""
    slot = spec.slots[0] if len(spec.slots) == 1 else None
    if slot is None or not (
        _LITERAL.intersection(slot.type.split(",")) or is_loadable(definitions, slot)
    ):
        return None
    names = [child.name for child in spec.replaced.grown]
    present = [own for own in names if own in inputs]
    least = mapping(spec.options.get("template")).get("min")
    least = least if isinstance(least, int) else 1
    free = [own for own in names if own not in present]
    last = present[-1:] if len(present) > least else []
    return InputGroup(
        f"{node_id}.{spec.name}",
        "",
        node_id,
        len(present),
        least,
        len(names),
        {f"{node_id}.{own}": _fresh(slot) for own in free[:1]},
        tuple(f"{node_id}.{own}" for own in last if not isinstance(inputs[own], (list, dict))),
    )


def _rows_of(
    node_id: str, spec: Input, inputs: Mapping[str, Any], definitions: NodeDefinitions
) -> InputGroup | None:
    """Return a group of rows, unless they have no field."""
    least, most, fields = spec.replaced.rows
    if not fields:
        return None
    present = spec.rows_in(inputs)
    beside = spec.rows_beside(inputs)
    following = beside[-1] if len(beside) > len(present) else None
    template = [
        field.copied(key=field.input_name, value=field.fresh)
        for each in spec.row(0).inputs
        if (field := _template_field(node_id, each, f"{spec.name}.0.", definitions)) is not None
    ]
    start = f"{spec.name}.{present[-1]}." if len(present) > least else None
    return InputGroup(
        f"{node_id}.{spec.name}",
        "",
        node_id,
        len(present),
        least,
        most,
        {
            f"{node_id}.{spec.name}.{following}.{field.key}": field.value
            for field in template
            if following is not None
        },
        tuple(f"{node_id}.{own}" for own in inputs if start and own.startswith(start)),
        rows=row_values(spec, inputs),
        row_name=_row_name(spec),
        template=tuple(template),
        flat=len(template) == len(fields) and not any(field.dynamic for field in template),
    )


def _template_field(
    node_id: str, spec: Input, start: str, definitions: NodeDefinitions
) -> FormField | None:
    if spec.type not in _TYPED and not is_loadable(definitions, spec):
        return None
    name = spec.name.removeprefix(start)
    kind = _kind_of(spec.owner.name, name, "", spec) or "text"
    advanced = bool(spec.options.get("advanced"))
    label = words(name)
    node = {"class_type": spec.owner.name}
    return _field(node_id, node, name, kind, "", spec, definitions, label=label, advanced=advanced)


def row_values(group: Input, inputs: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what the rows of a group have, by their indexes and the names of their fields."""
    rows: dict[str, dict[str, Any]] = {str(index): {} for index in group.rows_in(inputs)}
    start = f"{group.name}."
    for name, value in inputs.items():
        index, _, own = name.removeprefix(start).partition(".")
        if name.startswith(start) and index in rows:
            rows[index][own] = value
    return {int(index): row for index, row in rows.items()}


def _fresh(spec: Input) -> Any:
    """Return the value of a new input."""
    default = spec.options.get("default")
    if default is None:
        default = next(iter(spec.choices or ()), None)
    return _FRESH.get(spec.type.split(",")[0], "") if default is None else default


def _make_distinct(fields: Iterable[FormField]) -> None:
    """Add to labels that several fields have what differs: inputs, nodes, or both."""
    alike: dict[str, list[FormField]] = defaultdict(list)
    for field in fields:
        alike[field.label].append(field)
    # whether the inputs of those with a label have different names, and different nodes
    differ = {
        label: (
            len({each.input_name for each in found}) == len(found),
            len({each.node_id for each in found}) == len(found),
        )
        for label, found in alike.items()
        if len(found) > 1
    }
    taken = alike.keys() - differ.keys()
    for field in fields:
        if field.label not in differ:
            continue
        by_name, by_node = differ[field.label]
        name = words(field.input_name) if by_name or not by_node else ""
        node = "" if by_name else f"node {field.node_id}"
        label = f"{field.label} ({name}{', ' if name and node else ''}{node})"
        if label in taken:
            label = f"{field.label} ({field.key})"
        taken.add(label)
        field.label = label


# by the kind of an external input, if the field is of another kind
_KIND_OF_EXTERNAL = {
    "text": "multiline",
    "checkpoint": "combo",
    "lora": "combo",
    "image_alpha": "image",
    "video_path": "video",
    **dict.fromkeys(("face_model", "image_batch", "exr", "file"), "text"),
}
# Options of combos of files to which users can upload (ComfyUI comfy_api/latest/_io.py), and the
# classes for which the Video Helper Suite's script has an upload button (its VHS.core.js, 2025).
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

LOADERS = {
    "IMAGE": ("LoadImage", "image", "image"),
    "VIDEO": ("LoadVideo", "file", "video"),
    "AUDIO": ("LoadAudio", "audio", "audio"),
}
"""By the type of an input that only a link can feed: the class that loads a file for it, the input
of that class that names the file, and the kind of field."""

EXACT_DIGITS = 15
"""How many digits of a float are exact."""

_FIRST_GROUPS, _CHOICES = 3, 6  # of `_rank`: prompts and media; choices
_PLAIN = ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO")
_TYPED = (DYNAMIC_COMBO, *_PLAIN, VIDEO_EDIT)
_STEPS = {"float": 0.01, "int": 1.0, "seed": 1.0}
_SIZES = ("width", "height", "batch_size")
_SAMPLING = ("steps", "cfg", *SEED_NAMES, "sampler_name", "scheduler", "denoise")
_PROMPT_NAME = re.compile(
    r"text|prompt|caption|t5xxl|^clip_[lgh]$|^(positive|negative)$", re.IGNORECASE
)
_FILE_NAME = re.compile(r"\S+\.\w{2,12}")
_IMAGE_NAME = re.compile(r".+\.(png|jpe?g|webp|gif|bmp|tiff?)( \[\w+\])?", re.IGNORECASE)
_PLAIN_TITLES = ("", "CLIP Text Encode (Prompt)")


@dataclass(eq=False)  # not frozen: a large form has thousands, which are made in half the time
class FormField:
    key: str  # the key of ``inputs`` that sets it: an ``input_id`` or ``"<node id>.<input>"``
    # the label that is shown: the one of the workflow's author, or the title of the node and the
    # name of the input
    label: str
    # text, multiline, int, float, bool, combo, color (0xRRGGBB) or seed; or image, video or audio:
    # a file of ComfyUI's input folder; or video_edit, see `video_edit`
    kind: str
    node_id: str
    input_name: str
    value: Any
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    # the choices of a combo; the known files of an image, a video or a sound
    options: list[Any] | None = None
    tooltip: str = ""  # the description of the input, or ``""``
    advanced: bool = False  # whether it is rarely changed
    chosen: bool = False  # whether the author of the workflow chose it for the form
    # whether its kind is not known here: a value that is no text is shown as JSON
    raw: bool = False
    unchosen: bool = False  # whether the author chose others in App mode
    # whether it is a dynamic combo: the chosen option decides which other inputs there are
    dynamic: bool = False
    # keys that are set to the same value, too: a widget of a subgraph may set several inputs
    twins: tuple[str, ...] = ()
    title: str = ""  # the title of the node that shows it, or ``""``
    slider: bool = False  # whether the node class asks for a slider
    # whether the workflow has no value for it, so that each run has to give one
    required: bool = False
    # for options that a route gives: the query of ``node-options``, without the machine
    remote: str = ""
    models: str = ""  # the folder under ``models`` whose files it offers, if that is known
    # of a video_edit: its parts that can be set, and the key of the field with the video, if known
    features: tuple[str, ...] = ()
    video: str = ""

    @property
    def initial(self) -> Any:
        """The value with which a form begins; None if the user has to give one."""
        # This is the value of the workflow. A required input begins with the declared default, and
        # a switch without one is off.
        if self.value is not None or not self.required:
            return self.value
        return False if self.default is None and self.kind == "bool" else self.default

    @property
    def fresh(self) -> Any:
        """The value with which it begins if it is added to a group."""
        if self.kind in MEDIA_KINDS:
            return self.value
        default = next(iter(self.options or ()), None) if self.default is None else self.default
        return _FRESH_OF_KIND.get(self.kind, "") if default is None else default

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key, *self.twins)

    def copied(self, **changes: Any) -> FormField:
        """Return a copy with other facts, as `replace` does in ten times the time."""
        made = object.__new__(FormField)
        made.__dict__.update(self.__dict__, **changes)
        return made

    def lean(self) -> FormField:
        """Return it without what is the default: many copies of it are made in half the time."""
        made = object.__new__(FormField)
        usual, facts = vars(FormField), vars(self).items()
        made.__dict__.update((k, fact) for k, fact in facts if fact is not usual.get(k, facts))
        return made


def ranked_fields(
    graph: AnyGraph, definitions: NodeDefinitions, saved: SavedWorkflow | None
) -> list[FormField]:
    """Return a field for each value that a user may change, the most useful first."""
    # Parameters are those of `workflow_form`, which describes the order.
    roles = _prompt_roles(graph)
    ranked: list[tuple[tuple[int, int, int, int, int], FormField]] = []
    # Those of one class differ only in a few facts. By class and input: one of them, and its name.
    alike: dict[str, dict[str, tuple[FormField, str]]] = defaultdict(dict)
    for position, (node_id, node) in enumerate(graph.items()):
        if is_external_input(node):
            continue
        class_type, inputs = class_of(node), inputs_of(node)
        known = definitions.get(class_type)
        specs = {} if known is None else known.declared(inputs)
        own_title = class_type if known is None else known.title
        title = title_of(node)
        if saved is not None and not title:
            path = saved.path(node_id)
            title = path[-1][0].title if len(path) == node_id.count(":") + 1 else ""
        primitive = class_type.startswith("Primitive")
        shown = shown_title(title or own_title)
        plain = title == own_title or title in _PLAIN_TITLES
        role = roles.get(node_id)
        firsts = alike[class_type]
        # the editor would make these of a new node
        edits = [name for name, each in specs.items() if each.type == VIDEO_EDIT]
        unset = [name for name in edits if name not in inputs and not specs[name].required]
        values = inputs | dict.fromkeys(unset) if unset else inputs
        for place, (name, value) in enumerate(values.items()):
            first = firsts.get(name) if isinstance(value, (str, int, float)) else None
            top = name
            if first is not None:
                like, own_words = first
                key = f"{node_id}.{name}"
                field = like.copied(key=key, node_id=node_id, value=value, title=shown)
            else:
                spec = specs.get(name)
                raw = is_raw(name, specs.get) and not is_link(value)
                kind = "text" if raw else _kind_of(class_type, name, value, spec)
                if kind is None:
                    continue
                # Inputs of a dynamic combo or an autogrow group are placed beside it.
                top = _top_of(name, specs)
                own_words = _words_of(name, specs)
                single = kind == "text" and not raw and not primitive and top == name
                unknown = bool(specs) and top not in specs
                rarely = bool(specs and top in specs and specs[top].options.get("advanced"))
                field = _field(
                    node_id,
                    node,
                    name,
                    kind,
                    shown,
                    spec,
                    definitions,
                    advanced=single or unknown or rarely,
                    raw=raw,
                )
                steady = known is not None and not known.varies and not raw and not field.remote
                if steady and spec is not None and spec.type in _PLAIN:
                    firsts[name] = field.lean(), own_words
            own_role = role if field.kind == "multiline" else None
            if own_role and plain:
                field.label = f"{own_role} prompt".capitalize()
            else:
                field.label = shown if primitive and title else f"{shown}: {own_words}"
            if primitive and not field.advanced:
                group, rank = -1, 0
            else:
                group, rank = _rank(field.kind, name, field.advanced, own_role)
            beside = place
            if top != name:
                beside = list(inputs).index(top) if top in inputs else place
                if not field.advanced and group > _FIRST_GROUPS:
                    group = _CHOICES
            ranked.append(((group, position, rank, beside, place), field))
    ranked.sort(key=lambda item: item[0])
    return [*external_fields(graph, definitions), *(field for _, field in ranked)]


def _with_video(field: FormField, graph: AnyGraph, definitions: NodeDefinitions) -> FormField:
    """Add to the edit of a video which field names the video, unless another edit is between."""
    if field.kind != "video_edit":
        return field
    node = graph[field.node_id]
    own = definitions.declared(class_of(node), inputs_of(node))
    key = _video_in(field.node_id, node, own)
    for name, spec in own.items():
        value = inputs_of(node).get(name)
        if key or spec.type != "VIDEO":
            continue
        if isinstance(value, str):
            key = f"{field.node_id}.{name}"
        elif is_link(value) and value[0] in graph:
            source = graph[value[0]]
            before = definitions.declared(class_of(source), inputs_of(source))
            if is_external_input(source):
                key = inputs_of(source)["input_id"]
            elif not any(
                spec.type == VIDEO_EDIT and changes(inputs_of(source).get(other))
                for other, spec in before.items()
            ):
                key = _video_in(value[0], source, before)
    return field.copied(video=key)


def _video_in(node_id: str, node: Mapping[str, Any], specs: Mapping[str, Input]) -> str:
    """Return the key of the input by which a node loads a video, or ``""``."""
    for name, value in inputs_of(node).items():
        spec = specs.get(name)
        if spec is None or not isinstance(value, str) or spec.type != "COMBO":
            continue
        if _media_kind(class_of(node), name, spec) == "video":
            return f"{node_id}.{name}"
    return ""


def external_fields(graph: AnyGraph, definitions: NodeDefinitions) -> list[FormField]:
    """Return a field for each ``input_id`` of the external-input nodes, in their order."""
    found: dict[str, FormField] = {}
    for node_id, node in graph.items():
        if is_external_input(node) and inputs_of(node)["input_id"] not in found:
            field = _external_field(node_id, node, definitions)
            found[field.key] = field
    return list(found.values())


def field_of(
    node_id: str, node: Mapping[str, Any], name: str, definitions: NodeDefinitions
) -> FormField | None:
    """Return the field of one declared input, for any value; None if it has no field."""
    spec = definitions.declared_input(class_of(node), name, inputs_of(node))
    if spec is None or (spec.type not in _TYPED and not is_loadable(definitions, spec)):
        return None
    # The type of a value decides only if none is declared, so a text is used for all of them.
    kind = _kind_of(class_of(node), name, "", spec)
    if kind is None:
        return None
    title = title_of(node) or definitions.title(class_of(node))
    return _field(node_id, node, name, kind, title, spec, definitions)


def _field(
    node_id: str,
    node: Mapping[str, Any],
    name: str,
    kind: str,
    title: str,
    spec: Input | None,
    definitions: NodeDefinitions,
    *,
    label: str = "",
    advanced: bool = False,
    raw: bool = False,
) -> FormField:
    inputs, remote = inputs_of(node), ""
    if RemoteList.of(spec) is not None:
        facts = {"class_type": class_of(node), "input": name}
        others = deciding(name, definitions.declared(class_of(node), inputs), inputs)
        remote = urlencode({**facts, **({"inputs": json.dumps(others)} if others else {})})
    return FormField(
        f"{node_id}.{name}",
        label or f"{title}: {words(name)}",
        kind,
        node_id,
        name,
        inputs.get(name),
        **_declared(spec, definitions),
        advanced=advanced,
        dynamic=spec is not None and spec.type == DYNAMIC_COMBO,
        title=title,
        raw=raw,
        remote=remote,
        models=(spec.model_folder[1] or "") if spec is not None and kind == "combo" else "",
        features=tuple(features_of(spec.options)) if kind == "video_edit" and spec else (),
    )


def _external_field(
    node_id: str, node: Mapping[str, Any], definitions: NodeDefinitions
) -> FormField:
    class_type, inputs = class_of(node), inputs_of(node)
    kind = _KIND_OF_EXTERNAL.get(KINDS[class_type], KINDS[class_type])
    options = enum_options(inputs) if KINDS[class_type] == "combo" else None
    if KINDS[class_type] in ("checkpoint", "lora"):
        specs = definitions.declared(class_type)
        options = next((spec.choices for spec in specs.values() if spec.choices), None)
    default, has_default = default_of(node)
    return FormField(
        inputs["input_id"],
        text_of(inputs.get("display_name")) or inputs["input_id"],
        "text" if kind == "combo" and not options else kind,
        node_id,
        value_field(class_type),
        default,
        **_numbers(inputs, min="min_value", max="max_value"),
        step=_STEPS.get(kind),
        options=options,
        tooltip=text_of(inputs.get("description")),
        required=kind not in ("text", "multiline", "seed") and not has_default,
    )


def _numbers(options: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return the options that are numbers, by the names of fields; None for each other one."""
    found = {field: options.get(name) for field, name in names.items()}
    return {
        field: value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        for field, value in found.items()
    }


def _kind_of(class_type: str, name: str, value: object, spec: Input | None) -> str | None:
    """Return the kind of field for a value; None for values that a form cannot show."""
    if spec is not None and spec.type == "RESOLUTION_PREVIEW":
        return None  # it only shows something
    if spec is not None and spec.type == VIDEO_EDIT:
        return None if is_link(value) else "video_edit"
    unset = value is None and RemoteList.of(spec) is not None  # as the editor leaves it
    if unset:
        value = ""
    if not isinstance(value, (str, int, float)):
        return None
    seed_or_int = "seed" if name.endswith("seed") else "int"
    if spec is not None and spec.type in _TYPED:
        if spec.type == "INT":
            return "color" if spec.options.get("display") == "color" else seed_or_int
        if spec.type == "STRING":
            return "multiline" if spec.options.get("multiline") else "text"
        if spec.type == "COMBO":
            return _media_kind(class_type, name, spec) or "combo"
        return {DYNAMIC_COMBO: "combo", "FLOAT": "float"}.get(spec.type, "bool")
    if spec is not None and spec.type in LOADERS and isinstance(value, str):
        return LOADERS[spec.type][2]
    if not isinstance(value, str):
        return {bool: "bool", float: "float"}.get(type(value), seed_or_int)
    if class_type.startswith("LoadImage") or _IMAGE_NAME.fullmatch(value):
        return "image" if name == "image" else "text"
    if name in ("sampler_name", "scheduler"):
        return "combo"
    prompt = _PROMPT_NAME.search(name) and not _FILE_NAME.fullmatch(value)
    return "multiline" if prompt or "\n" in value or len(value) > 80 else "text"


def _media_kind(class_type: str, name: str, spec: Input) -> str | None:
    """Return which files a combo offers, if files can be uploaded to it; else None."""
    flagged = (kind for flag, kind in _UPLOADS.items() if spec.options.get(flag))
    return next(flagged, _UPLOADS_OF_CLASS.get((class_type, name)))


def is_loadable(definitions: NodeDefinitions, spec: Input) -> bool:
    """Return whether a file can be put into an input that only a link can feed."""
    return spec.type in LOADERS and LOADERS[spec.type][0] in definitions


def _declared(spec: Input | None, definitions: NodeDefinitions) -> dict[str, Any]:
    if spec is None:
        return {}
    if is_loadable(definitions, spec):
        class_type, file_input, _ = LOADERS[spec.type]
        spec = definitions.declared(class_type).get(file_input, spec)
    return {
        **_numbers(spec.options, min="min", max="max", step="step"),
        "default": spec.options.get("default"),
        "options": spec.choices,
        "tooltip": str(spec.options.get("tooltip") or ""),
        "slider": spec.options.get("display") == "slider",
    }


def _top_of(name: str, specs: Mapping[str, Input]) -> str:
    """Return the dynamic combo or autogrow group that an input belongs to, else the input."""
    dot = name.find(".")
    while dot >= 0:
        spec = specs.get(name[:dot])
        if spec is not None and (spec.newer or spec.type in (DYNAMIC_COMBO, AUTOGROW, ROWS)):
            return name[:dot]
        dot = name.find(".", dot + 1)
    return name


def is_raw(name: str, declared: Callable[[str], Input | None]) -> bool:
    """Return whether the kind of an input, or of one that it belongs to, is not known here."""
    own = declared(name)
    return (own is not None and own.newer) or (
        "." in name and is_raw(name.rpartition(".")[0], declared)
    )


def group_of(name: str, declared: Callable[[str], Input | None]) -> Input | None:
    """Return the autogrow group, or the group of rows, that an input belongs to."""
    dot = name.rfind(".")
    while dot >= 0:
        found = declared(name[:dot])
        if found is not None and found.type in (AUTOGROW, ROWS):
            return found
        dot = name.rfind(".", 0, dot)
    return None


def _words_of(name: str, specs: Mapping[str, Input]) -> str:
    """Return the name of an input for people; that of a field of a row as the editor shows it."""
    group = group_of(name, specs.get) if "." in name else None
    rows = [] if group is None or group.type != ROWS else group.rows_in([name])
    if group is None or not rows:
        return words(name)
    own = name.removeprefix(f"{group.name}.{rows[0]}.")
    return f"{_row_name(group)} #{rows[0] + 1} {words(own)}"


def _row_name(group: Input) -> str:
    return text_of(group.options.get("group_name")) or "Row"


@lru_cache(1024)
def _rank(kind: str, name: str, advanced: bool, role: str | None) -> tuple[int, int]:
    """Return the group of a field in the order, and its position among those of its node."""
    if advanced:
        return 9, 0
    if kind == "multiline":
        return {"positive": 0, "negative": 1}.get(role or "", 2), 0
    if kind in (*MEDIA_KINDS, "color", "video_edit"):
        return 3, int(kind not in MEDIA_KINDS)
    if name in _SIZES:
        return 4, _SIZES.index(name)
    if name in _SAMPLING:
        return 5, _SAMPLING.index(name)
    return {"combo": _CHOICES, "bool": 8}.get(kind, 7), 0


def _prompt_roles(graph: AnyGraph) -> dict[str, str]:
    """Return for each node whether its output reaches an input ``positive`` or ``negative``."""
    # A node that reaches both is ``positive``. The search follows all links upstream. In a node
    # that has inputs of these names itself, such as a ControlNet, it follows only the one of the
    # same name.
    roles: dict[str, str] = {}
    sources = sources_of(graph)
    for role in ("negative", "positive"):
        links = [(node_id, inputs_of(node).get(role)) for node_id, node in graph.items()]
        own = {node_id: [link[0]] for node_id, link in links if link is not None and is_link(link)}
        starts = [source for (source,) in own.values()]
        behind = nodes_behind(starts, {**sources, **own})
        roles.update(dict.fromkeys(behind, role))
    return roles


def can_show(field: FormField, value: Any) -> bool:
    """Return whether a field can show a value: a text, a number, or the edit of a video."""
    if field.kind == "video_edit":
        return isinstance(value, Mapping)
    if field.raw:
        return not is_link(value)
    return isinstance(value, (str, int, float))


def page_value(field: FormField, value: Any) -> Any:
    """Return a value as the page takes it: choices and booleans unchanged, all else as text."""
    # No value at all is an empty text.
    if field.raw:
        value = unwrapped(value)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if field.kind == "bool":
        return bool(value)
    if field.options or (field.remote and value is not None):
        return value
    if value is None:
        return ""
    if field.kind == "video_edit":
        return edit_text(value) if isinstance(value, Mapping) else str(value)
    if field.kind in {"int", "seed", "color"} and isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.kind == "color" and isinstance(value, int) and 0 <= value <= 0xFFFFFF:
        return f"#{value:06x}"
    if isinstance(value, float):
        value = float(f"{value:.{EXACT_DIGITS}g}")  # without the error of binary fractions
    return str(value)


def above(key: str) -> Iterator[str]:
    """Yield what is before each dot of a key: what it may be within."""
    dot = key.find(".")
    while dot >= 0:
        yield key[:dot]
        dot = key.find(".", dot + 1)


def words(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


MAX_INPUTS = 1000
"""The most inputs of an app that are read."""

MAX_WARNINGS = 20
"""The most entries with errors that have a warning each."""

_TYPES = {
    **dict.fromkeys(("int", "seed", "color"), "INT"),
    **dict.fromkeys(("text", "multiline"), "STRING"),
    "float": "FLOAT",
    "bool": "BOOLEAN",
}
_MAX_DEPTH = 50
_MAX_TARGETS = 1000
_MAX_STEPS = 100_000
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_WIDGET_ID = re.compile(rf"{_UUID}:([^:]+):([^:]+)")
_LOCATOR = re.compile(rf"{_UUID}:([^:]+)")


@dataclass(frozen=True)
class ChosenInput:
    """An input that the author of a workflow chose for its form."""

    # the inputs of the API graph that it sets, in the order in which the graph is followed
    targets: tuple[Target, ...]
    title: str  # the title of the node that shows it, or ``""``
    name: str  # the name of the widget
    label: str  # the label that the author gave it, or ``""``
    node: str  # the name of the node in messages


@dataclass(frozen=True)
class _Place:
    """A node, its graph, and the prefix of its id in API format."""

    node: SavedNode
    graph: SavedGraph
    prefix: str = ""

    @property
    def id(self) -> str:
        return f"{self.prefix}{self.node.id}"


class AuthorForm:
    """The inputs and outputs that the author of a workflow chose."""

    def __init__(self, ui: AnySaved) -> None:
        self._saved = SavedWorkflow.of(ui)
        self._subgraphs = self._saved.subgraphs
        self._inner: dict[str, list[_Place]] | None = None
        self._widgets: dict[Target, tuple[SavedNode | None, str, int]] = {}
        self._steps = 0
        self.inputs: list[ChosenInput] = []  # in the author's order
        self._entries: list[Any] = []  # those of ``linearData`` that name them
        # ids of the nodes whose outputs are shown, in the author's order; empty for all
        self.outputs: list[str] = []
        # a sentence for each entry of ``linearData`` that is invalid
        self.warnings: list[str] = []
        data = self._saved.extra.get("linearData")
        if data is not None:
            self._read_app(data)
        self.app = bool(self.inputs)  # whether they are of App mode, or the promoted widgets
        if not self.app:
            for node in self._saved.root.every:
                self.inputs.extend(self._promoted(_Place(node, self._saved.root)))
        more = len(self.warnings) - MAX_WARNINGS
        if more > 0:
            self.warnings[MAX_WARNINGS:] = [f"extra.linearData: {more} more like these"]

    # -- App mode ------------------------------------------------------------------------------

    def _read_app(self, data: object) -> None:
        """Read the inputs and outputs of ``linearData``."""
        if not isinstance(data, Mapping):
            self.warnings.append("extra.linearData is ignored: it is not an object")
            return
        for number, entry in enumerate(self._list(data, "inputs")):
            found = self._app_input(entry)
            if isinstance(found, str):
                self.warnings.append(f"extra.linearData.inputs[{number}] is ignored: {found}")
            elif found not in self.inputs:
                self.inputs.append(found)
                self._entries.append(entry)
        for number, entry in enumerate(self._list(data, "outputs")):
            place = self._find(entry) if _is_id(entry) else None
            if place is None:
                no_node, no_id = "the workflow has no such node", "it is not the id of a node"
                what = no_node if _is_id(entry) else no_id
                self.warnings.append(f"extra.linearData.outputs[{number}] is ignored: {what}")
            elif place.id not in self.outputs:
                self.outputs.append(place.id)

    def _list(self, data: Mapping[str, Any], key: str) -> list[Any]:
        value = data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.warnings.append(f"extra.linearData.{key} is ignored: it is not a list")
            return []
        if len(value) > MAX_INPUTS:
            self.warnings.append(f"extra.linearData.{key}: only the first {MAX_INPUTS} are read")
        return value[:MAX_INPUTS]

    def _app_input(self, entry: object) -> ChosenInput | str:
        """Return an input of ``linearData``, or the reason why it is invalid."""
        owner, name = entry[:2] if isinstance(entry, list) and len(entry) >= 2 else (None, None)
        if not _is_id(owner) or not isinstance(name, str):
            return "it is not a pair of a node's id and the name of a widget"
        # Newer editors write "<graph>:<node>:<widget>", with the parts encoded.
        full = _WIDGET_ID.fullmatch(owner) if isinstance(owner, str) else None
        if full is not None:
            owner, name = unquote(full[1]), unquote(full[2])
        place = self._find(owner)
        if place is None:
            return self._legacy(str(owner), name)
        return self._chosen(place, name) or self._lacks(place, name)

    def _find(self, owner: object) -> _Place | None:
        """Find a node of the workflow by its id, or by a path such as ``"12:3"``."""
        text = str(owner)
        located = _LOCATOR.fullmatch(text)
        text = unquote(located[1]) if located is not None else text
        path = self._saved.path(text)
        if len(path) != text.count(":") + 1:
            return None
        return _Place(*path[-1], text[: text.rfind(":") + 1])

    def _lacks(self, place: _Place, name: str) -> str:
        label = self._saved.label(place.node, place.graph)
        return f"node {label} has no widget {_brief(name)}"

    def _legacy(self, owner: str, name: str) -> ChosenInput | str:
        """Read an entry that names a node inside a subgraph by its id there."""
        # Editors before 1.49 saved this for promoted widgets, which the subgraph's node shows.
        places = self._inside().get(owner, [])
        if not places:
            return f"the workflow has no node {_brief(owner)}"
        if len(places) > 1:
            return f"there are several nodes {_brief(owner)}"
        (inner,) = places
        wanted = self._targets(inner, name, 0)
        if not wanted:
            return self._lacks(inner, name)
        outer = self._find(inner.prefix.rstrip(":"))
        for promoted in self._promoted(outer) if outer is not None else ():
            if set(wanted) <= set(promoted.targets):
                return promoted
        return self._chosen(inner, name) or self._lacks(inner, name)

    def _inside(self) -> dict[str, list[_Place]]:
        """Return the nodes inside the subgraph nodes of the workflow, by their ids there."""
        if self._inner is None:
            self._inner = {}
            for outer in self._saved.root.every:
                if graph := self._subgraphs.get(outer.type):
                    for node in graph.every:
                        place = _Place(node, graph, f"{outer.id}:")
                        self._inner.setdefault(node.id, []).append(place)
        return self._inner

    def can_choose(self, target: Target) -> bool:
        """Return whether App mode can have an input of the API graph.

        It shows only widgets of the workflow's own nodes, and those that are promoted to the nodes
        of subgraphs.
        """
        node, _, depth = self._widget(target)
        return node is not None and not depth

    def entry(self, target: Target) -> list[Any] | None:
        """Return the entry of ``linearData`` for an input of the API graph, if it can have one."""
        node, name, _ = self._widget(target)
        if node is None or not self.can_choose(target):
            return None
        slot = node.slot(name)
        return [node.raw.get("id"), (slot and slot.widget) or name]

    def label(self, target: Target) -> str:
        """Return the label that the author gave an input of the API graph, or ``""``."""
        node, name, _ = self._widget(target)
        if node is None:
            return ""
        slot = node.slot(name)
        own = "" if slot is None or slot.label == name else slot.label
        return own or _own_title(node)

    def _widget(self, target: Target) -> tuple[SavedNode | None, str, int]:
        """Return the node with the widget that sets an input, the widget, and how deep it is."""
        found = self._widgets.get(target)
        if found is None:
            found = self._widgets[target] = self._find_widget(*target)
        return found

    def _find_widget(self, node_id: str, name: str) -> tuple[SavedNode | None, str, int]:
        path = self._saved.path(node_id)
        if len(path) != node_id.count(":") + 1:
            return None, name, 0
        (node, graph), depth = path[-1], len(path) - 1
        for _ in range(_MAX_DEPTH):
            slot = node.slot(name)
            link = graph.source(slot)
            if link is None:
                if not depth or (node.id, name) not in path[depth - 1][0].proxies.values():
                    return node, name, depth
            elif link.origin != FROM_OUTSIDE:
                origin = graph.nodes.get(link.origin)
                if origin is None or origin.type not in (PRIMITIVE, REROUTE):
                    break
                fed = origin.inputs[0].name if origin.inputs else ""
                node, name = origin, "value" if origin.type == PRIMITIVE else fed
                continue
            elif depth and 0 <= link.origin_slot < len(graph.inputs):
                name = graph.inputs[link.origin_slot].name
            else:
                break
            depth -= 1
            node, graph = path[depth]
        return None, name, depth

    def choose(
        self,
        front: Iterable[tuple[FormField, str | None]],
        form: WorkflowForm,
        outputs: Sequence[str],
    ) -> dict[str, Any]:
        """Return the workflow with these inputs in front of its form, and with these labels.

        An empty label removes the author's. Entries of inputs that the form cannot show now, such
        as those of muted nodes, stay behind the others. If the author has chosen no outputs, all
        are chosen, since App mode cannot be opened without one.
        """
        shown = {(field.node_id, field.input_name) for field in form.fields}
        known = list(zip(self.inputs, self._entries, strict=True)) if self.app else []
        root = self._saved.root.raw
        nodes, entries = list(sequence(root.get("nodes"))), []
        for field, label in front:
            target = field.node_id, field.input_name
            entry = next((raw for each, raw in known if target in each.targets), None)
            entry = entry or self.entry(target)
            if entry is None:
                problem = f"{field.label} is inside a subgraph and not promoted to its node"
                raise InvalidRequestError.of_field("front", problem)
            entries.append(entry)
            if label is not None:
                self._set_label(nodes, self.entry(target), label, field)
        entries += [raw for each, raw in known if shown.isdisjoint(each.targets)]
        extra = dict(self._saved.extra)
        data = {**mapping(extra.pop("linearData", None)), "inputs": entries}
        if not self.outputs:
            data["outputs"] = [raw["id"] for raw in nodes if _id_of(raw) in outputs]
        if entries or self.outputs not in ([], list(outputs)):
            extra["linearData"] = data
        return {**root, "nodes": nodes, "extra": extra}

    def _set_label(
        self, nodes: list[Any], entry: list[Any] | None, label: str, field: FormField
    ) -> None:
        """Give a widget a label where the editor keeps it: at the input of its node."""
        place, name = -1, ""
        if entry is not None:
            place, name = [_id_of(raw) for raw in nodes].index(str(entry[0])), entry[1]
        raw = {} if entry is None else nodes[place]
        slots = [mapping(slot) for slot in sequence(raw.get("inputs"))]
        names = [(slot.get("name"), mapping(slot.get("widget")).get("name")) for slot in slots]
        number = next((number for number, own in enumerate(names) if name in own), len(slots))
        if number == len(slots):  # saved before widgets had inputs
            if entry is None or raw.get("type") in (PRIMITIVE, *self._subgraphs):
                problem = f"{field.label} cannot have another label"
                raise InvalidRequestError.of_field("front", problem)
            kind = _TYPES.get(field.kind, "COMBO")
            slots.append({"name": name, "type": kind, "widget": {"name": name}, "link": None})
        slots[number] = {k: v for k, v in slots[number].items() if k != "label"}
        if label:
            slots[number] = {**slots[number], "label": label}
        nodes[place] = {**raw, "inputs": slots}

    # -- promoted widgets ----------------------------------------------------------------------

    def _promoted(self, host: _Place) -> Iterator[ChosenInput]:
        """Yield the widgets of a subgraph node, first those that the author put in order."""
        graph = self._subgraphs.get(host.node.type)
        if graph is None:
            return
        names = [*host.node.proxies.values(), *(("-1", port.name) for port in graph.inputs)]
        seen: set[Target] = set()
        for owner, name in names[:MAX_INPUTS]:
            chosen = None
            if owner == "-1":
                chosen = self._chosen(host, name)
            elif owner in graph.nodes:
                inner = _Place(graph.nodes[owner], graph, f"{host.id}:")
                chosen = self._chosen(inner, name, host)
            if chosen is not None and not seen.issuperset(chosen.targets):
                seen.update(chosen.targets)
                yield chosen

    def _chosen(self, place: _Place, name: str, host: _Place | None = None) -> ChosenInput | None:
        """Return a widget of a node; one that only the node of its subgraph shows has a host."""
        targets = self._targets(place, name, 0)
        if not targets:
            return None
        graph = None if host else self._subgraphs.get(place.node.type)
        ports = [] if graph is None else graph.inputs
        label = _label(place.node.inputs, name) or _label(ports, name) or _own_title(place.node)
        shown_on = host or place
        node = self._saved.label(shown_on.node, shown_on.graph)
        return ChosenInput(tuple(targets), shown_on.node.title, name, label, node)

    def _targets(self, place: _Place, name: str, depth: int) -> list[Target]:
        """Return the inputs of the API graph that a widget sets."""
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return []
        graph = self._subgraphs.get(place.node.type)
        if graph is not None:
            prefix = f"{place.id}:"
            ports = [port.name for port in graph.inputs]
            if name in ports:
                ends = graph.targets.get((FROM_OUTSIDE, ports.index(name)), [])
                return self._behind(graph, prefix, ends, depth)
            for owner, widget in place.node.proxies.values():
                inner = graph.nodes.get(owner)
                if inner is not None and name in (widget, f"{owner}: {widget}"):
                    return self._targets(_Place(inner, graph, prefix), widget, depth + 1)
            return []
        if place.node.type in (PRIMITIVE, REROUTE):
            ends = place.graph.targets.get((place.node.id, 0), [])
            return self._behind(place.graph, place.prefix, ends, depth)
        return [(place.id, name)]

    def _behind(
        self, graph: SavedGraph, prefix: str, ends: list[tuple[str, int]], depth: int
    ) -> list[Target]:
        found: dict[Target, None] = {}
        for node_id, number in ends[:_MAX_TARGETS]:
            node = graph.nodes.get(node_id)
            if node is None or not 0 <= number < len(node.inputs):
                continue
            name = node.inputs[number].name
            targets = self._targets(_Place(node, graph, prefix), name, depth + 1)
            found.update(dict.fromkeys(targets))
            if len(found) >= _MAX_TARGETS:
                break
        return list(found)


def _label(slots: Iterable[Slot | Port], name: str) -> str:
    """Return the label that the author gave an input of a node or of a subgraph."""
    for slot in slots:
        if name in (slot.name, slot.widget if isinstance(slot, Slot) else None):
            return "" if slot.label == name else slot.label
    return ""


def _own_title(node: SavedNode) -> str:
    """Return the title of a primitive node, which is the label of its value, and else ``""``."""
    return node.title if node.type == PRIMITIVE else ""


def _id_of(raw: object) -> str:
    return SavedNode(mapping(raw)).id


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
