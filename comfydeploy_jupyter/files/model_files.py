"""Deletes and moves the models of ComfyUI, and finds out what uses them."""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..comfyui.folders import BESIDE_MODELS
from ..errors import ComfyUIUnavailableError, ConflictError, InvalidRequestError
from ..runs.records import FINAL
from ..transfers import models
from .model_uses import ModelName, ModelUses
from .names import safe_filename

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..store.database import Database
    from ..transfers.models import ExistingModel
    from .hashing import Hasher
    from .listing import DirectoryCache
    from .model_uses import RunUse, TransferUse, WorkflowUse

MOST_RUNS = 20  # runs that a reply names


class Uses(NamedTuple):
    """What uses a model, on all machines whose model folders contain it."""

    model: ExistingModel
    workflows: list[WorkflowUse]
    runs: list[RunUse]
    transfers: list[TransferUse]
    queued: bool | None
    silent: list[str]

    @property
    def in_use(self) -> bool:
        """Whether anything is known to use it now."""
        return bool(self.unfinished or self.transfers or self.queued)

    @property
    def unfinished(self) -> int:
        """How many runs that name it have not ended."""
        return sum(run.status not in FINAL for run in self.runs)

    def reply(self) -> dict[str, Any]:
        """Return the body of the reply to ``GET models/uses``."""
        return {
            "folder": self.model.folder,
            "name": self.model.name,
            "path": str(self.model.path),
            "in_use": self.in_use,
            "workflows": [use._asdict() for use in self.workflows],
            "runs": [use._asdict() for use in self.runs[:MOST_RUNS]],
            "run_count": len(self.runs),
            "unfinished": self.unfinished,
            "queued": self.queued,
            "transfers": [use._asdict() for use in self.transfers],
        }


class ModelFiles:
    """Deletes and moves models."""

    def __init__(
        self,
        database: Database,
        machines: MachineRegistry,
        hasher: Hasher,
        directories: DirectoryCache,
    ) -> None:
        self._uses = ModelUses(database)
        self._machines = machines
        self._hasher = hasher
        self._directories = directories

    async def uses(self, machine: Machine, folder: str, filename: str) -> Uses:
        """Return what uses a model."""
        folders = await machine.folders()
        model = await asyncio.to_thread(models.find, folders, folder, filename)
        return await self._find_uses(machine, folders, model)

    async def delete(
        self, machine: Machine, folder: str, filename: str, *, in_use: bool
    ) -> ExistingModel:
        """Delete a model."""
        folders = await machine.folders()
        model = await asyncio.to_thread(models.find, folders, folder, filename)
        if not in_use:
            await self._refuse_used(machine, folders, model)
        await asyncio.to_thread(models.delete_model, folders, model.path)
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

        Its hashes stay known. On another disk it is copied, which takes as long as that takes.
        """
        folders = await machine.folders()
        model = await asyncio.to_thread(models.find, folders, folder, filename)
        name = to_filename or filename
        target = await asyncio.to_thread(
            models.place,
            folders,
            to_folder or folder,
            name,
            field="to_filename",
            folder_field="to_folder",
            beside=model,
        )
        extensions = folders.model_folder(models.folder_name(to_folder or folder)).extensions
        _check_name(target.name, extensions)
        if not in_use:
            await self._refuse_used(machine, folders, model)
        hashes = await self._hasher.cached(model.path)
        await asyncio.to_thread(models.move_model, folders, model.path, target)
        if hashes is not None:
            await self._hasher.remember(target, hashes)
        return target

    async def _find_uses(self, machine: Machine, folders: Folders, model: ExistingModel) -> Uses:
        machines = [machine, *(other for other in self._machines if other is not machine)]
        known = [folders, *await asyncio.gather(*map(_known_folders, machines[1:]))]
        names = await asyncio.to_thread(_names, known, model.path, self._directories)
        names[0].add((model.folder, model.name))
        sharing = [one for one, found in zip(machines, names, strict=True) if found]
        ids = {one.id for one in sharing}
        pools = [*self._machines.pools, self._machines.all_machines]
        name = ModelName(set().union(*names))
        queued = await asyncio.gather(*(_is_queued(one, name) for one in sharing))
        silent = [one.id for one, found in zip(sharing, queued, strict=True) if found is None]
        return Uses(
            model,
            await self._uses.workflows(name),
            await self._uses.runs(
                name, [*ids, *(pool.id for pool in pools if ids.intersection(pool.members))]
            ),
            await self._uses.transfers(str(model.path)),
            any(queued) or (None if silent else False),
            silent,
        )

    async def _refuse_used(self, machine: Machine, folders: Folders, model: ExistingModel) -> None:
        uses = await self._find_uses(machine, folders, model)
        if uses.in_use:
            parts = [
                f"{count} {noun}{'s' if count != 1 else ''}"
                for count, noun in ((uses.unfinished, "run"), (len(uses.transfers), "transfer"))
                if count
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
        raise ConflictError(
            f"filename: {reason}, or set in_use to do it nevertheless.",
            details={"field": "filename", "uses": uses.reply()},
        )


async def _known_folders(machine: Machine) -> Folders | None:
    """Return the folders of a machine as far as they are known now, without a search for ComfyUI.

    None if its launch arguments are malformed, so that its ComfyUI cannot be running.
    """
    try:
        return await machine.folders(search=False)
    except InvalidRequestError:
        return None


def _names(
    known: Sequence[Folders | None], path: Path, directories: DirectoryCache
) -> list[set[tuple[str, str]]]:
    """Return the models folders that contain a file, and its names there. This function blocks.

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
