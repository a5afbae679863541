"""A store that is locked, damaged, newer, read-only, on a full disk or on a network drive."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from comfydeploy_jupyter.errors import NoSpaceError, StoreUnavailableError
from comfydeploy_jupyter.store.database import Database, file_system, set_journal
from tests.helpers.disks import files_limited_to, new_disk, remount

ROWS = 800


def fill(connection, first=0, count=ROWS):
    rows = [(f"{number:06}", os.urandom(500)) for number in range(first, first + count)]
    connection.executemany("INSERT INTO graphs VALUES (?, ?)", rows)


def count(connection):
    return len(connection.execute("SELECT hash, body FROM graphs").fetchall())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "comfydeploy.db"


@pytest.fixture
def begin(path, jp_asyncio_loop):
    """A function that opens the store; all are closed after the test."""
    opened = []

    async def begin(**options):
        opened.append(Database(path, **options))
        await opened[-1].open()
        return opened[-1]

    yield begin
    for database in opened:
        jp_asyncio_loop.run_until_complete(database.close())


@pytest.fixture
def full(begin, path, jp_asyncio_loop):
    """A store with some rows, closed."""

    async def make():
        database = await begin()
        await database.write(fill)
        await database.close()

    jp_asyncio_loop.run_until_complete(make())
    return path


def damaged(path):
    """Return the renamed files, without side files that belong to one of these."""
    found = sorted(path.parent.glob(f"{path.name}.damaged-*"))
    sides = {Path(f"{path}{side}") for path in found for side in ("-wal", "-journal")}
    return [path for path in found if path not in sides]


@contextmanager
def locked(path, statement="BEGIN EXCLUSIVE"):
    """Another process that locks the store until its input ends."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for statement in sys.argv[2].split(';'): c.execute(statement)\n"
        "print('locked', flush=True); sys.stdin.read(); c.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), statement],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout.readline() == b"locked\n"
        try:
            yield process
        finally:
            process.stdin.close()


class TestLockedDatabase:
    async def test_a_lock_that_ends_is_waited_for(self, begin, full):
        database = await begin()
        with locked(full) as other:
            writing = asyncio.ensure_future(database.write(fill, ROWS, 1))
            assert await database.read(count) == ROWS, "readers do not wait"
            assert not writing.done()
            other.stdin.close()
            await writing
        assert await database.read(count) == ROWS + 1

    async def test_a_lock_that_does_not_end_is_an_error_for_all_waiting_calls(self, begin, full):
        database = await begin(patience=0.5)
        with locked(full):
            found = await asyncio.gather(
                *(database.write(fill, ROWS + n, 1) for n in range(8)), return_exceptions=True
            )
            for fault in found:
                assert isinstance(fault, StoreUnavailableError)
                assert fault.details == {"reason": "locked", "path": str(full)}
        await database.write(fill, ROWS, 1)
        assert await database.read(count) == ROWS + 1

    async def test_a_writer_elsewhere_does_not_keep_it_from_opening(self, begin, full):
        """If the schema is complete, nothing is written."""
        with locked(full, "BEGIN IMMEDIATE"):
            database = await begin(patience=0.3)
            assert await database.read(count) == ROWS


def garbage(path):
    path.write_bytes(random.Random(1).randbytes(20_000))


def text(path):
    path.write_text("this is no database\n" * 100)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2 + 77)


def without_schema(path):
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3900)


def write_and_die(path):
    """Write a hundred rows in a process that is killed; return the WAL that it leaves."""
    code = (
        "import os, sys, sqlite3\n"
        "from tests.store.test_sqlite_errors import fill\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for n in range(10): fill(c, 1000 + 10 * n, 10)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    content = path.with_name(f"{path.name}-wal").read_bytes()
    assert len(content) > 10 * 4096
    return content


class TestDamagedDatabase:
    @pytest.mark.parametrize("damage", [garbage, text, truncated, without_schema])
    async def test_at_the_start(self, begin, full, damage, caplog):
        damage(full)
        before = full.read_bytes()
        database = await begin()
        (damaged_file,) = damaged(full)
        assert damaged_file.read_bytes() == before, "nothing of it is lost"
        assert f"is damaged. It was renamed to {damaged_file}" in caplog.text
        await database.write(fill, 0, 3)
        assert await database.read(count) == 3
        assert full.stat().st_mode & 0o077 == 0
        (warning,) = (await database.status())["warnings"]
        assert str(damaged_file) in warning
        await database.close()
        again = await begin()
        assert await again.read(count) == 3
        assert len((await again.status())["warnings"]) == 1, "shown as long as the file exists"
        damaged_file.unlink()
        assert (await again.status())["warnings"] == []

    async def test_damage_found_while_the_server_runs(self, begin, full):
        """The header and the schema are valid; later pages are damaged."""
        with full.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for start in range(size // 8192 * 4096, size, 4096):
                file.seek(start)
                file.write(b"\xee" * 4096)
        before = full.read_bytes()
        database = await begin()
        for reading in [database.read(count) for _ in range(3)]:
            with pytest.raises(StoreUnavailableError, match="is damaged") as caught:
                await reading
            assert caught.value.details["reason"] == "damaged"
            assert "Restart" in caught.value.extra["hint"]
        assert damaged(full) == [], "it is not moved away while it is open"
        await database.close()
        assert await begin_and_read(full) == 0
        (damaged_file,) = damaged(full)
        assert damaged_file.read_bytes() == before
        assert await begin_and_read(full) == 0
        assert damaged(full) == [damaged_file], "the new one is not"

    async def test_damage_that_is_repaired_while_the_server_runs(self, begin, full):
        before = full.read_bytes()
        database = await begin()
        garbage(full)
        with pytest.raises(StoreUnavailableError, match="is damaged"):
            await database.read(count)
        await database.close()
        full.write_bytes(before)
        assert await begin_and_read(full) == ROWS
        assert damaged(full) == []

    async def test_found_while_another_server_has_it_open(self, begin, full):
        first, second = await begin(), await begin()
        assert await second.read(lambda c: c.execute("SELECT 1").fetchone()[0]) == 1
        garbage(full)
        with pytest.raises(StoreUnavailableError, match="is damaged") as caught:
            await begin_and_read(full)
        assert caught.value.details["reason"] == "damaged"
        assert damaged(full) == []
        await first.close()
        await second.close()
        assert await begin_and_read(full) == 0
        assert len(damaged(full)) == 1

    @pytest.mark.thorough
    async def test_a_wal_of_a_killed_server(self, begin, full):
        write_and_die(full)
        sound = await begin()
        assert (await sound.status())["warnings"] == [], "a kill alone is no damage"
        assert await sound.read(count) == ROWS + 100

    @pytest.mark.thorough
    @pytest.mark.parametrize("place", [3, 0.5])
    async def test_damaged_wal(self, begin, full, place):
        """SQLite itself reads the transactions before the damage."""
        content = bytearray(write_and_die(full))
        position = place if isinstance(place, int) else int(len(content) * place)
        content[position : position + 100] = b"\x55" * 100
        full.with_name(f"{full.name}-wal").write_bytes(content)
        database = await begin()
        kept = await database.read(count)
        assert ROWS <= kept < ROWS + 100
        await database.write(fill, 2000, 5)
        assert await database.read(count) == kept + 5
        await database.close()
        with closing(sqlite3.connect(full)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def test_a_wal_without_its_database_is_kept(self, full):
        """SQLite would delete them."""
        wal = full.with_name(f"{full.name}-wal")
        wal.write_bytes(b"changes" * 1000)
        os.truncate(full, 0)
        assert await begin_and_read(full) == 0
        (damaged_file,) = damaged(full)
        assert damaged_file.with_name(f"{damaged_file.name}-wal").read_bytes() == b"changes" * 1000

    async def test_no_space_for_a_new_database(self, full):
        garbage(full)
        database = Database(full)
        with files_limited_to(1000), pytest.raises((NoSpaceError, StoreUnavailableError)):
            await database.open()
        assert await begin_and_read(full) == 0
        assert len(damaged(full)) == 1


async def begin_and_read(path):
    database = Database(path)
    await database.open()
    try:
        return await database.read(count)
    finally:
        await database.close()


@pytest.fixture
def small_disk(path):
    """The data folder is a file system of 2 MiB."""
    with new_disk(path.parent, "2m") as disk:
        yield disk


def fill_disk(path):
    """Write a file that fills the file system."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


class TestFullDisk:
    async def test_disk(self, begin, small_disk):
        database = await begin()
        await database.write(fill, 0, 100)
        filler = small_disk / "stuffing"
        fill_disk(filler)
        for _ in range(3):
            with pytest.raises(NoSpaceError, match="no space left"):
                await database.write(fill, 1000, 1000)
            assert await database.read(count) == 100
        filler.unlink()
        await database.write(fill, 1000, 100)
        assert await database.read(count) == 200
        await database.close()

    async def test_disk_at_the_start(self, small_disk, path):
        fill_disk(small_disk / "stuffing")
        database = Database(path)
        with pytest.raises(NoSpaceError):
            await database.open()
        await database.close()
        (small_disk / "stuffing").unlink()
        assert await begin_and_read(path) == 0


class TestReadOnlyDisk:
    async def test_disk(self, small_disk, path):
        database = Database(path)
        await database.open()
        await database.write(fill, 0, 10)
        await database.close()
        remount(small_disk, "ro")
        for _ in range(2):
            refused = Database(path)
            with pytest.raises(StoreUnavailableError, match="read-only") as caught:
                await refused.open()
            assert caught.value.details["reason"] == "read_only"
            assert "data_dir" in caught.value.extra["hint"]
            await refused.close()
        remount(small_disk, "rw")
        assert await begin_and_read(path) == 10

    async def test_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "data").touch()
        database = Database(tmp_path / "data" / "comfydeploy.db")
        with pytest.raises(StoreUnavailableError, match="data"):
            await database.open()
        await database.close()


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A function that lets the system report a kind of file system for the data folder."""

    def mount(kind):
        proc = tmp_path / "proc"
        (proc / "self").mkdir(parents=True, exist_ok=True)
        (proc / "filesystems").write_text("\text4\nnodev\tnfs4\n")
        data = tmp_path / "data"
        lines = ("/dev/vda / ext4 rw 0 0", f"server:/data {data} {kind} rw 0 0")
        (proc / "self" / "mounts").write_text("\n".join((*lines, "")))
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))

    return mount


class TestNetworkDrive:
    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
    async def test_uses_the_older_journal_mode_and_warns(self, begin, full, mounted, kind, caplog):
        """Also if the store was made on another disk, in WAL mode."""
        mounted(kind)
        database, other = await begin(), await begin()
        assert database.journal == other.journal == "delete"
        await asyncio.gather(
            *(store.write(fill, 1000 + n, 1) for n, store in enumerate([database, other] * 5)),
            *(store.read(count) for store in [database, other] * 5),
        )
        assert await other.read(count) == ROWS + 10
        assert not full.with_name(f"{full.name}-wal").exists()
        status = await database.status()
        assert kind in status["warnings"][0]
        assert status["warnings"][0] in caplog.text
        assert await database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0])

    @pytest.mark.parametrize("kind", ["ext4", "overlay", "fuseblk"])
    async def test_other_file_systems_are_not_network_drives(self, begin, full, mounted, kind):
        mounted(kind)
        status = await (await begin()).status()
        assert (status["path"], status["journal"], status["warnings"]) == (str(full), "wal", [])

    def test_disk_without_shared_memory(self, full):
        """SQLite's locks by files have no shared memory, as on some file systems."""
        with closing(sqlite3.connect(full.with_name("other.db"))) as connection:
            assert set_journal(connection, "wal") == "wal"
        address = f"{full.with_name('third.db').as_uri()}?vfs=unix-dotfile"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            assert set_journal(connection, "wal") == "delete"

    def test_real_disks_are_not_network_drives(self, tmp_path, small_disk):
        assert file_system(small_disk) == "tmpfs"
        assert file_system(small_disk / "not" / "there") == "tmpfs"
