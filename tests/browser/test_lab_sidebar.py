"""The extension of JupyterLab: the sidebar, the status bar, notifications and what runs."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.conftest import new_workspace, open_lab
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until
from tests.machines.conftest import managed  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

PICTURE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 96, "height": 64, "batch_size": 1, "color": 16746496},
    },
    "2": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "sidebar", "images": ["1", 0]},
    },
}
SLOW = chain(("TestPreview", {"steps": 400, "delay": 0.1, "size": 8}))
CHANGE_THEME = """theme => window.jupyterapp.commands.execute(
    "apputils:change-theme", { theme })"""


def look(page: Page, name: str) -> None:
    """Save a picture of the page for those who change how it looks."""
    folder = os.environ.get("LOOKS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png")


@pytest.fixture
def comfy(lab: JupyterProcess) -> Iterator[Comfy]:
    found = Comfy(lab.url, lab.token)
    yield found
    for status in ("running", "queued"):
        for run in found.runs(status=status, limit=100):
            run.cancel()


def picture(comfy: Comfy, width: int = 96) -> str:
    graph = json.loads(json.dumps(PICTURE))
    graph["1"]["inputs"]["width"] = width
    return comfy.run(graph).prompt_id


def open_sidebar(page: Page) -> Locator:
    page.locator(".lm-TabBar-tab[data-id=comfydeploy-sidebar]").click()
    found = page.locator("#comfydeploy-sidebar .comfydeploy-panel")
    expect(found.get_by_text("Machines (")).to_be_visible()
    return found


def status_bar(page: Page) -> Locator:
    return page.locator(".comfydeploy-status")


def row(sidebar: Locator, text: str | re.Pattern[str]) -> Locator:
    return sidebar.locator(".cd-open-run").filter(has_text=text)


def test_the_sidebar_shows_what_runs_waits_and_is_done(
    lab_page: Page, comfy: Comfy, comfyui: Any
) -> None:
    picture(comfy)
    sidebar = open_sidebar(lab_page)
    expect(sidebar.get_by_text("Nothing runs or waits.")).to_be_visible()
    expect(sidebar.locator(".comfydeploy-history .cd-frame img").first).to_be_visible()
    running = comfy.submit(SLOW, labels={"client": "acme"})
    waiting = [comfy.submit(chain(), labels={"client": f"w{n}"}) for n in range(3)]
    first = row(sidebar, "acme")
    expect(first.get_by_text(re.compile(r"^TestPreview · \d+/400"))).to_be_visible()
    expect(first.get_by_role("progressbar")).to_be_visible()
    expect(row(sidebar, "w0").get_by_text("Next in the queue")).to_be_visible()
    expect(row(sidebar, "w2").get_by_text("No. 3 in the queue")).to_be_visible()
    tab = lab_page.locator(".lm-TabBar-tab[data-id=comfydeploy-sidebar]")
    expect(tab).to_have_attribute("data-comfydeploy-count", "4")
    expect(status_bar(lab_page)).to_contain_text(re.compile(r"ComfyUI: \d+ % · 3 waiting"))
    look(lab_page, "sidebar-light")
    assert_accessible(sidebar)
    # another order, and a cancellation
    row(sidebar, "w2").get_by_role("button", name="next").click()
    expect(row(sidebar, "w2").get_by_text("Next in the queue")).to_be_visible()
    row(sidebar, "w0").get_by_role("button", name="last").click()
    expect(row(sidebar, "w0").get_by_text("No. 3 in the queue")).to_be_visible()
    row(sidebar, "w0").drag_to(row(sidebar, "w1"), target_position={"x": 30, "y": 4})
    expect(row(sidebar, "w0").get_by_text("No. 2 in the queue")).to_be_visible()
    os.kill(comfyui.pid, signal.SIGSTOP)
    try:
        row(sidebar, "w1").get_by_role("button", name="Cancel").click()
        expect(row(sidebar, "w1")).to_contain_text("Being cancelled")
        expect(row(sidebar, "w1").get_by_role("button")).to_have_count(1)  # opens the run
        look(lab_page, "being-cancelled")
    finally:
        os.kill(comfyui.pid, signal.SIGCONT)
    expect(row(sidebar, "w1")).to_have_count(0)
    assert comfy.get(waiting[1].prompt_id).status == "cancelled"
    lab_page.evaluate(CHANGE_THEME, "JupyterLab Dark")
    lab_page.wait_for_timeout(700)
    look(lab_page, "sidebar-dark")
    lab_page.evaluate(CHANGE_THEME, "JupyterLab Light")
    # the run is opened in the main area, and goes on there
    first.locator(".cd-main").click()
    panel = lab_page.locator("#jp-main-dock-panel .comfydeploy-panel")
    expect(panel.locator(".comfydeploy-progress")).to_contain_text("TestPreview")
    look(lab_page, "sidebar-run")
    # again, it is that panel
    lab_page.locator("#jp-main-dock-panel .lm-TabBar-tab").first.click()
    expect(panel).to_be_hidden()
    first.locator(".cd-main").click()
    expect(panel).to_be_visible()
    expect(lab_page.locator("#jp-main-dock-panel .lm-TabBar-tab")).to_have_count(2)
    running.cancel()
    expect(sidebar.get_by_text("Nothing runs or waits.")).to_be_visible()
    expect(tab).not_to_have_attribute("data-comfydeploy-count", re.compile("."))
    expect(status_bar(lab_page)).to_contain_text("ComfyUI: idle")


@pytest.mark.thorough
def test_two_results_are_compared_and_one_is_opened(lab_page: Page, comfy: Comfy) -> None:
    picture(comfy, 97)
    newest = comfy.get(picture(comfy, 98)).result.files[0].filename
    sidebar = open_sidebar(lab_page)
    expect(sidebar.locator(f".comfydeploy-history img[src*='{newest}']")).to_be_visible()
    boxes = sidebar.locator(".comfydeploy-history .cd-select")
    boxes.nth(0).check()
    boxes.nth(1).check()
    sidebar.get_by_role("button", name="Compare").click()
    dialog = lab_page.get_by_role("dialog")
    expect(dialog.locator(".cd-differences")).to_contain_text("97")
    expect(dialog.locator(".cd-differences")).to_contain_text("98")
    look(lab_page, "compared")
    dialog.get_by_role("button", name="Close").click()
    sidebar.locator(".comfydeploy-history .cd-main").first.click()
    picture_of_it = lab_page.locator("#jp-main-dock-panel .comfydeploy-panel .cd-result img").first
    for theme in ("JupyterLab Dark", "JupyterLab Light"):  # each hides all for a moment
        lab_page.evaluate(CHANGE_THEME, theme)
        lab_page.wait_for_timeout(700)
        expect(picture_of_it).to_be_in_viewport()


def test_machines_show_their_memory_which_can_be_freed(lab_page: Page, comfy: Comfy) -> None:
    sidebar = open_sidebar(lab_page)
    machine = sidebar.locator("li", has_text="is ready")
    expect(machine.get_by_role("progressbar", name=re.compile("Memory"))).to_be_visible()
    machine.get_by_role("button", name=re.compile("^Free")).click()
    expect(machine.get_by_text(re.compile("of RAM freed"))).to_be_visible(timeout=30_000)


def test_a_batch_can_be_paused_and_opened(
    lab_page: Page, comfy: Comfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the sweep is saved
    sidebar = open_sidebar(lab_page)
    graph = chain(("TestSleep", {"seconds": 1}))
    comfy.sweep(graph, {"1.seconds": [1.0, 1.1, 1.2, 1.3, 1.4]}, wait=False)
    found = row(sidebar, re.compile(r"\d of 5 points"))
    expect(found).to_be_visible()
    found.get_by_role("button", name=re.compile("Pause")).click()
    expect(found.get_by_role("button", name=re.compile("Continue"))).to_be_visible()
    found.locator(".cd-main").click()
    expect(lab_page.locator("#jp-main-dock-panel .comfydeploy-sheet")).to_be_visible()
    look(lab_page, "sidebar-batch")
    found.get_by_role("button", name=re.compile("Cancel")).click()
    expect(found).to_have_count(0)


@pytest.mark.thorough
def test_a_transfer_that_has_failed_is_dismissed(lab_page: Page, lab: Any, model_site: Any) -> None:
    sidebar = open_sidebar(lab_page)
    url = f"{model_site.url}/none.safetensors"
    lab.post("volume/model", {"url": url, "folder": "loras"})
    failed = sidebar.locator(".cd-transfers li", has_text="none.safetensors")
    failed.get_by_role("button", name="Dismiss").click()
    expect(failed).to_have_count(0)


@pytest.mark.thorough
def test_the_page_has_one_socket_and_asks_for_nothing_while_hidden(
    browser: BrowserContext, lab: JupyterProcess, comfy: Comfy
) -> None:
    page = browser.new_page()
    sockets: list[str] = []
    asked: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{lab.url}{new_workspace()}?token={lab.token}")
    expect(status_bar(page)).to_contain_text("ComfyUI: idle", timeout=60_000)
    asked.clear()
    comfy.run(chain())
    expect(status_bar(page)).to_contain_text("ComfyUI: idle")
    page.wait_for_timeout(5000)
    assert [url for url in asked if "comfyui-deploy" in url] == []
    assert len([url for url in sockets if "comfyui-deploy/overview" in url]) == 1
    # while the sidebar is seen, only what has changed is asked for
    open_sidebar(page)
    page.wait_for_timeout(2000)
    asked.clear()
    page.wait_for_timeout(6000)
    assert [url for url in asked if "comfyui-deploy" in url] == []
    assert len([url for url in sockets if "comfyui-deploy/overview" in url]) == 1
    page.close()


@pytest.mark.thorough
def test_a_long_queue_is_a_short_list(lab_page: Page, comfy: Comfy) -> None:
    sidebar = open_sidebar(lab_page)
    comfy.submit(SLOW)
    for number in range(120):
        comfy.submit(chain(), labels={"client": f"run {number}"})
    expect(sidebar.get_by_text("Runs (121)")).to_be_visible()
    rows = sidebar.locator(".cd-open-run")
    expect(row(sidebar, "run 0")).to_be_visible()
    assert rows.count() < 25
    sidebar.get_by_role("list", name="Runs that have not ended").evaluate(
        "list => list.parentElement.scrollTo(0, 1e6)"
    )
    expect(row(sidebar, "run 119").get_by_text("No. 120 in the queue")).to_be_visible()
    assert rows.count() < 25


@pytest.mark.thorough
def test_a_result_is_dragged_into_a_notebook(open_notebook: Any, comfy: Comfy) -> None:
    run = picture(comfy, 99)
    page = open_notebook("'a panel'").page
    sidebar = open_sidebar(page)
    result = sidebar.locator(".comfydeploy-history .cd-main").first
    # a browser drags no picture that it has not loaded
    expect(result.locator("img")).to_have_js_property("complete", True)
    expect(result.locator("img")).not_to_have_js_property("naturalWidth", 0)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    before = cells.count()
    result.locator("img").drag_to(page.locator(".jp-Notebook .jp-CodeCell .cm-content").first)
    expect(cells).to_have_count(before + 1)
    expect(cells.nth(1)).to_contain_text(f'run = cd.connect().get("{run}")')
    look(page, "dragged")
    page.evaluate("() => window.jupyterapp.shell.activateById('filebrowser')")  # as it was


def notified(page: Page) -> Locator:
    return page.locator(".jp-toastContainer, .Toastify").locator("[role=alert]")


@pytest.fixture
def telling_page(browser: BrowserContext, lab: JupyterProcess) -> Iterator[Page]:
    """JupyterLab with a setting: it tells of the ends of runs that take longer than a second."""
    settings = lab.folder / "config/lab/user-settings/comfydeploy-jupyter"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "notifications.jupyterlab-settings").write_text('{"seconds": 1}')
    page = open_lab(browser, lab)
    expect(status_bar(page)).to_contain_text("ComfyUI: idle", timeout=60_000)
    yield page
    page.close()


@pytest.mark.thorough
def test_ends_of_long_runs_are_told_many_of_them_in_one_sentence(
    telling_page: Page, comfy: Comfy
) -> None:
    page = telling_page
    comfy.run(chain())  # a short one
    run = comfy.submit(chain(("TestSleep", {"seconds": 2})))
    told = notified(page)
    expect(told).to_contain_text("The run is done (2", timeout=30_000)
    expect(told).to_have_count(1)
    page.wait_for_timeout(700)
    look(page, "notification")
    told.get_by_role("button", name="Show").click()
    panel = page.locator("#jp-main-dock-panel .comfydeploy-panel")
    expect(panel.get_by_role("combobox", name="Workflow")).to_be_visible()
    expect(panel.locator(f"[data-shows~='{run.prompt_id}']")).to_be_visible()
    # one whose panel is seen is not told
    comfy.submit(chain(("TestSleep", {"seconds": 2})), prompt_id="seen-run")
    page.locator(".comfydeploy-panel .cd-body").evaluate(
        "body => body.setAttribute('data-shows', 'seen-run')"
    )
    expect(status_bar(page)).to_contain_text(re.compile(r"\d %"))
    expect(status_bar(page)).to_contain_text("ComfyUI: idle", timeout=30_000)
    page.wait_for_timeout(1500)
    expect(told).to_have_count(0)
    # after a time without the server
    page.context.set_offline(True)
    expect(status_bar(page)).to_contain_text("no connection")
    for number in range(5):
        comfy.run(chain(("TestSleep", {"seconds": 1.5 + number / 10})))
    page.context.set_offline(False)
    expect(told).to_contain_text("5 runs and batches have ended", timeout=60_000)
    expect(told).to_have_count(1)
    show = told.get_by_role("button", name="Show")
    show.dispatch_event("click")  # behind JupyterLab's dialog about the connection
    expect(page.locator("#comfydeploy-sidebar")).to_be_visible()


PERMISSION = "() => Notification.permission"
HIDE = """() => {
    window.told = [];
    window.Notification = new Proxy(window.Notification, {
        construct(target, args) {
            told.push(args[1].body);
            return new target(...args);
        },
    });
    Object.defineProperty(document, "hidden", { get: () => true });
}"""


@pytest.mark.thorough
def test_the_browser_tells_of_ends_once_it_is_allowed(telling_page: Page, comfy: Comfy) -> None:
    page = telling_page
    page.context.clear_permissions()
    page.evaluate(HIDE)
    allow = notified(page).get_by_role("button", name="Tell me outside the page, too")

    def run(number: int) -> Any:
        comfy.run(chain(("TestSleep", {"seconds": 1.5 + time.time() % 1})))
        expect(notified(page)).to_have_count(number)
        return page.evaluate("() => [Notification.permission, told.length]")

    assert run(1) == ["default", 0]
    allow.click()
    # what a browser without a window answers
    until(lambda: page.evaluate(PERMISSION), lambda answer: answer == "denied")
    assert run(1) == ["denied", 0]
    expect(allow).to_have_count(0)
    page.context.grant_permissions(["notifications"])
    assert run(2) == ["granted", 1]
    expect(allow).to_have_count(0)
    page.context.clear_permissions()


def test_runs_and_comfyui_are_listed_beside_kernels(lab_page: Page, comfy: Comfy) -> None:
    run = comfy.submit(SLOW)
    lab_page.locator(".lm-TabBar-tab[data-id=jp-running-sessions]").click()
    item = lab_page.locator(".jp-RunningSessions-item").filter(has_text="Run of")
    expect(item).to_be_visible()
    look(lab_page, "running")
    item.hover()
    item.locator(".jp-RunningSessions-itemShutdown").click()
    expect(item).to_have_count(0)
    assert comfy.get(run.prompt_id).status == "cancelled"
    # all of them, also those that are not in the list
    runs = [comfy.submit(SLOW), *(comfy.submit(chain()) for _ in range(25))]
    tab = lab_page.locator(".lm-TabBar-tab[data-id=comfydeploy-sidebar]")
    expect(tab).to_have_attribute("data-comfydeploy-count", "26")
    lab_page.get_by_text("Stop All", exact=True).click()
    lab_page.locator(".jp-Dialog").get_by_role("button", name="Stop All").click()
    expect(item).to_have_count(0)
    assert {comfy.get(run.prompt_id).status for run in runs} == {"cancelled"}


@pytest.fixture
def lab_of(
    start_jupyter: Callable[..., JupyterProcess], browser: BrowserContext
) -> Iterator[Callable[..., tuple[JupyterProcess, Page]]]:
    """A function that opens a JupyterLab with other settings."""
    opened: list[tuple[JupyterProcess, Page]] = []

    def start(**config: Any) -> tuple[JupyterProcess, Page]:
        server = start_jupyter(lab=True, LabApp={"expose_app_in_browser": True}, **config)
        page = browser.new_page()
        opened.append((server, page))
        page.set_default_timeout(60_000)
        page.goto(f"{server.url}lab?token={server.token}")
        expect(page.locator(".jp-Launcher")).to_be_visible(timeout=60_000)
        return server, page

    yield start
    for server, page in opened:
        page.close()
        server.stop()  # the next one has its port, so that the browser has the files in its cache


@pytest.mark.thorough
def test_a_server_without_the_extension(lab_of: Any) -> None:
    off = {"jpserver_extensions": {"comfydeploy_jupyter": False, "jupyterlab": True}}
    server, page = lab_of(ServerApp=off)
    expect(status_bar(page)).to_contain_text("not installed on the server")
    (server.root / "flow.json").write_text(json.dumps(PICTURE))
    open_file = "path => void window.jupyterapp.commands.execute('docmanager:open', { path })"
    page.evaluate(open_file, "flow.json")
    expect(page.get_by_role("alert").filter(has_text="install it there")).to_be_visible()
    page.get_by_role("button", name="Open as text").click()
    expect(page.locator(".jp-FileEditor:visible")).to_contain_text("EmptyImage")
    page.evaluate("() => void window.jupyterapp.commands.execute('comfydeploy:open-editor')")
    told = notified(page).filter(has_text="does not know what the panel asks for")
    told.get_by_role("button", name="Show all of it").click()
    expect(page.locator(".jp-Dialog")).to_contain_text("Restart Jupyter after an installation")
    page.keyboard.press("Escape")
    expect(page.locator("iframe[title=ComfyUI]")).to_have_count(0)
    page.locator(".lm-TabBar-tab[data-id=comfydeploy-sidebar]").click()
    expect(page.locator("#comfydeploy-sidebar")).to_contain_text("install it there")
    look(page, "no-server")


@pytest.mark.thorough
def test_a_comfyui_that_is_down_can_be_started_and_its_log_read(
    lab_of: Any,
    managed: dict[str, Any],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    broken = tmp_path / "python"
    python = managed["comfyui_python"]
    broken.write_text(
        f'#!/bin/sh\ncase "$*" in *--port*) echo no graphics card; exit 1;; esac\n'
        f'exec {python} "$@"\n'
    )
    broken.chmod(0o755)
    settings = {**managed, "comfyui_python": str(broken), "autostart": True}
    _, page = lab_of(ComfyDeploy=settings)
    bar = status_bar(page)
    down = re.compile("ComfyUI (is down|does not start)")
    expect(bar).to_contain_text(down, timeout=60_000)
    look(page, "down")
    bar.get_by_role("button", name="Log", exact=True).click()
    expect(page.locator("#comfydeploy-log")).to_contain_text("no graphics card")
    expect(bar.get_by_role("button", name="Start", exact=True)).to_be_visible(timeout=60_000)
    bar.get_by_role("button", name="Start", exact=True).click()
    sidebar = open_sidebar(page)
    expect(sidebar.locator(".cd-down")).to_contain_text("ComfyUI")
    look(page, "down-sidebar")


def test_comfyui_is_started_and_stopped_from_the_page(
    lab_of: Any,
    managed: dict[str, Any],  # noqa: F811 - the fixture
) -> None:
    _, page = lab_of(ComfyDeploy={**managed, "autostart": False})
    bar = status_bar(page)
    expect(bar).to_contain_text("ComfyUI: stopped")
    bar.get_by_role("button", name="Start", exact=True).click()
    expect(bar).to_contain_text("ComfyUI: idle", timeout=120_000)
    expect(bar.get_by_role("button", name="Start", exact=True)).to_be_hidden()
    page.locator(".lm-TabBar-tab[data-id=jp-running-sessions]").click()
    item = page.locator(".jp-RunningSessions-item").filter(has_text="ComfyUI")
    item.hover()
    item.locator(".jp-RunningSessions-itemShutdown").click()
    expect(item).to_have_count(0)
    expect(bar).to_contain_text("ComfyUI: stopped")
    look(page, "stopped")


@pytest.mark.thorough
def test_a_server_that_restarts_and_a_lost_network(lab_of: Any, comfyui: Any) -> None:
    settings = {"comfyui_url": comfyui.url, "autostart": False}
    server, page = lab_of(ComfyDeploy=settings)
    expect(status_bar(page)).to_contain_text("ComfyUI: idle")
    sidebar = open_sidebar(page)
    server.kill()
    expect(status_bar(page)).to_contain_text("no connection", timeout=30_000)
    expect(sidebar).to_contain_text("does not answer; what is shown may be old")
    look(page, "server-lost")
    server.start()
    expect(status_bar(page)).to_contain_text("ComfyUI: idle", timeout=60_000)
    expect(sidebar.get_by_text("may be old")).to_have_count(0)
