"""The record of every run, and which records a request selects."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConflictError, NotFoundError
from ..store.database import DETAILS, Repository, insert, reading, writing
from ..store.graphs import discard_graphs, keep_graph, read_graph
from ..util.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..store.database import Database

log = logging.getLogger(__name__)

ACTIVE = ("not-started", "queued", "running", "uploading")
FINAL = ("success", "failed", "cancelled")
# As the indexes of runs that have ended have it; "+" prevents the use of the index of statuses.
_ENDED = f"+status IN {FINAL}"
SEARCHED_FOR_ENDS = 2000  # of the newest runs
IDEMPOTENCY_KEY = "Idempotency-Key"
UNREADABLE = {
    "type": "RecordUnreadable",
    "message": "The stored record of this run cannot be read",
    "node_id": None,
    "node_type": None,
}
StoredGraphs = tuple[bytes, "bytes | None"]  # in API and in UI format, as JSON

KEPT_FOR = "7 days"  # an idempotency key after the deletion of its run

# A value of an input as forms show it; those of ``seeds`` are integers.
_VALUE = (
    "EXISTS (SELECT 1 FROM (SELECT key, type, value FROM json_each({record}, '$.inputs')"
    " UNION ALL SELECT key, type, value FROM json_each({record}, '$.seeds')) WHERE {condition})"
)
EXACT_DIGITS = 18
_COLOUR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)
_NAMED = re.compile(r"(\S.*?)(?:\s*[:=]\s*|\s+)(\S+)", re.DOTALL)
_WORDS = {"on": ("true",), "off": ("false",)}
_LABEL = "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)"
# Of a batch, as its index has it
STRUCTURE = "CASE WHEN json_valid(plan) THEN json_extract(plan, '$.structure') END"
LABEL_OF_BATCH = (
    "json_valid(labels) AND EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"
)
_WORKFLOW = f"json_extract({DETAILS}, '$.workflow_id') = ?"
_SEARCHED = (
    f"prompt_id || json_extract({DETAILS}, '$.inputs', '$.seeds', '$.error', '$.outputs')"
    " || coalesce(metadata, '')"
)
_WHOLE = "lower(prompt_id || record || coalesce(metadata, ''))"
# What separates the parts of a JSON text, which is written with and without spaces.
_SEPARATED = re.compile(r"\s*[,:]\s*")
# Added to the keys of batches: of two entries of the same time, the batch is listed first.
_BATCHES = 1 << 62


@dataclass(frozen=True)
class RunFilter:
    """The selected runs, which fulfil every condition that is given; by default all."""

    prompt_ids: Sequence[str] | None = None
    statuses: Sequence[str] = ()  # one of these, if there are any
    machine: str | None = None  # a machine or a pool
    structure: str | None = None  # a workflow, with any input values
    workflow_id: str | None = None
    before: str | None = None
    after: str | None = None  # runs that were created at this time are included
    metadata: Mapping[str, str] | None = None  # all of these labels
    pinned: bool | None = None
    starred: bool | None = None
    # a text in the id, inputs, seeds, error, outputs, labels or note, in any case of ASCII letters
    search: str | None = None
    batch: str | None = None
    single: bool = False  # runs that are no points of batches

    def where(self) -> tuple[str, list[Any]]:
        statuses, machine, labels = {*self.statuses}, self.machine, self.metadata or {}
        is_ended = bool(statuses) and statuses.issubset(FINAL)
        is_open = bool(statuses) and statuses.isdisjoint(FINAL)  # few runs: their index is used
        ids = json.dumps([*(self.prompt_ids or ())])
        conditions: list[tuple[object, str, tuple[Any, ...]]] = [
            (self.prompt_ids is not None, "prompt_id IN (SELECT value FROM json_each(?))", (ids,)),
            (is_ended, _ENDED, ()),
            (
                statuses and statuses != {*FINAL},
                f"{'+' * is_ended}status IN ({', '.join('?' * len(statuses))})",
                (*statuses,),
            ),
            (machine is not None, "(machine = ? OR pool = ?)", (machine, machine)),
            (self.structure is not None, f"{'+' * is_open}structure = ?", (self.structure,)),
            (self.workflow_id is not None, _WORKFLOW, (self.workflow_id,)),
            (self.before is not None, "created_at < ?", (self.before,)),
            (self.after is not None, "created_at >= ?", (self.after,)),
            (labels, "metadata IS NOT NULL", ()),  # the condition of the index
            *((True, _LABEL, label) for label in labels.items()),
            (self.pinned is not None, "pinned = ?", (self.pinned,)),
            (self.starred is not None, "starred = ?", (self.starred,)),
            (self.batch is not None, "batch = ?", (self.batch,)),
            (self.single, "batch IS NULL", ()),
        ]
        if self.search:
            conditions.append((True, *_search(self.search)))
        return joined(conditions)

    def of_batches(self) -> tuple[str, list[Any]]:
        """Return the condition for the batches that stand in place of their runs."""
        conditions: list[tuple[object, str, tuple[Any, ...]]] = [
            (self.structure is not None, f"{STRUCTURE} = ?", (self.structure,)),
            (self.before is not None, "created_at < ?", (self.before,)),
            (self.after is not None, "created_at >= ?", (self.after,)),
            *((True, LABEL_OF_BATCH, each) for each in (self.metadata or {}).items()),
        ]
        return joined(conditions)


def joined(conditions: list[tuple[object, str, tuple[Any, ...]]]) -> tuple[str, list[Any]]:
    """Return the conditions that are given as one, with the values of its marks."""
    found = [(condition, marks) for given, condition, marks in conditions if given]
    values = [mark for _, marks in found for mark in marks]
    return " AND ".join(condition for condition, _ in found) or "TRUE", values


ALL = RunFilter()


class Position(NamedTuple):
    """A place in the list of runs and batches: before all that are older than this."""

    created_at: str
    is_batch: bool  # of two of the same time, the batch is listed first
    number: int  # the key in the store; larger ones come first

    def __str__(self) -> str:
        return f"{self.created_at}/{'batch' if self.is_batch else 'run'}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        created_at, kind, number = text.split("/")
        return cls(created_at, kind == "batch", int(number))

    def older(self, *, batches: bool) -> tuple[str, list[Any]]:
        """Return the condition for the rows of a table that come after this."""
        if batches == self.is_batch:
            return "(created_at, id) < (?, ?)", [self.created_at, self.number]
        return f"created_at {'<=' if self.is_batch else '<'} ?", [self.created_at]


@dataclass
class Page:
    """A part of the list of runs and batches, newest first."""

    total: int | None  # of all that follow the position; None if it is not known
    start: Position | None = None  # before the first of these; None if there are none
    next: Position | None = None  # after the last of these
    runs: list[RunRecord] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # their keys


def _search(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return the condition for a text, with the values of its marks.

    It is found as it is stored, and as a form writes it: ``f06fa0`` for a colour, ``seed 11`` for
    the value of an input whose name contains ``seed``.
    """
    # The record is JSON in ASCII, so the text is written in the same way. Most records are not
    # parsed: they do not even contain the text or the value somewhere.
    written = json.dumps(text)[1:-1].lower()
    found = [f"instr({_WHOLE}, ?) AND instr(lower({_SEARCHED}), ?)", "instr(lower(note), lower(?))"]
    marks: list[Any] = [max(_SEPARATED.split(written), key=len), written, text]
    stripped = text.strip()
    colour = _COLOUR.fullmatch(stripped)
    if colour is not None:
        own = _VALUE.format(record=DETAILS, condition="type = 'integer' AND value = ?")
        found.append(f"instr(record, ?) AND {own}")
        marks += [str(int(colour[1], 16)), int(colour[1], 16)]
    named = _NAMED.fullmatch(stripped)
    if named is not None:
        name, value = named[1].lower().replace("_", " "), named[2].lower()
        own = "instr(replace(lower(key), '_', ' '), ?) AND (CASE type"
        own += " WHEN 'true' THEN ? IN ('on', 'true') WHEN 'false' THEN ? IN ('off', 'false')"
        own += " WHEN 'text' THEN instr(lower(value), ?)"
        own += " ELSE CAST(value AS TEXT) IN (?, ?) OR printf('#%06x', value) IN (?, ?) END)"
        stored = _stored_forms(value)
        contains = " OR ".join(["instr(lower(record), ?)"] * len(stored))
        found.append(f"({contains}) AND {_VALUE.format(record=DETAILS, condition=own)}")
        marks += [*stored, name, value, value, value, value, f"{value}.0", value, f"#{value}"]
    if named is not None and len(value) > EXACT_DIGITS and value.isdecimal():
        # SQLite's integers have 64 bits with a sign, so the digits of a larger one are compared.
        own = f"instr(lower(replace(replace({_SEARCHED}, '\"', ''), '_', ' ')), ?)"
        found.append(f"instr(record, ?) AND {own}")
        marks += [value, f"{name}:{value}"]
    return f"({' OR '.join(found)})", tuple(marks)


def _stored_forms(value: str) -> list[str]:
    """Return the texts of which a record contains one if an input has this value, in small letters.

    ``value`` is as a form writes it.
    """
    forms = [json.dumps(value)[1:-1].lower(), *_WORDS.get(value, ())]
    with suppress(ValueError):  # it is no colour
        forms.append(str(int(value.removeprefix("#"), 16)))
    return forms


@dataclass
class RunRecord:
    prompt_id: str
    machine: str
    session: str  # the ComfyUI client id with which it was queued; ComfyUI sends its events there
    created_at: str  # this and the other times: ISO 8601, UTC
    client_id: str | None = None  # the client of this package's WebSocket that started it
    status: str = "not-started"  # one of `ACTIVE` or `FINAL`
    number: float | None = None  # in ComfyUI's queue; smaller numbers are executed first
    started_at: str | None = None
    finished_at: str | None = None
    execution_time: float | None = None  # seconds
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    node_errors: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    next_seeds: dict[str, int] = field(default_factory=dict)
    cached_nodes: list[str] = field(default_factory=list)
    node_times: dict[str, float] = field(default_factory=dict)
    front: bool = False
    # Number of times that ComfyUI may have started it; above 1 if ComfyUI exited at its start
    attempts: int = 0
    # Whether its cancellation was requested, but may not have been processed by ComfyUI
    cancelling: bool = False
    workflow_id: str | None = None
    version: int | None = None
    # what its conversion has lost, and what to expect of it
    warnings: list[str] = field(default_factory=list)
    # Identifies the workflow independently of its values; None for runs older than this column
    structure: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)  # the inputs that the request gave by name
    # by node: the first number of steps, the number of phases, the steps expected from the graph
    node_steps: dict[str, list[int]] = field(default_factory=dict)
    first_id: int = 1  # of the first event that its present server emits
    # The output nodes that ComfyUI is asked to execute; None means all in its graph
    targets: list[str] | None = None
    preview_method: str | None = None
    own_keys: bool = False  # its request contained keys of a Comfy account, which are not stored
    # Id of its prompt in ComfyUI, a UUID. By default, and for runs that are older than this
    # field, the id of the run
    comfyui_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    story: list[list[str]] = field(default_factory=list)  # time, cause, new state, details
    # Id of the pool that the run was sent to, ``auto`` included; None for a named machine.
    # While the run waits for a member with room, ``machine`` is this id too
    pool: str | None = None
    retry: int = 0  # times that it may be executed again because its machine ended
    # What a user says of it; `RunRepository.save` does not store these
    pinned: bool = False  # it may not be deleted
    starred: bool = False
    note: str = ""
    # the input files on this computer that are sent to the machine that gets the run
    files: list[str] = field(default_factory=list)
    # The SHA-256 of each of these files when the run was queued; "" if it is not known
    file_hashes: dict[str, str] = field(default_factory=dict)
    # Whether ComfyUI's editor has queued it, at ComfyUI itself; then it was stored at its end
    from_editor: bool = False
    # Number of nodes that ComfyUI executes, or has in its cache; 0 if it is not known
    node_count: int = 0
    # The batch that it is a point of, and the position of that point; these do not change
    batch: str | None = None
    point: int | None = None
    # The outputs of other runs that are inputs of this one, see `chains.Reference`
    needs: list[dict[str, str]] = field(default_factory=list)
    # The runs of these that have not ended; None once the outputs are in the graph
    waiting_for: list[str] | None = None
    cancel_with: bool = False  # whether it is cancelled, not failed, with a run that it needs

    def __post_init__(self) -> None:
        self.comfyui_id = self.comfyui_id or self.prompt_id

    def changed(self, **values: Any) -> RunRecord:
        """Return a copy with other values; much faster than `dataclasses.replace`."""
        copied = object.__new__(RunRecord)
        copied.__dict__ |= self.__dict__ | values
        return copied

    @property
    def finished(self) -> bool:
        return self.status in FINAL

    @property
    def waits(self) -> bool:
        """Whether the run waits for a member of its pool that has room."""
        return self.pool is not None and self.machine == self.pool and not self.finished

    @property
    def log_fields(self) -> dict[str, Any]:
        return {"prompt_id": self.prompt_id, "machine": self.machine}


class Made(NamedTuple):
    """What a run has made, or why it has not."""

    prompt_id: str
    machine: str
    status: str
    outputs: dict[str, Any]
    error: dict[str, Any] | None


# Columns that no update sets: SQLite would write their indexes again.
_FIXED = ("prompt_id", "client_id", "created_at", "structure", "pool")
_CHANGED = ("machine", "session", "status", "number", "started_at", "finished_at", "execution_time")
_COLUMNS = (*_FIXED, *_CHANGED)
_DEFAULTS = vars(RunRecord("", "", "", ""))
# All other fields are JSON in one column, but for those that `save` leaves as they are.
MARKS = ("pinned", "starred", "note")
_APART = ("metadata", "story", "batch", "point", *MARKS)
_DETAILS = [n for n in _DEFAULTS if n not in {*_COLUMNS, *_APART}]

# What became of the webhook of a run may be stored before its end, if that is stored late.
_RECORD = (
    f"CASE WHEN json_extract({DETAILS}, '$.webhook_status') IS NULL THEN :record ELSE"
    f" json_set(:record, '$.webhook_status', json_extract({DETAILS}, '$.webhook_status')) END"
)
_SAVE = (
    f"UPDATE runs SET {', '.join(f'{name} = :{name}' for name in (*_CHANGED, 'story'))},"  # noqa: S608 - our own names
    f" record = CASE WHEN :status IN {FINAL} THEN {_RECORD} ELSE :record END"
    f" WHERE prompt_id = :prompt_id AND status NOT IN {FINAL}"
)


class RunRepository(Repository):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._batch: dict[str, dict[str, Any]] | None = None  # states not yet being stored
        self._saving: asyncio.Future[None]
        self._guard = threading.Lock()

    def add(
        self, record: RunRecord, prompt: bytes, workflow: bytes | None, *, key: str | None = None
    ) -> asyncio.Future[None]:
        """Store a new run with its graph; return a future that is done when they are stored.

        ConflictError if the id or the idempotency key is in use; its ``details["field"]`` names it.
        """
        return self._database.write(add_run, record, prompt, workflow, key)

    async def save(self, record: RunRecord) -> None:
        """Write the present state of a run, unless it does not exist in the store or has ended.

        Calls while the writer is busy are combined into one transaction, with only the newest state
        of each run.
        """
        row = _row(record)
        with self._guard:
            # A batch that could not even be started, as with a locked store, is over, too.
            if self._batch is None or self._saving.done():
                self._batch = {}
                self._saving = self._database.write(self._save_batch, self._batch)
            waiting = self._batch.get(record.prompt_id)
            if waiting is None or waiting["status"] not in FINAL:
                self._batch[record.prompt_id] = row
            saving = self._saving
        await asyncio.shield(saving)

    @writing
    def put_graph(self, db: sqlite3.Connection, prompt_id: str, prompt: bytes) -> None:
        """Replace the graph of a run, in API format."""
        before = db.execute(
            "SELECT prompt_hash FROM runs WHERE prompt_id = ?", (prompt_id,)
        ).fetchone()
        if before is not None:
            digest = keep_graph(db, prompt)
            db.execute("UPDATE runs SET prompt_hash = ? WHERE prompt_id = ?", (digest, prompt_id))
            discard_graphs(db, before)

    @writing
    def discard(self, db: sqlite3.Connection, prompt_id: str) -> None:
        """Delete a run that ComfyUI has never received; its idempotency key can be used again."""
        hashes = db.execute(
            "SELECT prompt_hash, workflow_hash FROM runs WHERE prompt_id = ?", (prompt_id,)
        ).fetchone()
        db.execute("DELETE FROM job_keys WHERE prompt_id = ?", (prompt_id,))
        db.execute("DELETE FROM runs WHERE prompt_id = ?", (prompt_id,))
        discard_graphs(db, hashes or ())

    @reading
    def get(self, db: sqlite3.Connection, prompt_id: str) -> RunRecord | None:
        row = db.execute("SELECT * FROM runs WHERE prompt_id = ?", (prompt_id,)).fetchone()
        return None if row is None else record_of(row)

    @reading
    def statuses(self, db: sqlite3.Connection, prompt_ids: Collection[str]) -> dict[str, str]:
        """Return the statuses of those runs that exist."""
        rows = db.execute(
            "SELECT prompt_id, status FROM runs"
            " WHERE prompt_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(prompt_ids)),),
        )
        return dict(rows)

    @reading
    def made(
        self, db: sqlite3.Connection, prompt_ids: Collection[str], wanted: Collection[str]
    ) -> list[tuple[Made, bytes | None]]:
        """Return what runs have made, and the graphs in API format of those that are wanted."""
        rows = db.execute(
            f"SELECT prompt_id, machine, status, json_extract({DETAILS}, '$.outputs') AS outputs,"  # noqa: S608 - constants
            f" json_extract({DETAILS}, '$.error') AS error, body FROM runs LEFT JOIN graphs"
            " ON hash = prompt_hash AND prompt_id IN (SELECT value FROM json_each(?))"
            " WHERE prompt_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(wanted)), json.dumps(list(prompt_ids))),
        )
        return [
            (
                Made(
                    row["prompt_id"],
                    row["machine"],
                    row["status"],
                    json.loads(row["outputs"] or "{}"),
                    json.loads(row["error"] or "null"),
                ),
                read_graph(row["body"]),
            )
            for row in rows
        ]

    @reading
    def was_deleted(self, db: sqlite3.Connection, prompt_id: str) -> bool:
        found = db.execute("SELECT 1 FROM deleted_ids WHERE prompt_id = ?", (prompt_id,))
        return found.fetchone() is not None

    @reading
    def prompt(self, db: sqlite3.Connection, prompt_id: str) -> StoredGraphs | None:
        """Return the JSON of a run's graph in API format and, if known, in UI format."""
        row = db.execute(
            "SELECT p.body AS prompt, w.body AS workflow FROM runs"
            " JOIN graphs p ON p.hash = prompt_hash LEFT JOIN graphs w ON w.hash = workflow_hash"
            " WHERE prompt_id = ?",
            (prompt_id,),
        ).fetchone()
        prompt = read_graph(row["prompt"]) if row is not None else None
        return None if prompt is None else (prompt, read_graph(row["workflow"]))

    @reading
    def newest(
        self, db: sqlite3.Connection, *, limit: int = 100, offset: int = 0, which: RunFilter = ALL
    ) -> list[RunRecord]:
        condition, values = which.where()
        rows = db.execute(
            f"SELECT * FROM runs WHERE {condition} ORDER BY id DESC LIMIT ? OFFSET ?",  # noqa: S608 - only marks are put in
            (*values, limit, offset),
        )
        return [record_of(row) for row in rows]

    @reading
    def page(
        self,
        db: sqlite3.Connection,
        *,
        limit: int,
        offset: int = 0,
        which: RunFilter,
        cursor: Position | None = None,
        batches: bool = False,
        count: bool = True,
    ) -> Page:
        """Return some of the selected runs, newest first by the time of their creation.

        They follow the cursor. With ``batches``, those of the same workflow, labels and time stand
        between the runs.
        """
        tables = [("runs", *which.where())] + [("batches", *which.of_batches())] * batches
        selects, counts, marks = list[str](), list[str](), list[Any]()
        for table, condition, values in tables:
            is_batch = table == "batches"
            older, own = cursor.older(batches=is_batch) if cursor else ("TRUE", [])
            chosen = f"FROM {table} WHERE {condition} AND {older}"
            place = f"id + {_BATCHES}" if is_batch else "id"
            selects.append(f"SELECT created_at, {place} AS place {chosen}")
            counts.append(f"(SELECT count(*) {chosen})")
            marks += [*values, *own]
        # the indexes have the runs in this order
        rows = db.execute(
            f"{' UNION ALL '.join(selects)} ORDER BY created_at DESC, place DESC LIMIT ? OFFSET ?",
            (*marks, limit, offset),
        ).fetchall()
        found = Page(None)
        if len(rows) < limit and (rows or not offset):
            found.total = offset + len(rows)
        elif count:
            (found.total,) = db.execute(f"SELECT {' + '.join(counts)}", marks).fetchone()
        listed = [Position(at, place >= _BATCHES, place % _BATCHES) for at, place in rows]
        if listed:
            found.start = listed[0]._replace(number=listed[0].number + 1)
            found.next = listed[-1]
        found.batches = [each.number for each in listed if each.is_batch]
        ids = json.dumps([each.number for each in listed if not each.is_batch])
        records = db.execute(
            "SELECT * FROM runs WHERE id IN (SELECT value FROM json_each(?))"
            " ORDER BY created_at DESC, id DESC",
            (ids,),
        )
        found.runs = [*map(record_of, records)]
        return found

    @reading
    def ended_after(self, db: sqlite3.Connection, moment: str, limit: int) -> list[RunRecord]:
        """Return the first single runs that ended at a time or later, in the order of their ends.

        Only the newest `SEARCHED_FOR_ENDS` runs are looked at.
        """
        rows = db.execute(
            "SELECT * FROM runs WHERE id > (SELECT max(id) FROM runs) - ? AND finished_at >= ?"
            " AND batch IS NULL ORDER BY finished_at, id LIMIT ?",
            (SEARCHED_FOR_ENDS, moment, limit),
        )
        return [record_of(row) for row in rows]

    @writing
    def mark(
        self, db: sqlite3.Connection, prompt_ids: Sequence[str], marks: Mapping[str, Any]
    ) -> None:
        """Set `MARKS` of runs; NotFoundError if one does not exist: then nothing is changed."""
        ids = json.dumps(list(prompt_ids))
        unknown = db.execute(
            "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT prompt_id FROM runs)", (ids,)
        ).fetchall()
        if unknown:
            names = [row[0] for row in unknown]
            raise NotFoundError.of_field(
                "prompt_ids", f"there is no run {names[0]!r}", prompt_ids=names
            )
        columns = ", ".join(f"{name} = ?" for name in MARKS if name in marks)
        db.execute(
            f"UPDATE runs SET {columns} WHERE prompt_id IN (SELECT value FROM json_each(?))",  # noqa: S608 - our own names
            (*(marks[name] for name in MARKS if name in marks), ids),
        )

    @reading
    def node_times(
        self, db: sqlite3.Connection, structure: str, machine: str, limit: int
    ) -> list[tuple[dict[str, float], dict[str, list[int]]]]:
        """Return ``node_times`` and ``node_steps`` of successful runs, newest first."""
        rows = db.execute(
            f"SELECT json_extract({DETAILS}, '$.node_times') AS times,"  # noqa: S608 - constants
            f" json_extract({DETAILS}, '$.node_steps') AS steps FROM runs"
            " WHERE structure = ? AND machine = ? AND status = 'success' ORDER BY id DESC LIMIT ?",
            (structure, machine, limit),
        )
        return [
            (json.loads(row["times"] or "{}"), json.loads(row["steps"] or "{}")) for row in rows
        ]

    @reading
    def has_client(self, db: sqlite3.Connection, client_id: str) -> bool:
        found = db.execute("SELECT 1 FROM runs WHERE client_id = ? LIMIT 1", (client_id,))
        return found.fetchone() is not None

    @reading
    def _active(self, db: sqlite3.Connection, sessions: Collection[str]) -> list[RunRecord]:
        rows = db.execute(
            f"SELECT * FROM runs WHERE status IN {ACTIVE}"  # noqa: S608 - constants
            " AND session IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(list(sessions)),),
        )
        return [record_of(row) for row in rows]

    async def active(self, sessions: Collection[str]) -> list[RunRecord]:
        """Return the runs of some servers that have not ended, oldest first.

        Those whose records cannot be read are stored as failed: no server can follow them.
        """
        found = await self._active(sessions)
        for record in [record for record in found if record.error == UNREADABLE]:
            found.remove(record)
            await self.save(record.changed(status="failed", finished_at=utc_now()))
        return found

    def _save_batch(self, connection: sqlite3.Connection, batch: dict[str, dict[str, Any]]) -> None:
        with self._guard:
            if self._batch is batch:
                self._batch = None
        connection.executemany(_SAVE, batch.values())


def _row(record: RunRecord) -> dict[str, Any]:
    """Copy a record to a row before the writer runs, since the record may change until then.

    Details that have their default values are left out.
    """
    values = vars(record)
    row = {name: values[name] for name in _COLUMNS}
    row["record"] = json.dumps(
        {name: values[name] for name in _DETAILS if values[name] != _DEFAULTS[name]}
    )
    row["story"] = json.dumps(record.story, separators=(",", ":"))
    return row


def record_of(row: sqlite3.Row) -> RunRecord:
    columns = {name: row[name] for name in _COLUMNS}
    try:
        story = json.loads(row["story"] or "[]")
        metadata = json.loads(row["metadata"] or "{}")
        stored = json.loads(row["record"])  # a later version may have further fields
        details = {name: stored[name] for name in _DETAILS if name in stored}
    except (ValueError, TypeError) as error:
        log.error("The record of run %s cannot be read: %s", row["prompt_id"], error)  # noqa: TRY400 - no traceback for data
        story, metadata, details = [], {}, {"error": {**UNREADABLE}}
    record = RunRecord(
        **columns,
        **details,
        metadata=metadata,
        story=story,
        pinned=bool(row["pinned"]),
        starred=bool(row["starred"]),
        note=row["note"],
        batch=row["batch"],
        point=row["point"],
    )
    if record.number is not None and float(record.number).is_integer():
        record.number = int(record.number)  # the column returns floats; ComfyUI sent an integer
    return record


def add_run(
    connection: sqlite3.Connection,
    record: RunRecord,
    prompt: bytes,
    workflow: bytes | None,
    key: str | None = None,
) -> None:
    row = _row(record)
    row["metadata"] = json.dumps(record.metadata) if record.metadata else None
    row["batch"], row["point"] = record.batch, record.point
    row["prompt_hash"] = keep_graph(connection, prompt)
    row["workflow_hash"] = None if workflow is None else keep_graph(connection, workflow)
    try:
        insert(connection, "runs", row)
    except sqlite3.IntegrityError:
        raise ConflictError.of_field(
            "prompt_id", f"a run {record.prompt_id!r} exists already", prompt_id=record.prompt_id
        ) from None
    if key is not None:
        _add_key(connection, key, record.prompt_id)


def _add_key(connection: sqlite3.Connection, key: str, prompt_id: str) -> None:
    connection.execute(
        "DELETE FROM job_keys WHERE deleted_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)",
        (f"-{KEPT_FOR}",),
    )
    try:
        # Earlier versions compared the bodies of requests; this column is not used any more.
        connection.execute(
            "INSERT INTO job_keys (key, body, prompt_id) VALUES (?, '', ?)", (key, prompt_id)
        )
    except sqlite3.IntegrityError:
        raise ConflictError.of_field(IDEMPOTENCY_KEY, "was used for an earlier request") from None
