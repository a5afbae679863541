"""Workflows and their immutable, numbered versions."""

from __future__ import annotations

import json
import unicodedata
import uuid
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError, NotFoundError, StoreUnavailableError
from ..store.database import Repository, readable
from ..store.graphs import keep_graph, read_graph
from ..util.jsons import dumps
from ..util.times import utc_now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True)
class WorkflowRecord:
    """One workflow."""

    workflow_id: str
    name: str
    machine_id: str | None
    latest_version: int
    created_at: str
    updated_at: str
    tags: list[str]


@dataclass(frozen=True)
class VersionRecord:
    """One version of a workflow."""

    workflow_id: str
    version: int
    comment: str
    created_at: str
    workflow: bytes | None = None
    workflow_api: bytes | None = None

    @property
    def id(self) -> str:
        """An id of the version itself, derived from workflow and number."""
        return version_id(self.workflow_id, self.version)


def version_id(workflow_id: str, number: int) -> str:
    """Return the id of a version of a workflow."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{workflow_id}/{number}"))


class Saved(NamedTuple):
    """The result of saving a workflow."""

    workflow: WorkflowRecord
    version: VersionRecord
    created: bool


class Content:
    """The graphs of a version, ready to be stored.

    The constructor encodes megabytes: call it in a thread.
    """

    def __init__(
        self, workflow: dict[str, Any] | None, workflow_api: dict[str, Any] | None
    ) -> None:
        self.workflow, self.workflow_content = _encode(workflow)
        self.workflow_api, self.api_content = _encode(workflow_api)

    def adds_nothing_to(self, workflow_content: bytes | None, api_content: bytes | None) -> bool:
        """Return whether a version with these hashes has this content already.

        A missing graph in API format does not count as a difference: it could not be created.
        """
        if self.api_content is None and self.workflow_content is not None:
            api_content = None
        return (self.workflow_content, self.api_content) == (workflow_content, api_content)


class WorkflowStore(Repository):
    """Reads and writes workflows; each write is one transaction."""

    async def create(
        self, name: str, content: Content, *, comment: str = "", machine_id: str | None = None
    ) -> Saved:
        """Store a new workflow with its first version."""
        return await self._database.write(_create, name, content, comment, machine_id)

    async def update(
        self,
        workflow_id: str,
        content: Content,
        *,
        comment: str = "",
        name: str | None = None,
        machine_id: str | None = None,
        force: bool = False,
    ) -> Saved:
        """Store the changes of a workflow."""
        return await self._database.write(
            _update, workflow_id, content, comment, name, machine_id, force
        )

    async def newest(
        self, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[WorkflowRecord]:
        """Return workflows, the last changed one first."""
        return await self._database.read(_newest, search, limit, offset)

    async def versions(
        self, workflow_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> list[VersionRecord]:
        """Return versions without their graphs, newest first."""
        return await self._database.read(_versions, workflow_id, search, limit, offset)

    async def version(
        self, workflow_id: str, number: int | None = None
    ) -> tuple[WorkflowRecord, VersionRecord]:
        """Return a workflow with one of its versions, including graphs."""
        return await self._database.read(_workflow_and_version, workflow_id, number)

    async def find_version(self, some_id: str) -> tuple[str, int | None] | None:
        """Return the workflow and the number of the version with an id.

        The number is None if the id is that of a workflow. The result is None if it is neither.
        """
        return await self._database.read(_find_version, some_id)


_CONTENT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _encode(graph: dict[str, Any] | None) -> tuple[bytes | None, bytes | None]:
    if graph is None:
        return None, None
    try:
        content = dumps(graph, encoder=_CONTENT).encode()
        return dumps(graph).encode(), sha256(content).digest()
    except RecursionError:
        raise InvalidRequestError.of_field("workflow", "is nested too deeply") from None


def _fold(text: str) -> str:
    """Return normalised text for searches: one line, case-folded, in normal form NFKC."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def head_line(name: str, tags: Iterable[str]) -> str:
    """Return the first line of the column ``search``; no search matches across its tabs."""
    return "\t".join(map(_fold, (name, *tags)))


def _create(
    connection: sqlite3.Connection,
    name: str,
    content: Content,
    comment: str,
    machine_id: str | None,
) -> Saved:
    now = utc_now()
    cursor = connection.execute(
        "INSERT INTO workflows (workflow_id, name, machine_id, latest_version, created_at,"
        " updated_at, changed, search) VALUES (?, ?, ?, 0, ?, ?, ?, ?)",
        (
            str(uuid.uuid4()),
            name,
            machine_id,
            now,
            now,
            next_change(connection),
            head_line(name, ()),
        ),
    )
    row = connection.execute("SELECT * FROM workflows WHERE id = ?", (cursor.lastrowid,)).fetchone()
    version = _add_version(connection, row, content, comment, now)
    return Saved(_get(connection, row["workflow_id"]), version, created=True)


def _update(
    connection: sqlite3.Connection,
    workflow_id: str,
    content: Content,
    comment: str,
    name: str | None,
    machine_id: str | None,
    force: bool,
) -> Saved:
    row = workflow_row(connection, workflow_id)
    name = row["name"] if name is None else name
    machine_id = row["machine_id"] if machine_id is None else machine_id
    created = force or not _is_latest(connection, row, content)
    if created or (name, machine_id) != (row["name"], row["machine_id"]):
        now = utc_now()
        comments = row["search"].partition("\n")[2]
        connection.execute(
            "UPDATE workflows SET name = ?, machine_id = ?, updated_at = ?, changed = ?, search = ?"
            " WHERE id = ?",
            (
                name,
                machine_id,
                now,
                next_change(connection),
                f"{head_line(name, json.loads(row['tags']))}\n{comments}",
                row["id"],
            ),
        )
    if created:
        version = _add_version(connection, row, content, comment, now)
    else:
        version = _version(connection, row, row["latest_version"])
    return Saved(_get(connection, workflow_id), version, created)


def _add_version(
    connection: sqlite3.Connection, row: sqlite3.Row, content: Content, comment: str, now: str
) -> VersionRecord:
    number = row["latest_version"] + 1
    hashes = [
        None if body is None else keep_graph(connection, body)
        for body in (content.workflow, content.workflow_api)
    ]
    connection.execute(
        "INSERT INTO workflow_versions (workflow, version, workflow_hash, workflow_content,"
        " api_hash, api_content, comment, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row["id"],
            number,
            hashes[0],
            content.workflow_content,
            hashes[1],
            content.api_content,
            comment,
            now,
        ),
    )
    words = _fold(comment)
    connection.execute(
        "UPDATE workflows SET latest_version = :number,"
        " search = CASE WHEN instr(search, :line) THEN search ELSE search || :line END"
        " WHERE id = :id",
        {"number": number, "line": f"\n{words}" if words else "", "id": row["id"]},
    )
    return VersionRecord(
        row["workflow_id"], number, comment, now, content.workflow, content.workflow_api
    )


def _is_latest(connection: sqlite3.Connection, row: sqlite3.Row, content: Content) -> bool:
    latest = connection.execute(
        "SELECT workflow_content, api_content FROM workflow_versions"
        " WHERE workflow = ? AND version = ?",
        (row["id"], row["latest_version"]),
    ).fetchone()
    return content.adds_nothing_to(latest["workflow_content"], latest["api_content"])


def _newest(
    connection: sqlite3.Connection, search: str, limit: int, offset: int
) -> list[WorkflowRecord]:
    rows = connection.execute(
        "SELECT * FROM workflows WHERE deleted_at IS NULL"
        " AND (:words = '' OR instr(search, :words))"
        " ORDER BY changed DESC LIMIT :limit OFFSET :offset",
        {"words": _fold(search), "limit": limit, "offset": offset},
    )
    return readable(rows, workflow_record, "Workflow", "workflow_id")


def _get(connection: sqlite3.Connection, workflow_id: str) -> WorkflowRecord:
    return workflow_record(workflow_row(connection, workflow_id))


def _versions(
    connection: sqlite3.Connection, workflow_id: str, search: str, limit: int, offset: int
) -> list[VersionRecord]:
    row = workflow_row(connection, workflow_id)
    connection.create_function("fold", 1, _fold, deterministic=True)
    rows = connection.execute(
        "SELECT version, comment, created_at FROM workflow_versions"
        " WHERE workflow = :id AND (:words = '' OR instr(fold(comment), :words))"
        " ORDER BY version DESC LIMIT :limit OFFSET :offset",
        {"id": row["id"], "words": _fold(search), "limit": limit, "offset": offset},
    )
    return [VersionRecord(workflow_id, *found) for found in rows]


def _workflow_and_version(
    connection: sqlite3.Connection, workflow_id: str, number: int | None
) -> tuple[WorkflowRecord, VersionRecord]:
    row = workflow_row(connection, workflow_id)
    number = row["latest_version"] if number is None else number
    return workflow_record(row), _version(connection, row, number)


def _find_version(connection: sqlite3.Connection, some_id: str) -> tuple[str, int | None] | None:
    workflows = "SELECT 1 FROM workflows WHERE workflow_id = ? AND deleted_at IS NULL"
    if connection.execute(workflows, (some_id,)).fetchone() is not None:
        return some_id, None
    connection.create_function("version_id", 2, version_id, deterministic=True)
    found = connection.execute(
        "SELECT workflows.workflow_id, version FROM workflow_versions"
        " JOIN workflows ON workflows.id = workflow AND deleted_at IS NULL"
        " WHERE version_id(workflows.workflow_id, version) = ?",
        (some_id,),
    ).fetchone()
    return None if found is None else (found[0], found[1])


def _version(connection: sqlite3.Connection, row: sqlite3.Row, number: int) -> VersionRecord:
    found = connection.execute(
        "SELECT version, comment, created_at, ui.body AS workflow, api.body AS workflow_api"
        " FROM workflow_versions LEFT JOIN graphs ui ON ui.hash = workflow_hash"
        " LEFT JOIN graphs api ON api.hash = api_hash WHERE workflow = ? AND version = ?",
        (row["id"], min(number, row["latest_version"] + 1)),
    ).fetchone()
    if found is None:
        raise NotFoundError(
            f"version: the workflow {row['name']!r} has no version {number}",
            details={
                "field": "version",
                "version": number,
                "latest_version": row["latest_version"],
            },
        )
    graphs = read_graph(found["workflow"]), read_graph(found["workflow_api"])
    if graphs.count(None) > (found["workflow"], found["workflow_api"]).count(None):
        raise StoreUnavailableError(
            f"Version {number} of the workflow {row['name']!r} cannot be read from the store",
            details={"reason": "damaged"},
        )
    return VersionRecord(
        row["workflow_id"], found["version"], found["comment"], found["created_at"], *graphs
    )


def workflow_row(connection: sqlite3.Connection, workflow_id: str) -> sqlite3.Row:
    """Return the row of a workflow that is not deleted."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM workflows WHERE workflow_id = ? AND deleted_at IS NULL", (workflow_id,)
    ).fetchone()
    if row is None:
        raise NotFoundError(
            f"workflow_id: there is no workflow {workflow_id!r}",
            details={"field": "workflow_id", "workflow_id": workflow_id},
        )
    return row


def workflow_record(row: sqlite3.Row) -> WorkflowRecord:
    """Return the record of a row of the table ``workflows``."""
    return WorkflowRecord(
        row["workflow_id"],
        row["name"],
        row["machine_id"],
        row["latest_version"],
        row["created_at"],
        row["updated_at"],
        json.loads(row["tags"]),
    )


def next_change(connection: sqlite3.Connection) -> int:
    """Return the next value of the column ``changed``."""
    (latest,) = connection.execute("SELECT max(changed) FROM workflows").fetchone()
    return (latest or 0) + 1
