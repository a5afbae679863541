"""TunnelPanel as users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser import axe
from tests.browser.accessibility import assert_accessible
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.helpers.cloudflared import FakeCloudflared
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "from comfydeploy_jupyter import TunnelPanel\npanel = TunnelPanel()\npanel"


READER = REPOSITORY / "js" / "node_modules" / "jsqr" / "dist" / "jsQR.js"
READ = """async (image, script) => {
    const module = {exports: {}};
    new Function("module", "exports", "define", script)(module, module.exports);
    await image.decode();
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(image, 0, 0);
    const {data} = context.getImageData(0, 0, width, height);
    return module.exports(data, width, height)?.data ?? "";
}"""


def read_code(picture: Locator) -> str:
    """Return the text of a QR code, as the camera of a phone reads it."""
    axe.install()  # with the other packages
    return str(picture.evaluate(READ, READER.read_text(encoding="utf-8")))


@pytest.fixture
def comfy(lab: JupyterProcess, cloudflared: FakeCloudflared) -> Iterator[Comfy]:
    cloudflared.behave()
    found = Comfy(lab.url, lab.token)
    yield found
    found.tunnel.stop()


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_start_copy_stop(
    open_notebook: Any, comfy: Comfy, cloudflared: FakeCloudflared, theme: str
) -> None:
    lab_page = open_notebook(f"tunnel-{theme}", PANEL, theme=f"JupyterLab {theme}")
    page = lab_page.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel = page.locator(".comfydeploy-panel")
    expect(panel.get_by_label("Make reachable")).to_be_visible()
    expect(panel.get_by_text("Stopped")).to_be_visible()
    secret = panel.get_by_label("Only with the secret link")
    secret.uncheck()
    expect(panel.get_by_role("alert").filter(has_text="Everybody who finds")).to_be_visible()
    lab_page.shoot(f"tunnel-{theme}-bare")
    secret.check()
    expect(panel.get_by_text("Visitors need the link")).to_be_visible()
    panel.get_by_text("With an address of your own").click()
    expect(panel.get_by_label("Token")).to_be_visible()
    lab_page.shoot(f"tunnel-{theme}-stopped")
    panel.get_by_role("button", name="Start").click()
    link = panel.get_by_role("link")
    expect(link).to_be_visible()
    expect(panel.get_by_text("protected by the secret")).to_be_visible()
    panel.get_by_role("button", name="Copy link").click()
    expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == comfy.tunnel.status().access_url == link.get_attribute("href")
    panel.get_by_text("QR code").click()
    code = panel.get_by_alt_text("QR code of the link")
    expect(code).to_have_js_property("complete", True)
    assert read_code(code) == copied
    lab_page.shoot(f"tunnel-{theme}-running")
    assert_accessible(panel)
    # the link works, at the edge's side of the tunnel
    query = copied.partition("?")[2]
    answer = requests.get(f"{cloudflared.edge}/system_stats?{query}", timeout=30)
    assert answer.status_code == 200
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_text("Stopped")).to_be_visible()
    expect(link).to_be_hidden()
    assert not comfy.tunnel.status()


@pytest.mark.parametrize("theme", few(["Light", "Dark"]))
def test_cloudflared_is_downloaded(
    open_notebook: Any, without_cloudflared: JupyterProcess, theme: str
) -> None:
    server = without_cloudflared
    code = f"""from comfydeploy_jupyter import TunnelPanel
from comfydeploy_jupyter.client import Comfy
TunnelPanel("jupyter", Comfy({server.url!r}, {server.token!r}))"""
    opened = open_notebook(f"tunnel-download-{theme}", code, theme=f"JupyterLab {theme}")
    panel = opened.panel
    panel.get_by_role("button", name="Start").click()
    download = panel.get_by_role("button", name="Download cloudflared")
    expect(download).to_be_visible()
    expect(panel.get_by_text("There is no cloudflared on this machine")).to_be_visible()
    expect(panel.get_by_label("Make reachable")).to_be_visible()
    expect(panel.get_by_role("link", name="Cloudflare's terms")).to_be_visible()
    opened.shoot(f"tunnel-download-{theme}")
    assert axe.violations(panel) == []
    assert_accessible(panel)
    download.click()
    expect(panel.get_by_text("Running")).to_be_visible()
    expect(download).to_be_hidden()
    Comfy(server.url, server.token).tunnel.stop()


def test_a_failure_is_described(
    open_notebook: Any, comfy: Comfy, cloudflared: FakeCloudflared
) -> None:
    cloudflared.behave(mode="rate_limited")
    lab_page = open_notebook("tunnel-fails", PANEL)
    panel = lab_page.page.locator(".comfydeploy-panel")
    panel.get_by_role("button", name="Start").click()
    failure = panel.get_by_role("alert").filter(has_text="Too many quick tunnels")
    expect(failure).to_be_visible()
    failure.get_by_text("The log of cloudflared").click()
    expect(failure.get_by_text("error code: 1015")).to_be_visible()
    lab_page.shoot("tunnel-fails")
    expect(panel.get_by_role("button", name="Start")).to_be_enabled()
