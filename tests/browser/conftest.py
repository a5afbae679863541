"""A real JupyterLab in a real browser."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import axe, looks
from tests.helpers.cloudflared import FakeCloudflared
from tests.helpers.processes import REPOSITORY
from tests.helpers.transfer_service import Service, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, FloatRect, Locator

    from tests.helpers.jupyter import JupyterProcess

expect.set_options(timeout=30_000)

SHOWN = {
    "all-Light-lab-run": "comfydeploy-panel",
    "run-lab-Light-done": "run-panel",
    "workflows-Light-nodes": "workflow-panel",
    "upload-Light-done": "upload-panel",
    "tunnel-Light-running": "tunnel-panel",
}
"""Pictures in the documents, by their names in the tests."""

FAILED = pytest.StashKey[bool]()
SCREENSHOTS = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else None
"""The folder for screenshots of all tests, if the variable is set."""

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
    shutil.copy(REPOSITORY / "notebooks" / "sunset.json", server.root)
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
        """Execute other code in place of that of the first cell, without the output of that."""
        self.page.evaluate(
            """async code => {
                const { commands, shell } = window.jupyterapp;
                const [cell] = shell.currentWidget.content.widgets;
                await commands.execute("notebook:clear-cell-output");
                cell.model.sharedModel.setSource(code);
            }""",
            code,
        )
        expect(self.panel).to_have_count(0)
        self.run_first_cell()

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
        return self.page.locator(".comfydeploy-panel")

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
            small.save(REPOSITORY / "docs" / "images" / f"{SHOWN[name]}.png", optimize=True)
        if looks.is_compared(name) and (clip := self._visible_panel()) is not None:
            looks.check(name, self.page.screenshot(clip=clip, animations="disabled"))

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


class Sessions:
    """The kernels of the notebooks in JupyterLab."""

    def __init__(self, lab: JupyterProcess) -> None:
        self._url = f"{lab.url}api/sessions"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"token {lab.token}"

    def start(self, path: str) -> None:
        """Start the kernel of a notebook, so that it starts while its page is loaded."""
        kernel = {"name": "python3"}
        body = {"path": path, "name": path, "type": "notebook", "kernel": kernel}
        self._session.post(self._url, json=body, timeout=60).raise_for_status()

    def end(self) -> None:
        """End all kernels, whose panels would slow down later tests."""
        for found in self._session.get(self._url, timeout=60).json():
            self._session.delete(f"{self._url}/{found['id']}", timeout=60)


CLEAR = """() => {
    for (const widget of [...window.jupyterapp.shell.widgets("main")]) widget.dispose();
}"""
SHOW = """async ([path, theme]) => {
    const app = window.jupyterapp;
    await app.commands.execute("apputils:change-theme", { theme });
    await app.commands.execute("docmanager:open", { path, factory: "Notebook" });
    for (const widget of [...app.shell.widgets("main")]) {
        if (widget.context?.path !== path) widget.dispose();  // the launcher
    }
}"""


class Pages:
    """The pages of JupyterLab; one is reused, since loading it takes longer than most tests."""

    def __init__(self, browser: BrowserContext, lab: JupyterProcess) -> None:
        self._browser = browser
        self._lab = lab
        self._kept: Page | None = None

    def new(self, address: str) -> Page:
        """Return a new page at an address below that of the server."""
        page = self._browser.new_page()
        page.set_default_timeout(60_000)
        # on a busy machine JupyterLab sometimes asks the user to select a kernel
        page.add_locator_handler(
            page.locator(".jp-Dialog", has_text="Select kernel for"),
            lambda dialog: dialog.locator(".jp-mod-accept").click(),
        )
        reset = "&reset" if address.startswith("lab") else ""
        page.goto(f"{self._lab.url}{address}?token={self._lab.token}{reset}")
        return page

    def kept(self, path: str, theme: str) -> Page:
        """Return the reused page with a notebook in it."""
        if self._kept is None:
            self._kept = self.new("lab")
            self._kept.wait_for_function("() => window.jupyterapp?.restored")
            self._kept.evaluate("() => window.jupyterapp.restored")
            self._kept.evaluate(CLEAR)
        self._kept.evaluate(SHOW, [path, theme])
        return self._kept

    def leave(self, page: Page, *, changed: bool) -> None:
        """Close a page; close the reused one only if a test has changed it."""
        if page is not self._kept:
            page.close()
        elif changed:
            page.close()
            self._kept = None
        else:
            page.evaluate(CLEAR)


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
    lab: JupyterProcess, pages: Pages, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A function that opens a notebook with one cell, in JupyterLab or Notebook 7.

    Its arguments are the cell's code, the ``theme``, the ``app`` (``"lab"`` or ``"notebook"``), the
    ``width`` of the window, and whether the page must be ``fresh``: for tests that reload it,
    measure it or change its network.
    """
    sessions = Sessions(lab)
    shown: list[LabPage] = []

    def start(
        name: str,
        code: str,
        *,
        theme: str = "JupyterLab Light",
        app: str = "lab",
        width: int = 1280,
        fresh: bool = False,
    ) -> LabPage:
        cell = nbformat.v4.new_code_cell(code)
        notebook = nbformat.v4.new_notebook(
            cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        )
        path = lab.root / f"{name}.ipynb"
        nbformat.write(notebook, path)
        sessions.start(path.name)
        settings = lab.folder / "config/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        if app == "lab" and not fresh and not shown:
            page = pages.kept(path.name, theme)
        else:
            page = pages.new(f"{'notebooks' if app == 'notebook' else 'lab/tree'}/{path.name}")
        page.set_viewport_size({"width": width, "height": 1000})
        opened = LabPage(page, path)
        shown.append(opened)
        opened.run_first_cell()
        return opened

    yield start
    for number, opened in enumerate(shown):
        opened.shoot(f"{request.node.name}-end-{number}")
        pages.leave(opened.page, changed=FAILED in request.node.stash)
    sessions.end()
