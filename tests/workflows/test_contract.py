"""The common behaviour of both repositories of workflows: the local store and ComfyDeploy."""

import re
from dataclasses import replace

import pytest

from comfydeploy_jupyter.compat.comfydeploy import CloudAccess, CloudClient
from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.workflows.store import CloudWorkflows, Draft, LocalWorkflows
from tests.helpers.fake_comfydeploy import KEY

ISO_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def ui(text):
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


def api(text):
    return {"1": {"class_type": "TestText", "inputs": {"text": text}}}


def draft(text="a", **fields):
    return Draft(ui(text), api(text), **fields)


@pytest.fixture(params=["local", "cloud"])
def make(request, tmp_path, jp_asyncio_loop):
    """Return a function that makes a repository, all of them over the same records."""
    run = jp_asyncio_loop.run_until_complete
    if request.param == "local":
        database = Database(tmp_path / "db")
        run(database.open())
        yield lambda convert=None: LocalWorkflows(database, convert)
        run(database.close())
        return
    service = request.getfixturevalue("comfydeploy")
    client = CloudClient(service.url, access=CloudAccess((service.root,), KEY), pause=0.01)
    yield lambda convert=None: CloudWorkflows(client.account(), convert)
    run(client.close())


@pytest.fixture
def repository(make):
    return make()


async def test_a_new_workflow(repository):
    saved = await repository.save(draft(name="Portrait", machine_id="m1"))
    assert saved["workflow_id"] == saved["id"]
    assert (saved["name"], saved["version"], saved["created"]) == ("Portrait", 1, True)
    assert (saved["latest_version"], saved["versions"], saved["new_version"]) == (1, 1, True)
    assert saved["machine_id"] == "m1"
    assert ISO_UTC.fullmatch(saved["created_at"])
    assert ISO_UTC.fullmatch(saved["updated_at"])
    assert "workflow" not in saved


async def test_an_update_makes_a_version_when_the_graph_changed(repository):
    saved = await repository.save(draft("a", name="w"))
    workflow_id = saved["workflow_id"]
    same = await repository.save(draft("a", workflow_id=workflow_id))
    assert (same["version"], same["created"], same["new_version"]) == (1, False, False)
    assert (same["id"], same["name"]) == (workflow_id, "w")
    changed = await repository.save(draft("b", workflow_id=workflow_id, comment="brighter"))
    assert (changed["version"], changed["created"], changed["new_version"]) == (2, False, True)
    assert changed["versions"] == changed["latest_version"] == 2
    assert changed["updated_at"] >= saved["updated_at"]
    assert changed["created_at"] == saved["created_at"]
    forced = await repository.save(draft("b", workflow_id=workflow_id, force=True))
    assert (forced["version"], forced["new_version"]) == (3, True)


async def test_versions(repository):
    workflow_id = (await repository.save(draft("a", name="w")))["workflow_id"]
    before = await repository.version(workflow_id, 1)
    version = await repository.add_version(
        draft("b", workflow_id=workflow_id, comment="no hands", force=True)
    )
    assert (version["workflow_id"], version["version"]) == (workflow_id, 2)
    assert (version["comment"], version["created"]) == ("no hands", True)
    assert (version["workflow"], version["workflow_api"]) == (ui("b"), api("b"))
    assert ISO_UTC.fullmatch(version["created_at"])
    again = await repository.version(workflow_id, 2)
    assert again == {key: version[key] for key in again}
    found = await repository.workflow(workflow_id)
    assert (found["id"], found["workflow_id"], found["name"]) == (workflow_id, workflow_id, "w")
    assert (found["latest_version"], found["version"], found["comment"]) == (2, 2, "no hands")
    assert (found["workflow"], found["workflow_api"]) == (ui("b"), api("b"))
    (latest,) = found["versions"]
    assert latest == again == await repository.version(workflow_id)
    assert await repository.version(workflow_id, 1) == before
    assert (before["workflow"], before["workflow_api"]) == (ui("a"), api("a"))


async def test_list_of_workflows(repository):
    ids = [(await repository.save(draft(name=f"No {n}")))["id"] for n in range(5)]
    await repository.save(draft("new", workflow_id=ids[1]))
    found = await repository.workflows()
    assert [row["id"] for row in found] == [ids[1], ids[4], ids[3], ids[2], ids[0]]
    for row in found:
        assert row["workflow_id"] == row["id"]
        assert {"latest_version", "versions", "machine_id"} <= row.keys()
        assert ISO_UTC.fullmatch(row["created_at"])
        assert ISO_UTC.fullmatch(row["updated_at"])
    page = await repository.workflows(limit=2, offset=1)
    assert [row["id"] for row in page] == [ids[4], ids[3]]
    assert [row["name"] for row in await repository.workflows(search="nO 3")] == ["No 3"]
    assert await repository.workflows(search="nowhere") == []


async def test_list_of_versions(repository):
    workflow_id = (await repository.save(draft("0", name="w")))["workflow_id"]
    for number in range(1, 5):
        await repository.add_version(
            draft(str(number), workflow_id=workflow_id, comment=f"Take {number}")
        )
    found = await repository.versions(workflow_id)
    assert [row["version"] for row in found] == [5, 4, 3, 2, 1]
    assert len({row["id"] for row in found}) == 5
    for row in found:
        assert row["workflow_id"] == workflow_id
        assert ISO_UTC.fullmatch(row["created_at"])
        assert not {"workflow", "workflow_api"} & row.keys()
    page = await repository.versions(workflow_id, limit=2, offset=1)
    assert [row["version"] for row in page] == [4, 3]
    found = await repository.versions(workflow_id, search="tAKE 2")
    assert [row["comment"] for row in found] == ["Take 2"]


async def test_the_api_graph_is_made_where_it_is_missing_and_can_be_made(make):
    async def convert(workflow):
        text = workflow["nodes"][0]["widgets_values"][0]
        return None if text == "odd" else api(text)

    repository = make(convert)
    bare = replace(draft("a", name="w"), workflow_api=None)
    workflow_id = (await repository.save(bare))["workflow_id"]
    assert (await repository.workflow(workflow_id))["workflow_api"] == api("a")
    bare = replace(draft("b", workflow_id=workflow_id), workflow_api=None)
    assert (await repository.add_version(bare))["workflow_api"] == api("b")
    odd = replace(draft("odd", name="w"), workflow_api=None)
    workflow_id = (await repository.save(odd))["workflow_id"]
    assert (await repository.workflow(workflow_id))["workflow_api"] is None
    again = await repository.save(replace(odd, workflow_id=workflow_id))
    assert again["new_version"] is False


async def test_unusual_but_valid_json(repository):
    odd = {"nodes": [], "links": [], "ü": ["\u2028", "😀", None, 1e300, -0.5, 2**53]}
    workflow_id = (await repository.save(Draft(odd, api("☃"), name="Ünïcode ☃")))["workflow_id"]
    found = await repository.workflow(workflow_id)
    assert (found["workflow"], found["workflow_api"], found["name"]) == (odd, api("☃"), "Ünïcode ☃")
