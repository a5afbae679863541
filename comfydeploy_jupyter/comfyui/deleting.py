"""Deletes output files of a ComfyUI on this machine. All functions block: call them in threads."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import ForbiddenPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

DELETABLE = ("output", "temp")


class Directories(Protocol):
    """The folders of a ComfyUI, such as `Folders`."""

    def directory(self, kind: str) -> Path:
        """Return the folder of files of a type."""


def locate(folders: Directories, kind: str, subfolder: str, filename: str) -> tuple[bytes, bytes]:
    """Return the root folder of an output file and its path in that folder, without links."""
    if kind not in DELETABLE:
        raise ForbiddenPathError("only files in ComfyUI's output and temp folders are deleted")
    root = os.path.realpath(folders.directory(kind))
    try:
        if not _is_name(filename) or "\0" in subfolder:
            raise ForbiddenPathError("its name is not the name of a file")
        parent = Path(os.path.realpath(Path(root, subfolder)))
        if not parent.is_relative_to(root):
            raise ForbiddenPathError(f"it is outside of ComfyUI's {kind} folder")
        return os.fsencode(root), os.fsencode((parent / filename).relative_to(root))
    except UnicodeEncodeError:  # half of an emoji
        raise ForbiddenPathError("its name is not the name of a file") from None


def state_of(root: bytes, path: bytes) -> str | None:
    """Return a text that identifies a file until it is changed; None if it is missing."""
    try:
        with _parent(root, path) as parent:
            return _state(os.stat(_name(path), dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForbiddenPathError(f"it cannot be read: {error.strerror}") from None


def size_of(state: str) -> int:
    """Return the size in a text that `state_of` has returned, bytes."""
    return int(json.loads(state)[0])


def delete_file(root: bytes, path: bytes, state: str) -> bool:
    """Delete a file if it is still in this state; return whether it was (OSError: it cannot be)."""
    try:
        with _parent(root, path) as parent:
            name = _name(path)
            if _state(os.stat(name, dir_fd=parent, follow_symlinks=False)) != state:
                return False
            os.unlink(name, dir_fd=parent)
    except (FileNotFoundError, ForbiddenPathError):
        return False
    return True


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _state(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        raise ForbiddenPathError("it is not a regular file")
    return json.dumps([found.st_size, found.st_mtime_ns, found.st_ino])


@contextmanager
def _parent(root: bytes, path: bytes) -> Iterator[int]:
    """Open the folder of a file without following links."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    try:
        for part in path.split(b"/")[:-1]:
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)
