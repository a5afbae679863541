"""Measures the memory of a page with many pictures, and how smoothly many runs are scrolled.

- A sweep of 200 points with pictures of 1024 x 1024: what the process of the page takes more than
  with a sweep of one point, after each point was in sight and twenty were enlarged.
- The gallery of a run with 200 such pictures: what it takes more than before, in the same way.
- The history of 1,000 runs, scrolled from its beginning to its end: how many frames take longer
  than 50 ms (long animation frames). The reference is the same number of plain cards.
- The kernel of the sweep: the longest time that it lets no other thread run, while it follows the
  sweep and draws its sheet.

The memory is that which the process shares with no other (``USS``).
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import psutil
import requests

from .common import Figure, report, run, running_comfyui
from .panel_appears import lab_in_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.helpers.jupyter import JupyterProcess

PICTURES, SIDE, RUNS = 200, 1024, 1000
MEGABYTE = 1_000_000
POINTS = f"{{'color': [n * 81000 for n in range({PICTURES})]}}"
SETUP = """\
import comfydeploy_jupyter
comfy = comfydeploy_jupyter.connect()
comfy.sweep("paper.json", {'color': [1]}, save=False)"""
SWEEP = f"""\
import threading, time
gaps, over = [], threading.Event()
def tick():
    last = time.perf_counter()
    while not over.wait(0.005):
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
ticks = threading.Thread(target=tick)
ticks.start()
sweep = comfy.sweep("paper.json", {POINTS}, save=False)
content = sweep.to_png()
over.set()
ticks.join()
print("longest gap", max(gaps))"""
GALLERY = 'comfydeploy_jupyter.RunPanel("batch.json", comfy=comfy)'
HISTORY = 'comfydeploy_jupyter.RunPanel("small.json", comfy=comfy)'
PLAIN = f"""\
import ipywidgets as w
card = "<div style='height:148px;width:128px;float:left'>card</div>"
w.HTML(f"<div class='plain-wall' style='height:540px;overflow-y:auto'>{{card * {RUNS}}}</div>")"""

# The frames of more than 50 ms while an element is scrolled to its end, in 3 seconds.
SCROLL = """async (element) => {
    let long = 0;
    const observer = new PerformanceObserver((list) => { long += list.getEntries().length; });
    observer.observe({ type: "long-animation-frame" });
    const start = performance.now();
    await new Promise((done) => {
        const step = () => {
            const part = Math.min(1, (performance.now() - start) / 3000);
            element.scrollTop = part * (element.scrollHeight - element.clientHeight);
            if (part < 1) requestAnimationFrame(step); else setTimeout(done, 500);
        };
        requestAnimationFrame(step);
    });
    observer.disconnect();
    return long;
}"""


def paper(batch: int, side: int) -> dict[str, Any]:
    """Return a workflow that makes a batch of pictures."""
    picture = {"width": side, "height": side, "batch_size": batch, "color": 0x336699}
    return {
        "1": {"class_type": "EmptyImage", "inputs": picture},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def memory_of(browser: Browser, page: Page) -> float:
    """Return the memory of the largest process that renders a page, MB, without garbage."""
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(2000)
    session = browser.new_browser_cdp_session()
    sizes = []
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            with contextlib.suppress(psutil.Error):
                sizes.append(psutil.Process(int(process["id"])).memory_full_info().uss / MEGABYTE)
    return max(sizes)


def see_all(page: Page, buttons: str) -> None:
    """Walk through all pictures with the keys, and enlarge twenty of them."""
    pictures = page.locator(buttons)
    pictures.first.focus()
    for _ in range(PICTURES):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(20)
    page.wait_for_function(
        "buttons => [...document.querySelectorAll(`${buttons} img`)].every(one => one.complete"
        " && one.naturalWidth)",
        arg=buttons,
    )
    pictures.first.press("Enter")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(150)
    page.keyboard.press("Escape")
    page.wait_for_timeout(1000)


def make_runs(lab: JupyterProcess) -> None:
    """Execute the workflow whose history is scrolled."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"token {lab.token}"
    graph = paper(1, 64)
    for number in range(RUNS):
        graph["1"]["inputs"]["color"] = number
        body = {"workflow_api": graph, "wait": number == RUNS - 1, "prompt_id": str(uuid.uuid4())}
        session.post(f"{lab.url}comfyui-deploy/run", json=body, timeout=600).raise_for_status()


def measure(lab: JupyterProcess, browser: Browser) -> list[Figure]:
    """Open the notebook, run its cells one after another, and measure."""
    page = browser.new_page(viewport={"width": 1440, "height": 1200})
    page.set_default_timeout(600_000)
    page.goto(f"{lab.url}lab/tree/bench.ipynb?token={lab.token}&reset")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    boxes = page.locator(".jp-Notebook .jp-CodeCell")

    def start(number: int) -> None:
        boxes.nth(number).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")

    while not re.search(r"\d", boxes.first.locator(".jp-InputPrompt").inner_text()):
        start(0)
        page.wait_for_timeout(2_000)
    page.locator(".comfydeploy-sheet img").wait_for()
    figures = []
    plain = memory_of(browser, page)
    start(1)
    printed = page.locator(".jp-OutputArea-output", has_text=re.compile(r"longest gap \d"))
    text = printed.inner_text()
    see_all(page, ".comfydeploy-sheet:has([data-index='9']) .cd-picture-button")
    figures.append(_memory(f"a sweep of {PICTURES} points", memory_of(browser, page), plain))
    gap = float(text.split()[-1]) * 1000
    figures.append(Figure("its kernel: the longest gap of a thread", gap, 5.0, "added", 300.0))
    before = memory_of(browser, page)
    start(2)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".comfydeploy-gallery .cd-picture-button").nth(PICTURES - 1).wait_for()
    see_all(page, ".comfydeploy-gallery .cd-picture-button")
    figures.append(_memory(f"a gallery of {PICTURES} pictures", memory_of(browser, page), before))
    start(3)
    start(4)
    reference = page.locator(".plain-wall").evaluate(SCROLL)
    wall = page.locator(".cd-wall").last
    wall.locator(".cd-run").first.wait_for()
    long = wall.evaluate(SCROLL)
    name = f"frames over 50 ms in {RUNS} runs"
    figures.append(Figure(name, long, reference, "added", 3.0, "frames"))
    return figures


def _memory(name: str, value: float, reference: float) -> Figure:
    return Figure(f"{name}: memory of the page", value, reference, "added", 150.0, "MB")


def main() -> int:
    """Measure, print, and return the exit code."""
    workflows = {"paper": (1, SIDE), "batch": (PICTURES, SIDE), "small": (1, 64)}
    files = {f"{name}.json": json.dumps(paper(*sizes)) for name, sizes in workflows.items()}
    sources = (SETUP, SWEEP, GALLERY, PLAIN, HISTORY)
    with (
        running_comfyui() as comfyui,
        lab_in_browser(comfyui, sources, files) as (lab, browser),
    ):
        make_runs(lab)
        figures = measure(lab, browser)
    return report(*figures)


if __name__ == "__main__":
    run(main)
