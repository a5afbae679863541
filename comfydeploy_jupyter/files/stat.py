"""Information about a path and its file system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError

if TYPE_CHECKING:
    from ..comfyui.folders import Folders


def fs_stat(folders: Folders, path: str | None = None) -> dict[str, Any]:
    """Return information about a path and its file system. Reads the disk: call it in a thread."""
    found = _default(folders) if path is None else folders.resolve(path, kind="any", field="path")
    try:
        status, system = found.stat(), os.statvfs(found)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist.") from None
    return {
        "path": str(found),
        "type": "directory" if found.is_dir() else "file",
        "size": status.st_size,
        "modified": status.st_mtime,
        "filesystem": {
            "total": system.f_blocks * system.f_frsize,
            "used": (system.f_blocks - system.f_bfree) * system.f_frsize,
            "free": system.f_bavail * system.f_frsize,
        },
    }


def _default(folders: Folders) -> Path:
    start = folders.models_directory or folders.jupyter_root
    if start is None:
        raise NotFoundError("No folder is known; give one as `path`.")
    real = Path(os.path.realpath(start))
    return next(folder for folder in (real, *real.parents) if folder.is_dir())
