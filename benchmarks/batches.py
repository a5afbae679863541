"""Measures batches: how they are submitted, run, read and shown as contact sheets.

The members of the pool answer at once (see `instant_comfyui`), so that a point costs only what
Jupyter does for it. The reference of the points are as many single runs of the same pool, that of
the sheet the same pictures, made small by plain processes with Pillow. Stalls are those of
`benchmarks.ticker`: the time in which Jupyter's process computed while its event loop waited. Of
several submissions, the best one counts: other programs slow them, and what we do is in each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import requests

from comfydeploy_jupyter import connect
from comfydeploy_jupyter.files.thumbnails import thumbnail
from tests.helpers.comfyui import comfyui_tree
from tests.helpers.waiting import until

from .common import Figure, report, run, seconds
from .loop_stalls import gaps
from .throughput import EACH, POOL, instant_pool, processor_time, work

if TYPE_CHECKING:
    from .common import Jupyter

SUBMITTED = 10_000  # points of the batch that is submitted
OUTPUTS = 3_000  # points of the batch over the outputs of another
PICTURES = 1_000
DIFFERENT = 50  # of them
SIDE = 512  # of each picture, pixels
SMALL = 97  # the same on a sheet of so many
PAGE = 100  # points


class Batches:
    """Batches of a Jupyter server."""

    def __init__(self, jupyter: Jupyter) -> None:
        self.jupyter = jupyter
        self.comfy = connect(f"http://{jupyter.host}:{jupyter.port}", token=jupyter.token)

    def submit(self, values: Any, **fields: Any) -> str:
        """Submit a batch with a point for each text, or for what ``$each`` has; return its id."""
        class_type = fields.pop("class_type", "TestText")
        inputs = {"text": "", "token": uuid.uuid4().hex}
        body = {
            "workflow_api": {"1": {"class_type": class_type, "inputs": inputs}},
            "inputs": {"1.text": {"$vary": values} if isinstance(values, list) else values},
            **fields,
        }
        return str(self.comfy.server.post("batch", body)["batch_id"])

    def end(self, batch_id: str) -> None:
        """Wait until a batch has ended with success."""
        found = until(
            lambda: self.comfy.server.get(f"batch/{batch_id}"),
            lambda batch: batch["finished_at"],
            timeout=600,
        )
        if found["counts"] != {"success": found["total"]}:
            raise RuntimeError(f"points have failed: {found['counts']}")

    def cost(self, do: Any, count: int) -> tuple[float, float]:
        """Return Jupyter's processor time for each of some points, ms, and how many a second."""
        started, begun = processor_time(self.jupyter.pid), time.perf_counter()
        do()
        spent = processor_time(self.jupyter.pid) - started
        return 1000 * spent / count, count / (time.perf_counter() - begun)


def of_points(batches: Batches, count: int) -> list[Figure]:
    """Compare points with single runs of the pool, in turns."""

    def singles() -> None:
        work(batches.jupyter, count, wait=False)
        until(
            lambda: batches.comfy.server.get("check-status")["queue"],
            lambda queue: not any(queue.values()),
            timeout=300,
        )

    def points() -> None:
        batches.end(batches.submit([str(number) for number in range(count)], machine=POOL))

    works = singles, points
    found: list[list[tuple[float, float]]] = [[], []]
    for _ in range(2):  # the first turn warms up
        found = [[], []]
        for each in (0, 1, 1, 0):
            found[each].append(batches.cost(works[each], count))
    (run_ms, _), (point_ms, rate) = (
        tuple(map(statistics.fmean, zip(*turns, strict=True))) for turns in found
    )
    name = f"processor time of a trivial point ({rate:.0f} a second)"
    return [
        Figure(f"{name}, beside a single run of the pool", point_ms, run_ms, "ratio", 1.0),
        Figure(name, point_ms, 1000 / EACH, "ratio", 1.0),
    ]


def of_requests(batches: Batches) -> list[Figure]:
    """Measure the submission of many points, the stalls of the loop, and a page of them."""
    texts = [str(number) for number in range(SUBMITTED)]
    took, stalls, rest, found = [], [], [], ""
    for _ in range(5):
        gaps(batches.jupyter)
        begun = time.perf_counter()
        found = batches.submit(texts, paused=True)
        took.append(time.perf_counter() - begun)
        stalls.append(max(gap.computed for gap in gaps(batches.jupyter)))
        time.sleep(took[-1])
        rest.append(max(gap.computed for gap in gaps(batches.jupyter)))
    path = f"batch/{found}/points?limit={PAGE}&offset={SUBMITTED // 2}"
    page = seconds(lambda: batches.comfy.server.get(path))
    pages = min(page() for _ in range(50))
    return [
        Figure(f"{SUBMITTED} points submitted", 1000 * min(took), 1000, "ratio", 1.0),
        Figure(
            "longest gap of the event loop then, computing",
            min(stalls),
            min(rest),
            "added",
            20.0,
        ),
        Figure(f"a page of {PAGE} points", 1000 * pages, 10, "ratio", 1.0),
    ]


def of_outputs(batches: Batches) -> list[Figure]:
    """Measure how the points of a batch are made of the outputs of another one."""
    texts = [str(number) for number in range(OUTPUTS)]
    source = batches.submit(texts, machine=POOL)
    batches.end(source)
    took, stalls, rest = [], [], []
    gaps(batches.jupyter)
    for _ in range(5):
        time.sleep(1)
        rest.append(max(gap.computed for gap in gaps(batches.jupyter)))
        begun = time.perf_counter()
        found = batches.submit({"$each": {"batch": source}}, paused=True)
        read = functools.partial(batches.comfy.server.get, f"batch/{found}")
        until(read, lambda batch: batch["total"] == OUTPUTS)
        took.append(time.perf_counter() - begun)
        stalls.append(max(gap.computed for gap in gaps(batches.jupyter)))
    name = f"{OUTPUTS} points made of the outputs of a batch"
    return [
        Figure(name, 1000 * min(took), 1000, "ratio", 1.0),
        Figure(
            "longest gap of the event loop then, computing", min(stalls), min(rest), "added", 20.0
        ),
    ]


def of_sheets(batches: Batches, folder: Path, count: int) -> list[Figure]:
    """Compare a sheet with reading its pictures in plain processes."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if number < DIFFERENT:
            picture(number).save(path, compress_level=4)
        else:
            path.write_bytes(paths[number % DIFFERENT].read_bytes())
    found = batches.submit([path.name for path in paths], class_type="TestPicture", machine="local")
    batches.end(found)
    jupyter, server = batches.jupyter, batches.comfy.server
    last = server.get(f"batch/{found}/points", limit=1, offset=count - 1)["points"][0]["prompt_id"]
    until(lambda: server.get(f"runs/{last}/record"), lambda record: record["complete"], timeout=600)
    reference = seconds(lambda: plain(paths))
    plainly = statistics.median(reference() for _ in range(2))

    def sheet() -> None:
        address = f"http://{jupyter.host}:{jupyter.port}/comfyui-deploy/batch/{found}/sheet"
        answer = requests.get(address, headers=jupyter.headers, timeout=300)
        if answer.status_code != 200:
            raise RuntimeError(answer.text)

    gaps(jupyter)
    started = processor_time(jupyter.pid)
    first = seconds(sheet)()
    spent = processor_time(jupyter.pid) - started
    stall = max(gap.computed for gap in gaps(jupyter))
    again = seconds(sheet)()
    jupyter.stop()
    jupyter.start()
    jupyter.wait_connected()
    read = seconds(sheet)()
    name = f"the first sheet of {count} pictures of {SIDE} x {SIDE}"
    return [
        Figure(name, 1000 * first, 5000, "ratio", 1.0),
        Figure(name, 1000 * first, 1000 * plainly, "ratio", 0.6),
        Figure("processor time of Jupyter for it", 1000 * spent, 1000 * plainly, "ratio", 0.2),
        Figure("longest gap of the event loop then, computing", stall, 0, "added", 20.0),
        Figure("the next one", 1000 * again, 1000 * plainly, "ratio", 0.5),
        Figure(f"{name} after a restart", 1000 * read, 1000 * plainly, "ratio", 0.6),
    ]


def picture(number: int) -> PIL.Image.Image:
    """Return a picture that is as hard to read as a photo."""
    grain = PIL.Image.effect_noise((SIDE, SIDE), 12)
    coarse = PIL.Image.effect_noise((SIDE // 8, SIDE // 8), 60).resize((SIDE, SIDE))
    grey = PIL.Image.blend(coarse, grain, 0.2)
    return PIL.Image.merge("RGB", (grey, grey.rotate(90), grey.point(lambda v: v + number)))


def plain(paths: list[Path]) -> None:
    """Make all pictures small in as many processes as there are processors."""
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as processes:
        list(processes.map(_small, paths, chunksize=50))


def _small(path: Path) -> int:
    with path.open("rb") as file:
        return len(thumbnail(file, SMALL))


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=2_000)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--only", choices=("points", "requests", "outputs", "sheets"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="comfydeploy-pictures-") as base:
        output = Path(base) / "output"
        output.mkdir()
        path, _ = comfyui_tree()
        arguments = ["--base-directory", base]
        with instant_pool(comfyui_path=str(path), launch_args=arguments) as jupyter:
            batches = Batches(jupyter)
            measures = {
                "points": functools.partial(of_points, batches, options.points),
                "requests": functools.partial(of_requests, batches),
                "outputs": functools.partial(of_outputs, batches),
                "sheets": functools.partial(of_sheets, batches, output, options.pictures),
            }
            names = [options.only] if options.only else [*measures]
            return report(*(figure for name in names for figure in measures[name]()))


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("the time of the server's process is read from /proc")
    run(main)
