"""Workflow management, in the local store and in ComfyDeploy."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError

from comfydeploy_jupyter.compat.comfydeploy import Account, Credentials
from tests.helpers.fake_comfydeploy import KEY

if TYPE_CHECKING:
    import sqlite3

API: dict[str, Any] = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}


def ui(text: str = "a") -> dict[str, Any]:
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


LINKED: dict[str, Any] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
TWICE: dict[str, Any] = {"nodes": [{"id": 1, "type": "A"}, {"id": "1", "type": "B"}], "links": []}
SINK: dict[str, Any] = {"id": 1, "type": "A", "inputs": [{"name": "x", "type": "*", "link": 7}]}
NOWHERE: dict[str, Any] = {"nodes": [SINK], "links": [[7, 5, 0, 1, 0, "*"]]}
INNER: dict[str, Any] = {
    **ui(),
    "definitions": {"subgraphs": [{"id": "s", "nodes": [SINK], "links": []}]},
}


PICTURE: dict[str, Any] = {
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": [8, 9, 1, 255],
        },
        {
            "id": 2,
            "type": "PreviewImage",
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "version": 0.4,
}


@pytest.fixture
def settings() -> dict[str, Any]:
    """Further settings of the extension; a test may override them."""
    return {}


@pytest.fixture
def extension_config(tmp_path, comfydeploy, settings, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    return {
        "comfyui_url": "http://127.0.0.1:9",  # no ComfyUI is needed to keep workflows
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
        "cloud_url": comfydeploy.url,
        "allowed_api_urls": [comfydeploy.root],
        **settings,
    }


async def create(api, name: str = "w", text: str = "a", **fields: Any) -> str:
    body = {"name": name, "workflow": ui(text), "workflow_api": API, **fields}
    code, saved = await api.post("workflow", body)
    assert code == 200, saved
    return saved["workflow_id"]


async def test_create_update_and_read(api):
    code, saved = await api.post(
        "workflow",
        {"name": "Portrait", "workflow_json": json.dumps(ui()), "workflow_api": json.dumps(API)},
    )
    assert code == 200
    assert saved["success"] is True
    assert (saved["name"], saved["version"], saved["created"]) == ("Portrait", 1, True)
    workflow_id = saved["workflow_id"]
    assert saved["id"] == workflow_id
    code, again = await api.post(
        "workflow", {"workflow_id": workflow_id, "workflow": ui(), "workflow_api": API}
    )
    assert (code, again["version"], again["created"]) == (200, 1, False)
    code, version = await api.post(
        "workflow/version",
        {"workflow_id": workflow_id, "workflow": ui("b"), "comment": "Brighter"},
    )
    assert (code, version["success"], version["version"]) == (200, True, 2)
    assert (version["workflow"], version["workflow_api"]) == (ui("b"), None)

    code, found = await api.get("workflow", workflow_id=workflow_id)
    assert (code, found["latest_version"], found["workflow"]) == (200, 2, ui("b"))
    code, rows = await api.get("workflow/versions", workflow_id=workflow_id)
    assert (code, [row["version"] for row in rows]) == (200, [2, 1])
    code, rows = await api.get("workflow/versions", workflow_id=workflow_id, search="BRIGHT")
    assert [row["comment"] for row in rows] == ["Brighter"]
    for selector, number in (("1", 1), ("2", 2), ("latest", 2)):
        code, row = await api.get("workflow/version", workflow_id=workflow_id, version=selector)
        assert (code, row["version"]) == (200, number)
    code, row = await api.get("workflow/version", workflow_id=workflow_id)
    assert row["version"] == 2
    code, rows = await api.get("workflows")
    assert [(row["id"], row["versions"]) for row in rows] == [(workflow_id, 2)]


async def test_lists_are_paged_and_searched(api):
    ids = [await create(api, f"No {number}") for number in range(4)]
    _, rows = await api.get("workflows", limit="2", offset="1")
    assert [row["id"] for row in rows] == [ids[2], ids[1]]
    _, rows = await api.get("workflows", search="no 3")
    assert [row["id"] for row in rows] == [ids[3]]


async def test_an_api_graph_alone(api):
    code, saved = await api.post("workflow", {"name": "w", "workflow": API})
    assert code == 200
    _, found = await api.get("workflow", workflow_id=saved["id"])
    assert (found["workflow"], found["workflow_api"]) == (None, API)
    _, again = await api.post("workflow", {"workflow_id": saved["id"], "workflow_api": API})
    assert again["new_version"] is False


async def test_concurrent_versions(api):
    workflow_id = await create(api)
    answers = await asyncio.gather(
        *(
            api.post("workflow/version", {"workflow_id": workflow_id, "workflow": ui(str(n))})
            for n in range(10)
        )
    )
    assert sorted(body["version"] for _, body in answers) == list(range(2, 12))


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("workflow", {"workflow": ui()}, "name"),
        ("workflow", {"name": " ", "workflow": ui()}, "name"),
        ("workflow", {"name": "a\nb", "workflow": ui()}, "name"),
        ("workflow", {"name": 1, "workflow": ui()}, "name"),
        ("workflow", {"name": "\ud800", "workflow": ui()}, "name"),
        ("workflow", {"name": "w", "workflow": ui(), "comment": "\ud800"}, "comment"),
        ("workflow", {"name": "n" * 256, "workflow": ui()}, "name"),
        ("workflow", {"name": "w"}, "workflow"),
        ("workflow", {"name": "w", "workflow": {}}, "workflow"),
        ("workflow", {"name": "w", "workflow": [1]}, "workflow"),
        ("workflow", {"name": "w", "workflow": "{not json"}, "workflow"),
        ("workflow", {"name": "w", "workflow_json": "[1]"}, "workflow_json"),
        ("workflow", {"name": "w", "workflow_json": '{"nodes": [NaN]}'}, "workflow_json"),
        ("workflow", {"name": "w", "workflow_json": '{"a":' * 100_000}, "workflow_json"),
        ("workflow", {"name": "w", "workflow": ui(), "workflow_api": ui()}, "workflow_api"),
        ("workflow", {"name": "w", "workflow": API, "workflow_api": API}, "workflow"),
        ("workflow", {"name": "w", "workflow": TWICE}, "workflow"),
        ("workflow", {"name": "w", "workflow": NOWHERE}, "workflow"),
        ("workflow", {"name": "w", "workflow_json": json.dumps(INNER)}, "workflow_json"),
        ("workflow", {"name": "w", "workflow": {"1": LINKED}}, "workflow"),
        (
            "workflow",
            {"name": "w", "workflow": ui(), "workflow_api": {"1": LINKED}},
            "workflow_api",
        ),
        ("workflow/version", {"workflow_id": "x", "workflow": TWICE}, "workflow"),
        ("workflow", {"name": "w", "workflow": ui(), "workflow_json": ui("b")}, "workflow_json"),
        ("workflow", {"name": "w", "workflow": ui(), "comment": 5}, "comment"),
        ("workflow", {"name": "w", "workflow": ui(), "target": "moon"}, "target"),
        ("workflow/version", {"workflow": ui()}, "workflow_id"),
        ("workflow/version", {"workflow_id": "a/b", "workflow": ui()}, "workflow_id"),
        ("workflow/version", {"workflow_id": "x"}, "workflow"),
    ],
)
async def test_invalid_bodies_are_refused(api, route, body, field):
    code, answer = await api.post(route, body)
    assert (code, answer["code"]) == (400, "invalid_request")
    assert answer["details"]["field"] == field
    assert (await api.get("workflows"))[1] == []


@pytest.mark.parametrize(
    ("route", "query", "field"),
    [
        ("workflow", {}, "workflow_id"),
        ("workflow/versions", {}, "workflow_id"),
        ("workflow/version", {}, "workflow_id"),
        ("workflow/version", {"workflow_id": "x", "version": "0"}, "version"),
        ("workflow/version", {"workflow_id": "x", "version": "newest"}, "version"),
        ("workflows", {"limit": "0"}, "limit"),
        ("workflows", {"offset": "9" * 30}, "offset"),
        ("workflows", {"target": "moon"}, "target"),
    ],
)
async def test_bad_queries(api, route, query, field):
    code, answer = await api.get(route, **query)
    assert (code, answer["code"], answer["details"]["field"]) == (400, "invalid_request", field)


async def test_a_graph_with_a_duplicate_node_id_is_refused(api):
    twice = '{"1": {"class_type": "A"}, "1": {"class_type": "B"}}'
    code, answer = await api.post("workflow", f'{{"name": "w", "workflow_api": {twice}}}')
    assert (code, answer["code"]) == (400, "invalid_json")
    assert "the key '1' twice" in answer["error"]
    code, answer = await api.post("workflow", {"name": "w", "workflow_api": twice})
    assert (code, answer["details"]["field"]) == (400, "workflow_api")
    assert (await api.get("workflows"))[1] == []


async def test_a_ui_graph_without_an_api_graph_is_converted_for_comfydeploy_too(api, comfydeploy):
    key = {"X-ComfyDeploy-Token": KEY}
    body = {"name": "w", "workflow": PICTURE, "target": "cloud"}
    code, saved = await api.post("workflow", body, headers=key)
    assert code == 200, saved
    other = {**PICTURE, "nodes": [PICTURE["nodes"][0], {**PICTURE["nodes"][1], "id": 2, "pos": 9}]}
    body = {"workflow_id": saved["workflow_id"], "workflow": other, "target": "cloud"}
    code, version = await api.post("workflow/version", body, headers=key)
    assert (code, version["version"]) == (200, 2), version


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
async def test_errors_say_what_is_wrong(api, name):
    _, answer = await api.post("workflow", {"name": name, "workflow": ui()})
    assert answer["error"] == "name: must be one line of text, and not blank"


async def test_unknown_ids_are_not_found(api):
    workflow_id = await create(api)
    calls = (
        await api.get("workflow", workflow_id="x"),
        await api.get("workflow/versions", workflow_id="x"),
        await api.get("workflow/version", workflow_id="x", version="1"),
        await api.get("workflow/version", workflow_id=workflow_id, version="2"),
        await api.post("workflow", {"workflow_id": "x", "workflow": ui()}),
        await api.post("workflow/version", {"workflow_id": "x", "workflow": ui()}),
    )
    assert [(code, body["code"]) for code, body in calls] == [(404, "not_found")] * 6


async def test_in_comfydeploy(api, comfydeploy):
    key = {"X-ComfyDeploy-Token": KEY}
    body = {"name": "w", "workflow": ui(), "workflow_api": API, "api_url": comfydeploy.root}
    code, saved = await api.post("workflow", body, headers=key)
    assert (code, saved["success"], saved["version"]) == (200, True, 1)
    workflow_id = saved["workflow_id"]
    assert list(comfydeploy.workflows) == [workflow_id]
    body = {"workflow_id": workflow_id, "workflow": ui("b"), "workflow_api": API}
    code, version = await api.post(
        "workflow/version", body, headers=key, params={"target": "cloud"}
    )
    assert (code, version["version"]) == (200, 2)
    for where in ({"target": "cloud"}, {"api_url": comfydeploy.root}):
        request = {"params": where, "headers": key}
        code, rows = await api.call("GET", "workflows", **request)
        assert [row["id"] for row in rows] == [workflow_id]
        request["params"] = {**where, "workflow_id": workflow_id}
        code, found = await api.call("GET", "workflow", **request)
        assert (found["latest_version"], found["versions"][0]["workflow"]) == (2, ui("b"))
        code, rows = await api.call("GET", "workflow/versions", **request)
        assert [row["version"] for row in rows] == [2, 1]
        code, row = await api.call("GET", "workflow/version", **request)
        assert row["workflow"] == ui("b")
    assert (await api.get("workflows"))[1] == []
    assert (await api.get("workflow", workflow_id=workflow_id))[0] == 404


async def test_errors_of_comfydeploy(api, comfydeploy):
    key = {"headers": {"X-ComfyDeploy-Token": KEY}}
    query = {"target": "cloud", "workflow_id": "no-such"}
    code, body = await api.call("GET", "workflow", params=query, **key)
    assert (code, body["code"], body["error"]) == (
        404,
        "cloud_error",
        "ComfyDeploy: Workflow not found",
    )
    comfydeploy.fail(500, times=9, body="<html>")
    code, body = await api.call("GET", "workflow", params=query, **key)
    assert (code, body["code"]) == (502, "cloud_error")


async def test_addresses_off_the_list(api, comfydeploy):
    body = {"name": "w", "workflow": ui(), "cd_token": KEY, "api_url": "https://evil.example"}
    code, answer = await api.post("workflow", body)
    assert (code, answer["code"]) == (403, "forbidden_api_url")
    code, answer = await api.get("workflows", api_url=f"{comfydeploy.root}.evil.example")
    assert (code, answer["code"], answer["details"]["field"]) == (
        403,
        "forbidden_api_url",
        "api_url",
    )
    assert comfydeploy.seen == []


def keys_of(comfydeploy) -> list[str]:
    return [seen.headers["Authorization"].removeprefix("Bearer ") for seen in comfydeploy.seen]


async def test_no_key(api, comfydeploy):
    code, body = await api.get("workflows", target="cloud")
    assert (code, body["code"]) == (401, "no_api_key")
    assert comfydeploy.seen == []


@pytest.mark.parametrize("settings", [{"api_key": "configured"}])
async def test_order_of_the_keys(api, comfydeploy, extension):
    comfydeploy.keys |= {"header", "cd_token", "token", "session", "configured"}
    header = {"X-ComfyDeploy-Token": "header"}
    body = {"name": "w", "workflow": ui(), "target": "cloud", "force": True}
    await api.post("workflow", {**body, "cd_token": "cd_token", "token": "token"}, headers=header)
    await api.post("workflow", {**body, "cd_token": "cd_token", "token": "token"})
    await api.post("workflow", {**body, "token": "token"})
    await api.get("workflows", target="cloud")
    extension.services.cloud.access.signed_in_key = "session"
    await api.get("workflows", target="cloud")
    sent = list(dict.fromkeys(keys_of(comfydeploy)))
    assert sent == ["header", "cd_token", "token", "configured", "session"]


async def test_a_sign_in_is_kept_over_a_restart(api, comfydeploy, extension, tmp_path):
    Credentials(tmp_path / "data" / "credentials.json").keep(Account(KEY, "Ada"))
    await extension.stop_extension()
    code, rows = await api.get("workflows", target="cloud")
    assert (code, rows) == (200, [])
    assert keys_of(comfydeploy) == [KEY]


async def test_jupyters_token_is_never_taken_for_the_key(api, comfydeploy, jp_auth_header):
    token = jp_auth_header["Authorization"].split()[-1]
    headers = {"Authorization": f"Bearer {token}"}
    code, body = await api.call("GET", "workflows", params={"target": "cloud"}, headers=headers)
    assert (code, body["code"]) == (401, "no_api_key")
    assert comfydeploy.seen == []


async def test_a_bearer_beside_a_cookie_is_the_key(
    api, comfydeploy, http_server_client, jp_base_url, jp_auth_header
):
    async def fetch(headers: dict[str, str]) -> Any:
        url = url_path_join(jp_base_url, "comfyui-deploy/workflows?target=cloud")
        try:
            return await http_server_client.fetch(url, headers=headers)
        except HTTPClientError as error:
            return error.response

    login = await fetch(dict(jp_auth_header))
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    cookie = {"Cookie": "; ".join(cookies)}
    assert (await fetch({**cookie, "Authorization": f"Bearer {KEY}"})).code == 200
    assert keys_of(comfydeploy) == [KEY]
    assert (await fetch({"Authorization": f"Bearer {KEY}"})).code == 403


async def test_a_bearer_beside_a_token_in_the_address_is_the_key(api, comfydeploy, jp_auth_header):
    token = jp_auth_header["Authorization"].split()[-1]

    async def keys(query_token: str, bearer: str, **headers: str) -> list[str]:
        comfydeploy.seen.clear()
        await api.call(
            "GET",
            "workflows",
            params={"target": "cloud", "token": query_token},
            headers={"Authorization": f"Bearer {bearer}", **headers},
        )
        return keys_of(comfydeploy)

    assert await keys(token, KEY) == [KEY]
    assert await keys(token, "wrong") == ["wrong"]
    assert await keys(token, token) == []
    response = await api.raw("GET", "workflows", headers=dict(jp_auth_header))
    cookies = [value.split(";")[0] for value in response.headers.get_list("Set-Cookie")]
    signed_in = {"Cookie": "; ".join(cookies)}
    assert await keys("not-the-token", KEY, **signed_in) == [KEY]
    assert await keys("not-the-token", token, **signed_in) == []
    assert await keys("not-the-token", KEY) == [], "without a login"


@pytest.mark.parametrize("settings", [{"cloud_url": "https://evil.example/api", "api_key": KEY}])
async def test_a_configured_address_off_the_list(api):
    code, body = await api.get("workflows", target="cloud")
    assert (code, body["code"], body["details"]["field"]) == (
        403,
        "forbidden_api_url",
        "cloud_url",
    )


async def test_missing_api_graph_is_made_from_known_nodes(api):
    graph = copy.deepcopy(PICTURE)
    _, saved = await api.post("workflow", {"name": "w", "workflow": graph})
    _, version = await api.get("workflow/version", workflow_id=saved["workflow_id"])
    assert version["workflow_api"]["2"]["inputs"] == {"images": ["1", 0]}
    assert version["workflow_api"]["1"]["inputs"]["height"] == 9
    _, again = await api.post("workflow", {"workflow_id": saved["workflow_id"], "workflow": graph})
    assert again["version"] == 1
    graph["nodes"][0]["type"] = "NoSuchNode"
    _, unknown = await api.post("workflow", {"name": "w", "workflow": graph})
    _, version = await api.get("workflow/version", workflow_id=unknown["workflow_id"])
    assert version["workflow_api"] is None


async def test_presets_are_kept_with_a_workflow(api):
    workflow_id = await create(api)
    assert await api.get("workflow/presets", workflow_id=workflow_id) == (200, [])
    values = {"inputs": {"3.steps": 30, "6.text": "<b>שלום</b> 🙂"}, "locked": ["3.seed"]}
    code, saved = await api.post(
        "workflow/preset", {"workflow_id": workflow_id, "name": "Softer", **values}
    )
    assert code == 200, saved
    assert saved.pop("success") is True
    assert {key: saved[key] for key in values} == values
    code, listed = await api.get("workflow/presets", workflow_id=workflow_id)
    assert listed == [saved]
    await api.post("workflow/preset", {"workflow_id": workflow_id, "name": "bold", "inputs": {}})
    _, listed = await api.get("workflow/presets", workflow_id=workflow_id)
    assert [preset["name"] for preset in listed] == ["bold", "Softer"]
    code, gone = await api.post(
        "workflow/preset/delete", {"workflow_id": workflow_id, "name": "softer"}
    )
    assert (code, gone["inputs"]) == (200, values["inputs"])
    code, error = await api.post(
        "workflow/preset/delete", {"workflow_id": workflow_id, "name": "softer"}
    )
    assert (code, error["details"]["field"]) == (404, "name")


async def test_a_preset_that_another_client_changed_is_not_replaced(api):
    workflow_id = await create(api)

    async def save(steps: int, revision: str | None) -> tuple[int, Any]:
        body = {"workflow_id": workflow_id, "name": "Soft", "inputs": {"3.steps": steps}}
        return await api.post("workflow/preset", {**body, "revision": revision})

    _, first = await save(1, "")
    code, error = await save(2, "")
    assert (code, error["code"], error["details"]["field"]) == (409, "conflict", "revision")
    assert error["details"]["preset"]["inputs"] == {"3.steps": 1}
    code, second = await save(2, first["revision"])
    assert code == 200
    assert second["revision"] != first["revision"]
    code, error = await save(3, first["revision"])
    assert (code, error["details"]["preset"]["revision"]) == (409, second["revision"])
    code, same = await save(2, first["revision"])
    assert (code, same["revision"]) == (200, second["revision"]), "it has these values already"
    body = {"workflow_id": workflow_id, "name": "Soft"}
    code, _ = await api.post("workflow/preset/delete", {**body, "revision": first["revision"]})
    assert code == 409
    code, _ = await api.post("workflow/preset/delete", {**body, "revision": second["revision"]})
    assert code == 200
    code, error = await save(4, second["revision"])
    assert (code, error["details"]["preset"]) == (409, None)
    code, _ = await save(4, None)
    assert code == 200


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"workflow_id": "none"}, "workflow_id", 404),
        ({"name": " "}, "name", 400),
        ({"name": "x" * 256}, "name", 400),
        ({"inputs": [1]}, "inputs", 400),
        ({"inputs": {"1.text": "x" * (1 << 20)}}, "inputs", 400),
        ({"locked": "3.seed"}, "locked", 400),
    ],
)
async def test_presets_that_are_wrong_name_the_field(api, body, field, code):
    workflow_id = await create(api)
    given = {"workflow_id": workflow_id, "name": "a", "inputs": {}, **body}
    answered, error = await api.post("workflow/preset", given)
    assert (answered, error["details"]["field"]) == (code, field)


async def test_a_workflow_has_a_bounded_number_of_presets(api, monkeypatch):
    monkeypatch.setattr("comfydeploy_jupyter.workflows.store.MAX_PRESETS", 1)
    workflow_id = await create(api)
    for name, expected in (("a", 200), ("b", 400), ("A", 200)):
        body = {"workflow_id": workflow_id, "name": name, "inputs": {}}
        assert (await api.post("workflow/preset", body))[0] == expected


async def test_a_workflow_is_renamed_and_tagged(api):
    workflow_id = await create(api, name="Old name", comment="first light")
    body = {
        "workflow_id": workflow_id,
        "name": "<b>שם</b> 🙂",
        "tags": ["People", "SDXL", "people"],
    }
    code, changed = await api.post("workflow/update", body)
    assert (code, changed["name"], changed["tags"]) == (200, body["name"], ["People", "SDXL"])
    for search, count in (("old name", 0), ("שם", 1), ("sdxl", 1), ("FIRST light", 1)):
        _, found = await api.get("workflows", search=search)
        assert len([one for one in found if one["id"] == workflow_id]) == count, search
    code, _ = await api.post("workflow/update", {"workflow_id": workflow_id, "tags": []})
    assert code == 200
    saved = {"workflow_id": workflow_id, "workflow_api": API, "name": "Again", "comment": "x"}
    await api.post("workflow", saved)
    _, found = await api.get("workflows", search="again")
    assert [(one["id"], one["tags"]) for one in found] == [(workflow_id, [])]
    _, versions = await api.get("workflow/versions", workflow_id=workflow_id)
    assert versions[-1]["comment"] == "first light"


async def test_a_deleted_workflow_can_be_restored(api):
    workflow_id = await create(api, name="Regretted")
    preset = {"workflow_id": workflow_id, "name": "Soft", "inputs": {"3.steps": 1}}
    await api.post("workflow/preset", preset)
    code, _ = await api.post("workflow/restore", {"workflow_id": workflow_id})
    assert code == 404, "it is not deleted"
    code, deleted = await api.post("workflow/delete", {"workflow_id": workflow_id})
    assert (code, deleted["name"]) == (200, "Regretted")
    _, found = await api.get("workflows", search="regretted")
    assert found == []
    for path in ("workflow", "workflow/version", "workflow/versions", "workflow/presets"):
        assert (await api.get(path, workflow_id=workflow_id))[0] == 404, path
    for path, body in (
        ("workflow", {"workflow_id": workflow_id, "workflow_api": API}),
        ("workflow/delete", {"workflow_id": workflow_id}),
        ("workflow/update", {"workflow_id": workflow_id, "name": "x"}),
        ("workflow/preset", preset),
        ("run", {"workflow_id": workflow_id}),
    ):
        assert (await api.post(path, body))[0] == 404, path
    code, _ = await api.post("workflow/restore", {"workflow_id": workflow_id})
    assert code == 200
    _, found = await api.get("workflows", search="regretted")
    assert [one["id"] for one in found] == [workflow_id]
    _, presets = await api.get("workflow/presets", workflow_id=workflow_id)
    assert [one["name"] for one in presets] == ["Soft"]


async def test_workflows_deleted_long_ago_are_removed(api, extension):
    old, other = await create(api, name="Long gone"), await create(api, name="Other")
    await api.post("workflow/delete", {"workflow_id": old})

    def age(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE workflows SET deleted_at = '2020-01-01T00:00:00.000Z' WHERE workflow_id = ?",
            (old,),
        )

    await extension.services.database.write(age)
    await api.post("workflow/delete", {"workflow_id": other})
    assert (await api.post("workflow/restore", {"workflow_id": old}))[0] == 404
    assert (await api.post("workflow/restore", {"workflow_id": other}))[0] == 200
    code, version = await api.get("workflow/version", workflow_id=other)
    assert (code, version["workflow_api"] is not None) == (200, True), "the graph of both stays"


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"workflow_id": "none", "name": "x"}, "workflow_id", 404),
        ({}, "name", 400),
        ({"name": " "}, "name", 400),
        ({"name": "x" * 256}, "name", 400),
        ({"tags": ["x" * 65]}, "tags", 400),
        ({"tags": ["x"] * 51}, "tags", 400),
    ],
)
async def test_a_change_that_is_wrong_names_the_field(api, body, field, code):
    given = {"workflow_id": await create(api), **body}
    answered, error = await api.post("workflow/update", given)
    assert (answered, error["details"]["field"]) == (code, field)
