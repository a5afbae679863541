"""A panel in each kind of page that shows widgets: marimo, and one like Colab."""

from __future__ import annotations

import base64
import json
import queue
import re
import statistics
import sys
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
import requests
from playwright.sync_api import expect

from comfydeploy_jupyter import ComfyDeployPanel, RunPanel, TunnelPanel
from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.display import Live
from comfydeploy_jupyter.display.sweeps import SweepPanel
from tests.browser import axe
from tests.browser.accessibility import DIM
from tests.browser.panels import field, press, run, slow
from tests.helpers.comfyui import free_port
from tests.helpers.graphs import SUNSET, node, paper, shown
from tests.helpers.jupyter import chain
from tests.helpers.processes import PYTHONPATH, Reaped
from tests.helpers.selection import few
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator, Page

    from tests.helpers.cloudflared import FakeCloudflared
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

HOST = "http://host.test/"
PANEL = "import comfydeploy_jupyter as cd\ncd.TunnelPanel()"

ALL_PANELS = """\
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    import comfydeploy_jupyter as cd
    comfy = cd.connect({url!r}, token={token!r})
    run = mo.ui.anywidget(cd.RunPanel({path!r}, comfy))
    panel = mo.ui.anywidget(cd.ComfyDeployPanel({path!r}, comfy))
    mo.vstack([panel, run])
    return mo, panel, run

@app.cell
def _(mo, panel, run):
    result = run.value["result"]
    mo.md(f"Python has: {{panel.value['tab']}}, {{result and result['status']}}")
    return
"""


@pytest.fixture
def comfy(lab: JupyterProcess, cloudflared: FakeCloudflared) -> Iterator[Comfy]:
    cloudflared.behave()
    found = Comfy(lab.url, lab.token)
    yield found
    found.tunnel.stop()


@contextmanager
def marimo(folder: Path, source: str) -> Iterator[str]:
    """A marimo notebook that is shown as an app; its address."""
    path = folder / "notebook.py"
    path.write_text(source)
    port = free_port()
    where = ("--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port))
    command = (sys.executable, "-m", "marimo", "-q", "run", *where, str(path))
    env = {"PYTHONPATH": PYTHONPATH, "HOME": str(folder)}
    log = folder / "marimo.log"
    program = Reaped(*command, log=log, cwd=folder, env=env)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{url}health", timeout=5).ok
        return False

    try:
        until(answers, what=f"marimo did not start: {log}")
        yield url
    finally:
        program.close()


@pytest.fixture
def new_page(browser: BrowserContext) -> Iterator[Any]:
    """A function that opens a page; its requests to other servers than its own are listed."""
    pages: list[Page] = []

    def open_page(url: str) -> tuple[Page, list[str]]:
        page = browser.new_page()
        pages.append(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page, asked

    yield open_page
    for page in pages:
        page.close()


def start_and_stop(panel: Locator, comfy: Comfy) -> None:
    """Use the whole panel: it works and shows what the server says."""
    expect(panel.get_by_text("Stopped")).to_be_visible()
    panel.get_by_role("button", name="Start").click()
    link = panel.get_by_role("link")
    expect(link).to_have_attribute("href", re.compile("access="))
    assert link.get_attribute("href") == comfy.tunnel.status().access_url
    panel.get_by_text("QR code").click()
    expect(panel.get_by_alt_text("QR code of the link")).to_be_visible()
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_text("Stopped")).to_be_visible()


MODEL = """<!DOCTYPE html><html lang="en"><title>Host</title>
<body><script type="module">
const decode = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const encode = buffer =>
    btoa(Array.from(new Uint8Array(buffer), c => String.fromCharCode(c)).join(""));
const { _esm, ...state } = await window.opened();
const listeners = [];
const emit = (event, ...details) => {
    for (const [name, listener] of [...listeners]) if (name === event) listener(...details);
};
let changed = {};
const model = {
    get: name => state[name],
    set: (name, value) => {
        state[name] = changed[name] = value;
        emit(`change:${name}`);
    },
    save_changes: () => {
        window.push({ method: "update", state: changed }, []);
        changed = {};
    },
    send: (content, callbacks, buffers = []) =>
        void window.push({ method: "custom", content }, buffers.map(encode)),
    on: (name, listener) => listeners.push([name, listener]),
    off: (name, listener) => {
        const place = listeners.findIndex(each => each[0] === name && each[1] === listener);
        if (place >= 0) listeners.splice(place, 1);
    },
};
const script = await import(URL.createObjectURL(new Blob([_esm], { type: "text/javascript" })));
const el = document.body.appendChild(document.createElement("div"));
await script.default.render({ model, el });
for (;;) {
    for (const [data, buffers] of await window.pull()) {
        if (data.method === "custom") emit("msg:custom", data.content, buffers.map(decode));
        for (const [name, value] of Object.entries(data.state ?? {})) {
            state[name] = value;
            emit(`change:${name}`);
        }
    }
    await new Promise(resolve => setTimeout(resolve, 20));
}
</script></body></html>"""
"""A page that offers the model of a widget and nothing else, as VS Code and Colab do."""


class Host:
    """The kernel's side of `MODEL`: the comm of the widget."""

    comm_id = "host"
    kernel = "host"

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        self.listens = True
        self._waiting: list[Any] = []
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        widget.comm = self

    def on_msg(self, receive: Any) -> None:
        self._receive = receive

    def send(self, data: Any, metadata: object = None, buffers: Any = None) -> None:
        encoded = [base64.b64encode(bytes(each)).decode() for each in buffers or ()]
        self._messages.put((json.loads(json.dumps(data)), encoded))

    def close(self, *_: object, **__: object) -> None:
        """Nothing is to be closed."""

    def show(self, page: Page) -> None:
        page.expose_function("opened", lambda: self.widget.get_state())
        page.expose_function("push", self._push)
        page.expose_function("pull", self._pull)
        page.route(f"{HOST}**", lambda route: route.fulfill(body=MODEL, content_type="text/html"))
        page.goto(HOST)

    def listen(self) -> None:
        """Take what has arrived while it was busy."""
        self.listens = True
        for message in self._waiting:
            self._receive(message)
        self._waiting.clear()

    def _push(self, data: Any, buffers: list[str]) -> None:
        parts = [memoryview(base64.b64decode(each)) for each in buffers]
        message = {"content": {"data": {"buffer_paths": [], **data}}, "buffers": parts}
        if self.listens:
            self._receive(message)
        else:
            self._waiting.append(message)

    def _pull(self) -> list[Any]:
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._messages.get_nowait())
        return found


@pytest.fixture
def host(new_page: Any, comfy: Comfy) -> Iterator[tuple[Host, Page, list[str]]]:
    """A TunnelPanel in a page that offers its model only."""
    made = Host(TunnelPanel(comfy=comfy))
    page, asked = new_page("about:blank")
    made.show(page)
    yield made, page, asked
    made.widget.close()


def test_a_page_with_the_model_only(
    host: tuple[Host, Page, list[str]], lab: JupyterProcess, comfy: Comfy
) -> None:
    kernel, page, asked = host
    panel = page.locator(".comfydeploy-panel")
    start_and_stop(panel, comfy)
    assert kernel.widget.summary == "Tunnel to ComfyUI: Stopped"
    kernel.widget.target = "jupyter"
    expect(panel.get_by_text("Visitors need Jupyter's token")).to_be_visible()
    assert not [url for url in asked if url.startswith(lab.url)]
    assert lab.token not in page.content()
    for text, back, scheme in (("#111", "#fff", "light"), ("#eee", "#111", "dark")):
        page.evaluate(f"document.body.style.cssText = 'color: {text}; background: {back}'")
        expect(panel).to_have_css("color-scheme", scheme)
        assert axe.violations(panel) == []
        assert panel.evaluate(DIM) == []


@pytest.mark.thorough
def test_a_kernel_that_is_silent(host: tuple[Host, Page, list[str]]) -> None:
    kernel, page, _ = host
    panel = page.locator(".comfydeploy-panel")
    expect(panel.get_by_text("Stopped")).to_be_visible()
    kernel.listens = False
    silent = panel.get_by_text("The kernel does not answer: the panel waits until it is free")
    expect(silent).to_be_visible()
    expect(panel.get_by_text("Stopped")).to_be_visible()
    kernel.listen()
    expect(silent).to_be_hidden()
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_text("Running")).to_be_visible()


@pytest.mark.thorough
def test_a_run_panel_in_a_page_with_the_model_only(
    new_page: Any, lab: JupyterProcess, comfy: Comfy, tmp_path: Path
) -> None:
    picture = tmp_path / f"{uuid.uuid4().hex}.png"
    PIL.Image.effect_noise((700, 500), 90).save(picture)
    graph = {
        "1": node("LoadImage", "Load", image="absent.png"),
        "2": shown("1"),
        **slow(900, 0.1, "Slow"),
    }
    kernel = Host(RunPanel(graph, comfy))
    page, asked = new_page("about:blank")
    kernel.show(page)
    panel = page.locator(".comfydeploy-panel")
    with page.expect_file_chooser() as chooser:
        press(panel, "Upload the picture")
    chooser.value.set_files(picture)
    name = panel.get_by_role("combobox", name="Load: image")
    expect(name).to_have_value(picture.name)
    press(panel, "Run")
    bar = panel.locator(".comfydeploy-progress")
    expect(bar).to_contain_text(re.compile(r"Slow .* \d+/900"))
    expect(panel.locator(".comfydeploy-preview img").first).to_be_visible()
    # the kernel is busy: what is shown stays, and a click counts later
    kernel.listens = False
    silent = panel.get_by_text("The kernel does not answer: the panel waits until it is free")
    expect(silent).to_be_visible()
    expect(bar).to_contain_text("Slow")
    press(panel, "Cancel")
    kernel.listen()
    expect(panel.locator("b", has_text="Cancelled")).to_be_visible()
    expect(silent).to_have_count(0)
    field(panel, "Slow: steps").fill("2")
    run(panel)
    result = panel.locator(".comfydeploy-gallery .cd-picture-button").first
    result.click()
    full = page.get_by_role("dialog").locator("img")
    expect(full).to_have_js_property("naturalWidth", 700)
    page.keyboard.press("Escape")
    press(panel, "Use these values again")
    expect(panel.get_by_text("The values and seeds of this run are in the form")).to_be_visible()
    # what the page sends arrives while something is asked of it
    until(lambda: page.title() and kernel.widget.result.status, lambda found: found == "success")
    assert kernel.widget.inputs["1.image"] == picture.name
    assert not [url for url in asked if url.startswith(lab.url)]
    kernel.widget.close()


def each_tab(panel: Locator) -> Iterator[str]:
    """Open the tabs of a ComfyDeployPanel; yield the name of each once its panel is shown."""
    for name, part in (
        ("Files", panel.get_by_label("Destination")),
        ("Gallery", panel.locator("summary", has_text="Gallery")),
        ("Tunnel", panel.get_by_label("Make reachable")),
        ("Account", panel.get_by_role("button", name="Sign in")),
        ("Workflows", panel.get_by_text("Choose a workflow, or open a file.")),
        ("Run", field(panel, "Width")),
    ):
        panel.get_by_role("tab", name=name, exact=True).first.click()
        expect(part.first).to_be_visible()
        yield name


@pytest.mark.thorough
def test_all_panels_in_a_page_with_the_model_only(
    new_page: Any, lab: JupyterProcess, comfy: Comfy, tmp_path: Path
) -> None:
    stored = comfy.workflows.save(SUNSET, f"Sunset {uuid.uuid4().hex[:6]}")
    file = tmp_path / f"{uuid.uuid4().hex}.png"
    PIL.Image.effect_noise((700, 500), 90).save(file)
    kernel = Host(ComfyDeployPanel(stored, comfy))
    widget = kernel.widget
    page, asked = new_page("about:blank")
    kernel.show(page)
    panel = page.locator(".comfydeploy-panel").first
    for name in each_tab(panel):
        until(lambda: page.title() and widget.tab, lambda tab, name=name: tab == name)
    field(panel, "Width").fill("320")
    run(panel)
    expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_be_visible()
    until(lambda: page.title() and widget.run_panel.result, lambda found: found is not None)
    assert widget.run_panel.result.status == "success"
    assert widget.run_panel.inputs["1.value"] == 320
    widget.run_panel.set_input("2.value", 128)
    expect(field(panel, "Height")).to_have_value("128")
    # the tab Gallery opens the workflow of a run in the tab Run, with the values of the run
    panel.get_by_role("tab", name="Gallery", exact=True).click()
    made = panel.locator(".comfydeploy-history li", has_text=stored.name).locator(".cd-run")
    made.locator("visible=true").click()
    press(panel.get_by_role("dialog"), "Open the workflow with these values")
    expect(field(panel, "Width")).to_be_visible()
    expect(field(panel, "Height")).not_to_have_value("128")
    expect(field(panel, "Width")).to_have_value("320")
    until(lambda: page.title() and widget.run_panel.inputs, lambda found: found == {"1.value": 320})
    widget.run_panel.set_input("2.value", 256)
    expect(field(panel, "Height")).to_have_value("256")
    # the tab Workflows knows what the tab Run shows
    panel.get_by_role("tab", name="Workflows", exact=True).click()
    panel.get_by_label("Search", exact=True).fill(stored.name)
    workflows = panel.get_by_label("Workflows", exact=True).locator("visible=true")
    workflows.get_by_role("option").first.click()
    panel.get_by_role("tab", name="Save", exact=True).click()
    press(panel, "Save")
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    assert comfy.workflows.list(stored.name)[0].load()["Height"].value == 256
    press(panel, "Run …")
    expect(field(panel, "Height")).to_be_visible()
    panel.get_by_role("tab", name="Files", exact=True).click()
    with page.expect_file_chooser() as chooser:
        panel.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(file)
    expect(panel.get_by_text(file.name).first).to_be_visible()
    until(lambda: page.title() and [str(one) for one in widget.upload_panel.uploaded], bool)
    assert not [url for url in asked if url.startswith(lab.url)]
    widget.close()


@pytest.mark.thorough
@pytest.mark.parametrize("is_loaded", few([True, False]))
def test_a_sweep_for_which_the_kernel_waits(
    new_page: Any, comfy: Comfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_loaded: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # where the sweep is saved
    panels: queue.Queue[SweepPanel] = queue.Queue()

    def display(progress: Any) -> Live:
        panel = SweepPanel(progress.sweep)
        panels.put(panel)
        return Live(progress, panel)

    graph = {**chain(("TestSleep", {"seconds": 3})), "8": paper(), "9": shown("8")}
    values = {"1.seconds": [4.0 + number / 10 for number in range(6)]}
    cell = threading.Thread(target=comfy.sweep, args=(graph, values), kwargs={"progress": display})
    cell.start()
    kernel = Host(panels.get(timeout=30))
    kernel.listens = is_loaded
    page, _ = new_page("about:blank")
    kernel.show(page)
    panel = page.locator(".comfydeploy-panel")
    if is_loaded:
        expect(panel.get_by_text(re.compile("^Running: . of 6 points")).last).to_be_visible()
        kernel.listens = False
    only = panel.get_by_text("only through the kernel, which is busy: the sheet appears as soon as")
    expect(only).to_be_visible()
    expect(panel.get_by_role("button", name="Stop")).to_have_count(0)
    for number in (3, 4):
        counts = re.compile(rf"{number} of 6 points · about \d+ s left")
        expect(panel.get_by_text(counts)).to_be_visible()
    cell.join()
    expect(panel.get_by_text(re.compile("Done after .* s: 6 of 6 points"))).to_be_visible()
    kernel.listen()
    expect(panel.get_by_text("Done: 6 of 6 points").last).to_be_visible()
    expect(only).to_have_count(0)
    expect(panel.locator("img")).to_have_count(6)
    kernel.widget.close()


FIRST_PAINT = """async () => {
    const start = performance.now();
    void window.jupyterapp.commands.execute("notebook:run-cell");
    const panel = () => document.querySelector(".comfydeploy-panel");
    const until = async isTrue => {
        while (!isTrue()) await new Promise(resolve => requestAnimationFrame(resolve));
    };
    await until(() => !panel());
    await until(() => panel()?.querySelector("button"));
    const buttons = performance.now() - start;
    await until(() => panel().textContent.includes("Stopped"));
    return [buttons, performance.now() - start];
}"""
"""Runs the cell; the times until its panel shows its controls and what it has asked for, ms."""


@pytest.mark.usefixtures("comfy")
def test_a_panel_appears_at_once(open_notebook: Any) -> None:
    opened = open_notebook(PANEL)
    expect(opened.panel.get_by_text("Stopped")).to_be_visible()
    times = [opened.page.evaluate(FIRST_PAINT) for _ in range(5)]
    assert statistics.median(first for first, _ in times) <= 300, times


def test_all_panels_in_marimo(new_page: Any, lab: JupyterProcess, tmp_path: Path) -> None:
    source = ALL_PANELS.format(url=lab.url, token=lab.token, path=str(lab.root / "sunset.json"))
    with marimo(tmp_path, source) as url:
        page, asked = new_page(url)
        panel, single = (
            page.locator(".comfydeploy-panel:has([role=tablist])"),
            page.locator("marimo-anywidget").last,
        )
        expect(panel.get_by_role("status").filter(has_text="is ready")).to_be_visible()
        assert axe.violations(panel) == []
        for name in each_tab(panel):
            expect(page.get_by_text(f"Python has: {name}, None")).to_be_visible()
        run(panel)
        expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_be_visible()
        run(single)
        expect(page.get_by_text("Python has: Run, success")).to_be_visible()
        assert not [each for each in asked if each.startswith(lab.url)]
