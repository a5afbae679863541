"""Renames, tags, deletes and restores workflows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..errors import NotFoundError
from ..store.database import Repository
from ..store.graphs import discard_graphs
from ..util.times import days_ago, utc_now
from .records import WorkflowRecord, head_line, next_change, workflow_record, workflow_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

RESTORABLE_DAYS = 30
"""How long a deleted workflow can be restored."""


class WorkflowEdits(Repository):
    """Changes what a list of workflows shows; each change is one transaction."""

    async def change(
        self, workflow_id: str, name: str | None = None, tags: Sequence[str] | None = None
    ) -> WorkflowRecord:
        """Rename a workflow, or replace its tags; return it."""
        return await self._database.write(_change, workflow_id, name, tags)

    async def delete(self, workflow_id: str) -> WorkflowRecord:
        """Delete a workflow, with its versions and presets; return it.

        It can be restored for `RESTORABLE_DAYS`. Those that were deleted before that are removed.
        """
        return await self._database.write(_delete, workflow_id)

    async def restore(self, workflow_id: str) -> WorkflowRecord:
        """Restore a workflow that was deleted; return it."""
        return await self._database.write(_restore, workflow_id)


def _change(
    connection: sqlite3.Connection,
    workflow_id: str,
    name: str | None,
    tags: Sequence[str] | None,
) -> WorkflowRecord:
    row = workflow_row(connection, workflow_id)
    name = row["name"] if name is None else name
    known: list[str] = json.loads(row["tags"])
    new = known if tags is None else _without_repetitions(tags)
    if (name, new) != (row["name"], known):
        comments = row["search"].partition("\n")
        connection.execute(
            "UPDATE workflows SET name = ?, tags = ?, search = ?, updated_at = ?, changed = ?"
            " WHERE id = ?",
            (
                name,
                json.dumps(new, ensure_ascii=False),
                "".join([head_line(name, new), *comments[1:]]),
                utc_now(),
                next_change(connection),
                row["id"],
            ),
        )
    return workflow_record(workflow_row(connection, workflow_id))


def _without_repetitions(tags: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(tag.casefold(), tag)
    return list(first.values())


def _delete(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord:
    row = workflow_row(connection, workflow_id)
    outdated = connection.execute(
        "SELECT id FROM workflows WHERE deleted_at < ?", (days_ago(RESTORABLE_DAYS),)
    ).fetchall()
    for (number,) in outdated:
        _remove(connection, number)
    connection.execute("UPDATE workflows SET deleted_at = ? WHERE id = ?", (utc_now(), row["id"]))
    return workflow_record(row)


def _remove(connection: sqlite3.Connection, number: int) -> None:
    """Delete a workflow permanently, with its presets, versions, and unused graphs."""
    hashes = connection.execute(
        "SELECT workflow_hash, api_hash FROM workflow_versions WHERE workflow = ?", (number,)
    ).fetchall()
    connection.execute("DELETE FROM edited_files WHERE workflow = ?", (number,))
    connection.execute("DELETE FROM workflow_presets WHERE workflow = ?", (number,))
    connection.execute("DELETE FROM workflow_versions WHERE workflow = ?", (number,))
    connection.execute("DELETE FROM workflows WHERE id = ?", (number,))
    discard_graphs(connection, {digest for row in hashes for digest in row})


def _restore(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord:
    changed = connection.execute(
        "UPDATE workflows SET deleted_at = NULL WHERE workflow_id = ? AND deleted_at IS NOT NULL",
        (workflow_id,),
    ).rowcount
    if not changed:
        raise NotFoundError(
            f"workflow_id: there is no deleted workflow {workflow_id!r}",
            details={"field": "workflow_id", "workflow_id": workflow_id},
        )
    return workflow_record(workflow_row(connection, workflow_id))
