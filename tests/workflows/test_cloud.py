"""Workflows in ComfyDeploy: features that only the service has."""

import pytest

from comfydeploy_jupyter.compat.comfydeploy import CloudAccess, CloudClient
from comfydeploy_jupyter.errors import CloudError, InvalidRequestError, NotFoundError
from comfydeploy_jupyter.workflows.store import CloudWorkflows, Draft
from tests.helpers.fake_comfydeploy import KEY

UI = {"nodes": [], "links": []}
API = {"1": {"class_type": "TestText", "inputs": {}}}


@pytest.fixture
def repository(comfydeploy, jp_asyncio_loop):
    client = CloudClient(comfydeploy.url, access=CloudAccess((comfydeploy.root,), KEY), pause=0.01)
    yield CloudWorkflows(client.account())
    jp_asyncio_loop.run_until_complete(client.close())


async def test_graphs_are_sent_in_the_format_of_the_service(repository, comfydeploy):
    saved = await repository.save(Draft(UI, API, name="w", machine_id="m"))
    assert comfydeploy.seen[0].body == {
        "name": "w",
        "workflow_json": '{"nodes": [], "links": []}',
        "workflow_api": '{"1": {"class_type": "TestText", "inputs": {}}}',
        "machine_id": "m",
    }
    await repository.add_version(Draft(UI, API, workflow_id=saved["id"], comment="c"))
    body = comfydeploy.seen[-1].body
    assert body == {"workflow": UI, "workflow_api": API, "comment": "c"}


async def test_what_only_the_service_has(repository):
    workflow_id = (await repository.save(Draft(UI, API, name="w")))["id"]
    version = await repository.add_version(Draft(UI, API, workflow_id=workflow_id, comment="v1"))
    assert (version["version"], version["comment"], version["created"]) == (2, "v1", True)
    (row,) = await repository.workflows()
    assert (row["user_name"], row["pinned"], row["cover_image"]) == ("Ada", False, None)
    assert (row["latest_version"], row["versions"]) == (None, None)


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft(None, API, name="w"), "workflow"),
        (Draft(None, API, workflow_id="x"), "workflow"),
        (Draft(UI, None, workflow_id="x"), "workflow_api"),
    ],
)
async def test_a_graph_that_the_service_needs(repository, comfydeploy, draft, field):
    with pytest.raises(InvalidRequestError) as caught:
        await (repository.add_version(draft) if draft.workflow_id else repository.save(draft))
    assert caught.value.details["field"] == field
    assert comfydeploy.seen == []


async def test_a_workflow_is_created_once_even_if_its_times_cannot_be_read(repository, comfydeploy):
    comfydeploy.let_pass()
    comfydeploy.fail(500, times=9)
    saved = await repository.save(Draft(UI, API, name="w"))
    assert (saved["name"], saved["version"], saved["created_at"]) == ("w", 1, None)
    assert comfydeploy.paths("POST") == ["/workflow"]
    assert list(comfydeploy.workflows) == [saved["workflow_id"]]


async def test_an_error_of_the_service_is_reported(repository, comfydeploy):
    workflow_id = (await repository.save(Draft(UI, API, name="w")))["id"]
    comfydeploy.fail(500, body={"error": "database is down"})
    with pytest.raises(CloudError, match="database is down") as caught:
        await repository.add_version(Draft(UI, API, workflow_id=workflow_id))
    assert caught.value.status == 502
    assert len(comfydeploy.workflows[workflow_id].versions) == 1


@pytest.mark.parametrize("answer", [{"a": 1}, "text", 5, None])
async def test_replies_of_another_form(repository, comfydeploy, answer):
    calls = [
        lambda: repository.workflows(),
        lambda: repository.versions("x"),
        lambda: repository.save(Draft(UI, API, name="w")),
        lambda: repository.add_version(Draft(UI, API, workflow_id="x")),
    ]
    if not isinstance(answer, dict):
        calls.append(lambda: repository.workflow("x"))
    for call in calls:
        comfydeploy.answer(answer)
        with pytest.raises(CloudError, match="an unexpected form") as caught:
            await call()
        assert caught.value.status == 502


async def test_a_workflow_without_versions(repository, comfydeploy):
    for versions in ([None], [], None):
        comfydeploy.answer({"id": "x", "name": "w", "versions": versions})
        found = await repository.workflow("x")
        assert (found["versions"], found["latest_version"], found["workflow"]) == ([], None, None)
        comfydeploy.answer({"id": "x", "name": "w", "versions": versions})
        with pytest.raises(NotFoundError, match="version"):
            await repository.version("x")
