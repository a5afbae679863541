"""Measures the time from ComfyUI's event to the reader of ``run/streaming``.

ComfyUI sends the events of a run only to the client that queued it, so a second WebSocket would
receive no events. A relay between Jupyter and ComfyUI stores the time at which ComfyUI has sent
each frame, and the reader stores the time at which it has received the same event. The reference is
a plain WebSocket client behind the same relay. The added time, both of the median and of p99, is
our time minus the reference's *median*: otherwise a large p99 of the reference on a busy machine
would hide a large p99 of ours.
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
    """Return the time of each progress event; ComfyUI's form and ours differ in one name."""
    found = {}
    for when, message in messages:
        if "progress" in (message.get("type"), message.get("event")):
            data = message["data"]
            found[data["prompt_id"], data["value"]] = when
    return found


def _ways(sent: Times, seen: Times) -> list[float]:
    """Return the milliseconds that each event took; fail if an event is missing."""
    if len(seen) != ROUNDS * STEPS:
        raise RuntimeError(f"{len(seen)} of {ROUNDS * STEPS} events arrived")
    return [(when - sent[event]) * 1000 for event, when in seen.items()]


if __name__ == "__main__":
    run(main)
