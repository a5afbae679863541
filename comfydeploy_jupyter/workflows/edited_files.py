"""The files in the folder of ComfyUI's editor that belong to stored workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..store.database import Repository
from .records import workflow_row

if TYPE_CHECKING:
    import sqlite3


class EditedFile(NamedTuple):
    """A file in the editor's folder that belongs to a stored workflow."""

    path: str
    workflow_id: str
    written: str


class EditedFiles(Repository):
    """Reads and writes the table; each write is one transaction."""

    async def keep(self, file: EditedFile) -> None:
        """Store a file, in place of an earlier one of the workflow or of the path."""
        await self._database.write(_keep, file)

    async def update(self, workflow_id: str, written: str) -> None:
        """Store the known content of the file of a workflow, which may have been renamed meanwhile.

        Nothing is done if the workflow has no file any more.
        """
        await self._database.write(_update, workflow_id, written)

    async def at(self, path: str) -> EditedFile | None:
        """Return the file with a path; None also if its workflow is deleted."""
        return await self._database.read(_find, "path", path)

    async def of(self, workflow_id: str) -> EditedFile | None:
        """Return the file of a workflow."""
        return await self._database.read(_find, "workflow_id", workflow_id)

    async def paths(self) -> set[str]:
        """Return all paths, also those of deleted workflows."""
        return await self._database.read(_paths)

    async def move(self, path: str, new_path: str) -> None:
        """Record that the editor has renamed a file; do nothing for any other file."""
        await self._database.write(_move, path, new_path)

    async def forget(self, path: str) -> None:
        """Delete the record of a file."""
        await self._database.write(_forget, path)


def _keep(connection: sqlite3.Connection, file: EditedFile) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO edited_files (path, workflow, written) VALUES (?, ?, ?)",
        (file.path, workflow_row(connection, file.workflow_id)["id"], file.written),
    )


def _update(connection: sqlite3.Connection, workflow_id: str, written: str) -> None:
    connection.execute(
        "UPDATE edited_files SET written = ?"
        " WHERE workflow = (SELECT id FROM workflows WHERE workflow_id = ?)",
        (written, workflow_id),
    )


def _find(connection: sqlite3.Connection, key: str, value: str) -> EditedFile | None:
    row = connection.execute(
        "SELECT path, workflow_id, written FROM edited_files"
        " JOIN workflows ON workflows.id = workflow AND deleted_at IS NULL"
        " WHERE CASE :key WHEN 'path' THEN path ELSE workflow_id END = :value",
        {"key": key, "value": value},
    ).fetchone()
    return None if row is None else EditedFile(*row)


def _paths(connection: sqlite3.Connection) -> set[str]:
    return {path for (path,) in connection.execute("SELECT path FROM edited_files")}


def _move(connection: sqlite3.Connection, path: str, new_path: str) -> None:
    connection.execute(
        "UPDATE OR REPLACE edited_files SET path = ? WHERE path = ?", (new_path, path)
    )


def _forget(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("DELETE FROM edited_files WHERE path = ?", (path,))
