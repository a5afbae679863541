"""The inputs of a graph as fields of a form: kinds, labels, ranges, and their order."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .external import ExternalInput, external_inputs, value_field
from .formats import (
    AUTOGROW,
    DYNAMIC_COMBO,
    Definitions,
    InputSpec,
    UIGraph,
    UINodes,
    class_of,
    declared_inputs,
    inputs_of,
    is_link,
    shown_title,
    title_of,
)
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
_TYPED = (DYNAMIC_COMBO, "INT", "FLOAT", "BOOLEAN", "STRING", "COMBO")
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
class FormField:
    """One field of the form of a workflow."""

    key: str  # the key of ``inputs`` that sets it: an ``input_id`` or ``"<node id>.<input>"``
    # the label that is shown: the one of the workflow's author, or the title of the node and the
    # name of the input
    label: str
    # text, multiline, int, float, bool, combo, color (0xRRGGBB) or seed; or image, video or audio:
    # a file of ComfyUI's input folder
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
    # whether it is a dynamic combo: the chosen option decides which other inputs there are
    dynamic: bool = False
    # keys that are set to the same value, too: a widget of a subgraph may set several inputs
    twins: tuple[str, ...] = ()
    title: str = ""  # the title of the node that shows it, or ``""``
    slider: bool = False  # whether the node class asks for a slider
    # whether the workflow has no value for it, so that each run has to give one
    required: bool = False

    @property
    def initial(self) -> Any:
        """The value with which a form begins; None if the user has to give one.

        This is the value of the workflow. A required input begins with the declared default, and a
        switch without one is off.
        """
        if self.value is not None or not self.required:
            return self.value
        return False if self.default is None and self.kind == "bool" else self.default

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are set to its value."""
        return (self.key, *self.twins)


def ranked_fields(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None,
    ui: UIGraph | None,
) -> list[FormField]:
    """Return a field for each value that a user may change, the most useful first.

    Parameters are those of `form.input_form`, which describes the order.
    """
    external_ids = {external.node_id for external in external_inputs(graph)}
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
        shown = shown_title(title or display_name(definitions, node))
        for name, value in inputs.items():
            kind = _kind_of(class_of(node), name, value, specs.get(name))
            if kind is None:
                continue
            # Inputs of a dynamic combo or an autogrow group are placed beside it.
            top = _top_of(name, specs)
            role = roles.get(node_id) if kind == "multiline" else None
            plain = title in (*_PLAIN_TITLES, display_name(definitions, node))
            label = shown if primitive and title else f"{shown}: {words(name)}"
            single = kind == "text" and not primitive and top == name
            field = FormField(
                f"{node_id}.{name}",
                f"{role} prompt".capitalize() if role and plain else label,
                kind,
                node_id,
                name,
                value,
                **_declared(specs.get(name), definitions),
                advanced=single or _is_advanced(specs, top),
                dynamic=name in specs and specs[name].type == DYNAMIC_COMBO,
                title=shown,
            )
            group, rank = (-1, 0) if primitive and not field.advanced else _rank(field, role)
            if top != name and not field.advanced and group > _FIRST_GROUPS:
                group = _CHOICES
            anchor = places.get(top, places[name])
            ranked.append(((group, position, rank, anchor, places[name]), field))
    ranked.sort(key=lambda item: item[0])
    return [*external_fields(graph, definitions), *(field for _, field in ranked)]


def external_fields(
    graph: Mapping[str, Mapping[str, Any]], definitions: Definitions | None
) -> list[FormField]:
    """Return a field for each ``input_id`` of the external-input nodes, in their order."""
    found: dict[str, FormField] = {}
    for external in external_inputs(graph):
        if external.input_id not in found:
            found[external.input_id] = _external_field(external, definitions)
    return list(found.values())


def missing_fields(
    graph: Mapping[str, Mapping[str, Any]], definitions: Definitions | None
) -> list[FormField]:
    """Return a field for each input that a node class requires and its node does not have.

    Only inputs whose values users can type or upload; others need a link.
    """
    fields = []
    for node_id, node in graph.items():
        definition = (definitions or {}).get(class_of(node))
        declared = definition.get("input") if isinstance(definition, Mapping) else None
        needed = declared.get("required") if isinstance(declared, Mapping) else None
        for name in needed if isinstance(needed, Mapping) else ():
            if name not in inputs_of(node):
                field = field_of(node_id, node, name, definitions)
                if field is not None:
                    fields.append(replace(field, required=True))
    return fields


def field_of(
    node_id: str, node: Mapping[str, Any], name: str, definitions: Definitions | None
) -> FormField | None:
    """Return the field of one declared input, for any value; None if it has no field."""
    specs = declared_inputs(definitions, class_of(node), inputs_of(node))
    if name not in specs:
        return None
    if specs[name].type not in _TYPED and not is_loadable(definitions, specs[name]):
        return None
    # The type of a value decides only if none is declared, so a text is used for all of them.
    kind = _kind_of(class_of(node), name, "", specs[name])
    if kind is None:
        return None
    title = title_of(node) or display_name(definitions, node)
    return FormField(
        f"{node_id}.{name}",
        f"{title}: {words(name)}",
        kind,
        node_id,
        name,
        inputs_of(node).get(name),
        **_declared(specs[name], definitions),
        dynamic=specs[name].type == DYNAMIC_COMBO,
        title=title,
    )


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
        required=kind not in ("text", "multiline", "seed") and not external.has_default,
    )


def _kind_of(class_type: str, name: str, value: object, spec: InputSpec | None) -> str | None:
    """Return the kind of field for a value; None for values that a form cannot show."""
    if not isinstance(value, (str, int, float)):
        return None
    if spec is not None and spec.type == DYNAMIC_COMBO:
        return "combo"
    if spec is not None and spec.type in _TYPED:
        if spec.type == "INT" and spec.options.get("display") == "color":
            return "color"
        if spec.type == "INT":
            return "seed" if name.endswith("seed") else "int"
        if spec.type == "STRING":
            return "multiline" if spec.options.get("multiline") else "text"
        if spec.type == "COMBO":
            return _media_kind(class_type, name, spec) or "combo"
        return "float" if spec.type == "FLOAT" else "bool"
    if spec is not None and spec.type in LOADERS and isinstance(value, str):
        return LOADERS[spec.type][2]
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
    """Return which files a combo offers, if files can be uploaded to it; else None."""
    flagged = (kind for flag, kind in _UPLOADS.items() if spec.options.get(flag))
    return next(flagged, _UPLOADS_OF_CLASS.get((class_type, name)))


def is_loadable(definitions: Definitions | None, spec: InputSpec) -> bool:
    """Return whether a file can be put into an input that only a link can feed."""
    return spec.type in LOADERS and LOADERS[spec.type][0] in (definitions or {})


def _declared(spec: InputSpec | None, definitions: Definitions | None) -> dict[str, Any]:
    if spec is None:
        return {}
    if is_loadable(definitions, spec):
        class_type, file_input, _ = LOADERS[spec.type]
        spec = declared_inputs(definitions, class_type).get(file_input, spec)
    numbers = {name: spec.options.get(name) for name in ("min", "max", "step")}
    return {
        **{n: v if isinstance(v, (int, float)) else None for n, v in numbers.items()},
        "default": spec.options.get("default"),
        "options": spec.choices,
        "tooltip": str(spec.options.get("tooltip") or ""),
        "slider": spec.options.get("display") == "slider",
    }


def _top_of(name: str, specs: Mapping[str, InputSpec]) -> str:
    """Return the dynamic combo or autogrow group that an input belongs to, else the input."""
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
    """Return the group of a field in the order, and its position among those of its node."""
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
    """Return for each node whether its output reaches an input ``positive`` or ``negative``.

    A node that reaches both is ``positive``. The search follows all links upstream. In a node that
    has inputs of these names itself, such as a ControlNet, it follows only the one of the same
    name.
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


def display_name(definitions: Definitions | None, node: Mapping[str, Any]) -> str:
    """Return the name that ComfyUI's editor shows for the class of a node."""
    definition = (definitions or {}).get(class_of(node))
    name = definition.get("display_name") if isinstance(definition, Mapping) else None
    return name if isinstance(name, str) and name else class_of(node)


def _ui_title(nodes: UINodes | None, node_id: str) -> str:
    path = nodes.path(node_id) if nodes else []
    title = path[-1].node.get("title") if len(path) == node_id.count(":") + 1 else None
    return title if isinstance(title, str) else ""


def page_value(field: FormField, value: Any) -> Any:
    """Return a value as the page takes it: choices and booleans unchanged, all else as text.

    No value at all is an empty text.
    """
    if field.kind == "bool":
        return bool(value)
    if field.options:
        return value
    if value is None:
        return ""
    if field.kind in {"int", "seed", "color"} and isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.kind == "color" and isinstance(value, int) and 0 <= value <= 0xFFFFFF:
        return f"#{value:06x}"
    if isinstance(value, float):
        value = float(f"{value:.{EXACT_DIGITS}g}")  # without the error of binary fractions
    return str(value)


def words(name: str) -> str:
    """Return the name of an input with spaces, for a label."""
    return name.replace("_", " ").replace(".", ": ")
