"""The store: transactions, migrations, several processes."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.store.migrations import MIGRATIONS, migrate


@pytest.fixture
def database(tmp_path, jp_asyncio_loop):
    made = Database(tmp_path / "deep" / "comfydeploy.db")
    jp_asyncio_loop.run_until_complete(made.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


def fill(connection, count):
    for number in range(count):
        connection.execute("INSERT INTO graphs VALUES (?, ?)", (str(number), b""))


def count(connection):
    return int(connection.execute("SELECT count(*) FROM graphs").fetchone()[0])


def put(connection, name):
    connection.execute("INSERT INTO graphs VALUES (?, '')", (name,))


def all_hashes(connection):
    return [row[0] for row in connection.execute("SELECT hash FROM graphs")]


async def test_write_is_all_or_nothing(database):
    def half(connection):
        fill(connection, 3)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        await database.write(half)
    assert await database.read(count) == 0
    await database.write(fill, 3)
    assert await database.read(count) == 3


async def test_writes_keep_their_order(database):
    names = [f"{number:03}" for number in range(50)]
    await asyncio.gather(*(database.write(put, name) for name in names))
    assert await database.read(all_hashes) == names


async def test_writes_that_wait_are_committed_together(database):
    def see(connection):
        """Return what another connection sees."""
        with sqlite3.connect(database.path) as other:
            return count(other)

    gate = threading.Event()
    held = database.write(lambda _: gate.wait(10))
    together = [
        *(database.write(put, str(number)) for number in range(3)),
        database.write(see),
    ]
    gate.set()
    await held
    assert (await asyncio.gather(*together))[-1] == 0
    assert await database.read(see) == 3


async def test_a_write_that_fails_does_not_undo_others_of_the_same_commit(database):
    def fail(connection):
        put(connection, "lost")
        raise RuntimeError("half-way")

    gate = threading.Event()
    held = database.write(lambda _: gate.wait(10))
    writes = [
        *(database.write(put, str(number)) for number in range(3)),
        database.write(fail),
        database.write(put, "last"),
    ]
    gate.set()
    await held
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in found] == [type(None)] * 3 + [RuntimeError, type(None)]
    assert await database.read(all_hashes) == ["0", "1", "2", "last"]


async def test_a_write_that_is_cancelled_before_it_begins_is_not_done(database):
    gate = threading.Event()
    held = database.write(lambda _: gate.wait(10))
    cancelled, kept = database.write(put, "cancelled"), database.write(put, "kept")
    cancelled.cancel()
    gate.set()
    await asyncio.gather(held, kept)
    assert await database.read(all_hashes) == ["kept"]


async def test_closing_completes_requested_writes_and_refuses_later_ones(tmp_path):
    database = Database(tmp_path / "store.db")
    await database.open()
    writes = [database.write(put, str(number)) for number in range(100)]
    await database.close()
    await asyncio.gather(*writes)
    with sqlite3.connect(database.path) as connection:
        assert count(connection) == 100
    with pytest.raises(RuntimeError, match="have ended"):
        await database.read(count)


async def test_reader_cannot_write(database):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(fill, 1)


async def test_a_read_that_is_not_wanted_any_more_ends(database):
    def endless(connection: sqlite3.Connection) -> None:
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        connection.execute(f"{numbers} SELECT count(*) FROM n").fetchone()

    reads = [database.read(endless) for _ in range(4)]
    await asyncio.sleep(0.1)
    for read in reads:
        read.cancel()
    assert await asyncio.wait_for(database.read(count), 30) == 0


async def test_the_event_loop_runs_while_the_database_works(database):
    def slow(_):
        time.sleep(0.3)

    work = asyncio.ensure_future(database.write(slow))
    ticks = 0
    while not work.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 10


def test_migration_and_its_record_are_one(tmp_path):
    path = tmp_path / "db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        migrate(connection)
        migrate(connection)
        names = [row[0] for row in connection.execute("SELECT name FROM migrations ORDER BY rowid")]
    connection.close()
    assert names == [name for name, _ in MIGRATIONS]


def test_a_kill_in_a_transaction_leaves_none_of_its_changes(tmp_path):
    path = tmp_path / "db"
    code = (
        "import sys, asyncio, time\n"
        "from pathlib import Path\n"
        "from comfydeploy_jupyter.store.database import Database\n"
        "def half(c):\n"
        "    c.execute(\"INSERT INTO graphs VALUES ('x', '')\")\n"
        "    print('in', flush=True); time.sleep(60)\n"
        "async def main():\n"
        "    db = Database(Path(sys.argv[1])); await db.open(); await db.write(half)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    connection = sqlite3.connect(path)
    assert count(connection) == 0
    connection.close()


WITHOUT_FLOCK = """
import asyncio, errno, os, sys
from pathlib import Path
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.store.session import Session

def check(event, arguments):
    if event in sys.argv[2:]:
        raise OSError(errno.ENOLCK, "No locks available")

async def main():
    sys.addaudithook(check)
    database = Database(Path(sys.argv[1]) / "db")
    await database.open()
    session = Session(Path(sys.argv[1]) / "sessions")
    before = len(os.listdir("/dev/fd"))
    assert session.claim() == frozenset(), "its own id is not that of a server that has exited"
    assert len(os.listdir("/dev/fd")) == before
    print(session.id, any("no locks" in text for text in (await database.status())["warnings"]))
    sys.stdout.flush()
    sys.stdin.read()

asyncio.run(main())
"""


def test_servers_on_a_file_system_without_flock(tmp_path):
    command = [sys.executable, "-c", WITHOUT_FLOCK, str(tmp_path)]
    flock, lockf = "fcntl.flock", "fcntl.lockf"
    answers = []
    for wants in ([flock], [flock], [flock, lockf]):
        process = subprocess.Popen(
            [*command, *wants], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        answers.append((process, *process.stdout.readline().split()))
    (_, first, *told), (_, second, *again), (_, _, *without) = answers
    assert first != second, "SQLite's locks are used there"
    assert (told, again, without) == (["False"], ["False"], ["True"])
    for process, *_ in answers:
        process.kill()
        process.communicate()
