"""The queue of all transfers, and the service around it that runs and handlers use.

A transfer is stored before it starts, and its end before it is reported, so that a new process can
continue the transfers that have not ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

import aiohttp

from .. import metrics
from ..errors import (
    CloudError,
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from ..store.database import insert, readable, storable
from ..util.secrets import clean_url
from ..util.system import ALLOWED, FetchPolicy
from ..util.tasks import BackgroundTasks, close_each, end, wait_for
from ..util.times import days_ago, utc_now
from .callbacks import ANSWER_TIMEOUT, Callbacks
from .downloads import Copy, Download, ModelSites, RemoteFile, declared_digest, declared_size
from .http import BACKOFF, PublicConnector, TransferError, new_session
from .uploads import PresignedUpload, VolumeUpload, content_type, open_path, put

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ..machines.registry import MachineRegistry
    from ..store.database import Database
    from ..store.session import Session
    from ..util.times import Backoff
    from .callbacks import CallbackTarget

log = logging.getLogger(__name__)

# Its `run` does the remaining work of a transfer. After a `TransferError`, `ComfyDeployError` or
# `OSError` it may be tried again; `clean_up` removes the data of one that will not be continued.
Job: TypeAlias = "PresignedUpload | VolumeUpload | Download | Copy"

OPEN = ("queued", "active", "retrying")
ENDED = ("done", "failed", "cancelled")
MAX_KEPT = 1000  # ended transfers that are kept
MAX_SHOWN = 200  # ended transfers of all runs together that `status` returns
KEPT_PRIVATE = 3  # days
CLEAN_UP_TIMEOUT = 10.0  # seconds for the cleanup after a transfer
SITE_TIMEOUT = 15.0  # seconds that a site has to describe the file of a link
STALL = 120.0  # seconds without a byte or a response after which an attempt is aborted


# -- records ----------------------------------------------------------------------------------


@dataclass
class TransferRecord:
    id: str
    direction: str  # up or down
    kind: str  # of its job: output, presigned, volume, download, copy
    session: str  # of the server that runs it
    filename: str  # to show to users
    created_at: str
    path: str | None = None  # the local file; None for outputs: their machine provides the path
    prompt_id: str | None = None  # the run and the node that made the output
    node_id: str | None = None
    size: int | None = None  # bytes, if known
    sent: int = 0  # bytes
    state: str = "queued"  # one of OPEN or ENDED
    attempts: int = 0
    error: str | None = None  # why the last attempt failed, in one sentence
    finished_at: str | None = None
    # What its job needs for the next attempt, such as the confirmed parts.
    facts: dict[str, Any] = field(default_factory=dict)
    # Addresses and tokens; never part of a reply, and deleted when the transfer succeeds or is
    # cancelled. A failed one keeps them for another attempt for KEPT_PRIVATE days.
    private: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def log_fields(self) -> dict[str, Any]:
        """The ``extra`` of log lines about the transfer."""
        whose = {"prompt_id": self.prompt_id, "machine": self.facts.get("machine")}
        return {
            "transfer_id": self.id,
            "direction": self.direction,
            "kind": self.kind,
            **{name: value for name, value in whose.items() if value is not None},
        }

    def describe(self) -> dict[str, Any]:
        shown = ("id", "direction", "prompt_id", "node_id", "filename", "size", "sent", "state")
        return {name: getattr(self, name) for name in (*shown, "attempts", "error")}


# -- the queue --------------------------------------------------------------------------------


class Transfer:
    """A transfer that has not ended; it changes its record."""

    def __init__(self, record: TransferRecord, database: Database) -> None:
        self.record = record
        self.ended = asyncio.Event()
        self.gained = False  # this attempt made progress that the next one can use
        self.moved_at = 0.0  # monotonic time
        self.work: asyncio.Future[str] | None = None  # its result is the final state
        self.cancelled = False
        self._database = database

    def advance(self, count: int) -> None:
        self.record.sent += count
        metrics.BYTES.labels(self.record.direction).inc(count)
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
        await self._database.write(_save, _row(self.record))
        self.touch()


class TransferQueue:
    """Runs transfers, a few at the same time, each until it succeeds or finally fails.

    The limit is for each direction: the download of a large model must not delay the outputs of
    runs. An attempt without progress for ``stall`` seconds is aborted.
    """

    def __init__(
        self,
        database: Database,
        session: Session,
        jobs: Mapping[str, Job],
        *,
        max_concurrent: int = 3,
        backoff: Backoff = BACKOFF,
        stall: float = STALL,
    ) -> None:
        self._database = database
        self._session = session
        self._jobs = jobs
        self._max_concurrent = max_concurrent
        self._backoff = backoff
        self._stall = stall
        self._slots = {way: asyncio.Semaphore(max_concurrent) for way in ("up", "down")}
        self._open: dict[str, Transfer] = {}
        self.changes = 0  # how often transfers were started, have ended, or were given up
        self._tasks = BackgroundTasks(log)

    async def open(self) -> None:
        await self.recover(self._session.claimed)

    async def recover(self, sessions: Collection[str]) -> None:
        found = await self._database.write(_recover, sessions, self._session.id)
        for record in found:
            record.state = "queued"
            self._start(record)

    async def close(self) -> None:
        works = [transfer.work for transfer in self._open.values() if transfer.work is not None]
        await self._tasks.close()
        await end(works)

    def new(self, direction: str, kind: str, filename: str, **values: Any) -> TransferRecord:
        return TransferRecord(
            id=uuid.uuid4().hex,
            direction=direction,
            kind=kind,
            session=self._session.id,
            filename=filename,
            created_at=utc_now(),
            **values,
        )

    async def add(
        self, records: Sequence[TransferRecord], *, begin: asyncio.Event | None = None
    ) -> None:
        """Store new transfers in one transaction, and start them, or let them wait for ``begin``.

        They can be cancelled as soon as this method has returned.
        """
        await self._database.write(_add, [_row(record) for record in records])
        for record in records:
            self._start(record, begin)

    async def add_again(self, record: TransferRecord) -> bool:
        """Queue a failed transfer again; return False if another caller has done that before."""
        record.session = self._session.id
        record.state, record.attempts = "queued", 0
        record.error = record.finished_at = None
        if not await self._database.write(_reopen, _row(record)):
            return False
        self._start(record)
        return True

    async def get(self, transfer_id: str) -> TransferRecord | None:
        return next(iter(await self._find("id = ?", transfer_id, limit=1)), None)

    async def of_path(self, path: str) -> TransferRecord | None:
        """Return the newest transfer to or from a file."""
        return next(iter(await self._find("path = ?", path, limit=1)), None)

    async def of_run(self, prompt_id: str) -> list[TransferRecord]:
        return await self._find("prompt_id = ?", prompt_id)

    async def failed(self, direction: str, prompt_id: str | None = None) -> list[TransferRecord]:
        """Return the failed transfers in one direction, of one run or of all, oldest first."""
        condition = "state = 'failed' AND direction = ? AND ? IN (prompt_id, '')"
        return await self._find(condition, direction, prompt_id or "")

    async def wait(self, record: TransferRecord) -> TransferRecord:
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
        """Cancel open transfers: of a run, a single one, of a direction, or all.

        A single one that has failed is given up: it cannot be started again. Return their number
        when they have all stopped.
        """
        if transfer_id is not None and await self._database.write(_give_up, transfer_id):
            self.changes += 1
            return 1
        wanted = {"prompt_id": prompt_id, "id": transfer_id, "direction": direction}
        chosen = [
            transfer
            for transfer in self._open.values()
            if all(value in (None, getattr(transfer.record, key)) for key, value in wanted.items())
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
        records = [transfer.record for transfer in self._open.values()]
        return Counter((record.direction, record.state) for record in records)

    async def status(self, prompt_id: str | None = None) -> dict[str, Any]:
        """Return the body of ``upload-queue-status``, for a run or for all transfers.

        For all, those that are open and those that ended last are listed.
        """
        ended = await self._database.read(_count_ended, prompt_id)
        if prompt_id is not None:
            shown = await self.of_run(prompt_id)
        else:
            live = self._live()
            shown = await self._find(f"state IN {ENDED}", limit=MAX_SHOWN)
            known = {record.id for record in shown}
            live |= self._live()
            shown += [record for record in live.values() if record.id not in known]
        return {
            **self.counts(prompt_id),
            "completed": ended.get("done", 0),
            "failed": ended.get("failed", 0),
            "cancelled": ended.get("cancelled", 0),
            "max_concurrent": self._max_concurrent,
            "uploads": [record.describe() for record in shown],
        }

    def _live(self) -> dict[str, TransferRecord]:
        """Return the records of open transfers; the transfers update them."""
        return {transfer.record.id: transfer.record for transfer in self._open.values()}

    async def _find(self, condition: str, *values: str, limit: int = -1) -> list[TransferRecord]:
        """Return transfers, oldest first; those that are open as they are now."""
        live = self._live()
        found = await self._database.read(_find, condition, values, limit)
        live |= self._live()
        return [live.get(record.id, record) for record in found]

    def _start(self, record: TransferRecord, begin: asyncio.Event | None = None) -> None:
        transfer = Transfer(record, self._database)
        self._open[record.id] = transfer
        self.changes += 1
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
            metrics.RETRIES.labels(record.direction).inc()
            log.debug(
                "Attempt %d of %s failed; the next one follows",
                record.attempts,
                record.filename,
                extra=record.log_fields,
            )
            await transfer.save()
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
                await wait_for(self._jobs[record.kind].clean_up(transfer), CLEAN_UP_TIMEOUT)
            except Exception as error:
                expected = (TransferError, ComfyDeployError, OSError, asyncio.TimeoutError)
                known = isinstance(error, expected)
                log.log(
                    logging.WARNING if known else logging.ERROR,
                    "The temporary files of %r could not be removed: %s",
                    record.filename,
                    error,
                    exc_info=not known,
                    extra=record.log_fields,
                )
        record.state = state
        record.finished_at = utc_now()
        if state != "failed":
            record.private = {}
        if state == "done":
            record.error = None
        metrics.TRANSFERS.labels(record.direction, record.kind, state).inc()
        _log_end(record)
        try:
            await transfer.save()
        finally:  # waiting callers must be woken; the next server retries the transfer
            del self._open[record.id]
            self.changes += 1
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


# -- the service ------------------------------------------------------------------------------


class Transfers:
    """Uploads, downloads and callbacks of one server.

    ``key_for`` returns the configured ComfyDeploy key if an address may receive it, else None.
    """

    def __init__(
        self,
        database: Database,
        session: Session,
        machines: MachineRegistry,
        key_for: Callable[[str], str | None],
        *,
        sites: ModelSites | None = None,
        fetching: FetchPolicy = ALLOWED,
        max_concurrent: int = 3,
        backoff: Backoff = BACKOFF,
        stall: float = STALL,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.sites = sites or ModelSites()
        self._database = database
        self._machines = machines
        self._bringing = asyncio.Lock()
        self.fetching = fetching
        self.http: aiohttp.ClientSession = new_session()
        self._public = new_session(PublicConnector(self.sites.addresses))
        presigned = PresignedUpload(self.http, machines, key_for)
        self.queue = TransferQueue(
            database,
            session,
            {
                "output": presigned,
                "presigned": presigned,
                "volume": VolumeUpload(self.http, machines, key_for),
                "download": Download(self.http, self._public, machines, self.sites, fetching),
                "copy": Copy(machines),
            },
            max_concurrent=max_concurrent,
            backoff=backoff,
            stall=stall,
        )
        self.callbacks = Callbacks(
            database, session, self.http, key_for, backoff=backoff, answer_timeout=answer_timeout
        )

    async def open(self) -> None:
        await self.queue.open()
        await self.callbacks.open()

    async def recover(self, sessions: Collection[str]) -> list[CallbackTarget]:
        await self.queue.recover(sessions)
        return await self.callbacks.recover(sessions)

    async def close(self) -> None:
        await close_each(
            self.queue.close, self.callbacks.close, self.http.close, self._public.close
        )

    async def upload_outputs(
        self,
        prompt_id: str,
        machine: str,
        items: Sequence[tuple[str, list[str | int], dict[str, str]]],
        *,
        endpoint: str,
        token: str | None,
        begin: asyncio.Event | None = None,
    ) -> list[TransferRecord]:
        """Queue the outputs of a run for upload, unless that was done before a restart.

        Each item has the node, the kind and the index of the item in the node's output, and
        ``filename``, ``subfolder``, ``type``, ``content_type``. New uploads wait for ``begin``.
        All uploads of the run are returned.
        """
        known = await self.queue.of_run(prompt_id)
        if known:
            return known
        records = [
            self.queue.new(
                "up",
                "output",
                item["filename"],
                prompt_id=prompt_id,
                node_id=node_id,
                facts={
                    "machine": machine,
                    "place": place,
                    "item": item,
                    "content_type": item["content_type"],
                },
                private={"endpoint": endpoint, "token": token},
            )
            for node_id, place, item in items
        ]
        await self.queue.add(records, begin=begin)
        return records

    async def upload_presigned(
        self, path: str, url: str, token: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Upload a local file, and wait until the upload is complete.

        The endpoint ``url`` returns a presigned address; it must be allowed to receive the key.
        """
        found = await self._resolve(path, "file_path", machine)
        record = await self._upload("presigned", found, machine, endpoint=url, token=token)
        record = await self.queue.wait(record)
        if record.state != "done":
            reason = record.error if record.state == "failed" else "the upload was cancelled"
            raise CloudError(f"{record.filename} was not uploaded: {reason}")
        return record

    async def upload_part(
        self, path: str, url: str, start: int, end: int, machine: str | None = None
    ) -> str:
        """Upload bytes of a local file to a presigned address; return the ``ETag``.

        ``end`` is excluded.
        """
        found = await self._resolve(path, "filePath", machine)
        async with open_path(self._machines.get(machine), str(found), found.name) as source:
            if end > source.size:
                raise InvalidRequestError.of_field("end", f"the file has {source.size} bytes")
            try:
                etag = await put(
                    self.http, url, source, start=start, end=end, advance=lambda _: None
                )
            except TransferError as error:
                raise CloudError(f"The part was not uploaded: {error.message}") from error
        return etag

    async def upload_to_volume(
        self, path: str, target: str, *, api: str, token: str | None, machine: str | None = None
    ) -> TransferRecord:
        """Queue the upload of a local file to a path in a ComfyDeploy volume.

        The service ``api`` must be allowed to receive the key.
        """
        found = await self._resolve(path, "path", machine)
        facts = {"target": target}
        return await self._upload("volume", found, machine, facts, api=api, token=token)

    async def _upload(
        self,
        kind: str,
        path: Path,
        machine: str | None,
        facts: Mapping[str, Any] | None = None,
        **private: str | None,
    ) -> TransferRecord:
        known = {"content_type": content_type(path.name), "machine": machine, **(facts or {})}
        record = self.queue.new("up", kind, path.name, path=str(path), facts=known, private=private)
        await self.queue.add([record])
        return record

    async def retry(
        self, *, transfer_id: str | None = None, prompt_id: str | None = None, token: str | None
    ) -> list[TransferRecord]:
        """Queue failed transfers again: one, the uploads of a run, or all uploads.

        The status of a run that has ended because of a failed upload is not changed. ``token``
        replaces the old key, for example if that was refused.
        """
        if transfer_id is None:
            failed = await self.queue.failed("up", prompt_id)
            return [r for r in failed if r.private and await self._again(r, token)]
        record = await self.queue.get(transfer_id)
        if record is None:
            raise NotFoundError(f"There is no transfer {transfer_id}", details={"field": "id"})
        if record.state == "failed" and not record.private:
            raise ConflictError(
                f"{record.filename} failed too long ago to be started again; request it again",
                details={"field": "id"},
            )
        if not await self._again(record, token):
            raise ConflictError(
                f"{record.filename} is {record.state}; only failed transfers can be started again",
                details={"field": "id"},
            )
        return [record]

    async def _again(self, record: TransferRecord, token: str | None) -> bool:
        if record.state != "failed":
            return False
        if token is not None and record.direction == "up":
            record.private["token"] = token
        if record.kind == "download":
            self.fetching.require(record.filename)
        if record.direction == "up" or record.path is None:
            return await self.queue.add_again(record)
        async with self._bringing:
            newest = await self.queue.of_path(record.path)
            if newest is not None and newest.id != record.id and not newest.ended:
                raise _on_its_way(newest)
            return await self.queue.add_again(record)

    async def find(self, source: str, url: str, filename: str | None) -> RemoteFile:
        self.fetching.require("The model")
        if source == "huggingface":
            return self.sites.huggingface(url, filename)
        if source == "civitai":
            try:
                return await self.sites.civitai(self.http, url)
            except TransferError as error:
                raise CloudError(f"The model cannot be found: {error.message}") from error
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InvalidRequestError.of_field("url", "must be an http:// or https:// address")
        return RemoteFile(url, PurePosixPath(unquote(split.path)).name)

    async def download(
        self,
        file: RemoteFile,
        target: Path,
        sha256: str | None,
        machine: str | None = None,
        *,
        untrusted: bool = False,
    ) -> TransferRecord:
        """Queue a download, or return the one that already downloads the same file.

        The target is within the folders and without links. An ``untrusted`` address, as in a
        workflow file, must be public, and so must the targets of its redirects; the sites may have
        any address.
        """
        self.fetching.require(target.name)
        expected = sha256 or file.sha256
        async with self._bringing:
            return await self._bring(
                "download", target, expected, {"url": file.url}, machine, untrusted=untrusted
            )

    async def linked(self, url: str) -> RemoteFile:
        if self.sites.is_page(url):
            return await self.find("civitai", url, None)
        return RemoteFile(self.sites.at_mirror(url), "")

    async def link_of(self, sha256: str) -> str | None:
        """Return where a model with this content is: here before, or at Civitai; else None."""
        known = (await self.sources([sha256])).get(sha256)
        if known is not None or self.fetching.offline:
            return known
        return await wait_for(self.sites.with_sha256(self._public, sha256), SITE_TIMEOUT)

    async def ask(self, url: str) -> RemoteFile:
        """Return size and SHA-256 of the file of a link, if its site sends them.

        The link is from a workflow file, so it must lead to a public address.
        """
        self.fetching.require("The size of the model")
        timeout = aiohttp.ClientTimeout(total=SITE_TIMEOUT)
        async with self.sites.request(self._public, "HEAD", url, timeout=timeout) as response:
            return RemoteFile(url, "", declared_digest(response), declared_size(response))

    async def copy(
        self, path: str, target: Path, sha256: str | None, machine: str | None = None
    ) -> TransferRecord:
        found = await self._resolve(path, "path", machine)
        async with self._bringing:
            return await self._bring("copy", target, sha256, {"from": str(found)}, machine)

    async def _bring(
        self,
        kind: str,
        target: Path,
        expected: str | None,
        private: dict[str, Any],
        machine: str | None,
        *,
        untrusted: bool = False,
    ) -> TransferRecord:
        known = await self.queue.of_path(str(target))
        if known is not None and known.direction == "down" and not known.ended:
            if known.kind == kind and known.private == private:
                return known
            raise _on_its_way(known)
        origin = clean_url(private.get("url") or private["from"])  # it is stored
        if known is not None and known.state == "failed" and known.facts.get("origin") == origin:
            known.private = private
            known.facts.update(expected=expected, untrusted=untrusted)
            if await self.queue.add_again(known):
                return known
        record = self.queue.new(
            "down",
            kind,
            target.name,
            path=str(target),
            facts={
                "expected": expected,
                "origin": origin,
                "machine": machine,
                "untrusted": untrusted,
            },
            private=private,
        )
        await self.queue.add([record])
        return record

    async def origins(self) -> dict[str, str]:
        """Return the sources of downloaded files, by their path."""
        found = await self._database.read(_find, "kind = 'download' AND state = 'done'")
        origins = {record.path: record.facts.get("origin") for record in found}
        return {path: origin for path, origin in origins.items() if path and origin}

    async def sources(self, hashes: Collection[str]) -> dict[str, str]:
        """Return the addresses, without secrets, of downloaded files by their SHA-256."""
        found = await self._database.read(
            _find,
            "kind = 'download' AND state = 'done' AND json_extract(facts, '$.sha256') IN"
            " (SELECT value FROM json_each(?))",
            (json.dumps([*hashes]),),
        )
        pairs = {each.facts["sha256"]: str(each.facts.get("origin") or "") for each in found}
        return {sha256: url for sha256, url in pairs.items() if url.startswith("http")}

    async def _resolve(self, path: str, field: str, machine: str | None = None) -> Path:
        folders = await self._machines.get(machine).folders()
        return await asyncio.to_thread(folders.resolve, path, field=field)


def _on_its_way(record: TransferRecord) -> ConflictError:
    return ConflictError.of_field(
        "filename", f"another file is being downloaded to {record.filename}", id=record.id
    )


# -- in the store -----------------------------------------------------------------------------

_JSON = ("facts", "private")
_COLUMNS = tuple(one.name for one in fields(TransferRecord) if one.name not in _JSON)


def _row(record: TransferRecord) -> dict[str, Any]:
    """Copy a record to a row before the writer runs, since the record may change until then."""
    values = ((name, getattr(record, name)) for name in _COLUMNS)
    row = {name: storable(value) if isinstance(value, str) else value for name, value in values}
    return {**row, **{name: json.dumps(getattr(record, name)) for name in _JSON}}


def _record(row: sqlite3.Row) -> TransferRecord:
    return TransferRecord(
        **{name: row[name] for name in _COLUMNS}, **{name: json.loads(row[name]) for name in _JSON}
    )


def _add(connection: sqlite3.Connection, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        insert(connection, "transfers", row)


def _save(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in row)
    connection.execute(f"UPDATE transfers SET {changes} WHERE id = :id", row)  # noqa: S608 - our own column names


def _reopen(connection: sqlite3.Connection, row: dict[str, Any]) -> bool:
    found = connection.execute("SELECT state FROM transfers WHERE id = ?", (row["id"],)).fetchone()
    if found is None or found["state"] != "failed":
        return False
    _save(connection, row)
    return True


def _give_up(connection: sqlite3.Connection, transfer_id: str) -> bool:
    change = "UPDATE transfers SET state = 'cancelled', private = '{}' WHERE state = 'failed'"
    return connection.execute(f"{change} AND id = ?", (transfer_id,)).rowcount > 0


def _recover(
    connection: sqlite3.Connection, sessions: Collection[str], session: str
) -> list[TransferRecord]:
    connection.execute(
        f"DELETE FROM transfers WHERE state IN {ENDED} AND position NOT IN"  # noqa: S608 - constants
        f" (SELECT position FROM transfers WHERE state IN {ENDED} ORDER BY position DESC LIMIT ?)",
        (MAX_KEPT,),
    )
    connection.execute(
        "UPDATE transfers SET private = '{}' WHERE state = 'failed' AND finished_at < ?",
        (days_ago(KEPT_PRIVATE),),
    )
    ours = f"session IN (SELECT value FROM json_each(?)) AND state IN {OPEN}"  # noqa: S608 - constants
    found = _find(connection, ours, (json.dumps([*sessions]),))
    for record in found:
        record.session = session
        connection.execute("UPDATE transfers SET session = ? WHERE id = ?", (session, record.id))
    return found


def _find(
    connection: sqlite3.Connection, condition: str, values: tuple[str, ...] = (), limit: int = -1
) -> list[TransferRecord]:
    rows = connection.execute(
        f"SELECT * FROM transfers WHERE {condition} ORDER BY position DESC LIMIT ?",  # noqa: S608 - conditions are ours
        (*values, limit),
    )
    return readable(rows, _record, "Transfer", "id")[::-1]


def _count_ended(connection: sqlite3.Connection, prompt_id: str | None) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT state, count(*) FROM transfers WHERE state IN {ENDED}"  # noqa: S608 - constants
        " AND (? IS NULL OR prompt_id = ?) GROUP BY state",
        (prompt_id, prompt_id),
    )
    return {row[0]: row[1] for row in rows}
