"""Graphs for tests: their nodes in both formats, and what is recorded in ``tests/golden``."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions

GOLDEN = Path(__file__).parents[1] / "golden"
SUNSET_PATH = GOLDEN.parents[1] / "notebooks" / "sunset.json"
SUNSET: dict[str, Any] = json.loads(SUNSET_PATH.read_bytes())


SMALL_CLASSES, *SMALL = map(json.loads, (GOLDEN / "small.jsonl").read_text("utf-8").splitlines())
"""Small workflows in the editor's format with what editors queue for them, and prompts with what
ComfyUI says of them; the first line has their node classes."""


def recorded(name: str) -> Any:
    """Return the content of a golden file: a list for JSON lines."""
    text = gzip.decompress((GOLDEN / name).read_bytes())
    return [*map(json.loads, text.splitlines())] if ".jsonl" in name else json.loads(text)


def probe_definitions() -> NodeDefinitions:
    """Return the classes of the recorded workflows, whose names begin with P."""
    return NodeDefinitions(recorded("ui_to_api.object_info.json.gz"))


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    """Return a node in API format."""
    made = {"class_type": class_type, "inputs": inputs}
    return {**made, "_meta": {"title": title}} if title else made


def paper(width: int = 64, height: int = 64, number: int = 1, color: int = 0) -> dict[str, Any]:
    """Return a node that makes pictures of one colour."""
    inputs = {"width": width, "height": height, "batch_size": number, "color": color}
    return node("EmptyImage", "Paper", **inputs)


def shown(node_id: str) -> dict[str, Any]:
    """Return a node that shows the pictures of another one."""
    return node("PreviewImage", images=[node_id, 0])


def declared(title: str = "", /, **inputs: Any) -> dict[str, Any]:
    """Return a node class that requires these inputs."""
    return {"input": {"required": inputs}, **({"display_name": title} if title else {})}


def combo(**options: dict[str, Any]) -> list[Any]:
    """Return a dynamic combo with the inputs of each option."""
    listed = [{"key": key, "inputs": {"required": inputs}} for key, inputs in options.items()]
    return ["COMFY_DYNAMICCOMBO_V3", {"options": listed}]


def group(kind: str, **template: Any) -> list[Any]:
    """Return an autogrow group."""
    slot = {"required": {"value": [kind, {}]}}
    return ["COMFY_AUTOGROW_V3", {"template": {"input": slot, **template}}]


def saved(key: Any, kind: str, values: Any = None, links: Any = (), **more: Any) -> dict[str, Any]:
    """Return a node in the editor's format; ``links`` has names and links of its inputs."""
    slots = [{"name": name, "type": "*", "link": link} for name, link in links]
    return {"id": key, "type": kind, "inputs": slots, "widgets_values": values, **more}


def rows(least: int, most: int, name: str = "Row", /, **template: Any) -> list[Any]:
    """Return a group of rows with these fields."""
    options = {"template": {"required": template}, "min": least, "max": most, "group_name": name}
    return ["COMFY_DYNAMICGROUP_V3", options]
