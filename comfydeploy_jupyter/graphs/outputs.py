"""The files, texts and pairs of pictures in the output of a node.

In ComfyUI's ``executed`` event and its history, an output is an object of lists. Files are
objects with ``filename``, ``subfolder`` and ``type``, under any key: ``images``, ``audio``,
``3d``, ``files``. ComfyUI with assets (by default since 0.38) adds ``id`` and ``preview_id``, the
ids of assets, and ``metadata``: ``kind``, ``width``, ``height``. Nodes that preview a 3D model
have its path as the first text of ``result``, and may have further paths there. Any other text in
a list is a text output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from .formats import mapping

MODEL_SUFFIXES = frozenset(
    {".glb", ".gltf", ".fbx", ".obj", ".stl", ".ply", ".splat", ".spz", ".ksplat", ".usdz", ".usd"}
)
"""The suffixes of 3D models, point clouds and splats."""

_RESULT = "result"
_PAIR = ("a_images", "b_images")
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_MAX_SIDE = 1_000_000  # pixels
# ComfyUI 0.33.0 saves the models of these nodes in its temp folder, others in output.
_IN_TEMP = re.compile(r"preview(3d_advanced|_splat|_pointcloud)_[0-9a-f]{32}\.\w{1,10}")


class NodeFile(NamedTuple):
    kind: str  # the key under which the node lists it: ``images``, ``audio``, ``3d``, …
    filename: str
    subfolder: str
    type: str
    url: str = ""  # the address that the server has added, or ``""``
    id: str = ""  # the asset that the file is, or ``""``
    preview_id: str = ""  # the asset that shows it, or ``""``
    width: int | None = None  # pixels
    height: int | None = None


def files_of(output: object) -> Iterator[NodeFile]:
    for kind, item in _items(output):
        if isinstance(item, Mapping):
            name = item.get("filename")
            if isinstance(name, str) and name:
                subfolder, type_ = item.get("subfolder"), item.get("type")
                yield NodeFile(
                    kind,
                    name,
                    subfolder if isinstance(subfolder, str) else "",
                    type_ if isinstance(type_, str) and type_ else "output",
                    str(item.get("url") or ""),
                    *_asset_facts(item),
                )
        elif kind == _RESULT and isinstance(item, str) and is_model(item):
            folder, _, name = item.replace("\\", "/").rpartition("/")
            type_ = "temp" if _IN_TEMP.fullmatch(item) else "output"
            yield NodeFile("3d", name, folder, type_)


def _asset_facts(item: Mapping[str, Any]) -> tuple[str, str, int | None, int | None]:
    """Return the ids and the size that a file with an asset has.

    Nodes may use the same keys for anything else.
    """
    first, second = (
        found if isinstance(found, str) and _ID.fullmatch(found) else ""
        for found in (item.get("id"), item.get("preview_id"))
    )
    facts = mapping(item.get("metadata"))
    width, height = facts.get("width"), facts.get("height")
    if all(type(side) is int and 0 < side <= _MAX_SIDE for side in (width, height)):
        return first, second, width, height
    return first, second, None, None


def texts_of(output: object) -> Iterator[str]:
    """Yield the texts in the output of one node, without those of a preview of a 3D model."""
    return (text for _, text in keyed_texts(output))


def keyed_texts(output: object) -> Iterator[tuple[str, str]]:
    """Yield the same texts, each with its key in the output."""
    texts = [(kind, item) for kind, item in _items(output) if isinstance(item, str)]
    previews = any(kind == _RESULT and is_model(text) for kind, text in texts)
    for kind, text in texts:
        if kind != _RESULT or (text and not previews):
            yield kind, text


def is_model(name: str) -> bool:
    """Return whether a file is a 3D model, a point cloud or a splat, judging by its name."""
    return PurePosixPath(name).suffix.lower() in MODEL_SUFFIXES


def pairs_of(output: object) -> list[tuple[int, int]]:
    """Return the compared files of an output: pairs of indices in `files_of`, (before, after)."""
    # ``ImageCompare`` (0.33.0) lists them under ``a_images`` and ``b_images``.
    kinds = [file.kind for file in files_of(output)]
    befores, afters = ([n for n, kind in enumerate(kinds) if kind == side] for side in _PAIR)
    return list(zip(befores, afters, strict=False))


def _items(output: object) -> Iterator[tuple[str, Any]]:
    for kind, items in output.items() if isinstance(output, Mapping) else ():
        for item in items if isinstance(items, list) else ():
            yield str(kind), item
