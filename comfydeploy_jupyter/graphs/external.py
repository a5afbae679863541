"""External-input nodes: their classes, and the inputs that hold the values of users.

The nodes (``ComfyUIDeployExternal…``) come with the ComfyUI Deploy node pack. What each class reads
and returns was taken from version 2.3.10 of that pack; the route contract decides where the two
differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from .formats import class_of, inputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXTERNAL_PREFIX = "ComfyUIDeployExternal"

KINDS: Mapping[str, str] = MappingProxyType(
    {
        f"{EXTERNAL_PREFIX}{name}": kind
        for name, kind in {
            "Text": "text",
            "TextAny": "text",
            "Enum": "combo",
            "Number": "float",
            "NumberSlider": "float",
            "Slider": "float",
            "NumberInt": "int",
            "NumberSliderInt": "int",
            "Boolean": "bool",
            "Seed": "seed",
            "Checkpoint": "checkpoint",
            "Lora": "lora",
            "FaceModel": "face_model",
            "Image": "image",
            "ImageAlpha": "image_alpha",
            "ImageBatch": "image_batch",
            "Video": "video",
            "Vid": "video_path",
            "Audio": "audio",
            "EXR": "exr",
            "File": "file",
        }.items()
    }
)
"""External class -> kind, as in `ExternalInput`."""

FIELD_BY_KIND = {
    "lora": "lora_url",
    "face_model": "face_model_url",
    "image_batch": "images",
    "audio": "audio_file",
    "exr": "exr_file",
    "file": "file_url",
}
"""Kind -> the input that the class reads, if that is not ``default_value`` or ``input_id``."""

_READ_FROM_INPUT_ID = ("image", "image_alpha", "video", "video_path")

EXTERNAL_VALUE_FIELD: Mapping[str, str] = MappingProxyType(
    {
        class_type: FIELD_BY_KIND.get(kind, "default_value")
        for class_type, kind in KINDS.items()
        if kind not in _READ_FROM_INPUT_ID
    }
)
"""External class -> the input that it reads. Images and videos read ``input_id`` and are absent."""

NAME_FIELD = {
    "face_model": "default_face_model_name",
    "video": "default_video",
    "video_path": "default_value",
}
"""Kind -> the input in which the pack looks for a name; in the others it looks for URLs only."""

_DEFAULT_FIELD = {**NAME_FIELD, "lora": "default_lora_name", "image": "default_value_url"}
_FURTHER_DEFAULTS = ("default_value", "default_value_url")
Target: TypeAlias = tuple[str, str]
"""Node id and input name."""


@dataclass(frozen=True)
class ExternalInput:
    """One external-input node of a graph."""

    node_id: str
    input_id: str
    class_type: str
    # text, combo, float, int, bool, seed, checkpoint, lora, face_model, image, image_alpha,
    # image_batch, video, video_path, audio, exr or file
    kind: str
    default: Any = None  # the value that is used if the user sets none, or None
    # whether something is used if the user sets no value: a default, or a link to another node
    has_default: bool = False
    display_name: str = ""
    description: str = ""
    min: float | None = None
    max: float | None = None
    options: list[Any] | None = None  # the choices of an enum


def external_values(class_type: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the inputs of an external-input node that are set to the value of a user.

    A list, or one image alone, becomes the JSON text that an image batch reads. The name of a file
    or model is also put into the input in which the class looks for names.
    """
    kind = KINDS.get(class_type)
    if kind == "image_batch":
        value = _as_image_list(value)
    elif kind == "bool" and isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    elif isinstance(value, list):
        value = {"__value__": value}
    yield "input_id", value
    if class_type in EXTERNAL_VALUE_FIELD:
        yield EXTERNAL_VALUE_FIELD[class_type], value
    if kind in NAME_FIELD and isinstance(value, str) and not is_url(value):
        yield NAME_FIELD[kind], value


def _as_image_list(value: object) -> object:
    """Return the images of a batch as the node reads them: a JSON list in a string."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = [value] if value else []
    return json.dumps(value) if isinstance(value, list) else value


def is_url(value: object) -> bool:
    """Return whether a value is a URL, or a ``data:`` URL."""
    return isinstance(value, str) and value.startswith(("http://", "https://", "data:"))


def external_inputs(graph: Mapping[str, Mapping[str, Any]]) -> list[ExternalInput]:
    """Return the external-input nodes of a graph, in its order."""
    found = []
    for node_id, node in graph.items():
        kind, inputs = KINDS.get(class_of(node)), inputs_of(node)
        if kind is None or not isinstance(input_id := inputs.get("input_id"), str):
            continue
        default = inputs.get(default_field(class_of(node)))
        found.append(
            ExternalInput(
                node_id,
                input_id,
                class_of(node),
                kind,
                default=None if isinstance(default, list) else default,
                has_default=any(
                    inputs.get(name) not in (None, "")
                    for name in (default_field(class_of(node)), *_FURTHER_DEFAULTS)
                ),
                display_name=text_of(inputs.get("display_name")),
                description=text_of(inputs.get("description")),
                min=_number(inputs.get("min_value")),
                max=_number(inputs.get("max_value")),
                options=_enum_options(inputs) if kind == "combo" else None,
            )
        )
    return found


def value_field(class_type: str) -> str:
    """Return the input of an external class that holds the value of the user."""
    return EXTERNAL_VALUE_FIELD.get(class_type, "input_id")


def default_field(class_type: str) -> str:
    """Return the input of an external class that holds its default."""
    kind = KINDS[class_type]
    return _DEFAULT_FIELD.get(kind) or EXTERNAL_VALUE_FIELD.get(class_type, "default_value")


def _enum_options(inputs: Mapping[str, Any]) -> list[Any] | None:
    """Read the choices of an External Enum: a JSON list in a string, as the pack's editor does."""
    try:
        options = json.loads(inputs.get("options") or "")
    except (TypeError, ValueError, RecursionError):
        return None
    return options if isinstance(options, list) and options else None


def text_of(value: object) -> str:
    """Return a text, and ``""`` for values that are none."""
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
