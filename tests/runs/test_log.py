"""The event log of a run."""

import asyncio
import json
import threading
from cProfile import Profile

from comfydeploy_jupyter.comfyui.socket import Preview, decode_text
from comfydeploy_jupyter.runs import feed as module
from comfydeploy_jupyter.runs.feed import EventLog
from comfydeploy_jupyter.runs.progress import NodeName
from comfydeploy_jupyter.runs.records import RunRecord
from comfydeploy_jupyter.runs.run import Run
from comfydeploy_jupyter.runs.state import Notification

IMAGE = Preview("image/png", b"x" * 10, b"frame", node="1", prompt_id="p")


async def drain(log, after=0):
    return [event.id async for batch in log.read(after, pause=5) for event in batch]


async def test_every_reader_gets_everything_in_order():
    log = EventLog()
    readers = [asyncio.ensure_future(drain(log)) for _ in range(3)]
    for number in range(20):
        log.append("progress", {"value": number})
        if number % 7 == 0:
            await asyncio.sleep(0)
    log.close()
    assert await asyncio.gather(*readers) == [list(range(1, 21))] * 3


async def test_a_reader_continues_after_an_event():
    log = EventLog()
    for _ in range(5):
        log.append("executing", {})
    log.close()
    assert await drain(log, 3) == [4, 5]
    assert await drain(log, 99) == []


async def test_a_reader_that_is_woken_without_an_event_gets_an_empty_batch():
    log = EventLog()
    reader = log.read(pause=60)
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    log.wake()
    assert await asyncio.wait_for(waiting, 5) == []
    log.append("status", {})
    log.close()
    assert [[event.id for event in batch] async for batch in reader] == [[1]]


async def test_a_long_log_is_read_in_portions_without_blocking_the_event_loop():
    log = EventLog()
    for number in range(2_000):
        log.append("progress", {"value": number}, size=100)
    log.append("executed", {"text": "x" * 10 * module.LARGE})
    log.append("status", {})
    log.close()
    turns = 0

    async def take_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(take_turns())
    batches = [batch async for batch in log.read(pause=5)]
    other.cancel()
    assert [event.id for batch in batches for event in batch] == list(range(1, 2_003))
    sizes = [sum(event.size for event in batch) for batch in batches]
    large = [len(batch) for batch, size in zip(batches, sizes, strict=True) if size > module.LARGE]
    assert large == [1]
    assert turns >= len(batches) - 1 > 3


async def test_a_large_event_is_encoded_text_by_text_in_a_thread():
    """Between two texts, Python can let the event loop continue."""
    threads = []

    class Watched(list):
        def __iter__(self):
            for item in super().__iter__():
                threads.append(threading.get_ident())
                yield item

    texts = ["é" * 2_000] * 1_000
    log = EventLog()
    event = log.append("executed", {"output": {"texts": Watched(texts)}}, size=10 * module.LARGE)
    await event.encode()
    assert len(threads) == len(texts), "they are taken one by one"
    assert threading.get_ident() not in threads
    text = event.text
    assert len(threads) == len(texts), "they are encoded once"
    assert json.loads(text) == {"event": "executed", "data": {"output": {"texts": texts}}}


async def test_no_event_id_is_used_after_the_end():
    log = EventLog()
    log.append("", {})
    assert log.reserve(2) == 2
    log.append("status", {})
    log.close()
    assert log.reserve(2) == 5
    assert (log.last_id, [event.id for event in log.after(0)]) == (4, [1, 4])


async def test_silence_gives_empty_batches():
    log = EventLog()
    batches = log.read(pause=0.01)
    assert await batches.__anext__() == []
    log.append("executing", {})
    assert [event.id for event in await batches.__anext__()] == [1]


async def test_reading_ends_in_time():
    log = EventLog()
    deadline = asyncio.get_running_loop().time() + 0.05
    assert [batch async for batch in log.read(pause=5, deadline=deadline)] == []


def test_only_the_last_previews_are_kept():
    log = EventLog()
    for _ in range(10):
        log.append("preview", {"node": "1"}, IMAGE)
    log.append("executed", {})
    kept = log.after(0)
    assert [event.id for event in kept] == [7, 8, 9, 10, 11]
    log.close()
    assert [event.event for event in log.after(0)] == ["executed"]


def test_large_log_drops_stale_progress_only():
    log = EventLog()
    log.append("execution_start", {})
    text = "x" * (module.MAX_BYTES // 100)
    for number in range(150):
        log.append("progress_state", {"text": text, "number": number}, size=len(text))
        if number % 10 == 0:
            log.append("executed", {"number": number})
    kept = log.after(0)
    assert sum(event.size for event in kept) <= module.MAX_BYTES
    assert [event.event for event in kept].count("executed") == 15
    assert kept[0].event == "execution_start"
    assert [e.data["number"] for e in kept if e.event == "progress_state"][-1] == 149
    assert [event.id for event in kept] == sorted(event.id for event in kept)


async def test_the_size_of_events_of_comfyui_is_their_length():
    nodes = {"1": NodeName("A node", "ANode")}
    run = Run(RunRecord("p", "local", "s", created_at="now"), nodes)
    run.send(Notification.FIRST)
    state = {"nodes": {"1": {"state": "running", "note": "x" * (module.MAX_BYTES // 10)}}}
    frame = json.dumps({"type": "progress_state", "data": {"prompt_id": "p", **state}})
    for _ in range(25):
        run.show(decode_text(frame))
    kept = [event for event in run.log.after(0) if event.event == "progress_state"]
    assert 1 <= len(kept) <= 10
    assert all(event.size == len(frame) for event in kept)


def test_message_has_the_form_of_the_contract():
    log = EventLog()
    first = log.append("", {"prompt_id": "p", "number": 1, "node_errors": {}})
    assert first.sse.startswith(b"id: 1\nevent: event_update\ndata: {")
    assert first.sse.endswith(b"}\n\n")
    assert json.loads(first.text) == {"prompt_id": "p", "number": 1, "node_errors": {}}
    second = log.append("preview", {"prompt_id": "p", "node": "1"}, IMAGE)
    data = json.loads(second.text)
    assert data["event"] == "preview"
    assert data["data"]["mime"] == "image/png"
    assert data["data"]["image"] == "eHh4eHh4eHh4eA=="


def test_progress_costs_the_same_beside_many_other_events():
    """Once the other events alone are too large, the log is not copied for each of progress."""
    log = EventLog()
    text = "x" * (module.MAX_BYTES // 100)
    for number in range(120):
        log.append("executed", {"number": number, "text": text})
    with Profile() as profile:
        for number in range(3000):
            log.append("progress", {"value": number}, size=module.SHORT)
    shrunk = [e.callcount for e in profile.getstats() if "_shrink" in str(e.code)]
    assert sum(shrunk) < 10
    kept = [event.data["value"] for event in log.after(0) if event.event == "progress"]
    assert kept[-100:] == [*range(2900, 3000)]
