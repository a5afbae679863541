"""How a tunnel follows a change of its target."""

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.tunnel import tunnels as module
from comfydeploy_jupyter.tunnel.cloudflared import why_it_ended
from comfydeploy_jupyter.tunnel.gate import Upstream
from comfydeploy_jupyter.tunnel.tunnels import Origin, TunnelOptions, Tunnels
from tests.helpers.comfyui import free_port
from tests.helpers.processes import alive
from tests.helpers.waiting import until_async

HERE = Origin(f"http://127.0.0.1:{free_port()}", 1)


@pytest.fixture
def tunnels(cloudflared, tmp_path, monkeypatch, jp_asyncio_loop):
    """A function that makes tunnels; it gets what is found at each search, the last one for ever.

    The second result is whether each search was to start a ComfyUI.
    """
    made = []

    def make(*found):
        searches = []

        async def find(_, start):
            searches.append(start)
            result = found[min(len(searches), len(found)) - 1]
            if isinstance(result, Exception):
                raise result
            return result

        settings = ComfyDeploy(cloudflared_path=str(cloudflared.path))
        made.append(Tunnels(tmp_path, settings, find=find, on_url=lambda *_: None))
        return made[-1], searches

    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.1)
    yield make
    for one in made:
        jp_asyncio_loop.run_until_complete(one.close())


async def test_a_check_of_a_stopped_comfyui_does_not_start_it(tunnels):
    """ComfyUI has its own supervisor, which pauses between starts."""
    made, searches = tunnels(HERE, ComfyUIUnavailableError("It is away"))
    started = await made.start(TunnelOptions(protect=False))
    await until_async(lambda: len(searches) > 2)
    assert searches[:3] == [True, False, False]
    assert made.status()["url"] == started["url"]


async def test_an_unusable_certificate_file_ends_a_running_tunnel(tunnels, cloudflared, tmp_path):
    """ComfyUI is now behind TLS, and the file of its authority cannot be read."""
    closed = Origin("https://gpu.example", 443, upstream=Upstream(ca=str(tmp_path / "none.pem")))
    made, searches = tunnels(HERE, closed)
    await made.start(TunnelOptions())
    await until_async(lambda: made.status()["state"] == "stopped")
    status = made.status()
    assert "comfyui_ca: " in status["error"]
    assert status["details"]["reason"] == "bad_certificate"
    assert status["details"]["field"] == "comfyui_ca"
    assert (searches, len(cloudflared.starts)) == ([True, False], 1)
    assert not alive(cloudflared.starts[0]["pid"])


async def test_a_tunnel_goes_on_after_an_unexpected_exception(tunnels):
    broken = RuntimeError("broken")
    made, searches = tunnels(HERE, broken, broken, HERE)
    await made.start(TunnelOptions(protect=False))
    await until_async(lambda: made.status()["state"] == "restarting")
    assert made.status()["error"] == "The tunnel failed: RuntimeError: broken"
    await until_async(lambda: len(searches) > 3 and made.status()["state"] == "running")
    assert searches[:4] == [True, False, True, True]


def test_the_last_error_is_reported_not_the_last_line():
    log = ["2026-11-24T19:06:22Z INF Registered tunnel connection connIndex=0", ""]
    assert why_it_ended(log, "signal SIGKILL").message == "cloudflared ended (signal SIGKILL)"
    log.insert(0, "2026-11-24T19:06:21Z ERR The moon is away")
    message = why_it_ended(log, "exit code 1").message
    assert "(exit code 1): 2026-11-24T19:06:21Z ERR The moon" in message
