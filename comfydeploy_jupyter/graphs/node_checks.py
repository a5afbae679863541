"""The checks that ComfyUI's own node classes have for their inputs, besides their definitions.

A node class may have a function that validates its inputs (``VALIDATE_INPUTS``, in the newer schema
``validate_inputs``). Node definitions do not include it, so the few functions of ComfyUI's own
classes are reproduced here, for the versions in `versions`: their arguments and their results.
Classes of node packs may have such functions, too, which are not known here.
"""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Exists = Callable[[Any], bool]


@dataclass(frozen=True)
class NodeCheck:
    """The check of a node class."""

    function: str  # qualified name of the function, as Python's exceptions have it
    # the inputs that it takes. ComfyUI does not check bounds and options of these
    arguments: tuple[str, ...]
    # ``decide(values, exists)`` with the values of `arguments`; returns True, or the reason why
    # they are invalid, or raises what the node class raises. ``exists`` returns whether a file with
    # an annotated name exists
    decide: Callable[[Mapping[str, Any], Exists], bool | str]
    # whether it takes the types of linked inputs, as ``values["input_types"]``. ComfyUI then does
    # not compare the types of the node's links
    takes_types: bool = False
    takes_all: bool = False  # whether it takes all other inputs of the node, too
    optional: tuple[str, ...] = ()  # the `arguments` that may be missing
    # whether the options of the input are files of the input folder, without subfolders
    lists_folder: bool = False

    def takes(self, name: str) -> bool:
        """Return whether the function takes an input."""
        return self.takes_all or name in self.arguments

    def run(self, values: Mapping[str, Any], exists: Exists) -> bool | str:
        """Return the result of the check: True, or the reason why the inputs are invalid."""
        absent = [
            f"'{name}'"
            for name in self.arguments
            if name not in values and name not in self.optional
        ]
        if absent:
            plural = "s" if len(absent) > 1 else ""
            *others, last = absent
            names = f"{', '.join(others)}{',' * (len(others) > 1)} and {last}" if others else last
            raise TypeError(
                f"{self.function}() missing {len(absent)} required positional "
                f"argument{plural}: {names}"
            )
        return self.decide(values, exists)


def split_annotated(name: str) -> tuple[str, str]:
    """Return folder and path of a file name such as ``"cat.png [output]"``.

    Source: ComfyUI's folder_paths.py, which removes the annotation and any one character before it.
    """
    for folder in ("output", "input", "temp"):
        if name.endswith(f"[{folder}]"):
            return folder, name[: -len(folder) - 3]
    return "input", name


def list_of_files(name: str, checks: str) -> tuple[str, str] | None:
    """Return the class and the input whose options have all files like this of the input folder.

    ComfyUI lists files by the kind of their extension, and only those without a subfolder.
    """
    if name.endswith(".latent"):
        return "LoadLatent", "latent"
    kind = (mimetypes.guess_type(name, strict=False)[0] or "").partition("/")[0]
    return _LISTS.get(kind, ("LoadImageMask", "image") if checks == "earlier" else None)


def _file_check(owner: str, argument: str, kind: str, function: str) -> NodeCheck:
    def decide(values: Mapping[str, Any], exists: Exists) -> bool | str:
        name = values[argument]
        return exists(name) or f"Invalid {kind} file: {name}"

    return NodeCheck(f"{owner}.{function}", (argument,), decide, lists_folder=True)


def _camera_moves(values: Mapping[str, Any], _exists: Exists) -> bool | str:
    if any(not math.isclose(values[name], 0.0) for name in _CAMERA):
        return True
    return "Invalid camera control configs: at least one of the values must be non-zero"


def _aspect_ratio(values: Mapping[str, Any], _exists: Exists) -> bool:
    text = values["aspect_ratio"]
    parts = text.split(":")
    if len(parts) != 2:
        raise ValueError(f"Aspect ratio must be 'X:Y' (e.g., 16:9), got '{text}'.")
    try:
        width, height = (int(part.strip()) for part in parts)
    except ValueError:
        raise ValueError(
            f"Aspect ratio must contain integers separated by ':', got '{text}'."
        ) from None
    if width <= 0 or height <= 0:
        raise ValueError(f"Aspect ratio parts must be positive integers, got {width}:{height}.")
    ratio = width / height
    # ComfyUI has the same sign for both bounds
    for outside, bound in ((ratio < 1 / 4, "0.25"), (ratio > 4, "4")):
        if outside:
            raise ValueError(f"Aspect ratio `{ratio:.2g}` must be ≤ {bound}.")
    return True


def _task_type(values: Mapping[str, Any], _exists: Exists) -> bool | str:
    types = ("MODEL_TASK_ID", "RIG_TASK_ID", "RETARGET_TASK_ID")
    if values["input_types"]["original_model_task_id"] in types:
        return True
    return "original_model_task_id must be MODEL_TASK_ID, RIG_TASK_ID or RETARGET_TASK_ID type"


def _model_file(values: Mapping[str, Any], exists: Exists) -> bool | str:
    name = values["model_file"]
    if not name or name == "none":
        return True
    return exists(name) or f"Invalid 3D model file: {name}"


def _anything(_values: Mapping[str, Any], _exists: Exists) -> bool:
    return True


_LISTS = {
    "image": ("LoadImage", "image"),
    "video": ("LoadVideo", "file"),
    "audio": ("LoadAudio", "audio"),
}
_CAMERA = ("horizontal_movement", "vertical_movement", "pan", "tilt", "roll", "zoom")
_DEVICE = ("device",)
_IMAGE = _file_check("LoadImage", "image", "image", "VALIDATE_INPUTS")

_ALWAYS: Mapping[str, NodeCheck] = {
    "LoadImage": _IMAGE,
    "LoadImageOutput": _IMAGE,
    "WebcamCapture": _IMAGE,
    "LoadLatent": _file_check("LoadLatent", "latent", "latent", "VALIDATE_INPUTS"),
    "LoadVideo": _file_check("LoadVideo", "file", "video", "validate_inputs"),
    "FluxProUltraImageNode": NodeCheck(
        "FluxProUltraImageNode.validate_inputs", ("aspect_ratio",), _aspect_ratio
    ),
    "TripoConversionNode": NodeCheck(
        "TripoConversionNode.validate_inputs", (), _task_type, takes_types=True
    ),
}

NODE_CHECKS: Mapping[str, Mapping[str, NodeCheck]] = {
    "today": {
        **_ALWAYS,
        "LoadImageMask": _IMAGE,
        "LoadAudio": _file_check("LoadAudio", "audio", "audio", "validate_inputs"),
        "Load3D": NodeCheck("Load3D.validate_inputs", ("model_file",), _model_file, takes_all=True),
        "Load3DAdvanced": NodeCheck(
            "Load3DAdvanced.validate_inputs", ("model_file",), _model_file, takes_all=True
        ),
        "CustomCombo": NodeCheck(
            "CustomComboNode.validate_inputs",
            ("choice", "index"),
            _anything,
            takes_all=True,
            optional=("index",),
        ),
        "ModelAttentionBackend": NodeCheck(
            "ModelAttentionBackend.VALIDATE_INPUTS", ("attention",), _anything
        ),
        "SelectModelDevice": NodeCheck(
            "SelectModelDeviceNode.validate_inputs", _DEVICE, _anything, optional=_DEVICE
        ),
        "SelectCLIPDevice": NodeCheck(
            "SelectCLIPDeviceNode.validate_inputs", _DEVICE, _anything, optional=_DEVICE
        ),
        "SelectVAEDevice": NodeCheck(
            "SelectVAEDeviceNode.validate_inputs", _DEVICE, _anything, optional=_DEVICE
        ),
    },
    "earlier": {
        **_ALWAYS,
        "LoadImageMask": _file_check("LoadImageMask", "image", "image", "VALIDATE_INPUTS"),
        "LoadAudio": _file_check("LoadAudio", "audio", "audio", "VALIDATE_INPUTS"),
        "KlingCameraControls": NodeCheck(
            "KlingCameraControls.validate_inputs", _CAMERA, _camera_moves
        ),
    },
}
"""The classes of ComfyUI that check their inputs themselves, by `versions.Behaviour.own_checks`."""
