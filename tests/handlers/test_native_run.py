"""Runs whose body is fetched from ComfyDeploy."""

from __future__ import annotations

import pytest

from tests.helpers.fake_comfydeploy import KEY

GRAPH = {"1": {"class_type": "TestText", "inputs": {"text": "a"}}}


@pytest.fixture
def extension_config(tmp_path, comfydeploy, monkeypatch):
    monkeypatch.delenv("COMFY_DEPLOY_API_KEY", raising=False)
    return {
        "comfyui_url": "http://127.0.0.1:9",  # how far a run gets is not the question here
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
        "allowed_api_urls": [comfydeploy.root],
    }


async def test_the_body_goes_to_the_service_without_its_credentials(api, comfydeploy):
    request = {
        "is_native_run": True,
        "native_run_api_endpoint": f"{comfydeploy.url}/native",
        "workflow_api": GRAPH,
        "cd_token": KEY,
    }
    code, body = await api.post("run", request)
    assert (code, body["code"]) == (503, "comfyui_unavailable")  # its answer was a graph to run
    (seen,) = comfydeploy.seen
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.body == {key: value for key, value in request.items() if key != "cd_token"}


async def test_a_refusal_of_the_service(api, comfydeploy):
    request = {"is_native_run": True, "native_run_api_endpoint": f"{comfydeploy.url}/native"}
    code, body = await api.post("run", request)
    assert (code, body["code"]) == (401, "no_api_key")
    code, body = await api.post("run", {**request, "token": "wrong"})
    assert (code, body["code"]) == (401, "cloud_error")
    assert "wrong" not in str(body)
