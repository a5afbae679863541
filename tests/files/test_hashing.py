"""Hashes of files: correct, cached, computed once, and never outdated."""

import asyncio
import ctypes
import hashlib
import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import ConflictError, ForbiddenPathError, NotFoundError
from comfydeploy_jupyter.files.hashes import (
    AT_ONCE,
    BLOCK,
    FileKey,
    Hasher,
    Hashes,
    store_hashes,
    stored_hashes,
)
from comfydeploy_jupyter.store.database import READERS, Database
from tests.helpers.waiting import until_async

pytestmark = pytest.mark.slow

KEPT = Hashes("sha256", "blake3")


@contextmanager
def silent_disk(folder):
    """Mount a file system whose server never answers, in a test with the mark ``mounts``."""
    folder.mkdir()
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("needs FUSE")
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", bytes(folder), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    try:
        yield folder
    finally:
        os.close(server)  # what waits for it gets an error
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def root(tmp_path):
    root = tmp_path.resolve() / "root"
    root.mkdir()
    return root


@pytest.fixture
def folders(root):
    return Folders(None, jupyter_root=root)


@pytest.fixture
def database(root, jp_asyncio_loop):
    found = Database(root.parent / "store.sqlite")
    jp_asyncio_loop.run_until_complete(found.open())
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


class Counting(Hasher):
    """Counts the readings of files that have begun."""

    reads = 0

    def _hashes_of(self, file):
        self.reads += 1
        return super()._hashes_of(file)


@pytest.fixture
def hasher(database, jp_asyncio_loop):
    found = Counting(database)
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


def sparse(path, size=200_000_000):
    """Make a sparse file: it uses no space on the disk, and takes some time to read."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def begun(hasher, files=1):
    """Wait until so many more files are being read."""
    wanted = hasher.reads + files
    await until_async(lambda: hasher.reads >= wanted)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
async def test_hashes_are_right_and_remembered(root, folders, database, hasher, size):
    content = os.urandom(size)
    (root / "a").write_bytes(content)
    first = await hasher.hash(folders, root / "a")
    assert (first.sha256, first.size, first.cached) == (sha256(content), size, False)
    assert first.blake3 == blake3(content).hexdigest()
    after_restart = Hasher(database)
    for again in (hasher, after_restart):
        assert await again.hash(folders, root / "a") == replace(first, cached=True)
    await after_restart.close()


async def test_a_cached_sha256_without_blake3_is_completed(root, folders, database, hasher):
    path = root / "a"
    path.write_bytes(b"one")

    key = FileKey.of(path, path.stat())
    await database.write(store_hashes, key, Hashes(sha256(b"one"), None))
    assert (await hasher.hash(folders, path)).blake3 is None
    for cached in (False, True):
        found = await hasher.hash(folders, path, with_blake3=True)
        assert (found.blake3, found.cached) == (blake3(b"one").hexdigest(), cached)


async def test_files_are_found_by_their_blake3_while_they_have_it(root, folders, hasher):
    path, copy = root / "a", root / "copy"
    digest = blake3(b"one").hexdigest()

    path.write_bytes(b"one")
    await hasher.remember(path, Hashes(sha256(b"one"), digest))
    assert (await hasher.hash(folders, path)).cached
    copy.write_bytes(b"one")
    await hasher.hash(folders, copy)
    assert sorted(await hasher.with_content(digest)) == [path, copy]
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await hasher.with_content(digest) == [copy]
    copy.unlink()
    assert await hasher.with_content(digest) == []
    await hasher.remember(copy, Hashes(sha256(b"one"), digest))
    assert await hasher.with_content(digest) == []


async def test_a_full_database_does_not_prevent_hashing(root, folders, database, hasher):
    # no page more than there are
    await database.write(lambda db: db.execute("PRAGMA max_page_count = 1").fetchall())
    for number in range(40):  # its last page holds some
        path = root / f"{number}{'x' * 200}"
        path.write_bytes(b"one")
        assert (await hasher.hash(folders, path)).sha256 == sha256(b"one")
    assert not (await hasher.hash(folders, path)).cached


def rewrite(path, *, new_name="", later=None):
    """Change a file, under another name first, with its old time and so many nanoseconds more."""
    status = path.stat()
    written = path.with_name(new_name or path.name)
    written.write_bytes(b"other")
    if later is not None:
        os.utime(written, ns=(status.st_atime_ns, status.st_mtime_ns + later))
    written.replace(path)


@pytest.mark.parametrize(
    "change",
    [{}, {"new_name": "new", "later": 0}, {"later": 1}, {"later": 0}],
    ids=["rewritten", "replaced keeping the time", "grown", "rewritten keeping the time"],
)
async def test_a_changed_file_gets_a_new_hash(root, folders, change, hasher):
    for _ in range(5):
        (root / "a").write_bytes(b"first")
        assert (await hasher.hash(folders, root / "a")).sha256 == sha256(b"first")
        rewrite(root / "a", **change)
        found = await hasher.hash(folders, root / "a")
        assert (found.sha256, found.cached) == (sha256(b"other"), False)


async def test_a_second_request_joins_the_first(root, folders, hasher):
    path = sparse(root / "big")

    first = asyncio.create_task(hasher.hash(folders, path))
    await begun(hasher)
    others = [asyncio.create_task(hasher.hash(folders, path)) for _ in range(5)]
    found = await asyncio.gather(first, *others)
    assert len({(hashed.sha256, hashed.cached) for hashed in found}) == 1
    assert hasher.reads == 1


async def test_a_known_file_does_not_wait_for_others(root, folders, hasher):
    (root / "small").write_bytes(b"x")
    endless = 200_000_000_000  # bytes: none is done before the test is
    paths = [sparse(root / f"big{i}", endless) for i in range(4)]

    await hasher.hash(folders, root / "small")
    tasks = [asyncio.create_task(hasher.hash(folders, path)) for path in paths]
    await begun(hasher, AT_ONCE)
    assert (await hasher.hash(folders, root / "small")).cached
    assert hasher.reads == 1 + AT_ONCE
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_file_that_changes_once_is_read_again(root, folders, hasher):
    path = sparse(root / "big")
    task = asyncio.create_task(hasher.hash(folders, path))
    await begun(hasher)
    with path.open("r+b") as file:
        file.write(b"changed")
    expected = await asyncio.to_thread(lambda: sha256(path.read_bytes()))
    assert (await task).sha256 == expected
    # A replacement is read, too, and a file that vanishes is not found.
    other = sparse(root / "other")
    task = asyncio.create_task(hasher.hash(folders, other))
    await begun(hasher)
    (root / "new").write_bytes(b"new")
    (root / "new").replace(other)
    assert (await task).sha256 == sha256(b"new")
    gone = sparse(root / "gone")
    task = asyncio.create_task(hasher.hash(folders, gone))
    await begun(hasher)
    gone.unlink()
    for work in (task, hasher.hash(folders, gone)):
        with pytest.raises(NotFoundError):
            await work
    with pytest.raises(ForbiddenPathError):
        await hasher.hash(folders, Path("/etc/passwd"))


async def test_a_file_that_keeps_changing_is_a_conflict(root, folders, hasher):
    path = sparse(root / "big")

    task = asyncio.create_task(hasher.hash(folders, path))
    while not task.done():
        os.utime(path)
        await asyncio.sleep(0.002)
    with pytest.raises(ConflictError, match="is changing"):
        await task


async def test_closing_stops_at_once(root, folders, hasher):
    path = sparse(root / "huge", 1_000_000_000_000)
    task = asyncio.create_task(hasher.hash(folders, path))
    await begun(hasher)
    started = time.monotonic()
    await hasher.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5


async def test_a_cancelled_caller_does_not_stop_the_hashing(root, folders, hasher):
    path = sparse(root / "big")

    first = asyncio.create_task(hasher.hash(folders, path))
    await begun(hasher)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await hasher.hash(folders, path)
    assert hasher.reads == 1
    assert (await hasher.hash(folders, path)).cached


async def test_pruning_deletes_hashes_of_removed_but_not_of_unmounted_files(root, database):
    (root / "here").write_bytes(b"x")
    names = [root / "here", root / "gone", root / "unmounted/file"]
    keys = [FileKey(str(name), 1, 2, 3) for name in names]

    for key in keys:
        await database.write(store_hashes, key, KEPT)
    assert await Hasher(database).prune() == 1
    assert [await database.read(stored_hashes, key) for key in keys] == [KEPT, None, KEPT]


@pytest.mark.mounts
async def test_pruning_waits_for_a_disk_in_no_thread_of_the_store(root, database):
    with ExitStack() as stack:
        disk = stack.enter_context(silent_disk(root / "disk"))
        keys = [FileKey(str(disk / f"{number}"), 1, 2, 3) for number in range(READERS)]
        for key in keys:
            await database.write(store_hashes, key, KEPT)
        pruning = [asyncio.create_task(Hasher(database).prune()) for _ in range(READERS)]
        await asyncio.sleep(0.2)
        assert await asyncio.wait_for(database.read(stored_hashes, keys[0]), 10) == KEPT
        assert not any(task.done() for task in pruning)
    await asyncio.gather(*pruning)


async def test_unusual_keys_are_kept_too(root, database):
    key = FileKey(os.fsdecode(b"/not-utf8-\xff"), 2**62, -5, 2**64 - 1)

    await database.write(store_hashes, key, KEPT)
    assert await database.read(stored_hashes, key) == KEPT
    assert await database.read(stored_hashes, FileKey(key.path, key.size, key.mtime_ns, 1)) is None
