"""Measures what a run costs that waits for a pool: memory, and the time to find and cancel it.

The services run in this process, without Jupyter and without a ComfyUI: the machines of the pool do
not answer, so that all runs wait. Each run is a workflow of `NODES` nodes that names a model.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.request_models import MachineCreate, RunRequest
from comfydeploy_jupyter.services import Services
from tests.helpers.comfyui import free_port

from .common import Figure, percentile, report, run

if TYPE_CHECKING:
    from .common import Graph

POOL = "cards"
NODES = 20
WARM_UP = 2_000  # runs before the memory is measured
FEW = 200  # runs that are looked at, and cancelled


def resident() -> int:
    """Return the memory of this process, bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def graph(number: int) -> Graph:
    """Return a workflow of some nodes in a row, the first of which loads a model."""
    found: Graph = {
        "0": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}}
    }
    for node in range(1, NODES):
        inputs: dict[str, Any] = {"anything": [str(node - 1), 0], "seed": number, "text": "a house"}
        found[str(node)] = {"class_type": f"Node{node}", "inputs": inputs}
    return found


async def measure(folder: Path, runs: int) -> list[Figure]:
    """Queue runs, and return the figures."""
    address = f"http://127.0.0.1:{free_port()}"
    services = Services(ComfyDeploy(data_dir=str(folder), comfyui_url=address))
    await services.open()
    await services.pools.create("pool", MachineCreate(name=POOL, kind="pool", members=["local"]))
    ids: list[str] = []

    async def submit(number: int) -> None:
        request = RunRequest(workflow_api=graph(number), machine=POOL, wait=False)
        ids.append((await services.runs.submit(request)).prompt_id)

    async def submit_all(first: int, last: int) -> None:
        for start in range(first, last, 50):
            await asyncio.gather(*map(submit, range(start, min(start + 50, last))))

    await submit_all(0, WARM_UP)
    before, begun = resident(), time.perf_counter()
    await submit_all(WARM_UP, runs)
    each = (resident() - before) / (runs - WARM_UP) / 1024
    seconds = time.perf_counter() - begun
    found = [
        Figure("memory of a waiting run", each, 1.0, "ratio", 1.0, "KiB"),
        Figure("to queue a run", 1000 * seconds / (runs - WARM_UP), 1.0, "ratio", 10.0),
    ]
    chosen = ids[:: max(len(ids) // FEW, 1)][:FEW]
    times: dict[str, list[float]] = {"its status": [], "its cancellation": []}
    for prompt_id in chosen:
        for what, spent in times.items():
            start = time.perf_counter()
            if what == "its status":
                reply = services.runs.reply(await services.runs.record(prompt_id))
                assert reply["queue_position"], reply
            else:
                await services.runs.interrupt(prompt_id, POOL)
            spent.append(1000 * (time.perf_counter() - start))
    for what, spent in times.items():
        name = f"{what}, median (p99 {percentile(spent, 99):.1f} ms)"
        found.append(Figure(name, statistics.median(spent), 1.0, "ratio", 20.0))
    assert services.runs.counts() == {"running": 0, "pending": runs - len(chosen)}
    await services.close()
    return found


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as temporary:
        return report(*asyncio.run(measure(Path(temporary), options.runs)))


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("the memory of this process is read from /proc")
    run(main)
