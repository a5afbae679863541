"""Records of runs, and the session that owns them."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import groupby

import pytest

from comfydeploy_jupyter.errors import ConflictError, StoreUnavailableError
from comfydeploy_jupyter.runs.records import RunFilter, RunRecord, RunRepository
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.store.session import Session


@pytest.fixture
def repository(tmp_path, jp_asyncio_loop):
    database = Database(tmp_path / "db")
    jp_asyncio_loop.run_until_complete(database.open())
    yield RunRepository(database)
    jp_asyncio_loop.run_until_complete(database.close())


def record(prompt_id: str, **fields) -> RunRecord:
    return RunRecord(
        prompt_id, machine="local", session="s", created_at="2026-01-01T00:00:00.000Z", **fields
    )


async def test_all_fields_of_a_record_are_read_as_they_were_written(repository):
    made = record("a", client_id="me", seeds={"3.seed": 2**53 - 1}, front=True, attempts=2)
    await repository.add(made, b'{"1": {}}', b'{"nodes": []}')
    assert await repository.get("a") == made
    assert await repository.prompt("a") == (b'{"1": {}}', b'{"nodes": []}')
    changed = replace(made, status="failed", error={"type": "X"}, execution_time=1.5)
    await repository.save(changed)
    assert await repository.get("a") == changed
    assert await repository.get("b") is None
    assert await repository.prompt("b") is None


@pytest.mark.parametrize("number", [3, -3, 0, 2.5, None])
async def test_number_keeps_its_form(repository, number):
    await repository.add(record("a", number=number), b"{}", None)
    found = (await repository.get("a")).number
    assert (found, type(found)) == (number, type(number))


async def test_prompt_id_is_taken_once(repository):
    await repository.add(record("a"), b"{}", None)
    with pytest.raises(ConflictError) as refusal:
        await repository.add(record("a"), b"{}", None)
    assert refusal.value.details["field"] == "prompt_id"


async def test_equal_graphs_are_stored_once(repository):
    for name in "abc":
        await repository.add(record(name), b'{"same": 1}', None)
    rows = await repository._database.read(
        lambda connection: connection.execute("SELECT count(*) FROM graphs").fetchone()[0]
    )
    assert rows == 1


async def test_lists_have_the_runs_that_are_asked_for(repository):
    for number, status in enumerate(["success", "queued", "running", "failed", "not-started"]):
        structure = "ab" if number > 1 else None
        await repository.add(record(str(number), status=status, structure=structure), b"{}", None)
    for which, limit, found in (
        (RunFilter(), 9, "43210"),
        (RunFilter(), 2, "43"),
        (RunFilter(structure="ab"), 9, "432"),
        (RunFilter(structure="ab", statuses=["failed", "success"]), 9, "3"),
    ):
        runs = await repository.newest(which=which, limit=limit)
        assert "".join(run.prompt_id for run in runs) == found
    assert [r.prompt_id for r in await repository.newest(limit=2, offset=1)] == ["3", "2"]
    assert [r.prompt_id for r in await repository.active(["s", "t"])] == ["1", "2", "4"]


async def test_a_discarded_run_is_deleted(repository):
    await repository.add(record("a", client_id="me"), b"{}", None)
    assert await repository.has_client("me")
    await repository.discard("a")
    assert await repository.get("a") is None
    assert not await repository.has_client("me")


def test_session_is_kept_and_not_shared(tmp_path):
    first = Session(tmp_path)
    second = Session(tmp_path)
    assert first.id != second.id
    assert first.claimed == {first.id}
    assert second.claimed == {second.id}
    ids = {first.id, second.id}
    first.close()
    third = Session(tmp_path)
    assert third.id == first.id
    second.close()
    third.close()
    successor = Session(tmp_path)
    assert successor.claimed == ids
    successor.close()


def test_a_running_server_claims_the_sessions_of_ended_servers(tmp_path):
    first, second = Session(tmp_path), Session(tmp_path)
    assert first.claim() == second.claim() == frozenset()
    second.close()
    assert first.claim() == {second.id}
    assert first.claim() == frozenset()
    assert first.claimed == {first.id, second.id}
    third = Session(tmp_path)
    assert third.claimed.isdisjoint(first.claimed)
    first.close()
    third.close()


def test_other_entries_of_the_folder_of_sessions_are_not_sessions(tmp_path):
    (tmp_path / "x.lock").mkdir()
    (tmp_path / "y.lock").symlink_to("nowhere")
    session = Session(tmp_path)
    assert session.claimed == {session.id}
    session.close()


def test_the_next_server_claims_the_session_of_a_killed_one(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from comfydeploy_jupyter.store.session import Session\n"
        "print(Session(Path(sys.argv[1])).id, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    session = Session(tmp_path)
    assert session.id == process.stdout.decode().strip()
    session.close()


async def test_saves_that_wait_for_the_writer_are_written_together(repository):
    """The newest state of each run is written; no later state replaces an end."""
    for name in "ab":
        await repository.add(record(name), b"{}", None)
    statements: list[str] = []
    begun, may_go_on = threading.Event(), threading.Event()

    def hold(connection) -> None:
        connection.set_trace_callback(statements.append)
        begun.set()
        assert may_go_on.wait(60)

    holding = asyncio.ensure_future(repository._database.write(hold))
    assert await asyncio.to_thread(begun.wait, 60)
    saves = [
        asyncio.ensure_future(repository.save(record(name, status=status)))
        for name, status in (("a", "queued"), ("b", "queued"), ("a", "success"), ("a", "running"))
    ]
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(holding, *saves)
    assert (await repository.get("a")).status == "success"
    assert (await repository.get("b")).status == "queued"
    # a statement with triggers is traced once more for each of them
    verbs = [statement.split()[0] for statement, _ in groupby(statements)]
    assert [verb for verb in verbs if verb != "PRAGMA"] == [
        *("COMMIT", "BEGIN", "UPDATE", "UPDATE", "COMMIT")
    ]


async def test_a_save_that_failed_to_begin_does_not_prevent_later_ones(tmp_path):
    database = Database(tmp_path / "db", patience=0.2)
    await database.open()
    repository = RunRepository(database)
    await repository.add(record("a"), b"{}", None)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        await repository.save(record("a", status="queued"))
    other.close()
    await repository.save(record("a", status="running"))
    assert (await repository.get("a")).status == "running"
    await database.close()


async def test_each_save_that_cannot_be_written_raises_an_error(repository):
    await repository.add(record("a"), b"{}", None)
    wrong = record("a", number=object())
    refused = await asyncio.gather(
        repository.save(wrong), repository.save(wrong), return_exceptions=True
    )
    old = sys.version_info < (3, 11)
    kind = sqlite3.InterfaceError if old else sqlite3.ProgrammingError
    assert [type(fault) for fault in refused] == [kind] * 2
    await repository.save(record("a", status="queued"))
    assert (await repository.get("a")).status == "queued"


async def test_an_end_that_is_stored_late_keeps_what_became_of_the_webhook(repository):
    await repository.add(record("a"), b"{}", None)
    await repository._database.write(
        lambda db: db.execute("UPDATE runs SET record = json_set(record, '$.webhook_status', 'x')")
    )
    await repository.save(record("a", status="success"))
    status = "SELECT json_extract(record, '$.webhook_status'), status FROM runs"
    found = await repository._database.read(lambda db: tuple(db.execute(status).fetchone()))
    assert found == ("x", "success")
