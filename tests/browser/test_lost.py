"""A panel whose kernel is busy or has ended, or whose server or login is lost for some time."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.conftest import LabPage, Pages
from tests.browser.panels import field, press
from tests.browser.test_reload import SHUT_DOWN
from tests.handlers.test_node_packs import with_manager
from tests.helpers.graphs import node, paper, shown
from tests.machines.conftest import managed  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator, Route

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PANEL = "import comfydeploy_jupyter as cd\ncd.TunnelPanel('jupyter')"
KILL = """async () => {
    const { session } = window.jupyterapp.shell.currentWidget.sessionContext;
    session.kernel.requestExecute({ code: "import os; os.kill(os.getpid(), 9)" });
}"""
ADD_BUSY_CELL = """() => {
    const { content } = window.jupyterapp.shell.currentWidget;
    const cell = { cell_type: "code", source: "import time; time.sleep(60)" };
    content.model.sharedModel.insertCell(1, cell);
    content.activeCellIndex = 1;
    void window.jupyterapp.commands.execute("notebook:run-cell");
}"""
WITHOUT_TOKEN = """() => {
    const data = document.getElementById("jupyter-config-data");
    data.textContent = JSON.stringify({ ...JSON.parse(data.textContent), token: "" });
}"""


@pytest.fixture(scope="module")
def server(start_jupyter: Callable[..., JupyterProcess], cloudflared: Any) -> JupyterProcess:
    """A JupyterLab that tests may end."""
    return start_jupyter(
        lab=True,
        ComfyDeploy={
            "comfyui_url": "http://127.0.0.1:9",
            "autostart": False,
            "cloudflared_path": str(cloudflared.path),
        },
        LabApp={"expose_app_in_browser": True},
    )


@pytest.fixture
def opened(
    browser: BrowserContext, server: JupyterProcess, request: pytest.FixtureRequest
) -> Iterator[LabPage]:
    """A notebook with a TunnelPanel."""
    found = Pages(browser, server).new(request.node.name, PANEL)
    expect(state(found.panel, "Stopped")).to_be_visible()
    yield found
    found.page.close()
    Comfy(server.url, server.token).tunnel.stop()


def state(panel: Locator, text: str) -> Locator:
    return panel.get_by_role("status").filter(has_text=re.compile(f"{text}$"))


def toggle(panel: Locator, name: str, then: str) -> None:
    panel.get_by_role("button", name=name).click()
    expect(state(panel, then)).to_be_visible()


@pytest.mark.thorough
def test_a_kernel_that_is_busy_and_then_ends(opened: LabPage) -> None:
    page, panel = opened.page, opened.panel
    page.evaluate(ADD_BUSY_CELL)
    toggle(panel, "Start", "Running")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    expect(page.get_by_text("KeyboardInterrupt").first).to_be_visible()
    page.evaluate(KILL)
    deaf = panel.get_by_text("The kernel has ended: the panel goes on")
    expect(deaf).to_be_visible()
    page.get_by_role("dialog", name="Kernel Restarting").get_by_role("button").click()
    toggle(panel, "Stop", "Stopped")
    panel.get_by_label("Make reachable").select_option("comfyui")
    expect(panel.get_by_text("Only with the secret link")).to_be_visible()
    opened.run_first_cell()
    expect(deaf).to_be_hidden()
    expect(panel.get_by_text("Visitors need Jupyter's token")).to_be_visible()
    page.evaluate(SHUT_DOWN)
    expect(deaf).to_be_visible()
    opened.save()
    page.reload()
    expect(page.get_by_text("TunnelPanel: run this cell to use it.")).to_be_visible()


@pytest.mark.thorough
def test_a_server_that_does_not_answer_for_some_time(
    opened: LabPage, server: JupyterProcess
) -> None:
    page, panel = opened.page, opened.panel
    stopped = state(panel, "Stopped")
    page.context.set_offline(True)
    offline = panel.get_by_text("The browser is offline. The panel continues by itself")
    expect(offline).to_be_visible()
    expect(stopped).to_be_visible()
    page.context.set_offline(False)
    expect(offline).to_be_hidden()
    server.kill()
    lost = panel.get_by_text("The Jupyter server does not answer. The panel continues by itself")
    expect(lost).to_be_visible()
    # under the dialog with which JupyterLab says the same
    panel.get_by_role("button", name="Start").dispatch_event("click")
    expect(panel.get_by_text("This was not done. The Jupyter server")).to_be_visible()
    server.start()
    expect(lost).to_be_hidden()
    panel.get_by_role("button", name="Start").dispatch_event("click")
    expect(state(panel, "Running")).to_be_visible()
    expect(panel.get_by_role("alert")).to_have_count(0)


@pytest.mark.thorough
def test_a_comfyui_that_lacks_a_pack_and_then_crashes(
    browser: BrowserContext,
    start_jupyter: Callable[..., JupyterProcess],
    managed: dict[str, Any],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    with_manager(tmp_path, version="4", delay=1)
    server = start_jupyter(lab=True, ComfyDeploy=managed)
    graph = {
        "1": {"class_type": "Grain+", "inputs": {}},
        "2": node("TestSleep", "Sleep", seconds=30),
        "3": shown("2"),
    }
    Comfy(server.url, server.token).workflows.save(graph, "Grain")
    opened = Pages(browser, server).new(
        "crash", "import comfydeploy_jupyter as cd\ncd.RunPanel('Grain')"
    )
    panel = opened.panel
    box = panel.locator(".comfydeploy-missing")
    expect(box.get_by_text("1 node pack is missing")).to_be_visible()
    press(box, "Install the missing node packs")
    expect(box.get_by_text("1 node pack installed: ComfyUI has to be restarted")).to_be_visible()
    assert_accessible(panel)
    press(box, "Restart ComfyUI")
    expect(box).to_be_hidden()
    panel.get_by_label("times").fill("2")
    press(panel, "Run")
    expect(panel.get_by_text("1 more waiting")).to_be_visible()
    status = requests.get(
        f"{server.url}comfyui-deploy/check-status?token={server.token}", timeout=30
    ).json()
    os.kill(status["comfyui"]["pid"], signal.SIGKILL)
    down = panel.get_by_text("ComfyUI is down, it is being started again").first
    expect(down).to_be_visible()
    waits = panel.get_by_text("Waiting for a machine: machine 'local' is down, it is being started")
    expect(waits.first).to_be_visible()
    expect(panel.get_by_text("ComfyUI is down")).to_have_count(0)
    expect(panel.get_by_text("Executing Sleep").first).to_be_visible()  # the one that waited


@pytest.mark.thorough
def test_a_login_that_is_lost(opened: LabPage, server: JupyterProcess) -> None:
    page, panel = opened.page, opened.panel
    page.evaluate(WITHOUT_TOKEN)  # as with a password: only the cookie counts
    page.evaluate("() => { document.cookie = '_xsrf=outdated; path=/a%40b/'; }")
    toggle(panel, "Start", "Running")

    def answer_without_credentials(route: Route) -> None:
        reply = requests.request(route.request.method, route.request.url, timeout=30)
        route.fulfill(status=reply.status_code, body=reply.content)

    page.route("**/comfyui-deploy/**", answer_without_credentials)
    signed_out = panel.get_by_text("You are signed out of Jupyter: sign in again in another tab")
    expect(signed_out).to_be_visible()
    expect(state(panel, "Running")).to_be_visible()
    sign_in = panel.get_by_role("link", name="Sign in")
    expect(sign_in).to_have_attribute("href", re.compile("/a%40b/$"))
    page.unroute("**/comfyui-deploy/**")
    expect(signed_out).to_be_hidden()
    toggle(panel, "Stop", "Stopped")


def test_runs_that_are_wanted_while_the_server_is_away(
    open_run_panel: Any, lab: JupyterProcess
) -> None:
    opened = open_run_panel({"1": paper(color=2), "2": shown("1")}, "away.json", fresh=True)
    page, panel = opened.page, opened.panel
    expect(panel.get_by_text("Ready")).to_be_visible()
    comfy = Comfy(lab.url, lab.token)
    before = len(comfy.runs(limit=1000))
    wanted = 0

    def assert_made_once(why: str) -> None:
        """Check that the run of the last press of *Run* was made, and what was said is gone."""
        nonlocal wanted
        wanted += 1
        expect(panel.get_by_text("Ready · the last run is done")).to_be_visible()
        expect(panel.get_by_text(why)).to_have_count(0)
        expect(panel.get_by_role("alert")).to_have_count(0)
        assert len(comfy.runs(limit=1000)) == before + wanted

    color = field(panel, "Paper: color")
    color.fill("#000102")
    page.context.set_offline(True)
    press(panel, "Run")
    press(panel, "Reset all")
    offline = "The browser is offline. The panel continues by itself once this is over."
    expect(panel.get_by_text(f"Queueing … {offline}")).to_be_visible()
    page.context.set_offline(False)
    assert_made_once(offline)
    expect(color).to_have_value("#000002")

    def lose_reply(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/comfyui-deploy/run", lose_reply, times=1)
    press(panel, "Run")
    assert_made_once("does not answer")

    page.evaluate(WITHOUT_TOKEN)
    page.evaluate("() => { document.cookie = '_xsrf=of+another+tab; path=/a%40b/'; }")
    press(panel, "Run")
    assert_made_once("XSRF")

    page.route("**/comfyui-deploy/**", lambda route: route.fulfill(status=401, body="{}"))
    press(panel, "Run")
    signed_out = "You are signed out of Jupyter: sign in again in another tab"
    expect(panel.get_by_text(f"Queueing … {signed_out}")).to_be_visible()
    assert len(comfy.runs(limit=1000)) == before + wanted
    page.unroute("**/comfyui-deploy/**")
    assert_made_once(signed_out)

    page.context.set_offline(True)
    press(panel, "Run")
    expect(panel.get_by_text(offline)).to_be_visible()
    # under the dialog with which JupyterLab says the same
    panel.get_by_role("button", name="Cancel", exact=True).dispatch_event("click")
    page.context.set_offline(False)
    expect(panel.get_by_text(offline)).to_have_count(0)
    expect(panel.get_by_text("Ready · the last run is done")).to_be_visible()
    assert len(comfy.runs(limit=1000)) == before + wanted, "it was given up before it was sent"
