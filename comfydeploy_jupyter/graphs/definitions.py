"""The node classes of a ComfyUI, read from its ``object_info``: the one place that reads it.

Each declared input is read once, as an `Input`; what it is for (ComfyUI's check of a prompt, the
widgets of the editor, a form) is asked of the `NodeClass` that has it. `NodeDefinitions` reads each
class when it is first used, since the JSON may have many megabytes.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import compress
from typing import Any, Final, TypeAlias

from ..errors import InvalidRequestError
from .formats import (
    class_of,
    inputs_of,
    is_link,
    mapping,
    objects,
    sequence,
    unwrapped,
)
from .outline import node_names
from .versions import BUNDLED, Behaviour, behaviour_of


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""No value; JSON's null is a value."""

DYNAMIC_COMBO: Final = "COMFY_DYNAMICCOMBO_V3"
"""The type of a combo whose options have additional inputs, ``"<combo>.<name>"``."""

AUTOGROW: Final = "COMFY_AUTOGROW_V3"
"""The type of a group to which inputs can be added, ``"<group>.<name>"``."""

ROWS: Final = "COMFY_DYNAMICGROUP_V3"
"""The type of a group of rows, each with the same fields, ``"<group>.<index>.<field>"``."""

_DYNAMIC_SLOT = "COMFY_DYNAMICSLOT_V3"
_MATCH = "COMFY_MATCHTYPE_V3"
_NEWER = re.compile(r"COMFY_\w+_V\d+", re.ASCII)  # a kind of input of ComfyUI itself

MAX_GROWN = 100
"""The most inputs of an autogrow group, as in ComfyUI."""

MAX_NESTED = 100
"""The most levels of nested dynamic inputs that are checked."""

_MAX_DEPTH = 16  # levels of nested dynamic inputs in editors and forms
_MAX_WIDGETS = 10_000
_MAX_LISTED = 50  # options; if there are more, they are looked up in a set
_MAX_SEARCHED = 10_000  # options that are searched for the names of model files
_INDEX = re.compile("0|[1-9][0-9]*")  # of a row, as ComfyUI writes it
_MAX_ROWS = 1000  # rows of a group that are read from a saved workflow
_DIGITS = 9  # of such an index; more are more than any group has
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}

# -- files of models ---------------------------------------------------------------------------

SUFFIXES = (
    *(".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"),
    *(".gguf", ".onnx"),
)
_FOLDERS: Mapping[str, str] = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "existing_lora": "loras",
    "vae_name": "vae",
    "unet_name": "diffusion_models",
    **{f"clip_name{number}": "text_encoders" for number in ("", 1, 2, 3, 4)},
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders",
    "config_name": "configs",
}
_FOLDERS_OF_CLASS: Mapping[tuple[str, str], str] = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("ModelPatchLoader", "name"): "model_patches",
    ("DiffusersLoader", "model_path"): "diffusers",
}


def model_folder(class_type: str, name: str, options: Sequence[object]) -> tuple[bool, str | None]:
    """Return whether a combo offers model files, and in which folder of ``models`` they are."""
    # Source: the loaders of ComfyUI. A combo of another node offers model files if an option has
    # the suffix of one; the folder is known only if the input has the name that ComfyUI's loaders
    # use.
    folder = _FOLDERS_OF_CLASS.get((class_type, name)) or _FOLDERS.get(name)
    if folder is not None:
        return True, folder
    return any(isinstance(o, str) and o.lower().endswith(SUFFIXES) for o in options), None


# -- declared inputs ---------------------------------------------------------------------------


class DynamicInputError(Exception):
    """A node has no valid set of dynamic inputs: ``invalid_dynamic_input``, for an input."""

    def __init__(self, name: str, details: str) -> None:
        super().__init__(details)
        self.name = name


class Input:
    """One declared input of a node class, of an option of a dynamic combo, or of a group."""

    # The only place that reads the declaration ``[type or list of options, {option: value}]``.

    # what the check of a prompt reads for each value
    __slots__ = (
        "__dict__",
        "_offered",
        "bounded",
        "convert",
        "name",
        "number",
        "required",
        "sound",
    )

    def __init__(self, name: str, definition: Any, required: bool, owner: NodeClass) -> None:
        self.name = name  # with the names of the combos or the group that it belongs to
        self.definition = definition
        self.required = required
        self.owner = owner
        listed = isinstance(definition, (list, tuple))
        head = definition[0] if listed and definition else definition
        tail = definition[1] if listed and len(definition) > 1 else None
        self.type = head if isinstance(head, str) else "COMBO" if isinstance(head, list) else "*"
        self.options: Mapping[str, Any] = tail if isinstance(tail, Mapping) else {}
        self.dynamic = self.type in _DYNAMIC and listed
        # whether a newer ComfyUI has this kind: what it does to a prompt is not known
        self.newer = is_newer(self.type)
        # type and options as ComfyUI's check reads them
        self.raw_type: Any = None
        self.extra: Any = {}
        try:
            self.raw_type, self.extra = self.read()
            self.sound = True
        except Exception:  # raised again when a prompt uses the input
            self.sound = False
        self._read_check(owner.behaviour)

    @property
    def config(self) -> list[Any]:
        """The declaration as ComfyUI's errors show it."""
        return [self.raw_type, self.extra]

    def _read_check(self, behaviour: Behaviour) -> None:
        extra = self.extra
        plain = isinstance(extra, dict)
        self.convert = _CONVERSIONS.get(self.raw_type) if isinstance(self.raw_type, str) else None
        self.bounded = not plain or "min" in extra or "max" in extra
        # the list of values of which a combo must be one; None: any
        self.refused_unless: list[Any] | None = None
        self.checked = True  # whether ComfyUI refuses other values
        if isinstance(self.raw_type, list):
            self.refused_unless = self.raw_type
        elif self.raw_type == "COMBO" and plain:
            self.checked = behaviour.checks_v3_options
            remote = extra.get("remote_combo") is not None  # a route gives its options
            options = extra.get("options", [] if self.checked else None) if not remote else None
            self.refused_unless = options if isinstance(options, list) else None
        # whether a value may be a list of several choices
        self.several = self.checked and plain and bool(extra.get("multiselect"))
        self._offered: list[Any] | frozenset[Any] | None = self.refused_unless
        self.number: Any = None  # int or float, if its bounds can be compared quickly
        if plain and (self.convert is int or self.convert is float):
            self.low, self.high = extra.get("min", -math.inf), extra.get("max", math.inf)
            if isinstance(self.low, (int, float)) and isinstance(self.high, (int, float)):
                self.number = self.convert

    def read(self) -> tuple[Any, Any]:
        """Return type and options of the definition; raise what ComfyUI raises."""
        extra = self.definition[1] if len(self.definition) > 1 else {}
        if extra is None:
            raise AssertionError
        return self.definition[0], extra

    def is_certainly_valid(self, value: Any) -> bool:
        """Return whether a value is certainly valid; a quick check for common values."""
        if type(value) is self.number:
            return bool(self.low <= value <= self.high)
        if type(value) is not str or self.bounded:
            return False
        if self._offered is None:
            return self.convert is str
        return value in self._offered if len(self._offered) <= _MAX_LISTED else self.offers(value)

    def offers(self, text: str) -> bool:
        """Return whether a text is one of the options; a long list becomes a set of its texts."""
        offered = self._offered or ()
        if type(offered) is list and len(offered) > _MAX_LISTED:
            offered = self._offered = frozenset(each for each in offered if isinstance(each, str))
        return text in offered

    @cached_property
    def choices(self) -> list[Any] | None:
        """The choices for people: None if there are none, or if they are not known."""
        if self.type == DYNAMIC_COMBO:
            return [key for key in self.replaced.branches if isinstance(key, str)]
        head = self.definition[0] if sequence(self.definition) else None
        listed = head if isinstance(head, list) else self.options.get("options")
        return listed if self.type == "COMBO" and isinstance(listed, list) else None

    @cached_property
    def model_folder(self) -> tuple[bool, str | None]:
        """Whether it names model files, and their folder under ``models`` if that is known."""
        listed = (self.refused_unless or [])[:_MAX_SEARCHED]
        return model_folder(self.owner.name, self.name.rpartition(".")[2], listed)

    # -- what replaces a dynamic input ---------------------------------------------------------

    @cached_property
    def replaced(self) -> _Replaced:
        """What replaces a dynamic input in a prompt."""
        return _Replaced(self)

    def branch(self, value: Any) -> _Section | None:
        """Return the inputs that a value of a dynamic combo brings; None if it is no option."""
        branches = self.replaced.branches
        try:
            found = branches[value]
        except (KeyError, TypeError):  # it is not an option, or it is a link
            return None
        if not isinstance(found, _Section):
            found = branches[value] = _Section(found, self.owner, f"{self.name}.")
        return found

    def rows(self, inputs: Iterable[Any]) -> dict[int, _Section]:
        """Return the fields of the rows that the inputs of a node have; raise DynamicInputError."""
        # Source: recorded from ComfyUI 0.38. Rows may be missing in between.
        least, most, fields = self.replaced.rows
        found: dict[int, _Section] = {}
        for key, index, own in self._keys_of_rows(inputs):
            known = own in fields or own.partition(".")[0] in self.replaced.nested
            if not known or not _INDEX.fullmatch(index):
                expected = f"{self.name}.<index>.<template field>"
                details = f"Invalid DynamicGroup input key '{key}'; expected '{expected}'."
                raise DynamicInputError(key, details)
            if len(index) > _DIGITS or int(index) >= most:
                details = f"exceeds the index limit of {most - 1} (max={most})."
                raise DynamicInputError(key, f"DynamicGroup input '{key}' {details}")
            if int(index) not in found:
                found[int(index)] = self.row(int(index))
        if len(found) < least:
            details = f"received {len(found)} rows; expected between {least} and {most}."
            raise DynamicInputError(self.name, f"DynamicGroup input '{self.name}' {details}")
        return found

    def rows_in(self, inputs: Iterable[Any]) -> list[int]:
        """Return the indexes of the rows that the inputs of a node have, also of wrong ones."""
        found = {index for _, index, _ in self._keys_of_rows(inputs) if _INDEX.fullmatch(index)}
        most = self.replaced.rows[1]
        return sorted(int(each) for each in found if len(each) <= _DIGITS and int(each) < most)

    def _keys_of_rows(self, inputs: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
        """Yield each input of a group of rows, with what stands for its index and its field."""
        start = f"{self.name}."
        for key in inputs:
            if isinstance(key, str) and key.startswith(start):
                index, _, own = key[len(start) :].partition(".")
                yield key, index, own

    def rows_beside(self, inputs: Iterable[Any]) -> list[int]:
        """Return the indexes of these rows, and of the one that can be added."""
        present = self.rows_in(inputs)
        following = present[-1] + 1 if present else 0
        return [*present, following] if following < self.replaced.rows[1] else present

    def row_of(self, name: str, inputs: Mapping[str, Any]) -> _Section | None:
        """Return the fields of the row of an input, if the row is there or can be added."""
        index, _, own = name[len(self.name) + 1 :].partition(".")
        if not _INDEX.fullmatch(index) or len(index) > _DIGITS:
            return None
        number, (_, most, fields) = int(index), self.replaced.rows
        if own.partition(".")[0] not in fields or number >= most:
            return None
        # A row with a field of its template is found at once, all others by looking at all inputs.
        near = (number, number - 1)
        found = not number or any(f"{self.name}.{n}.{f}" in inputs for n in near for f in fields)
        return self.row(number) if found or number in self.rows_beside(inputs) else None

    def made_rows(self, count: Any) -> Branch:
        """Return what the editor makes for a number of rows."""
        least = self.replaced.rows[0]
        if type(count) not in (int, float) or not least <= count <= _MAX_ROWS:
            count = least  # as for any wrong number; but there may be more than `most`
        rows = [self.row(index).made for index in range(min(int(count), _MAX_ROWS))]
        widgets = tuple(widget for row in rows for widget in row.widgets)
        return Branch(widgets, tuple(socket for row in rows for socket in row.sockets))

    def row(self, index: int) -> _Section:
        """Return the fields of a row of a group."""
        made = self.replaced.made
        section = made.get(index)
        if section is None:
            template = mapping(self.options.get("template"))
            section = _Section(template, self.owner, f"{self.name}.{index}.")
            if index < _MAX_ROWS:
                made[index] = section
        return section

    @cached_property
    def slots(self) -> list[Input]:
        """The inputs in the template of an autogrow group; forms add to it if there is one."""
        return _Section(mapping(self.options.get("template")).get("input"), self.owner).inputs


def is_newer(kind: str) -> bool:
    """Return whether a type is a kind of input of ComfyUI that is not known here."""
    return kind.startswith("COMFY_") and kind not in _KNOWN and _NEWER.fullmatch(kind) is not None


class _Replaced:
    """What replaces a dynamic input: as ComfyUI reads it, and what can be read of a wrong one."""

    def __init__(self, declared: Input) -> None:
        self.branches: dict[Any, Any] = {}  # by option, declared inputs or a `_Section`
        self.grown: tuple[Input, ...] = ()  # the inputs of an autogrow group
        # of a group of rows: the least and the most number of rows, and the names of their fields
        self.rows: tuple[int, int, Collection[str]] = (0, 0, ())
        self.nested: Collection[str] = ()  # of these fields, those that have inputs of their own
        self.made: dict[int, _Section] = {}  # the rows that were used so far
        self.fault: str | None = None  # why ComfyUI cannot read it
        definition = declared.definition
        try:
            extra = definition[1] if len(definition) > 1 else None
            if not isinstance(extra, Mapping):
                raise TypeError("it has no options")
            _DYNAMIC[declared.type](self, declared, extra)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            own = f"{declared.name!r} ({declared.type})"
            self.fault = f"the definition of its input {own} is malformed: {what}"
            for option in objects(declared.options.get("options")):
                if isinstance(option.get("key"), str):
                    self.branches.setdefault(option["key"], option.get("inputs"))

    @cached_property
    def by_name(self) -> dict[str, Input]:
        """The inputs of an autogrow group."""
        return {each.name: each for each in self.grown}

    def read_group(self, declared: Input, extra: Mapping[str, Any]) -> None:
        self.grown = tuple(_grown(declared, extra["template"]))

    def read_rows(self, _: Input, extra: Mapping[str, Any]) -> None:
        sections = [extra["template"].get(section) or {} for section in ("required", "optional")]
        least = max(0, int(extra["min"]))
        self.rows = least, int(extra["max"]), {*sections[0], *sections[1]}
        self.nested = {
            name
            for section in sections
            for name, kind in section.items()
            if sequence(kind)
            and isinstance(kind[0], str)
            and (kind[0] in _DYNAMIC or is_newer(kind[0]))
        }

    def read_slot(self, _: Input, extra: Mapping[str, Any]) -> None:
        self.branches[None] = extra["inputs"]

    def read_options(self, _: Input, extra: Mapping[str, Any]) -> None:
        for option in extra["options"]:
            self.branches.setdefault(option["key"], option["inputs"])


# by type, how the options of a dynamic input are read
_DYNAMIC: Mapping[str, Callable[[_Replaced, Input, Mapping[str, Any]], None]] = {
    AUTOGROW: _Replaced.read_group,
    DYNAMIC_COMBO: _Replaced.read_options,
    ROWS: _Replaced.read_rows,
    _DYNAMIC_SLOT: _Replaced.read_slot,
}


_KNOWN = frozenset({*_DYNAMIC, _MATCH})


def _grown(group: Input, template: Any) -> Iterator[Input]:
    """Yield the inputs of an autogrow group that ComfyUI checks."""
    least = template["min"]
    if "names" in template:
        names = [str(child) for child in template["names"][:MAX_GROWN]]
    else:
        count = min(template["max"], MAX_GROWN)
        names = [f"{template['prefix']}{n}" for n in range(count)]
    sections = [(name, section) for name, section in template["input"].items() if section]
    if not sections:
        raise ValueError("its template has no input")
    section, inputs = sections[0]
    definition = next(iter(inputs.values()))
    for n, child in enumerate(names):
        required = n < least and section == "required"
        yield Input(f"{group.name}.{child}", definition, required, group.owner)


class _Section:
    """The inputs that a node class or an option of a dynamic combo declares."""

    def __init__(self, declared: Any, owner: NodeClass, prefix: str = "") -> None:
        self.inputs = [
            Input(f"{prefix}{name}", definition, section == "required", owner)
            for section in ("required", "optional")
            for name, definition in mapping(mapping(declared).get(section)).items()
        ]

    @cached_property
    def by_name(self) -> dict[str, Input]:
        return {each.name: each for each in self.inputs if sequence(each.definition)}

    @cached_property
    def made(self) -> Branch:
        """What the editor makes of them."""
        return _made_of(self.inputs)


# -- widgets and sockets of the editor ---------------------------------------------------------

CONTROL: Final = "control_after_generate"
_SEEDS = frozenset({"seed", "noise_seed"})
UPLOADS = ("image_upload", "animated_image_upload", "video_upload")
_AUDIO_PLAYERS = frozenset(
    ["LoadAudio", "PreviewAudio", "SaveAudio", "SaveAudioAdvanced", "SaveAudioMP3", "SaveAudioOpus"]
)
_MODEL_VIEWERS = frozenset({"Preview3D", "Preview3DAnimation", "SaveGLB"})
_TEXTS = frozenset({"STRING", "MARKDOWN", "TEXTAREA"})
_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}
_DEFAULTS: Mapping[str, Any] = {
    **dict.fromkeys(("INT", "FLOAT"), 0),
    **dict.fromkeys(("STRING", "MARKDOWN", "TEXTAREA", "WEBCAM", "PREVIEW_3D"), ""),
    "BOOLEAN": False,
    "COLOR": "#000000",
    "COLORS": [],
    "RANGE": {"min": 0.0, "max": 1.0},
    "BOUNDING_BOX": _BOX,
    **dict.fromkeys(("BOUNDING_BOXES", "CURVE", "PAINTER"), MISSING),
    "IMAGECOMPARE": ["", ""],
    "COMPOSITOR": {},
    "VIDEO_EDIT": {},
}
_LOAD_3D_BUTTONS = (
    ("upload 3d model", "upload3dmodel"),
    ("upload extra resources", "uploadExtraResources"),
    ("clear", "clear"),
)
VIEWPORT: Final = "viewport_state"
"""The widget of nodes that show a 3D model, which has the camera."""


@dataclass(frozen=True)
class Widget:
    name: str  # its name, which is also the name of its input
    # ``INT``, ``FLOAT``, ``STRING``, ``BOOLEAN``, ``COMBO`` or another type of the definition
    type: str
    # the declared input that it belongs to: `name`, or for an additional widget such as
    # ``control_after_generate`` the input that has it
    owner: str
    # the value on a new node; `MISSING` if it has none, so that the prompt does not have it
    default: Any = MISSING
    stored: bool = True  # whether ``widgets_values`` has its value
    emitted: bool = True  # whether it is part of the prompt
    multiline: bool = False  # whether it is a text area, whose values become text
    # whether ``{a|b}`` and comments in its text are replaced when it is queued
    dynamic_prompts: bool = False
    choices: tuple[Any, ...] = ()  # the entries of a combo
    # the options of the definition: ``min``, ``max``, ``step``, ``round`` and so on
    options: Mapping[str, Any] = field(default_factory=dict)
    # for a dynamic combo: the widgets and inputs of its options
    branches: Input | None = None
    # whether its kind is not known here, so that it may have more or no values
    unknown: bool = False
    # if another widget like this one follows as long as the last one is not empty: the part of
    # their names before the number
    stem: str = ""


@dataclass(frozen=True)
class Socket:
    """One input of a node class."""

    name: str
    type: str
    has_widget: bool = False  # whether it has a widget
    # whether it is an autogrow group, to which the editor adds inputs when they are connected
    grows: bool = False
    varies: bool = False  # whether its type is that of what it is linked to


@dataclass(frozen=True)
class Branch:
    """The widgets and inputs of one option of a dynamic combo, in order."""

    widgets: tuple[Widget, ...] = ()
    sockets: tuple[Socket, ...] = ()


def _made_of(inputs: Iterable[Input]) -> Branch:
    """Return the widgets and inputs that the editor makes for declared inputs."""
    widgets: list[Widget] = []
    sockets: list[Socket] = []
    for declared in inputs:
        if len(widgets) + len(sockets) > _MAX_WIDGETS:
            break
        if declared.type == AUTOGROW:
            made = _group(declared)
            widgets.extend(made.widgets)
            sockets.extend(made.sockets)
            continue
        own = _widgets_of(declared, widgets)
        widgets.extend(own)
        kind = declared.type if own else _socket_type(declared)
        varies = declared.type == _MATCH
        sockets.append(Socket(declared.name, kind, has_widget=bool(own), varies=varies))
    return Branch(tuple(widgets), tuple(sockets))


def _socket_type(declared: Input) -> str:
    if declared.type != _MATCH:
        return declared.type
    allowed = mapping(declared.options.get("template")).get("allowed_types")
    return allowed if isinstance(allowed, str) else "*"


_Before: TypeAlias = Sequence["Widget"]  # the widgets of the inputs before


def _widgets_of(declared: Input, before: _Before) -> list[Widget]:
    """Return the widgets that the editor makes for an input; none for a socket."""
    if declared.options.get("forceInput"):
        return []
    wanted = declared.options.get("widgetType")
    kind = wanted if isinstance(wanted, str) else declared.type
    make = _MADE_BY_KIND.get(kind)
    if make is None and _is_unknown(declared):
        return [Widget(declared.name, kind, declared.name, unknown=True)]
    return [] if make is None else make(declared, kind, before)


def _is_unknown(declared: Input) -> bool:
    """Return whether an input certainly has a widget, but of a kind that is not known here."""
    if declared.type in _MADE_BY_KIND or declared.options.get("forceInput"):
        return False
    drawn = isinstance(declared.options.get("widgetType"), str)
    return declared.newer or drawn or declared.options.get("socketless") is True


def _upload(declared: Input, kind: str, _: _Before) -> list[Widget]:
    return [Widget(declared.name, kind, declared.name, default="image", emitted=False)]


def _preview(declared: Input, kind: str, _: _Before) -> list[Widget]:
    return [Widget(declared.name, kind, declared.name, default="", stored=False, emitted=False)]


def _recorder(declared: Input, kind: str, _: _Before) -> list[Widget]:
    name = declared.name
    return [Widget(name, kind, name, default=""), _button(name, "", emitted=False)]


def _load_3d(declared: Input, kind: str, before: _Before) -> list[Widget]:
    has_model = any(widget.name == "model_file" for widget in before)
    buttons = _LOAD_3D_BUTTONS if has_model else ()
    own = VIEWPORT if declared.name == VIEWPORT else "image"
    return [*(_button(*pair) for pair in buttons), Widget(own, kind, declared.name, default="")]


def _plain(declared: Input, kind: str, _: _Before) -> list[Widget]:
    name, options = declared.name, declared.options
    default = options.get("default")
    dynamic = options.get("dynamicPrompts")
    widget = Widget(
        name,
        kind,
        name,
        default=_DEFAULTS[kind] if default is None else default,
        multiline=kind in _TEXTS and (kind == "MARKDOWN" or bool(options.get("multiline"))),
        dynamic_prompts=kind == "STRING" and dynamic is True,
        stored=kind != "IMAGECOMPARE",
        options=options,
    )
    if kind == "BOUNDING_BOX":
        box = {**_BOX, **mapping(widget.default)}
        parts = (Widget(f"{name}.{key}", "INT", name, box[key], emitted=False) for key in _BOX)
        return [widget, *parts]
    control = options.get(CONTROL)
    if kind == "INT" and control is None:
        control = name in _SEEDS
    return [widget, _control(name)] if kind in ("INT", "FLOAT") and control else [widget]


def _combo(declared: Input, kind: str, _: _Before) -> list[Widget]:
    name, options = declared.name, declared.options
    choices = tuple(declared.choices or sequence(options.get("options")))
    remote = None if options.get("multi_select") else options.get("remote")
    default = options.get("default") or (choices[0] if choices else MISSING)
    if default is MISSING and isinstance(declared.raw_type, list):
        default = None
    if options.get("multi_select"):
        default = []
    elif default is MISSING and isinstance(remote, Mapping):
        default = "Loading..."
    widgets = [Widget(name, kind, name, default=default, choices=choices, options=options)]
    if isinstance(remote, Mapping):
        widgets.append(_button("Auto-refresh after generation", value=False, emitted=False))
        if remote.get("refresh_button"):
            widgets.append(_button("refresh", "refresh"))
    if options.get(CONTROL):
        filters = Widget("control_filter_list", "STRING", name, default="", emitted=False)
        widgets += [_control(name), filters]
    return widgets


def _control(owner: str) -> Widget:
    return Widget(CONTROL, "COMBO", owner, default="randomize", emitted=False)


def _button(name: str, value: Any, *, emitted: bool = True) -> Widget:
    return Widget(name, "BUTTON", name, default=value, emitted=emitted)


def _dynamic_combo(declared: Input, _kind: str, _: _Before) -> list[Widget]:
    keys = tuple(declared.choices or ())
    widget = Widget(
        declared.name,
        "COMBO",
        declared.name,
        default=keys[0] if keys else MISSING,
        choices=keys,
        options=declared.options,
        branches=declared if keys else None,
    )
    return [widget]


def _rows(declared: Input, kind: str, _: _Before) -> list[Widget]:
    """Return the widget with the number of rows, which brings theirs."""
    least = declared.replaced.rows[0]
    return [Widget(declared.name, kind, declared.name, least, emitted=False, branches=declared)]


# what the editor makes for an input, by its type
_MADE_BY_KIND: Mapping[str, Callable[[Input, str, _Before], list[Widget]]] = {
    **dict.fromkeys(_DEFAULTS, _plain),
    "COMBO": _combo,
    DYNAMIC_COMBO: _dynamic_combo,
    ROWS: _rows,
    "IMAGEUPLOAD": _upload,
    "AUDIOUPLOAD": _upload,
    "AUDIO_UI": _preview,
    "RESOLUTION_PREVIEW": _preview,
    "AUDIO_RECORD": _recorder,
    "LOAD_3D": _load_3d,
}


def _group(group: Input) -> Branch:
    """Return the widgets and inputs that a new node has for an autogrow group."""
    template = mapping(group.options.get("template"))
    names, prefix = sequence(template.get("names")), template.get("prefix") or ""
    least, most = template.get("min", 1), len(names) or template.get("max", MAX_GROWN)
    made = Branch()
    if isinstance(least, int) and isinstance(most, int) and group.name.count(".") < _MAX_DEPTH:
        count = min(max(least, 0) + 1, most, MAX_GROWN)
        slots = group.slots if count > 0 else []  # not read in vain: there may be very many
        made = _made_of(
            Input(f"{group.name}.{own}", slot.definition, slot.required, group.owner)
            for number in range(count)
            for slot in slots
            for own in (
                names[number] if names else f"{prefix if len(slots) == 1 else slot.name}{number}",
            )
        )
    return Branch(made.widgets, (*made.sockets, Socket(f"{group.name}.", "*", grows=True)))


# -- node classes ------------------------------------------------------------------------------


class NodeClass:
    """A node class, read from an entry of ``object_info``."""

    __slots__ = ("__dict__", "_checked", "_models", "foreign", "name", "output_node", "returns")

    def __init__(self, name: str, entry: Mapping[str, Any], behaviour: Behaviour) -> None:
        self.name = name
        self.behaviour = behaviour
        self.title = str(entry.get("display_name") or name)  # of nodes that have no other title
        self.output_node = bool(entry.get("output_node"))
        self.module = str(entry.get("python_module", ""))  # such as ``custom_nodes.pack``
        # whether it is from a node pack, which may have a check that is not known here
        self.foreign = self.module.startswith("custom_nodes")
        # the third schema (V3): only its classes have all three
        self.schema3 = entry.keys() >= {"api_node", "deprecated", "experimental"}
        self.api_node = entry.get("api_node") is True  # a service executes it, for money
        self.price_badge = entry.get("price_badge")
        self._expands = self.schema3 and behaviour.expands_inputs
        returns = entry.get("output", [])
        # types of the outputs, in a sequence of the same type as in ComfyUI, which exceptions name
        self.returns: Any = (
            tuple(returns) if isinstance(returns, list) and not self.schema3 else returns
        )
        self._order = mapping(entry.get("input_order"))
        self._section = _Section(entry.get("input"), self)
        # what is checked of a node, if it does not depend on the node's inputs
        self._checked: tuple[Input, ...] | None = None
        self._models: tuple[Input, ...] | None = None
        if not self._expands or not any(each.dynamic for each in self._section.inputs):
            found: dict[str, Input] = {}
            self._expand(self._section, {}, found, [])
            self._checked = tuple(found.values())

    # -- for ComfyUI's check -------------------------------------------------------------------

    def checked_inputs(
        self, inputs: Any, faults: list[str | DynamicInputError]
    ) -> tuple[tuple[Input, ...], bool]:
        """Return what ComfyUI checks of a node, and whether dynamic inputs are among it."""
        # The required inputs come first. A sentence is added to ``faults`` for each dynamic input
        # whose definition cannot be read, and the error for each of which the node has a wrong set.
        if self._checked is not None:
            return self._checked, False
        found: dict[str, Input] = {}
        dynamic = self._expand(self._section, inputs, found, faults)
        return tuple(sorted(found.values(), key=lambda each: not each.required)), dynamic

    def _expand(
        self,
        section: _Section,
        inputs: Any,
        found: dict[str, Input],
        faults: list[str | DynamicInputError],
    ) -> bool:
        """Add the inputs of a section; return whether there are dynamic ones."""
        dynamic = False
        for each in section.inputs:
            if each.newer:
                continue  # nothing is refused because it is new
            if not each.dynamic or not self._expands:
                _add(found, each)
                continue
            if (fault := each.replaced.fault) or each.name.count(".") > MAX_NESTED:
                faults.append(fault or f"more than {MAX_NESTED} of its inputs are nested")
            elif each.type == AUTOGROW:
                dynamic = True
                for child in each.replaced.grown:
                    _add(found, child)
            elif each.type == ROWS:
                dynamic = True
                try:
                    rows = each.rows(inputs)
                except DynamicInputError as error:
                    faults.append(error)
                    continue
                for row in rows.values():
                    self._expand(row, inputs, found, faults)
            elif each.name in inputs:
                branch = each.branch(inputs[each.name] if each.type == DYNAMIC_COMBO else None)
                if branch is not None:
                    dynamic = True
                    self._expand(branch, inputs, found, faults)
                    _add(found, each)
        return dynamic

    def models(self, inputs: Any) -> tuple[Input, ...]:
        """Return the inputs that name model files."""
        if self._models is not None:
            return self._models
        found = self.checked_inputs(inputs, [])[0]
        combos = (each for each in found if each.refused_unless is not None)
        models = tuple(each for each in combos if each.model_folder[0])
        if self._checked is not None:
            self._models = models
        return models

    # -- for forms -----------------------------------------------------------------------------

    @cached_property
    def varies(self) -> bool:
        """Whether the inputs of a node decide what it declares."""
        return self.name == CUSTOM_COMBO or any(each.dynamic for each in self._section.inputs)

    def declared(self, inputs: Mapping[str, Any] | None = None) -> dict[str, Input]:
        """Return the inputs that it declares, in the order of its widgets; no hidden ones."""
        # With the inputs of a node, those of the chosen option of a dynamic combo are included
        # (``"<combo>.<name>"``) and all possible ones of an autogrow group (``"<group>.<name>"``).
        # The choices of a Custom Combo are those on the node.
        if inputs is None or not self.varies:
            return dict(self._section.by_name)
        found: dict[str, Input] = {}
        pending = list(reversed(self._section.inputs))
        while pending:
            each = pending.pop()
            if not sequence(each.definition):
                continue
            found[each.name] = each
            if not each.dynamic or each.name.count(".") >= _MAX_DEPTH:
                continue
            if each.type == AUTOGROW and len(each.slots) == 1:
                found.update((child.name, child) for child in each.replaced.grown)
            elif each.type == ROWS:
                rows = (each.row(index).inputs for index in each.rows_beside(inputs))
                pending.extend(reversed([field for row in rows for field in row]))
            elif each.type == DYNAMIC_COMBO and each.name in inputs:
                branch = each.branch(inputs[each.name])
                pending.extend(reversed(branch.inputs if branch is not None else []))
        if self.name == CUSTOM_COMBO and CHOICE in found:
            options = [each for each in custom_options(inputs) if isinstance(each, str) and each]
            found[CHOICE] = copy.copy(found[CHOICE])
            found[CHOICE].choices = options
        return found

    def declared_input(self, name: str, inputs: Mapping[str, Any]) -> Input | None:
        """Return one of the inputs that `declared` returns, without making all of them."""
        if self.name == CUSTOM_COMBO:
            return self.declared(inputs).get(name)
        section: _Section | None = self._section
        dot = -1
        while section is not None and name not in section.by_name:
            dot = name.find(".", dot + 1)
            if dot < 0:
                return None
            each = section.by_name.get(name[:dot])
            if each is None or not each.dynamic or each.name.count(".") >= _MAX_DEPTH:
                continue
            if each.type == AUTOGROW:
                return each.replaced.by_name.get(name) if len(each.slots) == 1 else None
            if each.type == DYNAMIC_COMBO:
                section = each.branch(inputs.get(each.name)) if each.name in inputs else None
            elif each.type == ROWS:
                section = each.row_of(name, inputs)
        return None if section is None else section.by_name[name]

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(each.name for each in self._section.inputs if each.required)

    # -- for the editor ------------------------------------------------------------------------

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        kinds = (kind if isinstance(kind, str) else "COMBO" for kind in sequence(self.returns))
        return tuple("*" if kind == _MATCH else kind for kind in kinds)

    @cached_property
    def _shown(self) -> dict[str, dict[str, Input]]:
        """The inputs by section, with those that the editor adds itself."""
        required = {each.name: each for each in self._section.inputs if each.required}
        optional = {each.name: each for each in self._section.inputs if not each.required}
        added: dict[str, str] = {}
        if self.name in _AUDIO_PLAYERS:
            added["audioUI"] = "AUDIO_UI"
        if self.name in _MODEL_VIEWERS:
            added["image"] = "PREVIEW_3D"
        if "audio" in required and required["audio"].options.get("audio_upload") is True:
            added["upload"] = "AUDIOUPLOAD"
        combos = [each.options for each in required.values() if each.type == "COMBO"]
        if any(options.get(key) for options in combos for key in UPLOADS):
            added["upload"] = "IMAGEUPLOAD"
        required.update((name, Input(name, [kind, {}], True, self)) for name, kind in added.items())
        return {"required": required, "optional": optional}

    @cached_property
    def _ordered(self) -> list[Input]:
        """The inputs in the editor's order: those in ``input_order`` first."""
        named: list[str] = []
        for section, inputs in self._shown.items():
            ordered = sequence(self._order.get(section))
            named.extend(key for key in ordered if isinstance(key, str) and key in inputs)
        every = {**self._shown["required"], **self._shown["optional"]}
        return [every[key] for key in dict.fromkeys([*named, *every])]

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The inputs in the order of the definition itself, which may not be the editor's."""
        return tuple({**self._shown["required"], **self._shown["optional"]})

    @cached_property
    def _made(self) -> Branch:
        return _made_of(self._ordered)

    @cached_property
    def sockets(self) -> tuple[Socket, ...]:
        """All inputs, in the editor's order: first those without a widget."""
        return tuple(sorted(self._made.sockets, key=lambda socket: socket.has_widget))

    @cached_property
    def widgets(self) -> tuple[Widget, ...]:
        """The widgets, in the order in which ``widgets_values`` stores them."""
        widgets = list(self._made.widgets)
        if self.name == "WebcamCapture":
            widgets.append(_button("waiting for camera...", "capture", emitted=False))
        if self.name == CUSTOM_COMBO:
            widgets.append(Widget(INDEX, "INT", CHOICE, default=-1))
            widgets.append(Widget("option1", "STRING", CHOICE, default="", stem="option"))
        return tuple(widgets)

    @cached_property
    def _legacy(self) -> tuple[bool, ...]:
        """The values that editors before 1.16 saved: true for an input without a widget today."""
        # Empty if there is no such input (``forceInput``).
        names = {widget.name: widget.stored for widget in self.widgets}
        slots: list[bool] = []
        for declared in self._ordered:
            forced = bool(declared.options.get("forceInput"))
            if names.get(declared.name, forced):
                slots += [forced, False] if declared.options.get(CONTROL) else [forced]
        return tuple(slots) if any(slots) or not all(w.stored for w in self.widgets) else ()

    @cached_property
    def grows(self) -> bool:
        """Whether the values of a node decide which widgets it has."""
        return any(each.branches or each.unknown or each.stem for each in self.widgets)

    @cached_property
    def unknown(self) -> tuple[Widget, ...]:
        """The widgets whose kinds are not known here."""
        return tuple(widget for widget in self.widgets if widget.unknown)

    def lay_out(self, stored: Any) -> list[tuple[Widget, Any]]:
        """Return the widgets of a node and their values; `MISSING` without value and default."""
        # ``stored`` is ``widgets_values``: a list by position (further values are ignored), or a
        # dict by name. Widgets of unknown kinds have values if there are more than the others have.
        if self.unknown and isinstance(stored, list):
            known = [widget for widget in self.widgets if not widget.unknown]
            laid = self._lay_out(stored, known)
            if sum(widget.stored for widget, _ in laid) >= len(stored):
                return laid
        laid = self._lay_out(stored, self.widgets)
        if self.unknown and isinstance(stored, dict):
            laid += self._of_unknown(stored, {widget.name for widget, _ in laid})
        return laid

    def _of_unknown(
        self, stored: Mapping[str, Any], names: Collection[str]
    ) -> Iterator[tuple[Widget, Any]]:
        """Yield the values of widgets that those of unknown kinds have brought."""
        for widget in self.unknown:
            for name, value in stored.items():
                if name.startswith(f"{widget.name}.") and name not in names:
                    yield replace(widget, name=name), value

    def _lay_out(self, stored: Any, widgets: Sequence[Widget]) -> list[tuple[Widget, Any]]:
        named = stored if isinstance(stored, dict) else {}
        values = self._without_forced(stored) if isinstance(stored, list) else []
        laid: list[tuple[Widget, Any]] = []
        pending = list(reversed(widgets))
        place = 0
        while pending:
            widget = pending.pop()
            value = named.get(widget.name, widget.default) if named else widget.default
            if widget.stored:
                if place < len(values):
                    value = values[place]
                place += 1
            inner: tuple[Widget, ...] = ()
            if widget.branches is not None and value is None and widget.type != ROWS:
                # null was saved without the widgets of an option; the editor takes the first one
                value = widget.default
                inner = _branch(widget.branches, value).widgets
                inner = tuple(replace(each, stored=False) for each in inner)
            elif widget.branches is not None:
                inner = _branch(widget.branches, value).widgets
            laid.append((widget, value))
            if len(laid) >= _MAX_WIDGETS:
                break
            if widget.stem and value and value is not MISSING:
                number = int(widget.name.removeprefix(widget.stem)) + 1
                pending.append(replace(widget, name=f"{widget.stem}{number}"))
            pending.extend(reversed(inner))
        return laid

    def inputs_of(self, laid: Iterable[tuple[Widget, Any]]) -> Iterator[Socket]:
        """Yield the inputs of a node that has these widgets, in order."""
        values = {
            widget.name: (widget, value) for widget, value in laid if widget.branches is not None
        }
        pending = list(reversed(self.sockets))
        while pending:
            socket = pending.pop()
            yield socket
            if socket.has_widget and socket.name in values:
                widget, value = values.pop(socket.name)
                pending.extend(reversed(_branch(widget.branches, value).sockets))

    def _without_forced(self, values: list[Any]) -> list[Any]:
        slots = self._legacy
        if slots and (any(slots) or len(values) != sum(w.stored for w in self.widgets)):
            stored = [widget.stored for widget in self.widgets]
            kept = [*compress(values, stored), *values[len(stored) :]]
            aligned = kept if len(kept) == len(slots) else values
            if len(aligned) == len(slots):
                return [value for value, skip in zip(aligned, slots, strict=True) if not skip]
        return values


def unknown_kinds(classes: Iterable[NodeClass]) -> list[str]:
    """Return a sentence for each kind of input that is not known here, with the first of it."""
    first: dict[str, str] = {}
    for known in classes:
        for widget in known.unknown:
            first.setdefault(widget.type, f"as {widget.name} of {known.name}")
    return [
        f"Inputs of the kind {kind}, {where}, are not known here: ComfyUI may be newer. Their "
        "values are kept and queued as they are saved, and not checked."
        for kind, where in first.items()
    ]


def _add(found: dict[str, Input], each: Input) -> None:
    known = found.get(each.name)
    if known is None or each.required or not known.required:
        found[each.name] = each


def _branch(owner: Input | None, value: Any) -> Branch:
    """Return what the editor makes for an option of a dynamic combo, or for a number of rows."""
    if owner is None or owner.name.count(".") >= _MAX_DEPTH:
        return Branch()
    if owner.type == ROWS:
        return owner.made_rows(value)
    section = owner.branch(value) if isinstance(value, str) else None
    return Branch() if section is None else section.made


class NodeDefinitions:
    """The node classes of a ComfyUI: the JSON of ``GET /object_info``, which must not change."""

    # Without its version, that is guessed from the definitions. Without its reply to
    # ``GET /node_replacements``, that of 0.33.0 is used.

    def __init__(
        self,
        object_info: Mapping[str, Any],
        *,
        version: str | None = None,
        replacements: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(object_info, Mapping):
            raise InvalidRequestError.of_field("object_info", "must be an object")
        self._object_info = object_info
        self._classes: dict[Any, NodeClass] = {}
        self.behaviour = behaviour_of(version, object_info)
        self.replacements: Mapping[str, Any] = {}  # lists of replacements by old class
        if self.behaviour.replaces_nodes:
            self.replacements = BUNDLED if replacements is None else replacements

    @classmethod
    def of(cls, definitions: AnyDefinitions) -> NodeDefinitions:
        """Return definitions that may be the JSON of ``object_info``, or None for none."""
        if isinstance(definitions, NodeDefinitions):
            return definitions
        return _UNKNOWN if definitions is None else cls(definitions)

    def get(self, class_type: Any) -> NodeClass | None:
        """Return a class by its name, or None if this ComfyUI does not have it."""
        # `TypeError` is raised for a list or a dict, as in ComfyUI.
        found = self._classes.get(class_type)
        if found is None:
            entry = self._object_info.get(class_type)
            if isinstance(entry, Mapping):
                found = self._classes[class_type] = NodeClass(class_type, entry, self.behaviour)
        return found

    def declared(
        self, class_type: str, inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Input]:
        """Return `NodeClass.declared` of a class; nothing for an unknown one."""
        found = self.get(class_type)
        return {} if found is None else found.declared(inputs)

    def declared_input(self, class_type: str, name: str, inputs: Mapping[str, Any]) -> Input | None:
        """Return one of the inputs that `declared` returns."""
        found = self.get(class_type)
        return None if found is None else found.declared_input(name, inputs)

    def groups_of_rows(self, class_type: str, inputs: Mapping[str, Any]) -> list[str]:
        """Return the names of the groups of rows that a node has."""
        found = self.get(class_type)
        if found is None or not found.varies:
            return []
        return [each.name for each in found.declared(inputs).values() if each.type == ROWS]

    def title(self, class_type: str) -> str:
        """Return the name that ComfyUI's editor shows for a class."""
        found = self.get(class_type)
        return class_type if found is None else found.title

    def is_output(self, class_type: str) -> bool:
        """Return whether nodes of a class are output nodes; if it is unknown, by its name."""
        found = self.get(class_type)
        return class_type.startswith(("Save", "Preview")) if found is None else found.output_node

    def __contains__(self, class_type: object) -> bool:
        return self.get(class_type) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._object_info)

    def __len__(self) -> int:
        return len(self._object_info)


AnyDefinitions: TypeAlias = NodeDefinitions | Mapping[str, Any] | None
_UNKNOWN = NodeDefinitions({})


# -- Custom Combo, whose choices are texts on the node itself ----------------------------------

CUSTOM_COMBO: Final = "CustomCombo"
CHOICE: Final = "choice"
INDEX: Final = "index"
_OPTION = re.compile(r"option([1-9][0-9]{0,3})", re.ASCII)


def custom_options(inputs: Mapping[str, Any]) -> list[Any]:
    """Return the values of the inputs ``option1``, ``option2``, … in the order of their numbers."""
    # The editor keeps an empty one at the end.
    numbers = {int(found[1]): name for name in inputs if (found := _OPTION.fullmatch(name))}
    return [inputs[numbers[number]] for number in sorted(numbers)]


def index_of_choice(inputs: Mapping[str, Any]) -> int:
    """Return the place of the choice among the options, -1 for none, as the editor queues it."""
    options, choice = custom_options(inputs), inputs.get(CHOICE)
    return options.index(choice) if choice in options else -1


# -- values that cannot be those of their inputs ------------------------------------------------
#
# A saved workflow has the values of a node by position. If the node has more or fewer inputs in
# another version, all following values are in wrong inputs: a sampler named 5, a checkpoint named
# 4096. ComfyUI may even run that, so there are warnings.

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


def type_mismatches(graph: Mapping[str, Any], definitions: AnyDefinitions) -> list[TypeMismatch]:
    """Return the values of a graph whose type cannot be that of their input."""
    # The text of a number is valid for a number, as in ComfyUI. Any text is valid for a combo,
    # whose options may be files that are missing. Invalid nodes are ignored.
    known = NodeDefinitions.of(definitions)
    found: list[TypeMismatch] = []
    nodes = {key: node for key, node in graph.items() if isinstance(node, dict)}
    names = cache(partial(node_names, nodes))

    def label(key: str) -> str:
        return str(names()[key])

    for key, node in nodes.items():
        node_class = known.get(class_of(node))
        if node_class is None:
            continue
        inputs = inputs_of(node)
        widgets: Iterable[Widget] = node_class.widgets
        if node_class.grows:
            named = {name: unwrapped(value) for name, value in inputs.items() if not is_link(value)}
            widgets = [widget for widget, _ in node_class.lay_out(named)]
        found.extend(type_mismatches_of(key, partial(label, key), widgets, inputs))
    return found


def type_mismatches_of(
    key: str, label: Callable[[], str], widgets: Iterable[Widget], inputs: Mapping[str, Any]
) -> Iterator[TypeMismatch]:
    """Yield the mismatches of one node with these widgets."""
    for widget in widgets:
        value = inputs.get(widget.name, MISSING)
        if not _can_be(widget, value):
            yield TypeMismatch(key, label(), widget.name, unwrapped(value), _EXPECTED[widget.type])


Laid: TypeAlias = Iterable[tuple[Widget, Any]]


def fits_by_name(by_position: Laid, by_name: Callable[[], Laid]) -> bool:
    """Return whether to take the values that are saved by name, as those by position do not fit."""
    # The class may have other widgets now. Null says nothing.
    wrong = _misfits(by_position)
    return bool(wrong) and _misfits(by_name()) < wrong


def _misfits(laid: Laid) -> int:
    return sum(value is not None and not _can_be(widget, value) for widget, value in laid)


def _can_be(widget: Widget, value: Any) -> bool:
    if (widget.type, type(value)) in _FITTING or value is MISSING or not widget.emitted:
        return True
    return widget.type not in _EXPECTED or is_link(value) or _fits(widget, unwrapped(value))


def _fits(widget: Widget, value: Any) -> bool:
    if widget.type == "COMBO":
        # A route gives values of any type; it may not have given one yet.
        is_remote = widget.options.get("remote_combo") is not None
        is_unset = value is None and widget.options.get("remote") is not None
        return is_remote or is_unset or _fits_combo(widget, value)
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
    if widget.branches is not None:
        return value in widget.choices
    if isinstance(value, list):
        multiple = widget.options.get("multiselect") or widget.options.get("multi_select")
        return bool(multiple) or isinstance(widget.default, list)
    first = widget.choices[0] if widget.choices else ""
    return isinstance(value, (str, type(first))) and (
        isinstance(first, str) or value in widget.choices
    )
