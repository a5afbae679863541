"""Measures how long a workflow of 20 MB blocks Jupyter's event loop, on each route for workflows.

As in `benchmarks.loop_stalls`, a second extension runs a timer of one millisecond on the loop and
stores the largest gaps. The reference is the same server without requests, in the same run. Each
figure counts only the time of a gap in which the Jupyter process was computing: on the loop, or in
a thread that holds the interpreter lock. Each is the median of the longest gaps of `ROUNDS` calls.
One more call before them is not counted, because Jupyter reads ComfyUI's node definitions in it.
The graph has `NODES` nodes, of which ComfyUI executes two.
"""

from __future__ import annotations

import http.client
import http.server
import json
import statistics
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import websocket

from .common import Figure, node, report, run, running_comfyui, running_jupyter
from .loop_stalls import gaps

if TYPE_CHECKING:
    from collections.abc import Callable

    from .common import Graph, Jupyter

NODES = 60_000
BOUND = 20.0  # milliseconds
REST = 3.0  # seconds
ROUNDS = 5


def large_graph() -> Graph:
    """Return a graph of about 20 MB."""
    text = "a photo of a cat, " * 11
    graph = {
        str(number): {
            "class_type": "TestSleep",
            "inputs": {"seconds": 0.0, "token": f"{text}{number}"},
            "_meta": {"title": f"Node {number}"},
        }
        for number in range(3, NODES)
    }
    return {**graph, **node("TestSleep", seconds=0.0)}


class Client:
    """Calls routes with bodies that were encoded before, and does not parse the replies."""

    def __init__(self, jupyter: Jupyter) -> None:
        self._jupyter = jupyter

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """Return the body of a reply."""
        jupyter = self._jupyter
        connection = http.client.HTTPConnection(jupyter.host, jupyter.port, timeout=300)
        headers = {**jupyter.headers, "Content-Type": "application/json"}
        connection.request(method, f"/comfyui-deploy/{path}", body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:500]!r}")
        return text

    def queue_by_websocket(self, body: str) -> None:
        """Queue a run over the WebSocket and wait for its result."""
        jupyter = self._jupyter
        socket = websocket.create_connection(
            f"ws://{jupyter.host}:{jupyter.port}/comfyui-deploy/ws?clientId={uuid.uuid4().hex}",
            header={"Authorization": jupyter.headers["Authorization"]},
            timeout=300,
        )
        socket.send(body)
        while True:
            message = json.loads(socket.recv())
            if message["event"] == "error":
                raise RuntimeError(f"the run was refused: {message}")
            if message["event"] == "result":
                break
        socket.close()


class Receiver(http.server.BaseHTTPRequestHandler):
    """Receives the reports of a run to its ``status_endpoint``."""

    ended = threading.Event()

    def do_POST(self) -> None:
        """Reply 200, and signal the end of a run."""
        callback = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if callback.get("status") == "success":
            self.ended.set()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def works(client: Client, graph: Graph, receiver: str) -> dict[str, Callable[[], object]]:
    """Return the measured calls by name; their bodies are encoded here, before the measurement."""
    run_body = json.dumps({"workflow_api": graph})
    command = json.dumps({"event": "queue_prompt", "workflow_api": graph})
    kept = json.dumps({"name": "large", "workflow": graph})
    saved: dict[str, Any] = json.loads(client.call("POST", "workflow", kept))
    workflow_id = saved["workflow_id"]
    changed = {**graph, "2": {**graph["2"], "inputs": {**graph["2"]["inputs"], "text": "new"}}}
    version = json.dumps({"workflow_id": workflow_id, "workflow": changed})
    reported = json.dumps({"workflow_api": graph, "status_endpoint": receiver})

    def run_and_report() -> None:
        Receiver.ended.clear()
        client.call("POST", "run", reported)
        if not Receiver.ended.wait(60):
            raise RuntimeError("the end of the run was not reported")

    ran: dict[str, Any] = json.loads(client.call("POST", "run", run_body))
    status = f"check-status?prompt_id={ran['prompt_id']}"
    return {
        "run": lambda: client.call("POST", "run", run_body),
        "run/streaming": lambda: client.call("POST", "run/streaming", run_body),
        "queue_prompt": lambda: client.queue_by_websocket(command),
        "run with callbacks": run_and_report,
        "runs": lambda: client.call("GET", "runs"),
        "runs that succeeded": lambda: client.call("GET", "runs?status=success"),
        "check-status": lambda: client.call("GET", status),
        "creating a workflow": lambda: client.call("POST", "workflow", kept),
        "adding a version": lambda: client.call("POST", "workflow/version", version),
        "getting a workflow": lambda: client.call("GET", f"workflow?workflow_id={workflow_id}"),
        "validating": lambda: client.call("POST", "workflow/validate", run_body),
        "converting": lambda: client.call("POST", "workflow/convert", run_body),
    }


def main() -> int:
    """Measure, print, and return the exit code."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, extensions={"benchmarks.ticker": True}) as jupyter,
    ):
        found = works(Client(jupyter), large_graph(), f"http://127.0.0.1:{server.server_port}")
        gaps(jupyter)
        time.sleep(REST)
        at_rest = max(gap.computed for gap in gaps(jupyter))
        figures = []
        for name, work in found.items():
            longest = []
            for _ in range(ROUNDS):
                work()
                longest.append(max(gap.computed for gap in gaps(jupyter)))
            listed = ", ".join(f"{gap:.1f}" for gap in longest)
            print(f"{name}: longest gaps of each call in ms: {listed}", flush=True)
            median = statistics.median(longest)
            figures.append(Figure(f"longest gap, {name}", median, at_rest, "added", BOUND))
    server.shutdown()
    return report(*figures)


if __name__ == "__main__":
    run(main)
