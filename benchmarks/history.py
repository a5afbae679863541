"""Measures a history of 100,000 runs: how smoothly it is scrolled, and requests for its pages.

- The list in a real browser is scrolled for five seconds slowly, and for five seconds through all
  of it: how much processor time the main thread of the page takes for each frame, and the longest
  of its tasks. The reference is a list of as many pixels whose entries are there.
- A page of 60 entries in the middle of the list, one that is jumped to, and the newest one with
  the number of all: how long the server takes. The reference is the same request of 100 runs.
- The longest time that these requests and a search block the event loop, of which only what
  Jupyter's process computes counts.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from comfydeploy_jupyter import connect
from tests.helpers.graphs import SUNSET

from .common import Figure, report, run, running_comfyui, running_jupyter, seconds
from .panel_appears import FLAGS

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from .common import Jupyter

RUNS, FEW, REQUESTS = 100_000, 100, 20
COPY = """\
WITH RECURSIVE places (place) AS (SELECT ? UNION ALL SELECT place + 1 FROM places WHERE place < ?)
INSERT INTO runs ({columns}, prompt_id, created_at, record)
SELECT {columns}, printf('%s-%d', prompt_id, place),
  strftime('%Y-%m-%dT%H:%M:%fZ', created_at, printf('-%d seconds', 250 * place)),
  json_set(record, '$.inputs', json_object('6.text', printf('a fox, number %d', place),
    '5.color', place * 7919 % 16777216), '$.seeds', json_object('3.seed', place * 104729))
FROM runs JOIN places WHERE prompt_id = ?"""
"""Copies a run, the copies ever older."""

# Scrolls an element for five seconds and returns the number of frames.
SCROLL = """async ([selector, far]) => {
    const wall = document.querySelector(selector);
    let frames = 0;
    const whole = wall.scrollHeight - wall.clientHeight;
    await new Promise(done => {
        let begin = 0;
        const frame = now => {
            begin ||= now;
            frames += 1;
            const share = (now - begin) / 5000;
            if (share >= 1) return done();
            wall.scrollTop = far ? share * whole : wall.scrollTop + 30;
            requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
    });
    return frames;
}"""
PLAIN = """height => {
    const wall = document.createElement('div');
    wall.className = 'plain-wall';
    wall.style = 'height: 500px; overflow-y: auto';
    wall.innerHTML = `<div style="height: ${height}px">` + '<p>An entry</p>'.repeat(40) + '</div>';
    document.body.prepend(wall);
}"""
CATEGORIES = ["disabled-by-default-devtools.timeline", "toplevel", "__metadata"]
CARDS = "/comfyui-deploy/runs/cards?limit=60&batches=true&structure="


def copy_run(store: Path, prompt_id: str, count: int, *, beginning: int = 0) -> str:
    """Add copies of a run to a store, by their numbers; return the structure of the run."""
    with closing(sqlite3.connect(store)) as connection, connection:
        rows = connection.execute("PRAGMA table_info(runs)")
        own = ("id", "prompt_id", "created_at", "record")
        columns = ", ".join(row[1] for row in rows if row[1] not in own)
        connection.execute(COPY.format(columns=columns), (beginning + 1, count, prompt_id))
        which = "SELECT structure FROM runs WHERE prompt_id = ?"
        return str(connection.execute(which, (prompt_id,)).fetchone()[0])


def scrolled(page: Page, selector: str) -> tuple[float, float]:
    """Scroll an element slowly and through all of it; return ms for each frame, and the longest."""
    session = page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    ended: list[object] = []
    session.on("Tracing.dataCollected", lambda found: events.extend(found["value"]))
    session.on("Tracing.tracingComplete", lambda found: ended.extend([found]))
    config = {"includedCategories": CATEGORIES}
    session.send("Tracing.start", {"traceConfig": config, "transferMode": "ReportEvents"})
    frames = sum(page.evaluate(SCROLL, [selector, far]) for far in (False, True))
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(100)
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event["tdur"] / 1000
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) in main and "tdur" in event
    ]
    return sum(tasks) / frames, max(tasks)


def duration(jupyter: Jupyter, path: str) -> float:
    """Return the median of the duration of a request, ms."""
    took = [seconds(lambda: jupyter.get(path))() for _ in range(REQUESTS)]
    return statistics.median(took) * 1000


def blocked(jupyter: Jupyter) -> float:
    """Return how long the process computed in the longest gap of the loop, ms; begin anew."""
    gaps = jupyter.get("/benchmark/ticker")["gaps"]
    return max((computed for _, computed in gaps), default=0.0) * 1000


def main() -> int:
    """Measure, print, and return the exit code."""
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, extensions={"benchmarks.ticker": True}) as jupyter,
    ):
        comfy = connect(f"http://{jupyter.host}:{jupyter.port}/", token=jupyter.token)
        workflow_id = comfy.workflows.save(SUNSET, "Sunset").id
        first = comfy.run(workflow_id=workflow_id).prompt_id
        store = jupyter.log_path.parent / "data" / "comfydeploy.db"
        structure = copy_run(store, first, FEW)
        of_few = duration(jupyter, CARDS + structure)
        copy_run(store, first, RUNS, beginning=FEW)
        newest = jupyter.get(CARDS + structure)
        middle = f"{CARDS}{structure}&count=false&cursor={newest['start']}&offset={RUNS // 2}"
        following = f"{CARDS}{structure}&count=false&cursor={jupyter.get(middle)['next']}"
        blocked(jupyter)
        time.sleep(5)
        at_rest = blocked(jupyter)
        took = [duration(jupyter, each) for each in (following, middle, CARDS + structure)]
        jupyter.get(f"/comfyui-deploy/runs/cards?structure={structure}&search=color+f06fa0")
        at_work = blocked(jupyter)
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto(
                f"http://{jupyter.host}:{jupyter.port}/comfyui-deploy/app"
                f"?workflow_id={workflow_id}&token={jupyter.token}"
            )
            page.locator(".comfydeploy-history").wait_for(state="attached")
            while not page.locator(".cd-wall li img[src]").count():
                page.locator(".comfydeploy-history").evaluate("each => each.scrollIntoView()")
                page.wait_for_timeout(200)
            frame, longest = scrolled(page, ".cd-wall")
            page.evaluate(PLAIN, page.locator(".cd-runs").evaluate("each => each.offsetHeight"))
            plain, longest_plain = scrolled(page, ".plain-wall")
            browser.close()
    return report(
        Figure("the page computes for a frame", frame, plain, "added", 8.0),
        Figure("its longest task", longest, longest_plain, "added", 30.0),
        Figure("the next page in the middle", took[0], of_few, "added", 2.0),
        Figure("a jump to the middle", took[1], of_few, "added", 30.0),
        Figure("the newest page, counted", took[2], of_few, "added", 30.0),
        Figure("the event loop is blocked", at_work, at_rest, "added", 20.0),
    )


if __name__ == "__main__":
    run(main)
