"""The model folders of ComfyUI as a volume. All functions block: call them in threads."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConflictError, ForbiddenPathError, InvalidRequestError, NotFoundError
from .downloads import PartFile
from .http import TransferError

if TYPE_CHECKING:
    from ..comfyui.folders import Folders

_CHUNK = 1024 * 1024


class ExistingModel(NamedTuple):
    """A model in one of ComfyUI's folders."""

    folder: str
    name: str
    root: Path
    path: Path


def place(
    folders: Folders,
    folder: str,
    filename: str,
    *,
    field: str = "filename",
    folder_field: str = "folder",
    beside: ExistingModel | None = None,
) -> Path:
    """Return the path of a model, which need not exist."""
    first, rest = _split(folder)
    root = _root(folders, folder, folder_field)
    if beside is not None and folders.model_folder(first).name == beside.folder:
        root = beside.root
    name = f"{rest}/{filename}" if rest else filename
    if not filename.strip() or name.endswith("/"):
        raise InvalidRequestError.of_field(field, "must be the name of a file")
    path = folders.resolve(f"{root}/{name}", must_exist=False, field=field)
    if not path.is_relative_to(os.path.realpath(root)):
        raise ForbiddenPathError(
            f"{field}: leads out of the folder {folder}", details={"field": field}
        )
    return path


def find(folders: Folders, folder: str, filename: str) -> ExistingModel:
    """Return an existing model, as ComfyUI finds it: in the first directory that has the name."""
    first, rest = _split(folder)
    _root(folders, folder)  # refuses what is no folder of models
    name = (f"{rest}/{filename}" if rest else filename).strip("/")
    last = name.rpartition("/")[2]
    if last in ("", ".", ".."):
        raise InvalidRequestError.of_field("filename", "must be the name of a file")
    models = folders.model_folder(first)
    for root in models.paths:
        directory = folders.resolve(
            os.path.dirname(f"{root}/{name}"),  # noqa: PTH120 - a Path would remove ".."
            must_exist=False,
            kind="any",
            field="filename",
        )
        if not directory.is_relative_to(os.path.realpath(root)):
            raise ForbiddenPathError(
                f"filename: leads out of the folder {folder}", details={"field": "filename"}
            )
        path = directory / last
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):  # not text that a path may have
            continue
        if stat.S_ISLNK(mode) and os.path.isdir(path):  # noqa: PTH112 - Path.is_dir may raise
            raise InvalidRequestError.of_field("filename", f"{name} is a link to a folder")
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise InvalidRequestError.of_field("filename", f"{name} is not a file")
        relative = path.relative_to(os.path.realpath(root))
        return ExistingModel(models.name, relative.as_posix(), root, path)
    raise _missing(Path(name))


def volume_path(folder: str, filename: str) -> str:
    """Return the path of a file in a ComfyDeploy volume, e.g. ``checkpoints/a.safetensors``."""
    for field, text in (("folder", folder), ("filename", filename)):
        names = text.strip("/").split("/")
        if not all(name.strip(". ") for name in names) or not text.isprintable() or "\\" in text:
            raise InvalidRequestError.of_field(field, f"must be a path in the volume, not {text!r}")
    return f"{folder.strip('/').removeprefix('models/')}/{filename.strip('/')}"


def delete_model(folders: Folders, path: Path) -> None:
    """Delete a model."""
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

    A process that is killed leaves the model at its old path, or complete at both. The size and the
    times of the file stay; a link is replaced by one to the same file. A file that has replaced the
    model meanwhile, e.g. while it was copied to another disk, is kept.
    """
    here = _open_existing(folders, path)
    try:
        there = folders.open_directory(target.parent, create=True)
        try:
            before = os.stat(path.name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(before.st_mode):  # it may be relative
                os.symlink(os.path.realpath(path), target.name, dir_fd=there)
            elif not _link(path, here, target, there):
                _copy(folders, path, here, target, before)
            os.fsync(there)
            if not _is_same(before, os.stat(path.name, dir_fd=here, follow_symlinks=False)):
                raise ConflictError(
                    f"filename: {path.name} was replaced while it was moved. The new file is kept;"
                    f" the earlier one is {target} now.",
                    details={"field": "filename"},
                )
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


def folder_name(folder: str) -> str:
    """Return the name of a models folder for ``checkpoints``, ``models/checkpoints`` and so on."""
    return _split(folder)[0]


def _split(folder: str) -> tuple[str, str]:
    """Return the name of a models folder, and the subfolder in it."""
    first, _, rest = folder.strip("/").removeprefix("models/").partition("/")
    return first, rest


def _root(folders: Folders, folder: str, field: str = "folder") -> Path:
    try:
        return folders.directory(f"models/{_split(folder)[0]}")
    except InvalidRequestError:
        raise InvalidRequestError.of_field(
            field, f"must be a model folder of ComfyUI, not {folder!r}"
        ) from None


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


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether two results are those of the same file with the same content."""
    facts = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return all(getattr(before, fact) == getattr(after, fact) for fact in facts)


def _copy(folders: Folders, path: Path, here: int, target: Path, before: os.stat_result) -> None:
    """Copy to a file next to the target, replacing a killed server's file, and rename it."""
    part = PartFile(folders, target)
    try:
        part.reset()
        source = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            while chunk := os.read(source, _CHUNK):
                part.write(chunk)
            if not _is_same(before, os.fstat(source)):
                raise TransferError("it was written to while it was copied", again=True)
            part.set_times(before)
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
