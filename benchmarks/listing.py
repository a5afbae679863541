"""Measures the list of 20,000 models with sizes and times; bound: median of 150 ms, warm cache.

Prints the time and its ratio to one ``os.stat`` for each file, the minimum for current sizes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.files.models import ModelListing

FILES = 20_000


async def main(rounds: int = 15) -> None:
    """Alternate both, so that changes in the machine's load affect both equally."""
    with tempfile.TemporaryDirectory() as name:
        paths = [
            Path(name, f"models/{folder}/{number % 50}/model-{number}.safetensors")
            for number in range(FILES // 2)
            for folder in ("checkpoints", "loras")
        ]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        texts = [str(path) for path in paths]
        models = ModelListing(Folders(name))
        await models.models()
        listings, stats = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            assert len(await models.models()) == FILES
            listings.append(time.perf_counter() - start)
            start = time.perf_counter()
            for text in texts:
                os.stat(text)  # noqa: PTH116 - as the listing does it
            stats.append(time.perf_counter() - start)
    listing, stat = statistics.median(listings), statistics.median(stats)
    print(f"listing {listing * 1e3:5.0f} ms")
    print(f"stat    {stat * 1e3:5.0f} ms")
    print(f"ratio   {listing / stat:5.2f}")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
