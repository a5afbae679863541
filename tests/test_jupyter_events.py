"""Runs and machines in Jupyter's event system, read from ``/api/events/subscribe``."""

import asyncio
import time

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator
from yarl import URL

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import RunFailedError
from comfydeploy_jupyter.extension import EVENT_SCHEMAS, EVENTS
from tests.helpers.comfyui_proxies import FaultyComfyUI
from tests.helpers.jupyter import chain


def events_during(server, work, done):
    """Return the events of this package that a subscriber gets while some work is done."""

    async def follow():
        found = []
        headers = {"Authorization": f"token {server.token}"}
        url = URL(f"{server.url}api/events/subscribe", encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, headers=headers) as socket,
        ):
            working = asyncio.ensure_future(asyncio.to_thread(work))
            deadline = time.monotonic() + 60
            while not done(found):
                event = await socket.receive_json(timeout=deadline - time.monotonic())
                if event["schema_id"] in EVENTS.values():
                    found.append(event)
            await working
        return found

    return asyncio.run(follow())


def of(name, events):
    """Return the events with a schema."""
    return [event for event in events if event["schema_id"] == EVENTS[name]]


def test_the_schemas_are_schemas():
    for name, address in EVENTS.items():
        schema = yaml.safe_load((EVENT_SCHEMAS / f"{name}.yaml").read_text())
        assert schema["$id"] == address
        Draft202012Validator.check_schema(schema)


def test_runs_that_start_and_end(jupyter):
    comfy = Comfy(jupyter.url, jupyter.token)
    ids = []

    def work():
        ids.append(comfy.run(chain(("TestSleep", {"seconds": 0.1}))).prompt_id)
        with pytest.raises(RunFailedError) as failed:
            comfy.run(chain(("TestFail", {"message": "the message of a node"})))
        ids.append(failed.value.result.prompt_id)

    def done(found):
        return sum(event.get("action") == "ended" for event in found) == 2

    events = of("run", events_during(jupyter, work, done))
    assert [(event["action"], event["prompt_id"], event["status"]) for event in events] == [
        ("started", ids[0], "running"),
        ("ended", ids[0], "success"),
        ("started", ids[1], "running"),
        ("ended", ids[1], "failed"),
    ]
    assert all(event["machine"] == "local" for event in events)
    assert events[1]["execution_time"] > 0
    assert events[3]["error_type"] == "ValueError"
    assert "the message of a node" not in str(events)  # it may contain anything


def test_machines_that_connect_and_disconnect(jupyter, comfyui):
    comfy = Comfy(jupyter.url, jupyter.token)
    proxy = FaultyComfyUI(comfyui.url)
    proxy.start()

    def work():
        comfy.machines.create("comes and goes", comfyui_url=proxy.url)
        proxy.drop_sockets()

    def done(found):
        return len([e for e in of("machine", found) if e["machine"] != "local"]) >= 3

    try:
        events = of("machine", events_during(jupyter, work, done))
    finally:
        comfy.machines.get("comes and goes").delete()
        proxy.close()
    actions = [event["action"] for event in events if event["machine"] != "local"]
    assert actions[:3] == ["up", "down", "up"]
