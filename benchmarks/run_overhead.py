"""Compares the time of a run over ``POST run`` with that of a client of ComfyUI's own protocol.

The reference posts to ``/prompt`` and waits on its WebSocket until ComfyUI is done; our client
posts to ``run`` and waits for the reply. Both use persistent connections and plain blocking
sockets. The trivial prompt saves a small picture of one colour, which takes ComfyUI about 3 ms. A
shorter prompt with one node that shows a text is measured for comparison: almost all of its time
are fixed costs, of two servers in our case and of one in the reference.
"""

from __future__ import annotations

import random
import statistics
import uuid
from typing import TYPE_CHECKING

from .common import (
    Figure,
    OurClient,
    RawClient,
    in_turns,
    node,
    report,
    run,
    running_comfyui,
    running_jupyter,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .common import Graph


def trivial() -> Graph:
    """Return a graph that saves a picture with a new colour each time."""
    colour = random.randrange(1 << 24)
    picture = {"width": 64, "height": 64, "batch_size": 1, "color": colour}
    return {
        "1": {"class_type": "EmptyImage", "inputs": picture},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "run"}},
    }


def shortest() -> Graph:
    """Return the graph of one node that shows a text."""
    inputs = {"text": "done", "token": uuid.uuid4().hex}
    return {"1": {"class_type": "TestText", "inputs": inputs}}


def long() -> Graph:
    """Return a graph that takes two seconds."""
    return node("TestSleep", seconds=2.0)


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui, running_jupyter(comfyui.url) as jupyter:
        raw, ours = RawClient(comfyui.url), OurClient(jupyter)

        def figure(name: str, make: Callable[[], Graph], *, pairs: int, bound: float) -> Figure:
            works = (seconds(lambda: raw.run(make())), seconds(lambda: ours.run(make())))
            in_turns(*works, pairs // 10)
            theirs, mine = (statistics.median(found) for found in in_turns(*works, pairs))
            return Figure(f"{name}, median", mine * 1000, theirs * 1000, "ratio", bound)

        figures = (
            figure("run of a trivial prompt", trivial, pairs=300, bound=2.0),
            figure("run of one text", shortest, pairs=300, bound=3.0),
            figure("run of two seconds", long, pairs=8, bound=1.01),
        )
        raw.close()
        ours.close()
    return report(*figures)


if __name__ == "__main__":
    run(main)
