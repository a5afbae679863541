"""Deletes runs that have ended, and their output files."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..comfyui.deleting import delete_file, size_of
from ..errors import ComfyDeployError, NotFoundError
from ..graphs.node_outputs import files_of
from ..util.backoff import Backoff
from .deleted_files import Deleted, DeletedFiles, OutputFolders
from .deletion_records import FileToDelete, StoredRun, Use
from .filters import RunFilter
from .limits import beyond
from .records import FINAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .deletion_records import DeletionRepository
    from .limits import KeepRuns
    from .shared import Shared

log = logging.getLogger(__name__)

FIRST_AFTER = 60.0  # seconds from the start until the limits are applied
EVERY = 3600.0  # seconds between that and the next times
LIMITS_AGAIN = Backoff(first=EVERY / 4, longest=EVERY)  # pauses after a failure
AT_A_TIME = 100  # runs that one transaction deletes


class Deleter:
    """Deletes runs with their files, and pins runs.

    One transaction deletes the records of some runs, and stores which files must be deleted. Then
    the files are deleted, and then their records. So if a server is killed in between, either the
    run is complete, or the next start deletes its files.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    repository : DeletionRepository
        Deletes records.
    keep : KeepRuns
        The limits beyond which old runs are deleted.
    """

    def __init__(self, shared: Shared, repository: DeletionRepository, keep: KeepRuns) -> None:
        self._shared = shared
        self._repository = repository
        self._keep = keep
        self._one_at_a_time = asyncio.Lock()

    async def select(self, which: RunFilter) -> list[StoredRun]:
        """Return runs, oldest first."""
        found: list[StoredRun] = []
        while portion := await self._repository.select(which, after=found[-1].id if found else 0):
            found.extend(portion)
        return found

    async def pin(self, prompt_ids: Sequence[str], pinned: bool) -> None:
        """Pin runs, or unpin them; a pinned run is not deleted.

        Raises
        ------
        NotFoundError
            If one of them does not exist; then nothing is changed.
        """
        shared = self._shared
        await shared.repository.pin(prompt_ids, pinned)
        for prompt_id in prompt_ids:
            run = shared.active.get(prompt_id) or shared.ended.get(prompt_id)
            for record in (run.record, run.outcome) if run is not None else ():
                if record is not None:
                    record.pinned = pinned

    async def delete(self, which: RunFilter, *, files: bool) -> Deleted:
        """Delete runs that have ended and are not pinned; see `delete_runs`.

        Raises
        ------
        NotFoundError
            If ids are given, and there is no run with any of them.
        """
        report = Deleted()
        found = await self.select(which)
        unknown = set(which.prompt_ids or ()) - {run.prompt_id for run in found}
        if unknown and not found:
            raise NotFoundError(
                f"prompt_ids: there is no run {min(unknown)!r} that fulfils the conditions",
                details={"field": "prompt_ids", "prompt_ids": sorted(unknown)},
            )
        for prompt_id in unknown:
            report.keep(prompt_id, "there is no such run")
        for run in found:
            if run.status not in FINAL:
                report.keep(run, "it has not ended")
            elif run.pinned:
                report.keep(run, "it is pinned")
        chosen = [run for run in found if run.status in FINAL and not run.pinned]
        await self.delete_runs(chosen, report, files=files)
        return report

    async def delete_runs(self, runs: Sequence[StoredRun], report: Deleted, *, files: bool) -> None:
        """Delete runs.

        Parameters
        ----------
        runs : sequence of StoredRun
            The runs, which have ended and are not pinned.
        report : Deleted
            Gets what was deleted and kept.
        files : bool
            Whether their output files are deleted, too, unless something else uses them.

        Raises
        ------
        StoreUnavailableError, NoSpaceError
            If the store cannot be written now; ``details`` have what was deleted before.
        """
        async with self._one_at_a_time:
            try:
                await self._delete(runs, report, files=files)
            except ComfyDeployError as fault:
                done = {"runs": report.runs, "files": report.files, "bytes": report.bytes}
                fault.details = {**fault.details, **done}
                raise
            finally:
                if report.runs:
                    self._shared.background.start(self.shrink())

    async def run(self) -> None:
        """Apply the limits from time to time, until the task is cancelled."""
        pause = FIRST_AFTER
        while self._keep.limited:
            await asyncio.sleep(pause)
            pause = EVERY
            await self.apply_limits()

    async def apply_limits(self) -> Deleted:
        """Delete the runs that are beyond the limits now."""
        report = Deleted()
        found = await self.select(RunFilter(statuses=FINAL, pinned=False))
        folders = OutputFolders(self._shared.machines, self._shared.kept_outputs)
        await folders.read(found)
        old = await asyncio.to_thread(beyond, self._keep, found, folders)
        await self.delete_runs(
            [run for run in old if not run.from_editor], report, files=self._keep.files
        )
        await self.delete_runs([run for run in old if run.from_editor], report, files=False)
        if report.runs:
            log.info(
                "Deleted %d old runs with %d files, %d bytes",
                report.runs,
                report.files,
                report.bytes,
            )
        return report

    async def finish(self, sessions: Collection[str]) -> None:
        """Delete the files that servers had started to delete before they ended."""
        remaining = await self._repository.files_to_delete(sessions)
        if remaining:
            await asyncio.to_thread(_delete_files, list(remaining.values()))
            await self._repository.forget(remaining.keys())

    async def shrink(self) -> None:
        """Shrink the file of the store."""
        try:
            await self._repository.shrink()
        except ComfyDeployError as fault:
            log.info("The file of the store is not made smaller now: %s", fault.message)

    async def _delete(self, runs: Sequence[StoredRun], report: Deleted, *, files: bool) -> None:
        folders = OutputFolders(self._shared.machines, self._shared.kept_outputs)
        await folders.read(runs)
        listed = runs if files else ()
        found = await asyncio.to_thread(DeletedFiles, listed, folders, report)
        seen = await self._repository.seen()
        await self._search_uses(found)
        for start in range(0, len(runs), AT_A_TIME):
            portion = runs[start : start + AT_A_TIME]
            found.keep_named(self._uses_of_active())
            ready = await asyncio.to_thread(found.ready, portion)
            deleted, to_delete, uses = await self._repository.delete(
                portion, ready, session=self._shared.session.id, names=found.names, seen=seen
            )
            found.keep_named(uses)
            found.forget(deleted)
            for run in portion:
                if run.id in deleted:
                    report.runs += 1
                    self._shared.ended.remove(run.prompt_id)
                else:
                    report.keep(run, "it was pinned or deleted in the meantime")
            outcome = await asyncio.to_thread(_delete_files, list(to_delete))
            for file, problem in outcome.items():
                if problem is None:
                    report.files += 1
                    report.bytes += size_of(file.state)
                else:
                    found.keep(file[:2], problem)
            await self._repository.forget(to_delete.values())
        machines = {run.machine for run in listed}
        await asyncio.to_thread(self._shared.kept_outputs.remove_empty, machines)

    async def _search_uses(self, files: DeletedFiles) -> None:
        if not files.names.names:
            return
        after, uses = await self._repository.uses(files.names)
        while after:
            await files.folders.read(use.run for use in uses if use.run is not None)
            await asyncio.to_thread(files.add_uses, uses)
            after, uses = await self._repository.uses(files.names, after=after)
        files.add_uses(await self._repository.workflow_uses(files.names))

    def _uses_of_active(self) -> Iterable[Use]:
        """Yield the outputs of runs that have not ended, which may not be stored yet."""
        for run in self._shared.active:
            for output in run.record.outputs.values():
                for file in files_of(output):
                    yield Use(file.filename, f"run {run.prompt_id}")


def _delete_files(files: Sequence[FileToDelete]) -> dict[FileToDelete, str | None]:
    """Delete files; return for each why it was not deleted, or None."""
    outcome: dict[FileToDelete, str | None] = {}
    for file in files:
        try:
            deleted = delete_file(*file)
        except OSError as error:
            outcome[file] = f"it cannot be deleted: {error.strerror}"
        else:
            outcome[file] = None if deleted else "it was changed in the meantime"
    return outcome
