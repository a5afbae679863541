"""What SQLite does for points, counted: it must not grow with the size of a batch or a history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.batches.plan import Plan
from comfydeploy_jupyter.batches.records import BatchRepository
from comfydeploy_jupyter.proofs.records import ProvenanceRepository
from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from comfydeploy_jupyter.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path, jp_asyncio_loop) -> Iterator[Database]:
    made = Database(tmp_path / "store.db")
    jp_asyncio_loop.run_until_complete(made.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


async def steps(database: Database, work: Awaitable[Any]) -> int:
    """Return how many instructions SQLite executes for some writes."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    await database.write(lambda db: db.set_progress_handler(step, 1))
    await work
    await database.write(lambda db: db.set_progress_handler(None, 0))
    return count


async def number(database: Database, query: str) -> int:
    return int((await database.read(lambda db: db.execute(query).fetchone()))[0])


async def add(database: Database, batch_id: str, count: int) -> None:
    """Add a batch; its points are those of earlier batches as far as these have them."""
    points = [[n, n, 0, f"key {n}", json.dumps({"seed": n}), None] for n in range(count)]
    body = json.dumps(points).encode()
    plan = Plan(b"{}", None, {}, [], body, count, b"[]", [], [], "", False, [], {}, [])
    texts = dict.fromkeys(("labels", "settings", "plan", "request"), "{}")
    row = {"batch_id": batch_id, "session": "s", "machine": "local", "key": "k", "total": count}
    row |= {"state": "running", "created_at": "2026-01-01", "retry": 0, **texts}
    await BatchRepository(database).add(row, plan, take_over=True, runs={})


async def run(database: Database, batch_id: str, point: int) -> None:
    """Store a run of a point, and its end."""
    run_id = f"{batch_id} {point}"
    record = RunRecord(run_id, "local", "s", "2026-01-01", batch=batch_id, point=point)
    repository = RunRepository(database)
    await repository.add(record, b"{}", None)
    await repository.save(record.changed(status="success", finished_at="2026-01-02"))


async def test_a_run_of_a_point_costs_the_same_in_a_large_batch(database):
    found = []
    for count in (10, 2000):
        await add(database, f"of {count}", count)
        found.append(await steps(database, run(database, f"of {count}", count // 2)))
    assert found[1] < 1.5 * found[0]


async def test_a_point_that_is_taken_over_costs_the_same_in_a_large_batch(database):
    found = []
    for count in (20, 400):
        await add(database, f"of {count}", count)
        for point in range(count - 20, count):
            await run(database, f"of {count}", point)
        found.append(await steps(database, add(database, f"again {count}", count)) / count)
        await database.write(lambda db: db.execute("UPDATE batches SET key = NULL").rowcount)
    taken = "SELECT count(*) FROM batch_points WHERE status = 'success'"
    assert await number(database, taken) == 4 * 20
    assert found[1] < 1.5 * found[0]


async def test_what_is_noted_of_a_run_costs_the_same_after_many_others(database):
    """The environment that it shares with others is stored once."""
    repository, found = ProvenanceRepository(database), []
    wanted = ProvenanceRepository.wanted.__wrapped__

    async def note(environment: dict[str, str]) -> None:
        # on the connection whose instructions are counted
        runs = await database.write(lambda db: wanted(repository, db, "wanted", ["s"], 10, 0))
        await repository.keep([(run.number, "complete", {}, environment) for run in runs])

    for n in range(200):
        record = RunRecord(f"run {n}", "local", "s", "2026-01-01")
        await RunRepository(database).add(record, b"{}", None)
        await RunRepository(database).save(record.changed(status="success"))
        found.append(await steps(database, note({"python": f"3.{n // 100}"})))
    assert found[-1] < 1.5 * found[1]
    assert (await repository.get("run 7")).environment == {"python": "3.0"}
    assert await number(database, "SELECT count(*) FROM environments") == 2
