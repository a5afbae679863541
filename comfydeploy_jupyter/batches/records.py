"""The records of batches and of their points."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConflictError, NotFoundError
from ..runs.records import ACTIVE, record_of
from ..store.database import DETAILS, Repository, insert, readable, reading, writing
from ..store.graphs import compress, read_graph
from ..util.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..runs.records import RunRecord
    from .plan import Plan

AT_WORK = "active"  # the points that have a run which has not ended
WAITING = "waiting"  # the status of a point without a run; with one, it has that of the run
STATUSES = (WAITING, *ACTIVE, "success", "failed", "cancelled")
STATES = ("running", "paused", "cancelled", "done")
LAST_RUNS = 200  # of which the durations are looked at
_LAST = 2**63 - 1  # the largest integer of SQLite
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
# A value of an input, as text; numbers are equal by value, lists and objects as JSON.
_HAS = (
    "EXISTS (SELECT 1 FROM json_each(inputs) WHERE key = ? AND CASE type WHEN 'text' THEN atom = ?"
    " WHEN 'true' THEN ? = 'true' WHEN 'false' THEN ? = 'false' WHEN 'null' THEN ? = 'null'"
    " WHEN 'array' THEN value = ? WHEN 'object' THEN value = ? ELSE atom = ? END)"
)
_OPEN = f"({', '.join(map(repr, ACTIVE))})"


@dataclass
class Batch:
    """A batch, as it is stored."""

    number: int  # its key in the store
    batch_id: str
    session: str  # the server that runs its points
    machine: str  # the id of a machine or a pool
    key: str | None
    state: str  # one of `STATES`
    why: str  # why it is paused, if it was not asked to
    created_at: str
    finished_at: str | None
    total: int
    retry: int
    changes: int
    labels: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # of its request
    plan: dict[str, Any] = field(default_factory=dict)  # what `Plan` says besides the points


_COLUMNS = tuple(Batch.__annotations__)


class Template(NamedTuple):
    """What the runs of a batch have in common."""

    fields: dict[str, Any]  # of their requests
    graph: bytes | None
    workflow: bytes | None


class Point(NamedTuple):
    """A point that is to run."""

    position: int
    place: int  # in the order in which points run
    key: str
    inputs: dict[str, Any]
    graph: bytes | None


class Work(NamedTuple):
    """What there is to do for a batch."""

    waits: bool  # whether any point waits
    active: list[int]  # the places of the points that are queued or run
    unstarted: int  # the number of those whose runs wait for outputs of other runs


@dataclass(frozen=True)
class PointFilter:
    """The selected points of a batch, by default all."""

    status: str | None = None  # or `AT_WORK`
    values: Mapping[str, str] | None = None  # texts of values by the names of inputs

    def where(self) -> tuple[str, list[Any]]:
        conditions, marks = ["batch = ?"], list[Any]()
        if self.status == AT_WORK:
            conditions.append(f"batch_points.status IN {_OPEN}")
        elif self.status is not None:
            conditions.append("batch_points.status = ?")
            marks.append(self.status)
        for name, text in (self.values or {}).items():
            value = _parsed(text)
            number = value if type(value) in (int, float) else None
            if type(value) is int and abs(value) > _LAST:  # SQLite rounds it; the text has it whole
                conditions.append("instr(inputs, ?)")
                marks.append(f"{_compact(name)}:{value}")
                number = float(value)
            conditions.append(_HAS)
            marks += [name, text, text, text, text, _compact(value), _compact(value), number]
        return " AND ".join(conditions), marks


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class BatchRepository(Repository):
    """Reads and writes batches and their points.

    The triggers of the table of runs keep the statuses of points.
    """

    @writing
    def add(
        self,
        db: sqlite3.Connection,
        row: dict[str, Any],
        plan: Plan,
        *,
        take_over: bool,
        runs: Mapping[str, str],
    ) -> int:
        """Store a batch with all of its points; return how many were taken over."""
        graphs = {"graph": plan.graph, "workflow": plan.workflow}
        packed = {name: None if body is None else compress(body) for name, body in graphs.items()}
        try:
            insert(db, "batches", {**row, **packed})
        except sqlite3.IntegrityError:
            text = f"batch_id: a batch {row['batch_id']!r} exists already"
            raise ConflictError(text, details={"field": "batch_id"}) from None
        number = db.execute("SELECT last_insert_rowid()").fetchone()[0]
        db.execute(
            "INSERT INTO batch_points (batch, position, place, level, key, inputs, graph)"
            " SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
            " json_extract(value, '$[2]'), json_extract(value, '$[3]'),"
            " json_extract(value, '$[4]'), json_extract(value, '$[5]') FROM json_each(?)",
            (number, plan.points.decode()),
        )
        taken = sum(_adopt(db, row["batch_id"], number, *each) for each in runs.items())
        if not take_over:
            return taken
        earlier = (
            "SELECT run_id FROM batch_points AS earlier JOIN runs ON prompt_id = run_id"
            " WHERE earlier.batch IN (SELECT id FROM batches WHERE key = :key AND id < :number)"
            " AND earlier.key = batch_points.key AND earlier.status = 'success'"
            " ORDER BY earlier.batch DESC LIMIT 1"
        )
        found = db.execute(
            f"UPDATE batch_points SET run_id = ({earlier}), status = 'success', changed = 1"  # noqa: S608 - constants
            f" WHERE batch = :number AND status = 'waiting' AND EXISTS ({earlier})",
            {"key": row["key"], "number": number},
        )
        return taken + found.rowcount

    @reading
    def get(self, db: sqlite3.Connection, batch_id: str) -> Batch:
        row = db.execute("SELECT * FROM batches WHERE batch_id = ?", (batch_id,)).fetchone()
        if row is None:
            raise unknown_batch(batch_id)
        return _batch(row)

    @reading
    def page(
        self,
        db: sqlite3.Connection,
        *,
        limit: int,
        offset: int,
        state: str | None,
        key: str | None,
        labels: Mapping[str, str] | None,
        structure: str | None,
    ) -> tuple[int, list[Batch]]:
        """Return the number of the selected batches, and some of them, newest first."""
        given = [("state = ?", [state])] if state is not None else []
        given += [("key = ?", [key])] if key is not None else []
        if structure is not None:
            given += [("json_extract(plan, '$.structure') = ?", [structure])]
        label = "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"
        given += [(label, [*each]) for each in (labels or {}).items()]
        condition = " AND ".join(text for text, _ in given) or "TRUE"
        marks = [mark for _, values in given for mark in values]
        (total,) = db.execute(f"SELECT count(*) FROM batches WHERE {condition}", marks).fetchone()  # noqa: S608 - only marks are put in
        rows = db.execute(
            f"SELECT * FROM batches WHERE {condition} ORDER BY id DESC LIMIT ? OFFSET ?",  # noqa: S608 - likewise
            (*marks, limit, offset),
        )
        return total, readable(rows, _batch, "The batch", "batch_id")

    @reading
    def counts(self, db: sqlite3.Connection, numbers: Collection[int]) -> dict[int, dict[str, int]]:
        """Return how many points of some batches have each status."""
        found: dict[int, dict[str, int]] = {number: {} for number in numbers}
        for number, status, count in db.execute(
            "SELECT batch, status, count(*) FROM batch_points"
            " WHERE batch IN (SELECT value FROM json_each(?)) GROUP BY batch, status",
            (json.dumps(list(numbers)),),
        ):
            found[number][status] = count
        return found

    @reading
    def template(self, db: sqlite3.Connection, number: int) -> Template | None:
        row = db.execute(
            "SELECT request, graph, workflow FROM batches WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        return Template(
            json.loads(row["request"]), read_graph(row["graph"]), read_graph(row["workflow"])
        )

    @reading
    def first_graph(self, db: sqlite3.Connection, number: int) -> bytes | None:
        """Return the graph of the first point, if each has its own."""
        row = db.execute(
            "SELECT graph FROM batch_points WHERE batch = ? AND position = 0", (number,)
        ).fetchone()
        return None if row is None else _encoded(row["graph"])

    @reading
    def open(self, db: sqlite3.Connection, session: str, machine: str | None = None) -> list[Batch]:
        """Return the batches of a server, or those on one machine, that have not ended."""
        rows = db.execute(
            "SELECT * FROM batches WHERE finished_at IS NULL AND session = ?1"
            " AND machine = coalesce(?2, machine) ORDER BY id",
            (session, machine),
        )
        return readable(rows, _batch, "The batch", "batch_id")

    @reading
    def work(self, db: sqlite3.Connection, number: int) -> Work:
        (waits,) = db.execute(
            "SELECT EXISTS (SELECT 1 FROM batch_points WHERE batch = ? AND status = 'waiting')",
            (number,),
        ).fetchone()
        rows = db.execute(
            f"SELECT json_extract({DETAILS}, '$.waiting_for') IS NOT NULL, min(place)"  # noqa: S608 - constants
            " FROM batch_points JOIN runs ON prompt_id = run_id WHERE batch_points.batch = ?"
            f" AND batch_points.status IN {_OPEN} GROUP BY run_id",
            (number,),
        ).fetchall()
        active = [place for unstarted, place in rows if not unstarted]
        return Work(bool(waits), active, len(rows) - len(active))

    @reading
    def waiting(
        self, db: sqlite3.Connection, number: int, low: int, high: int, limit: int
    ) -> list[Point]:
        """Return the first waiting points at places from ``low`` to before ``high``."""
        rows = db.execute(
            "SELECT position, place, key, inputs, graph FROM batch_points WHERE batch = ?"
            " AND status = 'waiting' AND place >= ? AND place < ? ORDER BY place LIMIT ?",
            (number, low, high, limit),
        )
        return [
            Point(position, place, key, json.loads(inputs), _encoded(graph))
            for position, place, key, inputs, graph in rows
        ]

    @reading
    def cut(self, db: sqlite3.Connection, number: int, low: int, high: int) -> int | None:
        """Return where to divide the waiting points of a part, None if they cannot be divided.

        That is near the middle, where they have the least in common.
        """
        part = (
            "FROM batch_points WHERE batch = ? AND status = 'waiting' AND place >= ? AND place < ?"
        )
        (count,) = db.execute(f"SELECT count(*) {part}", (number, low, high)).fetchone()
        if count < 2:
            return None
        middle = count // 2
        first = max(middle - middle // 2, 1)
        (place,) = db.execute(
            f"SELECT place {part} ORDER BY place LIMIT 1 OFFSET ?",
            (number, low, high, middle),
        ).fetchone()
        row = db.execute(
            f"SELECT place FROM (SELECT place, level {part} ORDER BY place LIMIT ? OFFSET ?)"  # noqa: S608 - constants
            " ORDER BY level, abs(place - ?) LIMIT 1",
            (number, low, high, middle + middle // 2 + 1 - first, first, place),
        ).fetchone()
        return None if row is None else int(row["place"])

    @reading
    def left(self, db: sqlite3.Connection, number: int, low: int, high: int) -> int:
        """Return how many points wait in a part."""
        found: int = db.execute(
            "SELECT count(*) FROM batch_points WHERE batch = ? AND status = 'waiting'"
            " AND place >= ? AND place < ?",
            (number, low, high),
        ).fetchone()[0]
        return found

    @writing
    def fail(self, db: sqlite3.Connection, number: int, key: str, error: str) -> None:
        """Record that a point cannot run; it has no run."""
        db.execute("UPDATE batches SET changes = changes + 1 WHERE id = ?", (number,))
        db.execute(
            "UPDATE batch_points SET status = 'failed', error = ?, attempts = attempts + 1,"
            " changed = (SELECT changes FROM batches WHERE id = batch)"
            " WHERE batch = ? AND key = ? AND status = 'waiting'",
            (error, number, key),
        )

    @writing
    def finish(self, db: sqlite3.Connection, number: int) -> bool:
        """Record the end of a batch whose points have all ended; return whether it ended now."""
        found = db.execute(
            "UPDATE batches SET finished_at = ?, changes = changes + 1, state = CASE state"  # noqa: S608 - constants
            " WHEN 'cancelled' THEN state ELSE 'done' END, webhook_status = CASE WHEN"
            " json_extract(settings, '$.webhook') IS NULL THEN NULL ELSE 'pending' END"
            " WHERE id = ? AND finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM batch_points"
            f" WHERE batch = ? AND status IN ('waiting', {_OPEN[1:-1]}))",
            (utc_now(), number, number),
        )
        return found.rowcount > 0

    @writing
    def stop(self, db: sqlite3.Connection, number: int) -> bool:
        """Pause a batch with too many failed points; return whether it is paused now."""
        found = db.execute(
            "UPDATE batches SET state = 'paused', why = stop_at || ' points have failed'"
            " WHERE id = :batch AND state = 'running' AND stop_at <= (SELECT count(*)"
            " FROM batch_points WHERE batch = :batch AND status = 'failed')",
            {"batch": number},
        )
        return found.rowcount > 0

    @writing
    def cancel(self, db: sqlite3.Connection, batch_id: str) -> None:
        """Let no further point run."""
        row = _open_row(db, batch_id, ("running", "paused"))
        db.execute(
            "UPDATE batches SET state = 'cancelled', why = '', changes = changes + 1 WHERE id = ?",
            (row["id"],),
        )
        db.execute(
            "UPDATE batch_points SET status = 'cancelled',"
            " changed = (SELECT changes FROM batches WHERE id = batch)"
            " WHERE batch = ? AND status = 'waiting'",
            (row["id"],),
        )

    @writing
    def pause(self, db: sqlite3.Connection, batch_id: str) -> None:
        """Let no further point run until `resume`; those that have a run go on."""
        row = _open_row(db, batch_id, ("running",))
        db.execute("UPDATE batches SET state = 'paused', why = '' WHERE id = ?", (row["id"],))

    @writing
    def resume(self, db: sqlite3.Connection, batch_id: str, session: str) -> None:
        """Let the points run that wait, and those that were cancelled with the batch."""
        row = _open_row(db, batch_id, ("paused", "cancelled"))
        if row["state"] == "cancelled" and row["finished_at"] is None:
            raise ConflictError(
                f"The batch {batch_id!r} is still being cancelled",
                details={"batch_id": batch_id, "state": row["state"]},
            )
        if row["state"] == "cancelled":
            _let_wait(db, row["id"], "cancelled", None)
        _reopen(db, row["id"], session)

    @writing
    def retry(
        self, db: sqlite3.Connection, batch_id: str, session: str, points: Collection[int] | None
    ) -> int:
        """Let failed points run again, all or some; return how many. Others are not changed."""
        row = _open_row(db, batch_id, STATES)
        found = _let_wait(db, row["id"], "failed", points)
        if not found:
            raise ConflictError(
                f"None of these points of the batch {batch_id!r} has failed",
                details={"batch_id": batch_id, "state": row["state"]},
            )
        if row["state"] != "running":
            _reopen(db, row["id"], session)
        return found

    @writing
    def relabel(self, db: sqlite3.Connection, batch_id: str, labels: dict[str, str]) -> int:
        """Replace the labels of a batch and of its runs; return its key in the store."""
        number: int = _open_row(db, batch_id, STATES)["id"]
        text = json.dumps(labels)
        db.execute(
            "UPDATE batches SET labels = ?1, request = json_set(request, '$.metadata', json(?1))"
            " WHERE id = ?2",
            (text, number),
        )
        metadata = text if labels else None
        db.execute("UPDATE runs SET metadata = ? WHERE batch = ?", (metadata, batch_id))
        return number

    @writing
    def delete(self, db: sqlite3.Connection, batch_id: str) -> None:
        """Delete a batch and its points; its runs stay as single ones."""
        row = _open_row(db, batch_id, STATES)
        db.execute("DELETE FROM batches WHERE id = ?", (row["id"],))
        db.execute("UPDATE runs SET batch = NULL, point = NULL WHERE batch = ?", (batch_id,))

    @reading
    def untold(self, db: sqlite3.Connection, session: str) -> list[Batch]:
        """Return the batches of a server that have ended, and whose webhooks do not know it."""
        rows = db.execute(
            "SELECT * FROM batches WHERE webhook_status = 'pending' AND session = ?", (session,)
        )
        return readable(rows, _batch, "The batch", "batch_id")

    @writing
    def told(self, db: sqlite3.Connection, number: int) -> None:
        db.execute("UPDATE batches SET webhook_status = 'sent' WHERE id = ?", (number,))

    @reading
    def runs(self, db: sqlite3.Connection, number: int) -> list[str]:
        """Return the ids of the runs of a batch that have not ended."""
        rows = db.execute(
            f"SELECT DISTINCT run_id FROM batch_points WHERE batch = ? AND status IN {_OPEN}",  # noqa: S608 - constants
            (number,),
        )
        return [run_id for (run_id,) in rows]

    @writing
    def claim(self, db: sqlite3.Connection, sessions: Collection[str], session: str) -> None:
        """Take over the batches of servers that have ended, if there is something left to do."""
        db.execute(
            "UPDATE batches SET session = ? WHERE (finished_at IS NULL"
            " OR webhook_status = 'pending') AND session IN (SELECT value FROM json_each(?))",
            (session, json.dumps(list(sessions))),
        )

    @reading
    def points(
        self,
        db: sqlite3.Connection,
        number: int,
        *,
        limit: int,
        offset: int,
        which: PointFilter,
    ) -> tuple[int, list[tuple[dict[str, Any], RunRecord | None]]]:
        """Return the number of the selected points, and some of them with their runs."""
        condition, marks = which.where()
        count = f"SELECT count(*) FROM batch_points WHERE {condition}"  # noqa: S608 - only marks are put in
        if which == PointFilter():
            count = "SELECT total FROM batches WHERE id = ?"
        (total,) = db.execute(count, (number, *marks)).fetchone()
        return total, _with_runs(
            db, f"{condition} ORDER BY position LIMIT ? OFFSET ?", (number, *marks, limit, offset)
        )

    @reading
    def changed(
        self, db: sqlite3.Connection, number: int, after: tuple[int, int], limit: int
    ) -> list[tuple[dict[str, Any], RunRecord | None]]:
        """Return the points that have ended after a change and a position, in order."""
        change, position = after
        return _with_runs(
            db,
            "batch = ? AND changed >= ? AND changed > 0 AND (changed > ? OR position > ?)"
            " ORDER BY changed, position LIMIT ?",
            (number, change, change, position, limit),
        )

    @reading
    def durations(self, db: sqlite3.Connection, batch_id: str) -> list[tuple[str, int, float]]:
        """Return for each machine how many of the last runs it executed, and their mean, s."""
        rows = db.execute(
            "SELECT machine, count(*), avg(execution_time) FROM (SELECT machine, execution_time"
            " FROM runs WHERE batch = ? AND status = 'success' ORDER BY id DESC LIMIT ?)"
            " WHERE execution_time IS NOT NULL GROUP BY machine ORDER BY machine",
            (batch_id, LAST_RUNS),
        )
        return [(machine, count, seconds) for machine, count, seconds in rows]


def _with_runs(
    db: sqlite3.Connection, rest: str, marks: Sequence[Any]
) -> list[tuple[dict[str, Any], RunRecord | None]]:
    rows = db.execute(
        "SELECT position, inputs, batch_points.status AS point_status, attempts, run_id,"  # noqa: S608 - only marks are put in
        " batch_points.error AS why, changed, runs.* FROM (SELECT * FROM batch_points WHERE"
        f" {rest}) AS batch_points LEFT JOIN runs ON prompt_id = run_id ORDER BY"
        f" {'changed, position' if 'ORDER BY changed' in rest else 'position'}",
        marks,
    )
    return [
        (
            {
                "point": row["position"],
                "values": json.loads(row["inputs"]),
                "status": row["point_status"],
                "attempts": row["attempts"],
                "prompt_id": row["run_id"],
                "error": row["why"] or "",
                "changed": row["changed"],
            },
            None if row["prompt_id"] is None else record_of(row),
        )
        for row in rows
    ]


def _adopt(db: sqlite3.Connection, batch_id: str, number: int, position: str, run_id: str) -> int:
    """Give a point, and those that are equal, a run that is there already; return how many."""
    marks = {"run": run_id, "number": number, "position": position, "batch": batch_id}
    db.execute(
        "UPDATE runs SET batch = :batch, point = :position"
        " WHERE prompt_id = :run AND batch IS NULL",
        marks,
    )
    return db.execute(
        "UPDATE batch_points SET run_id = :run, attempts = 1,"
        " status = (SELECT status FROM runs WHERE prompt_id = :run),"
        " changed = (SELECT finished_at IS NOT NULL FROM runs WHERE prompt_id = :run)"
        " WHERE batch = :number AND key = (SELECT key FROM batch_points WHERE batch = :number"
        " AND position = :position) AND EXISTS (SELECT 1 FROM runs WHERE prompt_id = :run)",
        marks,
    ).rowcount


def _encoded(body: Any) -> bytes | None:
    return body.encode() if isinstance(body, str) else body


def _open_row(db: sqlite3.Connection, batch_id: str, states: Sequence[str]) -> sqlite3.Row:
    """Return the row of a batch; ConflictError if it is in none of some states."""
    row: sqlite3.Row | None = db.execute(
        "SELECT id, state, finished_at FROM batches WHERE batch_id = ?", (batch_id,)
    ).fetchone()
    if row is None:
        raise unknown_batch(batch_id)
    if row["state"] not in states:
        raise ConflictError(
            f"The batch {batch_id!r} is {row['state']}",
            details={"batch_id": batch_id, "state": row["state"]},
        )
    return row


def _let_wait(
    db: sqlite3.Connection, number: int, status: str, points: Collection[int] | None
) -> int:
    """Let points with a status wait, and those that are equal to them; return how many."""
    chosen = None if points is None else json.dumps(list(points))
    return db.execute(
        "UPDATE batch_points SET status = 'waiting', attempts = 0, error = NULL, changed = 0"
        " WHERE batch = ?1 AND status = ?2 AND (?3 IS NULL OR key IN (SELECT key"
        " FROM batch_points WHERE batch = ?1 AND position IN (SELECT value FROM json_each(?3))))",
        (number, status, chosen),
    ).rowcount


def _reopen(db: sqlite3.Connection, number: int, session: str) -> None:
    """Let the points of a batch run here, until again as many have failed as may."""
    db.execute(
        "UPDATE batches SET state = 'running', why = '', finished_at = NULL, session = ?,"
        " stop_at = json_extract(settings, '$.stop_after') + (SELECT count(*) FROM batch_points"
        " WHERE batch = batches.id AND status = 'failed') WHERE id = ?",
        (session, number),
    )


def _batch(row: sqlite3.Row) -> Batch:
    values = {name: row[name] for name in _COLUMNS if name != "number"}
    for name in ("labels", "settings", "plan"):
        values[name] = json.loads(values[name])
    return Batch(number=row["id"], **values)


def unknown_batch(batch_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no batch {batch_id!r}", details={"field": "batch_id", "batch_id": batch_id}
    )
