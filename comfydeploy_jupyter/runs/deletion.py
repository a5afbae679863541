"""Deletes runs that have ended, with those of their output files that nothing else uses.

One transaction deletes the records of some runs, and stores which files must be deleted. Then the
files are deleted, and then their records. So if a server is killed in between, either the run is
complete, or the next start deletes its files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..comfyui.folders import delete_file, locate, size_of, state_of
from ..errors import ComfyDeployError, ForbiddenPathError, NotFoundError
from ..graphs.outputs import files_of
from ..store.database import DETAILS, Repository, reading, writing
from ..store.graphs import discard_graphs, graph_of, texts_in
from ..transfers.queue import OPEN
from ..util.times import Backoff, timestamp_of
from .records import FINAL, RunFilter

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import (
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from .engine import RunContext

log = logging.getLogger(__name__)

PORTION = 200  # runs that are read at a time
IDS_KEPT = 10_000  # of deleted runs
_ANNOTATION = re.compile(r" ?\[(?:output|input|temp)\]$")


class OutputName(NamedTuple):
    """The name of an output file, as ComfyUI lists it."""

    type: str
    subfolder: str
    filename: str

    def __str__(self) -> str:
        return f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename


@dataclass(frozen=True)
class StoredRun:
    id: int  # its key in the table
    prompt_id: str
    machine: str
    status: str
    created_at: str
    pinned: bool
    from_editor: bool
    outputs: tuple[OutputName, ...]


class Use(NamedTuple):
    """A use of a file: by a run that lists it, a graph that names it, or an upload."""

    name: str  # the last part of the path of the file
    by: str  # what uses it, for users
    run: StoredRun | None = None  # the run that lists it, or whose graph names it
    output: OutputName | None = None  # if a run lists it


class Seen(NamedTuple):
    """The state of the store that a search for uses has seen."""

    run: int  # the last one
    change: int  # the last one of a workflow
    unfinished: tuple[int, ...]  # runs that had not ended


class FileToDelete(NamedTuple):
    """A file that is deleted after the last run that lists it."""

    root: bytes  # the folder that must contain it
    path: bytes  # in that folder
    state: str  # identifies the file, unless it is changed or replaced


class DeletionRepository(Repository):
    @reading
    def select(
        self, db: sqlite3.Connection, which: RunFilter, *, after: int = 0
    ) -> list[StoredRun]:
        """Return at most `PORTION` runs, oldest first, with larger keys than the given one."""
        condition, values = which.where()
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE id > ? AND {condition} ORDER BY id LIMIT ?",  # noqa: S608 - only marks are put in
            (after, *values, PORTION),
        )
        return [_run(row) for row in rows]

    @reading
    def seen(self, db: sqlite3.Connection) -> Seen:
        (run,) = db.execute("SELECT max(id) FROM runs").fetchone()
        (change,) = db.execute("SELECT max(changed) FROM workflows").fetchone()
        unfinished = db.execute(f"SELECT id FROM runs WHERE status NOT IN {FINAL}")  # noqa: S608 - constants
        return Seen(run or 0, change or 0, tuple(row[0] for row in unfinished))

    @reading
    def uses(
        self, db: sqlite3.Connection, names: Names, *, after: int = 0
    ) -> tuple[int, list[Use]]:
        """Return the last key (0 if none is left) and uses of files of the next `PORTION` runs."""
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - constants
            (after, PORTION),
        ).fetchall()
        uses = [use for row in rows for use in _uses_of(db, names, row)]
        return (rows[-1]["id"] if rows else 0), uses

    @reading
    def workflow_uses(self, db: sqlite3.Connection, names: Names) -> list[Use]:
        return _workflow_uses(db, names, 0)

    @writing
    def delete(
        self,
        db: sqlite3.Connection,
        runs: Sequence[StoredRun],
        files: Mapping[FileToDelete, Collection[int]],
        *,
        session: str,
        names: Names,
        seen: Seen,
    ) -> tuple[set[int], dict[FileToDelete, int], list[Use]]:
        """Delete those runs that have ended and are not pinned, in one transaction.

        ``files`` has for each file the runs without which nothing uses it. Returns the deleted
        runs; the stored records of the files that the caller must delete now; and the uses of the
        other files that are new since the search of ``seen``.
        """
        deleted = set()
        hashes = set()
        for run in runs:
            row = db.execute(_HASHES_OF_DELETABLE, (run.id,)).fetchone()
            if row is not None:
                db.execute("DELETE FROM runs WHERE id = ?", (run.id,))
                db.execute(
                    "INSERT OR REPLACE INTO deleted_ids (prompt_id) VALUES (?)", (run.prompt_id,)
                )
                deleted.add(run.id)
                hashes.update(row)
        db.execute(
            "DELETE FROM deleted_ids WHERE id <= (SELECT max(id) FROM deleted_ids) - ?", (IDS_KEPT,)
        )
        discard_graphs(db, hashes)
        uses = _new_uses(db, names, seen) if files else []
        used = {use.name for use in uses}
        to_delete = {}
        for file, users in files.items():
            path = file.path.rpartition(b"/")[2].decode(errors="surrogateescape")
            if deleted.issuperset(users) and path not in used:
                cursor = db.execute(
                    "INSERT INTO doomed_files (session, root, path, state) VALUES (?, ?, ?, ?)",
                    (session, *file),
                )
                assert cursor.lastrowid is not None
                to_delete[file] = cursor.lastrowid
        return deleted, to_delete, uses

    @reading
    def files_to_delete(
        self, db: sqlite3.Connection, sessions: Collection[str]
    ) -> dict[int, FileToDelete]:
        """Return the files that servers should have deleted, and had not before they ended."""
        rows: list[Any] = db.execute(
            "SELECT id, root, path, state FROM doomed_files"
            " WHERE session IN (SELECT value FROM json_each(?))",
            (json.dumps(list(sessions)),),
        ).fetchall()
        return {row["id"]: FileToDelete(row["root"], row["path"], row["state"]) for row in rows}

    @writing
    def forget(self, db: sqlite3.Connection, keys: Collection[int]) -> None:
        db.executemany("DELETE FROM doomed_files WHERE id = ?", [(key,) for key in keys])

    async def shrink(self) -> None:
        await self._database.shrink()


class Names:
    """Names of files that are searched in graphs."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        endings = {name.rpartition(".")[2] for name in self.names}
        # JSON may have escapes for other characters.
        self._endings = [e.encode() if e.isascii() and e.isalnum() else b"" for e in endings]
        self._known: dict[str, frozenset[str]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def in_graph(self, connection: sqlite3.Connection, digest: str | None) -> frozenset[str]:
        """Return the names that a stored graph contains; each graph is read once."""
        if digest is None or not self.names:
            return frozenset()
        found = self._known.get(digest)
        if found is None:
            body = graph_of(connection, digest) or b""
            found = self._known[digest] = frozenset(self._in_json(body))
        return found

    def _in_json(self, body: bytes) -> Iterator[str]:
        """Yield the names that any text in JSON ends with, after a folder or alone."""
        if b"\\u" not in body and not any(ending in body for ending in self._endings):
            return
        for text in texts_in(body):
            name = _last_part(_ANNOTATION.sub("", text))
            if name in self.names:
                yield name


def _run(row: sqlite3.Row) -> StoredRun:
    outputs = json.loads(row["outputs"] or "{}")
    nodes = outputs.values() if isinstance(outputs, dict) else ()
    names = (OutputName(f.type, f.subfolder, f.filename) for node in nodes for f in files_of(node))
    return StoredRun(
        row["id"],
        row["prompt_id"],
        row["machine"],
        row["status"],
        row["created_at"],
        bool(row["pinned"]),
        bool(row["from_editor"]),
        tuple(dict.fromkeys(names)),
    )


_HASHES_OF_DELETABLE = (
    f"SELECT prompt_hash, workflow_hash FROM runs WHERE id = ? AND status IN {FINAL} AND NOT pinned"  # noqa: S608 - constants
)
_COLUMNS = (
    "id, prompt_id, machine, status, created_at, pinned, prompt_hash, workflow_hash,"
    f" json_extract({DETAILS}, '$.outputs') AS outputs,"
    f" json_extract({DETAILS}, '$.from_editor') AS from_editor"
)


def _uses_of(connection: sqlite3.Connection, names: Names, row: sqlite3.Row) -> Iterator[Use]:
    run = _run(row)
    for output in run.outputs:
        if output.filename in names:
            yield Use(output.filename, f"run {run.prompt_id}", run, output)
    for digest in (row["prompt_hash"], row["workflow_hash"]):
        for name in names.in_graph(connection, digest):
            yield Use(name, f"the graph of run {run.prompt_id}", run)


def _workflow_uses(connection: sqlite3.Connection, names: Names, after: int) -> list[Use]:
    rows = connection.execute(
        "SELECT name, workflow_hash, api_hash FROM workflow_versions"
        " JOIN workflows ON workflows.id = workflow WHERE changed > ?",
        (after,),
    )
    return [
        Use(name, f"the workflow {row['name']!r}")
        for row in rows
        for digest in (row["workflow_hash"], row["api_hash"])
        for name in names.in_graph(connection, digest)
    ]


def _new_uses(connection: sqlite3.Connection, names: Names, seen: Seen) -> list[Use]:
    """Return the uses of files by records that were new or incomplete at the time of the search."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM runs WHERE id > ? OR id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
        (seen.run, json.dumps(seen.unfinished)),
    ).fetchall()
    uses = [use for row in rows for use in _uses_of(connection, names, row)]
    uploads = connection.execute(
        f"SELECT path FROM transfers WHERE path IS NOT NULL AND state IN {OPEN}"  # noqa: S608 - constants
    )
    sent = (_last_part(row["path"]) for row in uploads)
    return [
        *uses,
        *_workflow_uses(connection, names, seen.change),
        *(Use(name, "an upload") for name in sent if name in names),
    ]


def _last_part(path: str) -> str:
    """Return the name of a file without its folders, whose separator may be that of Windows."""
    return path.replace("\\", "/").rpartition("/")[2]


MAX_NAMED = 1000  # runs and files that a report names
NO_FOLDER = "the folders of its ComfyUI are not known here: files there cannot be deleted"

Place = tuple[bytes, bytes]  # the root folder of a file, and its path in there


class Kept(NamedTuple):
    prompt_id: str
    file: str | None  # its file; None if the run itself was kept
    reason: str


@dataclass
class Deleted:
    runs: int = 0
    files: int = 0
    bytes: int = 0
    kept: list[Kept] = field(default_factory=list)  # the first `MAX_NAMED`
    kept_count: int = 0

    def keep(self, run: StoredRun | str, reason: str, file: OutputName | None = None) -> None:
        self.kept_count += 1
        if len(self.kept) < MAX_NAMED:
            prompt_id = run if isinstance(run, str) else run.prompt_id
            self.kept.append(Kept(prompt_id, None if file is None else str(file), reason))

    def reply(self) -> dict[str, Any]:
        return {
            "success": True,
            "runs": self.runs,
            "files": self.files,
            "bytes": self.bytes,
            "kept": [kept._asdict() for kept in self.kept],
            "kept_count": self.kept_count,
        }


class OutputFolders:
    """Finds the output files of runs on the disk of this machine."""

    def __init__(self, machines: MachineRegistry, kept_outputs: KeptOutputs) -> None:
        self._machines = machines
        self._kept_outputs = kept_outputs
        self._known: dict[str, Callable[[str], Path] | None] = {}

    async def read(self, runs: Iterable[StoredRun]) -> None:
        """Find the folders of the machines of these runs, before `locate`."""
        for machine_id in {run.machine for run in runs} - self._known.keys():
            machine = self._machines.find(machine_id)
            folders = None
            if machine is not None and machine.path is not None:
                with suppress(ComfyDeployError):
                    folders = await machine.folders()
            if folders is not None and folders.base is not None:
                self._known[machine_id] = folders.directory
                continue
            kept = await asyncio.to_thread(self._kept_outputs.folder, machine_id)
            self._known[machine_id] = None if kept is None else kept.joinpath

    def locate(self, run: StoredRun, output: OutputName) -> Place | None:
        """Return the place of an output file; None if the folders are not known. Blocks.

        ForbiddenPathError if it is not within ComfyUI's output or temp folder.
        """
        directory = self._known[run.machine]
        return None if directory is None else locate(directory, *output)

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
        for use in uses:
            for place in self._by_name[use.name]:
                self.keep(place, f"{use.by} uses it")

    def ready(self, runs: Sequence[StoredRun]) -> dict[FileToDelete, set[int]]:
        """Return the files that only these runs still use, with their users. Blocks."""
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


DAY = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class KeepRuns:
    """How many runs are kept. Pinned runs, and runs that have not ended, do not count."""

    days: float | None = None  # older runs are deleted
    number: int | None = None  # of the newest runs
    bytes: int | None = None  # of the output files of the newest runs
    # Whether output files are deleted with their runs. Those of runs that ComfyUI's editor has
    # queued stay and do not count, since another user may have queued them.
    files: bool = True

    @property
    def limited(self) -> bool:
        return (self.days, self.number, self.bytes) != (None, None, None)


KEEP_ALL = KeepRuns()


def beyond(keep: KeepRuns, runs: Sequence[StoredRun], folders: OutputFolders) -> list[StoredRun]:
    """Return those of the runs, oldest first, that are beyond the limits. Blocks.

    If files are deleted with their runs, runs of machines that are not available now are left out:
    their files can be deleted when the machines are available again.
    """
    oldest = "" if keep.days is None else timestamp_of(time.time() - keep.days * DAY)
    newest = len(runs) if keep.number is None else keep.number
    found = []
    total = 0
    counted: set[Place] = set()
    for rank, run in enumerate(reversed(runs)):
        counts = keep.bytes is not None and not run.from_editor
        size = _size(run, folders, counted) if counts else 0
        total += size
        too_large = keep.bytes is not None and size > 0 and total > keep.bytes
        old = run.created_at < oldest or rank >= newest or too_large
        if old and (run.from_editor or not (keep.files and folders.may_become_known(run))):
            found.append(run)
    return found[::-1]


def _size(run: StoredRun, folders: OutputFolders, counted: set[Place]) -> int:
    """Return the size of those files of a run that are not counted yet, bytes."""
    size = 0
    for output in run.outputs:
        try:
            place = folders.locate(run, output)
            state = state_of(*place) if place is not None and place not in counted else None
        except ForbiddenPathError:
            continue
        if place is not None and state is not None:
            counted.add(place)
            size += size_of(state)
    return size


FIRST_AFTER = 60.0  # seconds from the start until the limits are applied
LIMITS_INTERVAL = 3600.0  # seconds between that and the next times
LIMITS_AGAIN = Backoff(first=LIMITS_INTERVAL / 4, longest=LIMITS_INTERVAL)  # pauses after a failure
AT_A_TIME = 100  # runs that one transaction deletes


class Deleter:
    """Deletes runs with their files, applies the limits of `keep_runs`, and pins runs."""

    def __init__(self, context: RunContext, repository: DeletionRepository, keep: KeepRuns) -> None:
        self._context = context
        self._repository = repository
        self._keep = keep
        # Returns further runs that no limit deletes, since their outputs are needed
        self.needed: Callable[[], Awaitable[set[str]]] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def select(self, which: RunFilter) -> list[StoredRun]:
        found: list[StoredRun] = []
        while portion := await self._repository.select(which, after=found[-1].id if found else 0):
            found.extend(portion)
        return found

    async def mark(self, prompt_ids: Sequence[str], marks: Mapping[str, Any]) -> None:
        """Pin runs, star them, or write notes; NotFoundError if one does not exist.

        Then nothing is changed.
        """
        context = self._context
        await context.repository.mark(prompt_ids, marks)
        for prompt_id in prompt_ids:
            run = context.active.find(prompt_id)
            for record in (run.record, run.outcome) if run is not None else ():
                for name, value in marks.items() if record is not None else ():
                    setattr(record, name, value)
        context.active.edited()

    async def delete(self, which: RunFilter, *, files: bool) -> Deleted:
        """Delete runs; NotFoundError if ids are given, and there is no run with any of them."""
        report = Deleted()
        found = await self.select(which)
        unknown = set(which.prompt_ids or ()) - {run.prompt_id for run in found}
        if unknown and not found:
            raise NotFoundError.of_field(
                "prompt_ids",
                f"there is no run {min(unknown)!r} that fulfils the conditions",
                prompt_ids=sorted(unknown),
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
        """Delete runs that have ended and are not pinned; record what was deleted and kept.

        With ``files``, also their output files that nothing else uses. If the store cannot be
        written, the ``details`` of the error have what was deleted before.
        """
        async with self._one_at_a_time:
            try:
                await self._delete(runs, report, files=files)
            except ComfyDeployError as exc:
                done = {"runs": report.runs, "files": report.files, "bytes": report.bytes}
                exc.details = {**exc.details, **done}
                raise
            finally:
                if report.runs:
                    self._context.active.edited()
                    self._context.background.start(self.shrink())

    async def run(self) -> None:
        pause = FIRST_AFTER
        while self._keep.limited:
            await asyncio.sleep(pause)
            pause = LIMITS_INTERVAL
            await self.apply_limits()

    async def apply_limits(self) -> Deleted:
        report = Deleted()
        found = await self.select(RunFilter(statuses=FINAL, pinned=False, starred=False))
        folders = OutputFolders(self._context.machines, self._context.kept_outputs)
        await folders.read(found)
        old = await asyncio.to_thread(beyond, self._keep, found, folders)
        needed = self._context.active.needed()
        needed |= await self.needed() if self.needed is not None else set()
        old = [run for run in old if run.prompt_id not in needed]
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
        try:
            await self._repository.shrink()
        except ComfyDeployError as exc:
            log.info("The file of the store is not made smaller now: %s", exc.message)

    async def _delete(self, runs: Sequence[StoredRun], report: Deleted, *, files: bool) -> None:
        folders = OutputFolders(self._context.machines, self._context.kept_outputs)
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
                portion, ready, session=self._context.session.id, names=found.names, seen=seen
            )
            found.keep_named(uses)
            found.forget(deleted)
            for run in portion:
                if run.id in deleted:
                    report.runs += 1
                    self._context.active.ended.remove(run.prompt_id)
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
        await asyncio.to_thread(self._context.kept_outputs.remove_empty, machines)

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
        for run in self._context.active:
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
