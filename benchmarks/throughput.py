"""Measures how many trivial runs of a pool one Jupyter server processes in a second.

The members are servers that answer like ComfyUI at once (see `instant_comfyui`), since real ones
would need most of a small machine. Clients in processes of their own wait for the result of
each run. Other programs slow them all, so the bound is for the processor time that Jupyter takes
for a run: with 1/300 s, one core processes 300 in a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter import connect
from tests.helpers.comfyui import free_port
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until

from .common import Figure, Jupyter, OurClient, report, run

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL = "all"
MEMBERS = 4
CLIENTS = 16  # runs at the same time
EACH = 300  # runs a second


def processor_time(pid: int) -> float:
    """Return the processor time of a process, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work(jupyter: Jupyter, runs: int, wait: bool) -> None:
    """Run a graph many times, a few at the same time; wait for each, or only queue it."""

    def several(count: int) -> None:
        client = OurClient(jupyter)
        for _ in range(count):
            text = {"text": "", "token": uuid.uuid4().hex}
            graph = {"1": {"class_type": "TestText", "inputs": text}}
            if wait:
                client.run(graph, machine=POOL)
            else:
                client.queue(graph, machine=POOL)
        client.close()

    with ThreadPoolExecutor(CLIENTS // 2) as threads:
        list(threads.map(several, [runs * 2 // CLIENTS] * (CLIENTS // 2)))


def measure(jupyter: Jupyter, runs: int) -> list[Figure]:
    """Execute runs, and return the figures."""
    comfy = connect(f"http://{jupyter.host}:{jupyter.port}", token=jupyter.token)
    found = []
    with ProcessPoolExecutor(2) as clients:
        for what, wait in {"warm up": True, "waited for": True, "only queued": False}.items():
            started, begun = processor_time(jupyter.pid), time.perf_counter()
            count = 400 if what == "warm up" else runs
            list(clients.map(work, [jupyter] * 2, [count // 2] * 2, [wait] * 2))
            until(
                lambda: comfy.server.get("check-status")["queue"],
                lambda queue: not any(queue.values()),
                timeout=300,
            )
            took = time.perf_counter() - begun
            spent = 1000 * (processor_time(jupyter.pid) - started) / count
            name = f"processor time of a trivial run that is {what} ({count / took:.0f} a second)"
            found.append(Figure(name, spent, 1000 / EACH, "ratio", 1.0))
    return found[1:]


@contextlib.contextmanager
def instant_pool(**settings: Any) -> Iterator[Jupyter]:
    """Run a Jupyter server with a pool of members that answer at once."""
    ports = [free_port() for _ in range(MEMBERS)]
    command = [sys.executable, "-m", "tests.helpers.instant_comfyui", *map(str, ports)]
    members = subprocess.Popen(command, cwd=REPOSITORY)
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as temporary:
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        extensions = {"comfydeploy_jupyter": True, "benchmarks.ticker": True}
        settings = {"comfyui_url": addresses[0], **settings}
        jupyter = Jupyter(Path(temporary), extensions=extensions, settings=settings)
        try:
            jupyter.start()
            jupyter.wait_connected()
            comfy = connect(f"http://{jupyter.host}:{jupyter.port}", token=jupyter.token)
            names = ["local"]
            for number, address in enumerate(addresses[1:], 1):
                names.append(comfy.machines.create(f"m{number}", comfyui_url=address).id)
            comfy.machines.create(POOL, members=names)
            until(
                lambda: {machine.status for machine in comfy.machines.list()},
                lambda states: states == {"ready"},
                timeout=60,
            )
            yield jupyter
        finally:
            jupyter.stop()
            members.kill()


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3_000)
    options = parser.parse_args()
    with instant_pool() as jupyter:
        return report(*measure(jupyter, options.runs))


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("the time of the server's process is read from /proc")
    run(main)
