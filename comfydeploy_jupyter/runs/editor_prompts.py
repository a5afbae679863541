"""Stores the prompts that ComfyUI's editor has queued as runs, each once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ..store.database import Repository
from .records import add_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from .records import RunRecord

KEPT = 20_000  # ids of prompts; ComfyUI's history has at most 10,000


class Known(NamedTuple):
    """Ids of prompts.

    Attributes
    ----------
    stored : frozenset of str
        Those that were stored as a run of the editor; the run may have been deleted.
    runs : frozenset of str
        Those that are runs.
    """

    stored: frozenset[str]
    runs: frozenset[str]


class EditorPrompts(Repository):
    """Reads and writes the prompts of ComfyUI's editor."""

    async def known(self, prompt_ids: Collection[str]) -> Known:
        """Return which of some prompts are known."""
        return await self._database.read(_known, prompt_ids)

    async def add(self, record: RunRecord, prompt: bytes, workflow: bytes | None) -> bool:
        """Store a prompt as a run that has ended; return False if it is known already.

        Parameters
        ----------
        record : RunRecord
            The run.
        prompt, workflow : bytes or None
            Its graph in API format and in UI format, as JSON.
        """
        return await self._database.write(_add, record, prompt, workflow)


def _known(connection: sqlite3.Connection, prompt_ids: Collection[str]) -> Known:
    ids = json.dumps(list(prompt_ids))
    found = (
        connection.execute(
            f"SELECT prompt_id FROM {table} WHERE prompt_id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
            (ids,),
        )
        for table in ("editor_prompts", "runs")
    )
    return Known(*(frozenset(row[0] for row in rows) for rows in found))


def _add(
    connection: sqlite3.Connection, record: RunRecord, prompt: bytes, workflow: bytes | None
) -> bool:
    if any(_known(connection, [record.prompt_id])):
        return False
    cursor = connection.execute(
        "INSERT INTO editor_prompts (prompt_id) VALUES (?)", (record.prompt_id,)
    )
    connection.execute(
        "DELETE FROM editor_prompts WHERE position <= ?", ((cursor.lastrowid or 0) - KEPT,)
    )
    add_run(connection, record, prompt, workflow)
    return True
