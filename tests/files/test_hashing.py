"""Hashes of files: correct, cached, computed once, and never outdated."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import ConflictError, ForbiddenPathError, NotFoundError
from comfydeploy_jupyter.files.hashes import (
    BLOCK,
    FileKey,
    Hasher,
    Hashes,
    HashingProgress,
    store_hashes,
    stored_hashes,
)
from comfydeploy_jupyter.store.database import READERS, Database
from tests.helpers.disks import silent_disk

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.slow

KEPT = Hashes("sha256", "blake3")
TABLE = """
    CREATE TABLE IF NOT EXISTS hashes (
        path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT, blake3 TEXT
    )
"""


def create(connection: sqlite3.Connection) -> None:
    connection.execute(TABLE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "root"
    root.mkdir()
    return root


@pytest.fixture
def folders(root: Path) -> Folders:
    return Folders(None, jupyter_root=root)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Database]:
    database = Database(root.parent / "store.sqlite")
    await database.open()
    await database.write(create)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def hashing(root: Path) -> AsyncIterator[Hasher]:
    async with opened(root) as database:
        hasher = Hasher(database)
        try:
            yield hasher
        finally:
            await hasher.close()


def sparse(path: Path, size: int = 400_000_000) -> Path:
    """Make a sparse file: it uses no space on the disk, and takes some time to read."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def begun(hasher: Hasher, more_than: int = 0, *, files: int = 1) -> HashingProgress:
    """Wait until the first of so many files is being read."""

    def wait() -> HashingProgress:
        while len(hasher.progress) < files or hasher.progress[0].done <= more_than:
            time.sleep(0.001)
        return hasher.progress[0]

    return await asyncio.to_thread(wait)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_hashes_are_right_and_remembered(root: Path, folders: Folders, size: int) -> None:
    content = os.urandom(size)
    (root / "a").write_bytes(content)

    async def run() -> None:
        async with hashing(root) as hasher:
            first = await hasher.hash(folders, root / "a")
            again = await hasher.hash(folders, root / "a")
        assert (first.sha256, first.size, first.cached) == (sha256(content), size, False)
        assert (again.sha256, again.size, again.cached) == (sha256(content), size, True)
        assert first.blake3 == again.blake3 == blake3(content).hexdigest()
        async with hashing(root) as after_restart:
            assert (await after_restart.hash(folders, root / "a")).cached

    asyncio.run(run())


def test_a_cached_sha256_without_blake3_is_completed(root: Path, folders: Folders) -> None:
    path = root / "a"
    path.write_bytes(b"one")

    async def run() -> None:
        async with opened(root) as database:
            hasher = Hasher(database)
            key = FileKey.of(path, path.stat())
            await database.write(store_hashes, key, Hashes(sha256(b"one"), None))
            assert (await hasher.hash(folders, path)).blake3 is None
            for cached in (False, True):
                found = await hasher.hash(folders, path, with_blake3=True)
                assert (found.blake3, found.cached) == (blake3(b"one").hexdigest(), cached)
            await hasher.close()

    asyncio.run(run())


def test_files_are_found_by_their_blake3_while_they_have_it(root: Path, folders: Folders) -> None:
    path, copy = root / "a", root / "copy"
    digest = blake3(b"one").hexdigest()

    async def run() -> None:
        async with hashing(root) as hasher:
            path.write_bytes(b"one")
            await hasher.remember(path, Hashes(sha256(b"one"), digest))
            assert (await hasher.hash(folders, path)).cached
            copy.write_bytes(b"one")
            await hasher.hash(folders, copy)
            assert sorted(await hasher.with_content(digest)) == [path, copy]
            path.write_bytes(b"two")
            assert await hasher.with_content(digest) == [copy]
            copy.unlink()
            assert await hasher.with_content(digest) == []
            await hasher.remember(copy, Hashes(sha256(b"one"), digest))
            assert await hasher.with_content(digest) == []

    asyncio.run(run())


@pytest.mark.parametrize("years", [-20, 20])
def test_a_file_with_a_time_far_in_the_past_or_future(
    root: Path, folders: Folders, years: int
) -> None:
    """The clock was set: the hash is cached as for other files, not used for another content."""
    path = root / "a"
    path.write_bytes(b"one")
    moment = time.time() + years * 365 * 24 * 3600
    os.utime(path, (moment, moment))

    async def run() -> None:
        async with hashing(root) as hasher:
            assert (await hasher.hash(folders, path)).sha256 == sha256(b"one")
            assert (await hasher.hash(folders, path)).cached
            path.write_bytes(b"two")
            found = await hasher.hash(folders, path)
            assert (found.sha256, found.cached) == (sha256(b"two"), False)

    asyncio.run(run())


def test_a_full_database_does_not_prevent_hashing(root: Path, folders: Folders) -> None:
    (root / "a").write_bytes(b"one")

    def limit(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # no page more than there are

    async def run() -> None:
        database = Database(root.parent / "store.sqlite")
        await database.open()
        hasher = Hasher(database)
        await database.write(limit)
        for number in range(40):  # its last page holds some
            path = root / f"{number}{'x' * 200}"
            path.write_bytes(b"one")
            assert (await hasher.hash(folders, path)).sha256 == sha256(b"one")
        assert not (await hasher.hash(folders, path)).cached
        await hasher.close()
        await database.close()

    asyncio.run(run())


def rewrite(path: Path) -> None:
    path.write_bytes(b"other")


def replace_keeping_the_time(path: Path) -> None:
    status = path.stat()
    new = path.with_name("new")
    new.write_bytes(b"other")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def grow_keeping_the_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def rewrite_keeping_the_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [rewrite, replace_keeping_the_time, grow_keeping_the_time, rewrite_keeping_the_time],
)
def test_a_changed_file_gets_a_new_hash(
    root: Path, folders: Folders, change: Callable[[Path], None]
) -> None:
    async def run() -> None:
        async with hashing(root) as hasher:
            for _ in range(20):
                (root / "a").write_bytes(b"first")
                assert (await hasher.hash(folders, root / "a")).sha256 == sha256(b"first")
                change(root / "a")
                found = await hasher.hash(folders, root / "a")
                assert (found.sha256, found.cached) == (sha256(b"other"), False)

    asyncio.run(run())


def test_a_second_request_joins_the_first(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> None:
        async with hashing(root) as hasher:
            first = asyncio.create_task(hasher.hash(folders, path))
            done = (await begun(hasher)).done
            others = [asyncio.create_task(hasher.hash(folders, path)) for _ in range(5)]
            assert (await begun(hasher, done)).size == 400_000_000
            assert len(hasher.progress) == 1
            found = await asyncio.gather(first, *others)
            assert len({(hashed.sha256, hashed.cached) for hashed in found}) == 1
            assert hasher.progress == []

    asyncio.run(run())


def test_a_known_file_does_not_wait_for_others(root: Path, folders: Folders) -> None:
    (root / "small").write_bytes(b"x")
    endless = 400_000_000_000  # bytes: none is done before the test is
    paths = [sparse(root / f"big{i}", endless) for i in range(4)]

    async def run() -> None:
        async with hashing(root) as hasher:
            await hasher.hash(folders, root / "small")
            tasks = [asyncio.create_task(hasher.hash(folders, path)) for path in paths]
            await begun(hasher, files=4)
            assert (await hasher.hash(folders, root / "small")).cached
            assert len(hasher.progress) == 4
            assert sum(file.done > 0 for file in hasher.progress) <= 2
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_a_file_that_changes_once_is_read_again(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> str:
        async with hashing(root) as hasher:
            task = asyncio.create_task(hasher.hash(folders, path))
            await begun(hasher)
            with path.open("r+b") as file:
                file.write(b"changed")
            return (await task).sha256

    found = asyncio.run(run())
    with path.open("rb") as file:
        assert found == hashlib.sha256(file.read()).hexdigest()


def test_a_file_that_keeps_changing_is_a_conflict(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> None:
        async with hashing(root) as hasher:
            task = asyncio.create_task(hasher.hash(folders, path))
            while not task.done():
                os.utime(path)
                await asyncio.sleep(0.002)
            with pytest.raises(ConflictError, match="is changing"):
                await task

    asyncio.run(run())


def test_a_file_that_is_replaced_gets_the_hash_of_the_new_one(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> None:
        async with hashing(root) as hasher:
            task = asyncio.create_task(hasher.hash(folders, path))
            await begun(hasher)
            (root / "new").write_bytes(b"new")
            (root / "new").replace(path)
            assert (await task).sha256 == sha256(b"new")

    asyncio.run(run())


def test_a_file_that_vanishes_is_not_found(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> None:
        async with hashing(root) as hasher:
            task = asyncio.create_task(hasher.hash(folders, path))
            await begun(hasher)
            path.unlink()
            with pytest.raises(NotFoundError):
                await task
            with pytest.raises(NotFoundError):
                await hasher.hash(folders, path)
            with pytest.raises(ForbiddenPathError):
                await hasher.hash(folders, Path("/etc/passwd"))

    asyncio.run(run())


def test_closing_stops_at_once(root: Path, folders: Folders) -> None:
    path = sparse(root / "huge", 1_000_000_000_000)

    async def run() -> float:
        async with hashing(root) as hasher:
            task = asyncio.create_task(hasher.hash(folders, path))
            await begun(hasher)
            started = time.monotonic()
            await hasher.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - started

    assert asyncio.run(run()) < 5


def test_a_cancelled_caller_does_not_stop_the_hashing(root: Path, folders: Folders) -> None:
    path = sparse(root / "big")

    async def run() -> None:
        async with hashing(root) as hasher:
            first = asyncio.create_task(hasher.hash(folders, path))
            await begun(hasher)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert len(hasher.progress) == 1
            await hasher.hash(folders, path)
            assert (await hasher.hash(folders, path)).cached

    asyncio.run(run())


def test_pruning_deletes_hashes_of_removed_but_not_of_unmounted_files(root: Path) -> None:
    (root / "here").write_bytes(b"x")
    names = [root / "here", root / "gone", root / "unmounted/file"]
    keys = [FileKey(str(name), 1, 2, 3) for name in names]

    async def run() -> None:
        async with opened(root) as database:
            for key in keys:
                await database.write(store_hashes, key, KEPT)
            assert await Hasher(database).prune() == 1
            assert [await database.read(stored_hashes, key) for key in keys] == [KEPT, None, KEPT]

    asyncio.run(run())


@pytest.mark.mounts
def test_pruning_waits_for_a_disk_in_no_thread_of_the_store(root: Path) -> None:
    async def run(disk: Path) -> None:
        keys = [FileKey(str(disk / f"{number}"), 1, 2, 3) for number in range(READERS)]
        async with opened(root) as database:
            for key in keys:
                await database.write(store_hashes, key, KEPT)
            pruning = [asyncio.create_task(Hasher(database).prune()) for _ in range(READERS)]
            await asyncio.sleep(0.2)
            try:
                assert await asyncio.wait_for(database.read(stored_hashes, keys[0]), 10) == KEPT
                assert not any(task.done() for task in pruning)
            finally:
                stack.close()
            await asyncio.gather(*pruning)

    with ExitStack() as stack:
        asyncio.run(run(stack.enter_context(silent_disk(root / "disk"))))


def test_a_hash_from_before_the_time_of_the_change_was_stored_stays_valid(
    root: Path, folders: Folders
) -> None:
    path = root / "a"
    path.write_bytes(b"one")

    async def run() -> None:
        async with opened(root) as database:
            hasher = Hasher(database)
            key = replace(FileKey.of(path, path.stat()), ctime_ns=None)
            await database.write(store_hashes, key, KEPT)
            found = await hasher.hash(folders, path)
            assert (found.sha256, found.cached) == (KEPT.sha256, True)
            assert await hasher.with_content(KEPT.blake3) == [path]
            path.write_bytes(b"three")
            assert await hasher.with_content(KEPT.blake3) == []
            await hasher.close()

    asyncio.run(run())


def test_unusual_keys_are_kept_too(root: Path) -> None:
    key = FileKey(os.fsdecode(b"/not-utf8-\xff"), 2**62, -5, 2**64 - 1)

    async def run() -> None:
        async with opened(root) as database:
            await database.write(store_hashes, key, KEPT)
            assert await database.read(stored_hashes, key) == KEPT
            assert (
                await database.read(stored_hashes, FileKey(key.path, key.size, key.mtime_ns, 1))
                is None
            )

    asyncio.run(run())
