"""Finds the workflow files in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..client.graph import Source
from ..errors import ComfyDeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_FILES = 200
MOST_LOOKED_AT = 2000
LARGEST_FILE = 20 * 1024 * 1024  # bytes of a JSON file that may be a workflow
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})
DEEPEST = 4
MEDIA = (".png", ".webp", ".flac", ".mp3", ".opus", ".mp4", ".webm", ".latent")
"""Endings of files in which ComfyUI saves the workflow that made them."""

ACCEPTED = ",".join((".json", *MEDIA))


def workflow_files(directory: Path, stopped: Callable[[], bool]) -> Iterator[Path]:
    """Yield the paths of workflow files in a folder and its subfolders.

    Parameters
    ----------
    directory : pathlib.Path
        The folder.
    stopped : callable
        Returns whether the search is to end early.
    """
    count = looked_at = 0
    for folder, folders, names in os.walk(directory):
        depth = len(Path(folder).relative_to(directory).parts)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in SKIPPED_FOLDERS and depth < DEEPEST
        )
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in (".json", *MEDIA):
                continue
            looked_at += 1
            if is_workflow(path):
                yield path
                count += 1
            if count >= MOST_FILES or looked_at >= MOST_LOOKED_AT or stopped():
                return


def is_workflow(path: Path) -> bool:
    """Return whether a file is a workflow, or carries one."""
    suffix = path.suffix.lower()
    try:
        if suffix in MEDIA:
            return Source(path).graph is not None
        if suffix != ".json" or path.stat().st_size > LARGEST_FILE:
            return False
        graph = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, ComfyDeployError):
        return False
    if not isinstance(graph, dict) or not graph:
        return False
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        return True
    return all(isinstance(node, dict) and "class_type" in node for node in graph.values())


def title_of_file(path: Path, directory: Path) -> str:
    """Return what a list calls a file: its path in the folder where it is in that folder."""
    whole = path.absolute()
    below = whole.is_relative_to(directory)
    return whole.relative_to(directory).as_posix() if below else path.as_posix()
