"""The events of a job, as ``text/event-stream`` without ids: each stream begins with its state."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from ..runs.log import LARGE
from .job import TERMINAL, error_of, progress_of, status_of, warnings_of
from .outputs import output_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..runs.log import RunEvent
    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..runs.service import RunService
    from .outputs import Outputs

KEPT_FRAMES = 256  # encoded messages of a run that are kept for its other readers
# After these events of a run its progress may have changed.
PROGRESS = frozenset({"progress", "live_status", "executing", "execution_cached"})


class Frame(NamedTuple):
    """An encoded message."""

    output: str | None  # the id of the output that it announces; no reader gets one twice
    text: bytes


class JobEvents:
    """Makes the messages of jobs from the events of their runs, once for all readers."""

    def __init__(self, runs: RunService, outputs: Outputs) -> None:
        self._runs = runs
        self._outputs = outputs
        self._frames: WeakKeyDictionary[Run, dict[tuple[int, str], list[Frame]]] = (
            WeakKeyDictionary()
        )

    async def follow(
        self, run: Run, assets_url: str, *, pause: float
    ) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield messages of a run until its end: its present state first, its final status last.

        With each one, yield whether it is the last.
        """
        last = run.log.last_id
        sent: set[str] = set()
        status = status_of(run.record)
        if not run.log.closed:
            yield self._status(run) + _progress(run.record, run), False
        if outputs := _unsent(await self._outputs_of(run.record, assets_url), sent):
            yield outputs, False
        if run.log.closed and last == run.log.last_id:
            yield self._end(run), True
            return
        messages = b""
        async for batch in run.log.read(last, pause=pause):
            before, status = status, status_of(run.record)
            if status not in TERMINAL and (status != before or _shows_place(batch, status)):
                messages += self._status(run)
            if batch:
                messages += await self._batch(run, batch, assets_url, sent)
            at_end = bool(batch) and run.log.has_ended_at(batch[-1].id)
            if run.log.closed and not at_end and len(messages) <= LARGE:
                continue  # they are sent together with the next ones, which are there
            yield messages, at_end
            messages = b""

    async def final(self, record: RunRecord, assets_url: str) -> bytes:
        """Return the messages of a run whose events are not in memory."""
        frames = await self._outputs_of(record, assets_url)
        outputs = b"".join(frame.text for frame in frames)
        return outputs + _logs(record) + _progress(record, None) + self.state(record)

    def state(self, record: RunRecord) -> bytes:
        """Return the status of a run whose events are not in memory."""
        return _message("status", {"status": status_of(record), "queue_position": None})

    async def _batch(
        self, run: Run, batch: list[RunEvent], assets_url: str, sent: set[str]
    ) -> bytes:
        """Return the messages of a batch; of its progress only the last one."""
        last = max((event.id for event in batch if event.event in PROGRESS), default=None)
        parts = [
            _unsent(await self._encoded(run, event, assets_url), sent)
            for event in batch
            if event.event not in PROGRESS or event.id == last
        ]
        return b"".join(parts)

    async def _encoded(self, run: Run, event: RunEvent, assets_url: str) -> list[Frame]:
        frames = self._frames.setdefault(run, {})
        key = event.id, assets_url
        found = frames.get(key)
        if found is None:
            found = frames[key] = await self._encode(run, event, assets_url)
            while len(frames) > KEPT_FRAMES:
                del frames[next(iter(frames))]
        return found

    async def _encode(self, run: Run, event: RunEvent, assets_url: str) -> list[Frame]:
        name, data = event.event, event.data
        if name in PROGRESS:
            return [Frame(None, _progress(run.record, run))]
        if name == "executed" and isinstance(data.get("output"), dict):
            outputs = {str(data.get("node")): data["output"]}
            return await self._outputs_of(run.record, assets_url, outputs)
        if event.preview is not None:
            preview = {
                "node_id": event.preview.node or "",
                "content_type": event.preview.mime,
                "data_base64": base64.b64encode(event.preview.image).decode(),
            }
            return [Frame(None, _message("preview", preview))]
        if name == "progress_text":
            text = str(data.get("text") or "")
            return [Frame(None, _message("log", {"level": "info", "message": text}))]
        if name == "result":
            return await self._outputs_of(run.record, assets_url)
        if name == "status":
            return [Frame(None, self._end(run))]
        return []

    def _end(self, run: Run) -> bytes:
        return _logs(run.record) + _progress(run.record, run) + self._status(run)

    def _status(self, run: Run) -> bytes:
        place = self._runs.queue_position(run.record)
        return _message("status", {"status": status_of(run.record), "queue_position": place})

    async def _outputs_of(
        self, record: RunRecord, assets_url: str, outputs: dict[str, Any] | None = None
    ) -> list[Frame]:
        assets = await self._outputs.of(record, outputs)
        return [
            Frame(asset.id, _message("output", output_of(asset, assets_url))) for asset in assets
        ]


def is_final(record: RunRecord) -> bool:
    """Return whether no event of a job follows."""
    return status_of(record) in TERMINAL


def _shows_place(batch: list[RunEvent], status: str) -> bool:
    """Return whether readers get the place in the queue: at the first message, and now and then."""
    return status == "queued" and (not batch or any(event.event == "" for event in batch))


def _unsent(frames: list[Frame], sent: set[str]) -> bytes:
    """Return the messages that a reader does not have yet."""
    new = [frame for frame in frames if frame.output is None or frame.output not in sent]
    sent.update(frame.output for frame in new if frame.output is not None)
    return b"".join(frame.text for frame in new)


def _progress(record: RunRecord, run: Run | None) -> bytes:
    """Return the message with the progress of a run, if it is known."""
    progress = progress_of(record, run)
    return b"" if progress is None else _message("progress", progress)


def _logs(record: RunRecord) -> bytes:
    """Return the messages with what was lost and why a run has failed; every reader gets them."""
    logs = [{"level": "warning", "message": warning} for warning in warnings_of(record)]
    error = error_of(record)
    if error is not None:
        logs.append({"level": "error", "message": error["message"]})
    return b"".join(_message("log", entry) for entry in logs)


def _message(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
