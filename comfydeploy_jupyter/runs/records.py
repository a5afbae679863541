"""The record of every run."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, NotFoundError
from ..store.database import DETAILS, Repository
from ..store.graphs import discard_graphs, keep_graph, read_graph
from ..util.timestamps import utc_now
from .filters import ALL, RunFilter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..store.database import Database

log = logging.getLogger(__name__)

ACTIVE = ("not-started", "queued", "running", "uploading")
FINAL = ("success", "failed", "cancelled")
IDEMPOTENCY_KEY = "Idempotency-Key"
UNREADABLE = {
    "type": "RecordUnreadable",
    "message": "The stored record of this run cannot be read",
    "node_id": None,
    "node_type": None,
}
KEPT_FOR = "7 days"  # an idempotency key after the deletion of its run


@dataclass
class RunRecord:
    """The stored data of one run.

    Attributes
    ----------
    prompt_id : str
        Id of the run, which may be any text.
    machine : str
        Id of the machine that the run was sent to.
    session : str
        The ComfyUI client id with which it was queued; ComfyUI sends its events there.
    client_id : str or None
        The client of this package's WebSocket that started the run.
    status : str
        One of ``not-started``, ``queued``, ``running``, ``uploading``, ``success``, ``failed``,
        ``cancelled``.
    number : float or None
        Number in ComfyUI's queue; runs with smaller numbers are executed first.
    created_at, started_at, finished_at : str or None
        Times in ISO 8601, UTC.
    execution_time : float or None
        Seconds from the start to the end of the execution.
    attempts : int
        Number of times that ComfyUI may have started it; above 1 if ComfyUI exited at its start.
    cancelling : bool
        Whether its cancellation was requested, but may not have been processed by ComfyUI.
    workflow_id, version : str and int, or None
        The stored workflow and the number of its version that was run.
    warnings : list of str
        What was lost when its graph was converted.
    structure : str or None
        Identifies the workflow independently of its values; None for runs older than this column.
    inputs : dict
        The inputs that the request gave by name.
    node_steps : dict
        By node, for nodes with steps: the first number of steps, the number of phases, and the
        number of steps expected from the graph.
    first_id : int
        Id of the first event that its present server emits.
    targets : list of str or None
        The output nodes that ComfyUI is asked to execute; None means all in its graph.
    preview_method : str or None
        The method for ComfyUI's previews, if the request contains one.
    own_keys : bool
        Whether the request contained keys of a Comfy account, which are not stored.
    comfyui_id : str
        Id of its prompt in ComfyUI, a UUID. By default, and for runs that are older than this
        field, the id of the run.
    metadata : dict of str to str
        Its labels, which never change.
    story : list of list of str
        The events of its life: each with time, cause, new state and, if known, details.
    pool : str or None
        Id of the pool that the run was sent to, ``auto`` included; None for a named machine. While
        the run waits for a member with room, ``machine`` is this id too.
    retry : int
        Number of times that it may be executed again because the machine that executed it ended.
    pinned : bool
        Whether the run may not be deleted. `RunRepository.save` does not store it.
    files : list of str
        The input files on this computer that are sent to the machine that gets the run.
    file_hashes : dict of str to str
        The SHA-256 of each of these files when the run was queued; "" if it is not known.
    from_editor : bool
        Whether ComfyUI's editor has queued it, at ComfyUI itself; then it was stored at its end.
    node_count : int
        Number of nodes that ComfyUI executes, or has in its cache; 0 if it is not known.
    """

    prompt_id: str
    machine: str
    session: str
    created_at: str
    client_id: str | None = None
    status: str = "not-started"
    number: float | None = None
    started_at: str | None = None
    finished_at: str | None = None
    execution_time: float | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    node_errors: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    next_seeds: dict[str, int] = field(default_factory=dict)
    cached_nodes: list[str] = field(default_factory=list)
    node_times: dict[str, float] = field(default_factory=dict)
    front: bool = False
    attempts: int = 0
    cancelling: bool = False
    workflow_id: str | None = None
    version: int | None = None
    warnings: list[str] = field(default_factory=list)
    structure: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    node_steps: dict[str, list[int]] = field(default_factory=dict)
    first_id: int = 1
    targets: list[str] | None = None
    preview_method: str | None = None
    own_keys: bool = False
    comfyui_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    story: list[list[str]] = field(default_factory=list)
    pool: str | None = None
    retry: int = 0
    pinned: bool = False
    files: list[str] = field(default_factory=list)
    file_hashes: dict[str, str] = field(default_factory=dict)
    from_editor: bool = False
    node_count: int = 0

    def __post_init__(self) -> None:
        self.comfyui_id = self.comfyui_id or self.prompt_id

    def changed(self, **values: Any) -> RunRecord:
        """Return a copy with other values; much faster than `dataclasses.replace`."""
        copied = object.__new__(RunRecord)
        copied.__dict__ |= self.__dict__ | values
        return copied

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINAL

    @property
    def waits(self) -> bool:
        """Whether the run waits for a member of its pool that has room."""
        return self.pool is not None and self.machine == self.pool and not self.finished

    @property
    def log_fields(self) -> dict[str, Any]:
        """The ``extra`` of log lines about the run."""
        return {"prompt_id": self.prompt_id, "machine": self.machine}


_COLUMNS = (
    "prompt_id",
    "machine",
    "session",
    "client_id",
    "status",
    "number",
    "created_at",
    "started_at",
    "finished_at",
    "execution_time",
    "structure",
    "pool",
)
_DETAILS = (
    "outputs",
    "error",
    "node_errors",
    "seeds",
    "next_seeds",
    "cached_nodes",
    "node_times",
    "front",
    "attempts",
    "cancelling",
    "workflow_id",
    "version",
    "warnings",
    "inputs",
    "node_steps",
    "first_id",
    "targets",
    "preview_method",
    "own_keys",
    "comfyui_id",
    "retry",
    "files",
    "file_hashes",
    "from_editor",
    "node_count",
)


_DEFAULTS = vars(RunRecord("", "", "", ""))

_SAVE = (
    f"UPDATE runs SET {', '.join(f'{name} = :{name}' for name in (*_COLUMNS, 'record', 'story'))}"  # noqa: S608 - our own names
    f" WHERE prompt_id = :prompt_id AND status NOT IN {FINAL}"
)


class RunRepository(Repository):
    """Reads and writes run records."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._batch: dict[str, dict[str, Any]] | None = None  # states not yet being stored
        self._saving: asyncio.Future[None]
        self._guard = threading.Lock()

    def add(
        self, record: RunRecord, prompt: bytes, workflow: bytes | None, *, key: str | None = None
    ) -> asyncio.Future[None]:
        """Store a new run with its graph; return a future that is done when they are stored.

        Parameters
        ----------
        record : RunRecord
            The new run.
        prompt : bytes
            The graph in API format, as JSON.
        workflow : bytes or None
            The graph in UI format, as JSON.
        key : str, optional
            The idempotency key of its request, which no other run may have. A key can be used again
            `KEPT_FOR` after its run was deleted.

        Raises
        ------
        ConflictError
            If the prompt id or the key is in use; ``details["field"]`` names it.
        """
        return self._database.begin_write(add_run, record, prompt, workflow, key)

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
                self._saving = self._database.begin_write(self._save_batch, self._batch)
            waiting = self._batch.get(record.prompt_id)
            if waiting is None or waiting["status"] not in FINAL:
                self._batch[record.prompt_id] = row
            saving = self._saving
        await asyncio.shield(saving)

    async def discard(self, prompt_id: str) -> None:
        """Delete a run that ComfyUI has never received; its idempotency key can be used again."""
        await self._database.write(_discard, prompt_id)

    async def get(self, prompt_id: str) -> RunRecord | None:
        """Return a run, or None."""
        return await self._database.read(_get, prompt_id)

    async def was_deleted(self, prompt_id: str) -> bool:
        """Return whether a run with this id was deleted, by this server or an earlier one."""
        return await self._database.read(_was_deleted, prompt_id)

    async def get_with_graph(
        self, prompt_id: str
    ) -> tuple[RunRecord | None, tuple[bytes, bytes | None] | None]:
        """Return the results of `get` and `prompt`."""
        return await self._database.read(lambda db: (_get(db, prompt_id), _prompt(db, prompt_id)))

    async def prompt(self, prompt_id: str) -> tuple[bytes, bytes | None] | None:
        """Return the JSON of a run's graph in API format and, if known, in UI format."""
        return await self._database.read(_prompt, prompt_id)

    async def newest(
        self, *, limit: int = 100, offset: int = 0, which: RunFilter = ALL
    ) -> list[RunRecord]:
        """Return runs, newest first."""
        return await self._database.read(_list, limit, offset, which)

    async def pin(self, prompt_ids: Sequence[str], pinned: bool) -> None:
        """Pin runs, or unpin them; a pinned run may not be deleted.

        Raises
        ------
        NotFoundError
            If one of them does not exist; then nothing is changed.
        """
        await self._database.write(_pin, prompt_ids, pinned)

    async def node_times(
        self, structure: str, machine: str, limit: int
    ) -> list[tuple[dict[str, float], dict[str, list[int]]]]:
        """Return the work of nodes in successful runs of a workflow, the newest first.

        Parameters
        ----------
        structure, machine : str
            The workflow and the machine.
        limit : int
            Maximum number of runs.

        Returns
        -------
        list of tuple
            ``node_times`` and ``node_steps`` of each run.
        """
        return await self._database.read(_node_times, structure, machine, limit)

    async def has_client(self, client_id: str) -> bool:
        """Return whether a client of this package's WebSocket has ever started a run."""
        return await self._database.read(_has_client, client_id)

    async def active(self, sessions: Collection[str]) -> list[RunRecord]:
        """Return the runs of some servers that have not ended, oldest first.

        Those whose records cannot be read are stored as failed: no server can follow them.
        """
        found = await self._database.read(_active, sessions)
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
    """Return the record in a row of the table of runs."""
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
        **columns, **details, metadata=metadata, story=story, pinned=bool(row["pinned"])
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
    """Store a new run with its graph; see `RunRepository.add`."""
    row = _row(record)
    row["metadata"] = json.dumps(record.metadata) if record.metadata else None
    row["prompt_hash"] = keep_graph(connection, prompt)
    row["workflow_hash"] = None if workflow is None else keep_graph(connection, workflow)
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    try:
        connection.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", row)  # noqa: S608 - our own column names
    except sqlite3.IntegrityError:
        raise ConflictError(
            f"prompt_id: a run {record.prompt_id!r} exists already",
            details={"field": "prompt_id", "prompt_id": record.prompt_id},
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
        raise ConflictError(
            f"{IDEMPOTENCY_KEY}: was used for an earlier request",
            details={"field": IDEMPOTENCY_KEY},
        ) from None


def _discard(connection: sqlite3.Connection, prompt_id: str) -> None:
    hashes = connection.execute(
        "SELECT prompt_hash, workflow_hash FROM runs WHERE prompt_id = ?", (prompt_id,)
    ).fetchone()
    connection.execute("DELETE FROM job_keys WHERE prompt_id = ?", (prompt_id,))
    connection.execute("DELETE FROM runs WHERE prompt_id = ?", (prompt_id,))
    discard_graphs(connection, hashes or ())


def _was_deleted(connection: sqlite3.Connection, prompt_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM deleted_ids WHERE prompt_id = ?", (prompt_id,))
    return found.fetchone() is not None


def _get(connection: sqlite3.Connection, prompt_id: str) -> RunRecord | None:
    row = connection.execute("SELECT * FROM runs WHERE prompt_id = ?", (prompt_id,)).fetchone()
    return None if row is None else record_of(row)


def _prompt(connection: sqlite3.Connection, prompt_id: str) -> tuple[bytes, bytes | None] | None:
    row = connection.execute(
        "SELECT p.body AS prompt, w.body AS workflow FROM runs"
        " JOIN graphs p ON p.hash = prompt_hash LEFT JOIN graphs w ON w.hash = workflow_hash"
        " WHERE prompt_id = ?",
        (prompt_id,),
    ).fetchone()
    prompt = read_graph(row["prompt"]) if row is not None else None
    return None if prompt is None else (prompt, read_graph(row["workflow"]))


def _list(
    connection: sqlite3.Connection, limit: int, offset: int, which: RunFilter
) -> list[RunRecord]:
    condition, values = which.where()
    rows = connection.execute(
        f"SELECT * FROM runs WHERE {condition} ORDER BY id DESC LIMIT ? OFFSET ?",  # noqa: S608 - only marks are put in
        (*values, limit, offset),
    )
    return [record_of(row) for row in rows]


def _active(connection: sqlite3.Connection, sessions: Collection[str]) -> list[RunRecord]:
    rows = connection.execute(
        f"SELECT * FROM runs WHERE status IN {ACTIVE}"  # noqa: S608 - constants
        " AND session IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(list(sessions)),),
    )
    return [record_of(row) for row in rows]


def _pin(connection: sqlite3.Connection, prompt_ids: Sequence[str], pinned: bool) -> None:
    ids = json.dumps(list(prompt_ids))
    unknown = connection.execute(
        "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT prompt_id FROM runs)", (ids,)
    ).fetchall()
    if unknown:
        names = [row[0] for row in unknown]
        raise NotFoundError(
            f"prompt_ids: there is no run {names[0]!r}",
            details={"field": "prompt_ids", "prompt_ids": names},
        )
    connection.execute(
        "UPDATE runs SET pinned = ? WHERE prompt_id IN (SELECT value FROM json_each(?))",
        (pinned, ids),
    )


def _node_times(
    connection: sqlite3.Connection, structure: str, machine: str, limit: int
) -> list[tuple[dict[str, float], dict[str, list[int]]]]:
    rows = connection.execute(
        f"SELECT json_extract({DETAILS}, '$.node_times') AS times,"  # noqa: S608 - constants
        f" json_extract({DETAILS}, '$.node_steps') AS steps FROM runs"
        " WHERE structure = ? AND machine = ? AND status = 'success' ORDER BY id DESC LIMIT ?",
        (structure, machine, limit),
    )
    return [(json.loads(row["times"] or "{}"), json.loads(row["steps"] or "{}")) for row in rows]


def _has_client(connection: sqlite3.Connection, client_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM runs WHERE client_id = ? LIMIT 1", (client_id,))
    return found.fetchone() is not None
