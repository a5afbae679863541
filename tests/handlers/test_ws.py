"""The WebSocket of the clients."""

import asyncio
import io
import json
import struct
import uuid

import pytest
from PIL import Image
from tornado.httpclient import HTTPClientError

from tests.helpers.jupyter import documented_events

EVENTS = documented_events("The WebSocket") | documented_events("The events of a run")


class Socket:
    def __init__(self, connection):
        self.connection = connection

    async def send(self, event, **fields):
        await self.connection.write_message(json.dumps({"event": event, **fields}))

    async def queue(self, graph, **fields):
        """Queue a prompt, and return its result."""
        await self.send("queue_prompt", workflow_api=graph, **fields)
        return (await self.until("result"))[-1]["data"]

    async def read(self):
        message = await asyncio.wait_for(self.connection.read_message(), 20)
        assert message is not None, "the server closed the socket"
        if isinstance(message, bytes):
            return message
        event = json.loads(message)
        assert event["event"] in EVENTS, event
        return event

    async def until(self, event):
        """Read up to an event; return all messages, it included."""
        messages = []
        while True:
            messages.append(await self.read())
            if isinstance(messages[-1], dict) and messages[-1]["event"] == event:
                return messages


@pytest.fixture
def mine(connect, jp_asyncio_loop):
    """A socket of the client ``me``, whose first message was read."""

    async def open_and_read():
        socket = await connect(clientId="me")
        message = await socket.read()
        assert (message["event"], message["data"]["sid"]) == ("status", "me")
        return socket

    return jp_asyncio_loop.run_until_complete(open_and_read())


def seeded():
    return {"7": {"class_type": "TestSeed", "inputs": {"seed": 1, "token": uuid.uuid4().hex}}}


@pytest.fixture
def connect(extension, jp_ws_fetch, jp_asyncio_loop):
    opened = []

    async def open_socket(**params):
        socket = Socket(await jp_ws_fetch("comfyui-deploy", "ws", params=params))
        opened.append(socket)
        return socket

    yield open_socket
    for socket in opened:
        socket.connection.close()
    jp_asyncio_loop.run_until_complete(asyncio.sleep(0.05))


async def test_the_query_chooses_the_machine(connect, chain):
    socket = await connect(machine="local")
    assert (await socket.read())["data"]["sid"], "a client without an id gets one"
    assert (await socket.queue(chain()))["machine"] == "local"
    socket = await connect(clientId="me", machine="no-such")
    await socket.send("queue_prompt", workflow_api=chain())
    assert (await socket.until("error"))[-1]["data"]["code"] == "not_found"


async def test_a_graph_in_a_message_takes_precedence_over_the_query(connect, api):
    def graph(text):
        return {"1": {"class_type": "TestText", "inputs": {"text": text}}}

    bodies = []
    for text in "abc":
        _, converted = await api.post("workflow/convert", {"workflow_api": graph(text)})
        bodies.append({"name": "w", "workflow": converted["workflow"]})
    ids = [(await api.post("workflow", body))[1]["workflow_id"] for body in bodies[:2]]
    _, saved = await api.post("workflow", {**bodies[2], "workflow_id": ids[0]})
    assert saved["version"] == 2
    socket = await connect(clientId=uuid.uuid4().hex, workflow_id=ids[0], version="2")
    for said, expected in (
        ({}, "c"),
        ({"version": 1}, "a"),
        ({"workflow_id": ids[1]}, "b"),
        ({"workflow_api": graph("d")}, "d"),
    ):
        await socket.send("queue_prompt", **said)
        result = (await socket.until("result"))[-1]["data"]
        assert result["outputs"] == {"1": {"text": [expected]}}


async def test_a_client_receives_events_of_its_own_runs_only(mine, connect, chain, api):
    other, everything = await connect(clientId="you"), await connect()
    for socket in (other, everything):
        await socket.read()
    prompt_id = str(uuid.uuid4())
    await mine.send("queue_prompt", workflow_api=chain(), prompt_id=prompt_id)
    events = {message["event"] for message in await mine.until("result")}
    assert {"execution_start", "executing", "executed", "live_status"} <= events
    last = {"event": "status", "data": {"prompt_id": prompt_id, "status": "success"}}
    assert await mine.read() == last
    events_of_all = await everything.until("result")
    assert {m["data"]["prompt_id"] for m in events_of_all} == {prompt_id}
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(other.connection.read_message(), 0.2)
    _, record = await api.get("check-status", prompt_id=prompt_id)
    assert record["status"] == "success"


async def test_previews_are_frames_as_comfyui_sends_them(mine, chain):
    graph = chain(("TestPreview", {"steps": 2, "delay": 0.05, "size": 24}))
    await mine.send("queue_prompt", workflow_api=graph)
    frames = [m for m in await mine.until("result") if isinstance(m, bytes)]
    assert frames
    for frame in frames:
        kind, length = struct.unpack_from(">II", frame)
        assert kind == 4
        assert json.loads(frame[8 : 8 + length])["node_id"] == "1"
        assert Image.open(io.BytesIO(frame[8 + length :])).size == (24, 24)


async def test_inputs_are_merged_into_the_next_prompt(mine):
    graph = seeded()
    await mine.send("input", inputs={"seed": 11})
    assert (await mine.queue(graph))["seeds"] == {"7.seed": 11}
    await mine.until("status")
    assert (await mine.queue(graph))["seeds"] == {"7.seed": 1}


async def test_interrupt(mine, chain):
    prompt_id = str(uuid.uuid4())
    graph = chain(("TestSleep", {"seconds": 30}))
    await mine.send("queue_prompt", workflow_api=graph, prompt_id=prompt_id)
    await mine.until("executing")
    await mine.send("interrupt", prompt_id=prompt_id)
    assert (await mine.until("result"))[-1]["data"]["status"] == "cancelled"


async def test_bad_messages_are_answered_and_the_socket_stays_open(mine):
    for message, code in (
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("{}", "invalid_request"),
        ('{"event": "dance"}', "invalid_request"),
        ('{"event": "input", "inputs": 3}', "invalid_request"),
        ('{"event": "queue_prompt"}', "invalid_request"),
        ('{"event": "queue_prompt", "inputs": 3}', "invalid_request"),
        ('{"event": "interrupt", "prompt_id": "never-was"}', "not_found"),
        (b"\x00\x01", "invalid_request"),
    ):
        await mine.connection.write_message(message, binary=isinstance(message, bytes))
        answer = await mine.read()
        assert (answer["event"], answer["data"]["code"]) == ("error", code), message
        assert answer["data"]["error"]


HANDSHAKE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def test_requests_that_are_no_handshake_get_our_error(api):
    for upgrade in ("", "h2c"):
        response = await api.raw("GET", "ws", headers={**HANDSHAKE, "Upgrade": upgrade})
        assert response.code == 400
        assert response.headers["Content-Type"] == "application/json"
        body = json.loads(response.body)
        assert (body["code"], body["details"]["field"]) == ("invalid_request", "Upgrade")


async def test_an_invalid_handshake_opens_no_socket(extension, jp_fetch, jp_ws_fetch):
    for change, status in (
        ({"Connection": "close"}, 400),
        ({"Sec-WebSocket-Version": ""}, 426),
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Key": ""}, 400),
    ):
        with pytest.raises(HTTPClientError) as refusal:
            await jp_fetch("comfyui-deploy", "ws", headers={**HANDSHAKE, **change})
        assert refusal.value.code == status, change
    with pytest.raises(HTTPClientError) as refusal:
        await jp_ws_fetch("comfyui-deploy", "ws", params={"clientId": "a b"})
    assert refusal.value.code == 400
    assert not extension.sockets


async def test_large_messages_keep_their_order(mine):
    filler = "x" * 8_000_000
    await mine.connection.write_message("{" + filler)
    await mine.send("dance")
    await mine.send("input", inputs={"seed": 11}, filler=filler)
    await mine.send("queue_prompt", workflow_api=seeded())
    assert (await mine.read())["data"]["code"] == "invalid_json"
    assert (await mine.read())["data"]["code"] == "invalid_request"
    assert (await mine.until("result"))[-1]["data"]["seeds"] == {"7.seed": 11}


async def test_status_of_the_socket(connect, api, chain):
    code, body = await api.get("check-ws-status")
    assert (code, body["clients"]) == (200, 0)
    first, second = await connect(clientId="me"), await connect(clientId="me")
    await first.read()
    await second.read()
    await first.send("queue_prompt", workflow_api=chain(("TestSleep", {"seconds": 0.3})))
    await first.until("executing")
    _, body = await api.get("check-ws-status", client_id="me")
    assert (body["connected"], body["clients"], body["remaining_queue"]) == (True, 2, 1)
    assert body["last_event_at"]
    await first.until("result")
    _, body = await api.get("check-ws-status", client_id="me")
    assert body["remaining_queue"] == 0
    code, body = await api.get("check-ws-status", client_id="nobody")
    assert (code, body["code"]) == (404, "not_found")
