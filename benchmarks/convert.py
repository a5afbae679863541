"""How long UI → API takes: median and largest over the sample graphs.

The claim: median under 1 ms, the largest under 20 ms, with node definitions that are read once.
The samples are those beside the repository (``../shared/samples``), or the golden pairs of the
tests where there are none. Each graph counts with the median of its runs.
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
SAMPLES = REPOSITORY.parent / "shared" / "samples" / "convert"
GOLDEN = REPOSITORY / "tests" / "golden" / "ui_to_api"
RUNS = 15
MEDIAN_MS, LARGEST_MS = 1.0, 20.0


def milliseconds(workflow: dict[str, Any], definitions: NodeDefinitions) -> float:
    """Return the median time of one conversion."""
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        try:
            ui_to_api(workflow, definitions)
        except InvalidRequestError:
            return 0.0
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def main() -> None:
    """Print the numbers and how they stand to the claim."""
    source = SAMPLES if SAMPLES.with_suffix(".jsonl.gz").exists() else GOLDEN
    lines = gzip.decompress(source.with_suffix(".jsonl.gz").read_bytes()).decode().splitlines()
    raw = json.loads(gzip.decompress(source.with_suffix(".object_info.json.gz").read_bytes()))
    definitions = NodeDefinitions(raw)
    times = {row["name"]: milliseconds(row["ui"], definitions) for row in map(json.loads, lines)}
    slowest = max(times, key=lambda name: times[name])
    median = statistics.median(times.values())
    print(f"{len(times)} graphs from {source.parent}")
    print(f"median  {median:7.3f} ms   {median / MEDIAN_MS:.2f} of {MEDIAN_MS:g} ms")
    largest = times[slowest]
    print(
        f"largest {largest:7.3f} ms   {largest / LARGEST_MS:.2f} of {LARGEST_MS:g} ms   {slowest}"
    )


if __name__ == "__main__":
    main()
