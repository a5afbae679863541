"""Measures how long Jupyter's event loop is blocked during runs with previews.

A second small extension (`benchmarks.ticker`) runs a timer of one millisecond on the loop of the
same Jupyter server and stores the largest gaps; our own code is not changed. During a run with
previews, one client reads its stream and another one follows the WebSocket. Then the same is
measured while a workflow of a megabyte is queued. The reference is the same server without runs,
for the same time, between the runs. The bound is for the previews. The figure of the large workflow
is printed for comparison: the interpreter holds its lock while it reads or writes a megabyte of
JSON, in every thread.

Each figure is printed twice. The first one is the gap: the time that a kernel's message would wait.
On a busy machine, other programs cause most of it. The second one counts only the time of a gap in
which the Jupyter process was computing: on the loop, or in a thread that holds the interpreter
lock.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import websocket

from .common import (
    NODELAY,
    Figure,
    OurClient,
    node,
    report,
    run,
    running_comfyui,
    running_jupyter,
)

if TYPE_CHECKING:
    from .common import Graph, Jupyter

ROUNDS = 5
STEPS = 100
DELAY = 0.03  # seconds between two previews
SIZE = 1024  # pixels of a preview's side
LARGE_NODES = 3000  # nodes of the large workflow, about a megabyte


class Gap(NamedTuple):
    """A tick that came late.

    Attributes
    ----------
    late : float
        Milliseconds by which it was late.
    computed : float
        The part of them in which the Jupyter process was computing.
    """

    late: float
    computed: float


def large_graph() -> Graph:
    """Return a graph of many nodes, of which ComfyUI executes one."""
    text = "a photo of a cat, " * 15
    graph = {
        str(number): {"class_type": "TestSleep", "inputs": {"seconds": 0.0, "token": text}}
        for number in range(3, LARGE_NODES)
    }
    return {**graph, **node("TestSleep", seconds=0.0)}


def with_previews(jupyter: Jupyter) -> None:
    """Do one run with previews, with a reader of its stream and one of the WebSocket."""
    prompt_id = uuid.uuid4().hex
    follower = threading.Thread(target=_follow, args=(jupyter, prompt_id))
    follower.start()
    client = OurClient(jupyter)
    graph = node("TestPreview", steps=STEPS, delay=DELAY, size=SIZE)
    pieces = client.stream(graph, prompt_id=prompt_id, previews=True)
    client.close()
    if b'"preview"' not in b"".join(piece for _, piece in pieces):
        raise RuntimeError("the stream had no previews")
    follower.join()


def with_large_workflow(jupyter: Jupyter) -> None:
    """Do the same while a large workflow is queued and waits."""
    poster = threading.Thread(target=_post_large, args=(jupyter,))
    poster.start()
    with_previews(jupyter)
    poster.join()


def gaps(jupyter: Jupyter) -> list[Gap]:
    """Return the largest gaps since the last call."""
    found = jupyter.get("/benchmark/ticker")
    return [Gap(late * 1000, min(late, computed) * 1000) for late, computed in found["gaps"]]


def main() -> int:
    """Measure, print, and return the exit code."""
    works = {"previews": with_previews, "a large workflow": with_large_workflow}
    at_work: dict[str, list[Gap]] = {name: [] for name in works}
    at_rest: list[Gap] = []
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, extensions={"benchmarks.ticker": True}) as jupyter,
    ):
        with_large_workflow(jupyter)
        gaps(jupyter)
        for _ in range(ROUNDS):
            for name, work in works.items():
                begin = time.monotonic()
                work(jupyter)
                at_work[name] += gaps(jupyter)
                time.sleep(time.monotonic() - begin)
                at_rest += gaps(jupyter)
    for name, found in (("at rest", at_rest), *at_work.items()):
        worst = [f"{gap.late:.1f} ({gap.computed:.1f})" for gap in sorted(found, reverse=True)]
        print(f"longest gaps: {name}, in ms (of which computed): {', '.join(worst[:8])}")
    return report(*_figures("previews", at_work["previews"], at_rest))


def _figures(name: str, at_work: list[Gap], at_rest: list[Gap]) -> tuple[Figure, Figure]:
    late, late_at_rest = (max(gap.late for gap in found) for found in (at_work, at_rest))
    ours, ours_at_rest = (max(gap.computed for gap in found) for found in (at_work, at_rest))
    return (
        Figure(f"longest gap with {name}", late, late_at_rest, "added", 20.0),
        Figure(f"longest gap with {name}, computing", ours, ours_at_rest, "added", 20.0),
    )


def _follow(jupyter: Jupyter, prompt_id: str) -> None:
    """Follow all runs on the WebSocket until this one has ended."""
    socket = websocket.create_connection(
        f"ws://{jupyter.host}:{jupyter.port}/comfyui-deploy/ws",
        header={"Authorization": jupyter.headers["Authorization"]},
        timeout=60,
        sockopt=NODELAY,
    )
    while True:
        text = socket.recv()
        if not isinstance(text, str):
            continue
        message: dict[str, Any] = json.loads(text)
        if message["event"] == "result" and message["data"]["prompt_id"] == prompt_id:
            break
    socket.close()


def _post_large(jupyter: Jupyter) -> None:
    client = OurClient(jupyter)
    client.run(large_graph())
    client.close()


if __name__ == "__main__":
    run(main)
