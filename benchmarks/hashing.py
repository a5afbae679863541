"""Measures hashing: 1 GiB compared with ``sha256sum``, a cached hash, and the event loop.

All requests use the route of a real Jupyter server, and the file is in the page cache. Our route
and the reference take turns.

Run: ``python -m benchmarks.hashing``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from .common import Figure, Jupyter, percentile, report, run

MIB = 1024 * 1024
SIZE = 1024 * MIB
ROUNDS = 7
REPEATS = 200
TRIVIAL = "/comfyui-deploy/check-ws-status"


class Visitor:
    """Requests a trivial route repeatedly while it is open, and stores the durations."""

    def __init__(self, jupyter: Jupyter) -> None:
        self._jupyter = jupyter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self.latencies: list[float] = []

    def __enter__(self) -> Visitor:
        self._over.clear()
        self._thread = threading.Thread(target=self._visit)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._over.wait(0.005):
            started = time.perf_counter()
            self._jupyter.get(TRIVIAL)
            self.latencies.append((time.perf_counter() - started) * 1000)


def reference(path: Path) -> tuple[str, float]:
    """Return the hash from ``sha256sum`` and its milliseconds."""
    started = time.perf_counter()
    done = subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True)
    return done.stdout.split()[0], (time.perf_counter() - started) * 1000


def ours(jupyter: Jupyter, name: str, *, cached: bool) -> tuple[str, float]:
    """Return the hash from the route and its milliseconds."""
    started = time.perf_counter()
    answer = jupyter.get(f"/comfyui-deploy/get-file-hash?filename={name}")
    took = (time.perf_counter() - started) * 1000
    assert answer["cached"] is cached
    return answer["file_hash"], took


def measure(jupyter: Jupyter, path: Path) -> int:
    """Measure, print, and return the exit code."""
    mine, theirs, busy = [], [], []
    for number in range(ROUNDS):
        os.utime(path, (number, number))  # a changed file, so that the cached hash is not used
        digest, took = ours(jupyter, path.name, cached=False)
        mine.append(took)
        expected, took = reference(path)
        theirs.append(took)
        assert digest == expected
    remembered = [ours(jupyter, path.name, cached=True)[1] for _ in range(REPEATS)]
    visitor = Visitor(jupyter)
    for number in range(ROUNDS):
        os.utime(path, (number, number + ROUNDS))
        with visitor:
            ours(jupyter, path.name, cached=False)
        busy = visitor.latencies
    alone = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jupyter.get(TRIVIAL)
        alone.append((time.perf_counter() - started) * 1000)
    usual, worst = statistics.median(alone), percentile(alone, 99)
    return report(
        Figure(
            "1 GiB hashed", statistics.median(mine), statistics.median(theirs), "ratio", 1 / 0.9
        ),
        Figure("remembered", statistics.median(remembered), usual, "added", 5.0 - usual),
        Figure("trivial route meanwhile, p99", percentile(busy, 99), worst, "added", 20.0 - worst),
    )


def main() -> int:
    """Start a Jupyter server and measure."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as name:
        top = Path(name)
        comfyui = top / "comfyui"
        (comfyui / "input").mkdir(parents=True)
        (comfyui / "main.py").touch()
        path = comfyui / "input" / "large.bin"
        with path.open("wb") as file:
            for _ in range(SIZE // (16 * MIB)):
                file.write(os.urandom(16 * MIB))
        jupyter = Jupyter(
            top / "jupyter",
            extensions={"comfydeploy_jupyter": True},
            settings={"comfyui_path": str(comfyui), "comfyui_url": "http://127.0.0.1:9"},
        )
        try:
            jupyter.start()
            jupyter.get("/comfyui-deploy/check-status")
            return measure(jupyter, path)
        finally:
            jupyter.stop()


if __name__ == "__main__":
    run(main)
