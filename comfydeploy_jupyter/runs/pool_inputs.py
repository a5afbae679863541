"""The input files of runs of pools: kept by Jupyter, sent to the machine that gets the run."""

from __future__ import annotations

import asyncio
import stat
from typing import IO, TYPE_CHECKING, Any

from .. import worker
from ..comfyui.folders import Folders
from ..errors import ComfyDeployError, NotFoundError
from ..net.json_stream import dumps
from ..net.responses import loads
from ..net.tasks import open_in_thread
from ..unparsed import LARGE
from .input_files import PLAIN_MODE, place

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry


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

    async def folders(self) -> Folders:
        """Return the folders for uploads to a pool; they are created if missing."""
        if self._known is None:
            await asyncio.to_thread((self._folder / "input").mkdir, parents=True, exist_ok=True)
            self._known = await asyncio.to_thread(Folders, self._folder)
        return self._known

    async def named(self, names: Collection[str], machine: Machine) -> list[str]:
        """Return those names that are files here, in the kept folder or in that of a machine.

        Parameters
        ----------
        names : collection of str
            The texts in a graph that may name input files.
        machine : Machine
            The machine for which the run was prepared.
        """
        if not names:
            return []
        places = [await self.folders()]
        if machine.path is not None:
            places.append(await machine.folders())
        return await asyncio.to_thread(_present, sorted(names), places)

    async def send(
        self, names: Collection[str], prompt: bytes, machine: Machine, client: ComfyUIClient
    ) -> bytes:
        """Put input files into the input folder of a machine, unless they are there already.

        Parameters
        ----------
        names : collection of str
            Names of `named`.
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
        NotFoundError, ForbiddenPathError, InvalidRequestError, ConflictError
            If a file is not here any more, cannot be read, or changes meanwhile.
        OSError
            If the input folder of the machine is here and does not take it.
        ComfyUIUnavailableError
            If the machine does not take it.
        """
        target = await machine.folders()
        renamed: dict[str, str] = {}
        for name in names:
            source = await self._source(name)
            if await asyncio.to_thread(_same_input, source, target):
                continue
            plain = name.removesuffix(" [input]")
            path = source.directory("input") / plain
            with await open_in_thread(_open, source, path) as file:
                mode = stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) & PLAIN_MODE
                renamed[name] = await place(file, path.name, target, client, mode=mode)
        if not renamed:
            return prompt
        return await worker.compute(_renamed, prompt, renamed, large=len(prompt) > LARGE)

    async def _source(self, name: str) -> Folders:
        """Return the folders on this computer that have an input file."""
        places = [await self.folders()]
        for machine in self._machines:
            if machine.path is not None:
                try:
                    places.append(await machine.folders())
                except ComfyDeployError:
                    continue
        for folders in places:
            if await asyncio.to_thread(_present, [name], [folders]):
                return folders
        raise NotFoundError(f"The input file {name!r} of the run is not there any more")


def _present(names: list[str], places: list[Folders]) -> list[str]:
    return [name for name in names if any(_is_file(name, folders) for folders in places)]


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
