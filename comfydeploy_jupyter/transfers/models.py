"""The model folders of ComfyUI as a volume. All functions block: call them in threads."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ..errors import ConflictError, ForbiddenPathError, InvalidRequestError, NotFoundError
from .downloads import PartFile
from .http import TransferError

if TYPE_CHECKING:
    from pathlib import Path

    from ..comfyui.folders import Folders

_CHUNK = 1024 * 1024


def place(folders: Folders, folder: str, filename: str, *, field: str = "filename") -> Path:
    """Return the path of a model, which need not exist.

    Parameters
    ----------
    folders : Folders
        ComfyUI's folders.
    folder : str
        ``checkpoints``, ``models/checkpoints``, or one of its subfolders.
    filename : str
        The file name, with subfolders if any.
    field : str
        Name of the request's field, for error messages.

    Raises
    ------
    InvalidRequestError, NotFoundError
        If there is no such folder, or the name is invalid.
    ForbiddenPathError
        If the path is outside of the folder.
    """
    first, _, rest = folder.strip("/").removeprefix("models/").partition("/")
    try:
        root = folders.directory(f"models/{first}")
    except InvalidRequestError:
        raise InvalidRequestError.of_field(
            "folder", f"must be a model folder of ComfyUI, not {folder!r}"
        ) from None
    name = f"{rest}/{filename}" if rest else filename
    if not filename.strip() or name.endswith("/"):
        raise InvalidRequestError.of_field(field, "must be the name of a file")
    path = folders.resolve(f"{root}/{name}", must_exist=False, field=field)
    if not path.is_relative_to(os.path.realpath(root)):
        raise ForbiddenPathError(
            f"{field}: leads out of the folder {folder}", details={"field": field}
        )
    return path


def volume_path(folder: str, filename: str) -> str:
    """Return the path of a file in a ComfyDeploy volume, e.g. ``checkpoints/a.safetensors``.

    Raises
    ------
    InvalidRequestError
        If the path is invalid or outside of the folder.
    """
    for field, text in (("folder", folder), ("filename", filename)):
        names = text.strip("/").split("/")
        if not all(name.strip(". ") for name in names) or not text.isprintable() or "\\" in text:
            raise InvalidRequestError.of_field(field, f"must be a path in the volume, not {text!r}")
    return f"{folder.strip('/').removeprefix('models/')}/{filename.strip('/')}"


def delete_model(folders: Folders, path: Path) -> None:
    """Delete a model.

    Raises
    ------
    NotFoundError, ForbiddenPathError
        If it does not exist, or may not be deleted.
    """
    directory = _open_existing(folders, path)
    try:
        os.unlink(path.name, dir_fd=directory)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise ForbiddenPathError(f"{path.name} cannot be deleted: {error.strerror}") from error
    finally:
        os.close(directory)


def move_model(folders: Folders, path: Path, target: Path) -> None:
    """Move a model, without replacing a file, and without a visible incomplete file.

    Raises
    ------
    NotFoundError
        If it does not exist.
    ConflictError
        If the new path is in use or being written to, or the disk is full.
    ForbiddenPathError
        If it may not be moved.
    """
    here = _open_existing(folders, path)
    try:
        there = folders.open_directory(target.parent, create=True)
        try:
            if not _link(path, here, target, there):
                _copy(folders, path, here, target)
            os.unlink(path.name, dir_fd=here)
        finally:
            os.close(there)
    except FileNotFoundError:
        raise _missing(path) from None
    except FileExistsError:
        raise ConflictError(
            f"to_filename: {target.name} exists already", details={"field": "to_filename"}
        ) from None
    except TransferError as error:
        raise ConflictError(f"{path.name} cannot be moved: {error.message}") from error
    except OSError as error:
        raise ForbiddenPathError(f"{path.name} cannot be moved: {error.strerror}") from error
    finally:
        os.close(here)


def _open_existing(folders: Folders, path: Path) -> int:
    try:
        return folders.open_directory(path.parent)
    except NotFoundError:
        raise _missing(path) from None


def _link(path: Path, here: int, target: Path, there: int) -> bool:
    """Return False if the target is on another file system, or on one without hard links."""
    try:
        os.link(path.name, target.name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (
            *(errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS),
        ):
            raise
        return False
    return True


def _copy(folders: Folders, path: Path, here: int, target: Path) -> None:
    """Copy to a file next to the target, replacing a killed server's file, and rename it."""
    part = PartFile(folders, target)
    try:
        part.reset()
        source = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            while chunk := os.read(source, _CHUNK):
                part.write(chunk)
        finally:
            os.close(source)
        if not part.publish():
            raise FileExistsError
    except BaseException:
        part.discard()
        raise
    finally:
        part.close()


def _missing(path: Path) -> NotFoundError:
    return NotFoundError(f"filename: there is no model {path.name}", details={"field": "filename"})
