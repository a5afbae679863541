"""Deletes runs, and finds other uses of their files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..graphs.node_outputs import files_of
from ..store.database import DETAILS, Repository
from ..store.graphs import discard_graphs, read_graph, texts_in
from ..transfers.records import OPEN
from .records import FINAL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .filters import RunFilter

PORTION = 200  # runs that are read at a time
IDS_KEPT = 10_000  # of deleted runs
_ANNOTATION = re.compile(r" ?\[(?:output|input|temp)\]$")


class OutputName(NamedTuple):
    """The name of an output file, as ComfyUI lists it.

    Attributes
    ----------
    type, subfolder, filename : str
        Its location in ComfyUI.
    """

    type: str
    subfolder: str
    filename: str

    def __str__(self) -> str:
        return f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename


@dataclass(frozen=True)
class StoredRun:
    """The data of a run that a deletion needs.

    Attributes
    ----------
    id : int
        Its key in the table.
    prompt_id, machine, status, created_at : str
        As in `RunRecord`.
    pinned, from_editor : bool
        As in `RunRecord`.
    outputs : tuple of OutputName
        Its output files.
    """

    id: int
    prompt_id: str
    machine: str
    status: str
    created_at: str
    pinned: bool
    from_editor: bool
    outputs: tuple[OutputName, ...]


class Use(NamedTuple):
    """A use of a file: by a run that lists it, a graph that names it, or an upload.

    Attributes
    ----------
    name : str
        The last part of the path of the file.
    by : str
        What uses it, for users.
    run : StoredRun or None
        The run, or the run whose graph names it.
    output : OutputName or None
        The file, if it is an output of the run.
    """

    name: str
    by: str
    run: StoredRun | None = None
    output: OutputName | None = None


class Seen(NamedTuple):
    """The state of the store that a search for uses has seen.

    Attributes
    ----------
    run : int
        The last run.
    change : int
        The last change of a workflow.
    unfinished : tuple of int
        The runs that had not ended.
    """

    run: int
    change: int
    unfinished: tuple[int, ...]


class FileToDelete(NamedTuple):
    """A file that is deleted after the last run that lists it.

    Attributes
    ----------
    root, path : bytes
        The folder that must contain it, and its path in that folder.
    state : str
        Identifies the file, unless it is changed or replaced.
    """

    root: bytes
    path: bytes
    state: str


class DeletionRepository(Repository):
    """Deletes runs and the graphs that nothing else refers to."""

    async def select(self, which: RunFilter, *, after: int = 0) -> list[StoredRun]:
        """Return at most `PORTION` runs, oldest first, with larger keys than the given one."""
        return await self._database.read(_select, which, after)

    async def seen(self) -> Seen:
        """Return the present state of the store."""
        return await self._database.read(_seen)

    async def uses(self, names: Names, *, after: int = 0) -> tuple[int, list[Use]]:
        """Return the uses of files in at most `PORTION` runs with larger keys than the given one.

        Returns
        -------
        tuple of int and list
            The key of the last run that was read, 0 if there was none; and the uses.
        """
        return await self._database.read(_uses, names, after)

    async def workflow_uses(self, names: Names) -> list[Use]:
        """Return the uses of files in the versions of all workflows."""
        return await self._database.read(_workflow_uses, names, 0)

    async def delete(
        self,
        runs: Sequence[StoredRun],
        files: Mapping[FileToDelete, Collection[int]],
        *,
        session: str,
        names: Names,
        seen: Seen,
    ) -> tuple[set[int], dict[FileToDelete, int], list[Use]]:
        """Delete runs that have ended and are not pinned, in one transaction.

        Parameters
        ----------
        runs : sequence of StoredRun
            The runs.
        files : mapping
            Files to delete afterwards, and the runs without which nothing uses them.
        session : str
            The server that deletes the files.
        names : Names
            The names of the files.
        seen : Seen
            The state of the store when the uses of the files were searched.

        Returns
        -------
        tuple
            The runs that were deleted; the keys of the stored records of the files that the caller
            has to delete now; and the uses of the other files that are new since the search.
        """
        return await self._database.write(_delete, runs, files, session, names, seen)

    async def files_to_delete(self, sessions: Collection[str]) -> dict[int, FileToDelete]:
        """Return the files that servers should have deleted, and had not before they ended."""
        return await self._database.read(_to_delete, sessions)

    async def forget(self, keys: Collection[int]) -> None:
        """Delete the records of files that have been deleted."""
        await self._database.write(_forget, keys)

    async def shrink(self) -> None:
        """Return the space of deleted records to the file system."""
        await self._database.shrink()


class Names:
    """Names of files that are searched in graphs.

    Parameters
    ----------
    names : iterable of str
        The last parts of their paths.
    """

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
            row = connection.execute("SELECT body FROM graphs WHERE hash = ?", (digest,)).fetchone()
            body = read_graph(row["body"]) if row is not None else None
            found = self._known[digest] = frozenset(self._in_json(body or b""))
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


def _select(connection: sqlite3.Connection, which: RunFilter, after: int) -> list[StoredRun]:
    condition, values = which.where()
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM runs WHERE id > ? AND {condition} ORDER BY id LIMIT ?",  # noqa: S608 - only marks are put in
        (after, *values, PORTION),
    )
    return [_run(row) for row in rows]


def _seen(connection: sqlite3.Connection) -> Seen:
    (run,) = connection.execute("SELECT max(id) FROM runs").fetchone()
    (change,) = connection.execute("SELECT max(changed) FROM workflows").fetchone()
    unfinished = connection.execute(f"SELECT id FROM runs WHERE status NOT IN {FINAL}")  # noqa: S608 - constants
    return Seen(run or 0, change or 0, tuple(row[0] for row in unfinished))


def _uses(connection: sqlite3.Connection, names: Names, after: int) -> tuple[int, list[Use]]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM runs WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - constants
        (after, PORTION),
    ).fetchall()
    uses = [use for row in rows for use in _uses_of(connection, names, row)]
    return (rows[-1]["id"] if rows else 0), uses


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


def _delete(
    connection: sqlite3.Connection,
    runs: Sequence[StoredRun],
    files: Mapping[FileToDelete, Collection[int]],
    session: str,
    names: Names,
    seen: Seen,
) -> tuple[set[int], dict[FileToDelete, int], list[Use]]:
    deleted = set()
    hashes = set()
    for run in runs:
        row = connection.execute(
            _HASHES_OF_DELETABLE,
            (run.id,),
        ).fetchone()
        if row is not None:
            connection.execute("DELETE FROM runs WHERE id = ?", (run.id,))
            connection.execute(
                "INSERT OR REPLACE INTO deleted_ids (prompt_id) VALUES (?)", (run.prompt_id,)
            )
            deleted.add(run.id)
            hashes.update(row)
    connection.execute(
        "DELETE FROM deleted_ids WHERE id <= (SELECT max(id) FROM deleted_ids) - ?", (IDS_KEPT,)
    )
    discard_graphs(connection, hashes)
    uses = _new_uses(connection, names, seen) if files else []
    used = {use.name for use in uses}
    to_delete = {}
    for file, users in files.items():
        path = file.path.rpartition(b"/")[2].decode(errors="surrogateescape")
        if deleted.issuperset(users) and path not in used:
            cursor = connection.execute(
                "INSERT INTO doomed_files (session, root, path, state) VALUES (?, ?, ?, ?)",
                (session, *file),
            )
            assert cursor.lastrowid is not None
            to_delete[file] = cursor.lastrowid
    return deleted, to_delete, uses


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


def _to_delete(
    connection: sqlite3.Connection, sessions: Collection[str]
) -> dict[int, FileToDelete]:
    rows: list[Any] = connection.execute(
        "SELECT id, root, path, state FROM doomed_files"
        " WHERE session IN (SELECT value FROM json_each(?))",
        (json.dumps(list(sessions)),),
    ).fetchall()
    return {row["id"]: FileToDelete(row["root"], row["path"], row["state"]) for row in rows}


def _forget(connection: sqlite3.Connection, keys: Collection[int]) -> None:
    connection.executemany("DELETE FROM doomed_files WHERE id = ?", [(key,) for key in keys])


def _last_part(path: str) -> str:
    """Return the name of a file without its folders, whose separator may be that of Windows."""
    return path.replace("\\", "/").rpartition("/")[2]
