"""How long an event of ComfyUI takes on its way to the reader of ``run/streaming``.

ComfyUI sends the events of a run only to the client that queued it, so a second WebSocket beside
ours would hear nothing. A relay between Jupyter and ComfyUI notes when each frame leaves ComfyUI's
side, and the reader notes when the same event is in its hands. The reference is a plain WebSocket
client behind the same relay, whose way has the same relay and the same loopback in it. The added
time of the median and of p99 alike is our way minus the reference's *median*: a p99 of the
reference that is large because the machine is busy excuses nothing.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from .common import (
    Figure,
    OurClient,
    RawClient,
    in_turns,
    node,
    percentile,
    report,
    run,
    running_comfyui,
    running_jupyter,
    stream_messages,
)
from .relay import Relay, text_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS = 200
DELAY = 0.01  # seconds between two events
ROUNDS = 4  # runs of each

Times = dict[tuple[str, int], float]


def main() -> int:
    """Measure, print, and return the exit code."""
    raw_seen: Times = {}
    our_seen: Times = {}
    with running_comfyui() as comfyui:
        relay = Relay(comfyui.port)
        try:
            with running_jupyter(relay.url) as jupyter:
                raw, ours = RawClient(relay.url), OurClient(jupyter)

                def run_raw() -> float:
                    frames = raw.run(node("TestProgress", steps=STEPS, delay=DELAY))
                    raw_seen.update(_times((when, json.loads(text)) for when, text in frames))
                    return 0.0

                def run_ours() -> float:
                    pieces = ours.stream(node("TestProgress", steps=STEPS, delay=DELAY))
                    our_seen.update(_times(stream_messages(pieces)))
                    return 0.0

                in_turns(run_raw, run_ours, 1)
                raw_seen.clear()
                our_seen.clear()
                in_turns(run_raw, run_ours, ROUNDS)
                raw.close()
                ours.close()
        finally:
            recorded = relay.close()
    sent: Times = {}
    for pieces in recorded:
        sent.update(_times(text_frames(pieces)))
    raw_ways = _ways(sent, raw_seen)
    our_ways = _ways(sent, our_seen)
    reference = statistics.median(raw_ways)
    print(f"(p99 of the reference: {percentile(raw_ways, 99):.2f} ms)")
    return report(
        Figure("event to reader, median", statistics.median(our_ways), reference, "added", 2.0),
        Figure("event to reader, p99", percentile(our_ways, 99), reference, "added", 10.0),
    )


def _times(messages: Iterable[tuple[float, dict[str, Any]]]) -> Times:
    """Return when each progress event was there; ComfyUI's form and ours differ in one name."""
    found = {}
    for when, message in messages:
        if "progress" in (message.get("type"), message.get("event")):
            data = message["data"]
            found[data["prompt_id"], data["value"]] = when
    return found


def _ways(sent: Times, seen: Times) -> list[float]:
    """Return how long each event was on its way, in milliseconds; none may be missing."""
    if len(seen) != ROUNDS * STEPS:
        raise RuntimeError(f"{len(seen)} of {ROUNDS * STEPS} events arrived")
    return [(when - sent[event]) * 1000 for event, when in seen.items()]


if __name__ == "__main__":
    run(main)
