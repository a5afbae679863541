"""Status, version, definitions."""

import pytest

from comfydeploy_jupyter import __version__
from tests.helpers.waiting import until_async


async def test_service_is_ok(api, comfyui, chain):
    await api.post("run", {"workflow_api": chain()})
    code, body = await api.get("check-status")
    assert (code, body["status"], body["version"]) == (200, "ok", __version__)
    ours = body["comfyui"]
    assert (ours["reachable"], ours["url"], ours["managed"]) == (True, comfyui.url, False)
    assert body["queue"] == {"running": 0, "pending": 0}
    code, body = await api.get("comfyui-version")
    assert (code, body["success"], body["source"]) == (200, True, "running")
    assert f'"{body["version"]}"' in (comfyui.path / "comfyui_version.py").read_text()
    code, body = await api.get("object_info")
    assert (code, "TestSleep" in body) == (200, True)


async def test_what_is_not_there(api):
    code, body = await api.get("check-status", prompt_id="never-was")
    assert (code, body["code"]) == (404, "not_found")
    code, body = await api.get("runs", graph="never-was")
    assert (code, body["code"]) == (404, "not_found")
    code, body = await api.get("comfyui/log")
    assert (code, body["code"]) == (404, "not_found")
    assert "comfyui_path" in body["hint"]
    code, body = await api.get("no/such/route")
    assert (code, body["code"]) == (404, "not_found")
    for name, value in (("limit", "x"), ("limit", "0"), ("offset", "-1"), ("offset", "9" * 23)):
        code, body = await api.get("runs", **{name: value})
        assert (code, body["details"]["field"]) == (400, name)


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
