"""How a tunnel follows a change of its target."""

from __future__ import annotations

import asyncio

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.tunnel import tunnels as module
from comfydeploy_jupyter.tunnel.cloudflared import why_it_ended
from comfydeploy_jupyter.tunnel.gate import Upstream
from comfydeploy_jupyter.tunnel.tunnels import Origin, TunnelOptions, Tunnels
from tests.helpers.comfyui import free_port
from tests.helpers.processes import alive
from tests.helpers.waiting import until_async


async def test_a_check_of_a_stopped_comfyui_does_not_start_it(cloudflared, tmp_path):
    """ComfyUI has its own supervisor, which pauses between starts."""
    start_flags: list[bool] = []
    looked = asyncio.Event()
    origin = Origin(f"http://127.0.0.1:{free_port()}", 1)

    async def find(_: TunnelOptions, start: bool) -> Origin:
        start_flags.append(start)
        if start:
            return origin
        looked.set()
        raise ComfyUIUnavailableError("It is away")

    settings = ComfyDeploy(cloudflared_path=str(cloudflared.path))
    tunnels = Tunnels(tmp_path, settings, find=find, on_url=lambda *_: None)
    try:
        started = await tunnels.start(TunnelOptions(protect=False))
        await asyncio.wait_for(looked.wait(), 60)
        assert start_flags == [True, False]
        assert tunnels.status()["url"] == started["url"]
    finally:
        await tunnels.close()


async def test_an_unusable_certificate_file_ends_a_running_tunnel(cloudflared, tmp_path):
    """ComfyUI is now behind TLS, and the file of its authority cannot be read."""
    origin = Origin(f"http://127.0.0.1:{free_port()}", 1)
    closed = Origin("https://gpu.example", 443, upstream=Upstream(ca=str(tmp_path / "none.pem")))
    start_flags: list[bool] = []

    async def find(_: TunnelOptions, start: bool) -> Origin:
        start_flags.append(start)
        return closed if len(start_flags) > 1 else origin

    settings = ComfyDeploy(cloudflared_path=str(cloudflared.path))
    tunnels = Tunnels(tmp_path, settings, find=find, on_url=lambda *_: None)
    try:
        await tunnels.start(TunnelOptions())
        await until_async(lambda: tunnels.status()["state"] == "stopped")
        status = tunnels.status()
        assert "comfyui_ca: " in status["error"]
        assert (status["details"]["reason"], status["details"]["field"]) == (
            "bad_certificate",
            "comfyui_ca",
        )
        assert (start_flags, len(cloudflared.starts)) == ([True, False], 1)
        assert not alive(cloudflared.starts[0]["pid"])
    finally:
        await tunnels.close()


async def test_a_tunnel_goes_on_after_an_unexpected_exception(cloudflared, tmp_path, monkeypatch):
    origin = Origin(f"http://127.0.0.1:{free_port()}", 1)
    start_flags: list[bool] = []

    async def find(_: TunnelOptions, start: bool) -> Origin:
        start_flags.append(start)
        if len(start_flags) in (2, 3):
            raise RuntimeError("broken")
        return origin

    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.1)
    settings = ComfyDeploy(cloudflared_path=str(cloudflared.path))
    tunnels = Tunnels(tmp_path, settings, find=find, on_url=lambda *_: None)
    try:
        await tunnels.start(TunnelOptions(protect=False))
        await until_async(lambda: tunnels.status()["state"] == "restarting")
        assert tunnels.status()["error"] == "The tunnel failed: RuntimeError: broken"
        await until_async(lambda: len(start_flags) > 3 and tunnels.status()["state"] == "running")
        assert start_flags[:4] == [True, False, True, True]
    finally:
        await tunnels.close()


def test_the_last_error_is_reported_not_the_last_line():
    log = ["2026-11-24T19:06:22Z INF Registered tunnel connection connIndex=0", ""]
    assert why_it_ended(log, "signal SIGKILL").message == "cloudflared ended (signal SIGKILL)"
    log.insert(0, "2026-11-24T19:06:21Z ERR The moon is away")
    assert (
        "(exit code 1): 2026-11-24T19:06:21Z ERR The moon"
        in why_it_ended(log, "exit code 1").message
    )
