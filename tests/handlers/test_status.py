"""Status, version, definitions."""

from __future__ import annotations

import json

import pytest

from comfydeploy_jupyter import __version__
from tests.helpers.waiting import until_async


async def test_service_is_ok(api, comfyui, chain):
    await api.post("run", {"workflow_api": chain()})
    code, body = await api.get("check-status")
    assert code == 200
    assert body["status"] == "ok"
    assert body["version"] == __version__
    assert body["comfyui"]["reachable"] is True
    assert body["comfyui"]["url"] == comfyui.url
    assert body["comfyui"]["managed"] is False
    assert body["queue"] == {"running": 0, "pending": 0}


async def test_unknown_run_is_not_done(api):
    code, body = await api.get("check-status", prompt_id="never-was")
    assert (code, body["code"]) == (404, "not_found")


async def test_version_of_the_running_comfyui(api, comfyui):
    code, body = await api.get("comfyui-version")
    assert code == 200
    text = (comfyui.path / "comfyui_version.py").read_text()
    assert body["success"] is True
    assert f'"{body["version"]}"' in text
    assert body["source"] == "running"


async def test_node_definitions_of_comfyui_are_returned(api, comfyui):
    response = await api.raw("GET", "object_info")
    assert response.code == 200
    assert "TestSleep" in json.loads(response.body)


async def test_log_of_a_comfyui_that_is_not_ours(api):
    code, body = await api.get("comfyui/log")
    assert (code, body["code"]) == (404, "not_found")
    assert "comfyui_path" in body["hint"]


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "x"), ("limit", "0"), ("offset", "-1"), ("offset", "9" * 23)]
)
async def test_bad_query(api, name, value):
    code, body = await api.get("runs", **{name: value})
    assert (code, body["code"], body["details"]["field"]) == (400, "invalid_request", name)


class TestVersionNote:
    """``comfyui.version_note`` of ``check-status`` with a ComfyUI newer than the tested ones."""

    @pytest.fixture
    def extension_config(self, newer, tmp_path):
        newer.version = "0.99.1"
        return {"comfyui_url": newer.url, "data_dir": str(tmp_path / "data")}

    async def test_a_newer_comfyui_is_reported(self, api):
        await api.get("object_info")
        _, status = await until_async(
            lambda: api.get("check-status"),
            lambda answer: answer[1]["comfyui"]["version"] is not None,
        )
        assert status["comfyui"]["version"] == "0.99.1"
        assert "0.99.1 is newer than" in status["comfyui"]["version_note"]
