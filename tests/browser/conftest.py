"""A real JupyterLab in a real browser."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from comfydeploy_jupyter.client import Comfy
from tests.browser import axe
from tests.browser.looks import Looks, check, is_compared
from tests.browser.panels import PANEL
from tests.helpers.cloudflared import FakeCloudflared
from tests.helpers.graphs import SUNSET_PATH, node, paper
from tests.helpers.processes import REPOSITORY
from tests.helpers.transfer_service import Service, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, FloatRect, Locator

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

expect.set_options(timeout=30_000)

SHOWN = {"comfydeploy-panel", "run-panel", "workflow-panel", "upload-panel", "tunnel-panel"}
"""The names of screenshots in the documents."""

FAILED = pytest.StashKey[bool]()
SCREENSHOTS = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else None
"""The folder for the screenshots of `LabPage.shoot`, if the variable is set."""

FONTS = Path(__file__).with_name("fonts.conf")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def cloudflared(tmp_path_factory) -> FakeCloudflared:
    """The replacement for cloudflared that JupyterLab uses."""
    return FakeCloudflared(tmp_path_factory.mktemp("cloudflared"))


@pytest.fixture(scope="session")
def model_site() -> Iterator[Service]:
    """A mirror of Hugging Face."""
    with running() as made:
        yield made


@pytest.fixture(scope="session")
def lab(start_shared_jupyter, comfyui, cloudflared, model_site, tmp_path_factory) -> JupyterProcess:
    """JupyterLab in front of the real ComfyUI."""
    (comfyui.base_dir / "main.py").touch()  # so that the server knows its folders
    server = start_shared_jupyter(
        lab=True,
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.base_dir),
            "editor_runs": True,
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("d")),
            "cloudflared_path": str(cloudflared.path),
            "huggingface_url": model_site.url,
        },
        LabApp={"expose_app_in_browser": True},  # one page opens several notebooks
    )
    shutil.copy(SUNSET_PATH, server.root)
    settings = server.folder / "config/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    return server


# Playwright runs an event loop in this thread, so pytest-jupyter must not create one.
@pytest.fixture(autouse=True)
def jp_asyncio_loop() -> None:
    """No loop of pytest-jupyter."""


@pytest.fixture(autouse=True)
def jp_server_cleanup() -> None:
    """No server in this process to clean up."""


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Chromium; the variable ``CHROMIUM`` names one that is not on the path.

    All tests share its profile: with files and compiled scripts in its cache, JupyterLab needs a
    third of the processor time.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    axe.install()  # with the fonts
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"),
            executable_path=program,
            headless=True,
            args=FLAGS,
            env={**os.environ, "FONTCONFIG_FILE": str(FONTS)},
        )
        yield browser
        browser.close()


FORGET = "() => localStorage.removeItem('comfydeploy-workflows')"
"""Forgets the workflows that other tests have opened."""

REPLACE = """async code => {
    const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
    const closing = "import ipywidgets; ipywidgets.Widget.close_all()";
    await sessionContext.session.kernel.requestExecute({ code: closing }).done;
    const cell = { cell_type: "code", source: code };
    content.model.sharedModel.transact(() => {
        content.model.sharedModel.deleteCellRange(0, content.widgets.length);
        content.model.sharedModel.insertCell(0, cell);
    });
    content.activeCellIndex = 0;
}"""


EMPTY = """() => {
    const { shell } = window.jupyterapp;
    for (const widget of [...shell.widgets("main")]) widget.dispose();
    shell.activateById("filebrowser");
}"""
"""Closes all documents and panels without a question."""


def new_workspace() -> str:
    """Return the path of JupyterLab with an empty layout; it loads its page twice for ``reset``."""
    return f"lab/workspaces/{uuid.uuid4().hex}"


class LabPage:
    """One notebook in a browser."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.path = path

    def run_first_cell(self) -> None:
        """Execute the notebook's first cell.

        JupyterLab ignores an execution before its kernel is ready, although it shows the kernel as
        idle; so the request is repeated until the cell has a number.
        """
        prompt = self.page.locator(".jp-Notebook .jp-InputPrompt").first
        deadline = time.monotonic() + 60
        while True:
            self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
            self.page.keyboard.press("Control+Enter")
            try:
                expect(prompt).to_have_text(re.compile(r"\[[\d*]+\]:"), timeout=5_000)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def run(self, code: str) -> None:
        """Execute other code in place of all cells, in the same kernel without its widgets."""
        self.page.evaluate(FORGET)
        self.page.evaluate(REPLACE, code)
        expect(self.panel).to_have_count(0)
        self.page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-cell')")

    def set_theme(self, theme: str) -> None:
        """Show the page in another theme, ``"Light"`` or ``"Dark"``."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            f"JupyterLab {theme}",
        )
        expect(self.page.locator("body")).to_have_attribute(
            "data-jp-theme-name", f"JupyterLab {theme}"
        )

    def wait_for_pictures(self) -> None:
        """Wait until the browser has loaded each picture and video that is in sight."""
        self.page.wait_for_function(
            """() => {
                const pictures = document.querySelectorAll(".comfydeploy-panel :is(img, video)");
                const notebook = document.querySelector(".jp-WindowedPanel-outer");
                const end = notebook?.getBoundingClientRect().bottom ?? innerHeight;
                return [...pictures].every(each => {
                    const { top, bottom } = each.getBoundingClientRect();
                    if (!each.checkVisibility() || bottom < 0 || top > end) return true;
                    if (each.tagName === "VIDEO") return each.readyState > 1;
                    return each.complete && each.naturalWidth > 0;
                });
            }"""
        )

    @property
    def panel(self) -> Locator:
        """The panel in the notebook."""
        # not that in JupyterLab's sidebar, which a test may have opened in the same page
        return self.page.locator(".comfydeploy-panel:not(#comfydeploy-sidebar *)")

    def save(self) -> dict[str, Any]:
        """Save the notebook as a user does; return the content of the file."""
        before = self.path.stat().st_mtime_ns
        self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 30
        while True:
            if self.path.stat().st_mtime_ns != before:
                with contextlib.suppress(json.JSONDecodeError):  # incomplete while it is written
                    return dict(json.loads(self.path.read_bytes()))
            assert time.monotonic() < deadline, "the notebook was not saved"
            self.page.wait_for_timeout(50)

    def shoot(self, name: str) -> None:
        """Take a screenshot of the page if a variable requests it.

        All screenshots are stored in the folder that ``SCREENSHOTS`` names. If
        ``STORE_SCREENSHOTS`` is set, those of `SHOWN` are stored in the documents. The panel in it
        must look as in the accepted screenshot, if there is one (`tests.browser.looks`).
        """
        if SCREENSHOTS is not None:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        if name in SHOWN and os.environ.get("STORE_SCREENSHOTS"):
            with Image.open(io.BytesIO(self.page.screenshot())) as picture:
                small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(REPOSITORY / "docs" / "images" / f"{name}.png", optimize=True)
        if is_compared(name) and (clip := self._visible_panel()) is not None:
            check(name, self.page.screenshot(clip=clip, animations="disabled"))

    def _visible_panel(self) -> FloatRect | None:
        """Return the part of the page that shows the panel, or a dialog over it; None if none."""
        dialog = self.page.locator(".comfydeploy-panel dialog[open]")
        if dialog.count():
            return dialog.first.bounding_box()
        panel = self.panel.first
        box = panel.bounding_box() if panel.count() else None
        size = self.page.viewport_size
        if box is None or size is None:
            return None
        left, top, right, bottom = 0.0, 0.0, float(size["width"]), float(size["height"])
        notebook = self.page.locator(".jp-WindowedPanel-outer")
        if notebook.count() and (around := notebook.first.bounding_box()) is not None:
            left, top = max(left, around["x"]), max(top, around["y"])
            right = min(right, around["x"] + around["width"])
            bottom = min(bottom, around["y"] + around["height"])
        left, top = max(box["x"], left), max(box["y"], top)
        right = min(box["x"] + box["width"], right)
        bottom = min(box["y"] + box["height"], bottom)
        if right <= left or bottom <= top:
            return None
        return {"x": left, "y": top, "width": right - left, "height": bottom - top}


class Pages:
    """The pages of JupyterLab.

    One page with a notebook and its kernel is reused, and one without: loading them and starting a
    kernel takes longer than most tests.
    """

    def __init__(self, browser: BrowserContext, lab: JupyterProcess) -> None:
        self._browser = browser
        self._lab = lab
        self._kept: LabPage | None = None
        self._plain: Page | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"token {lab.token}"

    def new(self, name: str, code: str, app: str = "lab") -> LabPage:
        """Open a new notebook in a new page, and execute its cell."""
        path = self._lab.root / f"{name}.ipynb"
        kernel = {"name": "python3", "display_name": "Python 3"}
        cells = [nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, path)
        # the kernel starts while the page is loaded
        body = {"path": path.name, "name": path.name, "type": "notebook", "kernel": kernel}
        self._request("POST", "api/sessions", json=body)
        self._browser.set_offline(False)  # a test that has failed may have left it so
        page = self._browser.new_page()
        page.set_default_timeout(60_000)
        # on a busy machine JupyterLab sometimes asks the user to select a kernel
        page.add_locator_handler(
            page.locator(".jp-Dialog", has_text="Select kernel for"),
            lambda dialog: dialog.locator(".jp-mod-accept").click(),
        )
        where = "notebooks" if app == "notebook" else f"{new_workspace()}/tree"
        page.goto(f"{self._lab.url}api?token={self._lab.token}")
        page.evaluate(FORGET)
        page.goto(f"{self._lab.url}{where}/{path.name}?token={self._lab.token}")
        opened = LabPage(page, path)
        opened.run_first_cell()
        return opened

    def kept(self, code: str) -> LabPage:
        """Execute code in the reused notebook."""
        if self._kept is None:
            self._kept = self.new("notebook", "pass")
            # the style of a theme that was chosen comes after that of panels
            self._kept.set_theme("Dark")
        _close_dialog(self._kept.page)
        self._kept.run(code)
        return self._kept

    def plain(self) -> Page:
        """Return the reused page without a notebook."""
        if self._plain is None:
            self._plain = open_lab(self._browser, self._lab)
        _close_dialog(self._plain)
        self._plain.keyboard.press("Escape")
        self._plain.evaluate(EMPTY)
        self._plain.evaluate(FORGET)
        self._plain.set_viewport_size({"width": 1280, "height": 900})
        expect(self._plain.locator(".jp-Launcher")).to_be_visible()
        return self._plain

    def leave_plain(self) -> None:
        """Close the reused page without a notebook, in which a test has failed."""
        if self._plain is not None:
            self._plain.close()
            self._plain = None

    def leave(self, opened: LabPage, *, failed: bool) -> None:
        """Close a page and end its kernel, unless it can be used again."""
        if opened is self._kept and not failed:
            return
        if opened is self._kept:
            self._kept = None
        opened.page.close()
        for found in self._request("GET", "api/sessions").json():
            if found["path"] == opened.path.name:
                # 500 while the kernel is being restarted; it ends with its server at the latest
                self._session.delete(f"{self._lab.url}api/sessions/{found['id']}", timeout=60)

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = self._session.request(method, f"{self._lab.url}{path}", timeout=60, **options)
        answer.raise_for_status()
        return answer


def open_lab(browser: BrowserContext, lab: JupyterProcess) -> Page:
    """Open JupyterLab in a new page, with an empty layout."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{lab.url}{new_workspace()}?token={lab.token}")
    expect(page.locator(".jp-Launcher")).to_be_visible(timeout=60_000)
    return page


def _close_dialog(page: Page) -> None:
    """Close what JupyterLab said when a test took the browser, and all its pages, offline."""
    lost = page.locator(".jp-Dialog", has_text="Server Connection Error")
    if lost.count():
        lost.get_by_role("button", name="Close").click()


@pytest.fixture(scope="package")
def pages(browser: BrowserContext, lab: JupyterProcess) -> Pages:
    """The pages of JupyterLab."""
    return Pages(browser, lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Store for fixtures whether their test has failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def open_notebook(
    pages: Pages, lab: JupyterProcess, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A function that executes code in a notebook, in JupyterLab or Notebook 7.

    Its arguments are the code, the ``theme``, the ``app`` (``"lab"`` or ``"notebook"``), the
    ``width`` of the window, and whether page and kernel must be ``fresh``: for tests that reload
    the page, end the kernel or measure it. A second notebook of a test is fresh, too.
    """
    shown: list[LabPage] = []

    def start(
        code: str,
        *,
        theme: str = "Light",
        app: str = "lab",
        width: int = 1280,
        fresh: bool = False,
    ) -> LabPage:
        if app != "lab" or fresh or shown:
            opened = pages.new(f"{request.node.originalname}-{len(shown)}", code, app)
        else:
            opened = pages.kept(code)
        shown.append(opened)
        opened.page.set_viewport_size({"width": width, "height": 1000})
        if app == "lab":
            opened.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
            opened.set_theme(theme)
        return opened

    yield start
    failed = FAILED in request.node.stash
    for number, opened in enumerate(shown):
        opened.shoot(f"{request.node.name}-end-{number}")
        pages.leave(opened, failed=failed)
    comfy = Comfy(lab.url, lab.token)
    for status in ("queued", "running") if failed else ():
        for run in comfy.runs(status=status):
            run.cancel()  # it would delay the next test


@pytest.fixture
def lab_page(pages: Pages, request: pytest.FixtureRequest) -> Iterator[Page]:
    """JupyterLab without a notebook: what earlier tests have opened in the page is closed."""
    yield pages.plain()
    if FAILED in request.node.stash:
        pages.leave_plain()


@pytest.fixture
def open_run_panel(open_notebook: Any, lab: JupyterProcess) -> Any:
    """A function that opens a RunPanel of a graph, whose file is beside the notebook."""

    def start(graph: dict[str, Any], name: str = "graph.json", **options: Any) -> Any:
        (lab.root / name).write_text(json.dumps(graph))
        opened = open_notebook(PANEL.format(name), **options)
        expect(opened.panel.get_by_role("combobox", name="Workflow")).to_have_value(name)
        return opened

    return start


@pytest.fixture
def looks(open_notebook: Any) -> Iterator[Looks]:
    """The page of a notebook whose panels are compared."""
    taken = Looks(open_notebook("pass", width=1440))
    yield taken
    assert not taken.problems, "\n".join(taken.problems)


@pytest.fixture(scope="package")
def empty_server(start_shared_jupyter, comfyui, tmp_path_factory) -> JupyterProcess:
    """A Jupyter server in front of the shared ComfyUI, for panels that are compared."""
    return start_shared_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.base_dir),
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("empty_server")),
        }
    )


@pytest.fixture
def empty(empty_server: JupyterProcess, comfyui: ComfyUIServer) -> Comfy:
    """A client of a server without workflows, runs and cached nodes."""
    comfy = Comfy(empty_server.url, empty_server.token)
    for path in (comfyui.base_dir / "user/default/workflows").glob("*.json"):
        path.unlink()
    for found in comfy.workflows.list():
        found.delete()
    comfy.free()  # results show how many nodes were cached; it is done before the run after next
    comfy.run({"1": paper(color=1), "2": node("PreviewImage", images=["1", 0])})
    runs = comfy.runs(limit=1000)
    comfy.runs.pin(runs, False)
    comfy.runs.delete(runs)
    return comfy
