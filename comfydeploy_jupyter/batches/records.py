"""The records of batches and of their points."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from ..errors import ConflictError, NotFoundError
from ..runs.records import ACTIVE, LABEL_OF_BATCH, STRUCTURE, joined, record_of
from ..store.database import DETAILS, Repository, insert, readable, reading, writing
from ..store.graphs import compress, read_graph
from ..util.jsons import RawJSON
from ..util.times import utc_now
from .plan import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ..runs.records import RunRecord
    from .plan import Plan

T = TypeVar("T")
Read: TypeAlias = "Callable[[Iterator[tuple[dict[str, Any], RunRecord | None]]], T]"

AT_WORK = "active"  # the points that have a run which has not ended
WAITING = "waiting"  # the status of a point without a run; with one, it has that of the run
STATUSES = (WAITING, *ACTIVE, "success", "failed", "cancelled")
STATES = ("running", "paused", "cancelled", "done")
LAST_RUNS = 200  # of which the durations are looked at
BLOCK, BLOCK_SIZE = 50, 256 * 1024  # points, and characters of their values, in one read
_LAST = 2**63 - 1  # the largest integer of SQLite
# A value of an input, as text; numbers are equal by value, lists and objects as JSON.
_HAS = (
    "EXISTS (SELECT 1 FROM json_each(inputs) WHERE key = ? AND CASE type WHEN 'text' THEN atom = ?"
    " WHEN 'true' THEN ? = 'true' WHEN 'false' THEN ? = 'false' WHEN 'null' THEN ? = 'null'"
    " WHEN 'array' THEN value = ? WHEN 'object' THEN value = ? ELSE atom = ? END)"
)
_OPEN = f"({', '.join(map(repr, ACTIVE))})"


@dataclass
class Batch:
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
    labels: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # of its request
    plan: dict[str, Any] = field(default_factory=dict)  # what `Plan` says besides points and axes


PLANNED = ("names", "notes", "seeds", "shared", "structure")  # what is kept of a `Plan`
_TEXTS = ("labels", "settings", "plan")  # JSON
_PLAIN = ", ".join(name for name in Batch.__annotations__ if name != "number")
_SELECT = f"SELECT id AS number, {_PLAIN} FROM batches"  # noqa: S608 - constants
_PART = "FROM batch_points WHERE batch = ? AND status = 'waiting' AND place >= ? AND place < ?"
_CHANGE = "(SELECT number FROM batch_changes WHERE batch_changes.batch = batch_points.batch)"


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
    has_graph: bool  # of its own


class Work(NamedTuple):
    """What there is to do for a batch."""

    waits: bool  # whether any point waits
    active: dict[str, int]  # the places of the points that are queued or run, by their runs
    unstarted: set[str]  # the runs that wait for outputs of other runs


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
                marks.append(f"{compact(name)}:{value}")
                number = float(value)
            conditions.append(_HAS)
            marks += [name, text, text, text, text, compact(value), compact(value), number]
        return " AND ".join(conditions), marks


class BatchFilter(NamedTuple):
    """The selected batches, which fulfil every condition that is given."""

    state: str | None
    key: str | None
    labels: Mapping[str, str] | None  # all of these
    structure: str | None  # of their workflow

    def where(self) -> tuple[str, list[Any]]:
        return joined(
            [
                (self.state is not None, "state = ?", (self.state,)),
                (self.key is not None, "key = ?", (self.key,)),
                (self.structure is not None, f"{STRUCTURE} = ?", (self.structure,)),
                *((True, LABEL_OF_BATCH, each) for each in (self.labels or {}).items()),
            ]
        )


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
            insert(db, "batches", {**row, **packed, "axes": plan.axes.decode()})
        except sqlite3.IntegrityError:
            text = f"a batch {row['batch_id']!r} exists already"
            raise ConflictError.of_field("batch_id", text) from None
        number = db.execute("SELECT last_insert_rowid()").fetchone()[0]
        _put_points(db, number, plan)
        taken = sum(_adopt(db, row["batch_id"], number, *each) for each in runs.items())
        return taken + (_take_over(db, number) if take_over else 0)

    @writing
    def put_points(self, db: sqlite3.Connection, number: int, plan: Plan) -> None:
        """Store the points of a batch that waited for the outputs that they are."""
        row = db.execute(
            "SELECT state, plan, request FROM batches WHERE id = ?", (number,)
        ).fetchone()
        if row is None or row["state"] == "cancelled":
            return
        known, request = json.loads(row["plan"]), json.loads(row["request"])
        waited = known.pop("waits", None)
        if waited is None:
            return
        known |= {name: getattr(plan, name) for name in PLANNED}
        db.execute(
            "UPDATE batches SET plan = ?, request = ?, total = ?, axes = ? WHERE id = ?",
            (
                json.dumps(known),
                json.dumps({**request, "inputs": plan.inputs}),
                plan.total,
                plan.axes.decode(),
                number,
            ),
        )
        _put_points(db, number, plan)
        if waited["take_over"]:
            _take_over(db, number)

    @reading
    def get(self, db: sqlite3.Connection, batch_id: str) -> Batch:
        row = db.execute(f"{_SELECT} WHERE batch_id = ?", (batch_id,)).fetchone()
        if row is None:
            raise unknown_batch(batch_id)
        return _batch(row)

    @reading
    def states(self, db: sqlite3.Connection, batch_ids: Collection[str]) -> dict[str, str]:
        """Return the states of those batches that exist; `running` until all points have ended."""
        rows = db.execute(
            "SELECT batch_id, CASE WHEN finished_at IS NULL THEN 'running' ELSE state END"
            " FROM batches WHERE batch_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(batch_ids)),),
        )
        return dict(rows)

    @reading
    def successful(self, db: sqlite3.Connection, batch_id: str) -> list[str]:
        """Return the run of each point that was successful, in the order of the points.

        NotFoundError: the batch was deleted.
        """
        number = _open_row(db, batch_id, STATES)["id"]
        rows = db.execute(
            "SELECT run_id FROM batch_points JOIN runs ON prompt_id = run_id WHERE"
            " batch_points.batch = ? AND batch_points.status = 'success' ORDER BY position",
            (number,),
        )
        return [run_id for (run_id,) in rows]

    @reading
    def page(
        self,
        db: sqlite3.Connection,
        *,
        limit: int,
        offset: int,
        which: BatchFilter,
    ) -> tuple[int, list[Batch]]:
        """Return the number of the selected batches, and some of them, newest first."""
        condition, marks = which.where()
        (total,) = db.execute(f"SELECT count(*) FROM batches WHERE {condition}", marks).fetchone()  # noqa: S608 - only marks are put in
        rest = f"{condition} ORDER BY id DESC LIMIT ? OFFSET ?"
        return total, _batches(db, rest, *marks, limit, offset)

    @reading
    def with_numbers(self, db: sqlite3.Connection, numbers: Collection[int]) -> list[Batch]:
        """Return the batches with these keys, newest first."""
        rest = "id IN (SELECT value FROM json_each(?)) ORDER BY created_at DESC, id DESC"
        return _batches(db, rest, json.dumps(list(numbers)))

    @reading
    def unfinished(self, db: sqlite3.Connection, limit: int) -> list[Batch]:
        """Return the newest batches that have not ended."""
        return _batches(db, "finished_at IS NULL ORDER BY id DESC LIMIT ?", limit)

    @reading
    def ended_after(self, db: sqlite3.Connection, moment: str, limit: int) -> list[Batch]:
        """Return the first batches that ended at a time or later, in the order of their ends."""
        return _batches(db, "finished_at >= ? ORDER BY finished_at, id LIMIT ?", moment, limit)

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
    def axes(self, db: sqlite3.Connection, number: int) -> RawJSON:
        row = db.execute("SELECT axes FROM batches WHERE id = ?", (number,)).fetchone()
        return RawJSON(b"[]" if row is None else row["axes"].encode())

    @reading
    def lengths(self, db: sqlite3.Connection, number: int) -> list[int]:
        """Return how many values each axis has."""
        rows = db.execute(
            "SELECT json_array_length(value, '$.values') FROM batches, json_each(axes)"
            " WHERE batches.id = ?",
            (number,),
        )
        return [length for (length,) in rows]

    @reading
    def graph(self, db: sqlite3.Connection, number: int, position: int) -> bytes | None:
        """Return the graph of a point, if each has its own."""
        row = db.execute(
            "SELECT graph FROM batch_points WHERE batch = ? AND position = ?", (number, position)
        ).fetchone()
        body = None if row is None else row["graph"]
        return body.encode() if isinstance(body, str) else body

    @reading
    def open(self, db: sqlite3.Connection, session: str, machine: str | None = None) -> list[Batch]:
        """Return the batches of a server, or those on one machine, that have not ended."""
        rest = "finished_at IS NULL AND session = ? AND machine = coalesce(?, machine) ORDER BY id"
        return _batches(db, rest, session, machine)

    @reading
    def work(self, db: sqlite3.Connection, number: int) -> Work:
        (waits,) = db.execute(
            "SELECT EXISTS (SELECT 1 FROM batch_points WHERE batch = ? AND status = 'waiting')",
            (number,),
        ).fetchone()
        rows = db.execute(
            f"SELECT run_id, min(place), json_extract({DETAILS}, '$.waiting_for') IS NOT NULL"  # noqa: S608 - constants
            " FROM batch_points INDEXED BY points_by_status JOIN runs ON prompt_id = run_id"
            " WHERE batch_points.batch = ?"
            f" AND batch_points.status IN {_OPEN} GROUP BY run_id",
            (number,),
        ).fetchall()
        active = {run_id: place for run_id, place, unstarted in rows if not unstarted}
        return Work(bool(waits), active, {run_id for run_id, _, _ in rows} - active.keys())

    @reading
    def waiting(
        self, db: sqlite3.Connection, number: int, low: int, high: int, without: Collection[str]
    ) -> list[Point]:
        """Return the first waiting points at places from ``low`` to before ``high``.

        Of equal points, only the first one; none whose keys are in ``without``.
        """
        found: dict[str, Point] = {}
        size = 0
        for position, place, key, inputs, has_graph in db.execute(
            f"SELECT position, place, key, inputs, graph IS NOT NULL {_PART} ORDER BY place",
            (number, low, high),
        ):
            if key not in found and key not in without:
                found[key] = Point(position, place, key, json.loads(inputs), bool(has_graph))
                size += len(inputs)
            if len(found) >= BLOCK or size > BLOCK_SIZE:
                break
        return [*found.values()]

    @reading
    def cut(self, db: sqlite3.Connection, number: int, low: int, high: int) -> int | None:
        """Return where to divide the waiting points of a part, None if they cannot be divided.

        That is near the middle, where they have the least in common.
        """
        (count,) = db.execute(f"SELECT count(*) {_PART}", (number, low, high)).fetchone()
        if count < 2:
            return None
        middle = count // 2
        first = max(middle - middle // 2, 1)
        (place,) = db.execute(
            f"SELECT place {_PART} ORDER BY place LIMIT 1 OFFSET ?",
            (number, low, high, middle),
        ).fetchone()
        row = db.execute(
            f"SELECT place FROM (SELECT place, level {_PART} ORDER BY place LIMIT ? OFFSET ?)"  # noqa: S608 - constants
            " ORDER BY level, abs(place - ?) LIMIT 1",
            (number, low, high, middle + middle // 2 + 1 - first, first, place),
        ).fetchone()
        return None if row is None else int(row["place"])

    @reading
    def left(self, db: sqlite3.Connection, number: int, low: int, high: int) -> int:
        """Return how many points wait in a part."""
        (count,) = db.execute(f"SELECT count(*) {_PART}", (number, low, high)).fetchone()
        return int(count)

    @writing
    def fail(
        self, db: sqlite3.Connection, number: int, key: str, error: str, status: str = "failed"
    ) -> None:
        """Record that a point cannot run, or is cancelled; it has no run."""
        _count_change(db, number)
        db.execute(
            "UPDATE batch_points SET status = ?, error = ?, attempts = attempts + 1,"  # noqa: S608 - constants
            f" changed = {_CHANGE}"
            " WHERE batch = ? AND key = ? AND status = 'waiting'",
            (status, error, number, key),
        )

    @writing
    def finish(self, db: sqlite3.Connection, number: int) -> bool:
        """Record the end of a batch whose points have all ended; return whether it ended now."""
        found = db.execute(
            "UPDATE batches SET finished_at = max(?, created_at), state = CASE state"  # noqa: S608 - constants
            " WHEN 'cancelled' THEN state ELSE 'done' END, webhook_status = CASE WHEN"
            " json_extract(settings, '$.webhook') IS NULL THEN NULL ELSE 'pending' END"
            " WHERE id = ? AND finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM batch_points"
            f" WHERE batch = ? AND status IN ('waiting', {_OPEN[1:-1]}))",
            (utc_now(), number, number),
        )
        return found.rowcount > 0

    @writing
    def stop(self, db: sqlite3.Connection, number: int) -> int:
        """Pause a batch with too many failed points; return how many more may fail."""
        row = db.execute(
            "SELECT stop_at - (SELECT count(*) FROM batch_points WHERE batch = id"
            " AND status = 'failed') FROM batches WHERE id = ?",
            (number,),
        ).fetchone()
        left = 1 if row is None else int(row[0])  # it was deleted meanwhile
        if left <= 0:
            db.execute(
                "UPDATE batches SET state = 'paused', why = stop_at || ' points have failed'"
                " WHERE id = ? AND state = 'running'",
                (number,),
            )
        return left

    @writing
    def cancel(self, db: sqlite3.Connection, batch_id: str, why: str = "") -> None:
        """Let no further point run."""
        row = _open_row(db, batch_id, ("running", "paused"))
        db.execute("UPDATE batches SET state = 'cancelled', why = ? WHERE id = ?", (why, row["id"]))
        _count_change(db, row["id"])
        db.execute(
            f"UPDATE batch_points SET status = 'cancelled', changed = {_CHANGE}"  # noqa: S608 - constants
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
        """Let the points run that wait, and if the batch has ended those that were cancelled."""
        row = _open_row(db, batch_id, ("paused", "cancelled", "done"))
        if row["state"] == "cancelled" and row["finished_at"] is None:
            raise not_possible(batch_id, row["state"], "is still being cancelled")
        waiting = row["state"] == "paused" or _let_wait(db, row["id"], "cancelled", None)
        if row["state"] == "done" and not waiting:
            _open_row(db, batch_id, ("paused", "cancelled"))
        _reopen(db, row["id"], session)

    @writing
    def retry(
        self, db: sqlite3.Connection, batch_id: str, session: str, points: Collection[int] | None
    ) -> int:
        """Let failed points run again, all or some; return how many. Others are not changed."""
        row = _open_row(db, batch_id, STATES)
        found = _let_wait(db, row["id"], "failed", points)
        if not found:
            raise not_possible(batch_id, row["state"], "has none of these points that has failed")
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
    def give_away(self, db: sqlite3.Connection, batch: Batch) -> None:
        """Give the runs of a batch that others have taken over to the first of these."""
        other = (
            "FROM batch_points JOIN batches ON batches.id = batch"
            " WHERE run_id = prompt_id AND batch != :number"
        )
        db.execute(
            f"UPDATE runs SET (batch, point) = (SELECT batch_id, position {other}"  # noqa: S608 - constants
            " ORDER BY batch, position LIMIT 1)"
            f" WHERE batch = :batch AND EXISTS (SELECT 1 {other})",
            {"number": batch.number, "batch": batch.batch_id},
        )

    @reading
    def needed(self, db: sqlite3.Connection) -> set[str]:
        """Return the runs whose outputs are values of points that are still to run."""
        rows = db.execute(
            "WITH texts AS (SELECT inputs AS text FROM batch_points WHERE status = 'waiting'"
            " AND instr(inputs, '$output') AND json_valid(inputs)"
            " UNION ALL SELECT json_extract(request, '$.inputs')"
            " FROM batches WHERE finished_at IS NULL AND json_valid(request)),"
            " named AS (SELECT key AS kind, atom FROM texts, json_tree(text)"
            " WHERE key IN ('run', 'batch') AND type = 'text')"
            " SELECT atom FROM named WHERE kind = 'run' UNION SELECT run_id FROM batch_points"
            " JOIN batches ON batches.id = batch JOIN named ON kind = 'batch' AND atom = batch_id"
            " WHERE run_id IS NOT NULL"
        )
        return {run_id for (run_id,) in rows}

    @writing
    def delete(self, db: sqlite3.Connection, batch_id: str) -> None:
        """Delete a batch and its points; its runs stay as single ones."""
        row = _open_row(db, batch_id, STATES)
        db.execute("DELETE FROM batches WHERE id = ?", (row["id"],))
        db.execute("UPDATE runs SET batch = NULL, point = NULL WHERE batch = ?", (batch_id,))

    @reading
    def untold(self, db: sqlite3.Connection, session: str) -> list[Batch]:
        """Return the batches of a server that have ended, and whose webhooks do not know it."""
        return _batches(db, "webhook_status = 'pending' AND session = ?", session)

    @writing
    def told(self, db: sqlite3.Connection, number: int) -> None:
        db.execute("UPDATE batches SET webhook_status = 'sent' WHERE id = ?", (number,))

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
        rest = f"WHERE {condition} ORDER BY position LIMIT ? OFFSET ?"
        if which == PointFilter():
            count = "SELECT total FROM batches WHERE id = ?"
            rest = "WHERE batch = ?1 AND position >= ?3 ORDER BY position LIMIT ?2"
        elif which.status in (AT_WORK, *ACTIVE):  # few; otherwise all points would be looked at
            rest = f"INDEXED BY points_by_status {rest}"
        (total,) = db.execute(count, (number, *marks)).fetchone()
        return total, [*_each_with_run(db, rest, (number, *marks, limit, offset))]

    @reading
    def each_from(
        self, db: sqlite3.Connection, number: int, start: int, limit: int, read: Read[T]
    ) -> T:
        """Return what a function makes of some points and their runs, of which it gets each once.

        So many records at once would be so many objects that Python's garbage collector looks at
        all that there are, which blocks the event loop.
        """
        rest = "WHERE batch = ? AND position >= ? ORDER BY position LIMIT ?"
        return read(_each_with_run(db, rest, (number, start, limit)))

    @reading
    def changed(
        self, db: sqlite3.Connection, number: int, after: tuple[int, int], limit: int
    ) -> list[tuple[dict[str, Any], RunRecord | None]]:
        """Return the points that have ended after a change and a position, in order."""
        change, position = after
        rest = (
            "WHERE batch = ? AND changed >= ? AND changed > 0 AND (changed > ? OR position > ?)"
            " ORDER BY changed, position LIMIT ?"
        )
        return [*_each_with_run(db, rest, (number, change, change, position, limit))]

    @reading
    def durations(self, db: sqlite3.Connection, batch_id: str) -> list[tuple[str, int, float]]:
        """Return for each machine how many of the last runs it executed, and their mean, s."""
        rows = db.execute(
            "SELECT machine, count(*), avg(execution_time) FROM (SELECT machine, execution_time"
            " FROM runs WHERE batch = ? AND status = 'success'"
            " ORDER BY created_at DESC, id DESC LIMIT ?)"
            " WHERE execution_time IS NOT NULL GROUP BY machine ORDER BY machine",
            (batch_id, LAST_RUNS),
        )
        return [(machine, count, seconds) for machine, count, seconds in rows]


def _each_with_run(
    db: sqlite3.Connection, rest: str, marks: Sequence[Any]
) -> Iterator[tuple[dict[str, Any], RunRecord | None]]:
    rows = db.execute(
        "SELECT position, inputs, batch_points.status AS point_status, attempts, run_id,"  # noqa: S608 - only marks are put in
        " batch_points.error AS why, changed, runs.* FROM (SELECT * FROM batch_points"
        f" {rest}) AS batch_points LEFT JOIN runs ON prompt_id = run_id ORDER BY"
        f" {'changed, position' if 'ORDER BY changed' in rest else 'position'}",
        marks,
    )
    for row in rows:
        point = {
            "point": row["position"],
            "values": json.loads(row["inputs"]),
            "status": row["point_status"],
            "attempts": row["attempts"],
            "prompt_id": row["run_id"],
            "error": row["why"] or "",
            "changed": row["changed"],
        }
        yield point, None if row["prompt_id"] is None else record_of(row)


def _put_points(db: sqlite3.Connection, number: int, plan: Plan) -> None:
    db.execute(
        "INSERT INTO batch_points (batch, position, place, level, key, inputs, graph)"
        " SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
        " json_extract(value, '$[2]'), json_extract(value, '$[3]'),"
        " json_extract(value, '$[4]'), json_extract(value, '$[5]') FROM json_each(?)",
        (number, plan.points.decode()),
    )


def _take_over(db: sqlite3.Connection, number: int) -> int:
    """Give points the runs with which earlier batches of the same key were successful."""
    earlier = (
        "SELECT run_id FROM batch_points AS earlier JOIN runs ON prompt_id = run_id"
        " WHERE earlier.batch IN (SELECT id FROM batches WHERE id < :number AND key ="
        " (SELECT key FROM batches WHERE id = :number))"
        " AND earlier.key = batch_points.key AND earlier.status = 'success'"
        " ORDER BY earlier.batch DESC LIMIT 1"
    )
    return db.execute(
        f"UPDATE batch_points SET run_id = ({earlier}), status = 'success', changed = {_CHANGE}"  # noqa: S608 - constants
        f" WHERE batch = :number AND status = 'waiting' AND EXISTS ({earlier})",
        {"number": number},
    ).rowcount


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


def _count_change(db: sqlite3.Connection, number: int) -> None:
    db.execute("UPDATE batch_changes SET number = number + 1 WHERE batch = ?", (number,))


def _open_row(db: sqlite3.Connection, batch_id: str, states: Sequence[str]) -> sqlite3.Row:
    """Return the row of a batch; ConflictError if it is in none of some states."""
    row: sqlite3.Row | None = db.execute(
        "SELECT id, state, finished_at FROM batches WHERE batch_id = ?", (batch_id,)
    ).fetchone()
    if row is None:
        raise unknown_batch(batch_id)
    if row["state"] not in states:
        raise not_possible(batch_id, row["state"], f"is {row['state']}")
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


def _batches(db: sqlite3.Connection, rest: str, *marks: Any) -> list[Batch]:
    rows = db.execute(f"{_SELECT} WHERE {rest}", marks)
    return readable(rows, _batch, "The batch", "batch_id")


def _batch(row: sqlite3.Row) -> Batch:
    return Batch(**{**row, **{name: json.loads(row[name]) for name in _TEXTS}})


def not_possible(batch_id: str, state: str, why: str) -> ConflictError:
    text = f"The batch {batch_id!r} {why}"
    return ConflictError(text, details={"batch_id": batch_id, "state": state})


def unknown_batch(batch_id: str, field: str = "batch_id") -> NotFoundError:
    return NotFoundError(
        f"There is no batch {batch_id!r}", details={"field": field, "batch_id": batch_id}
    )
