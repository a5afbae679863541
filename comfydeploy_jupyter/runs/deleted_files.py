"""The output files of runs that are deleted, what uses them, and the report of a deletion."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..comfyui.deleting import locate, state_of
from ..errors import ComfyDeployError, ForbiddenPathError
from .deletion_records import FileToDelete, Names, OutputName, StoredRun

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ..comfyui.deleting import Directories
    from ..machines.kept_outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from .deletion_records import Use

MOST_NAMED = 1000  # runs and files that a report names
NO_FOLDER = "the folders of its ComfyUI are not known here: files there cannot be deleted"

Place = tuple[bytes, bytes]  # the root folder of a file, and its path in there


class Kept(NamedTuple):
    """A run or a file that was not deleted.

    Attributes
    ----------
    prompt_id : str
        The run.
    file : str or None
        Its file; None if the run itself was kept.
    reason : str
        Why.
    """

    prompt_id: str
    file: str | None
    reason: str


@dataclass
class Deleted:
    """What a deletion has deleted and kept.

    Attributes
    ----------
    runs, files, bytes : int
        How many runs and files were deleted, and the size of the files.
    kept : list of Kept
        The first `MOST_NAMED` runs and files that were not deleted.
    kept_count : int
        Number of all of them.
    """

    runs: int = 0
    files: int = 0
    bytes: int = 0
    kept: list[Kept] = field(default_factory=list)
    kept_count: int = 0

    def keep(self, run: StoredRun | str, reason: str, file: OutputName | None = None) -> None:
        """Record that a run, or one of its files, was not deleted."""
        self.kept_count += 1
        if len(self.kept) < MOST_NAMED:
            prompt_id = run if isinstance(run, str) else run.prompt_id
            self.kept.append(Kept(prompt_id, None if file is None else str(file), reason))

    def reply(self) -> dict[str, Any]:
        """Return the body of the reply to ``POST runs/delete``."""
        return {
            "success": True,
            "runs": self.runs,
            "files": self.files,
            "bytes": self.bytes,
            "kept": [kept._asdict() for kept in self.kept],
            "kept_count": self.kept_count,
        }


class OutputFolders:
    """Finds the output files of runs on the disk of this machine.

    Parameters
    ----------
    machines : MachineRegistry
        The machines of the runs.
    kept_outputs : KeptOutputs
        The outputs of members that a provider has started.
    """

    def __init__(self, machines: MachineRegistry, kept_outputs: KeptOutputs) -> None:
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._known: dict[str, Directories | None] = {}

    async def read(self, runs: Iterable[StoredRun]) -> None:
        """Find the folders of the machines of these runs, before `locate`."""
        for machine_id in {run.machine for run in runs} - self._known.keys():
            machine = self._machines.find(machine_id)
            folders = None
            if machine is not None and machine.path is not None:
                with suppress(ComfyDeployError):
                    folders = await machine.folders()
            known: Directories | None = folders if folders and folders.base else None
            if known is None:
                known = await asyncio.to_thread(self._kept_outputs.folders, machine_id)
            self._known[machine_id] = known

    def locate(self, run: StoredRun, output: OutputName) -> Place | None:
        """Return the place of an output file; None if the folders are not known.

        This function blocks: call it in a thread.

        Raises
        ------
        ForbiddenPathError
            If it is not within ComfyUI's output or temp folder.
        """
        folders = self._known[run.machine]
        return None if folders is None else locate(folders, *output)

    def may_become_known(self, run: StoredRun) -> bool:
        """Return whether the folders of a run's machine are not known, but may be known later."""
        return self.is_unsure(run) and self._machines.find(run.machine) is not None

    def is_unsure(self, run: StoredRun) -> bool:
        """Return whether it is unknown if the files of a run are on this disk."""
        machine = self._machines.find(run.machine)
        return self._known[run.machine] is None and (machine is None or not machine.connected)


class DeletedFiles:
    """The output files of the runs that are deleted, with the uses of each file."""

    def __init__(self, runs: Sequence[StoredRun], folders: OutputFolders, report: Deleted) -> None:
        self.folders = folders
        self._chosen = {run.id for run in runs}
        self._report = report
        self.listed: dict[Place, list[tuple[StoredRun, OutputName]]] = defaultdict(list)
        self.users: dict[Place, set[int]] = defaultdict(set)
        self.of: dict[int, set[Place]] = defaultdict(set)  # by run that uses them
        self._by_name: dict[str, set[Place]] = defaultdict(set)
        self._kept: set[Place] = set()
        for run in runs:
            for output in run.outputs:
                try:
                    place = folders.locate(run, output)
                except ForbiddenPathError as error:
                    report.keep(run, error.message, output)
                    continue
                if place is None:
                    report.keep(run, NO_FOLDER, output)
                else:
                    self.listed[place].append((run, output))
                    self._by_name[output.filename].add(place)
        self.names = Names(self._by_name)

    def add_uses(self, uses: Iterable[Use]) -> None:
        """Record the uses of the files; keep files with other uses than the chosen runs."""
        for use in uses:
            places = self._by_name[use.name]
            if use.run is not None and use.output is not None:
                places = places & self._places_of(use.run, use.output)
            for place in places:
                if use.run is None or use.run.id not in self._chosen:
                    self.keep(place, f"{use.by} uses it")
                else:
                    self.users[place].add(use.run.id)
                    self.of[use.run.id].add(place)

    def keep(self, place: Place, reason: str) -> None:
        """Record why a file is kept; the first reason is reported."""
        if place not in self._kept:
            self._kept.add(place)
            for run, output in self.listed[place]:
                self._report.keep(run, reason, output)

    def keep_named(self, uses: Iterable[Use]) -> None:
        """Keep the files with the names of these uses."""
        for use in uses:
            for place in self._by_name[use.name]:
                self.keep(place, f"{use.by} uses it")

    def ready(self, runs: Sequence[StoredRun]) -> dict[FileToDelete, set[int]]:
        """Return the files that only these runs still use, with their users.

        This function blocks: call it in a thread.
        """
        ids = {run.id for run in runs}
        found = {}
        for place in set().union(*(self.of[run] for run in ids)) - self._kept:
            if self.users[place] <= ids:
                try:
                    state = state_of(*place)
                except ForbiddenPathError as error:
                    self.keep(place, error.message)
                else:
                    if state is not None:
                        found[FileToDelete(*place, state)] = self.users[place]
        return found

    def forget(self, runs: Collection[int]) -> None:
        """Record that runs were deleted."""
        for run in runs:
            for place in self.of.pop(run, ()):
                self.users[place].discard(run)

    def _places_of(self, run: StoredRun, output: OutputName) -> set[Place]:
        try:
            place = self.folders.locate(run, output)
        except ForbiddenPathError:
            return set()
        if place is not None:
            return {place}
        return self._by_name[output.filename] if self.folders.is_unsure(run) else set()
