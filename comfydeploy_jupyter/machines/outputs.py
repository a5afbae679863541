"""The output files of members that a provider has started: these files outlive the members."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ComfyUIUnavailableError
from ..graphs.outputs import files_of
from ..util.tasks import open_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .registry import MachineRegistry

KEPT = ("output", "temp")
CHUNK = 1024 * 1024  # bytes


class KeptOutputs:
    """Copies the outputs of runs from members whose files would be lost, and opens them.

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
            shared = await open_in_thread(self._open, self._shared(machine_id, kind), path)
            if shared is not None:
                await asyncio.to_thread(shared.close)
                continue
            query = {"filename": filename, "subfolder": subfolder, "type": kind}
            await self._copy(machine_id, query, self._folder / machine_id / kind / path)

    async def open(
        self, machine_id: str, kind: str, subfolder: str, filename: str
    ) -> io.FileIO | None:
        """Open a file of a member, which may have ended; None if it does not exist."""
        path = _path(subfolder, filename)
        if kind not in KEPT or path is None or not machine_id.isalnum():
            return None
        folders = [self._folder / machine_id / kind, *self._shared(machine_id, kind)]
        return await open_in_thread(self._open, folders, path)

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
        """Return the folders that may contain files of a member, also those for copies."""
        if not machine_id.isalnum():
            return []
        shared = {folder for pool in self._registry.pools for folder in pool.shared_dirs}
        parents = [*map(Path, sorted(shared)), self._folder]
        return [folder / machine_id for folder in parents]

    def _shared(self, machine_id: str, kind: str) -> list[Path]:
        """Return the folders in which a member may have written files that this server can read."""
        return [folder / kind for folder in self._folders(machine_id)[:-1]]

    def _open(self, folders: Iterable[Path], path: PurePosixPath) -> io.FileIO | None:
        for folder in folders:
            with contextlib.suppress(OSError):
                whole = (folder / path).resolve(strict=True)
                if whole.is_file() and whole.is_relative_to(folder.resolve()):
                    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
                    return io.FileIO(os.open(whole, flags), "rb")
        return None

    async def _copy(self, machine_id: str, query: Mapping[str, str], target: Path) -> None:
        machine = self._registry.find(machine_id)
        if machine is None:
            raise ComfyUIUnavailableError(f"The machine {machine_id!r} has ended")
        client = await machine.ready()
        async with client.view(query, {}) as response:
            if response.status == 404:
                return
            if response.status != 200:
                raise client.unavailable(f"it answered {response.status} to GET /view")
            await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
            folder = await asyncio.to_thread(self._new_folder)
            part = folder / "copy"
            try:
                opened = await open_in_thread(lambda: part.open("wb"))
                try:
                    async for chunk in response.content.iter_chunked(CHUNK):
                        await asyncio.to_thread(opened.write, chunk)
                finally:
                    await asyncio.to_thread(opened.close)
                await asyncio.to_thread(os.replace, part, target)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _new_folder(self) -> Path:
        self.incomplete.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self.incomplete))


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
