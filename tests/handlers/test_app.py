"""The page that shows only a RunPanel."""

import json
import re

import pytest
from jupyter_server.utils import url_path_join

from comfydeploy_jupyter.handlers.app import POLICY
from tests.helpers.bodies import picture

VISIT = {"Accept": "text/html,*/*"}


@pytest.fixture
def visit(call, jp_auth_header, jp_base_url):
    """Opens the page as a browser does; returns the reply, and what the page gives to the panel."""

    async def visit(path):
        reply = await call("GET", f"comfyui-deploy/app{path}", {**VISIT, **jp_auth_header})
        page = reply.body.decode()
        assert jp_auth_header["Authorization"].split()[1] not in page
        assert reply.headers["Content-Security-Policy"].startswith(POLICY)
        # which the panel's first request needs, also after a visit with the token in the address
        assert any(each.startswith("_xsrf=") for each in reply.headers.get_list("Set-Cookie"))
        elements = dict(re.findall(r'json" id="([\w-]+)">(.*)</script>', page))
        assert json.loads(elements["jupyter-config-data"]) == {"baseUrl": f"{jp_base_url}"}
        return reply, json.loads(elements["comfydeploy-app"])

    return visit


async def test_browsers_are_sent_to_the_login_page_and_programs_are_refused(
    call, jp_base_url, jp_auth_header
):
    path = "comfyui-deploy/app?workflow_id=a"
    reply = await call("GET", path, VISIT)
    login = url_path_join(jp_base_url, "login?next=")
    assert (reply.code, reply.headers["Location"].startswith(login)) == (302, True)
    assert reply.headers["Location"].endswith("app%3Fworkflow_id%3Da")
    assert (await call("GET", path, {})).code == 403
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe", **VISIT}
    assert (await call("GET", path, {**frame, **jp_auth_header})).code in {403, 404}


async def test_a_stored_workflow_and_its_versions(api, visit):
    hostile = "</script><img src=x onerror=alert(1)>"
    _, saved = await api.post("workflow", {"workflow_api": picture("a"), "name": hostile})
    workflow = {"workflow_id": saved["workflow_id"]}
    await api.post("workflow", {**workflow, "workflow_api": picture("b")})
    for query, version in (("", 2), ("&version=latest", 2), ("&version=1", 1)):
        reply, shown = await visit(f"?workflow_id={workflow['workflow_id']}{query}")
        assert reply.code == 200
        assert hostile not in reply.body.decode()
        source = {**workflow, "version": version}
        assert shown["shown_workflow"] == {"title": hostile, "source": source, "warnings": []}
        assert shown["error"] == ""
    _, shown = await visit("")
    assert shown == {"shown_workflow": None, "error": ""}


async def test_a_run_is_shown_with_its_workflow(api, visit):
    graph = picture("ran")
    _, saved = await api.post("workflow", {"workflow_api": graph, "name": "Kept"})
    workflow = {"workflow_id": saved["workflow_id"], "version": 1}
    run = await api.run(**workflow)
    address = f"?run_id={run['prompt_id']}"
    _, shown = await visit(address)
    assert shown["shown_workflow"]["source"] == workflow
    assert (shown["result"]["prompt_id"], shown["queued"]) == (run["prompt_id"], [])
    await api.post("workflow/delete", {"workflow_id": saved["workflow_id"]})
    _, shown = await visit(address)
    source = shown["shown_workflow"]["source"]
    assert json.loads(source["workflow_api"]).keys() == graph.keys()


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("?workflow_id=unknown", 404, "workflow"),
        ("?run_id=unknown", 404, "run"),
        ("?workflow_id=a&version=x", 400, "version: "),
        ("?workflow_id=a&workflow_id=b", 400, "workflow_id: is given more than once"),
    ],
)
async def test_an_error_is_a_sentence_beside_a_panel_that_can_be_used(
    call, jp_auth_header, visit, query, status, message
):
    reply, shown = await visit(query)
    assert reply.code == status
    assert message in shown["error"]
    told = await call("GET", f"comfyui-deploy/app{query}", jp_auth_header)
    assert (told.code, json.loads(told.body)["error"]) == (status, shown["error"])
