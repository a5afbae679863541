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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UnknownInputError
from .external import (
    EXTERNAL_PREFIX,
    ExternalInput,
    Target,
    external_inputs,
    external_values,
    value_field,
)
from .formats import (
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
# What a choice of files says of itself where files can be added to it (ComfyUI 0.3.75
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
        declares but the graph leaves out.

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
    names = _Names(graph, definitions)
    given: dict[Target, str] = {}
    unknown: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    for key, value in inputs.items():
        for node_id in names.external.get(key, ()):
            for name, stored in external_values(class_of(graph[node_id]), value):
                result[node_id]["inputs"][name] = stored
                given[node_id, name] = key
        if key in names.external:
            continue
        targets = names.find(key)
        if len(targets) != 1:
            unknown[key] = [f"{i}.{n}" for i, n in targets] or names.close_to(key)
            ambiguous.update([key] if targets else [])
            continue
        ((node_id, name),) = targets
        node = result[node_id]
        node["inputs"] = {**inputs_of(node), name: stored_value(value, graph)}
        given[node_id, name] = key
    if unknown and strict:
        raise UnknownInputError(
            "; ".join(_complaint(key, unknown[key], key in ambiguous) for key in unknown),
            details={"field": f"inputs.{next(iter(unknown))}", "unknown": unknown},
        )
    return AppliedInputs(result, given, unknown)


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


def input_form(
    graph: Mapping[str, Mapping[str, Any]],
    definitions: Definitions | None = None,
    ui: UIGraph | None = None,
) -> list[FormField]:
    """List what a user may want to change, the most likely first.

    External inputs come first, as the author of the workflow chose them, then primitive nodes,
    which stand in a graph for the same reason; then prompts (positive, negative, other texts),
    pictures, videos, sounds, colours, sizes, sampling, choices, numbers, switches; last and
    ``advanced`` single-line texts and what the definitions call advanced or do not know.

    Parameters
    ----------
    graph : Graph
        API format.
    definitions : dict, optional
        ComfyUI's ``object_info``. Types, ranges, choices and tooltips come from it; without it,
        kinds are guessed from names and values.
    ui : dict, optional
        The workflow in UI format, for titles that the graph lacks.

    Returns
    -------
    list of FormField
        Literal inputs only: what is linked is decided elsewhere.
    """
    externals = external_inputs(graph)
    external_ids = {external.node_id for external in externals}
    by_input_id = {external.input_id: external for external in reversed(externals)}
    roles = _prompt_roles(graph)
    ui_nodes = UINodes(ui) if ui is not None else None
    ranked: list[tuple[tuple[int, int, int], FormField]] = []
    for position, (node_id, node) in enumerate(graph.items()):
        if node_id in external_ids:
            continue
        specs = declared_inputs(definitions, class_of(node), inputs_of(node))
        title = title_of(node) or _ui_title(ui_nodes, node_id)
        primitive = class_of(node).startswith("Primitive")
        shown = title or _display_name(definitions, node)
        for name, value in inputs_of(node).items():
            kind = _kind_of(class_of(node), name, value, specs.get(name))
            if kind is None:
                continue
            role = roles.get(node_id) if kind == "multiline" else None
            plain = title in (*_PLAIN_TITLES, _display_name(definitions, node))
            label = shown if primitive and title else f"{shown}: {_words(name)}"
            field = FormField(
                f"{node_id}.{name}",
                f"{role} prompt".capitalize() if role and plain else label,
                kind,
                node_id,
                name,
                value,
                **_declared(specs.get(name)),
                advanced=(kind == "text" and not primitive) or _is_advanced(specs, name),
            )
            group, rank = (-1, 0) if primitive and not field.advanced else _rank(field, role)
            ranked.append(((group, position, rank), field))
    ranked.sort(key=lambda item: item[0])
    fields = [_external_field(e, definitions) for e in externals if by_input_id[e.input_id] is e]
    return _distinct([*fields, *(field for _, field in ranked)])


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
    return {"combo": 6, "bool": 8}.get(field.kind, 7), 0


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
    return name.replace("_", " ")


def _distinct(fields: Sequence[FormField]) -> list[FormField]:
    """Name the node where two fields would have the same label."""
    labels = Counter(field.label for field in fields)
    return [
        replace(field, label=f"{field.label} (node {field.node_id})")
        if labels[field.label] > 1
        else field
        for field in fields
    ]
