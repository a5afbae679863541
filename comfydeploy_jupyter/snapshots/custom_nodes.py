"""The custom nodes of a ComfyUI, each with its public source, or with its files only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..comfyui.find import read_text
from .repositories import read_checkout
from .snapshot import CustomNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_SHIPPED = frozenset({"websocket_image_save.py"})  # part of ComfyUI
_OFF = ".disabled"
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_PROJECT = re.compile(
    r"^[^\S\n]*\[project\][^\S\n]*$(.*?)(?=^[^\S\n]*\[|\Z)", re.MULTILINE | re.DOTALL
)


@dataclass
class NodeReport:
    """The packs that were found."""

    nodes: list[CustomNode] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_custom_nodes(folders: Iterable[Path]) -> NodeReport:
    """Read all packs in the folders of custom nodes.

    A pack disabled by ComfyUI-Manager is named ``<name>.disabled``, or is in ``.disabled``.
    """
    report = NodeReport()
    for path, disabled in _packs(folders):
        node = _describe(path, report, disabled=disabled)
        if node.name in report.sources:
            report.warnings.append(f"{node.name} exists twice; {path} is left out")
            continue
        report.nodes.append(node)
        report.sources[node.name] = path
    report.nodes.sort(key=lambda node: node.name.lower())
    return report


def _packs(folders: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each pack and whether it is disabled; the enabled packs come first."""
    off = []
    for folder in folders:
        for path in _entries(folder):
            if path.name.endswith(_OFF):
                off.append(path)
            else:
                yield path, False
        off += _entries(folder / _OFF)
    yield from ((path, True) for path in off)


def _entries(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - only the names are used, not paths
    except OSError:
        return []
    paths = [folder / name for name in names if name.isprintable() and name not in _SHIPPED]
    return [
        path
        for path in paths
        if not path.name.startswith(".")
        if (path.is_dir() and path.name != "__pycache__")
        or (path.is_file() and path.name.removesuffix(_OFF).endswith(".py"))
    ]


def _describe(path: Path, report: NodeReport, *, disabled: bool) -> CustomNode:
    name = path.name.removesuffix(_OFF)
    name = name.partition("@")[0] or name if disabled else name
    checkout = read_checkout(path)
    if checkout is not None:
        if checkout.repository and checkout.commit:
            if checkout.modified:
                report.warnings.append(
                    f"{name} has changes that are not committed; only its commit is used"
                )
            return CustomNode(
                name=name,
                kind="git",
                repository=checkout.repository,
                commit=checkout.commit,
                disabled=disabled,
                modified=checkout.modified,
            )
        report.warnings.append(
            f"{name} has no repository that others can reach; its files are copied"
        )
    registered = _registered(path)
    if registered is not None:
        node_id, version = registered
        return CustomNode(
            name=name, kind="registry", id=node_id, version=version, disabled=disabled
        )
    return CustomNode(name=name, kind="files", disabled=disabled)


def _registered(path: Path) -> tuple[str, str] | None:
    """Return id and version of a pack that was installed from the Comfy registry, or None.

    The installer writes a list of its files, ``.tracking``, beside the ``pyproject.toml`` that
    contains id and version.
    """
    if not (path / ".tracking").is_file():
        return None
    section = _PROJECT.search(read_text(path / "pyproject.toml"))
    if section is None:
        return None
    found = [
        re.search(
            rf"^[^\S\n]*{key}[^\S\n]*=[^\S\n]*[\"']([^\"'\n]+)[\"']", section[1], re.MULTILINE
        )
        for key in ("name", "version")
    ]
    if found[0] is None or found[1] is None:
        return None
    node_id, version = found[0][1].strip().lower(), found[1][1].strip()
    return (node_id, version) if _TOKEN.fullmatch(node_id) and _TOKEN.fullmatch(version) else None
