"""The SQLite file of all records: one writer thread, a few reader threads."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from .call_threads import CallThreads, Outcome
from .data_file import DataFile
from .migrations import migrate
from .sqlite_errors import explain, is_damage, is_locked, newer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Repository")

BUSY_TIMEOUT = 10.0  # seconds to wait for a lock that another process holds
LEAST_WAIT = 0.1  # seconds to wait for a lock at least, however long a write was queued
READERS = 2  # threads
TOGETHER = 32  # writes that are committed together, at most
ASK_AGAIN = 0.05  # seconds between attempts, if SQLite itself does not wait
PORTION = 256  # pages that one transaction frees
INCREMENTAL = 2  # SQLite's number of this auto_vacuum
WAL = "wal"
# The details of a run, in JSON; a damaged row affects no other.
DETAILS = "CASE WHEN json_valid(record) THEN record ELSE '{}' END"


class _Write(NamedTuple):
    """The work of a requested transaction, and the time of the request (`time.monotonic`)."""

    work: Callable[[sqlite3.Connection], Any]
    asked: float


class Database:
    """An SQLite database in WAL mode that never blocks the event loop.

    Each write is done in the single writer thread, completely or not at all, in the order of the
    calls. Writes that wait while the thread is busy are committed together; if one of them fails,
    each is done again as a separate transaction. Reads run in a small pool of threads and see the
    last committed state.

    A damaged file is set aside when it is opened, and a new one is created. If SQLite finds the
    damage later, each affected request fails, and the file is set aside at the next start. On
    network file systems, where WAL is not safe, SQLite's older journal is used.
    """

    def __init__(self, path: Path, *, patience: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self.journal = WAL
        self.id = ""
        self._patience = patience
        self._file = DataFile(path)
        self._network: str | None = None
        self._writer = CallThreads("comfydeploy-store-writer", self._write_all, most=TOGETHER)
        self._readers = CallThreads("comfydeploy-store-reader", self._read_all, threads=READERS)
        self._local = threading.local()  # the connections of readers
        self._writing: sqlite3.Connection | None = None
        self._lock_wait: int | None = None  # its lock timeout, in steps
        self._connections: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """Create the file if needed and migrate its schema."""
        await asyncio.to_thread(self._prepare)

    async def close(self) -> None:
        """Finish the requested work, then close all connections."""
        self._writer.end()
        self._readers.end()
        await asyncio.to_thread(self._shut_down)

    async def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(connection, …)`` as one transaction: all its changes are stored, or none.

        It may be called twice: then nothing of the first call is stored.
        """
        return await self.begin_write(work, *args, **kwargs)

    def begin_write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """Start a transaction like `write`; return the future of its result."""
        write = _Write(lambda connection: work(connection, *args, **kwargs), time.monotonic())
        return self._writer.call(write)

    async def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(connection, …)`` on a connection that cannot write."""
        found: T = await self._readers.call(lambda connection: work(connection, *args, **kwargs))
        return found

    async def shrink(self) -> None:
        """Return the free pages of the file to the file system.

        Each transaction frees `PORTION` pages, so that other writes wait for one of them at most.
        """
        while await self.write(_free_pages):
            pass

    async def status(self) -> dict[str, Any]:
        """Return ``path``, ``id``, ``journal`` and ``warnings`` for users of the store."""
        return await asyncio.to_thread(self._status)

    # -- methods that run in threads ---------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        warnings = [
            f"A damaged store was renamed to {path}: its content is not shown."
            for path in self._file.set_aside_before()
        ]
        if self._network is not None:
            warnings.append(
                f"The store is on a network drive ({self._network}): it is slower there, and only"
                " Jupyter servers of one machine may share it. data_dir can name another folder."
            )
        elif self.journal != WAL:
            warnings.append(
                f"SQLite's WAL does not work in {self.path.parent}: the store is slower there."
            )
        if not self._file.locks:
            warnings.append(
                f"The file system of {self.path.parent} has no locks: only one Jupyter server may"
                " use the store. data_dir can name another folder."
            )
        return {
            "path": str(self.path),
            "id": self.id,
            "journal": self.journal,
            "warnings": warnings,
        }

    def _prepare(self) -> None:
        with self._explained():
            try:
                exclusive = self._file.lock(self._patience)
                if exclusive and self._file.is_damaged():
                    self._file.set_aside()
                try:
                    self._begin(exclusive)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error) or not exclusive:
                        raise
                    self._close_connections()
                    self._file.set_aside()
                    self._begin(exclusive)
                self._file.share_lock()
            except BaseException:
                self._close_connections()
                self._file.unlock()
                raise
        for warning in self._status()["warnings"][len(self._file.set_aside_before()) :]:
            log.warning("%s", warning)

    def _begin(self, exclusive: bool) -> None:
        """Open the file and migrate its schema; `exclusive`: no other process has it open."""
        steps = self._file.unknown_steps()
        if steps:
            raise newer(self.path, steps)
        # It contains tokens of unfinished uploads. SQLite gives its side files the same mode.
        self.path.touch(mode=0o600)
        self.path.chmod(0o600)
        self._network = self._file.network()
        connection = self._write_connection()
        if exclusive:
            self._let_shrink(connection)
        self.journal = self._choose_journal(connection)
        _set_safety(connection, self.journal)
        migrate(connection)
        (secret,) = connection.execute("SELECT value FROM job_secret").fetchone()
        self.id = hashlib.sha256(b"id of the store" + secret).hexdigest()[:32]

    def _let_shrink(self, connection: sqlite3.Connection) -> None:
        """Prepare a new file for `shrink`, or one of an earlier version, which is copied once.

        If the copy fails, as on a full disk, it is tried again at the next start.
        """
        (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if mode == INCREMENTAL:
            return
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            log.info("The file of the store cannot be made smaller: %s", error)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {self._patience * 1000:.0f}")

    def _choose_journal(self, connection: sqlite3.Connection) -> str:
        """Set the journal mode that is safe here; return the mode that SQLite uses."""
        wanted = WAL if self._network is None else "delete"
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return set_journal(connection, wanted)
            except sqlite3.OperationalError as error:
                # SQLite does not wait here for other processes that do the same.
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            time.sleep(ASK_AGAIN)

    def _wait_at_most(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Set the lock timeout of the writer's connection, in steps of `LEAST_WAIT`."""
        steps = max(math.ceil(seconds / LEAST_WAIT), 1)
        if steps != self._lock_wait:
            connection.execute(f"PRAGMA busy_timeout = {steps * LEAST_WAIT * 1000:.0f}")
            self._lock_wait = steps

    def _write_all(self, writes: Sequence[_Write]) -> list[Outcome]:
        """Do writes as one transaction; if that fails, each as its own."""
        if len(writes) > 1:
            with suppress(Exception):
                return self._commit(writes)
        outcomes = []
        for write in writes:
            try:
                outcomes += self._commit([write])
            except Exception as fault:
                outcomes.append(Outcome(error=fault))
        return outcomes

    def _commit(self, writes: Sequence[_Write]) -> list[Outcome]:
        with self._explained():
            connection = self._write_connection()
            self._wait_at_most(connection, self._patience - (time.monotonic() - writes[0].asked))
            return _transaction(
                connection, lambda: [Outcome(write.work(connection)) for write in writes]
            )

    def _read_all(self, reads: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Outcome]:
        outcomes = []
        for work in reads:
            try:
                with self._explained(write=False):
                    outcomes.append(Outcome(work(self._read_connection())))
            except Exception as fault:
                outcomes.append(Outcome(error=fault))
        return outcomes

    def _close_connections(self) -> None:
        for connection in self._connections:
            with suppress(sqlite3.Error):
                connection.close()
        self._connections.clear()
        self._writing = None

    def _write_connection(self) -> sqlite3.Connection:
        """Return the connection for writing, which one thread uses at a time."""
        if self._writing is None:
            self._writing = self._connect()
            _set_safety(self._writing, self.journal)
            self._writing.execute("PRAGMA secure_delete = ON")  # a deleted token is overwritten
            self._lock_wait = None
        return self._writing

    def _read_connection(self) -> sqlite3.Connection:
        """Return this thread's connection for reading."""
        found: sqlite3.Connection | None = getattr(self._local, "reading", None)
        if found is None:
            found = self._local.reading = self._connect()
            found.execute("PRAGMA query_only = ON")
        return found

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(
            self.path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        self._connections.append(made)
        made.row_factory = sqlite3.Row
        made.execute("PRAGMA foreign_keys = ON")
        return made

    @contextmanager
    def _explained(self, *, write: bool = True) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if is_damage(error):
                self._file.note_damage()
            # A reader's connection is read-only on purpose.
            found = explain(error, self.path) if write or "readonly" not in str(error) else None
            if found is None:
                raise
            raise found from error

    def _shut_down(self) -> None:
        self._writer.join()
        self._readers.join()
        self._close_connections()
        self._file.unlock()


class Repository:
    """Reads and writes the records of some tables, with methods of `reading` and `writing`."""

    def __init__(self, database: Database) -> None:
        self._database = database


def reading(
    work: Callable[Concatenate[R, sqlite3.Connection, P], T],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Make a method of a repository that gets a connection one that is awaited without it."""

    @functools.wraps(work)
    async def read(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(lambda db: work(self, db, *args, **kwargs))

    return read


def writing(
    work: Callable[Concatenate[R, sqlite3.Connection, P], T],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Make a method like `reading`, as one transaction; see `Database.write`."""

    @functools.wraps(work)
    async def write(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.write(lambda db: work(self, db, *args, **kwargs))

    return write


def storable(text: str) -> str:
    """Replace unpaired surrogates, such as half of an emoji, which SQLite refuses."""
    return text.encode(errors="replace").decode()


def readable(
    rows: Iterable[sqlite3.Row], read: Callable[[sqlite3.Row], T], what: str, name: str
) -> list[T]:
    """Return what ``read`` returns for each row; log the rows that it cannot read."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except Exception:  # the others are not affected
            log.exception("%s %r cannot be read from the store", what, row[name])
    return found


def set_journal(connection: sqlite3.Connection, wanted: str) -> str:
    """Set SQLite's journal mode, and return the mode that it uses from now on.

    On a file system that cannot share memory, the mode is not changed.
    """
    (found,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
    return str(found)


def _free_pages(connection: sqlite3.Connection) -> bool:
    """Free some pages at the end of the file; return whether there are more."""
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    connection.execute(f"PRAGMA incremental_vacuum({PORTION})").fetchall()
    (after,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(0 < after < before)


def _set_safety(connection: sqlite3.Connection, journal: str) -> None:
    """Set how often SQLite waits for the disk: WAL survives crashes with fewer waits."""
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == WAL else 'FULL'}")


def _transaction(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back if the disk is full
            connection.execute("ROLLBACK")
        raise
    return result
