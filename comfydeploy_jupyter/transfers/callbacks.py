"""Delivers messages to status endpoints: in order for each run, stored until delivered."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from ..store.database import DETAILS, insert, readable
from ..util.tasks import BackgroundTasks, close_each, end, report, wait_for
from .http import BACKOFF, TransferError, request

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    import aiohttp

    from ..store.database import Database
    from ..store.session import Session
    from ..util.times import Backoff

log = logging.getLogger(__name__)

MAX_BACKLOG = 64  # number of undelivered messages of a run above which outdated ones are dropped
MAX_BACKLOG_BYTES = 256 * 1024
ANSWER_TIMEOUT = 30.0  # seconds that an endpoint has to answer one message
GATHER = 0.02  # seconds in which changes are collected for one write to the store
BACK_SOON = 600.0  # age in seconds above which a message does not keep the server running
MAX_REFUSALS = 4  # answers such as 400, after which a message is skipped that is not the end
# The undelivered messages for one server above which the oldest are dropped, the end of no run.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024**2
GIVEN_UP_AFTER = 3 * 24 * 3600.0  # seconds after which a message is discarded


@dataclass
class CallbackTarget:
    """The endpoints to which the states and outputs of one run are sent, and their tokens.

    They are from the request of the run, and are never part of a reply.
    """

    prompt_id: str
    session: str  # of the server that follows the run
    status_endpoint: str | None = None
    file_upload_endpoint: str | None = None  # returns addresses for outputs
    token: str | None = field(default=None, repr=False)
    gpu_event_id: str | None = None  # is sent with each status
    reported_status: str | None = None  # the last one that was reported, or waits for delivery
    reported_outputs: list[str] = field(default_factory=list)  # nodes
    reported_error: bool = False
    # If the endpoint is a webhook of ComfyDeploy's SDKs: ``view_url``, the absolute address of the
    # ``view`` route, and ``intermediate``, whether it receives more than the end.
    webhook: dict[str, Any] | None = None


@dataclass(eq=False)
class Callback:
    prompt_id: str
    number: int  # position among the messages of the run
    body: bytes
    passing: bool  # a later message replaces it
    created_at: float  # seconds since the epoch
    delivered: bool = False  # or dropped
    age: float = 0.0  # seconds between its creation and its arrival at this server


class _Server:
    """The undelivered messages for one server, oldest first, but not the newest of each run.

    The newest message of a run may be its end, which is never dropped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: dict[Callback, _Queue] = {}
        self.bytes = 0

    def excess(self) -> list[tuple[Callback, _Queue]]:
        """Return the messages to drop if too many wait; those that a later one replaces first."""
        count, size = len(self.waiting), self.bytes
        if count <= MAX_WAITING and size <= MAX_WAITING_BYTES:
            return []
        found = []
        for message in sorted(self.waiting, key=lambda message: not message.passing):
            if count <= MAX_WAITING * 3 / 4 and size <= MAX_WAITING_BYTES * 3 / 4:
                break
            found.append((message, self.waiting[message]))
            count, size = count - 1, size - len(message.body)
        log.error("%s does not accept messages: the oldest %d are dropped", self.name, len(found))
        return found


class _Queue:
    def __init__(self, target: CallbackTarget, server: _Server) -> None:
        self.target = target
        self.server = server
        self.waiting: deque[Callback] = deque()
        self.bytes = 0
        self.last = False  # whether no message will follow
        self.accepted = True  # whether the last message that was sent was accepted
        self.task: asyncio.Task[None] | None = None

    def put(self, message: Callback) -> None:
        if self.waiting:
            newest = self.waiting[-1]
            self.server.waiting[newest] = self
            self.server.bytes += len(newest.body)
        self.waiting.append(message)
        self.bytes += len(message.body)

    @property
    def end(self) -> Callback | None:
        return self.waiting[-1] if self.last and self.waiting else None

    def take(self, message: Callback) -> None:
        self.waiting.remove(message)
        self.bytes -= len(message.body)
        if self.server.waiting.pop(message, None) is not None:
            self.server.bytes -= len(message.body)

    def stale(self) -> list[Callback]:
        """Return the messages to drop if too many wait: older ones that a later one replaces.

        The first message, which is being delivered, and the newest passing one are kept.
        """
        if len(self.waiting) <= MAX_BACKLOG and self.bytes <= MAX_BACKLOG_BYTES:
            return []
        passing = [message for message in list(self.waiting)[1:] if message.passing][:-1]
        return passing[: len(passing) // 2 + 1]


class Callbacks:
    """Delivers messages to the status endpoints of runs.

    `send` only adds a message in memory, so that no run has to wait. One task for each run delivers
    its messages in order; another task writes undelivered messages to the store in batches.
    """

    def __init__(
        self,
        database: Database,
        session: Session,
        http: aiohttp.ClientSession,
        key_for: Callable[[str], str | None],
        *,
        backoff: Backoff = BACKOFF,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self._database = database
        self._session = session
        self._http = http
        self._key_for = key_for
        self._backoff = backoff
        self._answer_timeout = answer_timeout
        self._queues: dict[str, _Queue] = {}
        self._servers: WeakValueDictionary[str, _Server] = WeakValueDictionary()
        self._next_number = 1  # never one that an earlier run with the same id has used
        self._new: list[Callback] = []
        self._gone: list[Callback] = []
        self._changed: dict[str, CallbackTarget] = {}
        self._settled: dict[str, str | None] = {}  # by run: what came of its webhook, if it has one
        self._writing: dict[str, str | None] = {}  # those that are being stored
        self._to_write = asyncio.Event()
        self._tasks, self._writer = BackgroundTasks(log), BackgroundTasks(log)

    async def open(self) -> None:
        what = "Storing messages to status endpoints"
        self._writer.keep(self._write, what, again=self._backoff)
        await self.recover(self._session.claimed)

    async def recover(self, sessions: Collection[str]) -> list[CallbackTarget]:
        """Continue to deliver the messages of exited servers; return the targets of their runs."""
        targets, messages = await self._database.write(recover_messages, sessions, self._session.id)
        for target in targets:
            self._queues[target.prompt_id] = _Queue(target, self._server(target))
        for message in messages:
            self._queues[message.prompt_id].put(message)
            self._next_number = max(self._next_number, message.number + 1)
        for target in targets:
            self._deliver(self._queues[target.prompt_id])
        return targets

    async def close(self) -> None:
        """Stop delivering. Undelivered messages stay in the store."""
        await close_each(self._tasks.close, self._writer.close)
        await self.flush()

    async def add(self, target: CallbackTarget) -> None:
        """Store the target of a new run; after this its messages can be sent.

        An earlier run, which was deleted, may have had the same id. Its messages come first; they
        are dropped if the new run has another endpoint.
        """
        target.session = self._session.id
        queue = self._queues.setdefault(target.prompt_id, _Queue(target, self._server(target)))
        earlier, queue.target, queue.last = queue.target, target, False
        try:
            await self._database.write(_add_target, _row(target))
        except BaseException:
            queue.target, queue.last = earlier, True
            self._settle(queue)
            raise
        if earlier.status_endpoint != target.status_endpoint:
            await end([] if queue.task is None else [queue.task])
            queue.task = None
            for message in list(queue.waiting):
                self._drop(queue, message)
            queue.server = self._server(target)

    def target(self, prompt_id: str) -> CallbackTarget | None:
        queue = self._queues.get(prompt_id)
        return None if queue is None else queue.target

    async def webhook_status(self, prompt_id: str) -> str | None:
        """Return what came of the webhook of a run; None if it has none.

        ``success``: it accepted the end of the run; ``failed``: it did not, and gets no further
        message; ``pending``: messages may follow.
        """
        target = self.target(prompt_id)
        if target is not None:
            return None if target.webhook is None else "pending"
        for outcomes in (self._settled, self._writing):
            if prompt_id in outcomes:
                return outcomes[prompt_id]
        return await self._database.read(_webhook_status, prompt_id)

    def targets(self) -> list[CallbackTarget]:
        return [queue.target for queue in self._queues.values()]

    @property
    def waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def is_delivering(self) -> bool:
        """Whether there are undelivered messages younger than `BACK_SOON`."""
        first = (queue.waiting[0] for queue in self._queues.values() if queue.waiting)
        return any(time.time() - message.created_at < BACK_SOON for message in first)

    def send(self, target: CallbackTarget, body: bytes, *, passing: bool = False) -> None:
        """Send a message after all earlier ones of the run; with it, the target is stored.

        A later message replaces a ``passing`` one, which is dropped first if too many wait.
        """
        queue = self._queues.get(target.prompt_id)
        if queue is None or not target.status_endpoint:
            return
        message = Callback(target.prompt_id, self._next_number, body, passing, time.time())
        self._next_number += 1
        queue.put(message)
        self._new.append(message)
        self._changed[target.prompt_id] = target
        for stale in queue.stale():
            self._drop(queue, stale)
        for excess, of in queue.server.excess():
            self._drop(of, excess)
        self._to_write.set()
        self._deliver(queue)

    def finish(self, target: CallbackTarget) -> None:
        """Declare that a run sends no more messages; the last delivery deletes its target."""
        queue = self._queues.get(target.prompt_id)
        if queue is not None:
            queue.last = True
            self._settle(queue)

    def _deliver(self, queue: _Queue) -> None:
        if queue.task is None and queue.waiting:
            queue.task = self._tasks.keep(
                partial(self._deliver_all, queue),
                f"Delivering the messages of run {queue.target.prompt_id}",
                log_fields={"prompt_id": queue.target.prompt_id},
                again=self._backoff,
            )

    async def _deliver_all(self, queue: _Queue) -> None:
        while queue.waiting:
            message = queue.waiting[0]
            queue.accepted = await self._deliver_one(queue, message)
            if not message.delivered:
                self._drop(queue, message)
        queue.task = None
        self._settle(queue)

    async def _deliver_one(self, queue: _Queue, message: Callback) -> bool:
        """Send a message until it is accepted or given up; return whether it was accepted."""
        target = queue.target
        endpoint = target.status_endpoint or ""
        attempt = refusals = 0
        # The system clock may be changed in the meantime. Each message is tried at least once.
        given_up_at = time.monotonic() + GIVEN_UP_AFTER - message.age
        fields = {"prompt_id": target.prompt_id}
        while not attempt or time.monotonic() < given_up_at:
            attempt += 1
            after = None
            try:
                await wait_for(self._post(endpoint, target, message), self._answer_timeout)
            except asyncio.TimeoutError:
                why = f"The status endpoint did not answer within {self._answer_timeout:g} s"
            except TransferError as error:
                why, after = error.message, error.after
                refusals += not error.again
            except Exception as error:
                why = "The message could not be sent"
                refusals += 1
                if attempt == 1:
                    text = "A message of run %s could not be sent"
                    report(log, text, target.prompt_id, error=error, extra=fields)
            else:
                return True
            if attempt == 1:
                text = "Run %s: %s; the next attempt follows"
                log.warning(text, target.prompt_id, why, extra=fields)
            if refusals >= MAX_REFUSALS and message is not queue.end:
                log.error("Run %s: %s; the message is skipped", target.prompt_id, why, extra=fields)
                return False
            await asyncio.sleep(self._backoff.pause(attempt, after))
            if message.delivered:  # too many wait, and it was dropped
                return False
        text = "A message of run %s could not be delivered in time"
        log.error(text, target.prompt_id, extra=fields)
        return False

    async def _post(self, endpoint: str, target: CallbackTarget, message: Callback) -> None:
        async with request(
            self._http,
            "POST",
            endpoint,
            what="The status endpoint",
            token=target.token or self._key_for(endpoint),
            headers={"Content-Type": "application/json"},
            data=message.body,
        ):
            pass  # the body of the response is not needed

    def _server(self, target: CallbackTarget) -> _Server:
        endpoint = target.status_endpoint or ""
        with suppress(ValueError):
            endpoint = urlsplit(endpoint).netloc.rpartition("@")[2]
        found = self._servers.get(endpoint)
        if found is None:
            found = self._servers[endpoint] = _Server(endpoint)
        return found

    def _drop(self, queue: _Queue, message: Callback) -> None:
        queue.take(message)
        message.delivered = True
        self._gone.append(message)
        self._to_write.set()

    def _settle(self, queue: _Queue) -> None:
        if queue.last and not queue.waiting:
            self._queues.pop(queue.target.prompt_id, None)
            outcome = "success" if queue.accepted else "failed"
            webhook = queue.target.webhook
            self._settled[queue.target.prompt_id] = None if webhook is None else outcome
            self._to_write.set()

    async def _write(self) -> None:
        while True:
            await self._to_write.wait()
            await self.flush()
            await asyncio.sleep(GATHER)

    async def flush(self) -> None:
        """Write changes to the store; a message that has been delivered by then is never written.

        Changes that could not be written, or may not have been, are written the next time.
        """
        self._to_write.clear()
        new, gone = [m for m in self._new if not m.delivered], self._gone
        # A later run may have got the id of a run whose changes could not be written before.
        targets = [t for t in self._changed.values() if self.target(t.prompt_id) in (None, t)]
        settled = {key: how for key, how in self._settled.items() if key not in self._queues}
        self._new, self._gone, self._changed, self._settled = [], [], {}, {}
        self._writing = settled
        try:
            if new or gone or targets or settled:
                rows = [_row(target) for target in targets]
                await self._database.write(_apply, rows, new, gone, settled)
        except BaseException:
            self._new, self._gone = new + self._new, gone + self._gone
            self._changed = {target.prompt_id: target for target in targets} | self._changed
            self._settled = settled | self._settled
            self._to_write.set()
            raise
        finally:
            self._writing = {}


# -- in the store -----------------------------------------------------------------------------

_PLAIN = (
    *("prompt_id", "session", "status_endpoint", "file_upload_endpoint", "token", "gpu_event_id"),
)
_STATE = {  # the keys in the column ``told``, and the attributes
    "told_status": "reported_status",
    "told_outputs": "reported_outputs",
    "told_error": "reported_error",
    "webhook": "webhook",
}


def _row(target: CallbackTarget) -> dict[str, Any]:
    row = {name: getattr(target, name) for name in _PLAIN}
    state = {key: getattr(target, name) for key, name in _STATE.items()}
    return {**row, "told": json.dumps(state)}


def _target(row: sqlite3.Row) -> CallbackTarget:
    told = json.loads(row["told"])  # a later version may have further keys
    state = {name: told[key] for key, name in _STATE.items() if key in told}
    return CallbackTarget(**{name: row[name] for name in _PLAIN}, **state)


def _add_target(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in row)
    insert(connection, "orders", row, f"ON CONFLICT (prompt_id) DO UPDATE SET {changes}")


def _apply(
    connection: sqlite3.Connection,
    targets: list[dict[str, Any]],
    new: Sequence[Callback],
    gone: Sequence[Callback],
    settled: Mapping[str, str | None],
) -> None:
    connection.executemany(
        "UPDATE orders SET told = ? WHERE prompt_id = ?",
        [(row["told"], row["prompt_id"]) for row in targets],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO callbacks (prompt_id, number, passing, created_at, body)"
        " SELECT prompt_id, ?, ?, ?, ? FROM orders WHERE prompt_id = ?",
        [(c.number, c.passing, c.created_at, c.body, c.prompt_id) for c in new],
    )
    connection.executemany(
        "DELETE FROM callbacks WHERE prompt_id = ? AND number = ?",
        [(c.prompt_id, c.number) for c in gone],
    )
    connection.executemany(
        "UPDATE runs SET record = json_set(record, '$.webhook_status', ?)"
        " WHERE prompt_id = ? AND json_valid(record)",
        [(outcome, prompt_id) for prompt_id, outcome in settled.items() if outcome is not None],
    )
    connection.executemany(
        "DELETE FROM orders WHERE prompt_id = ?", [(prompt_id,) for prompt_id in settled]
    )


def _webhook_status(connection: sqlite3.Connection, prompt_id: str) -> str | None:
    found = connection.execute(
        f"SELECT json_extract({DETAILS}, '$.webhook_status') FROM runs WHERE prompt_id = ?",  # noqa: S608 - a constant
        (prompt_id,),
    ).fetchone()
    return None if found is None else found[0]


def recover_messages(
    connection: sqlite3.Connection, sessions: Collection[str], session: str
) -> tuple[list[CallbackTarget], list[Callback]]:
    whose, ended = "WHERE session IN (SELECT value FROM json_each(?))", json.dumps([*sessions])
    orders = connection.execute(f"SELECT * FROM orders {whose}", (ended,))  # noqa: S608 - only marks are put in
    targets = readable(orders, _target, "The status endpoint of run", "prompt_id")
    known = {target.prompt_id for target in targets}
    joined = f"callbacks JOIN orders USING (prompt_id) {whose}"
    rows = connection.execute(
        f"SELECT callbacks.* FROM {joined} ORDER BY prompt_id, number",  # noqa: S608 - likewise
        (ended,),
    )
    callbacks = [
        Callback(
            row["prompt_id"],
            row["number"],
            row["body"],
            bool(row["passing"]),
            row["created_at"],
            age=max(time.time() - row["created_at"], 0.0),
        )
        for row in rows
        if row["prompt_id"] in known
    ]
    connection.execute(
        f"UPDATE orders SET session = ? {whose}",  # noqa: S608 - likewise
        (session, ended),
    )
    for target in targets:
        target.session = session
    return targets, callbacks
