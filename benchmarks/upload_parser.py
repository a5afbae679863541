"""Compares an upload of 1 GiB, parsed and hashed while it is written, with a plain copy.

Prints the speed of both and their ratio, and the ratio to a copy followed by ``sha256sum``, which
does the same work. If the page cache stores a file faster than SHA-256 can be computed, the hash
limits the first ratio; on real disks both should be near 1.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.files.uploads import BATCH, Uploads, UploadTarget

SIZE = 1024**3  # bytes
IN_USE = 3  # batches that an upload may use at the same time
BOUNDARY = b"------------------------d74496d66958873e"  # in the form of curl
HEAD = (
    b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; name=file; filename=a.safetensors\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n"
)
TAIL = b"\r\n--" + BOUNDARY + b"--\r\n"


async def upload(source: Path, folders: Folders) -> float:
    """Return the seconds that one upload takes, including the reading of the body."""
    start = time.perf_counter()
    uploads = Uploads()
    content_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    receiver = uploads.receive(UploadTarget(folders), content_type)
    await receiver.write(HEAD)
    with source.open("rb", buffering=0) as file:
        for buffer in cycle([bytearray(BATCH) for _ in range(IN_USE)]):  # like the route
            count = file.readinto(buffer)
            if count < BATCH:
                await receiver.write(bytes(buffer[:count]))
                break
            await receiver.write(buffer)
    await receiver.write(TAIL)
    [stored] = await receiver.finish()
    seconds = time.perf_counter() - start
    await uploads.close()
    stored.path.unlink()
    return seconds


def copy(source: Path, target: Path) -> float:
    """Return the seconds of a plain copy through memory, as in the upload."""
    start = time.perf_counter()
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        shutil.copyfileobj(reader, writer, BATCH)
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def checksum(source: Path) -> float:
    """Return the seconds that ``sha256sum`` takes."""
    start = time.perf_counter()
    subprocess.run(["sha256sum", source], capture_output=True, check=True)
    return time.perf_counter() - start


def main(rounds: int = 5) -> None:
    """Alternate both, so that changes in the machine's load affect both equally."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        source = top / "source"
        with source.open("wb") as file:
            for _ in range(SIZE // (16 * 1024**2)):
                file.write(os.urandom(16 * 1024**2))
        folders = Folders(top)
        copies, sums, uploads = [], [], []
        for _ in range(rounds):
            copies.append(copy(source, top / "copy"))
            sums.append(checksum(source))
            uploads.append(asyncio.run(upload(source, folders)))
    copied, summed, uploaded = map(statistics.median, (copies, sums, uploads))
    print(f"copy                       {SIZE / copied / 1e6:7.0f} MB/s")
    print(f"sha256sum                  {SIZE / summed / 1e6:7.0f} MB/s")
    print(f"upload                     {SIZE / uploaded / 1e6:7.0f} MB/s")
    print(f"ratio to copy              {copied / uploaded:7.2f}")
    print(f"ratio to copy + sha256sum  {(copied + summed) / uploaded:7.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
