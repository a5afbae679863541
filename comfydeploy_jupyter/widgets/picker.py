"""Finding workflow files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..client.graph import Source
from ..errors import ComfyDeployError

if TYPE_CHECKING:
    from pathlib import Path


MAX_FILE_SIZE = 20 * 1024 * 1024  # bytes of a JSON file that may be a workflow
MEDIA = (".png", ".webp", ".flac", ".mp3", ".opus", ".mp4", ".webm", ".latent")
"""Endings of files in which ComfyUI saves the workflow that made them."""


def is_workflow(path: Path) -> bool:
    """Return whether a file is a workflow, or carries one."""
    suffix = path.suffix.lower()
    try:
        if suffix in MEDIA:
            return Source(path).graph is not None
        if suffix != ".json" or path.stat().st_size > MAX_FILE_SIZE:
            return False
        graph = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, ComfyDeployError):
        return False
    if not isinstance(graph, dict) or not graph:
        return False
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        return True
    return all(isinstance(node, dict) and "class_type" in node for node in graph.values())
