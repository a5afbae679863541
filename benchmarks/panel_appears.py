"""Measures how soon a run panel is visible, and how soon it shows what is typed.

The first is the time from the key press that runs a cell until the fields of the workflow are
visible: of a small workflow, of the largest one of ComfyUI's templates if their package is
installed for its interpreter, and of one with 3,000 nodes, as a graph in API format and as the
editor saves it. The reference is a cell with an ``ipywidgets`` box of a few plain
fields, the cost of any widget; that of the template is the small workflow. Both run repeatedly and
in turns in one notebook in a real browser, and the page itself measures the time.
The first run of each loads scripts and is measured separately.

The second is the time from a key to the picture that shows its letter, in a form with 200 inputs.
The reference is a plain text field of ``ipywidgets``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from comfydeploy_jupyter import connect
from tests.browser.test_limits import many, typed_in
from tests.helpers.graphs import node
from tests.helpers.jupyter import JupyterProcess
from tests.helpers.processes import REPOSITORY

from .common import Figure, in_turns, report, run, running_comfyui

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from playwright.sync_api import Browser, Page

    from tests.helpers.comfyui import ComfyUIServer

PAIRS = 10
SETUP = "import comfydeploy_jupyter, ipywidgets as w\ncomfy = comfydeploy_jupyter.connect()"
PLAIN = "w.VBox([w.IntSlider(description=f'Field {i}') for i in range(8)])"
PANEL = 'comfydeploy_jupyter.RunPanel("sunset.json", comfy=comfy)'
LARGE = 'comfydeploy_jupyter.RunPanel("large.json", comfy=comfy)'
PLAIN_TEXT = "w.Text(description='Words')"
MANY = 'comfydeploy_jupyter.RunPanel("many.json", comfy=comfy)'
INPUTS = 200
NODES = 3000
HUGE = 'comfydeploy_jupyter.RunPanel("huge.json", comfy=comfy)'
HUGE_UI = 'comfydeploy_jupyter.RunPanel("huge_ui.json", comfy=comfy)'
WATCH = """(box, those) => {
    for (const each of box.querySelectorAll(those)) each.dataset.old = 1;
    const pressed = new Promise((resolve) => {
        const onKey = ({ key, timeStamp }) => key === "Enter" && resolve(timeStamp);
        addEventListener("keydown", onKey, { capture: true });
    });
    const shown = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`${those} does not appear`)), 120_000);
        const look = () => {
            const found = box.querySelector(`:is(${those}):not([data-old])`);
            if (!found?.checkVisibility()) return;
            watcher.disconnect();
            requestAnimationFrame(resolve); // with the time of the picture
        };
        const watcher = new MutationObserver(look);
        watcher.observe(box, { childList: true, subtree: true, attributes: true });
    });
    window.appearance = Promise.all([pressed, shown]).then(([from, to]) => (to - from) / 1000);
}"""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def largest_template(python: Path) -> Path | None:
    """Return the largest workflow of the templates of a ComfyUI with this interpreter, if any."""
    packages = python.parent.parent.glob("lib/python3*/site-packages")
    found = [
        path
        for package in packages
        for path in package.glob("comfyui_workflow_templates*/templates/*.json")
        if not path.name.startswith("index")
    ]
    return max(found, key=lambda path: path.stat().st_size, default=None)


def chains(number: int) -> dict[str, dict[str, Any]]:
    """Return a workflow with so many nodes, which are those of many plain workflows."""
    graph: dict[str, dict[str, Any]] = {}
    for at in range(0, number, 6):
        model, prompt, latent, sampler, image, end = map(str, range(at, at + 6))
        size = {"width": 512, "height": 512, "batch_size": 1}
        values = {"seed": at, "steps": 20, "cfg": 8.0, "denoise": 1.0}
        names = {"sampler_name": "euler", "scheduler": "normal"}
        links = {"model": [model, 0], "latent_image": [latent, 0]}
        texts = {"positive": [prompt, 0], "negative": [prompt, 0]}
        graph |= {
            model: node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly.safetensors"),
            prompt: node("CLIPTextEncode", f"Prompt {at}", text=f"fox {at}", clip=[model, 1]),
            latent: node("EmptyLatentImage", **size),
            sampler: node("KSampler", **values, **names, **links, **texts),
            image: node("VAEDecode", samples=[sampler, 0], vae=[model, 2]),
            end: node("SaveImage", images=[image, 0], filename_prefix=f"fox-{at}"),
        }
    return graph


def cell(source: str) -> dict[str, object]:
    """Return a cell of a notebook."""
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source))}",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


def shows(page: Page, position: int, selector: str, rest: float = 0.5) -> Callable[[], float]:
    """Return a function that runs one cell and returns the seconds until its output is visible."""
    box = page.locator(".jp-Notebook .jp-CodeCell").nth(position)

    def appears() -> float:
        box.locator(".cm-content").click()
        box.evaluate(WATCH, selector)  # playwright itself looks every 500 ms after some looks
        page.keyboard.press("Control+Enter")
        took = page.evaluate("window.appearance")
        page.wait_for_timeout(rest * 1000)  # so that later work does not count for the next cell
        return float(took)

    return appears


@contextlib.contextmanager
def lab_in_browser(
    comfyui: ComfyUIServer, sources: Iterable[str], files: Mapping[str, str]
) -> Iterator[tuple[JupyterProcess, Browser]]:
    """Start JupyterLab and a browser, and end both at last.

    Parameters
    ----------
    comfyui : ComfyUIServer
        The ComfyUI that JupyterLab uses.
    sources : iterable of str
        The cells of the notebook ``bench.ipynb``.
    files : dict of str to str
        The contents of the other files beside it, by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        lab = JupyterProcess(
            Path(folder, "jupyter"),
            {"ComfyDeploy": {"comfyui_url": comfyui.url, "data_dir": f"{folder}/data"}},
            lab=True,
        )
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "cells": [cell(source) for source in sources],
        }
        for name, text in {**files, "bench.ipynb": json.dumps(notebook)}.items():
            (lab.root / name).write_text(text)
        lab.start()
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
                yield lab, browser
                browser.close()
        finally:
            lab.stop()


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui:
        sunset = REPOSITORY / "notebooks" / "sunset.json"
        template = largest_template(comfyui.python)
        files = {
            "sunset.json": sunset.read_text(),
            "large.json": (template or sunset).read_text(),
            "many.json": json.dumps(many(INPUTS)),
            "huge.json": json.dumps(chains(NODES)),
        }
        sources = (SETUP + "\n'ready'", PLAIN, PANEL, LARGE, PLAIN_TEXT, MANY, HUGE, HUGE_UI)
        with lab_in_browser(comfyui, sources, files) as (lab, browser):
            comfy = connect(lab.url, token=lab.token)
            saved = comfy.load(lab.root / "huge.json").to_ui()
            (lab.root / "huge_ui.json").write_text(json.dumps(saved))
            page = browser.new_page(viewport={"width": 1280, "height": 1400})
            page.set_default_timeout(60_000)
            page.goto(f"{lab.url}lab/tree/bench.ipynb?token={lab.token}&reset")
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
            first = page.locator(".jp-Notebook .jp-CodeCell").first
            while not first.locator(".jp-OutputArea-output").count():
                first.locator(".cm-content").click()
                page.keyboard.press("Control+Enter")
                page.wait_for_timeout(2_000)
            plain = shows(page, 1, ".widget-slider")
            panel = shows(page, 2, ".comfydeploy-panel input")
            cold_plain, cold_panel = plain(), panel()
            theirs, ours = in_turns(plain, panel, PAIRS)
            page.set_default_timeout(120_000)
            large = shows(page, 3, ".comfydeploy-panel .cd-field")
            large()
            of_small, of_large = in_turns(panel, large, PAIRS)
            of_huge = {}
            for place, name in ((6, "API format"), (7, "the editor's format")):
                huge = shows(page, place, ".comfydeploy-panel .cd-field", rest=3.0)
                huge()
                of_huge[name] = statistics.median(huge() for _ in range(PAIRS // 2))
            shows(page, 4, ".widget-text")()
            shows(page, 5, ".comfydeploy-panel .cd-field")()
            typed = [
                typed_in(page.get_by_label(label, exact=True), "a harbour at dawn " * 5)
                for label in ("Words", "Text 0")
            ]
    return report(
        Figure("a panel appears, the first", cold_panel * 1000, cold_plain * 1000, "added", 1000.0),
        Figure(
            "a panel appears, median",
            statistics.median(ours) * 1000,
            statistics.median(theirs) * 1000,
            "added",
            1000.0,
        ),
        Figure(
            f"a panel with {template.name if template else 'no template'} appears, median",
            statistics.median(of_large) * 1000,
            statistics.median(of_small) * 1000,
            "added",
            100.0,
        ),
        *(
            Figure(
                f"a form of {NODES:,} nodes in {name} appears, median", took * 1000, 0, "added", 500
            )
            for name, took in of_huge.items()
        ),
        Figure(
            f"a letter is visible in a form with {INPUTS} inputs", typed[1], typed[0], "added", 50.0
        ),
    )


if __name__ == "__main__":
    run(main)
