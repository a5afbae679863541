"""The differences between versions of ComfyUI.

Two versions were observed: 0.3.75 (November 2025) and 0.33.0 (2026). The node definitions show how
a version in between validates prompts: those of 0.33.0 have ``is_input_list`` for each class, those
of 0.3.75 do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .formats import is_link

OLDEST_TESTED, NEWEST_TESTED = "0.3.75", "0.33.0"
"""The versions of ComfyUI that the tests use; versions between them are expected to work."""

_PARTIAL_EXECUTION = (0, 3, 48)  # the first release with it, of 31 July 2025
_EARLIER = (0, 3, 75)  # the newest version that is known to behave like `EARLIER`


@dataclass(frozen=True)
class Behaviour:
    """How a version of ComfyUI validates prompts."""

    # The defaults are those of 0.33.0; 0.3.75 differs in all of them.

    # the error for a node without a class, or of an unknown class, is ``missing_node_type`` with
    # its title. Otherwise it is ``invalid_prompt``
    names_missing_classes: bool = True
    # old node classes are replaced before the validation, as in ``GET /node_replacements``
    replaces_nodes: bool = True
    # each node of a cycle has the error ``dependency_cycle``. Otherwise cycles are followed up to
    # Python's recursion limit
    reports_cycles: bool = True
    # dynamic inputs of the V3 schema (autogrow, dynamic combo, dynamic slot) are replaced by the
    # inputs ``parent.child`` of the prompt. Otherwise they are validated as inputs of their type
    expands_inputs: bool = True
    # values of V3 combos (type ``COMBO``) must be among the options; in a list of several choices,
    # each of them. Otherwise only combos of the older kind are checked
    checks_v3_options: bool = True
    # ``*`` is valid in a list of types, too; ``COMFY_MATCHTYPE_V3`` can be linked to all types, and
    # an output that is a list of options to a ``COMBO``
    wide_types: bool = True
    # ``value_not_in_list`` has the ``repr()`` of the value. Otherwise the value in quotes
    quotes_values: bool = True
    # A file outside of its folder is missing. Otherwise absolute paths and ``..`` are allowed
    keeps_files_inside: bool = True
    # the key of `NODE_CHECKS` with the checks of node classes: ``"today"`` or ``"earlier"``
    own_checks: str = "today"


TODAY = Behaviour()
EARLIER = Behaviour(
    names_missing_classes=False,
    replaces_nodes=False,
    reports_cycles=False,
    expands_inputs=False,
    checks_v3_options=False,
    wide_types=False,
    quotes_values=False,
    keeps_files_inside=False,
    own_checks="earlier",
)


def behaviour_of(version: str | None, object_info: Mapping[str, Any]) -> Behaviour:
    """Return how a ComfyUI validates prompts."""
    parts = version_parts(version)
    if parts is not None and parts <= _EARLIER:
        return EARLIER
    for info in islice(object_info.values(), 10):
        # ComfyUI's definitions have a display_name; others were written by hand
        if isinstance(info, Mapping) and "display_name" in info:
            return TODAY if "is_input_list" in info else EARLIER
    return TODAY


def has_partial_execution(version: str | None) -> bool:
    """Return whether ``POST /prompt`` takes ``partial_execution_targets``, the wanted outputs."""
    # An older ComfyUI ignores the field and executes all outputs. An unknown version is treated as
    # an older one.
    parts = version_parts(version)
    return parts is not None and parts >= _PARTIAL_EXECUTION


def version_parts(version: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a version such as ``"v0.33.0"``, to compare it; None if it has none."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,9})", version or "")
    return tuple(int(part) for part in found[1].split(".")) if found else None


def outside_tested_range(version: str | None) -> str | None:
    """Return a sentence that says that a version is not between those that the tests use."""
    parts = version_parts(version)
    oldest, newest = version_parts(OLDEST_TESTED), version_parts(NEWEST_TESTED)
    if parts is None or oldest is None or newest is None or oldest <= parts <= newest:
        return None
    how = "older" if parts < oldest else "newer"
    return (
        f"ComfyUI {version} is {how} than the versions that this package is tested with"
        f" ({OLDEST_TESTED} to {NEWEST_TESTED}): most things work, but some may not."
    )


BUNDLED: Mapping[str, Any] = {
    "ResizeImagesByLongerEdge": [
        {
            "new_node_id": "ImageScaleToMaxDimension",
            "input_mapping": [
                {"new_id": "image", "old_id": "images"},
                {"new_id": "largest_size", "old_id": "longer_edge"},
                {"new_id": "upscale_method", "set_value": "lanczos"},
            ],
            "output_mapping": [{"new_idx": 0, "old_idx": 0}],
        }
    ],
    "ImageBatch": [
        {
            "new_node_id": "BatchImagesNode",
            "input_mapping": [
                {"new_id": "images.image0", "old_id": "image1"},
                {"new_id": "images.image1", "old_id": "image2"},
            ],
        }
    ],
    "ImageScaleBy": [
        {
            "new_node_id": "ResizeImageMaskNode",
            "input_mapping": [
                {"new_id": "input", "old_id": "image"},
                {"new_id": "resize_type", "set_value": "scale by multiplier"},
                {"new_id": "resize_type.multiplier", "old_id": "scale_by"},
                {"new_id": "scale_method", "old_id": "upscale_method"},
            ],
        }
    ],
    "T2IAdapterLoader": [
        {
            "new_node_id": "ControlNetLoader",
            "input_mapping": [{"new_id": "control_net_name", "old_id": "t2i_adapter_name"}],
        }
    ],
    "Load3DAnimation": [{"new_node_id": "Load3D"}],
    "Preview3DAnimation": [{"new_node_id": "Preview3D"}],
    "SDV_img2vid_Conditioning": [{"new_node_id": "SVD_img2vid_Conditioning"}],
    "ConditioningAverage ": [{"new_node_id": "ConditioningAverage"}],
}
"""The replacements that ComfyUI 0.33.0 comes with, in the form of its reply."""


class ReplacementError(Exception):
    """ComfyUI cannot replace a node and replies 500."""

    def __init__(self, node_id: str, old: str, new: str, cause: KeyError) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.node_id = node_id
        self.old = old
        self.new = new
        self.cause = cause


def replacement_of(
    class_type: Any, replacements: Mapping[str, Any], is_known: Callable[[Any], bool]
) -> Mapping[str, Any] | None:
    """Return the replacement of a class that ComfyUI does not have; None if there is none."""
    # ComfyUI uses only the first of several, and only if it has the new class. The new class is not
    # replaced again.
    offered = replacements.get(class_type)
    first = offered[0] if isinstance(offered, list) and offered else None
    new = first.get("new_node_id") if isinstance(first, Mapping) else None
    return first if isinstance(new, str) and is_known(new) else None


def replace_nodes(
    prompt: Mapping[str, Any], replacements: Mapping[str, Any], is_known: Callable[[Any], bool]
) -> dict[str, Any]:
    """Return a prompt with its old nodes replaced, as ComfyUI does before the check."""
    changed = dict(prompt)
    moved: dict[str, dict[Any, Any]] = {}  # the new slots of the outputs of replaced nodes
    for node_id, node in prompt.items():
        if "class_type" not in node or "inputs" not in node or is_known(node["class_type"]):
            continue
        found = replacement_of(node["class_type"], replacements, is_known)
        if found is None:
            continue
        new = found["new_node_id"]
        try:
            changed[node_id] = {
                **node,
                "_meta": node["_meta"].copy(),
                "class_type": new,
                "inputs": _taken_over(node["inputs"], found.get("input_mapping")),
            }
        except KeyError as cause:
            raise ReplacementError(node_id, node["class_type"], new, cause) from None
        slots = {
            row["old_idx"]: row["new_idx"]
            for row in _rows(found.get("output_mapping"))
            if "new_idx" in row and isinstance(row.get("old_idx"), int)
        }
        if any(old != slot for old, slot in slots.items()):
            moved[node_id] = slots
    if moved:
        changed = {node_id: _relinked(node, moved) for node_id, node in changed.items()}
    return changed


def _taken_over(inputs: Mapping[str, Any], mapping: Any) -> dict[str, Any]:
    taken = {}
    for row in _rows(mapping):
        if isinstance(row.get("new_id"), str):
            if "set_value" in row:
                taken[row["new_id"]] = row["set_value"]
            elif isinstance(row.get("old_id"), str):
                taken[row["new_id"]] = inputs[row["old_id"]]
    return taken


def _relinked(node: Any, moved: Mapping[str, Mapping[Any, Any]]) -> Any:
    """Return a node whose links have the new slots of replaced nodes."""
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        return node
    inputs = {
        name: [value[0], moved[value[0]].get(value[1], value[1])]
        if is_link(value) and value[0] in moved
        else value
        for name, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs}


def _rows(mapping: Any) -> list[Mapping[str, Any]]:
    rows = mapping if isinstance(mapping, list) else []
    return [row for row in rows if isinstance(row, Mapping)]
