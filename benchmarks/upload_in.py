"""Measures the upload of 1 GiB as a multipart body, compared with the simplest possible receiver.

The reference is a process that receives the same bytes from the same sender over loopback and
writes them to the same disk, without HTTP, multipart and hash. Both take turns, first with
``fsync`` at the end (the setting `fsync_uploads`), then without it. Without ``fsync``, the page
cache stores a file about as fast as the SHA-256 of the reply can be computed, so the time of the
SHA-256 alone is printed too. The memory is that of the whole Jupyter server.

Run: ``python -m benchmarks.upload_in``.
"""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .common import Jupyter, in_turns, run

MIB = 1024 * 1024
SIZE = 1024 * MIB
ROUNDS = 6
LEAST = 0.6  # of the reference's speed, to the disk
MOST_MEMORY = 32  # MiB
BOUNDARY = b"------------------------d74496d66958873e"  # in the form of curl
HEAD = (
    b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
TAIL = b"\r\n--" + BOUNDARY + b"--\r\n"


class Receiver:
    """The reference: a process that writes the data of a connection to a file, then confirms it."""

    CODE = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
view = memoryview(bytearray(1 << 20))
while True:
    client, _ = server.accept()
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    safe = client.recv(1) == b"1"
    while got := client.recv_into(view):
        piece = view[:got]
        while piece:
            piece = piece[os.write(file, piece):]
    if safe:
        os.fsync(file)
    os.close(file)
    client.sendall(b"done")
    client.close()
"""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(target)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def take(self, source: Path, *, safe: bool) -> float:
        """Return the seconds until it has written a file; ``safe``: with ``fsync``."""
        prepare_memory(self._target)
        started = time.perf_counter()
        with (
            socket.create_connection(("127.0.0.1", self._port)) as sender,
            source.open("rb") as file,
        ):
            sender.sendall(b"1" if safe else b"0")
            send_file(sender, file.fileno())
            sender.shutdown(socket.SHUT_WR)
            assert sender.recv(16) == b"done"
        seconds = time.perf_counter() - started
        assert self._target.stat().st_size == SIZE
        self._target.unlink()
        return seconds

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


class Memory:
    """The largest memory of a process while this was open, and its memory before."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._over = threading.Event()
        self.before = self.most = self._now()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """The growth of the memory in MiB."""
        return (self.most - self.before) / MIB

    def _now(self) -> int:
        return int(self._path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._now())


def prepare_memory(target: Path) -> None:
    """Write all dirty pages, and make sure that the machine has real memory for a file's pages.

    A virtual machine gets its memory from its host at the first access, and hosts take back memory
    that was free for seconds. The next program that fills the page cache can then take up to three
    times as long.
    """
    with target.open("wb") as file:
        for _ in range(SIZE // (16 * MIB)):
            file.write(bytes(16 * MIB))
    target.unlink()
    os.sync()


def send_file(sender: socket.socket, file: int) -> None:
    """Send a file without reading it into this process."""
    offset = 0
    while offset < SIZE:
        offset += os.sendfile(sender.fileno(), file, offset, SIZE - offset)


def upload(jupyter: Jupyter, source: Path, folder: Path) -> float:
    """Return the seconds until the route has replied."""
    prepare_memory(folder.parent / "copy")
    head = (
        f"POST /comfyui-deploy/upload-file HTTP/1.1\r\nHost: {jupyter.host}:{jupyter.port}\r\n"
        f"Authorization: token {jupyter.token}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(HEAD) + SIZE + len(TAIL)}\r\n\r\n"
    ).encode()
    started = time.perf_counter()
    with (
        socket.create_connection((jupyter.host, jupyter.port)) as sender,
        source.open("rb") as file,
    ):
        sender.sendall(head + HEAD)
        send_file(sender, file.fileno())
        sender.sendall(TAIL)
        answer = b""
        while piece := sender.recv(65536):
            answer += piece
    seconds = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))
    (stored,) = folder.iterdir()
    assert stored.stat().st_size == SIZE
    stored.unlink()
    return seconds


@dataclass
class Measured:
    """The results of one way of writing."""

    reference: float
    ours: float
    growth: float

    @property
    def ratio(self) -> float:
        """Our speed divided by that of the reference."""
        return self.reference / self.ours


def measure(source: Path, top: Path, *, safe: bool) -> Measured:
    """Upload in turns with the reference, with or without ``fsync``."""
    comfyui = top / "comfyui"
    (comfyui / "input").mkdir(parents=True)
    (comfyui / "main.py").touch()
    jupyter = Jupyter(
        top / "jupyter",
        extensions={"comfydeploy_jupyter": True},
        settings={
            "comfyui_path": str(comfyui),
            "comfyui_url": "http://127.0.0.1:9",
            "fsync_uploads": safe,
        },
    )
    receiver = Receiver(top / "copy")
    try:
        jupyter.start()
        jupyter.get("/comfyui-deploy/check-status")
        with Memory(jupyter.pid) as memory:
            theirs, ours = in_turns(
                lambda: receiver.take(source, safe=safe),
                lambda: upload(jupyter, source, comfyui / "input"),
                ROUNDS,
            )
    finally:
        jupyter.stop()
        receiver.close()
    return Measured(statistics.median(theirs), statistics.median(ours), memory.growth)


def hashing(source: Path) -> float:
    """Return the seconds that the SHA-256 of a file takes alone."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(MIB))
    spent = 0.0
    with source.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            started = time.perf_counter()
            digest.update(buffer[:count])
            spent += time.perf_counter() - started
    return spent


def main() -> int:
    """Measure, print, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as name:
        top = Path(name)
        source = top / "source"
        with source.open("wb") as file:
            for _ in range(SIZE // (16 * MIB)):
                file.write(os.urandom(16 * MIB))
        disk = measure(source, top / "disk", safe=True)
        cache = measure(source, top / "cache", safe=False)
        alone = hashing(source)
    print(
        f"1 GiB in, to the disk: reference {disk.reference:.2f} s, ours {disk.ours:.2f} s, speed"
        f" ratio {disk.ratio:.2f}, bound >= {LEAST} {'ok' if disk.ratio >= LEAST else 'TOO SLOW'}"
    )
    print(
        f"1 GiB in, to the page cache: reference {cache.reference:.2f} s, ours {cache.ours:.2f} s,"
        f" speed ratio {cache.ratio:.2f}; SHA-256 alone takes {alone:.2f} s, which leaves at most"
        f" {cache.reference / max(alone, cache.reference):.2f}"
    )
    growth = max(disk.growth, cache.growth)
    fits = growth < MOST_MEMORY
    print(f"memory grew by {growth:.1f} MiB, bound < {MOST_MEMORY} {'ok' if fits else 'OVER'}")
    return 0 if disk.ratio >= LEAST and fits else 1


if __name__ == "__main__":
    run(main)
