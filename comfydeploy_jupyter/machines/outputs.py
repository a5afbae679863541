"""Where the files of machines are, and copies of outputs of members that a provider has started."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ComfyUIUnavailableError, NotFoundError
from ..graphs.outputs import files_of
from ..util.tasks import open_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..comfyui.folders import Folders
    from .registry import MachineRegistry

KEPT = ("output", "temp")


@dataclass(frozen=True)
class FileSource:
    """Where the files of a machine are on this computer; worker processes can use it, too."""

    copies: tuple[Path, ...] = ()  # folders that may contain copies of its files
    folders: Folders | None = None  # those of its ComfyUI, if they are known

    def open(self, kind: str, subfolder: str, filename: str) -> io.FileIO | None:
        """Open a file; None: its ComfyUI has to be asked for it. This blocks."""
        path = _path(subfolder, filename)
        if path is not None and kind in KEPT:
            copy = _open([folder / kind for folder in self.copies], path)
            if copy is not None:
                return copy
        return None if self.folders is None else self.folders.open_file(kind, subfolder, filename)


class KeptOutputs:
    """Copies the outputs of runs from members whose files would be lost; opens files of machines.

    Each member has a separate folder, either in the folder that its pool shares with the nodes of
    the cluster, or in the data folder of this server.
    """

    def __init__(self, folder: Path, registry: MachineRegistry) -> None:
        self._folder = folder
        self._registry = registry
        self.incomplete = folder / ".incomplete"  # each copy has a folder of its own in it

    def may_have(self, machine_id: str) -> bool:
        """Return whether a machine is a member that a provider has started, or one that ended."""
        registry = self._registry
        return machine_id in registry.provided or registry.find(machine_id) is None

    async def keep(self, machine_id: str, outputs: Mapping[str, Any]) -> None:
        """Copy the files in the outputs of a run, unless they are in a shared folder.

        Files that the member does not have are left out. ComfyUIUnavailableError: it does not send
        them; OSError: a copy cannot be written.
        """
        found = (file for output in outputs.values() for file in files_of(output))
        for kind, subfolder, filename in {(f.type, f.subfolder, f.filename) for f in found}:
            path = _path(subfolder, filename)
            if kind not in KEPT or path is None:
                continue
            folders = [folder / kind for folder in self._folders(machine_id)[:-1]]
            shared = await open_in_thread(_open, folders, path)
            if shared is not None:
                await asyncio.to_thread(shared.close)
                continue
            query = {"filename": filename, "subfolder": subfolder, "type": kind}
            await self._copy(machine_id, query, self._folder / machine_id / kind / path)

    async def open_file(
        self, machine_id: str | None, kind: str, subfolder: str, filename: str
    ) -> io.FileIO | None:
        """Open a file of a machine, or the copy of one; None: ComfyUI has to be asked for it.

        NotFoundError if there is none, or no such machine.
        """
        source = await self.source(machine_id)
        file = await open_in_thread(source.open, kind, subfolder, filename)
        if file is None:
            self._registry.get(machine_id)
        return file

    async def source(self, machine_id: str | None) -> FileSource:
        """Return where the files of a machine are, which may have ended; None: the default one."""
        registry = self._registry
        machine = registry.get(None) if machine_id is None else registry.find(machine_id)
        copies = FileSource() if machine_id is None else self.copies(machine_id)
        if machine is None or machine.path is None:
            return copies
        return replace(copies, folders=await machine.folders())

    def copies(self, machine_id: str) -> FileSource:
        """Return where the copies of the files of a machine are, if it may have some."""
        if not self.may_have(machine_id):
            return FileSource()
        return FileSource((*reversed(self._folders(machine_id)),))

    def folder(self, machine_id: str) -> Path | None:
        """Return the folder with those of a member, which may have ended; None if there is none.

        This function blocks: call it in a thread.
        """
        for folder in self._folders(machine_id):
            if folder.is_dir():
                return folder
        return None

    def remove_empty(self, machine_ids: Iterable[str]) -> None:
        """Remove the empty folders of members that have ended. This blocks, too."""
        for machine_id in machine_ids:
            if machine_id in self._registry.provided:
                continue
            for folder in self._folders(machine_id):
                for inner, _, _ in os.walk(folder, topdown=False):
                    with contextlib.suppress(OSError):  # it is not empty
                        Path(inner).rmdir()

    def _folders(self, machine_id: str) -> list[Path]:
        """Return the folders that may contain files of a member; the last one has copies."""
        if not machine_id.isalnum():
            return []
        shared = {folder for pool in self._registry.pools for folder in pool.shared_dirs}
        parents = [*map(Path, sorted(shared)), self._folder]
        return [folder / machine_id for folder in parents]

    async def _copy(self, machine_id: str, query: Mapping[str, str], target: Path) -> None:
        machine = self._registry.find(machine_id)
        if machine is None:
            raise ComfyUIUnavailableError(f"The machine {machine_id!r} has ended")
        client = await machine.ready()
        folder = await asyncio.to_thread(self._new_folder)
        part = folder / "copy"
        try:
            opened = await open_in_thread(lambda: part.open("wb"))
            try:
                await client.fetch(query, opened)
            finally:
                await asyncio.to_thread(opened.close)
            await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
            await asyncio.to_thread(os.replace, part, target)
        except NotFoundError:
            return
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _new_folder(self) -> Path:
        self.incomplete.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self.incomplete))


def _open(folders: Iterable[Path], path: PurePosixPath) -> io.FileIO | None:
    for folder in folders:
        with contextlib.suppress(OSError):
            whole = (folder / path).resolve(strict=True)
            if whole.is_file() and whole.is_relative_to(folder.resolve()):
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
                return io.FileIO(os.open(whole, flags), "rb")
    return None


def _path(subfolder: str, filename: str) -> PurePosixPath | None:
    """Return the relative path of a file; None if there can be none within its folder."""
    if not filename or "\0" in subfolder + filename or "/" in filename:
        return None
    path = PurePosixPath(subfolder.replace("\\", "/")) / filename
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half of an emoji: there can be no such file
        return None
    return None if path.is_absolute() or ".." in path.parts else path
