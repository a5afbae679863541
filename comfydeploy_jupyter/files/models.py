"""The models of a ComfyUI: list them, find one, find out what uses it, delete and move it.

The names are exactly those in the lists of ComfyUI's loaders: relative to the folder, without
duplicates, sorted (ComfyUI, folder_paths.py).
"""

from __future__ import annotations

import asyncio
import errno
import functools
import io
import json
import logging
import os
import re
import stat
import time
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.parse import quote

from ..comfyui.folders import (
    BESIDE_MODELS,
    LEGACY_NAMES,
    NOT_MODELS,
    ModelFolder,
    registered_extensions,
)
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
)
from ..runs.records import FINAL
from ..store.graphs import graph_of, texts_in
from ..transfers.downloads import PART, PartFile
from ..transfers.http import TransferError
from ..transfers.queue import OPEN
from ..transfers.uploads import CHUNK
from ..util.system import NO_LINKS, RESERVED, closing_fd
from ..util.tasks import open_in_thread
from .uploads import STAGING_PREFIX, safe_filename

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..store.database import Database
    from .hashes import Hasher

log = logging.getLogger(__name__)

TICK_NS = 20_000_000  # nanoseconds within which two changes of a directory may get the same time
MAX_DIRECTORIES = 100_000  # limit under one root, in case of links that multiply
MAX_SHOWN_RUNS = 20  # runs that a reply names
MAX_PREVIEW = 64 << 20  # bytes of a picture beside a model
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
PORTION = 200  # runs that are read at a time
RECENT = 1000  # runs that have ended in which a model is searched


# -- the listing ------------------------------------------------------------------------------


class ModelListing:
    """Lists the models of one ComfyUI: from its folders if they are on this machine, else its API.

    Custom nodes may register folders anywhere. The names in local folders that only the API reports
    are requested from there; their files are never opened. Without the folders, a method raises
    `ComfyUIUnavailableError` if ComfyUI does not answer.
    """

    def __init__(
        self,
        folders: Folders | None,
        client: ComfyUIClient | None = None,
        directories: DirectoryCache | None = None,
    ) -> None:
        self._folders = folders
        self._client = client
        self._directories = directories or DirectoryCache()

    async def models(self, *, folder: str | None = None, search: str = "") -> list[dict[str, Any]]:
        """Return the models of all folders or of one, by folder in ComfyUI's order, then by name.

        Each has ``name``, ``folder``, ``path``, ``size`` (bytes), ``modified`` (seconds since
        1970) and ``preview`` (whether a picture lies beside it); the last three are None if the API
        does not return them. All words of ``search`` must be in ``folder/name``, in any case.
        Former names of folders such as ``unet`` are accepted.
        """
        words = search.lower().split()
        if self._folders is None:
            return _matching(words, await self._remote_models(folder))
        found = await asyncio.to_thread(self._local_models, self._folders, folder, words)
        known = {(entry["folder"], entry["name"]) for entry in found}
        for name in self._reported:
            if folder in (None, name) and name not in NOT_MODELS:
                with suppress(ComfyUIUnavailableError, NotFoundError):
                    more = _matching(words, await self._remote_models(name))
                    found += [one for one in more if (one["folder"], one["name"]) not in known]
        return found

    async def folders(
        self, *, without: str = "", with_directories: bool = True
    ) -> dict[str, list[list[str]]]:
        """Return ``{folder: [directories, extensions, names]}`` of all registered folders.

        Only for the directories, a further request is sent to a ComfyUI elsewhere.
        """
        if self._folders is None:
            directories = await self._remote_roots() if with_directories else {}
            names = [name for name in await self._registered() if name != without]
            listed = await asyncio.gather(*map(self._remote_names, names))
            return {
                name: [directories.get(name, []), sorted(registered_extensions(name)), files]
                for name, files in zip(names, listed, strict=True)
            }
        found = await asyncio.to_thread(self._local_folders, self._folders, without)
        for name in self._reported:
            with suppress(ComfyUIUnavailableError):
                more = await self._remote_names(name)
                roots, extensions, files = found.get(name, [[], [], []])
                found[name] = [roots, extensions, sorted({*files, *more})]
        return found

    async def names(self) -> dict[str, list[str]]:
        """Return ``{folder: names}`` of all folders except the one of custom nodes."""
        found = await self.folders(without="custom_nodes", with_directories=False)
        return {name: names for name, (_, _, names) in found.items()}

    # from the folders; these functions block

    def _local_models(
        self, folders: Folders, folder: str | None, words: Sequence[str]
    ) -> list[dict[str, Any]]:
        if folder is not None:
            chosen = [folders.model_folder(folder)]
        else:
            every = folders.model_folders().values()
            chosen = [found for found in every if found.name not in NOT_MODELS]
        entries = []
        for found in chosen:
            pictures = self._pictures(found)
            for name, root in self._local_files(found):
                if words and not _matches(words, found.name, name):
                    continue
                try:
                    status = os.stat(root + name)  # noqa: PTH116 - text: a Path for each is slow
                except OSError:
                    continue
                entries.append(
                    {
                        "name": name,
                        "folder": found.name,
                        "path": root + name,
                        "size": status.st_size,
                        "modified": status.st_mtime,
                        "preview": root + _stem(name) in pictures,
                    }
                )
        return entries

    def _local_folders(self, folders: Folders, without: str) -> dict[str, list[list[str]]]:
        return {
            folder.name: [
                list(map(str, folder.paths)),
                sorted(folder.extensions),
                [name for name, _ in self._local_files(folder)],
            ]
            for folder in folders.model_folders().values()
            if folder.name != without
        }

    def _local_files(self, folder: ModelFolder) -> list[tuple[str, str]]:
        """Return name and directory of each file; the first directory has priority."""
        found: dict[str, str] = {}
        for path in folder.paths:
            root = f"{path}/"
            for prefix, files in self._directories.files(root):
                for name, extension in files:
                    if not folder.extensions or extension in folder.extensions:
                        found.setdefault(prefix + name, root)
        return sorted(found.items())

    def _pictures(self, folder: ModelFolder) -> dict[str, str]:
        """Return the picture beside each model that has one, by its path without the suffix."""
        found: dict[str, str] = {}
        for root in (f"{path}/" for path in folder.paths):
            for prefix, files in self._directories.files(root):
                for name, extension in sorted(files):
                    if extension in PICTURES:
                        stem = _stem(name).removesuffix(".preview")
                        found.setdefault(root + prefix + stem, root + prefix + name)
        return found

    async def preview(self, folder: str, name: str) -> BinaryIO:
        """Return an open picture that lies beside a model, as ComfyUI serves it.

        NotFoundError if there is none.
        """
        missing = NotFoundError(f"There is no picture beside the model {folder}/{name}.")
        if self._folders is not None:
            path = await asyncio.to_thread(self._local_preview, self._folders, folder, name)
            file = None if path is None else await open_in_thread(_open_picture, path)
            if file is None:
                raise missing
            return file
        assert self._client is not None
        folder = LEGACY_NAMES.get(folder, folder)
        if folder not in await self._registered():
            raise missing
        details = await self._get(f"/experiment/models/{quote(folder, safe='')}", dict)
        index = next((one.get("pathIndex") for one in details if one.get("name") == name), None)
        if type(index) is not int:
            raise missing
        place = "/".join(quote(part, safe="") for part in (folder, str(index)))
        status, content = await self._client.answer(
            "GET", f"/experiment/models/preview/{place}/{quote(name)}", limit=MAX_PREVIEW
        )
        if status != 200:
            raise missing
        return io.BytesIO(content)

    def _local_preview(self, folders: Folders, folder: str, name: str) -> str | None:
        found = folders.model_folder(folder)
        root = dict(self._local_files(found)).get(name)
        return None if root is None else self._pictures(found).get(root + _stem(name))

    # From the API: ``/models`` and ``/models/<folder>`` return the names of all folders;
    # ``/experiment/models`` also directories, sizes and times, but not for configs, custom nodes
    # and files with unusual extensions.

    async def _get(self, path: str, kind: type[Any]) -> list[Any]:
        assert self._client is not None
        return await self._client.get_list(path, kind)

    @property
    def _reported(self) -> list[str]:
        folders = self._folders
        if folders is None or self._client is None:
            return []
        return [name for name in folders.reported if folders.is_reported(name)]

    async def _registered(self) -> list[str]:
        return await self._get("/models", str)

    async def _remote_roots(self) -> dict[str, list[str]]:
        found = await self._get("/experiment/models", dict)
        return {str(folder.get("name")): _strings(folder.get("folders")) for folder in found}

    async def _remote_names(self, folder: str) -> list[str]:
        return await self._get(f"/models/{quote(folder, safe='')}", str)

    async def _remote_models(self, folder: str | None) -> list[dict[str, Any]]:
        names, roots = await asyncio.gather(self._registered(), self._remote_roots())
        chosen = [name for name in names if name not in NOT_MODELS]
        if folder is not None:
            chosen = [LEGACY_NAMES.get(folder, folder)]
            if chosen[0] not in names:
                raise NotFoundError(
                    f"There is no model folder {folder!r}.", details={"folders": names}
                )
        found = await asyncio.gather(
            *(self._remote_entries(name, roots.get(name, [])) for name in chosen)
        )
        return [entry for entries in found for entry in entries]

    async def _remote_entries(self, folder: str, roots: list[str]) -> list[dict[str, Any]]:
        names, details = await asyncio.gather(
            self._remote_names(folder),
            self._get(f"/experiment/models/{quote(folder, safe='')}", dict),
        )
        # the first directory has priority
        by_name = {str(file.get("name")): file for file in reversed(details)}
        entries = []
        for name in names:
            file = by_name.get(name, {})
            index = file.get("pathIndex")
            known = type(index) is int and 0 <= index < len(roots)
            root = roots[index] if known else None
            entries.append(
                {
                    "name": name,
                    "folder": folder,
                    "path": f"{root}/{name}" if root else f"models/{folder}/{name}",
                    "size": file.get("size"),
                    "modified": file.get("modified"),
                    "preview": None,
                }
            )
        return entries


class DirectoryCache:
    """Caches the content of directories until their modification times change.

    A new, deleted or renamed entry changes the modification time of its directory, so a listing
    only has to check the directories. Can be used by several threads at the same time.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Directory] = {}

    def files(self, root: str) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        """Yield each directory under a root, the root first, with name and extension of each file.

        The paths are relative to the root, empty or with ``/`` at their end. Links to directories
        are followed, except back into a directory that contains them.
        """
        waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        for _ in range(MAX_DIRECTORIES):
            if not waiting:
                return
            prefix, around = waiting.pop()
            try:
                status = os.stat(root + prefix)  # noqa: PTH116 - text: a Path for each is slow
                identity = status.st_dev, status.st_ino
                if identity in around:
                    continue
                found = self._directory(root + prefix, status.st_mtime_ns)
            except OSError:
                self._known.pop(root + prefix, None)
                continue
            yield prefix, found.files
            inside = around | {identity}
            waiting.extend((f"{prefix}{name}/", inside) for name in found.directories)
        log.warning("%s has more than %d directories; not all are listed", root, MAX_DIRECTORIES)

    def _directory(self, path: str, mtime_ns: int) -> _Directory:
        known = self._known.get(path)
        if known is not None and known.mtime_ns == mtime_ns:
            return known
        now = time.time_ns()
        found = _scan(path, mtime_ns)
        if now - mtime_ns > TICK_NS:
            self._known[path] = found
        return found


class _Directory(NamedTuple):
    mtime_ns: int
    files: tuple[tuple[str, str], ...]  # name and lower-case extension
    directories: tuple[str, ...]


def _scan(path: str, mtime_ns: int) -> _Directory:
    files, directories = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if not _is_text(name) or name == ".git" or name.startswith(STAGING_PREFIX):
                continue
            if entry.is_dir():
                directories.append(name)
            else:
                files.append((name, os.path.splitext(name)[1].lower()))  # noqa: PTH122 - a name
    return _Directory(mtime_ns, tuple(files), tuple(directories))


def _open_picture(path: str) -> BinaryIO | None:
    """Open a file that may have been replaced by a device or a link to one; None if it was."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_PREVIEW:
            return open(fd, "rb")  # noqa: PTH123 - of a descriptor
        os.close(fd)
    return None


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a name


def _is_text(name: str) -> bool:
    """Return whether a name is valid Unicode, so that JSON can contain it."""
    return name == name.encode(errors="replace").decode()


def _matches(words: Iterable[str], folder: str, name: str) -> bool:
    text = f"{folder}/{name}".lower()
    return all(word in text for word in words)


def _matching(words: Sequence[str], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if _matches(words, entry["folder"], entry["name"])]


def _strings(found: Any) -> list[str]:
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def flat(names: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the result of `ModelListing.names` as ``["checkpoints/a.safetensors", …]``."""
    return [f"{folder}/{name}" for folder, found in names.items() for name in found]


def fs_stat(folders: Folders, path: str | None = None) -> dict[str, Any]:
    """Return information about a path and its file system. Reads the disk: call it in a thread.

    Default: the folder of the models or, if that does not exist, the nearest existing folder above
    it; without a local ComfyUI, Jupyter's root directory.
    """
    if path is None:
        start = folders.models_directory or folders.jupyter_root
        if start is None:
            raise NotFoundError("No folder is known; give one as `path`.")
        real = Path(os.path.realpath(start))
        found = next(folder for folder in (real, *real.parents) if folder.is_dir())
    else:
        found = folders.resolve(path, kind="any", field="path")
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
            "free": system.f_bavail * system.f_frsize,  # that this user can still fill
        },
    }


# -- one model --------------------------------------------------------------------------------


class ExistingModel(NamedTuple):
    folder: str
    name: str  # as ComfyUI's loaders use it
    root: Path  # the directory of the folder that the file is in; a folder may have several
    path: Path  # the file, or the link to it; its directory is without links


def place(
    folders: Folders,
    folder: str,
    filename: str,
    *,
    field: str = "filename",
    folder_field: str = "folder",
    beside: ExistingModel | None = None,
) -> Path:
    """Return the path of a model, which need not exist. Blocks.

    The folder is ``checkpoints``, ``models/checkpoints``, or one of its subfolders. In the folder
    of the model ``beside``, the path is below the directory that this model is in.
    """
    first, rest = _split(folder)
    root = _root(folders, folder, folder_field)
    if beside is not None and folders.model_folder(first).name == beside.folder:
        root = beside.root
    name = f"{rest}/{filename}" if rest else filename
    if not filename.strip() or name.endswith("/"):
        raise InvalidRequestError.of_field(field, "must be the name of a file")
    path = folders.resolve(f"{root}/{name}", must_exist=False, field=field)
    if not path.is_relative_to(os.path.realpath(root)):
        raise ForbiddenPathError.of_field(field, f"leads out of the folder {folder}")
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
            raise ForbiddenPathError.of_field("filename", f"leads out of the folder {folder}")
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
    try:
        with closing_fd(folders.open_directory(path.parent)) as directory:
            os.unlink(path.name, dir_fd=directory)
    except (FileNotFoundError, NotFoundError):
        raise _missing(path) from None
    except OSError as error:
        raise ForbiddenPathError(f"{path.name} cannot be deleted: {error.strerror}") from error


def move_model(folders: Folders, path: Path, target: Path) -> None:
    """Move a model, without replacing a file, and without a visible incomplete file. Blocks.

    A process that is killed leaves the model at its old path, or complete at both. The size and the
    times of the file stay; a link is replaced by one to the same file. A file that has replaced the
    model meanwhile, e.g. while it was copied to another disk, is kept.
    """
    try:
        with closing_fd(folders.open_directory(path.parent)) as here, ExitStack() as stack:
            try:
                there = folders.open_directory(target.parent, create=True)
            except (FileNotFoundError, NotFoundError):
                gone = "was deleted in the meantime"
                raise ConflictError.of_field("to_folder", f"{target.parent} {gone}") from None
            stack.enter_context(closing_fd(there))
            before = os.stat(path.name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(before.st_mode):  # it may be relative
                os.symlink(os.path.realpath(path), target.name, dir_fd=there)
            elif not _link(path, here, target, there):
                _copy(folders, path, here, target, before)
            os.fsync(there)
            if not _is_same(before, os.stat(path.name, dir_fd=here, follow_symlinks=False)):
                raise ConflictError.of_field(
                    "filename",
                    f"{path.name} was replaced while it was moved. The new file is kept;"
                    f" the earlier one is {target} now.",
                )
            os.unlink(path.name, dir_fd=here)
    except (FileNotFoundError, NotFoundError):
        raise _missing(path) from None
    except FileExistsError:
        raise ConflictError.of_field("to_filename", f"{target.name} exists already") from None
    except TransferError as error:
        raise ConflictError(f"{path.name} cannot be moved: {error.message}") from error
    except OSError as error:
        raise ForbiddenPathError(f"{path.name} cannot be moved: {error.strerror}") from error


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


def _link(path: Path, here: int, target: Path, there: int) -> bool:
    """Return False if the target cannot be a hard link, as on another file system."""
    try:
        os.link(path.name, target.name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, *NO_LINKS):
            raise
        return False
    return True


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return all(getattr(before, field) == getattr(after, field) for field in fields)


def _copy(folders: Folders, path: Path, here: int, target: Path, before: os.stat_result) -> None:
    """Copy to a file next to the target, replacing a killed server's file, and rename it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(PartFile(folders, target)) as part:
        try:
            part.reset()
            with closing_fd(os.open(path.name, flags, dir_fd=here)) as source:
                while chunk := os.read(source, CHUNK):
                    part.write(chunk)
                if not _is_same(before, os.fstat(source)):
                    raise TransferError("it was written to while it was copied", again=True)
            part.set_times(before)
            if not part.publish():
                raise FileExistsError
        except BaseException:
            part.discard()
            raise


def end_reservations(folders: Folders, directories: DirectoryCache) -> None:
    """Remove the empty files that killed processes left in place of models. Blocks."""
    for folder in folders.model_folders().values():
        if folder.name in BESIDE_MODELS:
            continue
        listed = (
            (root, *found) for root in folder.paths for found in directories.files(f"{root}/")
        )
        for root, prefix, files in listed:
            for name, _ in files:
                if name.endswith(f"{PART}{RESERVED}"):
                    directory = Path(os.path.realpath(f"{root}/{prefix}"))
                    target = directory / name.removesuffix(f"{PART}{RESERVED}")
                    # It may be in use.
                    with (
                        suppress(OSError, ComfyDeployError, TransferError),
                        closing(PartFile(folders, target)) as part,
                    ):
                        part.discard_if_empty()


def _missing(path: Path) -> NotFoundError:
    return NotFoundError.of_field("filename", f"there is no model {path.name}")


# -- what uses a model ------------------------------------------------------------------------


class Uses(NamedTuple):
    """What uses a model, on all machines whose model folders contain it."""

    model: ExistingModel
    workflows: list[dict[str, Any]]  # with the versions that name it
    runs: list[dict[str, Any]]  # newest first; those that have not ended are first
    transfers: list[dict[str, Any]]  # those of its file that have not ended
    # Whether a prompt in the queue of a machine's ComfyUI names it, maybe of another client; None
    # if no known queue has one, and `silent` is not empty.
    queued: bool | None
    silent: list[str]  # ids of the machines whose ComfyUI runs, but does not answer

    @property
    def in_use(self) -> bool:
        return bool(self.unfinished or self.transfers or self.queued)

    @property
    def unfinished(self) -> int:
        """How many runs that name it have not ended."""
        return sum(run["status"] not in FINAL for run in self.runs)

    def reply(self) -> dict[str, Any]:
        return {
            "folder": self.model.folder,
            "name": self.model.name,
            "path": str(self.model.path),
            "in_use": self.in_use,
            "workflows": self.workflows,
            "runs": self.runs[:MAX_SHOWN_RUNS],
            "run_count": len(self.runs),
            "unfinished": self.unfinished,
            "queued": self.queued,
            "transfers": self.transfers,
        }


class ModelName:
    """A model as graphs name it, given by its models folders and its names there.

    One file may be in several folders, or have several names through links; all end in the same
    file name. Prompts name the models in ``embeddings`` as ``embedding:<name>``.
    """

    def __init__(self, names: Collection[tuple[str, str]]) -> None:
        self._names = frozenset(name for _, name in names)
        filename = next(iter(self._names)).rpartition("/")[2]
        last = filename.rpartition(".")[0] or filename
        self._part = last.encode() if last.isascii() and last.isprintable() else b""
        if '"' in last or "\\" in last:
            self._part = b""
        suffix = filename[len(last) :]
        stems = "|".join(
            re.escape(name.removesuffix(suffix)) for folder, name in names if folder == "embeddings"
        )
        end = rf"(?:{re.escape(suffix)})?(?![\w.-])"
        self._embedding = re.compile(rf"embedding:\s*(?:{stems}){end}") if stems else None

    def is_in(self, body: bytes) -> bool:
        """Return whether a text in JSON names the model."""
        if b"\\u" not in body and self._part not in body:
            return False
        return any(map(self._is_named, texts_in(body)))

    def _is_named(self, text: str) -> bool:
        named = text.replace("\\", "/")
        if self._embedding is not None and self._embedding.search(named):
            return True
        return named in self._names


class ModelFiles:
    """Finds out what uses a model, and deletes and moves models of this computer."""

    def __init__(
        self,
        database: Database,
        machines: MachineRegistry,
        hasher: Hasher,
        directories: DirectoryCache,
    ) -> None:
        self._database = database
        self._machines = machines  # may share folders; their pools have runs that wait
        self._hasher = hasher
        self._directories = directories

    async def uses(self, machine: Machine, folder: str, filename: str) -> Uses:
        return await self._find_uses(machine, *await _find(machine, folder, filename))

    async def delete(
        self, machine: Machine, folder: str, filename: str, *, in_use: bool
    ) -> ExistingModel:
        """Delete a model.

        Unless ``in_use`` is set, `ConflictError` if a run or a transfer uses it now, or a ComfyUI
        does not return its queue; ``details`` has the uses.
        """
        folders, model = await _find(machine, folder, filename)
        if not in_use:
            await self._refuse_used(machine, folders, model)
        await asyncio.to_thread(delete_model, folders, model.path)
        return model

    async def move(
        self,
        machine: Machine,
        folder: str,
        filename: str,
        to_folder: str | None,
        to_filename: str | None,
        *,
        in_use: bool,
    ) -> Path:
        """Move a model to another models folder, or give it another name; return its new path.

        None for the present folder or name. Its hashes stay known. On another disk it is copied,
        which takes as long as that takes. ``in_use`` as in `delete`.
        """
        folders, model = await _find(machine, folder, filename)
        target = await asyncio.to_thread(
            place,
            folders,
            to_folder or folder,
            to_filename or filename,
            field="to_filename",
            folder_field="to_folder",
            beside=model,
        )
        extensions = folders.model_folder(_split(to_folder or folder)[0]).extensions
        _check_name(target.name, extensions)
        if not in_use:
            await self._refuse_used(machine, folders, model)
        hashes = await self._hasher.cached(model.path)
        await asyncio.to_thread(move_model, folders, model.path, target)
        if hashes is not None:
            await self._hasher.remember(target, hashes)
        return target

    async def _find_uses(self, machine: Machine, folders: Folders, model: ExistingModel) -> Uses:
        machines = [machine, *(other for other in self._machines if other is not machine)]
        known = [folders, *await asyncio.gather(*map(_known_folders, machines[1:]))]
        names = await asyncio.to_thread(_names_of, known, model.path, self._directories)
        names[0].add((model.folder, model.name))
        sharing = [one for one, found in zip(machines, names, strict=True) if found]
        ids = {one.id for one in sharing}
        pools = [*self._machines.pools, self._machines.all_machines]
        name = ModelName(set().union(*names))
        queued = await asyncio.gather(*(_is_queued(one, name) for one in sharing))
        silent = [one.id for one, found in zip(sharing, queued, strict=True) if found is None]
        # A run that waits for a member of a pool has the pool in place of a machine.
        waiting = [pool.id for pool in pools if ids.intersection(pool.members)]
        return Uses(
            model,
            await self._database.read(_workflows_with, name),
            await self._runs_with(name, [*ids, *waiting]),
            await self._database.read(_transfers_of, str(model.path)),
            any(queued) or (None if silent else False),
            silent,
        )

    async def _runs_with(self, model: ModelName, machines: Collection[str]) -> list[dict[str, Any]]:
        """Search all runs that have not ended, and the `RECENT` newest of the others."""
        found: list[dict[str, Any]] = []
        for condition, portions in (("NOT IN", count()), ("IN", range(RECENT // PORTION))):
            before = None
            for _ in portions:
                read = self._database.read(_runs_with, model, machines, condition, before)
                before, uses = await read
                found += uses
                if before is None:
                    break
        return found

    async def _refuse_used(self, machine: Machine, folders: Folders, model: ExistingModel) -> None:
        uses = await self._find_uses(machine, folders, model)
        if uses.in_use:
            parts = [
                f"{number} {noun}{'s' if number != 1 else ''}"
                for number, noun in ((uses.unfinished, "run"), (len(uses.transfers), "transfer"))
                if number
            ] or ["1 prompt in ComfyUI's queue"]
            verb = "uses" if uses.unfinished + len(uses.transfers) <= 1 else "use"
            reason = f"{' and '.join(parts)} {verb} {model.name} now. Wait for the end"
        elif uses.silent:
            reason = (
                f"the ComfyUI of {' and '.join(map(repr, uses.silent))} does not answer, so it is"
                f" not known whether a prompt in its queue uses {model.name}. Try again later"
            )
        else:
            return
        raise ConflictError.of_field(
            "filename", f"{reason}, or set in_use to do it nevertheless.", uses=uses.reply()
        )


async def _find(machine: Machine, folder: str, filename: str) -> tuple[Folders, ExistingModel]:
    folders = await machine.folders()
    return folders, await asyncio.to_thread(find, folders, folder, filename)


async def _known_folders(machine: Machine) -> Folders | None:
    """Return the folders of a machine as far as they are known now, without a search for ComfyUI.

    None if its launch arguments are malformed, so that its ComfyUI cannot be running.
    """
    try:
        return await machine.folders(search=False)
    except InvalidRequestError:
        return None


def _names_of(
    known: Sequence[Folders | None], path: Path, directories: DirectoryCache
) -> list[set[tuple[str, str]]]:
    """Return for each machine the models folders that contain a file, with its names there. Blocks.

    Links to the file with its own name, and links to directories, lead to further names.
    """

    @functools.cache  # machines that share a directory read it once
    def below(root: Path) -> list[str]:
        return [
            prefix + path.name
            for prefix, files in directories.files(f"{root}/")
            if any(name == path.name for name, _ in files)
            and (
                os.path.realpath(f"{root}/{prefix}") == str(path.parent)
                or os.path.realpath(f"{root}/{prefix}{path.name}") == str(path)
            )
        ]

    return [
        {
            (folder.name, name)
            for folder in (folders.model_folders().values() if folders is not None else ())
            if folder.name not in BESIDE_MODELS
            for root in folder.paths
            for name in below(root)
        }
        for folders in known
    ]


async def _is_queued(machine: Machine, name: ModelName) -> bool | None:
    """Return whether a prompt in the queue of a machine's ComfyUI names a model.

    None if this ComfyUI runs, but does not answer.
    """
    client = machine.reachable_client()
    if client is None:
        return None if machine.hangs and not machine.is_dead else False
    try:
        queue = await client.queue_text()
    except ComfyUIUnavailableError:
        return None
    return await asyncio.to_thread(name.is_in, queue)


def _check_name(name: str, extensions: frozenset[str]) -> None:
    """Raise if ComfyUI would not list a file of this name, or it is not a name for all systems."""
    safe = safe_filename(name, field="to_filename")
    if safe != name:
        raise InvalidRequestError.of_field(
            "to_filename", f"{name!r} is not a valid name; {safe!r} is"
        )
    if extensions and PurePosixPath(name).suffix.lower() not in extensions:
        kinds = ", ".join(sorted(extensions))
        raise InvalidRequestError.of_field(
            "to_filename", f"ComfyUI lists only these files there: {kinds}"
        )


def _is_in_graphs(connection: sqlite3.Connection, model: ModelName, *digests: str | None) -> bool:
    return any(model.is_in(graph_of(connection, digest) or b"") for digest in digests if digest)


def _workflows_with(connection: sqlite3.Connection, model: ModelName) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT workflow_id, name, version, workflow_hash, api_hash FROM workflow_versions"
        " JOIN workflows ON workflows.id = workflow WHERE deleted_at IS NULL"
        " ORDER BY name, workflow_id, version"
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if _is_in_graphs(connection, model, row["workflow_hash"], row["api_hash"]):
            workflow_id = row["workflow_id"]
            use = {"workflow_id": workflow_id, "name": row["name"], "versions": []}
            found.setdefault(workflow_id, use)["versions"].append(row["version"])
    return list(found.values())


def _runs_with(
    connection: sqlite3.Connection,
    model: ModelName,
    machines: Collection[str],
    condition: str,
    before: int | None,
) -> tuple[int | None, list[dict[str, Any]]]:
    """Return a portion of the runs, and the key before which the next one begins; None at last."""
    rows = connection.execute(
        "SELECT id, prompt_id, machine, status, created_at, prompt_hash FROM runs"  # noqa: S608 - only marks are put in
        f" WHERE status {condition} {FINAL} AND machine IN (SELECT value FROM json_each(?))"
        " AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?",
        (json.dumps([*machines]), before, before, PORTION),
    ).fetchall()
    found = [
        {name: row[name] for name in ("prompt_id", "machine", "status", "created_at")}
        for row in rows
        if _is_in_graphs(connection, model, row["prompt_hash"])
    ]
    return (rows[-1]["id"] if len(rows) == PORTION else None), found


def _transfers_of(connection: sqlite3.Connection, path: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT id, direction, state FROM transfers WHERE path = ? AND state IN {OPEN}",  # noqa: S608 - constants
        (path,),
    )
    return [dict(row) for row in rows]
