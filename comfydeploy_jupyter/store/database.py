"""The SQLite file of all records: one writer thread, a few reader threads.

Also its locks and the place of damaged files, and what SQLite's errors mean for users.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import PurePath
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import psutil

from ..errors import FULL, NoSpaceError, StoreUnavailableError
from ..util.system import lock_file
from .migrations import migrate, transaction, unknown_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..errors import ComfyDeployError

log = logging.getLogger(__name__)

LITTLE = 64 * 1024  # bytes; with less free space, an I/O error is reported as a full disk

# SQLite's messages (sqlite3_errstr); Python 3.10 does not provide the error codes.
_LOCKED = ("database is locked", "database table is locked")
_FULL = "database or disk is full"
_DAMAGED = ("database disk image is malformed", "file is not a database", "malformed database")
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


# The reason, message and hint of each error, by the beginning of SQLite's message.
_MEANINGS = {
    "database is locked": (
        "locked",
        "Another process has locked the store {path}",
        "Try again; if the error remains, end the process that has the file open.",
    ),
    "attempt to write a readonly database": (
        "read_only",
        "The store cannot be written: {path} is read-only",
        (
            "Make the folder writable for the user who runs Jupyter, or set data_dir to a writable"
            " folder."
        ),
    ),
    "unable to open database file": (
        "read_only",
        "The store {path} cannot be opened",
        (
            "The folder must exist and be writable for the user who runs Jupyter; or set data_dir"
            " to another folder."
        ),
    ),
    "disk I/O error": (
        "disk",
        "The disk of the store {path} reports an error",
        "Check the disk, or set data_dir to a folder on another disk.",
    ),
    "database disk image is malformed": (
        "damaged",
        "The store {path} is damaged",
        (
            "Restart all Jupyter servers that use it: the first one that starts renames it and"
            " creates a new one."
        ),
    ),
}


def is_locked(error: BaseException) -> bool:
    """Return whether another process held a lock for longer than this process waits."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the file is damaged or not a database."""
    return isinstance(error, sqlite3.DatabaseError) and str(error).startswith(_DAMAGED)


def explain(error: Exception, path: Path) -> ComfyDeployError | None:
    """Return this package's error; None for an error in a statement, which is a bug of ours."""
    text = str(error)
    if isinstance(error, OSError):
        if error.errno in FULL:
            return _no_space(path)
        if error.errno not in _READ_ONLY:
            return _unavailable(
                path, "disk", f"The store {{path}} cannot be opened: {error.strerror}"
            )
        text = "attempt to write a readonly database"
    elif is_locked(error):
        text = _LOCKED[0]
    elif is_damage(error):
        text = _DAMAGED[0]
    elif text.startswith(_FULL) or (text in _MEANINGS and _is_full(path)):
        return _no_space(path)
    return _unavailable(path, *_MEANINGS[text]) if text in _MEANINGS else None


def _unavailable(path: Path, reason: str, message: str, hint: str = "") -> StoreUnavailableError:
    return StoreUnavailableError(
        message.replace("{path}", str(path)),
        details={"reason": reason, "path": str(path)},
        extra={"hint": hint} if hint else None,
    )


def _no_space(path: Path) -> NoSpaceError:
    return NoSpaceError(
        f"There is no space left on the disk for the store {path}", details={"path": str(path)}
    )


def _is_full(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return not found.f_flag & os.ST_RDONLY and found.f_bavail * found.f_frsize < LITTLE


T = TypeVar("T")


class Outcome(NamedTuple):
    result: Any = None
    error: Exception | None = None


class Call(NamedTuple):
    """The requested work with a connection, when it was requested, and what becomes of it."""

    work: Callable[[sqlite3.Connection], Any]
    asked: float  # `time.monotonic`
    future: asyncio.Future[Any]


class CallThreads:
    """Makes calls in threads, in the order in which they were requested, at most `most` at once.

    `asyncio.loop.run_in_executor` does the same for one call at a time, with two futures and a lock
    for each. Here a thread takes over all calls that wait, and the event loop is woken up once for
    all of their outcomes.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[Sequence[Call]], list[Outcome]],
        *,
        threads: int = 1,
        most: int = 1,
    ) -> None:
        self._name = name
        self._do = do
        self._most = most
        self._number = threads
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._closed = False

    def call(self, work: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """Request a call; return the future of its result.

        A call is not made if its future is cancelled before a thread takes it.
        """
        if self._closed:
            raise RuntimeError("the threads of the store have ended")
        if not self._threads:
            for number in range(self._number):
                name = f"{self._name}_{number}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Call(work, time.monotonic(), future))
        return future

    def end(self) -> None:
        """Refuse further calls; the threads end after those that were requested."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while self._do_some():
            pass

    def _do_some(self) -> bool:
        """Make the waiting calls, at least one; return False after the last call.

        This is a separate method, so that the thread has no references to the calls while it waits.
        """
        taken = [self._queue.get()]
        with suppress(Empty):
            while taken[-1] is not None and len(taken) < self._most:
                taken.append(self._queue.get_nowait())
        calls = [call for call in taken if call is not None and not call.future.cancelled()]
        if calls:
            try:
                outcomes = self._do(calls)
            except Exception as error:
                outcomes = [Outcome(error=error)] * len(calls)
            futures = [call.future for call in calls]
            with suppress(RuntimeError):  # the event loop was closed
                futures[0].get_loop().call_soon_threadsafe(_set_outcomes, futures, outcomes)
        return taken[-1] is not None


def _set_outcomes(futures: list[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.cancelled():
            continue
        if outcome.error is None:
            future.set_result(outcome.result)
        elif isinstance(outcome.error, StopIteration):  # which no future accepts
            future.set_exception(RuntimeError("a call of the store raised StopIteration"))
        else:
            future.set_exception(outcome.error)


DAMAGED = ".damaged-"
"""Part of the name of a damaged store that was set aside, after the store's name."""

# SQLite's WAL needs memory that all processes with the open file share; a network has none.
NETWORK = frozenset(
    {
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2"),
        *("glusterfs", "lustre", "macfuse", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"),
        *("osxfuse", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("vmhgfs", "webdav"),
    }
)
LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g"})
_SIDES = ("-wal", "-journal")  # files next to a database that contain changes to it
_SHARED = "-shm"  # file next to a database that SQLite creates again
_NOTE = ".found-damaged"  # file which marks that SQLite found the database damaged
ASK_AGAIN = 0.02  # seconds


class DataFile:
    """The database file and the files beside it. Its methods block: call them in threads.

    Each process that has the store open holds a shared lock on ``<name>.lock``, so that no other
    process renames the store: SQLite does not notice that an open database was renamed. While a
    process opens the store, its lock is exclusive if no other process has the store open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # whether its file system has locks; otherwise each process counts as the only one
        self.locks = True
        self._lock = -1

    def lock(self, patience: float) -> bool:
        """Create the folder and lock the store, exclusively if no other process has it open."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{self.path}.lock", flags, 0o600)
        deadline = time.monotonic() + patience
        while not (exclusive := self._try_lock()) and not self._try_lock(shared=True):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")
            time.sleep(ASK_AGAIN)
        return exclusive

    def share_lock(self) -> None:
        """Convert the lock to a shared one: other processes may open the store from now on."""
        lock_file(self._lock, shared=True, wait=True)

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _try_lock(self, *, shared: bool = False) -> bool:
        try:
            self.locks = lock_file(self._lock, shared=shared)
        except BlockingIOError:
            return False
        return True

    # -- the file system ---------------------------------------------------------------------

    def network(self) -> str | None:
        """Return the type of its network file system, such as ``nfs4``; None for a local one."""
        kind = file_system(self.path.parent)
        remote = kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE)
        return kind if remote else None

    # -- the schema --------------------------------------------------------------------------

    def unknown_steps(self) -> list[str]:
        """Return the applied migrations that this version does not have; nothing is written."""
        if not _size(self.path):
            return []
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            return unknown_steps(connection)

    # -- damage ------------------------------------------------------------------------------

    def note_damage(self) -> None:
        with suppress(OSError):
            self._beside(_NOTE).touch(mode=0o600)

    def is_damaged(self) -> bool:
        """Return whether the store was marked and is damaged, or only its WAL exists.

        SQLite would delete a WAL without its database.
        """
        if not _size(self.path):
            return _size(self._beside("-wal")) > 0
        if not self._beside(_NOTE).exists():
            return False
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return True
        if verdict != "ok":
            return True
        self._beside(_NOTE).unlink(missing_ok=True)
        return False

    def set_aside(self) -> Path:
        """Rename the damaged store, which no process has open; return its new path.

        The WAL and the journal are renamed first: after a crash in between, the next start still
        finds the database damaged, and sets it aside, too.
        """
        target = self._free_name()
        for side in _SIDES:
            if _size(self._beside(side)):
                self._beside(side).rename(f"{target}{side}")
        self._beside(_SHARED).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.path.rename(target)
        self._beside(_NOTE).unlink(missing_ok=True)
        log.error("The store %s is damaged. It was renamed to %s", self.path, target)
        return target

    def set_aside_before(self) -> list[Path]:
        """Return the paths of existing stores that were set aside, oldest first."""
        found = sorted(self.path.parent.glob(f"{self.path.name}{DAMAGED}*"))
        names = {path.name for path in found}
        sides = {f"{name}{side}" for name in names for side in _SIDES}
        return [path for path in found if path.name not in sides]

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}{suffix}")

    def _free_name(self) -> Path:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        name = f"{self.path.name}{DAMAGED}{stamp}"
        taken = {path.name for path in self.path.parent.glob(f"{name}*")}
        number = 0
        while any(other.startswith(f"{name}.{number}") for other in taken):
            number += 1
        return self.path.with_name(f"{name}.{number}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_system(path: Path) -> str:
    """Return the type of the file system of a path, such as ``ext4``; empty if unknown."""
    real = PurePath(os.path.realpath(path))
    try:
        mounted = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        return ""
    around = [entry for entry in reversed(mounted) if real.is_relative_to(entry.mountpoint)]
    # Of two with the same mount point, the later one hides the other.
    best = max(around, key=lambda entry: len(entry.mountpoint), default=None)
    return best.fstype.lower() if best is not None else ""


P = ParamSpec("P")
R = TypeVar("R", bound="Repository")

BUSY_TIMEOUT = 10.0  # seconds to wait for a lock that another process holds
LEAST_WAIT = 0.1  # seconds to wait for a lock at least, however long a write was queued
READERS = 2  # threads
STEPS = 100_000  # instructions of SQLite between two looks whether a result is still wanted
TOGETHER = 32  # writes that are committed together, at most
PORTION = 256  # pages that one transaction frees
INCREMENTAL = 2  # SQLite's number of this auto_vacuum
WAL = "wal"
# The details of a run, in JSON; a damaged row affects no other.
DETAILS = "CASE WHEN json_valid(record) THEN record ELSE '{}' END"


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
        self.journal = WAL  # SQLite's journal mode: ``wal`` or ``delete``
        self.id = ""  # of the content, wherever the file lies; a new file gets a new one
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
        """Create the file if needed and migrate its schema.

        StoreUnavailableError if it is locked, read-only, or from a newer version: then nothing was
        changed. NoSpaceError if the disk is full.
        """
        await asyncio.to_thread(self._prepare)

    async def close(self) -> None:
        self._writer.end()
        self._readers.end()
        await asyncio.to_thread(self._shut_down)

    def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """Run ``work(connection, …)`` as one transaction: all its changes are stored, or none.

        It is requested at once, and may be called twice: then nothing of the first call is stored.
        The future has StoreUnavailableError or NoSpaceError if the store cannot be written now.
        """
        return self._writer.call(lambda connection: work(connection, *args, **kwargs))

    def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """Run ``work(connection, …)`` on a connection that cannot write.

        If the future is cancelled, a statement that takes long ends soon.
        """
        return self._readers.call(lambda connection: work(connection, *args, **kwargs))

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
        return {
            "path": str(self.path),
            "id": self.id,
            "journal": self.journal,
            "warnings": [*warnings, *self._place_warnings()],
        }

    def _place_warnings(self) -> Iterator[str]:
        if self._network is not None:
            yield (
                f"The store is on a network drive ({self._network}): it is slower there, and only"
                " Jupyter servers of one machine may share it. data_dir can name another folder."
            )
        elif self.journal != WAL:
            yield f"SQLite's WAL does not work in {self.path.parent}: the store is slower there."
        if not self._file.locks:
            yield (
                f"The file system of {self.path.parent} has no locks: only one Jupyter server may"
                " use the store. data_dir can name another folder."
            )

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
        for warning in self._place_warnings():
            log.warning("%s", warning)

    def _begin(self, exclusive: bool) -> None:
        """Open the file and migrate its schema; `exclusive`: no other process has it open."""
        steps = self._file.unknown_steps()
        if steps:
            raise _unavailable(
                self.path,
                "newer",
                "The store {path} was created by a newer version of comfydeploy-jupyter"
                f" ({', '.join(steps)})",
                "Install that version, or set data_dir to another folder. The store was not"
                " changed.",
            )
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

    def _write_all(self, writes: Sequence[Call]) -> list[Outcome]:
        """Do writes as one transaction; if that fails, each as its own."""
        if len(writes) > 1:
            with suppress(Exception):
                return self._commit(writes)
        outcomes = []
        for write in writes:
            try:
                outcomes += self._commit([write])
            except Exception as exc:
                outcomes.append(Outcome(error=exc))
        return outcomes

    def _commit(self, writes: Sequence[Call]) -> list[Outcome]:
        with self._explained():
            connection = self._write_connection()
            self._wait_at_most(connection, self._patience - (time.monotonic() - writes[0].asked))
            with transaction(connection):
                return [Outcome(write.work(connection)) for write in writes]

    def _read_all(self, reads: Sequence[Call]) -> list[Outcome]:
        outcomes = []
        for read in reads:
            try:
                with self._explained(write=False):
                    connection = self._read_connection()
                    connection.set_progress_handler(read.future.cancelled, STEPS)
                    outcomes.append(Outcome(read.work(connection)))
            except Exception as exc:
                outcomes.append(Outcome(error=exc))
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
        made.text_factory = _text
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


def insert(
    connection: sqlite3.Connection, table: str, row: Mapping[str, Any], rest: str = ""
) -> None:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values}) {rest}", row)  # noqa: S608 - our own names


def _text(stored: bytes) -> str:
    """Return a text of the store; bytes that are no UTF-8 harm only this one."""
    return stored.decode(errors="replace")


def storable(text: str) -> str:
    """Replace unpaired surrogates, such as half of an emoji, which SQLite refuses."""
    return text.encode(errors="replace").decode()


def readable(
    rows: Iterable[sqlite3.Row], read: Callable[[sqlite3.Row], T], what: str, name: str
) -> list[T]:
    """Return what ``read`` returns for each row; log the rows that it cannot read.

    ``what`` begins the sentence of the log; ``name`` is the column that identifies a row for users.
    """
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
