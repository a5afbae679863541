"""Presets: named values for the inputs of a stored workflow."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, InvalidRequestError, NotFoundError
from ..store.database import Repository, readable
from ..util.times import utc_now
from .records import workflow_row

if TYPE_CHECKING:
    import sqlite3

MOST_PRESETS = 200
"""How many presets a workflow has at most."""

LARGEST = 1 << 20
"""How large the values of a preset are at most, as JSON, bytes."""


@dataclass(frozen=True)
class Preset:
    """One preset."""

    name: str
    inputs: dict[str, Any]
    locked: list[str]
    revision: str
    updated_at: str


class PresetStore(Repository):
    """Reads and writes presets; each write is one transaction."""

    async def presets(self, workflow_id: str) -> list[Preset]:
        """Return the presets of a workflow by name."""
        return await self._database.read(_presets, workflow_id)

    async def save(
        self,
        workflow_id: str,
        name: str,
        inputs: dict[str, Any],
        locked: list[str],
        revision: str | None = None,
    ) -> Preset:
        """Store a preset, in place of the one with this name."""
        content = json.dumps({"inputs": inputs, "locked": locked}, sort_keys=True)
        if len(content) > LARGEST:
            raise InvalidRequestError.of_field("inputs", f"are larger than {LARGEST >> 20} MiB")
        return await self._database.write(_save, workflow_id, name, content, revision)

    async def delete(self, workflow_id: str, name: str, revision: str | None = None) -> Preset:
        """Delete a preset, and return it."""
        return await self._database.write(_delete, workflow_id, name, revision)


def _fold(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _presets(connection: sqlite3.Connection, workflow_id: str) -> list[Preset]:
    rows = connection.execute(
        "SELECT * FROM workflow_presets WHERE workflow = ? ORDER BY name_key",
        (_workflow(connection, workflow_id),),
    )
    return readable(rows, _preset, "Preset", "name")


def _save(
    connection: sqlite3.Connection, workflow_id: str, name: str, content: str, revision: str | None
) -> Preset:
    workflow = _workflow(connection, workflow_id)
    stored = _find(connection, workflow, name)
    new = sha256(content.encode()).hexdigest()[:16]
    if stored is None or new != stored.revision:
        _check_revision(name, stored, revision)
    if stored is None:
        (count,) = connection.execute(
            "SELECT count(*) FROM workflow_presets WHERE workflow = ?", (workflow,)
        ).fetchone()
        if count >= MOST_PRESETS:
            raise InvalidRequestError.of_field(
                "name", f"a workflow has at most {MOST_PRESETS} presets"
            )
    connection.execute(
        "INSERT OR REPLACE INTO workflow_presets"
        " (workflow, name_key, name, revision, content, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (workflow, _fold(name), name, new, content, utc_now()),
    )
    saved = _find(connection, workflow, name)
    assert saved is not None
    return saved


def _delete(
    connection: sqlite3.Connection, workflow_id: str, name: str, revision: str | None
) -> Preset:
    workflow = _workflow(connection, workflow_id)
    stored = _find(connection, workflow, name)
    if stored is None:
        raise NotFoundError(
            f"name: the workflow has no preset {name!r}", details={"field": "name", "name": name}
        )
    _check_revision(name, stored, revision)
    connection.execute(
        "DELETE FROM workflow_presets WHERE workflow = ? AND name_key = ?", (workflow, _fold(name))
    )
    return stored


def _check_revision(name: str, stored: Preset | None, revision: str | None) -> None:
    known = "" if stored is None else stored.revision
    if revision is None or revision == known:
        return
    happened = "has been deleted" if stored is None else "has changed"
    raise ConflictError(
        f"revision: the preset {name!r} {happened} in the meantime",
        details={"field": "revision", "preset": None if stored is None else vars(stored)},
    )


def _find(connection: sqlite3.Connection, workflow: int, name: str) -> Preset | None:
    row = connection.execute(
        "SELECT * FROM workflow_presets WHERE workflow = ? AND name_key = ?",
        (workflow, _fold(name)),
    ).fetchone()
    return None if row is None else _preset(row)


def _preset(row: sqlite3.Row) -> Preset:
    content = json.loads(row["content"])
    return Preset(
        row["name"], content["inputs"], content["locked"], row["revision"], row["updated_at"]
    )


def _workflow(connection: sqlite3.Connection, workflow_id: str) -> int:
    """Return the number of a workflow in the tables."""
    return int(workflow_row(connection, workflow_id)["id"])
