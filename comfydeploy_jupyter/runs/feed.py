"""The events of runs: a bounded log of each run for its readers, and events for Jupyter."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..util.jsons import dumps, rough_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ..comfyui.socket import Preview
    from ..machines.machine import Machine
    from .state import RunState

MAX_BYTES = 8 * 1024 * 1024  # size of the encoded events in a log
MAX_PASSING = MAX_BYTES // 16  # size of `PASSING` events that are kept in any case
LARGE = 64 * 1024  # bytes of an event that is encoded in a thread, and of a batch for a reader
SHORT = 256  # assumed bytes of an event with a few short values
MAX_PREVIEWS = 4  # previews are large and soon outdated
# Events that a later one of the same run replaces: removed first if a log grows too large.
PASSING = frozenset({"progress", "progress_state", "live_status", "progress_text"})


class RunEvent:
    """One event of a run, encoded once for all its readers.

    The first message of a run has no name. To encode an event without readers, only to measure it,
    would cost more than all other processing of it: so its ``size`` is approximate.
    """

    __slots__ = ("_sse", "_text", "data", "event", "id", "preview", "size")

    def __init__(
        self,
        event_id: int,
        event: str,
        data: dict[str, Any],
        preview: Preview | None = None,
        *,
        size: int | None = None,
    ) -> None:
        self.id = event_id
        self.event = event
        self.data = data
        self.preview = preview
        self._text: str | None = None
        self._sse: bytes | None = None
        if preview is not None:
            size = len(preview.image)
        self.size = rough_size(data) if size is None else size

    @property
    def text(self) -> str:
        """The event as JSON: ``{"event", "data"}``."""
        if self._text is None:
            data = self.data
            if self.preview is not None:
                image = base64.b64encode(self.preview.image).decode()
                data = {**data, "mime": self.preview.mime, "image": image}
            whole = {"event": self.event, "data": data} if self.event else data
            self._text = dumps(whole) if self.size > LARGE else json.dumps(whole)
        return self._text

    async def encode(self) -> None:
        """Encode the event now. If it is large, do it in a thread to keep the event loop free."""
        if self.size > LARGE and self._sse is None:
            await asyncio.to_thread(getattr, self, "sse")

    @property
    def sse(self) -> bytes:
        """The event as one message of a ``text/event-stream``."""
        if self._sse is None:
            self._sse = f"id: {self.id}\nevent: event_update\ndata: {self.text}\n\n".encode()
        return self._sse


class EventLog:
    """The events of a run in order, with any number of readers.

    A reader is only a position, so a slow one costs nothing. If the log exceeds its bounds, the
    reader misses outdated progress and previews, but never other events.
    """

    def __init__(self, first_id: int = 1) -> None:
        self._events: deque[RunEvent] = deque()
        self._next_id = first_id
        self._bytes = 0
        self._passing_bytes = 0
        self._previews = 0
        self._wakes = 0
        self._waiting: set[asyncio.Future[bool]] = set()
        self.closed = False

    def append(
        self,
        event: str,
        data: dict[str, Any],
        preview: Preview | None = None,
        *,
        size: int | None = None,
    ) -> RunEvent:
        entry = RunEvent(self._next_id, event, data, preview, size=size)
        self._next_id += 1
        self._events.append(entry)
        self._bytes += entry.size
        if preview is not None:
            self._previews += 1
            if self._previews > MAX_PREVIEWS:
                self._drop(next(e for e in self._events if e.preview is not None))
        if event in PASSING:
            self._passing_bytes += entry.size
        if self._bytes > MAX_BYTES and self._passing_bytes > MAX_PASSING:
            self._shrink()
        self._wake()
        return entry

    def reserve(self, count: int) -> int:
        """Reserve ids for messages of a single stream; return the first of them.

        A reader that resumes after one of these ids gets the next event and misses none. Once the
        log is closed, nothing is reserved: the ids are larger than the last one and may be reused.
        """
        first = self._next_id
        if not self.closed:
            self._next_id += count
        return first

    def close(self) -> None:
        """Close the log: no event follows, and readers stop after the last one."""
        self.closed = True
        for entry in [e for e in self._events if e.preview is not None]:
            self._drop(entry)
        self._wake()

    def wake(self) -> None:
        """Wake the readers; each gets an empty batch after the events that it does not have."""
        self._wakes += 1
        self._wake()

    def after(self, event_id: int) -> list[RunEvent]:
        """Return the events in the log whose id is larger than ``event_id``."""
        found: list[RunEvent] = []
        for entry in reversed(self._events):
            if entry.id <= event_id:
                break
            found.append(entry)
        return found[::-1]

    def has_ended_at(self, event_id: int) -> bool:
        """Return whether no event follows that with the id ``event_id``, now and later."""
        return self.closed and not self.after(event_id)

    @property
    def size(self) -> int:
        return self._bytes

    @property
    def last_id(self) -> int:
        """The largest id in use, 0 before the first event."""
        return self._next_id - 1

    async def read(
        self, event_id: int = 0, *, pause: float, deadline: float | None = None
    ) -> AsyncIterator[list[RunEvent]]:
        """Yield batches of events after ``event_id`` as they are added, until the log is closed.

        Events that are in the log already are yielded in batches of `LARGE` bytes, between which
        the event loop can run other tasks.
        """
        clock = asyncio.get_running_loop().time
        wakes = self._wakes
        while deadline is None or clock() < deadline:
            there = self.after(event_id)
            if there:
                event_id = there[-1].id
                for number, batch in enumerate(in_batches(there)):
                    if number:
                        await asyncio.sleep(0)
                    yield batch
            elif self.closed:
                return
            elif wakes != self._wakes:
                wakes = self._wakes
                yield []
            else:
                wait = pause if deadline is None else min(pause, deadline - clock())
                if not await self._changed(wait) and wait == pause:
                    yield []

    async def _changed(self, timeout: float) -> bool:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting.add(waiter)
        timer = loop.call_later(timeout, _answer, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            _answer(waiter, True)
        self._waiting.clear()

    def _drop(self, entry: RunEvent) -> None:
        self._events.remove(entry)
        self._bytes -= entry.size
        self._previews -= entry.preview is not None

    def _shrink(self) -> None:
        """Remove the older half of the `PASSING` events; this is rare, so appending stays cheap."""
        passing = [e for e in self._events if e.event in PASSING]
        stale = {e.id for e in passing[: (len(passing) + 1) // 2]}
        self._events = deque(e for e in self._events if e.id not in stale)
        self._bytes = sum(e.size for e in self._events)
        self._passing_bytes = sum(e.size for e in self._events if e.event in PASSING)


def _answer(waiter: asyncio.Future[bool], changed: bool) -> None:
    if not waiter.done():
        waiter.set_result(changed)


def in_batches(events: list[RunEvent]) -> Iterator[list[RunEvent]]:
    """Yield events in batches of about `LARGE` bytes; a larger event is a batch of its own."""
    first = size = 0
    for place, event in enumerate(events):
        if size and size + event.size > LARGE:
            yield events[first:place]
            first, size = place, 0
        size += event.size
    yield events[first:]


Emit: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Emits an event; its arguments are the name of the schema, ``run`` or ``machine``, and the data.
It does not raise."""


class Announcer:
    """Announces starts and ends of runs, and connections of machines, if events are wanted.

    The schemas are in event_schemas/.
    """

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit

    def handle_event(self, run: RunState, event: RunEvent) -> None:
        """Announce the start (``execution_start``) or the end (``status``) of a run."""
        if self._emit is None:
            return
        record = run.record
        ended = event.event == "status"
        data: dict[str, Any] = {
            "action": "ended" if ended else "started",
            "prompt_id": record.prompt_id,
            "machine": record.machine,
            "status": record.status if ended else "running",
        }
        further = {"pool": record.pool, "workflow_id": record.workflow_id}
        if ended:
            further["error_type"] = record.error.get("type") if record.error is not None else None
            if record.execution_time is not None:
                data["execution_time"] = record.execution_time
        data.update({name: value for name, value in further.items() if value is not None})
        self._emit("run", data)

    def machine(self, machine: Machine, *, up: bool) -> None:
        """Announce that the ComfyUI of a machine is connected, or that the connection is lost."""
        if self._emit is not None:
            self._emit("machine", {"action": "up" if up else "down", "machine": machine.id})
