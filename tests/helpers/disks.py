"""Full and small disks."""

from __future__ import annotations

import resource
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Limit the size of this process's files in bytes: writes above the limit fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def new_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a new file system, of a size such as ``"4m"``, in a test with the mark ``mounts``."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, how: str) -> None:
    """Make a file system read-only (``"ro"``) or not (``"rw"``)."""
    subprocess.run(["mount", "-o", f"remount,bind,{how}", folder], check=True)
