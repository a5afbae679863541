"""Measures the round trips of a kernel's messages through Jupyter, in a separate process.

Starts a kernel at the server whose address and token are in the environment, and sends it a request
every 50 ms. For each line on its standard input, it prints the round trips since the last line: a
JSON array of milliseconds. When its standard input ends, it ends the kernel and itself.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from socket import IPPROTO_TCP, TCP_QUICKACK
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket

from .common import NODELAY

INTERVAL = 0.05  # seconds


def ping(socket: websocket.WebSocket) -> float:
    """Send a ``kernel_info_request``; return the milliseconds until its reply."""
    message_id = uuid.uuid4().hex
    header: dict[str, Any] = {
        "msg_id": message_id,
        "msg_type": "kernel_info_request",
        "username": "",
        "session": "benchmark",
        "version": "5.3",
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {}}
    begin = time.perf_counter()
    socket.send(json.dumps({**message, "channel": "shell", "buffers": []}))
    while True:
        # If the system delays TCP acknowledgements, Jupyter waits as well: 40 ms.
        socket.sock.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
        answer = json.loads(socket.recv())
        if (
            answer["header"]["msg_type"] == "kernel_info_reply"
            and answer["parent_header"]["msg_id"] == message_id
        ):
            return (time.perf_counter() - begin) * 1000


def main() -> None:
    """Send requests until the standard input ends."""
    url, token = os.environ["BENCHMARK_URL"], os.environ["BENCHMARK_TOKEN"]
    headers = {"Authorization": f"token {token}"}
    kernel = requests.post(f"{url}api/kernels", headers=headers, json={}, timeout=60).json()
    address = urlsplit(url)
    socket = websocket.create_connection(
        f"ws://{address.netloc}{address.path}api/kernels/{kernel['id']}/channels",
        header=headers,
        timeout=60,
        sockopt=NODELAY,
    )
    ping(socket)
    latencies: list[float] = []
    lock, over = threading.Lock(), threading.Event()

    def continue_pings() -> None:
        while not over.wait(INTERVAL):
            found = ping(socket)
            with lock:
                latencies.append(found)

    pinger = threading.Thread(target=continue_pings)
    pinger.start()
    for _ in sys.stdin:
        with lock:
            finished, latencies[:] = list(latencies), []
        print(json.dumps(finished), flush=True)
    over.set()
    pinger.join()
    socket.close()
    requests.delete(f"{url}api/kernels/{kernel['id']}", headers=headers, timeout=60)


if __name__ == "__main__":
    main()
