"""Node classes as the editor reads them from ComfyUI's ``object_info``: inputs and widgets.

``object_info`` says which inputs are sockets, which have a widget, in which order the values of
widgets are saved, and which of them are part of a prompt. `NodeDefinitions` reads each class once,
when it is first used, since the JSON may have many megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import InvalidRequestError
from .custom_combo import CHOICE, CUSTOM_COMBO, INDEX


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""No value; JSON's null is a value."""

CONTROL: Final = "control_after_generate"
_SEEDS = frozenset({"seed", "noise_seed"})
_UPLOADS = ("image_upload", "animated_image_upload", "video_upload")
_AUDIO_PLAYERS = frozenset(
    {
        "LoadAudio",
        "PreviewAudio",
        "SaveAudio",
        "SaveAudioAdvanced",
        "SaveAudioMP3",
        "SaveAudioOpus",
    }
)
_MODEL_VIEWERS = frozenset({"Preview3D", "Preview3DAnimation", "SaveGLB"})
_TEXTS = frozenset({"STRING", "MARKDOWN", "TEXTAREA"})
_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}
_DEFAULTS: Mapping[str, Any] = {
    "INT": 0,
    "FLOAT": 0,
    "STRING": "",
    "BOOLEAN": False,
    "MARKDOWN": "",
    "TEXTAREA": "",
    "COLOR": "#000000",
    "COLORS": [],
    "RANGE": {"min": 0.0, "max": 1.0},
    "BOUNDING_BOX": _BOX,
    "BOUNDING_BOXES": MISSING,
    "CURVE": MISSING,
    "PAINTER": MISSING,
    "WEBCAM": "",
    "PREVIEW_3D": "",
    "IMAGECOMPARE": ["", ""],
    "COMPOSITOR": {},
}
_LOAD_3D_BUTTONS = (
    ("upload 3d model", "upload3dmodel"),
    ("upload extra resources", "uploadExtraResources"),
    ("clear", "clear"),
)
_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_AUTOGROW = "COMFY_AUTOGROW_V3"
_MATCH = "COMFY_MATCHTYPE_V3"
VIEWPORT: Final = "viewport_state"
"""The widget of nodes that show a 3D model, which has the camera."""
_MAX_GROWN = 100
_MOST_WIDGETS = 10_000
_DEEPEST = 16


@dataclass(frozen=True)
class Widget:
    """One widget of a node class."""

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
    branches: Branches = field(default_factory=lambda: Branches("", ()))
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


@dataclass(frozen=True)
class Branch:
    """The widgets and inputs of one option of a dynamic combo, in order."""

    widgets: tuple[Widget, ...] = ()
    sockets: tuple[Socket, ...] = ()


class Branches:
    """The widgets and inputs of the options of a dynamic combo, each read when it is first used."""

    def __init__(self, name: str, options: Sequence[Any], depth: int = 0) -> None:
        self._name = name
        self._depth = depth
        self._inputs = {
            option["key"]: option.get("inputs")
            for option in options
            if isinstance(option, Mapping) and isinstance(option.get("key"), str)
        }
        self._known: dict[str, Branch] = {}

    def __bool__(self) -> bool:
        return bool(self._inputs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def get(self, value: Any) -> Branch:
        """Return the widgets and inputs of an option; none for a value that is not an option."""
        if not isinstance(value, str) or value not in self._inputs or self._depth >= _DEEPEST:
            return Branch()
        if value not in self._known:
            self._known[value] = self._read(_mapping(self._inputs[value]))
        return self._known[value]

    def _read(self, inputs: Mapping[str, Any]) -> Branch:
        widgets: list[Widget] = []
        sockets: list[Socket] = []
        for section in ("required", "optional"):
            for key, spec in _mapping(inputs.get(section)).items():
                name = f"{self._name}.{key}"
                made = _made_of(name, spec, widgets, self._depth + 1)
                widgets.extend(made.widgets)
                sockets.extend(made.sockets)
        return Branch(tuple(widgets), tuple(sockets))


@dataclass(frozen=True)
class NodeClass:
    """A node class as the editor reads it from an entry of ``object_info``."""

    name: str
    title: str
    sockets: tuple[Socket, ...]  # all inputs, in the editor's order: first those without a widget
    outputs: tuple[str, ...]  # the types of the outputs
    widgets: tuple[Widget, ...]  # in the order in which ``widgets_values`` stores them
    # the inputs in the order of the definition itself, which may not be the editor's
    declared: tuple[str, ...]
    # the values that editors before 1.16 saved: a flag for each position, true for an input that
    # has no widget any more (``forceInput``). Empty if there is no such input
    legacy_slots: tuple[bool, ...]
    output_node: bool  # whether the class is an output node

    def lay_out(self, stored: Any) -> list[tuple[Widget, Any]]:
        """Return the widgets of a node and their values; `MISSING` without a value and a default.

        ``stored`` is ``widgets_values``: a list by position (further values are ignored), or a dict
        by name.
        """
        named = stored if isinstance(stored, dict) else {}
        values = self._without_forced(stored) if isinstance(stored, list) else []
        laid: list[tuple[Widget, Any]] = []
        pending = list(reversed(self.widgets))
        place = 0
        while pending:
            widget = pending.pop()
            value = named.get(widget.name, widget.default) if named else widget.default
            if widget.stored:
                if place < len(values):
                    value = values[place]
                place += 1
            laid.append((widget, value))
            if len(laid) >= _MOST_WIDGETS:
                break
            if widget.stem and value and value is not MISSING:
                pending.append(_next_of(widget))
            if widget.branches:
                pending.extend(reversed(widget.branches.get(value).widgets))
        return laid

    def inputs_of(self, laid: Iterable[tuple[Widget, Any]]) -> Iterator[Socket]:
        """Yield the inputs of a node that has these widgets, in order."""
        values = {widget.name: (widget, value) for widget, value in laid if widget.branches}
        pending = list(reversed(self.sockets))
        while pending:
            socket = pending.pop()
            yield socket
            if socket.has_widget and socket.name in values:
                widget, value = values.pop(socket.name)
                pending.extend(reversed(widget.branches.get(value).sockets))

    def _without_forced(self, values: list[Any]) -> list[Any]:
        slots = self.legacy_slots
        if not slots:
            return values
        if any(slots) or len(values) != sum(widget.stored for widget in self.widgets):
            kept = [
                value
                for place, value in enumerate(values)
                if place >= len(self.widgets) or self.widgets[place].stored
            ]
            aligned = kept if len(kept) == len(slots) else values
            if len(aligned) == len(slots):
                return [value for value, skip in zip(aligned, slots, strict=True) if not skip]
        return values


class NodeDefinitions:
    """The node classes of a ComfyUI.

    Parameters
    ----------
    object_info : Mapping
        The JSON of ``GET /object_info``. It is not copied and must not change.

    Raises
    ------
    InvalidRequestError
        `object_info` is not an object.
    """

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        if not isinstance(object_info, Mapping):
            raise InvalidRequestError.of_field("object_info", "must be an object")
        self._object_info = object_info
        self._classes: dict[str, NodeClass | None] = {}

    def get(self, class_type: str) -> NodeClass | None:
        """Return a class by its name, or None if this ComfyUI does not have it."""
        try:
            return self._classes[class_type]
        except KeyError:
            entry = self._object_info.get(class_type)
            found = _read_class(class_type, entry) if isinstance(entry, Mapping) else None
            self._classes[class_type] = found
            return found

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._object_info

    def __iter__(self) -> Iterator[str]:
        return iter(self._object_info)

    def __len__(self) -> int:
        return len(self._object_info)


def _read_class(name: str, entry: Mapping[str, Any]) -> NodeClass:
    declared = _declared_inputs(name, entry)
    inputs = _ordered_inputs(declared, entry.get("input_order"))
    widgets: list[Widget] = []
    sockets: list[Socket] = []
    for key, spec in inputs:
        made = _made_of(key, spec, widgets, 0)
        widgets.extend(made.widgets)
        sockets.extend(made.sockets)
    if name == "WebcamCapture":
        widgets.append(_button("waiting for camera...", "capture", emitted=False))
    if name == CUSTOM_COMBO:
        widgets.append(Widget(INDEX, "INT", CHOICE, default=-1))
        widgets.append(Widget("option1", "STRING", CHOICE, default="", stem="option"))
    return NodeClass(
        name=name,
        title=str(entry.get("display_name") or name),
        sockets=tuple(sorted(sockets, key=lambda socket: socket.has_widget)),
        outputs=tuple(_output_types(entry.get("output"))),
        widgets=tuple(widgets),
        declared=tuple({**declared["required"], **declared["optional"]}),
        legacy_slots=_legacy_slots(inputs, widgets),
        output_node=bool(entry.get("output_node")),
    )


def _declared_inputs(name: str, entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the declared inputs by section, with those that the editor adds itself."""
    declared = _mapping(entry.get("input"))
    required = dict(_mapping(declared.get("required")))
    if name in _AUDIO_PLAYERS:
        required["audioUI"] = ["AUDIO_UI", {}]
    if name in _MODEL_VIEWERS:
        required["image"] = ["PREVIEW_3D", {}]
    if _options_of(required.get("audio")).get("audio_upload") is True:
        required["upload"] = ["AUDIOUPLOAD", {}]
    if any(_is_media_upload(spec) for spec in required.values()):
        required["upload"] = ["IMAGEUPLOAD", {}]
    return {"required": required, "optional": dict(_mapping(declared.get("optional")))}


def _ordered_inputs(declared: Mapping[str, dict[str, Any]], order: Any) -> list[tuple[str, Any]]:
    """Return the inputs in the editor's order: those in ``input_order`` first."""
    named: list[str] = []
    if isinstance(order, Mapping):
        for section, inputs in declared.items():
            ordered = _sequence(order.get(section))
            named.extend(key for key in ordered if isinstance(key, str) and key in inputs)
    every = {**declared["required"], **declared["optional"]}
    return [(key, every[key]) for key in dict.fromkeys([*named, *every])]


def _is_media_upload(spec: Any) -> bool:
    options = _options_of(spec)
    return _type_of(spec) == "COMBO" and any(options.get(key) for key in _UPLOADS)


def _type_of(spec: Any) -> str:
    kind = spec[0] if isinstance(spec, (list, tuple)) and spec else spec
    return kind if isinstance(kind, str) else "COMBO"


def _options_of(spec: Any) -> Mapping[str, Any]:
    return _mapping(spec[1]) if isinstance(spec, (list, tuple)) and len(spec) > 1 else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _socket_type(kind: str, options: Mapping[str, Any]) -> str:
    if kind != _MATCH:
        return kind
    allowed = _mapping(options.get("template")).get("allowed_types")
    return allowed if isinstance(allowed, str) else "*"


def _output_types(outputs: Any) -> Iterable[str]:
    for kind in _sequence(outputs):
        if not isinstance(kind, str):
            yield "COMBO"
        else:
            yield "*" if kind == _MATCH else kind


def _made_of(name: str, spec: Any, before: list[Widget], depth: int) -> Branch:
    """Return the widgets and inputs that the editor makes for one declared input."""
    kind, options = _type_of(spec), _options_of(spec)
    if kind == _AUTOGROW:
        return _group(name, options.get("template"), depth)
    widgets = _widgets_of(name, kind, spec, options, before, depth)
    if widgets:
        return Branch(tuple(widgets), (Socket(name, kind, has_widget=True),))
    return Branch((), (Socket(name, _socket_type(kind, options)),))


def _widgets_of(
    name: str,
    kind: str,
    spec: Any,
    options: Mapping[str, Any],
    before: list[Widget],
    depth: int,
) -> list[Widget]:
    """Return the widgets that the editor makes for an input; none for a socket."""
    if options.get("forceInput"):
        return []
    kind = options["widgetType"] if isinstance(options.get("widgetType"), str) else kind
    if kind == "COMBO":
        return _combo(name, spec, options)
    if kind == _DYNAMIC_COMBO:
        return [_dynamic_combo(name, options, depth)]
    if kind in ("IMAGEUPLOAD", "AUDIOUPLOAD"):
        return [Widget(name, kind, name, default="image", emitted=False)]
    if kind in ("AUDIO_UI", "RESOLUTION_PREVIEW"):
        return [Widget(name, kind, name, default="", stored=False, emitted=False)]
    if kind == "AUDIO_RECORD":
        return [Widget(name, kind, name, default=""), _button(name, "", emitted=False)]
    if kind == "LOAD_3D":
        has_model = any(widget.name == "model_file" for widget in before)
        buttons = _LOAD_3D_BUTTONS if has_model else ()
        own = VIEWPORT if name == VIEWPORT else "image"
        return [*(_button(*pair) for pair in buttons), Widget(own, kind, name, default="")]
    if kind not in _DEFAULTS:
        return []
    return _plain(name, kind, options)


def _plain(name: str, kind: str, options: Mapping[str, Any]) -> list[Widget]:
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
        box = {**_BOX, **_mapping(widget.default)}
        parts = (Widget(f"{name}.{key}", "INT", name, box[key], emitted=False) for key in _BOX)
        return [widget, *parts]
    control = options.get(CONTROL)
    if kind == "INT" and control is None:
        control = name in _SEEDS
    return [widget, _control(name)] if kind in ("INT", "FLOAT") and control else [widget]


def _combo(name: str, spec: Any, options: Mapping[str, Any]) -> list[Widget]:
    listed = spec[0] if isinstance(spec, (list, tuple)) and spec else None
    choices = tuple(_sequence(listed) or _sequence(options.get("options")))
    if options.get("multi_select"):
        widgets = [Widget(name, "COMBO", name, default=[], choices=choices, options=options)]
        return [*widgets, *_combo_control(name, options)]
    default = options.get("default") or (choices[0] if choices else MISSING)
    remote = options.get("remote")
    if default is MISSING and isinstance(remote, Mapping):
        default = "Loading..."
    widgets = [Widget(name, "COMBO", name, default=default, choices=choices, options=options)]
    if isinstance(remote, Mapping):
        widgets.append(_button("Auto-refresh after generation", value=False, emitted=False))
        if remote.get("refresh_button"):
            widgets.append(_button("refresh", "refresh"))
    return [*widgets, *_combo_control(name, options)]


def _combo_control(name: str, options: Mapping[str, Any]) -> list[Widget]:
    if not options.get(CONTROL):
        return []
    return [
        _control(name),
        Widget("control_filter_list", "STRING", name, default="", emitted=False),
    ]


def _control(owner: str) -> Widget:
    return Widget(CONTROL, "COMBO", owner, default="randomize", emitted=False)


def _button(name: str, value: Any, *, emitted: bool = True) -> Widget:
    return Widget(name, "BUTTON", name, default=value, emitted=emitted)


def _dynamic_combo(name: str, options: Mapping[str, Any], depth: int) -> Widget:
    branches = Branches(name, _sequence(options.get("options")), depth)
    keys = tuple(branches)
    return Widget(
        name,
        "COMBO",
        name,
        default=keys[0] if keys else MISSING,
        choices=keys,
        options=options,
        branches=branches,
    )


def _group(name: str, template: Any, depth: int) -> Branch:
    """Return the widgets and inputs that a new node has for an autogrow group."""
    template = _mapping(template)
    declared = _mapping(template.get("input"))
    inputs = {**_mapping(declared.get("required")), **_mapping(declared.get("optional"))}
    names = template.get("names")
    names = names if isinstance(names, list) and names else None
    prefix = template.get("prefix") or ""
    least, most = template.get("min", 1), len(names) if names else template.get("max", 100)
    widgets: list[Widget] = []
    sockets: list[Socket] = []
    if isinstance(least, int) and isinstance(most, int) and depth < _DEEPEST:
        for number in range(min(max(least, 0) + 1, most, _MAX_GROWN)):
            for key, spec in inputs.items():
                own = names[number] if names else f"{prefix if len(inputs) == 1 else key}{number}"
                made = _made_of(f"{name}.{own}", spec, [], depth + 1)
                widgets.extend(made.widgets)
                sockets.extend(made.sockets)
            if len(widgets) + len(sockets) > _MOST_WIDGETS:
                break
    return Branch(tuple(widgets), (*sockets, Socket(f"{name}.", "*", grows=True)))


def _next_of(widget: Widget) -> Widget:
    number = int(widget.name.removeprefix(widget.stem)) + 1
    return replace(widget, name=f"{widget.stem}{number}")


def _legacy_slots(inputs: list[tuple[str, Any]], widgets: list[Widget]) -> tuple[bool, ...]:
    names = {widget.name: widget.stored for widget in widgets}
    slots: list[bool] = []
    for key, spec in inputs:
        options = _options_of(spec)
        forced = bool(options.get("forceInput"))
        if not (forced or key in names) or not names.get(key, True):
            continue
        slots.append(forced)
        if options.get(CONTROL):
            slots.append(False)
    stored = sum(widget.stored for widget in widgets)
    return tuple(slots) if any(slots) or stored != len(widgets) else ()
