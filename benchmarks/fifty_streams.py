"""Compares fifty parallel runs, each with its own stream, with fifty clients of ComfyUI itself.

ComfyUI executes one run after the other, so the total time is the sum of the runs and of the cost
of the many listeners. Every stream must contain every event of its run, in order, and end with its
status; otherwise the benchmark ends with an error. The clients of both kinds connect, queue and
listen in one process with the same HTTP library.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from typing import TYPE_CHECKING

import aiohttp

from .common import (
    Figure,
    in_turns,
    is_end,
    node,
    report,
    run,
    running_comfyui,
    running_jupyter,
    stream_messages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .common import Jupyter

STREAMS = 50
STEPS = 40
PAIRS = 6


async def raw_client(session: aiohttp.ClientSession, url: str) -> None:
    """Run one prompt as a client of ComfyUI, and check that no step is missing."""
    client_id = uuid.uuid4().hex
    body = {"prompt": node("TestProgress", steps=STEPS, delay=0.0), "client_id": client_id}
    steps: dict[str, list[int]] = {}
    async with session.ws_connect(f"{url}/ws", params={"clientId": client_id}) as socket:
        async with session.post(f"{url}/prompt", json=body) as response:
            prompt_id = (await response.json())["prompt_id"]
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            if message["type"] == "progress":
                steps.setdefault(message["data"]["prompt_id"], []).append(message["data"]["value"])
            if is_end(message, prompt_id):
                break
    if steps[prompt_id] != list(range(1, STEPS + 1)):
        raise RuntimeError(f"a raw client lost events: {steps[prompt_id]}")


async def our_client(session: aiohttp.ClientSession, jupyter: Jupyter) -> None:
    """Run one prompt over our route, and check that its stream is complete."""
    body = {"workflow_api": node("TestProgress", steps=STEPS, delay=0.0)}
    url = f"http://{jupyter.host}:{jupyter.port}/comfyui-deploy/run/streaming"
    async with session.post(url, json=body, headers=jupyter.headers) as response:
        text = await response.read()
    messages = [message for _, message in stream_messages([(0.0, text)])]
    steps = [m["data"]["value"] for m in messages if m.get("event") == "progress"]
    names = [m.get("event") for m in messages]
    last = messages[-1]
    if steps != list(range(1, STEPS + 1)) or names.count("execution_success") != 1:
        raise RuntimeError(f"a stream lost events: {names}")
    if names[-2:] != ["result", "status"] or last["data"]["status"] != "success":
        raise RuntimeError(f"a stream did not end well: {last}")


def all_at_once(
    client: Callable[[aiohttp.ClientSession], Coroutine[None, None, None]],
) -> float:
    """Run all clients at once and return the seconds until the last one is done."""

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            begin = time.perf_counter()
            await asyncio.gather(*(client(session) for _ in range(STREAMS)))
            return time.perf_counter() - begin

    return asyncio.run(run())


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui, running_jupyter(comfyui.url) as jupyter:

        def raw() -> float:
            return all_at_once(lambda session: raw_client(session, comfyui.url))

        def ours() -> float:
            return all_at_once(lambda session: our_client(session, jupyter))

        in_turns(raw, ours, 1)
        raw_totals, our_totals = in_turns(raw, ours, PAIRS)
    return report(
        Figure(
            f"{STREAMS} streams at once, total",
            statistics.median(our_totals),
            statistics.median(raw_totals),
            "ratio",
            2.0,
            "s",
        )
    )


if __name__ == "__main__":
    run(main)
