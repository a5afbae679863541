"""Staging directories, in which the files of an upload are kept until it is complete.

Only when the whole upload has arrived, each of its files gets its final name in one atomic step. So
no process ever sees an incomplete file, and two uploads of one name never overwrite each other. The
directory is locked as long as the upload is active; one without a lock was left by a killed process
and is removed at the next start.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ComfyDeployError, ConflictError
from ..util.posix import lock_file, rename_without_replacing

if TYPE_CHECKING:
    from pathlib import Path

    from ..comfyui.folders import Folders

STAGING_PREFIX = ".comfydeploy-upload-"
"""The prefix of the names of staging directories; listings skip them."""


class Staging:
    """A locked directory that holds the files of one upload until they are published."""

    def __init__(self, folders: Folders, parent: Path) -> None:
        self._parent = folders.open_directory(parent, create=True)
        try:
            self._name, self._descriptor = self._make()
        except BaseException:
            os.close(self._parent)
            raise

    def _make(self) -> tuple[str, int]:
        while True:
            name = f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            os.mkdir(name, 0o700, dir_fd=self._parent)
            with suppress(FileNotFoundError):  # a cleanup may have removed it before it was locked
                descriptor = _open_directory(name, self._parent)
                try:
                    lock_file(descriptor, wait=True)  # without locks, it is never cleaned up
                    os.stat(name, dir_fd=self._parent)
                except BaseException:
                    os.close(descriptor)
                    raise
                return name, descriptor

    def create(self, name: str) -> int:
        """Create a file and return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._descriptor)

    def open(self, name: str) -> int:
        """Open one of the files for reading and return its descriptor."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self._descriptor)

    def publish(self, file: str, name: str, target: int, *, overwrite: bool) -> bool:
        """Rename one of the files to its final name."""
        try:
            if overwrite:
                os.replace(file, name, src_dir_fd=self._descriptor, dst_dir_fd=target)
            else:
                rename_without_replacing(file, self._descriptor, name, target)
        except FileExistsError:
            return False
        except (IsADirectoryError, NotADirectoryError):
            raise ConflictError(f"file: {name} is a folder, which is not overwritten") from None
        return True

    def free(self) -> int:
        """Return the free space of the file system, bytes."""
        found = os.fstatvfs(self._descriptor)
        return found.f_bavail * found.f_frsize

    def remove(self) -> None:
        """Delete the directory and all files in it."""
        try:
            _remove(self._name, self._descriptor, self._parent)
        finally:
            os.close(self._descriptor)
            os.close(self._parent)


def remove_orphans(folders: Folders) -> int:
    """Remove the staging directories of killed processes; return their number."""
    removed = 0
    for directory in folders.upload_directories():
        with suppress(OSError, ComfyDeployError):
            parent = folders.open_directory(directory)
            try:
                for name in os.listdir(parent):  # noqa: PTH208 - a descriptor, not a path
                    if name.startswith(STAGING_PREFIX):
                        removed += _remove_orphan(name, parent)
            finally:
                os.close(parent)
    return removed


def _remove_orphan(name: str, parent: int) -> bool:
    """Remove a staging directory unless it is locked; return whether it was removed."""
    with suppress(OSError):
        descriptor = _open_directory(name, parent)
        try:
            if lock_file(descriptor):
                _remove(name, descriptor, parent)
                return True
        finally:
            os.close(descriptor)
    return False


def _remove(name: str, descriptor: int, parent: int) -> None:
    for file in os.listdir(descriptor):
        os.unlink(file, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)


def _open_directory(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)
