"""SHA-256 of files: computed in threads, once for each file, and cached in the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConflictError, NoSpaceError, StoreUnavailableError
from ..net.tasks import end
from ..store.hashes import FileKey

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..store.hashes import HashRepository

log = logging.getLogger(__name__)

AT_ONCE = 2  # files that are read at the same time
BLOCK = 1024 * 1024  # bytes of one read
TICK = 0.02  # seconds within which two changes of a file may get the same time
ATTEMPTS = 2  # attempts for a file that changes while it is read


class HashingStoppedError(Exception):
    """Hashing was aborted because the server stops."""


@dataclass(frozen=True)
class FileHash:
    """The hash of a file.

    Attributes
    ----------
    path : Path
        Absolute path without links.
    sha256 : str
        Hexadecimal hash.
    size : int
        Size in bytes.
    cached : bool
        Whether the hash was cached.
    """

    path: Path
    sha256: str
    size: int
    cached: bool


@dataclass
class HashingProgress:
    """The progress of hashing one file.

    Attributes
    ----------
    path : Path
        The file.
    size, done : int
        Size in bytes, and number of bytes read.
    """

    path: Path
    size: int
    done: int = 0


class Hasher:
    """Hashes files, `AT_ONCE` at the same time.

    Parameters
    ----------
    repository : HashRepository
        Cache of hashes by path, size, modification time and inode.
    """

    def __init__(self, repository: HashRepository) -> None:
        self._repository = repository
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="comfydeploy-hash")
        self._stop = threading.Event()
        self._jobs: dict[FileKey, asyncio.Task[FileHash]] = {}
        self._progress: dict[FileKey, HashingProgress] = {}

    @property
    def progress(self) -> list[HashingProgress]:
        """The files that are being hashed or are waiting, oldest first."""
        return list(self._progress.values())

    async def hash(
        self, folders: Folders, name: str | Path, *, field: str = "filename"
    ) -> FileHash:
        """Return the hash of a file, from the cache if it is there.

        Concurrent calls for the same file wait for a single computation. A cancelled caller does
        not stop it: the hash is cached for the next call.

        Parameters
        ----------
        folders : Folders
            Opens the file.
        name : str or Path
            The name as the user wrote it, or a path that `Folders.resolve` returned.
        field : str
            Name of the request's field, for error messages.

        Raises
        ------
        InvalidRequestError
            As in `Folders.resolve`.
        NotFoundError
            If the file does not exist, or is deleted in the meantime.
        ConflictError
            If it changes while it is read, in all attempts.
        ForbiddenPathError
            If it may not be read.
        """
        path, key = await asyncio.to_thread(_find, folders, name, field)
        known = await self._repository.get(key)
        if known is not None:
            return FileHash(path, known, key.size, cached=True)
        job = self._jobs.get(key)
        if job is None:
            self._progress[key] = progress = HashingProgress(path, key.size)
            job = self._jobs[key] = asyncio.create_task(self._hash(folders, progress))
            job.add_done_callback(lambda job: self._forget(key, job))
        return await asyncio.shield(job)

    async def known(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the cached hashes of files, without computing any hash.

        Parameters
        ----------
        paths : sequence of str
            Absolute paths; links are allowed.

        Returns
        -------
        dict
            Hexadecimal SHA-256 by path.
        """
        keys = await asyncio.to_thread(_keys_of, paths)
        hashes = await self._repository.get_all(list(keys.values()))
        return {path: hashes[key] for path, key in keys.items() if key in hashes}

    async def close(self) -> None:
        """Stop hashing and cancel the callers that are still waiting."""
        self._stop.set()
        await end(self._jobs.values())
        await asyncio.to_thread(self._threads.shutdown)

    def _forget(self, key: FileKey, job: asyncio.Task[FileHash]) -> None:
        del self._jobs[key], self._progress[key]
        if not job.cancelled():
            job.exception()  # possibly no caller is waiting for it any more

    async def _hash(self, folders: Folders, progress: HashingProgress) -> FileHash:
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            found = await loop.run_in_executor(self._threads, self._read, folders, progress)
            if found is not None:
                key, sha256 = found
                try:
                    await self._repository.put(key, sha256)
                except (NoSpaceError, StoreUnavailableError) as error:
                    log.warning(
                        "A hash could not be stored and will be computed again: %s", error.message
                    )
                return FileHash(progress.path, sha256, key.size, cached=False)
        raise ConflictError(f"{progress.path} is changing while it is hashed; try again later.")

    def _read(self, folders: Folders, progress: HashingProgress) -> tuple[FileKey, str] | None:
        """Return a file's state and hash, or None if the file changed in the meantime."""
        with folders.open_for_read(progress.path) as file:
            status = os.fstat(file.fileno())
            before = FileKey.of(progress.path, status)
            age = time.time() - status.st_mtime
            if abs(age) < TICK:
                time.sleep(TICK - age)

            def advance(count: int) -> None:
                if self._stop.is_set():
                    raise HashingStoppedError
                progress.done += count

            progress.done, progress.size = 0, before.size
            sha256 = sha256_of(file, advance)
            same = FileKey.of(progress.path, os.fstat(file.fileno())) == before
        return (before, sha256) if same and _is_still_there(before) else None


def sha256_of(file: io.FileIO, advance: Callable[[int], None] | None = None) -> str:
    """Return the hexadecimal SHA-256 of the rest of an unbuffered file.

    Parameters
    ----------
    file : io.FileIO
        The file.
    advance : callable, optional
        Called with the number of bytes of each block read; may raise to stop.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        if advance is not None:
            advance(count)
    return digest.hexdigest()


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
        return FileKey.of(key.path, os.stat(key.path)) == key  # noqa: PTH116 - the key has text
    except OSError:
        return False
