"""Workflows and their versions in the store."""

import pytest

from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.workflows.store import Draft, LocalWorkflows


def graph(text="a"):
    return {"1": {"class_type": "TestText", "inputs": {"text": text}}}


def ui(text="a"):
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


def draft(text="a", *, api=True, **more):
    return Draft(ui(text), graph(text) if api else None, **more)


@pytest.fixture
def database(tmp_path, jp_asyncio_loop):
    made = Database(tmp_path / "db")
    jp_asyncio_loop.run_until_complete(made.open())
    yield made
    jp_asyncio_loop.run_until_complete(made.close())


@pytest.fixture
def store(database):
    return LocalWorkflows(database)


async def test_order_of_keys_is_no_difference(store):
    saved = await store.save(Draft({"nodes": [], "links": [], "b": 1}, None, name="a"))
    workflow_id = saved["workflow_id"]
    same = Draft({"b": 1, "links": [], "nodes": []}, None, workflow_id=workflow_id)
    again = await store.save(same)
    assert (again["version"], again["new_version"]) == (1, False)
    other = Draft({"b": True, "links": [], "nodes": []}, None, workflow_id=workflow_id)
    assert (await store.save(other))["new_version"]


async def test_a_graph_that_could_not_be_converted_is_no_difference(store):
    workflow_id = (await store.save(draft("a", name="a")))["workflow_id"]
    again = await store.add_version(draft("a", api=False, workflow_id=workflow_id))
    assert (again["version"], again["created"]) == (1, False)
    assert again["workflow_api"] == graph("a")
    only_api = await store.save(Draft(None, graph("a"), name="b"))
    changed = Draft(None, graph("b"), workflow_id=only_api["workflow_id"])
    assert (await store.save(changed))["new_version"]
    back = Draft(ui("a"), graph("b"), workflow_id=workflow_id)
    assert (await store.save(back))["new_version"]


async def test_changes_within_a_millisecond_keep_their_order(store):
    saved = [await store.save(draft(name=str(number))) for number in range(20)]
    await store.save(draft("b", workflow_id=saved[3]["workflow_id"]))
    names = [workflow["name"] for workflow in await store.workflows()]
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
    saved = await store.save(draft("a", name="Große Straße", comment="first"))
    await store.save(draft("b", workflow_id=saved["workflow_id"], comment="Second"))
    await store.save(draft("a", name="été", comment="one\ntwo"))
    await store.save(draft("a", name="100% _wool_"))
    assert [each["name"] for each in await store.workflows(search=search)] == found
