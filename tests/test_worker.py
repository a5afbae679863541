"""Work on large graphs in a separate process."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from typing import Any

import pytest

from comfydeploy_jupyter import errors
from comfydeploy_jupyter.errors import ComfyDeployError, InvalidJSONError, NotFoundError
from comfydeploy_jupyter.util import worker
from comfydeploy_jupyter.util.jsons import PROCESS_ABOVE, RawJSON, chunks, dumps, is_large
from comfydeploy_jupyter.util.worker import parse_body, parse_reply

pytestmark = pytest.mark.slow


def describe(value: Any, pid: int) -> tuple[str, bool]:
    return repr(value), os.getpid() == pid


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
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
