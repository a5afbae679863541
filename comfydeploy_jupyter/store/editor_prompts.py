"""Stores the prompts that ComfyUI's editor has queued as runs, each once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .database import Repository
from .runs import add_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from .runs import RunRecord

KEPT = 20_000  # ids of prompts; ComfyUI's history has at most 10,000


class EditorPrompts(Repository):
    """Reads and writes the prompts of ComfyUI's editor."""

    async def unknown(self, prompt_ids: Collection[str]) -> set[str]:
        """Return those of some prompts that are no run and were never stored as one."""
        return await self._database.read(_unknown, prompt_ids)

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


def _unknown(connection: sqlite3.Connection, prompt_ids: Collection[str]) -> set[str]:
    rows = connection.execute(
        "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT prompt_id FROM editor_prompts)"
        " AND value NOT IN (SELECT prompt_id FROM runs)",
        (json.dumps(list(prompt_ids)),),
    )
    return {row[0] for row in rows}


def _add(
    connection: sqlite3.Connection, record: RunRecord, prompt: bytes, workflow: bytes | None
) -> bool:
    if not _unknown(connection, [record.prompt_id]):
        return False
    cursor = connection.execute(
        "INSERT INTO editor_prompts (prompt_id) VALUES (?)", (record.prompt_id,)
    )
    connection.execute(
        "DELETE FROM editor_prompts WHERE position <= ?", ((cursor.lastrowid or 0) - KEPT,)
    )
    add_run(connection, record, prompt, workflow)
    return True
