"""SHA-256 and BLAKE3 of files: computed in threads in one reading, and cached in the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from ..errors import ConflictError, NoSpaceError, StoreUnavailableError
from ..util.tasks import BackgroundTasks, end

if TYPE_CHECKING:
    import io
    import sqlite3
    from collections.abc import Sequence

    from ..comfyui.folders import Folders
    from ..store.database import Database
    from .uploads import StoredFile

log = logging.getLogger(__name__)

AT_ONCE = 2  # files that are read at the same time
BLOCK = 1024 * 1024  # bytes of one read
TICK = 0.02  # seconds within which two changes of a file may get the same time
ATTEMPTS = 2  # attempts for a file that changes while it is read


class HashingStoppedError(Exception):
    """Hashing was aborted because the server stops."""


@dataclass(frozen=True)
class FileKey:
    path: str  # absolute, without links
    size: int
    mtime_ns: int
    inode: int
    # No program can set the time of the last change of the file or of its entry. None if the key
    # was stored before there was a column for it.
    ctime_ns: int | None = None

    @classmethod
    def of(cls, path: str | Path, status: os.stat_result) -> FileKey:
        return cls(
            *(str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
        )

    def fits(self, status: os.stat_result) -> bool:
        """Return whether a file with this result of `os.stat` is in this state."""
        now = FileKey.of(self.path, status)
        return self in (now, replace(now, ctime_ns=None))


class Hashes(NamedTuple):
    sha256: str
    blake3: str | None  # None for hashes that were stored before there was a column for it


@dataclass(frozen=True)
class FileHash:
    path: Path  # absolute, without links
    sha256: str
    blake3: str | None  # None only if a cached one is not known and was not requested
    size: int
    cached: bool


class Hasher:
    """Hashes files, `AT_ONCE` at the same time.

    The cache has one row for each file, for its last known state: path, size, times, inode.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="comfydeploy-hash")
        self._helpers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="comfydeploy-blake3")
        self._tasks = BackgroundTasks(log)
        self._stop = threading.Event()
        self._jobs: dict[FileKey, asyncio.Task[FileHash]] = {}

    async def hash(
        self,
        folders: Folders,
        name: str | Path,
        *,
        field: str = "filename",
        with_blake3: bool = False,
    ) -> FileHash:
        """Return the hash of a file, from the cache if it is there.

        The name is as the user wrote it, or a path that `Folders.resolve` returned. Concurrent
        calls for the same file wait for a single computation. A cancelled caller does not stop it:
        the hash is cached for the next call. `ConflictError` if the file changes in all attempts.
        """
        path, key = await asyncio.to_thread(_find, folders, name, field)
        known = await self._database.read(stored_hashes, key)
        if known is not None and (known.blake3 is not None or not with_blake3):
            return FileHash(path, *known, key.size, cached=True)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = asyncio.create_task(self._hash(folders, path))
            job.add_done_callback(lambda job: self._forget(key, job))
        return await asyncio.shield(job)

    async def in_state(self, folders: Folders, key: FileKey) -> str | None:
        """Return the SHA-256 of a file in this state; None if it is not in this state any more."""
        known = await self._database.read(stored_hashes, key)
        if known is not None:
            return known.sha256
        found = await self.hash(folders, Path(key.path))
        return found.sha256 if await asyncio.to_thread(_is_still_there, key) else None

    async def known(self, paths: Sequence[str]) -> dict[str, str]:
        keys = await asyncio.to_thread(_keys_of, paths)
        found = await self._database.read(
            lambda db: {path: stored_hashes(db, key) for path, key in keys.items()}
        )
        return {path: hashes.sha256 for path, hashes in found.items() if hashes is not None}

    async def cached(self, path: Path) -> Hashes | None:
        key = (await asyncio.to_thread(_keys_of, [str(path)])).get(str(path))
        return None if key is None else await self._database.read(stored_hashes, key)

    def remember_later(self, file: StoredFile) -> None:
        """Cache the hashes of a file that was uploaded, so that it need not be read again."""
        hashes = Hashes(file.sha256, file.blake3)
        self._tasks.start(self.remember(file.path, hashes), "Caching the hashes of a file")

    async def remember(self, path: Path, hashes: Hashes) -> None:
        """Cache the hashes of a file that this server has just written."""
        key = await asyncio.to_thread(_key_once_old, path)
        if key is not None:
            await self._keep(key, hashes)

    async def with_content(self, blake3: str) -> list[Path]:
        """Return the files that have the content with this BLAKE3, as far as that is cached."""
        keys = await self._database.read(keys_of_blake3, blake3)
        return await asyncio.to_thread(
            lambda: [Path(key.path) for key in keys if _is_still_there(key)]
        )

    async def prune(self) -> int:
        """Delete the rows of files that do not exist any more; return their number.

        The row of a file in a missing folder is kept: its disk may be unmounted.
        """
        names = await self._database.read(
            lambda db: [path for (path,) in db.execute("SELECT path FROM hashes")]
        )
        gone = await asyncio.to_thread(lambda: [name for name in names if _is_gone(name)])
        await self._database.write(_forget, gone)
        return len(gone)

    async def close(self) -> None:
        self._stop.set()
        await end(self._jobs.values())
        await self._tasks.close()
        await asyncio.to_thread(self._threads.shutdown)
        self._helpers.shutdown(wait=False)

    def _forget(self, key: FileKey, job: asyncio.Task[FileHash]) -> None:
        del self._jobs[key]
        if not job.cancelled():
            job.exception()  # possibly no caller is waiting for it any more

    async def _hash(self, folders: Folders, path: Path) -> FileHash:
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            found = await loop.run_in_executor(self._threads, self._read, folders, path)
            if found is not None:
                key, hashes = found
                await self._keep(key, hashes)
                return FileHash(path, *hashes, key.size, cached=False)
        raise ConflictError(f"{path} is changing while it is hashed; try again later.")

    def _hashes_of(self, file: io.FileIO) -> Hashes:
        """Return the hashes of the rest of an unbuffered file.

        The two hashes of a block are computed at the same time. BLAKE3 takes less time than
        SHA-256, so it does not increase the total time.
        """
        sha256, other = hashlib.sha256(), blake3()
        buffer = memoryview(bytearray(BLOCK))
        while count := file.readinto(buffer):
            block = buffer[:count]
            updating = self._helpers.submit(other.update, block)
            sha256.update(block)
            updating.result()
            if self._stop.is_set():
                raise HashingStoppedError
        return Hashes(sha256.hexdigest(), other.hexdigest())

    async def _keep(self, key: FileKey, hashes: Hashes) -> None:
        try:
            await self._database.write(store_hashes, key, hashes)
        except (NoSpaceError, StoreUnavailableError) as error:
            log.warning("A hash could not be stored and will be computed again: %s", error.message)

    def _read(self, folders: Folders, path: Path) -> tuple[FileKey, Hashes] | None:
        """Return a file's state and hashes, or None if the file changed in the meantime."""
        with folders.open_for_read(path) as file:
            status = os.fstat(file.fileno())
            before = FileKey.of(path, status)
            _wait_for_a_tick(status)
            hashes = self._hashes_of(file)
            same = FileKey.of(path, os.fstat(file.fileno())) == before
        return (before, hashes) if same and _is_still_there(before) else None


def sha256_of(file: io.FileIO) -> str:
    """Return the hexadecimal SHA-256 of the rest of an unbuffered file."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    return digest.hexdigest()


def _wait_for_a_tick(status: os.stat_result) -> None:
    """Wait until a change of the file would get another time than its last one."""
    for changed in (status.st_mtime, status.st_ctime):
        age = time.time() - changed
        if abs(age) < TICK:
            time.sleep(TICK - age)


def _key_once_old(path: Path) -> FileKey | None:
    """Return the state of a file, once a change would get another time; None if it is missing."""
    try:
        status = path.stat()
        _wait_for_a_tick(status)
        return FileKey.of(path, path.stat()) if path.stat() == status else None
    except OSError:
        return None


def _find(folders: Folders, name: str | Path, field: str) -> tuple[Path, FileKey]:
    path = folders.resolve(name, field=field) if isinstance(name, str) else name
    with folders.open_for_read(path) as file:
        return path, FileKey.of(path, os.fstat(file.fileno()))


def _keys_of(paths: Sequence[str]) -> dict[str, FileKey]:
    keys = {}
    for path in paths:
        real = os.path.realpath(path)
        with contextlib.suppress(OSError):
            keys[path] = FileKey.of(real, os.stat(real))  # noqa: PTH116 - text: there are many
    return keys


def _is_still_there(key: FileKey) -> bool:
    try:
        return key.fits(os.stat(key.path))  # noqa: PTH116 - the key has text
    except OSError:
        return False


def _row(key: FileKey) -> tuple[str, int, int, int, int | None]:
    """Return the key as values for SQLite: Unicode text and signed 64-bit integers."""
    path = os.fsencode(key.path).decode(errors="backslashreplace")
    inode = key.inode if key.inode < 1 << 63 else key.inode - (1 << 64)
    return path, key.size, key.mtime_ns, inode, key.ctime_ns


def stored_hashes(connection: sqlite3.Connection, key: FileKey) -> Hashes | None:
    """Return the hashes of a file in exactly this state, or None."""
    row = connection.execute(
        "SELECT sha256, blake3 FROM hashes"
        " WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        " AND (ctime_ns IS NULL OR ctime_ns = ?)",
        _row(key),
    ).fetchone()
    return None if row is None else Hashes(*row)


def keys_of_blake3(connection: sqlite3.Connection, blake3: str) -> list[FileKey]:
    """Return the states of files that had the content with this BLAKE3."""
    rows = connection.execute(
        "SELECT path, size, mtime_ns, inode, ctime_ns FROM hashes WHERE blake3 = ?", (blake3,)
    )
    return [
        FileKey(path, size, mtime_ns, inode if inode >= 0 else inode + (1 << 64), ctime_ns)
        for path, size, mtime_ns, inode, ctime_ns in rows
    ]


def store_hashes(connection: sqlite3.Connection, key: FileKey, hashes: Hashes) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO hashes (path, size, mtime_ns, inode, ctime_ns, sha256, blake3)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*_row(key), *hashes),
    )


def _is_gone(name: str) -> bool:
    path = Path(name)
    try:
        return not path.exists() and path.parent.exists()
    except OSError:
        return False


def _forget(connection: sqlite3.Connection, paths: list[str]) -> None:
    connection.executemany("DELETE FROM hashes WHERE path = ?", [(path,) for path in paths])
