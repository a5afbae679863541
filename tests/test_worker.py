"""Work on large graphs in a separate process."""

import asyncio
import json
import os
import pickle
import signal
import time

import psutil
import pytest

from comfydeploy_jupyter import errors
from comfydeploy_jupyter.errors import (
    ComfyDeployError,
    InvalidJSONError,
    InvalidRequestError,
    NotFoundError,
)
from comfydeploy_jupyter.util import worker
from comfydeploy_jupyter.util.jsons import PROCESS_ABOVE, RawJSON, chunks, dumps, is_large
from comfydeploy_jupyter.util.worker import parse_body, parse_reply
from tests.helpers.waiting import until_async

pytestmark = pytest.mark.slow


def describe(value, pid):
    return repr(value), os.getpid() == pid


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def own_id(*_):
    return os.getpid()


def fill(size):
    return len(bytearray(size)) and os.getpid()


def stay(path):
    path.write_text(str(os.getpid()))
    time.sleep(600)


def refuse():
    raise NotFoundError("there is none", details={"field": "x"})


async def test_unparsed_json_is_parsed_in_the_worker_process():
    fields = {"graph": RawJSON(b'{"1": [2, "\\u00e9"]}'), "other": 3}
    found = await worker.call(describe, fields, os.getpid())
    assert found == ("{'graph': {'1': [2, 'é']}, 'other': 3}", False)


async def test_small_work_stays_in_this_process():
    assert await worker.run(describe, 1, os.getpid()) == ("1", True)


async def test_errors_of_the_worker_are_raised_unchanged():
    with pytest.raises(NotFoundError, match="there is none") as caught:
        await worker.call(refuse)
    assert caught.value.details == {"field": "x"}


@pytest.mark.parametrize("kind", [c for c in vars(errors).values() if isinstance(c, type)])
def test_every_error_can_be_pickled(kind):
    if not issubclass(kind, ComfyDeployError):
        return
    fault = kind("message", details={"a": 1}, extra={"hint": "h"})
    back = pickle.loads(pickle.dumps(fault))
    assert (type(back), back.to_reply()) == (kind, fault.to_reply())


async def test_a_killed_process_fails_its_call_only():
    calls = [worker.call(die), worker.call(describe, 1, 0), worker.call(die)]
    killed, found, again = await asyncio.gather(*calls, return_exceptions=True)
    assert found == ("1", False)
    for fault in (killed, again):
        assert isinstance(fault, ComfyDeployError)
        assert f"signal {signal.SIGKILL:d}" in fault.message


async def test_a_cancelled_call_ends_its_process(tmp_path):
    calls = [asyncio.ensure_future(worker.call(stay, tmp_path / str(n))) for n in range(3)]
    first = await until_async(
        lambda: [int(path.read_text() or 0) for path in tmp_path.iterdir()],
        lambda found: len(found) == worker.AT_ONCE and all(found),
    )
    for each in calls:
        each.cancel()
    for each in calls:
        with pytest.raises(asyncio.CancelledError):
            await each
    assert await worker.call(describe, 1, 0) == ("1", False)
    await until_async(lambda: not any(map(psutil.pid_exists, first)))
    assert len([*tmp_path.iterdir()]) == worker.AT_ONCE, "the third call has not begun"


async def test_a_process_stays_for_the_next_call_unless_it_has_needed_much_memory(monkeypatch):
    first = await worker.call(own_id)
    assert await worker.run(own_id, "x" * (worker.READY_ABOVE + 1)) == first
    assert await worker.run(own_id, RawJSON(b"[]")) == os.getpid()
    os.kill(first, signal.SIGKILL)  # while it waits
    await until_async(psutil.Process(first).status, lambda status: status == psutil.STATUS_ZOMBIE)
    second = await worker.call(fill, 400 << 20)
    assert await worker.call(own_id) not in (first, second)
    with pytest.raises(AttributeError):
        await worker.call(lambda: None)  # cannot be pickled
    assert await worker.run(own_id, "x" * (worker.READY_ABOVE + 1)) == os.getpid()
    await worker.prepare(own_id, 1)
    third = await worker.run(own_id, "x" * (worker.READY_ABOVE + 1))
    await worker.prepare(own_id, 1)
    assert await worker.call(own_id) == third != os.getpid()
    monkeypatch.setattr(worker, "KEPT", 0)
    assert await worker.call(own_id) == third
    await until_async(lambda: not psutil.pid_exists(third))
    assert await worker.call(own_id) != third


async def test_work_for_which_nobody_waits_has_a_process_of_low_priority():
    slow = asyncio.ensure_future(worker.call_later(time.sleep, 600))
    await asyncio.gather(*(worker.call(own_id) for _ in range(worker.AT_ONCE + 1)))
    assert not slow.done()
    (process,) = (
        each
        for each in psutil.Process().children()
        if each.cmdline()[-2:] == [worker.__name__, str(worker.NICE)]
    )
    await until_async(process.nice, lambda nice: nice == psutil.Process().nice() + worker.NICE)
    process.kill()
    with pytest.raises(ComfyDeployError):
        await slow


def given_back(*args):
    return args


async def test_a_graph_that_is_only_read_is_parsed_where_it_is_used():
    graph = {str(n): {"class_type": "A", "inputs": {"seed": n}} for n in range(20_000)}
    text = json.dumps(graph, indent=1)
    body = dumps({"workflow_api": text, "workflow_json": text[:-1]}).encode()
    read = await parse_body(body, graphs=True, only_read=True)
    assert read["workflow_api"].text == text.encode()
    assert await worker.run(given_back, 1, read["workflow_api"]) == (1, graph)
    stored = await parse_body(body, graphs=True)
    assert stored["workflow_api"].text == dumps(graph).encode()
    accents = json.dumps({"1": {"title": "é" * worker.THREAD_ABOVE}}, ensure_ascii=False)
    half = "\ud83d" + "a" * worker.THREAD_ABOVE
    half = json.dumps({"1": {"title": half}}, ensure_ascii=False)
    for given, more in ((accents, ""), (half, ""), (text, "a" * (4 << 20))):
        body = json.dumps({"workflow": given, "more": more}).encode()
        read = await parse_body(body, graphs=True, only_read=True)
        assert await worker.run(given_back, read["workflow"]) == (json.loads(given),)
    both = dumps({"workflow": text, "workflow_api": graph}).encode()
    assert is_large(*(await parse_body(both, graphs=True, only_read=True)).values())


@pytest.mark.parametrize("size", [worker.THREAD_ABOVE, PROCESS_ABOVE])
async def test_a_graph_that_is_only_read_and_no_json_is_refused_where_it_is_used(size):
    for end in ("", ', "b": 1e999}', ', "b": NaN}', ', "b": ' + "[" * 10_000):
        body = dumps({"workflow": f'{{"a": "{"a" * size}"{end}', "workflow_api": "no text"})
        read = await parse_body(body.encode(), graphs=True, only_read=True)
        assert read["workflow_api"] == "no text"
        with pytest.raises(InvalidRequestError, match=r"workflow: is not JSON"):
            await worker.run(given_back, read["workflow"])


async def test_large_graphs_of_bodies_are_not_parsed():
    graph = {str(n): {"class_type": "A", "inputs": {"text": "é" * 50}} for n in range(4000)}
    text = dumps({"workflow_api": graph, "inputs": {"a": 1}})
    assert len(text) > PROCESS_ABOVE
    body = await parse_body(text.encode(), graphs=True)
    assert is_large(body["workflow_api"])
    assert body["inputs"] == {"a": 1}
    assert dumps(body) == text
    assert b"".join(chunks(body)) == text.encode()
    assert await parse_body(text) == {"workflow_api": graph, "inputs": {"a": 1}}
    answer = await parse_reply(dumps({"versions": [{"workflow": graph, "n": 1}]}).encode())
    assert is_large(answer["versions"][0]["workflow"])
    with pytest.raises(InvalidJSONError, match="twice"):
        await parse_body(text.replace('"3":', '"2":', 1).encode(), unique=True, graphs=True)
    with pytest.raises(InvalidJSONError):
        await parse_body(text[:-1].encode(), graphs=True)
    with pytest.raises(InvalidJSONError, match="object"):
        await parse_body(b"[" + text.encode() + b"]", graphs=True)
