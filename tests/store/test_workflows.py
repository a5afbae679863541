"""Workflows and their versions in the store."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from comfydeploy_jupyter.errors import NotFoundError
from comfydeploy_jupyter.runs.records import RunRecord, RunRepository
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.workflows.store import (
    Content,
    create_workflow,
    newest_workflows,
    read_version,
    update_workflow,
)


def graph(text: str = "a") -> dict:
    return {"1": {"class_type": "TestText", "inputs": {"text": text}}}


def ui(text: str = "a") -> dict:
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


def content(text: str = "a", *, api: bool = True) -> Content:
    return Content(ui(text), graph(text) if api else None)


@pytest.fixture
def database(tmp_path, jp_asyncio_loop):
    made = Database(tmp_path / "db")
    jp_asyncio_loop.run_until_complete(made.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


class Store:
    """Calls the functions of the workflow tables."""

    def __init__(self, database: Database) -> None:
        self.create = partial(database.write, create_workflow)
        self.update = partial(database.write, update_workflow)
        self.newest = partial(database.read, newest_workflows)
        self.version = partial(database.read, read_version)


@pytest.fixture
def store(database):
    return Store(database)


def graphs(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM graphs").fetchone()[0])


async def test_graphs_are_stored_once(store, database):
    first = await store.create("a", content("a"))
    await store.create("b", content("a"))
    await store.update(first.workflow.workflow_id, content("b"))
    back = await store.update(first.workflow.workflow_id, content("a"))
    assert (back.version.version, back.created) == (3, True), "also an older content is a change"
    assert await database.read(graphs) == 4
    record = RunRecord("p", machine="local", session="s", created_at="2026-01-01T00:00:00.000Z")
    await RunRepository(database).add(record, content().workflow_api, content().workflow)
    assert await database.read(graphs) == 4
    prompt, workflow = await RunRepository(database).prompt("p")
    assert (prompt, workflow) == (content().workflow_api, content().workflow)


async def test_order_of_keys_is_no_difference(store):
    saved = await store.create("a", Content({"nodes": [], "links": [], "b": 1}, None))
    same = Content({"b": 1, "links": [], "nodes": []}, None)
    again = await store.update(saved.workflow.workflow_id, same)
    assert (again.version.version, again.created) == (1, False)
    other = Content({"b": True, "links": [], "nodes": []}, None)
    assert (await store.update(saved.workflow.workflow_id, other)).created


async def test_a_graph_that_could_not_be_converted_is_no_difference(store):
    saved = await store.create("a", content("a"))
    workflow_id = saved.workflow.workflow_id
    again = await store.update(workflow_id, content("a", api=False))
    assert (again.version.version, again.created) == (1, False)
    assert again.version.workflow_api == content("a").workflow_api
    only_api = await store.create("b", Content(None, graph("a")))
    changed = await store.update(only_api.workflow.workflow_id, Content(None, graph("b")))
    assert changed.created
    back = await store.update(workflow_id, Content(ui("a"), graph("b")))
    assert back.created


async def test_changes_within_a_millisecond_keep_their_order(store):
    saved = [await store.create(str(number), content()) for number in range(20)]
    await store.update(saved[3].workflow.workflow_id, content("b"))
    names = [workflow.name for workflow in await store.newest()]
    assert names == ["3", *(str(n) for n in range(19, -1, -1) if n != 3)]


async def test_nothing_new_changes_nothing(store):
    first = await store.create("a", content(), machine_id="m")
    await store.create("b", content())
    again = await store.update(first.workflow.workflow_id, content(), name="a", machine_id="m")
    assert again.workflow == first.workflow
    assert [w.name for w in await store.newest()] == ["b", "a"]
    renamed = await store.update(first.workflow.workflow_id, content(), name="c")
    assert (renamed.workflow.name, renamed.created) == ("c", False)
    assert renamed.workflow.machine_id == "m"
    assert [w.name for w in await store.newest()] == ["c", "b"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("STRASSE", ["Große Straße"]),
        ("e\u0301TÉ", ["été"]),
        ("100%", ["100% _wool_"]),
        ("_", ["100% _wool_"]),
        ("second", ["Große Straße"]),
        ("ONE  TWO", ["été"]),
        ("nothing", []),
        ("été one", []),
        ("  ", ["100% _wool_", "été", "Große Straße"]),
    ],
)
async def test_search(store, search, found):
    saved = await store.create("Große Straße", content("a"), comment="first")
    await store.update(saved.workflow.workflow_id, content("b"), comment="Second")
    await store.create("été", content("a"), comment="one\ntwo")
    await store.create("100% _wool_", content("a"))
    assert [w.name for w in await store.newest(search=search)] == found


async def test_search_follows_a_rename(store):
    saved = await store.create("old", content(), comment="words")
    await store.update(saved.workflow.workflow_id, content(), name="new")
    assert await store.newest(search="old") == []
    assert [w.name for w in await store.newest(search="words")] == ["new"]
    assert [w.name for w in await store.newest(search="NEW")] == ["new"]


async def test_numbers_of_no_version(store):
    saved = await store.create("a", content())
    for number in (2, 0, -1, 10**30):
        with pytest.raises(NotFoundError, match="version"):
            await store.version(saved.workflow.workflow_id, number)


async def test_two_servers_number_versions_together(store, database):
    other = Database(database.path)
    await other.open()
    saved = await store.create("a", content("first"))
    workflow_id = saved.workflow.workflow_id
    stores = (store, Store(other))
    results = await asyncio.gather(
        *(stores[n % 2].update(workflow_id, content(str(n))) for n in range(40))
    )
    await other.close()
    assert sorted(result.version.version for result in results) == list(range(2, 42))
    for result in results:
        _, stored = await store.version(workflow_id, result.version.version)
        assert stored == result.version


def test_a_kill_leaves_only_complete_versions(tmp_path):
    path = tmp_path / "db"
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from comfydeploy_jupyter.store.database import Database\n"
        "from comfydeploy_jupyter.workflows.store import Content\n"
        "from tests.store.test_workflows import Store\n"
        "async def main():\n"
        "    db = Database(Path(sys.argv[1])); await db.open(); store = Store(db)\n"
        "    graph = lambda n: Content({'nodes': [n, 'x' * 100_000], 'links': []}, None)\n"
        "    id = (await store.create('a', graph(0))).workflow.workflow_id\n"
        "    for n in range(1, 10**6):\n"
        "        print((await store.update(id, graph(n))).version.version, flush=True)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=root
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = [int(line) for line in process.communicate()[0].split(b"\n")[:-1]]
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT version, body IS NOT NULL FROM workflow_versions"
        " LEFT JOIN graphs ON hash = workflow_hash ORDER BY version"
    ).fetchall()
    (latest,) = connection.execute("SELECT latest_version FROM workflows").fetchone()
    connection.close()
    assert rows == [(number, 1) for number in range(1, latest + 1)]
    assert latest >= max(acknowledged, default=2)
