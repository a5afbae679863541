"""Records of runs, and the session that owns them."""

import asyncio
import json
import random
import threading
from dataclasses import replace
from itertools import groupby

import pytest

from comfydeploy_jupyter.runs.records import (
    FINAL,
    Position,
    RunFilter,
    RunRecord,
    RunRepository,
    add_run,
)
from comfydeploy_jupyter.store.database import Database, insert
from comfydeploy_jupyter.store.session import Session


@pytest.fixture
def repository(tmp_path, jp_asyncio_loop):
    database = Database(tmp_path / "db")
    jp_asyncio_loop.run_until_complete(database.open())
    yield RunRepository(database)
    jp_asyncio_loop.run_until_complete(database.close())


def record(prompt_id, **fields):
    return RunRecord(
        prompt_id, machine="local", session="s", created_at="2026-01-01T00:00:00.000Z", **fields
    )


def fill(connection, entries):
    """Store runs and batches: kind, id, time and, of a run, its batch."""
    for kind, name, created_at, batch in entries:
        structure = random.Random(name).choice("ab") * 32
        if kind == "run":
            made = record(name, status=random.Random(name).choice(FINAL), structure=structure)
            add_run(connection, replace(made, created_at=created_at), b"{}", None)
            # its batch is given later, since a point must wait for its run
            marks = (batch, name)
            connection.execute("UPDATE runs SET batch = ? WHERE prompt_id = ?", marks)
        else:
            row = dict.fromkeys(("session", "machine", "request"), "") | {"total": 1, "retry": 0}
            row |= {"labels": "{}", "settings": "{}", "plan": json.dumps({"structure": structure})}
            row |= {"batch_id": name, "state": "done", "created_at": created_at}
            insert(connection, "batches", row)


async def test_lists_are_read_in_the_order_of_an_index(repository):
    def plans(connection, read, **ask):
        said = []
        connection.set_trace_callback(said.append)
        read.__wrapped__(repository, connection, limit=60, **ask)
        connection.set_trace_callback(None)
        return [
            step["detail"]
            for statement in said
            if "json_each" not in statement
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    database, structure = repository._database, "a" * 32
    ended = RunFilter(statuses=FINAL, structure=structure, single=True)
    cursor = Position("2026-01-01", False, 9)
    found = await database.read(plans, repository.page, which=ended, batches=True, cursor=cursor)
    assert any("COVERING INDEX ended_runs_by_structure" in step for step in found)
    assert "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY" not in found
    waiting = RunFilter(statuses=("not-started", "queued"), structure=structure)
    (search, *_) = await database.read(plans, repository.newest, which=waiting)
    assert "runs_by_status" in search


async def test_pages_of_runs_and_batches_neither_repeat_nor_omit_any(repository):
    """Also if some have the same time, some are added meanwhile, and pages are jumped to."""
    chance = random.Random(7)

    def entries(first, count, minute):
        return [
            (
                chance.choice(("run", "run", "batch")),
                f"{number:03}",
                f"2026-01-01T00:{minute:02}:{chance.randrange(20):02}.000Z",
                chance.choice((None, None, "elsewhere")),
            )
            for number in range(first, first + count)
        ]

    old, new = entries(0, 120, 1), entries(500, 30, 2)
    database = repository._database
    await database.write(fill, old)
    for structure in (None, "a" * 32):
        which = RunFilter(statuses=FINAL, structure=structure, single=True)
        ask = {"which": which, "batches": True}
        whole = await repository.page(limit=1000, **ask)
        listed = [each.prompt_id for each in whole.runs]
        assert len(listed) + len(whole.batches) == whole.total
        times = [each.created_at for each in whole.runs]
        assert times == sorted(times, reverse=True)
        first = await repository.page(limit=7, **ask)
        runs, batches, cursor = list[str](), list[int](), first.start
        if structure is None:
            assert len(whole.batches) == sum(kind == "batch" for kind, *_ in old)
            assert set(listed) == {n for kind, n, _, batch in old if kind == "run" and not batch}
        else:
            await database.write(fill, new)
        for number in range(whole.total // 7 + 1):
            assert cursor == Position.parse(str(cursor))
            page = await repository.page(limit=7, cursor=cursor, count=False, **ask)
            jump = await repository.page(limit=7, cursor=first.start, offset=number * 7, **ask)
            assert (page.runs, page.batches, page.start) == (jump.runs, jump.batches, jump.start)
            assert jump.total == whole.total
            runs += [each.prompt_id for each in page.runs]
            batches += page.batches
            cursor = page.next or cursor
        assert (runs, batches) == (listed, whole.batches)
    assert (await repository.page(limit=1, which=RunFilter(statuses=("failed",)))).total == sum(
        random.Random(name).choice(FINAL) == "failed"
        for kind, name, *_ in (*old, *new)
        if kind == "run"
    )


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


async def test_saves_that_wait_for_the_writer_are_written_together(repository):
    """The newest state of each run is written; no later state replaces an end."""
    for name in "ab":
        await repository.add(record(name), b"{}", None)
    statements = []
    begun, may_go_on = threading.Event(), threading.Event()

    def hold(connection):
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


async def test_an_end_that_is_stored_late_keeps_what_became_of_the_webhook(repository):
    await repository.add(record("a"), b"{}", None)
    await repository._database.write(
        lambda db: db.execute("UPDATE runs SET record = json_set(record, '$.webhook_status', 'x')")
    )
    await repository.save(record("a", status="success"))
    status = "SELECT json_extract(record, '$.webhook_status'), status FROM runs"
    found = await repository._database.read(lambda db: tuple(db.execute(status).fetchone()))
    assert found == ("x", "success")
