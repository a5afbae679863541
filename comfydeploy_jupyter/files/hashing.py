"""SHA-256 of files: in threads, each file once, remembered in the store."""

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

AT_ONCE = 2  # files that are read
BLOCK = 1024 * 1024  # bytes read at once
TICK = 0.02  # seconds in which two changes of a file may carry the same time
ATTEMPTS = 2  # for a file that changes while it is read


class HashingStoppedError(Exception):
    """Hashing was given up because the server ends."""


@dataclass(frozen=True)
class FileHash:
    """The hash of a file.

    Attributes
    ----------
    path : Path
        Absolute, without links.
    sha256 : str
        Hexadecimal.
    size : int
        Bytes.
    cached : bool
        Whether it was known before.
    """

    path: Path
    sha256: str
    size: int
    cached: bool


@dataclass
class HashingProgress:
    """A file that is being hashed.

    Attributes
    ----------
    path : Path
        The file.
    size, done : int
        Bytes in all, and bytes read.
    """

    path: Path
    size: int
    done: int = 0


class Hasher:
    """Hashes files, a few at a time.

    Parameters
    ----------
    repository : HashRepository
        Where hashes are remembered under path, size, modification time and inode.
    """

    def __init__(self, repository: HashRepository) -> None:
        self._repository = repository
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="comfydeploy-hash")
        self._stop = threading.Event()
        self._jobs: dict[FileKey, asyncio.Task[FileHash]] = {}
        self._progress: dict[FileKey, HashingProgress] = {}

    @property
    def progress(self) -> list[HashingProgress]:
        """The files that are being hashed or wait for it, oldest first."""
        return list(self._progress.values())

    async def hash(
        self, folders: Folders, name: str | Path, *, field: str = "filename"
    ) -> FileHash:
        """Return the hash of a file, from the store where it is known.

        Whoever asks for a file that is being hashed waits for the same reading of it. A caller
        that is cancelled does not stop it: the hash is remembered for the next.

        Parameters
        ----------
        folders : Folders
            Opens the file.
        name : str or Path
            As the user wrote it, or a path that `Folders.resolve` returned.
        field : str
            The request's field, for messages.

        Raises
        ------
        InvalidRequestError
            As `Folders.resolve`.
        NotFoundError
            There is no such file, or it vanishes meanwhile.
        ConflictError
            It changes while it is read, twice.
        ForbiddenPathError
            It may not be read.
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
        """Return the cached hashes of files, without computing any.

        Parameters
        ----------
        paths : sequence of str
            Absolute, links allowed.

        Returns
        -------
        dict
            Hexadecimal SHA-256 by path.
        """
        keys = await asyncio.to_thread(_keys_of, paths)
        hashes = await self._repository.get_all(list(keys.values()))
        return {path: hashes[key] for path, key in keys.items() if key in hashes}

    async def close(self) -> None:
        """Stop hashing; callers that still wait are cancelled."""
        self._stop.set()
        await end(self._jobs.values())
        await asyncio.to_thread(self._threads.shutdown)

    def _forget(self, key: FileKey, job: asyncio.Task[FileHash]) -> None:
        del self._jobs[key], self._progress[key]
        if not job.cancelled():
            job.exception()  # nobody may be waiting for it any more

    async def _hash(self, folders: Folders, progress: HashingProgress) -> FileHash:
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            found = await loop.run_in_executor(self._threads, self._read, folders, progress)
            if found is not None:
                key, sha256 = found
                try:
                    await self._repository.put(key, sha256)
                except (NoSpaceError, StoreUnavailableError) as error:
                    log.warning("A hash will have to be computed again: %s", error.message)
                return FileHash(progress.path, sha256, key.size, cached=False)
        raise ConflictError(f"{progress.path} changes while it is hashed; try again later.")

    def _read(self, folders: Folders, progress: HashingProgress) -> tuple[FileKey, str] | None:
        """Return a file's state and hash, or None if it changed meanwhile."""
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
        Told the bytes of each block read; may raise to stop.
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
