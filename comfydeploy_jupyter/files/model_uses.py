"""Finds out which workflows, runs and transfers use a model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ..runs.records import FINAL
from ..store.database import Repository
from ..store.graphs import read_graph, texts_in
from ..transfers.records import OPEN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

PORTION = 200  # runs that are read at a time
RECENT = 1000  # runs that have ended in which a model is searched


class WorkflowUse(NamedTuple):
    """A stored workflow that names a model."""

    workflow_id: str
    name: str
    versions: list[int]


class RunUse(NamedTuple):
    """A run that names a model."""

    prompt_id: str
    machine: str
    status: str
    created_at: str


class TransferUse(NamedTuple):
    """A transfer of a model that has not ended."""

    id: str
    direction: str
    state: str


class ModelName:
    """A model as graphs name it."""

    def __init__(self, names: Collection[tuple[str, str]]) -> None:
        self._names = frozenset(name for _, name in names)
        filename = next(iter(self._names)).rpartition("/")[2]
        last = filename.rpartition(".")[0] or filename
        self._part = last.encode() if last.isascii() and last.isprintable() else b""
        if '"' in last or "\\" in last:
            self._part = b""
        suffix = filename[len(last) :]
        stems = "|".join(
            re.escape(name.removesuffix(suffix)) for folder, name in names if folder == "embeddings"
        )
        end = rf"(?:{re.escape(suffix)})?(?![\w.-])"
        self._embedding = re.compile(rf"embedding:\s*(?:{stems}){end}") if stems else None

    def is_in(self, body: bytes) -> bool:
        """Return whether a text in JSON names the model."""
        if b"\\u" not in body and self._part not in body:
            return False
        return any(map(self._is_named, texts_in(body)))

    def _is_named(self, text: str) -> bool:
        named = text.replace("\\", "/")
        if self._embedding is not None and self._embedding.search(named):
            return True
        return named in self._names


class ModelUses(Repository):
    """Searches models in the graphs of workflows and runs, and files in transfers."""

    async def workflows(self, model: ModelName) -> list[WorkflowUse]:
        """Return the stored workflows that name a model; those that are deleted are left out."""
        return await self._database.read(_workflows, model)

    async def runs(self, model: ModelName, machines: Collection[str]) -> list[RunUse]:
        """Return the runs of some machines that name a model, newest first.

        All runs that have not ended are searched, and the `RECENT` newest of the others.
        """
        found: list[RunUse] = []
        for condition, most in (("NOT IN", None), ("IN", RECENT)):
            before, seen = None, 0
            while most is None or seen < most:
                portion = await self._database.read(_runs, model, machines, condition, before)
                before, uses = portion
                found.extend(uses)
                seen += PORTION
                if before is None:
                    break
        return found

    async def transfers(self, path: str) -> list[TransferUse]:
        """Return the transfers from or to a file that have not ended."""
        return await self._database.read(_transfers, path)


def _names(connection: sqlite3.Connection, model: ModelName, *digests: str | None) -> bool:
    for digest in filter(None, digests):
        row = connection.execute("SELECT body FROM graphs WHERE hash = ?", (digest,)).fetchone()
        body = read_graph(row["body"]) if row is not None else None
        if body is not None and model.is_in(body):
            return True
    return False


def _workflows(connection: sqlite3.Connection, model: ModelName) -> list[WorkflowUse]:
    rows = connection.execute(
        "SELECT workflow_id, name, version, workflow_hash, api_hash FROM workflow_versions"
        " JOIN workflows ON workflows.id = workflow WHERE deleted_at IS NULL"
        " ORDER BY name, workflow_id, version"
    )
    found: dict[str, WorkflowUse] = {}
    for row in rows:
        if _names(connection, model, row["workflow_hash"], row["api_hash"]):
            use = WorkflowUse(row["workflow_id"], row["name"], [])
            found.setdefault(use.workflow_id, use).versions.append(row["version"])
    return list(found.values())


def _runs(
    connection: sqlite3.Connection,
    model: ModelName,
    machines: Collection[str],
    condition: str,
    before: int | None,
) -> tuple[int | None, list[RunUse]]:
    """Return a portion of the runs, and the key before which the next one begins; None at last."""
    marks = ", ".join("?" * len(machines))
    rows = connection.execute(
        "SELECT id, prompt_id, machine, status, created_at, prompt_hash FROM runs"  # noqa: S608 - only marks are put in
        f" WHERE status {condition} {FINAL} AND machine IN ({marks})"
        " AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?",
        (*machines, before, before, PORTION),
    ).fetchall()
    found = [
        RunUse(row["prompt_id"], row["machine"], row["status"], row["created_at"])
        for row in rows
        if _names(connection, model, row["prompt_hash"])
    ]
    return (rows[-1]["id"] if len(rows) == PORTION else None), found


def _transfers(connection: sqlite3.Connection, path: str) -> list[TransferUse]:
    rows = connection.execute(
        f"SELECT id, direction, state FROM transfers WHERE path = ? AND state IN {OPEN}",  # noqa: S608 - constants
        (path,),
    )
    return [TransferUse(row["id"], row["direction"], row["state"]) for row in rows]
