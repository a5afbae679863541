"""Stored workflows that are edited in ComfyUI's page."""

import asyncio
import json
import threading
import uuid
from urllib.parse import quote

import pytest
from aiohttp import web
from jupyter_server.utils import url_path_join

from tests.handlers.test_workflows import saved_picture
from tests.helpers.bodies import picture
from tests.helpers.comfyui_proxies import aborted, hanging
from tests.helpers.waiting import until_async

API = picture(width=8, height=9)


@pytest.fixture
def editor(extension, http_server_client, jp_base_url, jp_auth_header):
    """A function that sends a request of the editor through the proxy of its page."""

    async def fetch(method, path, graph=None, more=""):
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


async def save_directly(extension, path, text):
    """Save a file in ComfyUI itself."""
    client = await extension.services.machines.get().ready()
    address = f"/userdata/{quote(f'workflows/{path}', safe='')}?overwrite=true"
    await client.request("POST", address, body=text.encode())


async def keep(api, name="", **graphs):
    """Store a workflow, by default the saved picture; return its id."""
    body = {"name": name or f"edit {uuid.uuid4().hex}", **(graphs or {"workflow": saved_picture()})}
    code, saved = await api.post("workflow", body)
    assert code == 200, saved
    return {"workflow_id": saved["workflow_id"]}


async def edit(api, stored):
    """Let a workflow be edited; return the path of its file."""
    code, opened = await api.post("workflow/edit", stored)
    assert code == 200, opened
    return str(opened["path"])


async def forwarded(faulty, request):
    """Send a request on to ComfyUI; return the body of its response."""
    address, body = faulty.target + request.path_qs, await request.read()
    async with faulty._session.request(request.method, address, data=body) as response:
        return await response.read()


async def versions(api, stored, count):
    """Return the versions of a workflow once there are so many."""

    async def read():
        return (await api.get("workflow/versions", **stored))[1]

    return await until_async(read, lambda found: len(found) >= count)


async def test_save_in_the_editor_is_a_new_version(api, editor, jp_base_url):
    stored = await keep(api)
    code, opened = await api.post("workflow/edit", stored)
    assert code == 200, opened
    path = opened["path"]
    page = url_path_join(jp_base_url, f"comfyui/?comfydeploy_workflow={quote(path, safe='')}")
    assert opened["url"].replace("+", "%20") == page
    assert await editor("GET", path) == saved_picture()
    for width in (8, 16):
        await editor("POST", path, saved_picture(width), "?overwrite=true&full_info=true")
    found = await versions(api, stored, 2)
    comments = [(each["version"], each["comment"]) for each in found]
    saved = [(2, "Saved in ComfyUI's editor"), (1, "")]
    assert comments == saved, "an unchanged graph is no version"
    _, version = await api.get("workflow/version", **stored)
    assert version["workflow"] == saved_picture(16)
    assert version["workflow_api"]["1"]["inputs"]["width"] == 16


async def test_a_graph_in_api_format_is_converted(api, editor):
    stored = await keep(api, workflow_api=API)
    path = await edit(api, stored)
    graph = await editor("GET", path)
    assert [node["type"] for node in graph["nodes"]] == ["EmptyImage", "PreviewImage"]
    assert await edit(api, stored) == path
    assert len(await versions(api, stored, 1)) == 1, "nothing was saved in between"
    assert await api.refusal("workflow/edit", {"workflow_id": "none"}) == (404, "workflow_id")


async def test_files_saved_directly_in_comfyui_are_stored_at_the_next_edit(api, extension, editor):
    stored = await keep(api)
    path = await edit(api, stored)
    await save_directly(extension, path, json.dumps(saved_picture(24)))
    await edit(api, stored)
    assert len(await versions(api, stored, 2)) == 2
    assert await editor("GET", path) == saved_picture(24)
    for number, text in enumerate(("{ no json", '{"a": 1}', "[]"), 3):
        await save_directly(extension, path, text)
        code, error = await api.post("workflow/edit", stored)
        assert (code, error["code"]) == (400, "invalid_request"), text
        await editor("POST", path, saved_picture(50 + number), "?overwrite=true")
        assert len(await versions(api, stored, number)) == number, "the next save is kept"


@pytest.mark.thorough
async def test_renamed_and_deleted_files(api, editor):
    stored = await keep(api)
    path, moved = await edit(api, stored), f"{uuid.uuid4().hex}.json"
    await editor("POST", path, None, f"/move/{quote(f'workflows/{moved}', safe='')}")
    await editor("POST", moved, saved_picture(32), "?overwrite=true")
    assert len(await versions(api, stored, 2)) == 2
    await editor("POST", path, saved_picture(40), "?overwrite=true")  # a new file of the old name
    await editor("DELETE", moved)
    await editor("POST", moved, saved_picture(48), "?overwrite=true")
    assert await edit(api, stored) not in {path, moved}
    found = await versions(api, stored, 2)
    assert len(found) == 2, "files that are no kept workflow are left alone"
    assert await editor("GET", path) == saved_picture(40)


async def test_workflow_names_become_safe_file_paths(api, editor):
    hostile = ("../../etc/passwd", 'a/b\\c:<d>|"e"?*', "שם 🙂", "." * 20, "x" * 255, "CON%2F..%2Fy")
    for name in hostile:
        path = await edit(api, await keep(api, name))
        assert "/" not in path
        assert len(path) < 100
        assert await editor("GET", path) == saved_picture()
        _, listed = await api.get("editor/workflows")
        assert path in {file["path"] for file in listed}
    name = f"twin {uuid.uuid4().hex}"
    paths = [await edit(api, await keep(api, name)) for _ in range(2)]
    assert paths == [f"{name}.json", f"{name} (2).json"]


class TestComfyUIWithFaults:
    @pytest.fixture
    def extension_config(self, faulty, tmp_path):
        config = {"comfyui_url": faulty.url, "data_dir": str(tmp_path / "data")}
        return {**config, "comfyui_timeout": 1.0}

    @pytest.mark.thorough
    @pytest.mark.parametrize("arrives", [False, True])
    async def test_a_version_is_not_replaced_by_an_older_one(self, api, editor, faulty, arrives):
        stored = await keep(api)
        path = await edit(api, stored)

        async def fault(request):
            if arrives:
                await forwarded(faulty, request)
            return await aborted(request)

        for width in (24, 32):
            await api.post("workflow", {**stored, "workflow": saved_picture(width)})
            faulty.fail("POST", "/userdata", hanging if width == 24 else fault)
            code, _ = await api.post("workflow/edit", stored)
            faulty.remove_faults()
            assert code == 503
        await api.post("workflow", {**stored, "workflow": saved_picture(40)})
        assert await edit(api, stored) == path
        assert await editor("GET", path) == saved_picture(40)
        found = await versions(api, stored, 4)
        assert [version["comment"] for version in found] == [""] * 4

    async def test_a_file_that_was_not_written_does_not_belong_to_the_workflow(
        self, api, editor, faulty
    ):
        name = uuid.uuid4().hex
        stored = await keep(api, name)
        faulty.fail("POST", "/userdata", aborted)
        assert (await api.post("workflow/edit", stored))[0] == 503
        faulty.remove_faults()
        path = f"{name}.json"
        await editor("POST", path, saved_picture(48), "?overwrite=true")  # another of that name
        assert await edit(api, stored) != path
        assert len(await versions(api, stored, 1)) == 1

    async def test_file_that_is_renamed_while_it_is_stored_keeps_its_name(
        self, api, editor, extension, faulty
    ):
        stored = await keep(api)
        path, moved = await edit(api, stored), f"{uuid.uuid4().hex}.json"
        reading, renamed = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        async def fault(request):
            body = await forwarded(faulty, request)
            loop.call_soon_threadsafe(reading.set)
            await asyncio.to_thread(renamed.wait, 30)
            return web.Response(body=body)

        await editor("POST", path, saved_picture(24), "?overwrite=true")
        assert len(await versions(api, stored, 2)) == 2
        await save_directly(extension, path, json.dumps(saved_picture(32)))
        faulty.fail("GET", "/userdata", fault)
        editing = asyncio.ensure_future(edit(api, stored))
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
        assert await editing == moved
        assert len(await versions(api, stored, 3)) == 3
        await editor("POST", moved, saved_picture(40), "?overwrite=true")
        assert len(await versions(api, stored, 4)) == 4
