"""Deletes and moves the models of ComfyUI, and finds out what uses them."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConflictError, InvalidRequestError
from ..store.model_uses import ModelName, ModelUses
from ..store.runs import FINAL
from ..transfers import models
from .names import safe_filename

if TYPE_CHECKING:
    from pathlib import Path

    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..store.database import Database
    from ..store.model_uses import RunUse, TransferUse, WorkflowUse
    from ..transfers.models import ExistingModel
    from .hashing import Hasher

MOST_RUNS = 20  # runs that a reply names


class Uses(NamedTuple):
    """What uses a model.

    Attributes
    ----------
    model : ExistingModel
        The model.
    workflows : list of WorkflowUse
        The stored workflows that name it.
    runs : list of RunUse
        The runs that name it, newest first; those that have not ended are first.
    transfers : list of TransferUse
        The transfers of its file that have not ended.
    queued : bool
        Whether a prompt in ComfyUI's queue names it; it may be one of another client.
    """

    model: ExistingModel
    workflows: list[WorkflowUse]
    runs: list[RunUse]
    transfers: list[TransferUse]
    queued: bool

    @property
    def in_use(self) -> bool:
        """Whether anything uses it now."""
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
    """Deletes and moves models.

    Parameters
    ----------
    database : Database
        The store of workflows, runs and transfers.
    machines : MachineRegistry
        The machines, whose pools have runs that wait.
    hasher : Hasher
        Caches the hashes of models.
    """

    def __init__(self, database: Database, machines: MachineRegistry, hasher: Hasher) -> None:
        self._uses = ModelUses(database)
        self._machines = machines
        self._hasher = hasher

    async def uses(self, machine: Machine, folder: str, filename: str) -> Uses:
        """Return what uses a model.

        Parameters
        ----------
        machine : Machine
            The machine that has it; its folders must be on this computer.
        folder : str
            The models folder, such as ``checkpoints``, or a subfolder.
        filename : str
            The file, with the subfolders of its name.

        Raises
        ------
        InvalidRequestError, NotFoundError, ForbiddenPathError
            As in `transfers.models.find`.
        """
        folders = await machine.folders()
        return await self._find_uses(
            machine, await asyncio.to_thread(models.find, folders, folder, filename)
        )

    async def delete(
        self, machine: Machine, folder: str, filename: str, *, in_use: bool
    ) -> ExistingModel:
        """Delete a model.

        Parameters
        ----------
        machine, folder, filename
            The model, as in `uses`.
        in_use : bool
            Whether it is deleted although a run or a transfer uses it.

        Raises
        ------
        InvalidRequestError, NotFoundError, ForbiddenPathError
            If it does not exist, or may not be deleted.
        ConflictError
            If a run or a transfer uses it now, unless `in_use` is set; ``details`` has the uses.
        """
        folders = await machine.folders()
        model = await asyncio.to_thread(models.find, folders, folder, filename)
        if not in_use:
            await self._refuse_used(machine, model)
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

        Parameters
        ----------
        machine, folder, filename, in_use
            As in `delete`.
        to_folder, to_filename : str or None
            The new folder and name; None for the present one.

        Raises
        ------
        InvalidRequestError, NotFoundError, ForbiddenPathError, ConflictError
            As in `delete`. Also for the new path: if another file is there, or ComfyUI would not
            list the file there.
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
            beside=model,
        )
        extensions = folders.model_folder(models.folder_name(to_folder or folder)).extensions
        _check_name(target.name, extensions)
        if not in_use:
            await self._refuse_used(machine, model)
        hashes = await self._hasher.cached(model.path)
        await asyncio.to_thread(models.move_model, folders, model.path, target)
        if hashes is not None:
            await self._hasher.remember(target, hashes)
        return target

    async def _find_uses(self, machine: Machine, model: ExistingModel) -> Uses:
        pools = [pool.id for pool in self._machines.pools if machine.id in pool.members]
        everything = self._machines.all_machines
        if machine.id in everything.members:
            pools.append(everything.id)
        name = ModelName(model.folder, model.name)
        return Uses(
            model,
            await self._uses.workflows(name),
            await self._uses.runs(name, [machine.id, *pools]),
            await self._uses.transfers(str(model.path)),
            await _is_queued(machine, name),
        )

    async def _refuse_used(self, machine: Machine, model: ExistingModel) -> None:
        uses = await self._find_uses(machine, model)
        if not uses.in_use:
            return
        parts = [
            f"{count} {noun}{'s' if count != 1 else ''}"
            for count, noun in ((uses.unfinished, "run"), (len(uses.transfers), "transfer"))
            if count
        ] or ["1 prompt in ComfyUI's queue"]
        verb = "uses" if uses.unfinished + len(uses.transfers) <= 1 else "use"
        raise ConflictError(
            f"filename: {' and '.join(parts)} {verb} {model.name} now. Wait for the end, or set"
            " in_use to go on.",
            details={"field": "filename", "uses": uses.reply()},
        )


async def _is_queued(machine: Machine, name: ModelName) -> bool:
    """Return whether a prompt in the queue of a machine's ComfyUI names a model."""
    client = machine.reachable_client()
    if client is None:
        return False
    return await asyncio.to_thread(name.is_in, await client.queue_text())


def _check_name(name: str, extensions: frozenset[str]) -> None:
    """Raise if ComfyUI would not list a file of this name, or it is not a name for all systems."""
    safe = safe_filename(name, field="to_filename")
    if safe != name:
        raise InvalidRequestError.of_field("to_filename", f"{name!r} is not allowed, but {safe!r}")
    if extensions and PurePosixPath(name).suffix.lower() not in extensions:
        kinds = ", ".join(sorted(extensions))
        raise InvalidRequestError.of_field(
            "to_filename", f"ComfyUI lists only these files there: {kinds}"
        )
