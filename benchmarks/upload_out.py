"""Measures uploads: one of 1 GiB compared with curl, a hundred small ones with a plain client.

Both use moto's S3 server on this machine, which is slower than the measured code. Therefore a
second large upload uses a server that only reads. The reference and our code take turns.

Run: ``python -m benchmarks.upload_out``, with a ComfyUI as for the tests.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from comfydeploy_jupyter.machines.settings import MachineSettings
from comfydeploy_jupyter.transfers.uploads import content_type
from tests.helpers.comfyui import ComfyUIServer
from tests.helpers.processes import REPOSITORY
from tests.helpers.transfer_service import S3Server
from tests.transfers.conftest import Harness

MIB = 1024 * 1024
LARGE = 1024 * MIB
SMALL = 200_000
COUNT = 100
CONCURRENT = 3
ROUNDS = 3
SMALL_ROUNDS = 9


class Sink:
    """An HTTP server in a separate process that reads uploads and discards them."""

    CODE = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def serve(client):
    buffer, view = bytearray(1 << 20), None
    view = memoryview(buffer)
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        got = client.recv(65536)
        if not got:
            return
        head += got
    top, _, rest = head.partition(b"\\r\\n\\r\\n")
    fields = dict(l.split(b": ", 1) for l in top.lower().split(b"\\r\\n")[1:])
    if fields.get(b"expect"):
        client.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n")
    left = int(fields[b"content-length"]) - len(rest)
    while left:
        left -= client.recv_into(view)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/sink"

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class ServiceProcess:
    """The service of the tests in a separate process, so that it does not share our interpreter."""

    CODE = """
import sys, threading
from tests.helpers.transfer_service import S3Server, Service
print(Service(S3Server(sys.argv[1])).url, flush=True)
threading.Event().wait()
"""

    def __init__(self, s3: S3Server) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, s3.url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def curl(path: Path, url: str) -> float:
    """Return the seconds that curl takes to upload a file."""
    started = time.perf_counter()
    subprocess.run(["curl", "-sSf", "-o", os.devnull, "-T", str(path), url], check=True)
    return time.perf_counter() - started


async def put_large(harness: Harness, path: Path, url: str) -> tuple[float, int]:
    """Return the seconds and the growth of memory of one of our uploads."""
    before, most = resident(), 0
    started = time.perf_counter()
    sending = asyncio.ensure_future(harness.transfers.upload_part(str(path), url, 0, LARGE))
    while not sending.done():
        most = max(most, resident())
        await asyncio.wait({sending}, timeout=0.02)
    await sending
    return time.perf_counter() - started, most - before


async def put_outputs(
    harness: Harness, service: ServiceProcess, names: list[str], run_id: str
) -> float:
    """Return the seconds that the queue takes for many small outputs."""
    items = [
        (
            "9",
            ["images", number],
            {
                "filename": name,
                "subfolder": "",
                "type": "output",
                "content_type": content_type(name),
            },
        )
        for number, name in enumerate(names)
    ]
    started = time.perf_counter()
    records = await harness.transfers.upload_outputs(
        run_id, "local", items, endpoint=f"{service.url}/upload", token=None
    )
    ended = [await harness.transfers.queue.wait(record) for record in records]
    assert {record.state for record in ended} == {"done"}, ended
    return time.perf_counter() - started


async def put_plainly(
    outputs: Path, service: ServiceProcess, names: list[str], run_id: str
) -> float:
    """Return the seconds of a client that only requests an address, reads a file and uploads it."""
    waiting = iter(names)

    async def work(http: aiohttp.ClientSession) -> None:
        for name in waiting:
            query = {"file_name": name, "run_id": run_id, "type": "image/png", "version": "v2"}
            async with http.get(f"{service.url}/upload", params=query) as answer:
                url = (await answer.json())["url"]
            body = (outputs / name).read_bytes()
            async with http.put(url, data=body, headers={"Content-Type": "image/png"}) as answer:
                assert answer.status == 200, answer

    started = time.perf_counter()
    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(work(http) for _ in range(CONCURRENT)))
    return time.perf_counter() - started


def report(name: str, reference: list[float], ours: list[float], least: float) -> bool:
    """Print our speed and that of the reference; return whether the ratio is within the bound."""
    ratio = statistics.median(reference) / statistics.median(ours)
    print(
        f"{name}: reference {statistics.median(reference):.2f} s, ours"
        f" {statistics.median(ours):.2f} s, speed ratio {ratio:.2f}, bound >= {least}"
        f" {'ok' if ratio >= least else 'TOO SLOW'}"
    )
    return ratio >= least


async def measure(comfyui: ComfyUIServer, s3: S3Server, sink: Sink) -> bool:
    """Measure and print all figures; return whether all claims hold."""
    settings = MachineSettings(comfyui_url=comfyui.url, comfyui_path=str(comfyui.path))
    harness = Harness(comfyui.base_dir / "harness", settings=settings, max_concurrent=CONCURRENT)
    service = ServiceProcess(s3)
    fine = True
    await harness.open()
    await harness.machine.ready()
    try:
        path = comfyui.output_dir / "large.bin"
        with path.open("wb") as file:
            for _ in range(LARGE // MIB):
                file.write(os.urandom(MIB))
        growth = 0
        for name, rounds in (("sink", ROUNDS), ("S3", 1)):
            reference, ours = [], []
            for turn in range(rounds):
                url = sink.url if name == "sink" else s3.presigned("put_object", f"large-{turn}")
                reference.append(await asyncio.to_thread(curl, path, url))
                seconds, grown = await put_large(harness, path, url)
                ours.append(seconds)
                growth = max(growth, grown)
            fine &= report(f"1 GiB to {name}", reference, ours, 0.8)
        print(f"memory grew by {growth / MIB:.1f} MiB, bound < 32")
        fine &= growth < 32 * MIB
        names = [f"{number:03}.png" for number in range(COUNT)]
        for name in names:
            (comfyui.output_dir / name).write_bytes(os.urandom(SMALL))
        reference, ours = [], []
        for turn in range(SMALL_ROUNDS):
            reference.append(await put_plainly(comfyui.output_dir, service, names, f"plain-{turn}"))
            ours.append(await put_outputs(harness, service, names, f"ours-{turn}"))
        fine &= report(f"{COUNT} small outputs", reference, ours, 0.8)
    finally:
        service.close()
        await harness.close()
    return fine


def main() -> int:
    """Measure, print, and return the exit code."""
    s3, sink = S3Server(), Sink()
    try:
        with tempfile.TemporaryDirectory() as folder:
            comfyui = ComfyUIServer(Path(folder))
            comfyui.start()
            try:
                return 0 if asyncio.run(measure(comfyui, s3, sink)) else 1
            finally:
                comfyui.kill()
    finally:
        sink.close()
        s3.close()


if __name__ == "__main__":
    sys.exit(main())
