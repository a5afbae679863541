"""How long Jupyter's event loop is blocked by a workflow of 20 MB, on each route that takes one.

As in `benchmarks.loop_stalls`, a second extension ticks every millisecond on the loop and keeps the
largest gaps. The reference is the same server at rest, in the same run. Each figure counts only the
time of a gap in which the Jupyter process was computing: on the loop, or in a thread that holds the
interpreter lock. The graph has `NODES` nodes, of which ComfyUI executes two.
"""

from __future__ import annotations

import http.client
import json
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
    """Calls routes with bodies that were encoded before, and does not parse what comes."""

    def __init__(self, jupyter: Jupyter) -> None:
        self._jupyter = jupyter

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """Return the body of an answer."""
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


def works(client: Client, graph: Graph) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name; the bodies are encoded before."""
    run_body = json.dumps({"workflow_api": graph})
    command = json.dumps({"event": "queue_prompt", "workflow_api": graph})
    kept = json.dumps({"name": "large", "workflow": graph})
    saved: dict[str, Any] = json.loads(client.call("POST", "workflow", kept))
    workflow_id = saved["workflow_id"]
    changed = {**graph, "2": {**graph["2"], "inputs": {**graph["2"]["inputs"], "text": "new"}}}
    version = json.dumps({"workflow_id": workflow_id, "workflow": changed})
    return {
        "run": lambda: client.call("POST", "run", run_body),
        "run/streaming": lambda: client.call("POST", "run/streaming", run_body),
        "queue_prompt": lambda: client.queue_by_websocket(command),
        "runs": lambda: client.call("GET", "runs"),
        "creating a workflow": lambda: client.call("POST", "workflow", kept),
        "adding a version": lambda: client.call("POST", "workflow/version", version),
        "getting a workflow": lambda: client.call("GET", f"workflow?workflow_id={workflow_id}"),
        "validating": lambda: client.call("POST", "workflow/validate", run_body),
        "converting": lambda: client.call("POST", "workflow/convert", run_body),
    }


def main() -> int:
    """Measure, print, and return the exit code."""
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, extensions={"benchmarks.ticker": True}) as jupyter,
    ):
        found = works(Client(jupyter), large_graph())
        gaps(jupyter)
        time.sleep(REST)
        at_rest = max(gap.computed for gap in gaps(jupyter))
        figures = []
        for name, work in found.items():
            begin = time.monotonic()
            work()
            took = time.monotonic() - begin
            worst = sorted((gap.computed for gap in gaps(jupyter)), reverse=True)
            told = ", ".join(f"{gap:.1f}" for gap in worst[:6])
            print(f"{name}: {took:.1f} s, longest gaps in ms: {told}", flush=True)
            figures.append(Figure(f"longest gap, {name}", worst[0], at_rest, "added", BOUND))
    return report(*figures)


if __name__ == "__main__":
    run(main)
