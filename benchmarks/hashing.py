"""Hashing a file against ``sha256sum``: 2 GiB from the page cache.

Prints the speed of both and their ratio, which should reach 0.9.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.files.hashing import sha256_of

SIZE = 2 * 1024**3  # bytes


def ours(folders: Folders, path: Path) -> tuple[str, float]:
    """Return the hash and the seconds it took."""
    start = time.perf_counter()
    with folders.open_for_read(path) as file:
        digest = sha256_of(file)
    return digest, time.perf_counter() - start


def reference(path: Path) -> tuple[str, float]:
    """Return the hash by ``sha256sum`` and the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True)
    return done.stdout.split()[0], time.perf_counter() - start


def main(rounds: int = 5) -> None:
    """Alternate both, so that neither has the better moments of the machine."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name).resolve() / "file"
        with path.open("wb") as file:
            file.truncate(SIZE)
        folders = Folders(None, jupyter_root=name)
        mine, theirs = [], []
        for _ in range(rounds):
            digest, seconds = ours(folders, path)
            mine.append(seconds)
            expected, seconds = reference(path)
            theirs.append(seconds)
            assert digest == expected
    us, them = statistics.median(mine), statistics.median(theirs)
    print(f"sha256sum {SIZE / them / 1e6:7.0f} MB/s")
    print(f"ours      {SIZE / us / 1e6:7.0f} MB/s")
    print(f"ratio     {them / us:7.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
