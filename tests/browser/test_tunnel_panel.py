"""TunnelPanel as users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser import axe
from tests.browser.accessibility import assert_accessible
from tests.browser.looks import Looks, connected
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.helpers.cloudflared import FakeCloudflared
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

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
    cloudflared.behave()
    found.tunnel.stop()


def test_start_copy_stop(looks: Looks, comfy: Comfy, cloudflared: FakeCloudflared) -> None:
    opened, page, panel = looks.opened, looks.opened.page, looks.opened.panel
    opened.run("import comfydeploy_jupyter as cd\ncd.TunnelPanel()")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    start = panel.get_by_role("button", name="Start")
    expect(start).to_be_enabled()
    expect(panel.get_by_text("Stopped")).to_be_visible()
    looks.take("tunnel")
    secret = panel.get_by_label("Only with the secret link")
    secret.uncheck()
    expect(panel.get_by_role("alert").filter(has_text="Everybody who finds")).to_be_visible()
    secret.check()
    expect(panel.get_by_text("Visitors need the link")).to_be_visible()
    panel.get_by_text("With an address of your own").click()
    expect(panel.get_by_label("Token")).to_be_visible()

    start.click()
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
    opened.shoot("tunnel-panel")
    assert_accessible(panel)
    expect(panel.get_by_role("button", name="Copy link")).to_be_visible()
    top = panel.get_by_label("Make reachable")
    looks.take("tunnel-running", top)
    # the link works, at the edge's side of the tunnel
    query = copied.partition("?")[2]
    answer = requests.get(f"{cloudflared.edge}/system_stats?{query}", timeout=30)
    assert answer.status_code == 200
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_text("Stopped")).to_be_visible()
    expect(link).to_be_hidden()
    assert not comfy.tunnel.status()

    cloudflared.behave(mode="rate_limited")
    start.click()
    failure = panel.get_by_role("alert").filter(has_text="Too many quick tunnels")
    expect(failure).to_be_visible()
    panel.get_by_text("With an address of your own").click()
    looks.take("tunnel-failed", top)
    failure.get_by_text("The log of cloudflared").click()
    expect(failure.get_by_text("error code: 1015")).to_be_visible()
    expect(start).to_be_enabled()


@pytest.mark.thorough
def test_cloudflared_is_downloaded(looks: Looks, without_cloudflared: JupyterProcess) -> None:
    server = without_cloudflared
    panel = looks.opened.panel
    comfy = Comfy(server.url, server.token)
    looks.opened.run(f"{connected(comfy)}cd.TunnelPanel('jupyter', comfy)")
    panel.get_by_role("button", name="Start").click()
    download = panel.get_by_role("button", name="Download cloudflared")
    expect(download).to_be_visible()
    expect(panel.get_by_text("There is no cloudflared on this machine")).to_be_visible()
    expect(panel.get_by_role("link", name="Cloudflare's terms")).to_be_visible()
    looks.take("tunnel-missing")
    assert axe.violations(panel) == []
    assert_accessible(panel)
    download.click()
    expect(panel.get_by_text("Running")).to_be_visible()
    expect(download).to_be_hidden()
    comfy.tunnel.stop()
