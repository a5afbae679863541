"""How much longer a run takes over ``POST run`` than with a client of ComfyUI's own protocol.

The reference posts to ``/prompt`` and waits on its WebSocket until ComfyUI is done; ours posts to
``run`` and waits for the answer. Both keep their connections, both are plain blocking sockets.
A trivial prompt has one node that shows a text; ComfyUI executes it each time.
"""

from __future__ import annotations

import statistics
import uuid

from .common import (
    Figure,
    Graph,
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

WARM_UP = 30
TRIVIAL_PAIRS = 300
LONG_PAIRS = 8


def trivial() -> Graph:
    """Return the graph of one node that shows a text."""
    inputs = {"text": "done", "token": uuid.uuid4().hex}
    return {"1": {"class_type": "TestText", "inputs": inputs}}


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui, running_jupyter(comfyui.url) as jupyter:
        raw, ours = RawClient(comfyui.url), OurClient(jupyter)

        short = (seconds(lambda: raw.run(trivial())), seconds(lambda: ours.run(trivial())))
        in_turns(*short, WARM_UP)
        raw_short, our_short = in_turns(*short, TRIVIAL_PAIRS)
        raw_long, our_long = in_turns(
            seconds(lambda: raw.run(node("TestSleep", seconds=2.0))),
            seconds(lambda: ours.run(node("TestSleep", seconds=2.0))),
            LONG_PAIRS,
        )
        raw.close()
        ours.close()
    return report(
        Figure(
            "run of a trivial prompt, median",
            statistics.median(our_short) * 1000,
            statistics.median(raw_short) * 1000,
            "ratio",
            2.0,
        ),
        Figure(
            "run of two seconds, median",
            statistics.median(our_long) * 1000,
            statistics.median(raw_long) * 1000,
            "ratio",
            1.01,
        ),
    )


if __name__ == "__main__":
    run(main)
