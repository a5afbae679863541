"""The environment of a local ComfyUI, read from its files. All functions block: use threads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..comfyui.find import installed_version
from ..util.secrets import clean_arguments
from ..util.timestamps import utc_now
from .custom_nodes import read_custom_nodes
from .packages import read_packages
from .repositories import read_checkout
from .snapshot import COMFYUI_REPOSITORY, ComfyUI, ModelFile, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass
class Environment:
    """A snapshot, and the sources of its parts that are only on this machine."""

    snapshot: Snapshot
    node_sources: dict[str, Path] = field(default_factory=dict)
    package_sources: dict[str, Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_environment(
    path: Path,
    python: Path,
    *,
    launch_args: Sequence[str],
    node_folders: Sequence[Path],
    models: Sequence[ModelFile],
) -> Environment:
    """Read the environment of a ComfyUI."""
    packages = read_packages(python)
    nodes = read_custom_nodes(node_folders)
    comfyui, warnings = _read_comfyui(path, launch_args)
    snapshot = Snapshot(
        created_at=utc_now(),
        comfyui=comfyui,
        python=packages.python,
        custom_nodes=nodes.nodes,
        models=list(models),
    )
    return Environment(
        snapshot,
        nodes.sources,
        packages.sources,
        [*warnings, *packages.warnings, *nodes.warnings],
    )


def _read_comfyui(path: Path, launch_args: Sequence[str]) -> tuple[ComfyUI, list[str]]:
    version, commit = installed_version(path)
    checkout = read_checkout(path)
    warnings = []
    if checkout is not None and checkout.modified:
        warnings.append("ComfyUI has changes that are not committed; they are not in the snapshot")
    if commit is None and version is None:
        warnings.append("neither the version nor the commit of this ComfyUI is known")
    found = ComfyUI(
        version=version if version and _VERSION.fullmatch(version) else None,
        commit=commit if commit and _COMMIT.fullmatch(commit) else None,
        repository=(checkout.repository if checkout else None) or COMFYUI_REPOSITORY,
        modified=checkout.modified if checkout else False,
        launch_args=clean_arguments(launch_args),
    )
    return found, warnings
