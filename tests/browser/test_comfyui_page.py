"""ComfyUI's own page in JupyterLab, as users open it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.launcher import comfyui_tile

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.jupyter_process import JupyterProcess

pytestmark = pytest.mark.timeout(300)


def test_the_tile_opens_comfyui(lab: JupyterProcess, browser: BrowserContext) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_default_timeout(90_000)
    sockets: list[str] = []
    failures: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.on(
        "response",
        lambda r: failures.append(f"{r.status} {r.url}") if r.status in {403, 500, 503} else None,
    )
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.locator(".jp-LauncherCard", has_text="ComfyUI").first.click()
    comfyui = page.frame_locator("iframe").last
    expect(comfyui.locator("canvas#graph-canvas")).to_be_visible(timeout=120_000)
    frame = next(f for f in page.frames if "/comfyui/" in f.url)
    before = len(Comfy(lab.url, lab.token).runs(limit=100))
    frame.wait_for_function("() => window.app?.api?.socket?.readyState === 1")
    answer = frame.evaluate(
        """async () => {
            const graph = {"1": {class_type: "TestText", inputs: {text: "from the page"}}}
            const heard = new Promise((resolve) => window.app.api.addEventListener(
                "executed", (event) => resolve(event.detail.output.text)))
            const answer = await window.app.api.fetchApi("/prompt", {
                method: "POST",
                headers: {"Content-Type": "application/json"},
                body: JSON.stringify({prompt: graph, client_id: window.app.api.clientId}),
            })
            return {status: answer.status, text: await heard}
        }"""
    )
    assert urlsplit(frame.url).path == f"{urlsplit(lab.url).path}comfyui/", "so it can be reloaded"
    assert answer == {"status": 200, "text": ["from the page"]}
    ours = urlsplit(lab.url)
    theirs = [url for url in sockets if "/comfyui/" in url]
    assert theirs
    assert all(urlsplit(url).netloc == ours.netloc for url in theirs)
    assert [failure for failure in failures if "/comfyui/" in failure] == []
    assert len(Comfy(lab.url, lab.token).runs(limit=100)) == before
    page.close()


def test_the_tile_itself_exposes_nothing(lab: JupyterProcess) -> None:
    headers = {"Authorization": f"token {lab.token}"}
    with requests.Session() as session:
        session.trust_env = False
        info = session.get(f"{lab.url}server-proxy/servers-info", headers=headers, timeout=30)
        (tile,) = [
            entry
            for entry in info.json()["server_processes"]
            if entry["launcher_entry"]["title"] == "ComfyUI"
        ]
        assert tile["launcher_entry"]["path_info"] == "comfyui/"
        icon = session.get(
            f"http://{urlsplit(lab.url).netloc}{tile['launcher_entry']['icon_url']}", timeout=30
        )
        assert re.match(r"image/svg", icon.headers["Content-Type"])
        behind = session.get(f"{lab.url}{tile['name']}/", headers=headers, timeout=30)
        assert behind.status_code >= 500
        session.cookies.clear()
        stranger = session.get(f"{lab.url}comfyui/api/queue", timeout=30)
        assert stranger.status_code == 403
    assert Path(comfyui_tile()["launcher_entry"]["icon_path"]).read_text().startswith("<svg")
