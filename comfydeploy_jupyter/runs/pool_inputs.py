"""The input files of runs of pools: kept by Jupyter, sent to the machine that gets the run."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import IO, TYPE_CHECKING, Any

from ..comfyui.folders import Folders
from ..errors import ComfyDeployError, ConflictError, NotFoundError
from ..util import worker
from ..util.json_stream import dumps
from ..util.responses import loads
from ..util.tasks import open_in_thread
from ..util.unparsed import LARGE
from .input_files import PLAIN_MODE, digest_of, place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry

KEPT_DIGESTS = 1000
STEADY_AFTER = 2 * 10**9  # nanoseconds after a change, in which the times of a file may not differ


class PoolInputs:
    """Finds the input files that a graph names, and sends them to a machine.

    Parameters
    ----------
    machines : MachineRegistry
        The machines; files in the input folders of those on this computer are found too.
    folder : pathlib.Path
        The folder in which files that are uploaded to a pool are kept, below ``input``.
    """

    def __init__(self, machines: MachineRegistry, folder: Path) -> None:
        self._machines = machines
        self._folder = folder
        self._known: Folders | None = None
        self._digests: dict[tuple[int, ...], str] = {}  # by device, inode, size and times

    async def folders(self) -> Folders:
        """Return the folders for uploads to a pool; they are created if missing."""
        if self._known is None:
            await asyncio.to_thread((self._folder / "input").mkdir, parents=True, exist_ok=True)
            self._known = await asyncio.to_thread(Folders, self._folder)
        return self._known

    async def named(self, names: Collection[str], machine: Machine) -> dict[str, str]:
        """Return the SHA-256 of those names that are files, in the kept folder or a machine's.

        Parameters
        ----------
        names : collection of str
            The texts in a graph that may name input files.
        machine : Machine
            The machine for which the run was prepared.
        """
        if not names:
            return {}
        places = [await self.folders()]
        if machine.path is not None:
            places.append(await machine.folders())
        found = {}
        for name in sorted(names):
            for folders in await asyncio.to_thread(_having, name, places):
                found[name] = await asyncio.to_thread(self._digest, folders, name)
                break
        return found

    async def send(
        self, hashes: Mapping[str, str], prompt: bytes, machine: Machine, client: ComfyUIClient
    ) -> bytes:
        """Put input files into the input folder of a machine, unless they are there already.

        Parameters
        ----------
        hashes : mapping of str to str
            The result of `named`; "" for a file whose hash is not known.
        prompt : bytes
            The graph that names them.
        machine, client : Machine and ComfyUIClient
            The machine that gets the run.

        Returns
        -------
        bytes
            The graph with the names of the files on that machine.

        Raises
        ------
        InputChangedError
            If the content of a file is another one now.
        NotFoundError, ForbiddenPathError, InvalidRequestError, ConflictError
            If a file is not here any more, cannot be read, or changes meanwhile.
        OSError
            If the input folder of the machine is here and does not take it.
        ComfyUIUnavailableError
            If the machine does not take it.
        """
        target = await machine.folders()
        renamed: dict[str, str] = {}
        for name, digest in hashes.items():
            source = await self._source(name, digest, prompt)
            if await asyncio.to_thread(_same_input, source, target):
                continue
            path = _path(source, name)
            with await open_in_thread(_open, source, path) as file:
                mode = stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) & PLAIN_MODE
                placed = await place(file, path.name, target, client, mode=mode)
            if f"{digest[:16]}" not in placed:
                raise await _changed(name, prompt)
            renamed[name] = placed
        if not renamed:
            return prompt
        return await worker.compute(_renamed, prompt, renamed, large=len(prompt) > LARGE)

    async def _source(self, name: str, digest: str, prompt: bytes) -> Folders:
        """Return the folders on this computer that have an input file with a hash."""
        places = [await self.folders()]
        for machine in self._machines:
            if machine.path is not None:
                try:
                    places.append(await machine.folders())
                except ComfyDeployError:
                    continue
        having = await asyncio.to_thread(_having, name, places)
        for folders in having:
            if not digest or await asyncio.to_thread(self._digest, folders, name) == digest:
                return folders
        if having:
            raise await _changed(name, prompt)
        raise NotFoundError(f"The input file {name!r} of the run is not there any more")

    def _digest(self, folders: Folders, name: str) -> str:
        """Return the SHA-256 of an input file; it is computed once for a file that stays as it is.

        It is "" if the file cannot be read.
        """
        try:
            with _open(folders, _path(folders, name)) as file:
                facts = os.fstat(file.fileno())
                times = facts.st_mtime_ns, facts.st_ctime_ns
                known = facts.st_dev, facts.st_ino, facts.st_size, *times
                if known not in self._digests:
                    found = digest_of(file)
                    if time.time_ns() - facts.st_ctime_ns < STEADY_AFTER:
                        return found  # a change in the same moment would not be noticed
                    if len(self._digests) >= KEPT_DIGESTS:
                        self._digests.clear()
                    self._digests[known] = found
                return self._digests[known]
        except (ComfyDeployError, OSError):
            return ""


class InputChangedError(ConflictError):
    """An input file of a run has another content than when the run was queued."""


async def _changed(name: str, prompt: bytes) -> InputChangedError:
    """Return the error for an input file, with the inputs of the graph that name it."""
    where = await worker.compute(_inputs_with, prompt, name, large=len(prompt) > LARGE)
    return InputChangedError(
        f"{where}: The input file {name!r} was changed while the run waited for a machine, so it"
        " was not executed. Start it again to use the new file",
        details={"file": name},
    )


def _inputs_with(prompt: bytes, value: str) -> str:
    """Return the names of the inputs of a graph with a value, such as ``1.image``."""
    graph: dict[str, Any] = loads(prompt)
    found = [
        f"{node_id}.{key}"
        for node_id, node in graph.items()
        for key, given in node.get("inputs", {}).items()
        if given == value
    ]
    return ", ".join(found)


def _having(name: str, places: list[Folders]) -> list[Folders]:
    return [folders for folders in places if _is_file(name, folders)]


def _path(folders: Folders, name: str) -> Path:
    return folders.directory("input") / name.removesuffix(" [input]")


def _is_file(name: str, folders: Folders) -> bool:
    if folders.base is None:
        return False
    root = folders.directory("input").resolve()
    try:
        path = (root / name.removesuffix(" [input]")).resolve()
        return path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _same_input(one: Folders, other: Folders) -> bool:
    if one.base is None or other.base is None:
        return False
    return one.directory("input").resolve() == other.directory("input").resolve()


def _open(folders: Folders, path: Path) -> IO[bytes]:
    return folders.open_for_read(folders.resolve(str(path)))


def _renamed(prompt: bytes, names: dict[str, str]) -> bytes:
    """Return a graph in which inputs have other file names."""
    graph: dict[str, Any] = loads(prompt)
    for node in graph.values():
        for key, value in node.get("inputs", {}).items():
            if isinstance(value, str) and value in names:
                node["inputs"][key] = names[value]
    return dumps(graph).encode()
