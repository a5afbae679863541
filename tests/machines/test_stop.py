"""A ComfyUI of this server is stopped, and started again by the next run."""

import pytest


class TestStop:
    @pytest.fixture
    def extension_config(self, managed):
        return managed

    async def test_a_stopped_comfyui_stays_so_until_the_next_run(self, api, chain, extension):
        await api.run(chain())
        busy = await api.start(chain(("TestSleep", {"seconds": 600})))
        await api.until(busy, "running")
        code, reply = await api.post("comfyui/stop", {})
        assert (code, reply) == (200, {"success": True, "machine": "local"})
        ended = await api.until(busy, "failed")
        assert "was stopped on request" in ended["error"]["message"]
        _, status = await api.get("check-status")
        assert (status["comfyui"]["reachable"], status["comfyui"].get("error")) == (False, None)
        assert (await api.post("comfyui/stop", {}))[0] == 200, "twice changes nothing"
        _, machines = await api.get("machines")
        assert machines[0]["status"] == "stopped"
        await api.run(chain())


async def test_a_comfyui_of_somebody_else_is_not_stopped(api):
    assert await api.refusal("comfyui/stop", {}) == (409, "machine")
