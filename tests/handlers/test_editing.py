"""Stored workflows that are edited in ComfyUI's page."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp import web
from jupyter_server.utils import url_path_join

from tests.handlers.test_workflows import PICTURE
from tests.helpers.comfyui_proxies import aborted, hanging
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.comfyui_proxies import FaultyComfyUI

API: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 9, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def edited(width: int) -> dict[str, Any]:
    graph = copy.deepcopy(PICTURE)
    graph["nodes"][0]["widgets_values"][0] = width
    return graph


@pytest.fixture
def editor(extension, http_server_client, jp_base_url, jp_auth_header) -> Callable[..., Any]:
    """A function that sends a request of the editor through the proxy of its page."""

    async def fetch(method: str, path: str, graph: Any = None, more: str = "") -> Any:
        address = f"comfyui/api/userdata/{quote(f'workflows/{path}', safe='')}{more}"
        answer = await http_server_client.fetch(
            url_path_join(jp_base_url, address),
            method=method,
            headers=jp_auth_header,
            body=None if method in {"GET", "DELETE"} else json.dumps(graph),
            request_timeout=60,
        )
        return json.loads(answer.body) if answer.body else None

    return fetch


async def keep(api, **graphs: Any) -> str:
    code, saved = await api.post("workflow", {"name": f"edit {uuid.uuid4().hex}", **graphs})
    assert code == 200, saved
    return saved["workflow_id"]


async def forwarded(faulty: FaultyComfyUI, request: web.Request) -> bytes:
    """Send a request on to ComfyUI; return the body of its response."""
    address, body = faulty.target + request.path_qs, await request.read()
    async with faulty._session.request(request.method, address, data=body) as response:
        return await response.read()


async def versions(api, workflow_id: str, count: int) -> list[dict[str, Any]]:
    """Return the versions of a workflow once there are so many."""

    async def read() -> list[dict[str, Any]]:
        return (await api.get("workflow/versions", workflow_id=workflow_id))[1]

    return await until_async(read, lambda found: len(found) >= count)


async def test_save_in_the_editor_is_a_new_version(api, editor, jp_base_url):
    workflow_id = await keep(api, workflow=PICTURE)
    code, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
    assert code == 200, opened
    path = opened["path"]
    page = url_path_join(jp_base_url, f"comfyui/?comfydeploy_workflow={quote(path, safe='')}")
    assert opened["url"].replace("+", "%20") == page
    assert await editor("GET", path) == PICTURE
    await editor("POST", path, PICTURE, "?overwrite=true&full_info=true")
    await editor("POST", path, edited(16), "?overwrite=true&full_info=true")
    found = await versions(api, workflow_id, 2)
    assert [(each["version"], each["comment"]) for each in found] == [
        (2, "Saved in ComfyUI's editor"),
        (1, ""),
    ], "an unchanged graph is no version"
    _, version = await api.get("workflow/version", workflow_id=workflow_id)
    assert version["workflow"] == edited(16)
    assert version["workflow_api"]["1"]["inputs"]["width"] == 16


async def test_a_graph_in_api_format_is_converted(api, editor):
    workflow_id = await keep(api, workflow_api=API)
    _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
    graph = await editor("GET", opened["path"])
    assert [node["type"] for node in graph["nodes"]] == ["EmptyImage", "PreviewImage"]
    code, again = await api.post("workflow/edit", {"workflow_id": workflow_id})
    assert (code, again["path"]) == (200, opened["path"])
    assert len(await versions(api, workflow_id, 1)) == 1, "nothing was saved in between"


async def test_files_saved_directly_in_comfyui_are_stored_at_the_next_edit(api, extension, editor):
    workflow_id = await keep(api, workflow=PICTURE)
    _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
    client = await extension.services.machines.get().ready()
    address = f"/userdata/{quote('workflows/' + opened['path'], safe='')}"
    await client.request("POST", address, body=json.dumps(edited(24)).encode())
    await api.post("workflow/edit", {"workflow_id": workflow_id})
    assert len(await versions(api, workflow_id, 2)) == 2
    assert await editor("GET", opened["path"]) == edited(24)


async def test_renamed_and_deleted_files(api, editor):
    workflow_id = await keep(api, workflow=PICTURE)
    _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
    path, moved = opened["path"], f"{uuid.uuid4().hex}.json"
    await editor("POST", path, None, f"/move/{quote(f'workflows/{moved}', safe='')}")
    await editor("POST", moved, edited(32), "?overwrite=true")
    assert len(await versions(api, workflow_id, 2)) == 2
    await editor("POST", path, edited(40), "?overwrite=true")  # a new file of the old name
    await editor("DELETE", moved)
    await editor("POST", moved, edited(48), "?overwrite=true")
    _, again = await api.post("workflow/edit", {"workflow_id": workflow_id})
    assert again["path"] not in {path, moved}
    found = await versions(api, workflow_id, 2)
    assert len(found) == 2, "files that are no kept workflow are left alone"
    assert await editor("GET", path) == edited(40)


@pytest.mark.parametrize("text", ["{ no json", '{"a": 1}', "[]"])
async def test_a_file_that_is_not_a_workflow_is_not_stored(api, extension, editor, text):
    workflow_id = await keep(api, workflow=PICTURE)
    _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
    client = await extension.services.machines.get().ready()
    address = f"/userdata/{quote('workflows/' + opened['path'], safe='')}"
    await client.request("POST", address, body=text.encode())
    code, error = await api.post("workflow/edit", {"workflow_id": workflow_id})
    assert (code, error["code"]) == (400, "invalid_request")
    await editor("POST", opened["path"], edited(56), "?overwrite=true")
    assert len(await versions(api, workflow_id, 2)) == 2, "the next save is kept"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", 'a/b\\c:<d>|"e"?*', "שם 🙂", "." * 20, "x" * 255, "CON%2F..%2Fy"],
)
async def test_workflow_names_become_safe_file_paths(api, editor, name):
    code, saved = await api.post("workflow", {"name": name, "workflow": PICTURE})
    assert code == 200, saved
    code, opened = await api.post("workflow/edit", {"workflow_id": saved["workflow_id"]})
    assert code == 200, opened
    assert "/" not in opened["path"]
    assert len(opened["path"]) < 100
    assert await editor("GET", opened["path"]) == PICTURE
    _, listed = await api.get("editor/workflows")
    assert opened["path"] in {file["path"] for file in listed}


async def test_two_workflows_of_a_name_have_two_files(api):
    name = f"twin {uuid.uuid4().hex}"
    paths = []
    for _ in range(2):
        _, saved = await api.post("workflow", {"name": name, "workflow": PICTURE})
        _, opened = await api.post("workflow/edit", {"workflow_id": saved["workflow_id"]})
        paths.append(opened["path"])
    assert paths == [f"{name}.json", f"{name} (2).json"]


async def test_an_unknown_workflow_cannot_be_edited(api):
    code, error = await api.post("workflow/edit", {"workflow_id": "none"})
    assert (code, error["details"]["field"]) == (404, "workflow_id")


class TestComfyUIWithFaults:
    @pytest.fixture
    def extension_config(self, faulty, tmp_path):
        return {
            "comfyui_url": faulty.url,
            "data_dir": str(tmp_path / "data"),
            "comfyui_timeout": 1.0,
        }

    @pytest.mark.parametrize("arrives", [False, True])
    async def test_a_version_is_not_replaced_by_an_older_one(self, api, editor, faulty, arrives):
        workflow_id = await keep(api, workflow=PICTURE)
        _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})

        async def fault(request):
            if arrives:
                await forwarded(faulty, request)
            return await aborted(request)

        for width in (24, 32):
            await api.post("workflow", {"workflow_id": workflow_id, "workflow": edited(width)})
            faulty.fail("POST", "/userdata", hanging if width == 24 else fault)
            code, _ = await api.post("workflow/edit", {"workflow_id": workflow_id})
            faulty.remove_faults()
            assert code == 503
        await api.post("workflow", {"workflow_id": workflow_id, "workflow": edited(40)})
        code, again = await api.post("workflow/edit", {"workflow_id": workflow_id})
        assert (code, again["path"]) == (200, opened["path"])
        assert await editor("GET", opened["path"]) == edited(40)
        found = await versions(api, workflow_id, 4)
        assert [version["comment"] for version in found] == [""] * 4

    async def test_a_file_that_was_not_written_does_not_belong_to_the_workflow(
        self, api, editor, faulty
    ):
        name = uuid.uuid4().hex
        _, saved = await api.post("workflow", {"name": name, "workflow": PICTURE})
        workflow_id = saved["workflow_id"]
        faulty.fail("POST", "/userdata", aborted)
        assert (await api.post("workflow/edit", {"workflow_id": workflow_id}))[0] == 503
        faulty.remove_faults()
        path = f"{name}.json"
        await editor("POST", path, edited(48), "?overwrite=true")  # another file of that name
        _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
        assert opened["path"] != path
        assert len(await versions(api, workflow_id, 1)) == 1

    async def test_file_that_is_renamed_while_it_is_stored_keeps_its_name(
        self, api, editor, extension, faulty
    ):
        workflow_id = await keep(api, workflow=PICTURE)
        _, opened = await api.post("workflow/edit", {"workflow_id": workflow_id})
        path, moved = opened["path"], f"{uuid.uuid4().hex}.json"
        reading, renamed = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        async def fault(request):
            body = await forwarded(faulty, request)
            loop.call_soon_threadsafe(reading.set)
            await asyncio.to_thread(renamed.wait, 30)
            return web.Response(body=body)

        await editor("POST", path, edited(24), "?overwrite=true")
        assert len(await versions(api, workflow_id, 2)) == 2
        client = await extension.services.machines.get().ready()
        address = f"/userdata/{quote(f'workflows/{path}', safe='')}"
        await client.request("POST", f"{address}?overwrite=true", body=json.dumps(edited(32)))
        faulty.fail("GET", "/userdata", fault)
        edit = asyncio.ensure_future(api.post("workflow/edit", {"workflow_id": workflow_id}))
        await asyncio.wait_for(reading.wait(), 30)
        faulty.remove_faults()
        await editor("POST", path, None, f"/move/{quote(f'workflows/{moved}', safe='')}")
        query = "SELECT count(*) FROM edited_files WHERE path = ?"
        await until_async(
            lambda: extension.services.database.read(
                lambda connection: connection.execute(query, (moved,)).fetchone()[0]
            )
        )
        renamed.set()
        code, again = await edit
        assert (code, again["path"]) == (200, moved)
        assert len(await versions(api, workflow_id, 3)) == 3
        await editor("POST", moved, edited(40), "?overwrite=true")
        assert len(await versions(api, workflow_id, 4)) == 4
