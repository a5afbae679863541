"""Workflows and their versions in the store."""

from functools import partial

import pytest

from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.workflows.store import (
    Content,
    create_workflow,
    newest_workflows,
    update_workflow,
)


def graph(text="a"):
    return {"1": {"class_type": "TestText", "inputs": {"text": text}}}


def ui(text="a"):
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


def content(text="a", *, api=True):
    return Content(ui(text), graph(text) if api else None)


@pytest.fixture
def database(tmp_path, jp_asyncio_loop):
    made = Database(tmp_path / "db")
    jp_asyncio_loop.run_until_complete(made.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


class Store:
    """Calls the functions of the workflow tables."""

    def __init__(self, database):
        self.create = partial(database.write, create_workflow)
        self.update = partial(database.write, update_workflow)
        self.newest = partial(database.read, newest_workflows)


@pytest.fixture
def store(database):
    return Store(database)


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
