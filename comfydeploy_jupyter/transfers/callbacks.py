"""Delivers messages to status endpoints: in order for each run, stored until delivered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from ..util.tasks import BackgroundTasks, close_each, end, report, wait_for
from .callback_records import Callback, CallbackTarget
from .http import TransferError, request
from .queue import BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import aiohttp

    from ..store.session import Session
    from ..util.backoff import Backoff
    from .callback_records import CallbackRepository

log = logging.getLogger(__name__)

MAX_BACKLOG = 64  # number of undelivered messages of a run above which outdated ones are dropped
MAX_BACKLOG_BYTES = 256 * 1024
ANSWER_WITHIN = 30.0  # seconds that an endpoint has to answer one message
GATHER = 0.02  # seconds in which changes are collected for one write to the store
BACK_SOON = 600.0  # age in seconds above which a message does not keep the server running
MOST_REFUSALS = 4  # answers such as 400, after which a message is skipped that is not the end
# The undelivered messages for one server above which the oldest are dropped, the end of no run.
MOST_WAITING = 10_000
MOST_WAITING_BYTES = 16 * 1024**2
GIVEN_UP_AFTER = 3 * 24 * 3600.0  # seconds after which a message is discarded


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
        if count <= MOST_WAITING and size <= MOST_WAITING_BYTES:
            return []
        found = []
        for message in sorted(self.waiting, key=lambda message: not message.passing):
            if count <= MOST_WAITING * 3 / 4 and size <= MOST_WAITING_BYTES * 3 / 4:
                break
            found.append((message, self.waiting[message]))
            count, size = count - 1, size - len(message.body)
        log.error("%s does not accept messages: the oldest %d are dropped", self.name, len(found))
        return found


class _Queue:
    """The undelivered messages of one run."""

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
        """The message about the end of the run, if it waits."""
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
        repository: CallbackRepository,
        session: Session,
        http: aiohttp.ClientSession,
        key_for: Callable[[str], str | None],
        *,
        backoff: Backoff = BACKOFF,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self._repository = repository
        self._session = session
        self._http = http
        self._key_for = key_for
        self._backoff = backoff
        self._answer_within = answer_within
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
        """Continue with the messages that were not delivered before the last stop."""
        what = "Storing messages to status endpoints"
        self._writer.keep(self._write, what, again=self._backoff)
        await self.recover(self._session.claimed)

    async def recover(self, sessions: Collection[str]) -> list[CallbackTarget]:
        """Continue to deliver the messages of exited servers; return the targets of their runs."""
        targets, messages = await self._repository.recover(sessions, self._session.id)
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
        await self._flush()

    async def add(self, target: CallbackTarget) -> None:
        """Store the target of a new run; after this its messages can be sent.

        An earlier run, which was deleted, may have had the same id. Its messages come first; they
        are dropped if the new run has another endpoint.
        """
        target.session = self._session.id
        queue = self._queues.setdefault(target.prompt_id, _Queue(target, self._server(target)))
        earlier, queue.target, queue.last = queue.target, target, False
        try:
            await self._repository.add_target(target)
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
        """Return the target of a run, or None."""
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
        return await self._repository.webhook_status(prompt_id)

    def targets(self) -> list[CallbackTarget]:
        """Return all targets with undelivered messages."""
        return [queue.target for queue in self._queues.values()]

    @property
    def waiting(self) -> int:
        """Number of undelivered messages."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def is_delivering(self) -> bool:
        """Whether there are undelivered messages younger than `BACK_SOON`."""
        first = (queue.waiting[0] for queue in self._queues.values() if queue.waiting)
        return any(time.time() - message.created_at < BACK_SOON for message in first)

    def send(self, target: CallbackTarget, body: bytes, *, passing: bool = False) -> None:
        """Send a message after all earlier ones of the run."""
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
            try:
                await wait_for(self._post(endpoint, target, message), self._answer_within)
            except asyncio.TimeoutError:
                why = f"The status endpoint did not answer within {self._answer_within:g} s"
                pause = self._backoff.pause(attempt)
            except TransferError as error:
                why = error.message
                pause = self._backoff.pause(attempt, error.after)
                refusals += not error.again
            except Exception as error:
                why = "The message could not be sent"
                pause = self._backoff.pause(attempt)
                refusals += 1
                if attempt == 1:
                    text = "A message of run %s could not be sent"
                    report(log, text, target.prompt_id, error=error, extra=fields)
            else:
                return True
            if attempt == 1:
                text = "Run %s: %s; the next attempt follows"
                log.warning(text, target.prompt_id, why, extra=fields)
            if refusals >= MOST_REFUSALS and message is not queue.end:
                log.error("Run %s: %s; the message is skipped", target.prompt_id, why, extra=fields)
                return False
            await asyncio.sleep(pause)
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
        """Return the messages for the server of a target."""
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
            await self._flush()
            await asyncio.sleep(GATHER)

    async def _flush(self) -> None:
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
                await self._repository.apply(targets=targets, new=new, gone=gone, settled=settled)
        except BaseException:
            self._new, self._gone = new + self._new, gone + self._gone
            self._changed = {target.prompt_id: target for target in targets} | self._changed
            self._settled = settled | self._settled
            self._to_write.set()
            raise
        finally:
            self._writing = {}
