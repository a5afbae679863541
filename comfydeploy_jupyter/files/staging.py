"""Staging directories: where the files of an upload are until they get their names.

Only when all of an upload has arrived are its files linked to their names, in one step each, so
that nobody ever sees half a file and two uploads of one name never overwrite each other. The
directory is locked while the upload lives; one without a lock was left by a killed process and is
removed at the next start.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ComfyDeployError, ConflictError
from ..posix import lock_file

if TYPE_CHECKING:
    from pathlib import Path

    from ..comfyui.folders import Folders

STAGING_PREFIX = ".comfydeploy-upload-"
"""How the names of staging directories begin; listings pass them over."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class Staging:
    """A locked directory that holds the files of one upload until they are published.

    Parameters
    ----------
    folders : Folders
        Opens the directory around it.
    parent : Path
        That directory; made if missing.
    """

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
            with suppress(FileNotFoundError):  # one that cleans up may be faster than our lock
                descriptor = _open_directory(name, self._parent)
                with suppress(OSError):  # file systems without locks: never cleaned up, works
                    lock_file(descriptor, wait=True)
                try:
                    os.stat(name, dir_fd=self._parent)
                except BaseException:
                    os.close(descriptor)
                    raise
                return name, descriptor

    def create(self, name: str) -> int:
        """Make a file and return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._descriptor)

    def open(self, name: str) -> int:
        """Open one of the files to read it and return its descriptor."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self._descriptor)

    def publish(self, file: str, name: str, target: int, *, overwrite: bool) -> bool:
        """Give one of the files its name.

        Parameters
        ----------
        file : str
            The file here.
        name : str
            Its name from now on.
        target : int
            Descriptor of the directory to hold it.
        overwrite : bool
            Whether it replaces a file that has the name.

        Returns
        -------
        bool
            False: the name is taken, nothing was done.

        Raises
        ------
        ConflictError
            A folder has the name of a file to overwrite.
        OSError
            ``EXDEV``: the target is on another file system. Others as the system says.
        """
        try:
            if overwrite:
                os.replace(file, name, src_dir_fd=self._descriptor, dst_dir_fd=target)
            else:
                self._link(file, name, target)
        except FileExistsError:
            return False
        except (IsADirectoryError, NotADirectoryError):
            raise ConflictError(
                f"file: {name} is a folder there, so it is not overwritten"
            ) from None
        return True

    def _link(self, file: str, name: str, target: int) -> None:
        here = self._descriptor
        try:
            os.link(file, name, src_dir_fd=here, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # a file system without links: an empty file reserves the name
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=target))
            os.replace(file, name, src_dir_fd=here, dst_dir_fd=target)

    def free(self) -> int:
        """Return how many bytes are free on the file system."""
        found = os.fstatvfs(self._descriptor)
        return found.f_bavail * found.f_frsize

    def remove(self) -> None:
        """Delete the directory with all that is in it."""
        try:
            _remove(self._name, self._descriptor, self._parent)
        finally:
            os.close(self._descriptor)
            os.close(self._parent)


def remove_orphans(folders: Folders) -> int:
    """Remove the staging directories of killed processes; return how many there were."""
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
    """Remove a staging directory unless its upload lives; return whether it is gone."""
    with suppress(OSError):
        descriptor = _open_directory(name, parent)
        try:
            lock_file(descriptor)
            _remove(name, descriptor, parent)
        finally:
            os.close(descriptor)
        return True
    return False


def _remove(name: str, descriptor: int, parent: int) -> None:
    for file in os.listdir(descriptor):
        os.unlink(file, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)


def _open_directory(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)
