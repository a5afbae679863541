"""The queue of all transfers."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from .. import metrics
from ..errors import ComfyDeployError, ComfyUIUnavailableError
from ..util.backoff import Backoff
from ..util.tasks import BackgroundTasks, end, wait_for
from ..util.timestamps import utc_now
from .http import TransferError
from .records import TransferRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..store.session import Session
    from .records import TransferRepository

log = logging.getLogger(__name__)

SHOWN = 200  # ended transfers of all runs together that `status` returns
CLEAN_UP_WITHIN = 10.0  # seconds for the cleanup after a transfer
BACKOFF = Backoff(attempts=8)  # pauses between the attempts of one transfer
STALL = 120.0  # seconds without a byte or a response after which an attempt is aborted


class Transfer:
    """A transfer that has not ended."""

    def __init__(self, record: TransferRecord, repository: TransferRepository) -> None:
        self.record = record
        self.ended = asyncio.Event()
        self.gained = False  # this attempt made progress that the next one can use
        self.moved_at = 0.0  # monotonic time
        self.work: asyncio.Future[str] | None = None  # its result is the final state
        self.cancelled = False
        self._repository = repository

    def advance(self, count: int) -> None:
        """Count bytes that were transferred."""
        self.record.sent += count
        metrics.transfer_moved(self.record.direction, count)
        self.touch()

    def touch(self) -> None:
        """Record that the transfer makes progress; may be called in threads."""
        self.moved_at = time.monotonic()

    def cancel(self) -> bool:
        """Cancel the transfer; return False if it has ended already."""
        if self.work is None or not self.work.cancel():
            return False
        self.cancelled = True
        return True

    async def save(self) -> None:
        """Store the record of the transfer."""
        await self._repository.save(self.record)
        self.touch()


class Job(Protocol):
    """Runs the transfers of one kind."""

    async def run(self, transfer: Transfer) -> None:
        """Do the remaining work."""

    async def clean_up(self, transfer: Transfer) -> None:
        """Remove the data of a transfer that will not be continued."""


class TransferQueue:
    """Runs transfers, a few at the same time, each until it succeeds or finally fails.

    Each transfer is stored before it starts, and its end is stored before it is reported: after a
    crash, the next server continues the transfers that have not ended.
    """

    def __init__(
        self,
        repository: TransferRepository,
        session: Session,
        jobs: Mapping[str, Job],
        *,
        max_concurrent: int = 3,
        backoff: Backoff = BACKOFF,
        stall: float = STALL,
    ) -> None:
        self._repository = repository
        self._session = session
        self._jobs = jobs
        self._max_concurrent = max_concurrent
        self._backoff = backoff
        self._stall = stall
        self._slots = {way: asyncio.Semaphore(max_concurrent) for way in ("up", "down")}
        self._open: dict[str, Transfer] = {}
        self._tasks = BackgroundTasks(log)

    async def open(self) -> None:
        """Continue the transfers that had not ended before the last stop."""
        await self.recover(self._session.claimed)

    async def recover(self, sessions: Collection[str]) -> None:
        """Continue the transfers of servers that have exited."""
        for record in await self._repository.recover(sessions, self._session.id):
            record.state = "queued"
            self._start(record)

    async def close(self) -> None:
        """Stop all transfers. The next start continues them."""
        works = [transfer.work for transfer in self._open.values() if transfer.work is not None]
        await self._tasks.close()
        await end(works)

    def new(self, direction: str, kind: str, filename: str, **fields: Any) -> TransferRecord:
        """Return a new record for `add`."""
        return TransferRecord(
            id=uuid.uuid4().hex,
            direction=direction,
            kind=kind,
            session=self._session.id,
            filename=filename,
            created_at=utc_now(),
            **fields,
        )

    async def add(
        self, records: Sequence[TransferRecord], *, begin: asyncio.Event | None = None
    ) -> None:
        """Store new transfers in one transaction, and start them."""
        await self._repository.add(records)
        for record in records:
            self._start(record, begin)

    async def add_again(self, record: TransferRecord) -> bool:
        """Queue a failed transfer again."""
        record.session = self._session.id
        record.state, record.attempts = "queued", 0
        record.error = record.finished_at = None
        if not await self._repository.reopen(record):
            return False
        self._start(record)
        return True

    async def get(self, transfer_id: str) -> TransferRecord | None:
        """Return one transfer, or None."""
        live = self._live()
        found = await self._repository.get(transfer_id)
        return None if found is None else self._newest(found, live)

    async def failed(self, direction: str, prompt_id: str | None = None) -> list[TransferRecord]:
        """Return the failed transfers in one direction, of one run or of all."""
        return await self._repository.failed(direction, prompt_id)

    async def of_run(self, prompt_id: str) -> list[TransferRecord]:
        """Return all transfers of a run, in the order they were added."""
        live = self._live()
        return [self._newest(r, live) for r in await self._repository.of_run(prompt_id)]

    async def of_path(self, path: str) -> TransferRecord | None:
        """Return the newest transfer to or from a local path, or None."""
        live = self._live()
        found = await self._repository.of_path(path)
        return None if found is None else self._newest(found, live)

    async def wait(self, record: TransferRecord) -> TransferRecord:
        """Wait for the end of a transfer and return its final record."""
        transfer = self._open.get(record.id)
        if transfer is None:
            return record
        await transfer.ended.wait()
        return transfer.record

    async def cancel(
        self,
        *,
        prompt_id: str | None = None,
        transfer_id: str | None = None,
        direction: str | None = None,
    ) -> int:
        """Cancel open transfers: of a run, a single one, of a direction, or all."""
        chosen = [
            transfer
            for transfer in self._open.values()
            if (prompt_id is None or transfer.record.prompt_id == prompt_id)
            and (transfer_id is None or transfer.record.id == transfer_id)
            and (direction is None or transfer.record.direction == direction)
            and transfer.cancel()
        ]
        await asyncio.gather(*(transfer.ended.wait() for transfer in chosen))
        return len(chosen)

    def counts(self, prompt_id: str | None = None) -> dict[str, int]:
        """Return how many transfers wait, have not ended, and are running."""
        states = [
            transfer.record.state
            for transfer in self._open.values()
            if prompt_id is None or transfer.record.prompt_id == prompt_id
        ]
        return {
            "queue_size": states.count("queued") + states.count("retrying"),
            "pending_uploads": len(states),
            "active": states.count("active"),
        }

    def open_states(self) -> Counter[tuple[str, str]]:
        """Return the number of open transfers for each pair of direction and state."""
        records = [transfer.record for transfer in self._open.values()]
        return Counter((record.direction, record.state) for record in records)

    async def status(self, prompt_id: str | None = None) -> dict[str, Any]:
        """Return the body of ``upload-queue-status``."""
        ended = await self._repository.count_ended(prompt_id)
        if prompt_id is not None:
            shown = await self.of_run(prompt_id)
        else:
            live = self._live()
            shown = await self._repository.newest_ended(SHOWN)
            known = {record.id for record in shown}
            live |= self._live()
            shown += [record for record in live.values() if record.id not in known]
        return {
            **self.counts(prompt_id),
            "completed": ended.get("done", 0),
            "failed": ended.get("failed", 0),
            "cancelled": ended.get("cancelled", 0),
            "max_concurrent": self._max_concurrent,
            "uploads": [describe(record) for record in shown],
        }

    def _live(self) -> dict[str, TransferRecord]:
        """Return the records of open transfers; the transfers update them."""
        return {transfer.record.id: transfer.record for transfer in self._open.values()}

    def _newest(self, record: TransferRecord, live: dict[str, TransferRecord]) -> TransferRecord:
        """Return the current record of a transfer that was read from the store."""
        transfer = self._open.get(record.id)
        return live.get(record.id, record) if transfer is None else transfer.record

    def _start(self, record: TransferRecord, begin: asyncio.Event | None = None) -> None:
        transfer = Transfer(record, self._repository)
        self._open[record.id] = transfer
        transfer.work = asyncio.ensure_future(self._try(transfer, begin))
        self._tasks.start(
            self._run(transfer, transfer.work),
            f"Storing the end of the transfer of {record.filename}",
            log_fields=record.log_fields,
        )

    async def _run(self, transfer: Transfer, work: asyncio.Future[str]) -> None:
        """Wait for a transfer's task and store its end, unless the server is stopping.

        Cancelling a transfer cancels its work, never this task: a task that is cancelled before its
        first step would not run at all, so the end would not be stored.
        """
        try:
            await asyncio.wait({work})
        finally:
            if not work.done():
                await end([work])
        try:
            state = work.result()
        except asyncio.CancelledError:
            if not transfer.cancelled:
                raise
            state = "cancelled"
        except Exception:
            log.exception(
                "The state of the transfer of %s could not be stored",
                transfer.record.filename,
                extra=transfer.record.log_fields,
            )
            state, transfer.record.error = "failed", "its state could not be stored"
        await self._end(transfer, state)

    async def _try(self, transfer: Transfer, begin: asyncio.Event | None) -> str:
        if begin is not None:
            await begin.wait()
        record = transfer.record
        failures = 0
        while True:
            async with self._slots[record.direction]:
                error = await self._attempt(transfer)
            if error is None:
                return "done"
            record.error = error.message
            failures = 1 if transfer.gained else failures + 1
            if not error.again or failures >= self._backoff.attempts:
                return "failed"
            record.state = "retrying"
            metrics.transfer_retried(record.direction)
            log.debug(
                "Attempt %d of %s failed; the next one follows",
                record.attempts,
                record.filename,
                extra=record.log_fields,
            )
            await self._repository.save(record)
            await asyncio.sleep(self._backoff.pause(failures, error.after))

    async def _attempt(self, transfer: Transfer) -> TransferError | None:
        record = transfer.record
        record.state = "active"
        record.attempts += 1
        transfer.gained = False
        transfer.touch()
        work = asyncio.ensure_future(self._jobs[record.kind].run(transfer))
        try:
            while not work.done():
                left = transfer.moved_at + self._stall - time.monotonic()
                if left <= 0:
                    return TransferError(
                        f"no data was transferred for {self._stall:g} s", again=True
                    )
                await asyncio.wait({work}, timeout=left)
            work.result()
        except TransferError as error:
            return error
        except ComfyDeployError as error:
            return TransferError(error.message, again=isinstance(error, ComfyUIUnavailableError))
        except OSError as error:
            return TransferError(error.strerror or str(error), again=True)
        except Exception as error:
            log.exception(
                "The transfer of %s failed with an unexpected error",
                record.filename,
                extra=record.log_fields,
            )
            return TransferError(f"{type(error).__name__}: {error}", again=False)
        finally:
            if not work.done():
                await end([work])
        return None

    async def _end(self, transfer: Transfer, state: str) -> None:
        record = transfer.record
        if state != "done":
            try:
                await wait_for(self._jobs[record.kind].clean_up(transfer), CLEAN_UP_WITHIN)
            except (TransferError, ComfyDeployError, OSError, asyncio.TimeoutError) as error:
                log.warning(
                    "The temporary files of %r could not be removed: %s",
                    record.filename,
                    error,
                    extra=record.log_fields,
                )
            except Exception:
                log.exception(
                    "The temporary files of %r could not be removed",
                    record.filename,
                    extra=record.log_fields,
                )
        record.state = state
        record.finished_at = utc_now()
        if state != "failed":
            record.private = {}
        if state == "done":
            record.error = None
        metrics.transfer_ended(record.direction, record.kind, state)
        _log_end(record)
        try:
            await self._repository.save(record)
        finally:  # waiting callers must be woken; the next server retries the transfer
            del self._open[record.id]
            transfer.ended.set()


def _log_end(record: TransferRecord) -> None:
    """Log how a transfer ended; a successful one of a run at level DEBUG."""
    if record.state == "failed":
        level = logging.WARNING
    else:
        level = logging.INFO if record.prompt_id is None else logging.DEBUG
    way = "Upload" if record.direction == "up" else "Download"
    fields = {**record.log_fields, "state": record.state, "size": record.size}
    whose = "" if record.prompt_id is None else f" of run {record.prompt_id}"
    outcome = record.state if record.error is None else f"{record.state}, {record.error}"
    log.log(level, "%s of %s%s: %s", way, record.filename, whose, outcome, extra=fields)


def describe(record: TransferRecord) -> dict[str, Any]:
    """Return the description of a transfer in ``upload-queue-status``."""
    return {
        "id": record.id,
        "direction": record.direction,
        "prompt_id": record.prompt_id,
        "node_id": record.node_id,
        "filename": record.filename,
        "size": record.size,
        "sent": record.sent,
        "state": record.state,
        "attempts": record.attempts,
        "error": record.error,
    }
