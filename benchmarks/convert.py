"""Measures conversions from UI to API format: median and largest time of the sample graphs.

The claim: the median is under 0.5 ms and the largest time under 20 ms. The node definitions are
read once before; this takes under 150 ms for all classes of ComfyUI 0.33. The samples are in
``../shared/samples`` beside the repository; without these, the golden pairs of the tests are used.
The time of a graph is the median of its runs.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from pathlib import Path
from typing import Any

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api

REPOSITORY = Path(__file__).parents[1]
SAMPLES = REPOSITORY.parent / "shared" / "samples"
GOLDEN = REPOSITORY / "tests" / "golden"
SETS = (
    (SAMPLES / "convert.jsonl.gz", SAMPLES / "convert.object_info.json.gz"),
    (SAMPLES / "convert33.jsonl.gz", SAMPLES / "object_info33.json.gz"),
)
GOLDEN_SET = (GOLDEN / "ui_to_api.jsonl.gz", GOLDEN / "ui_to_api.object_info.json.gz")
RUNS = 15
MEDIAN_MS, LARGEST_MS, READING_MS = 0.5, 20.0, 150.0


def milliseconds(workflow: dict[str, Any], definitions: NodeDefinitions) -> float:
    """Return the median time of one conversion."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        try:
            ui_to_api(workflow, definitions)
        except InvalidRequestError:
            return 0.0
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def reading(raw: dict[str, Any]) -> float:
    """Return the milliseconds in which every class is read once."""
    start = time.perf_counter()
    definitions = NodeDefinitions(raw)
    for name in definitions:
        known = definitions.get(name)
        assert known is not None
        _ = known.widgets
    return 1000 * (time.perf_counter() - start)


def report(what: str, measured: float, claimed: float, note: str = "") -> None:
    """Print a number and its ratio to the claim."""
    ratio = measured / claimed
    print(f"{what:8} {measured:8.3f} ms   {ratio:.2f} of {claimed:g} ms   {note}".rstrip())


def measure(graphs: Path, classes: Path) -> None:
    """Print the numbers of one set of samples."""
    lines = gzip.decompress(graphs.read_bytes()).decode().splitlines()
    raw = json.loads(gzip.decompress(classes.read_bytes()))
    definitions = NodeDefinitions(raw)
    times = {row["name"]: milliseconds(row["ui"], definitions) for row in map(json.loads, lines)}
    slowest = max(times, key=lambda name: times[name])
    print(f"{len(times)} graphs of {graphs.name}")
    report("median", statistics.median(times.values()), MEDIAN_MS)
    report("largest", times[slowest], LARGEST_MS, slowest)
    report(
        "reading",
        statistics.median(reading(raw) for _ in range(3)),
        READING_MS,
        f"{len(raw)} classes",
    )


def main() -> None:
    """Print the numbers of every set of samples."""
    there = [files for files in SETS if files[0].exists()]
    for files in there or [GOLDEN_SET]:
        measure(*files)


if __name__ == "__main__":
    main()
