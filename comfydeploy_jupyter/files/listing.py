"""The models of a ComfyUI: from its folders if they are on this machine, else from its API.

Both classes that implement `ModelListing` give the same results. The names are exactly those in the
lists of ComfyUI's loaders: relative to the folder, without duplicates, sorted (ComfyUI,
folder_paths.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from ..comfyui.folders import LEGACY_NAMES, NOT_MODELS, ModelFolder, registered_extensions
from ..errors import ComfyUIUnavailableError, NotFoundError
from .staging import STAGING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..comfyui.folders import Folders

T = TypeVar("T")

log = logging.getLogger(__name__)

TICK_NS = 20_000_000  # nanoseconds within which two changes of a directory may get the same time
MOST_DIRECTORIES = 100_000  # limit under one root, in case of links that multiply


class ModelListing(Protocol):
    """Lists the models of one ComfyUI."""

    async def models(self, *, folder: str | None = None, search: str = "") -> list[dict[str, Any]]:
        """Return the models with their properties."""

    async def folders(self) -> dict[str, list[list[str]]]:
        """Return ``{folder: [directories, extensions, names]}`` of all registered folders."""

    async def names(self) -> dict[str, list[str]]:
        """Return ``{folder: names}`` of all folders except the one of custom nodes."""


def flat(names: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the result of `ModelListing.names` as ``["checkpoints/a.safetensors", …]``."""
    return [f"{folder}/{name}" for folder, found in names.items() for name in found]


class _Directory(NamedTuple):
    """The content of a directory at one modification time."""

    mtime_ns: int
    files: tuple[tuple[str, str], ...]  # name and lower-case extension
    directories: tuple[str, ...]


class DirectoryCache:
    """Caches the content of directories until their modification times change.

    A new, deleted or renamed entry changes the modification time of its directory, so a listing
    only has to check the directories. Can be used by several threads at the same time.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Directory] = {}

    def files(self, root: str) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        """Yield each directory under a root, the root first, with its files.

        Links to directories are followed, except back into a directory that contains them.
        """
        waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        for _ in range(MOST_DIRECTORIES):
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
        log.warning("%s has more than %d directories; not all are listed", root, MOST_DIRECTORIES)

    def _directory(self, path: str, mtime_ns: int) -> _Directory:
        known = self._known.get(path)
        if known is not None and known.mtime_ns == mtime_ns:
            return known
        now = time.time_ns()
        found = _scan(path, mtime_ns)
        if now - mtime_ns > TICK_NS:
            self._known[path] = found
        return found


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


def _is_text(name: str) -> bool:
    """Return whether a name is valid Unicode, so that JSON can contain it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class LocalModels:
    """The models in the folders of a ComfyUI on this machine."""

    def __init__(self, folders: Folders, cache: DirectoryCache | None = None) -> None:
        self._folders = folders
        self._cache = cache or DirectoryCache()
        self._entries: dict[str, dict[str, dict[str, Any]]] = {}

    async def models(self, *, folder: str | None = None, search: str = "") -> list[dict[str, Any]]:
        """Return the models; see `ModelListing`."""
        return await asyncio.to_thread(self._models, folder, search)

    async def folders(self) -> dict[str, list[list[str]]]:
        """Return directories, extensions and names by folder; see `ModelListing`."""
        return await asyncio.to_thread(self._by_folder)

    async def names(self) -> dict[str, list[str]]:
        """Return the names by folder; see `ModelListing`."""
        return await asyncio.to_thread(self._names)

    def _models(self, folder: str | None, search: str) -> list[dict[str, Any]]:
        words = search.lower().split()
        return [
            entry
            for chosen in self._chosen(folder)
            for entry in self._in_folder(chosen)
            if not words or _matches(words, entry)
        ]

    def _in_folder(self, folder: ModelFolder) -> Iterable[dict[str, Any]]:
        """Return the entry of each file; an unchanged file has the same dict object as before."""
        known = self._entries.get(folder.name, {})
        found: dict[str, dict[str, Any]] = {}
        for name, root in self._files(folder):
            path = root + name
            try:
                status = os.stat(path)  # noqa: PTH116 - text: a Path for each is slow
            except OSError:
                continue
            entry = known.get(path)
            size, modified = status.st_size, status.st_mtime
            if entry is None or entry["size"] != size or entry["modified"] != modified:
                entry = {
                    "name": name,
                    "folder": folder.name,
                    "path": path,
                    "size": size,
                    "modified": modified,
                }
            found[path] = entry
        self._entries[folder.name] = found
        return found.values()

    def _chosen(self, folder: str | None) -> list[ModelFolder]:
        if folder is not None:
            return [self._folders.model_folder(folder)]
        found = self._folders.model_folders().values()
        return [folder for folder in found if folder.name not in NOT_MODELS]

    def _by_folder(self) -> dict[str, list[list[str]]]:
        return {
            folder.name: [
                [str(path) for path in folder.paths],
                sorted(folder.extensions),
                [name for name, _ in self._files(folder)],
            ]
            for folder in self._folders.model_folders().values()
        }

    def _names(self) -> dict[str, list[str]]:
        return {
            folder.name: [name for name, _ in self._files(folder)]
            for folder in self._folders.model_folders().values()
            if folder.name != "custom_nodes"
        }

    def _files(self, folder: ModelFolder) -> list[tuple[str, str]]:
        """Return name and directory of each file; the first directory has priority."""
        found: dict[str, str] = {}
        for path in folder.paths:
            root = f"{path}/"
            for prefix, files in self._cache.files(root):
                for name, extension in files:
                    if not folder.extensions or extension in folder.extensions:
                        found.setdefault(prefix + name, root)
        return sorted(found.items())


def _matches(words: Iterable[str], entry: Mapping[str, Any]) -> bool:
    text = f"{entry['folder']}/{entry['name']}".lower()
    return all(word in text for word in words)


class JSONSource(Protocol):
    """The part of the client of ComfyUI's API that this module uses."""

    async def get_list(self, path: str, kind: type[T]) -> list[T]:
        """Return the JSON array of items of one type in ComfyUI's reply to GET ``path``."""


class RemoteModels:
    """The models of a remote ComfyUI, from its API.

    In ComfyUI, ``/models`` and ``/models/<folder>`` return the names of all folders;
    ``/experiment/models`` also returns directories, sizes and times, but not for configs, custom
    nodes and files with unusual extensions.
    """

    def __init__(self, client: JSONSource) -> None:
        self._client = client

    async def models(self, *, folder: str | None = None, search: str = "") -> list[dict[str, Any]]:
        """Return the models; see `ModelListing`."""
        names, directories = await asyncio.gather(self._registered(), self._directories())
        chosen = [name for name in names if name not in NOT_MODELS]
        if folder is not None:
            chosen = [LEGACY_NAMES.get(folder, folder)]
            if chosen[0] not in names:
                raise NotFoundError(
                    f"There is no model folder {folder!r}.", details={"folders": names}
                )
        found = await asyncio.gather(
            *(self._entries(name, directories.get(name, [])) for name in chosen)
        )
        words = search.lower().split()
        return [entry for entries in found for entry in entries if _matches(words, entry)]

    async def folders(self) -> dict[str, list[list[str]]]:
        """Return directories, extensions and names by folder; see `ModelListing`."""
        names, directories = await asyncio.gather(self._registered(), self._directories())
        found = await asyncio.gather(*(self.names_in(name) for name in names))
        return {
            name: [directories.get(name, []), sorted(registered_extensions(name)), files]
            for name, files in zip(names, found, strict=True)
        }

    async def names(self) -> dict[str, list[str]]:
        """Return the names by folder; see `ModelListing`."""
        names = [name for name in await self._registered() if name != "custom_nodes"]
        found = await asyncio.gather(*(self.names_in(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def _registered(self) -> list[str]:
        return await self._client.get_list("/models", str)

    async def _directories(self) -> dict[str, list[str]]:
        found = await self._client.get_list("/experiment/models", dict)
        return {str(folder.get("name")): _strings(folder.get("folders")) for folder in found}

    async def names_in(self, folder: str) -> list[str]:
        """Return the names in one folder, given by ComfyUI's name for it."""
        return await self._client.get_list(f"/models/{quote(folder, safe='')}", str)

    async def _entries(self, folder: str, directories: list[str]) -> list[dict[str, Any]]:
        names, reported = await asyncio.gather(
            self.names_in(folder), self._reported_entries(folder)
        )
        entries = []
        for name in names:
            facts = reported.get(name, {})
            index = facts.get("pathIndex")
            known = type(index) is int and 0 <= index < len(directories)
            parent = directories[index] if known else None
            entries.append(
                {
                    "name": name,
                    "folder": folder,
                    "path": f"{parent}/{name}" if parent else f"models/{folder}/{name}",
                    "size": facts.get("size"),
                    "modified": facts.get("modified"),
                }
            )
        return entries

    async def _reported_entries(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return the entries of a folder by file name; the first directory has priority."""
        found = await self._client.get_list(f"/experiment/models/{quote(folder, safe='')}", dict)
        return {str(file.get("name")): file for file in reversed(found)}


class LocalAndReported:
    """The models in local folders of a ComfyUI, and in folders that only its API returns.

    Custom nodes may register folders anywhere. The names in these folders are requested from
    ComfyUI's API; they are listed, but their files are never opened.
    """

    def __init__(self, local: LocalModels, remote: RemoteModels, reported: Sequence[str]) -> None:
        self._local = local
        self._remote = remote
        self._reported = reported

    async def models(self, *, folder: str | None = None, search: str = "") -> list[dict[str, Any]]:
        """Return the models; see `ModelListing`."""
        found = await self._local.models(folder=folder, search=search)
        asked = [
            name for name in self._reported if folder in (None, name) and name not in NOT_MODELS
        ]
        known = {(entry["folder"], entry["name"]) for entry in found}
        for name in asked:
            with suppress(ComfyUIUnavailableError, NotFoundError):
                more = await self._remote.models(folder=name, search=search)
                found += [one for one in more if (one["folder"], one["name"]) not in known]
        return found

    async def folders(self) -> dict[str, list[list[str]]]:
        """Return directories, extensions and names by folder; see `ModelListing`."""
        found = await self._local.folders()
        for name, more in (await self._reported_names()).items():
            directories, extensions, names = found.get(name, [[], [], []])
            found[name] = [directories, extensions, sorted({*names, *more})]
        return found

    async def names(self) -> dict[str, list[str]]:
        """Return the names by folder; see `ModelListing`."""
        found = await self._local.names()
        for name, more in (await self._reported_names()).items():
            found[name] = sorted({*found.get(name, ()), *more})
        return found

    async def _reported_names(self) -> dict[str, list[str]]:
        reported = {}
        for name in self._reported:
            with suppress(ComfyUIUnavailableError):
                reported[name] = await self._remote.names_in(name)
        return reported


def _strings(found: Any) -> list[str]:
    """Return the strings in an array; return an empty list for any other value."""
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
