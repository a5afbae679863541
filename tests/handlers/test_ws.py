"""The WebSocket of the clients."""

from __future__ import annotations

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


async def test_first_message_names_the_session(connect):
    socket = await connect(clientId="me")
    message = await socket.read()
    assert message["event"] == "status"
    assert message["data"]["sid"] == "me"
    anonymous = await connect()
    assert (await anonymous.read())["data"]["sid"]


async def test_the_query_chooses_the_machine(connect, chain):
    for query, code in (({"machine": "local"}, None), ({"machine": "no-such"}, "not_found")):
        socket = await connect(clientId="me", **query)
        await socket.send("queue_prompt", workflow_api=chain())
        last = (await socket.until("error" if code else "result"))[-1]
        assert last["data"]["code" if code else "machine"] == (code or "local")


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


async def test_a_client_receives_events_of_its_own_runs_only(connect, chain, api):
    mine, other, everything = (
        await connect(clientId="me"),
        await connect(clientId="you"),
        await connect(),
    )
    for socket in (mine, other, everything):
        await socket.read()
    prompt_id = str(uuid.uuid4())
    await mine.send("queue_prompt", workflow_api=chain(), prompt_id=prompt_id)
    events = await mine.until("result")
    last = await mine.read()
    assert last == {"event": "status", "data": {"prompt_id": prompt_id, "status": "success"}}
    assert {"execution_start", "executing", "executed", "live_status"} <= {
        m["event"] for m in events
    }
    events_of_all = await everything.until("result")
    assert {m["data"]["prompt_id"] for m in events_of_all} == {prompt_id}
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(other.connection.read_message(), 0.2)
    _, record = await api.get("check-status", prompt_id=prompt_id)
    assert record["status"] == "success"


async def test_previews_are_frames_as_comfyui_sends_them(connect, chain):
    socket = await connect(clientId="me")
    await socket.read()
    graph = chain(("TestPreview", {"steps": 2, "delay": 0.05, "size": 24}))
    await socket.send("queue_prompt", workflow_api=graph)
    frames = [m for m in await socket.until("result") if isinstance(m, bytes)]
    assert frames
    for frame in frames:
        kind, length = struct.unpack_from(">II", frame)
        assert kind == 4
        assert json.loads(frame[8 : 8 + length])["node_id"] == "1"
        assert Image.open(io.BytesIO(frame[8 + length :])).size == (24, 24)


async def test_inputs_are_merged_into_the_next_prompt(connect):
    socket = await connect(clientId="me")
    await socket.read()
    graph = {"7": {"class_type": "TestSeed", "inputs": {"seed": 1, "token": uuid.uuid4().hex}}}
    await socket.send("input", inputs={"seed": 11})
    await socket.send("queue_prompt", workflow_api=graph)
    assert (await socket.until("result"))[-1]["data"]["seeds"] == {"7.seed": 11}
    await socket.until("status")
    await socket.send("queue_prompt", workflow_api=graph)
    assert (await socket.until("result"))[-1]["data"]["seeds"] == {"7.seed": 1}


async def test_interrupt(connect, chain):
    socket = await connect(clientId="me")
    await socket.read()
    prompt_id = str(uuid.uuid4())
    graph = chain(("TestSleep", {"seconds": 30}))
    await socket.send("queue_prompt", workflow_api=graph, prompt_id=prompt_id)
    await socket.until("executing")
    await socket.send("interrupt", prompt_id=prompt_id)
    assert (await socket.until("result"))[-1]["data"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("{}", "invalid_request"),
        ('{"event": "dance"}', "invalid_request"),
        ('{"event": "input", "inputs": 3}', "invalid_request"),
        ('{"event": "queue_prompt"}', "invalid_request"),
        ('{"event": "queue_prompt", "inputs": 3}', "invalid_request"),
        ('{"event": "interrupt", "prompt_id": "never-was"}', "not_found"),
        (b"\x00\x01", "invalid_request"),
    ],
)
async def test_bad_message_is_answered_and_the_socket_stays_open(connect, message, code):
    socket = await connect(clientId="me")
    await socket.read()
    await socket.connection.write_message(message, binary=isinstance(message, bytes))
    answer = await socket.read()
    assert answer["event"] == "error"
    assert answer["data"]["code"] == code
    assert answer["data"]["error"]
    await socket.send("input", inputs={})
    await socket.send("dance")
    assert (await socket.read())["data"]["code"] == "invalid_request"


async def test_a_handshake_with_a_bad_query_is_refused(extension, jp_ws_fetch):
    with pytest.raises(HTTPClientError) as refusal:
        await jp_ws_fetch("comfyui-deploy", "ws", params={"clientId": "a b"})
    assert refusal.value.code == 400


HANDSHAKE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize("upgrade", [{}, {"Upgrade": "h2c"}])
async def test_request_that_is_no_handshake_gets_our_error(api, upgrade):
    response = await api.raw("GET", "ws", headers={**HANDSHAKE, "Upgrade": "", **upgrade})
    assert response.code == 400
    assert response.headers["Content-Type"] == "application/json"
    body = json.loads(response.body)
    assert (body["code"], body["details"]["field"]) == ("invalid_request", "Upgrade")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Connection": "close"}, 400),
        ({"Sec-WebSocket-Version": ""}, 426),
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Key": ""}, 400),
    ],
)
async def test_an_invalid_handshake_opens_no_socket(extension, jp_fetch, change, status):
    with pytest.raises(HTTPClientError) as refusal:
        await jp_fetch("comfyui-deploy", "ws", headers={**HANDSHAKE, **change})
    assert refusal.value.code == status
    assert not extension.sockets


async def test_large_messages_keep_their_order(connect):
    socket = await connect(clientId="me")
    await socket.read()
    filler = "x" * 8_000_000
    await socket.connection.write_message("{" + filler)
    await socket.send("dance")
    await socket.send("input", inputs={"seed": 11}, filler=filler)
    graph = {"7": {"class_type": "TestSeed", "inputs": {"seed": 1, "token": uuid.uuid4().hex}}}
    await socket.send("queue_prompt", workflow_api=graph)
    assert (await socket.read())["data"]["code"] == "invalid_json"
    assert (await socket.read())["data"]["code"] == "invalid_request"
    assert (await socket.until("result"))[-1]["data"]["seeds"] == {"7.seed": 11}


async def test_status_of_the_socket(connect, api, chain):
    code, body = await api.get("check-ws-status")
    assert code == 200
    assert body["clients"] == 0
    first, second = await connect(clientId="me"), await connect(clientId="me")
    await first.read()
    await second.read()
    await first.send("queue_prompt", workflow_api=chain(("TestSleep", {"seconds": 0.3})))
    await first.until("executing")
    _, body = await api.get("check-ws-status", client_id="me")
    assert body["connected"] is True
    assert body["clients"] == 2
    assert body["last_event_at"]
    assert body["remaining_queue"] == 1
    await first.until("result")
    _, body = await api.get("check-ws-status", client_id="me")
    assert body["remaining_queue"] == 0
    code, body = await api.get("check-ws-status", client_id="nobody")
    assert (code, body["code"]) == (404, "not_found")
