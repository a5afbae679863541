"""Old node classes that ComfyUI replaces before it checks a prompt (``GET /node_replacements``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .formats import is_link

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
    """Return the replacement of a class that ComfyUI does not have; None if there is none.

    ComfyUI uses only the first of several, and only if it has the new class. The new class is not
    replaced again.
    """
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
