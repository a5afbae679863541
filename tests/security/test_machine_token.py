"""ComfyDeploy's own calls of ``run``: which tokens and which routes are allowed."""

import base64
import json
import uuid

import pytest

from tests.handlers.test_transfers import messages_of
from tests.helpers.bodies import new_picture

from .conftest import routes

TOKEN = "a-long-and-random-token:with-ünicode"


def basic(token):
    return "Basic " + base64.b64encode(token.encode()).decode()


def of_service(token=TOKEN):
    """The headers that ComfyDeploy sends."""
    header = token.encode().decode("latin-1")
    return {"Authorization": basic(token), "authorizationheader": header}


@pytest.fixture
def settings():
    return {"machine_token": TOKEN}


open_and_closed = pytest.mark.parametrize(
    "allow_unauthenticated", [True, False], ids=["open", "closed"]
)


@pytest.fixture
def call_route(call):
    """Call a route with these headers alone; return status and code of the error."""

    async def fetch(headers, path="comfyui-deploy/run", method="POST"):
        graph = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}
        response = await call(method, path, headers, {"workflow_api_raw": graph})
        return response.code, json.loads(response.body or b"{}").get("code", "")

    return fetch


ACCEPTED = (503, "comfyui_unavailable")
REFUSED = (403, "unauthorized")


async def test_the_service_is_accepted(call_route, recorder):
    for headers in (
        of_service(),
        {"Authorization": basic(TOKEN)},
        {"Authorization": basic(TOKEN).replace("Basic", "basic")},
        {"authorizationheader": of_service()["authorizationheader"]},
        {**of_service(), "Origin": "https://www.comfydeploy.com"},
    ):
        recorder.calls.clear()
        assert await call_route(dict(headers)) == ACCEPTED
        assert recorder.calls == [("comfydeploy-service", "write", "comfydeploy")]

    recorder.allowed = ()
    assert await call_route(of_service()) == REFUSED


@open_and_closed
async def test_wrong_tokens(call_route, recorder, caplog):
    right = of_service()
    for headers in (
        {},
        of_service(""),
        of_service("a"),
        of_service(TOKEN[:-1]),
        of_service(f"{TOKEN}x"),
        of_service(TOKEN.upper()),
        {**right, "Authorization": basic("other")},
        {**right, "authorizationheader": "other"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": f"Basic {right['authorizationheader']}"},
        {"Authorization": f"Bearer {right['authorizationheader']}"},
        {"Authorization": f"token {right['authorizationheader']}"},
        {"Authorization": basic(TOKEN).removeprefix("Basic ")},
        {"Cookie": f"authorizationheader={base64.b64encode(TOKEN.encode()).decode()}"},
    ):
        assert await call_route(dict(headers)) == REFUSED, headers
    assert recorder.calls == []
    assert "wrong machine token" in caplog.text
    assert TOKEN not in caplog.text


@open_and_closed
async def test_no_other_route_accepts_the_token(call_route, recorder):
    seen = 0
    for method, path in routes():
        if (method, path) != ("POST", "comfyui-deploy/run"):
            refused = 401 if path.startswith("comfyui-deploy/api/v2/") else 403  # Comfy's API
            assert (await call_route(of_service(), path, method))[0] == refused, (method, path)
            seen += 1
    assert seen > 20
    assert recorder.calls == []


@pytest.mark.parametrize("settings", [{"machine_token": ""}, {"machine_token": "  "}])
async def test_without_a_configured_token_nobody_is_accepted(call_route):
    for token in ("", " ", "  ", TOKEN):
        assert await call_route(of_service(token)) == REFUSED
    assert await call_route({"authorizationheader": ""}) == REFUSED


async def test_jupyters_own_authentication_still_works(call_route, recorder, jp_auth_header):
    assert await call_route(dict(jp_auth_header)) == ACCEPTED
    assert await call_route({**jp_auth_header, "authorizationheader": "wrong"}) == ACCEPTED
    assert "comfydeploy-service" not in {user for user, _, _ in recorder.calls}


def test_the_token_comes_from_the_environment(monkeypatch):
    from comfydeploy_jupyter.extension import ComfyDeploy

    monkeypatch.setenv("COMFYDEPLOY_MACHINE_TOKEN", "t0ken")
    assert ComfyDeploy().machine_token == "t0ken"


class TestRun:
    """A run as ComfyDeploy requests it, on a real ComfyUI, with a real server for its reports."""

    @pytest.fixture
    def settings(self, comfyui):
        return {"comfyui_url": comfyui.url, "autostart": True, "machine_token": TOKEN}

    async def test_the_service_gets_what_it_expects(
        self, extension, http_server_client, jp_base_url, service, s3
    ):
        run_id = str(uuid.uuid4())
        graph = new_picture("m")
        body = {
            "prompt_id": run_id,
            "workflow_api_raw": graph,
            "workflow": None,
            "inputs": {"an input that the workflow does not have": 1},
            "status_endpoint": f"{service.url}/status",
            "file_upload_endpoint": f"{service.url}/upload",
            "cd_token": "token-of-the-run",
            "gpu_event_id": None,
        }
        response = await http_server_client.fetch(
            f"{jp_base_url}comfyui-deploy/run",
            method="POST",
            body=json.dumps(body),
            headers=of_service(),
            request_timeout=60,
        )
        answer = json.loads(response.body)
        assert (answer["prompt_id"], answer["node_errors"]) == (run_id, {})
        messages = await messages_of(service, run_id)
        assert {token for token, _ in service.callbacks} == {"token-of-the-run"}
        assert {message["run_id"] for message in messages} == {run_id}
        statuses = [message["status"] for message in messages if "status" in message]
        assert statuses == ["running", "uploading", "success"]
        (output,) = [message for message in messages if "output_data" in message]
        assert output["node_meta"] == {"node_id": "2", "node_class": "SaveImage"}
        (image,) = output["output_data"]["images"]
        assert image["url"] == f"https://cdn.example/{run_id}/{image['filename']}"
        assert s3.get(f"{run_id}/{image['filename']}").startswith(b"\x89PNG")
