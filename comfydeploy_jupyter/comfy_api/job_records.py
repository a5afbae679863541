"""The list of jobs in pages, its cursors' secret, and the idempotency keys of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..runs.records import RunFilter, record_of
from ..store.database import DETAILS, Repository, reading, writing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from ..runs.records import RunRecord


class StatusGroup(NamedTuple):
    """Some statuses of runs."""

    statuses: tuple[str, ...]
    # Only runs whose cancellation was, or was not, requested; None: both
    cancelling: bool | None = None

    @property
    def condition(self) -> str:
        """The condition in SQL, with a mark for each status."""
        found = f"status IN ({', '.join('?' * len(self.statuses))})"
        if self.cancelling is None:
            return found
        requested = f"coalesce(json_extract({DETAILS}, '$.cancelling'), 0)"
        return f"({found} AND {'' if self.cancelling else 'NOT '}{requested})"


class KeyOwner(NamedTuple):
    """The run that was started with an idempotency key."""

    prompt_id: str
    deleted: bool


class JobRepository(Repository):
    """Reads and writes the data of jobs besides their runs."""

    async def page(
        self,
        limit: int,
        *,
        before: int | None = None,
        groups: Collection[StatusGroup] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> list[tuple[int, RunRecord]]:
        """Return a page of the runs, newest first, each with its position in the store."""
        which = RunFilter(metadata=metadata)
        return await self._database.read(_page, limit, before, tuple(groups), which)

    @reading
    def owner(self, db: sqlite3.Connection, key: str) -> KeyOwner | None:
        """Return the run that has an idempotency key, or None."""
        row = db.execute(
            "SELECT prompt_id, deleted_at FROM job_keys WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else KeyOwner(row["prompt_id"], row["deleted_at"] is not None)

    @writing
    def free(self, db: sqlite3.Connection, prompt_id: str) -> None:
        """Delete the idempotency key of a run, if it has one."""
        db.execute("DELETE FROM job_keys WHERE prompt_id = ?", (prompt_id,))

    @reading
    def secret(
        self,
        db: sqlite3.Connection,
    ) -> bytes:
        """Return the secret that signs the cursors of this store."""
        row = db.execute("SELECT value FROM job_secret").fetchone()
        return bytes(row[0])


def _page(
    connection: sqlite3.Connection,
    limit: int,
    before: int | None,
    groups: tuple[StatusGroup, ...],
    which: RunFilter,
) -> list[tuple[int, RunRecord]]:
    condition, values = which.where()
    conditions = [condition]
    if groups:
        conditions.append(f"({' OR '.join(group.condition for group in groups)})")
        values += [status for group in groups for status in group.statuses]
    if before is not None:
        conditions.append("id < ?")
        values.append(before)
    rows = connection.execute(
        f"SELECT * FROM runs WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - only marks are put in
        (*values, limit),
    )
    return [(row["id"], record_of(row)) for row in rows]
