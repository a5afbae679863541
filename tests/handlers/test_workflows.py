"""Workflow management, in the local store and in ComfyDeploy."""

import json

import pytest
from jupyter_server.utils import url_path_join

from comfydeploy_jupyter.compat.comfydeploy import Account, Credentials
from tests.helpers.fake_comfydeploy import KEY

API = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}


def ui(text="a"):
    return {"nodes": [{"id": 1, "type": "TestText", "widgets_values": [text]}], "links": []}


LINKED = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
TWICE = {"nodes": [{"id": 1, "type": "A"}, {"id": "1", "type": "B"}], "links": []}
SINK = {"id": 1, "type": "A", "inputs": [{"name": "x", "type": "*", "link": 7}]}
NOWHERE = {"nodes": [SINK], "links": [[7, 5, 0, 1, 0, "*"]]}
INNER = {
    **ui(),
    "definitions": {"subgraphs": [{"id": "s", "nodes": [SINK], "links": []}]},
}


def saved_picture(width=8):
    """Return the graph of a picture as the editor saves it."""
    out = {"name": "IMAGE", "type": "IMAGE", "links": [1]}
    link = {"name": "images", "type": "IMAGE", "link": 1}
    nodes = [
        {"id": 1, "type": "EmptyImage", "mode": 0, "inputs": [], "outputs": [out]},
        {"id": 2, "type": "PreviewImage", "mode": 0, "inputs": [link]},
    ]
    nodes[0]["widgets_values"] = [width, 9, 1, 255]
    return {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4}


@pytest.fixture
def settings():
    """Further settings of the extension; a test may override them."""
    return {}


@pytest.fixture
def extension_config(cloud_config, settings):
    return {**cloud_config, **settings}


async def create(api, name="w", text="a", **fields):
    body = {"name": name, "workflow": ui(text), "workflow_api": API, **fields}
    code, saved = await api.post("workflow", body)
    assert code == 200, saved
    return saved["workflow_id"]


async def test_create_update_and_read(api):
    body = {"name": "Portrait", "workflow_json": json.dumps(ui()), "workflow_api": json.dumps(API)}
    code, saved = await api.post("workflow", body)
    assert (code, saved["success"], saved["created"]) == (200, True, True)
    assert (saved["name"], saved["version"]) == ("Portrait", 1)
    workflow_id = saved["workflow_id"]
    stored = {"workflow_id": workflow_id}
    assert saved["id"] == workflow_id
    code, again = await api.post("workflow", {**stored, "workflow": ui(), "workflow_api": API})
    assert (code, again["version"], again["created"]) == (200, 1, False)
    body = {**stored, "workflow": ui("b"), "comment": "Brighter"}
    code, version = await api.post("workflow/version", body)
    assert (code, version["success"], version["version"]) == (200, True, 2)
    assert (version["workflow"], version["workflow_api"]) == (ui("b"), None)

    code, found = await api.get("workflow", **stored)
    assert (code, found["latest_version"], found["workflow"]) == (200, 2, ui("b"))
    for query, numbers in (({}, [2, 1]), ({"search": "BRIGHT"}, [2]), ({"offset": "1"}, [1])):
        code, rows = await api.get("workflow/versions", **stored, **query)
        assert (code, [row["version"] for row in rows]) == (200, numbers), query
    for selector, number in ({"version": "1"}, 1), ({"version": "latest"}, 2), ({}, 2):
        code, row = await api.get("workflow/version", **stored, **selector)
        assert (code, row["version"]) == (200, number)
    code, rows = await api.get("workflows")
    assert [(row["id"], row["versions"]) for row in rows] == [(workflow_id, 2)]
    other = await create(api, "Another")
    for query, ids in (
        ({"limit": "1"}, [other]),
        ({"limit": "1", "offset": "1"}, [workflow_id]),
        ({"search": "port"}, [workflow_id]),
    ):
        _, rows = await api.get("workflows", **query)
        assert [row["id"] for row in rows] == ids, query
    odd = {**ui(), "ü": ["\u2028", "😀", None, 1e300, -0.5, 2**53]}
    code, forced = await api.post("workflow", {**stored, "workflow": odd})
    assert (code, forced["version"], forced["new_version"]) == (200, 3, True)
    assert (await api.get("workflow", **stored))[1]["workflow"] == odd
    code, forced = await api.post("workflow", {**stored, "workflow": odd, "force": True})
    assert (code, forced["version"]) == (200, 4)
    assert (await api.get("workflows", limit="1"))[1][0]["id"] == workflow_id, "the last changed"


async def test_an_api_graph_alone(api):
    code, saved = await api.post("workflow", {"name": "w", "workflow": API})
    assert code == 200
    _, found = await api.get("workflow", workflow_id=saved["id"])
    assert (found["workflow"], found["workflow_api"]) == (None, API)
    _, again = await api.post("workflow", {"workflow_id": saved["id"], "workflow_api": API})
    assert again["new_version"] is False


WRONG_BODIES = [
    *(
        ("workflow", {"workflow": ui(), "name": name}, "name")
        for name in (None, " ", "a\nb", 1, "\ud800", "n" * 256)
    ),
    *(
        ("workflow", {"name": "w", field: value}, field)
        for field, values in {
            "workflow": (None, {}, [1], "{not json", TWICE, NOWHERE, {"1": LINKED}),
            "workflow_json": ("[1]", '{"nodes": [NaN]}', '{"a":' * 100_000, json.dumps(INNER)),
        }.items()
        for value in values
    ),
    ("workflow", {"name": "w", "workflow": API, "workflow_api": API}, "workflow"),
    *(
        ("workflow", {"name": "w", "workflow": ui(), field: value}, field)
        for field, value in (
            ("comment", "\ud800"),
            ("comment", 5),
            ("workflow_api", ui()),
            ("workflow_api", {"1": LINKED}),
            ("workflow_json", ui("b")),
            ("target", "moon"),
        )
    ),
    ("workflow/version", {"workflow_id": "x", "workflow": TWICE}, "workflow"),
    ("workflow/version", {"workflow": ui()}, "workflow_id"),
    ("workflow/version", {"workflow_id": "a/b", "workflow": ui()}, "workflow_id"),
    ("workflow/version", {"workflow_id": "x"}, "workflow"),
]
WRONG_QUERIES = [
    ("workflow", {}, "workflow_id"),
    ("workflow/versions", {}, "workflow_id"),
    ("workflow/version", {}, "workflow_id"),
    ("workflow/version", {"workflow_id": "x", "version": "0"}, "version"),
    ("workflow/version", {"workflow_id": "x", "version": "newest"}, "version"),
    ("workflows", {"limit": "0"}, "limit"),
    ("workflows", {"offset": "9" * 30}, "offset"),
    ("workflows", {"target": "moon"}, "target"),
]


async def test_invalid_requests_are_refused(api):
    for route, body, field in WRONG_BODIES:
        code, answer = await api.post(route, body)
        assert (code, answer["code"]) == (400, "invalid_request"), ascii(body)[:200]
        assert answer["details"]["field"] == field, ascii(body)[:200]
        if isinstance(body.get("name"), str) and not body["name"].strip():
            assert answer["error"] == "name: must be one line of text, and not blank"
    for route, query, field in WRONG_QUERIES:
        code, answer = await api.get(route, **query)
        assert (code, answer["details"]["field"]) == (400, field), query
    twice = '{"1": {"class_type": "A"}, "1": {"class_type": "B"}}'
    code, answer = await api.post("workflow", f'{{"name": "w", "workflow_api": {twice}}}')
    assert (code, answer["code"]) == (400, "invalid_json")
    assert "the key '1' twice" in answer["error"]
    refused = await api.refusal("workflow", {"name": "w", "workflow_api": twice})
    assert refused == (400, "workflow_api")
    assert (await api.get("workflows"))[1] == []


async def test_a_ui_graph_without_an_api_graph_is_converted_for_comfydeploy_too(api, comfydeploy):
    key, graph = {"X-ComfyDeploy-Token": KEY}, saved_picture()
    body = {"name": "w", "workflow": graph, "target": "cloud"}
    code, saved = await api.post("workflow", body, headers=key)
    assert code == 200, saved
    graph["nodes"][1]["pos"] = 9
    body = {"workflow_id": saved["workflow_id"], "workflow": graph, "target": "cloud"}
    code, version = await api.post("workflow/version", body, headers=key)
    assert (code, version["version"]) == (200, 2), version


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
        request["params"]["version"] = "1"
        code, row = await api.call("GET", "workflow/version", **request)
        assert (row["version"], row["workflow"]) == (1, ui())
    body = {**body, "target": "cloud", "comment": "Take 3"}
    for fields, number in (({}, 2), ({"force": True}, 3)):
        _, saved = await api.post("workflow", {**body, **fields}, headers=key)
        assert (saved["version"], saved["new_version"]) == (number, number == 3)
    other = {**body, "name": "other", "workflow_id": None}
    other_id = (await api.post("workflow", other, headers=key))[1]["workflow_id"]
    stored = {"workflow_id": workflow_id}
    for route, query, name, found in (
        ("workflows", {"limit": "1"}, "id", [other_id]),
        ("workflows", {"offset": "1"}, "id", [workflow_id]),
        ("workflows", {"search": "OTH"}, "id", [other_id]),
        ("workflow/versions", {**stored, "limit": "1", "offset": "1"}, "version", [2]),
        ("workflow/versions", {**stored, "search": "take"}, "version", [3]),
    ):
        params = {**query, "target": "cloud"}
        _, rows = await api.call("GET", route, params=params, headers=key)
        assert [row[name] for row in rows] == found, (route, query)
    assert (await api.get("workflows"))[1] == []
    assert (await api.get("workflow", workflow_id=workflow_id))[0] == 404


async def test_errors_of_comfydeploy(api, comfydeploy):
    key = {"headers": {"X-ComfyDeploy-Token": KEY}}
    query = {"target": "cloud", "workflow_id": "no-such"}
    code, body = await api.call("GET", "workflow", params=query, **key)
    assert (code, body["code"]) == (404, "cloud_error")
    assert body["error"] == "ComfyDeploy: Workflow not found"
    comfydeploy.fail(500, times=9, body="<html>")
    code, body = await api.call("GET", "workflow", params=query, **key)
    assert (code, body["code"]) == (502, "cloud_error")


async def test_addresses_off_the_list_and_requests_without_a_key(api, comfydeploy, jp_auth_header):
    body = {"name": "w", "workflow": ui(), "cd_token": KEY, "api_url": "https://evil.example"}
    code, answer = await api.post("workflow", body)
    assert (code, answer["code"]) == (403, "forbidden_api_url")
    code, answer = await api.get("workflows", api_url=f"{comfydeploy.root}.evil.example")
    assert (code, answer["code"]) == (403, "forbidden_api_url")
    assert answer["details"]["field"] == "api_url"
    token = jp_auth_header["Authorization"].split()[-1]
    for headers in ({}, {"Authorization": f"Bearer {token}"}):  # Jupyter's token is no key
        request = {"params": {"target": "cloud"}, "headers": headers}
        code, body = await api.call("GET", "workflows", **request)
        assert (code, body["code"]) == (401, "no_api_key")
    assert comfydeploy.seen == []


def keys_of(comfydeploy):
    return [seen.headers["Authorization"].removeprefix("Bearer ") for seen in comfydeploy.seen]


@pytest.mark.parametrize("settings", [{"api_key": "configured"}])
async def test_order_of_the_keys(api, comfydeploy, extension):
    comfydeploy.keys |= {"header", "cd_token", "token", "session", "configured"}
    body = {"name": "w", "workflow": ui(), "target": "cloud", "force": True}
    both = {**body, "cd_token": "cd_token", "token": "token"}
    await api.post("workflow", both, headers={"X-ComfyDeploy-Token": "header"})
    await api.post("workflow", both)
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


async def test_a_bearer_beside_another_login_is_the_key(
    api, comfydeploy, http_server_client, jp_base_url, jp_auth_header
):
    """As the node's web plug-in sends the key."""
    token = jp_auth_header["Authorization"].split()[-1]
    response = await api.raw("GET", "workflows", headers=dict(jp_auth_header))
    cookies = [value.split(";")[0] for value in response.headers.get_list("Set-Cookie")]
    signed_in = {"Cookie": "; ".join(cookies)}

    async def keys(query, bearer, **headers):
        comfydeploy.seen.clear()
        url = url_path_join(jp_base_url, f"comfyui-deploy/workflows?target=cloud{query}")
        headers["Authorization"] = f"Bearer {bearer}"
        await http_server_client.fetch(url, headers=headers, raise_error=False)
        return keys_of(comfydeploy)

    assert await keys("", KEY, **signed_in) == [KEY]
    assert await keys("", KEY) == [], "without a login"
    assert await keys(f"&token={token}", KEY) == [KEY]
    assert await keys(f"&token={token}", "wrong") == ["wrong"]
    assert await keys(f"&token={token}", token) == []
    assert await keys("&token=wrong", KEY, **signed_in) == [KEY]
    assert await keys("&token=wrong", token, **signed_in) == []
    assert await keys("&token=wrong", KEY) == []


@pytest.mark.parametrize("settings", [{"cloud_url": "https://evil.example/api", "api_key": KEY}])
async def test_a_configured_address_off_the_list(api):
    code, body = await api.get("workflows", target="cloud")
    assert (code, body["code"], body["details"]["field"]) == (
        403,
        "forbidden_api_url",
        "cloud_url",
    )


async def test_missing_api_graph_is_made_from_known_nodes(api):
    graph = saved_picture()
    workflow_id = (await api.post("workflow", {"name": "w", "workflow": graph}))[1]["workflow_id"]
    _, version = await api.get("workflow/version", workflow_id=workflow_id)
    assert version["workflow_api"]["2"]["inputs"] == {"images": ["1", 0]}
    assert version["workflow_api"]["1"]["inputs"]["height"] == 9
    _, again = await api.post("workflow", {"workflow_id": workflow_id, "workflow": graph})
    assert again["version"] == 1
    graph["nodes"][0]["type"] = "NoSuchNode"
    _, unknown = await api.post("workflow", {"name": "w", "workflow": graph})
    _, version = await api.get("workflow/version", workflow_id=unknown["workflow_id"])
    assert version["workflow_api"] is None


async def test_presets_are_kept_with_a_workflow(api):
    stored = {"workflow_id": await create(api)}
    assert await api.get("workflow/presets", **stored) == (200, [])
    values = {"inputs": {"3.steps": 30, "6.text": "<b>שלום</b> 🙂"}, "locked": ["3.seed"]}
    code, saved = await api.post("workflow/preset", {**stored, "name": "Softer", **values})
    assert (code, saved.pop("success")) == (200, True), saved
    assert {key: saved[key] for key in values} == values
    assert (await api.get("workflow/presets", **stored))[1] == [saved]
    await api.post("workflow/preset", {**stored, "name": "bold", "inputs": {}})
    _, listed = await api.get("workflow/presets", **stored)
    assert [preset["name"] for preset in listed] == ["bold", "Softer"]
    code, gone = await api.post("workflow/preset/delete", {**stored, "name": "softer"})
    assert (code, gone["inputs"]) == (200, values["inputs"])
    refused = await api.refusal("workflow/preset/delete", {**stored, "name": "softer"})
    assert refused == (404, "name")


async def test_a_preset_that_another_client_changed_is_not_replaced(api):
    preset = {"workflow_id": await create(api), "name": "Soft"}

    async def save(steps, revision):
        body = {**preset, "inputs": {"3.steps": steps}, "revision": revision}
        return await api.post("workflow/preset", body)

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
    for revision, expected in ((first["revision"], 409), (second["revision"], 200)):
        body = {**preset, "revision": revision}
        assert (await api.post("workflow/preset/delete", body))[0] == expected
    code, error = await save(4, second["revision"])
    assert (code, error["details"]["preset"]) == (409, None)
    assert (await save(4, None))[0] == 200


async def test_presets_and_changes_that_are_wrong_name_the_field(api):
    stored = {"workflow_id": await create(api)}
    preset = {**stored, "name": "a", "inputs": {}}
    for route, body, field, code in (
        ("workflow/preset", {**preset, "workflow_id": "none"}, "workflow_id", 404),
        ("workflow/preset", {**preset, "name": " "}, "name", 400),
        ("workflow/preset", {**preset, "name": "x" * 256}, "name", 400),
        ("workflow/preset", {**preset, "inputs": [1]}, "inputs", 400),
        ("workflow/preset", {**preset, "inputs": {"1.text": "x" * (1 << 20)}}, "inputs", 400),
        ("workflow/preset", {**preset, "locked": "3.seed"}, "locked", 400),
        ("workflow/update", {"workflow_id": "none", "name": "x"}, "workflow_id", 404),
        ("workflow/update", stored, "name", 400),
        ("workflow/update", {**stored, "name": " "}, "name", 400),
        ("workflow/update", {**stored, "name": "x" * 256}, "name", 400),
        ("workflow/update", {**stored, "tags": ["x" * 65]}, "tags", 400),
        ("workflow/update", {**stored, "tags": ["x"] * 51}, "tags", 400),
    ):
        assert await api.refusal(route, body) == (code, field), ascii(body)[:200]


async def test_a_workflow_has_a_bounded_number_of_presets(api, monkeypatch):
    monkeypatch.setattr("comfydeploy_jupyter.workflows.store.MAX_PRESETS", 1)
    preset = {"workflow_id": await create(api), "inputs": {}}
    for name, expected in (("a", 200), ("b", 400), ("A", 200)):
        assert (await api.post("workflow/preset", {**preset, "name": name}))[0] == expected


async def test_a_workflow_is_renamed_and_tagged(api):
    stored = {"workflow_id": await create(api, name="Old name", comment="first light")}
    body = {**stored, "name": "<b>שם</b> 🙂", "tags": ["People", "SDXL", "people"]}
    code, changed = await api.post("workflow/update", body)
    assert (code, changed["name"], changed["tags"]) == (200, body["name"], ["People", "SDXL"])
    for search, count in (("old name", 0), ("שם", 1), ("sdxl", 1), ("FIRST light", 1)):
        assert len((await api.get("workflows", search=search))[1]) == count, search
    assert (await api.post("workflow/update", {**stored, "tags": []}))[0] == 200
    saved = {**stored, "workflow_api": API, "name": "Again", "comment": "x"}
    await api.post("workflow", saved)
    _, (found,) = await api.get("workflows", search="again")
    assert (found["id"], found["tags"]) == (stored["workflow_id"], [])
    _, versions = await api.get("workflow/versions", **stored)
    assert versions[-1]["comment"] == "first light"


async def test_a_deleted_workflow_can_be_restored(api):
    stored = {"workflow_id": await create(api, name="Regretted")}
    preset = {**stored, "name": "Soft", "inputs": {"3.steps": 1}}
    await api.post("workflow/preset", preset)
    assert (await api.post("workflow/restore", stored))[0] == 404, "it is not deleted"
    code, deleted = await api.post("workflow/delete", stored)
    assert (code, deleted["name"]) == (200, "Regretted")
    assert (await api.get("workflows", search="regretted"))[1] == []
    for path in ("workflow", "workflow/version", "workflow/versions", "workflow/presets"):
        assert (await api.get(path, **stored))[0] == 404, path
    for path, body in (
        ("workflow", {**stored, "workflow_api": API}),
        ("workflow/delete", stored),
        ("workflow/update", {**stored, "name": "x"}),
        ("workflow/preset", preset),
        ("run", stored),
    ):
        assert (await api.post(path, body))[0] == 404, path
    assert (await api.post("workflow/restore", stored))[0] == 200
    _, (found,) = await api.get("workflows", search="regretted")
    assert found["id"] == stored["workflow_id"]
    _, presets = await api.get("workflow/presets", **stored)
    assert [one["name"] for one in presets] == ["Soft"]


async def test_workflows_deleted_long_ago_are_removed(api, extension):
    old, other = await create(api, name="Long gone"), await create(api, name="Other")
    await api.post("workflow/delete", {"workflow_id": old})

    def age(connection):
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
