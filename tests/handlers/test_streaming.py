"""Event streams of runs."""

import asyncio
import base64
import io
import json
import time
import uuid
from itertools import pairwise

import pytest
from PIL import Image
from tornado.httpclient import HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tests.helpers.bodies import picture
from tests.helpers.jupyter import parse_stream
from tests.helpers.selection import few
from tests.helpers.waiting import until_async

STREAM = "comfyui-deploy/run/streaming"


def names(messages):
    return [data.get("event") for _, data in messages]


def data_of(messages, event):
    return [message["data"] for _, message in messages if message.get("event") == event]


async def test_the_stream_has_all_events_in_order(events, chain):
    graph = chain(("TestProgress", {"steps": 3, "delay": 0.01}))
    messages = await events(body={"workflow_api": graph})
    assert [number for number, _ in messages] == list(range(1, len(messages) + 1))
    first = messages[0][1]
    assert set(first) == {"prompt_id", "number", "node_errors"}
    found = names(messages)
    assert found[1] == "execution_start"
    assert {
        *("execution_cached", "executing", "progress", "progress_state", "executed"),
        *("live_status", "output_ready", "execution_success", "result", "status"),
    } <= set(found)
    assert (found[-2:], found.count("status")) == (["result", "status"], 1)
    result = messages[-2][1]["data"]
    assert result["prompt_id"] == first["prompt_id"]
    assert result["outputs"]["2"] == {"text": ["done"]}
    assert messages[-1][1]["data"] == {"prompt_id": first["prompt_id"], "status": "success"}
    progress = [data["progress"] for data in data_of(messages, "live_status")]
    assert progress == sorted(progress)
    assert all(0 <= value <= 1 for value in progress)


async def test_progress_is_the_share_of_the_work(api, events, chain):
    """Small nodes do not count as a third of a run; later runs use the times of earlier ones."""

    def graph():
        return chain(
            ("TestSleep", {"seconds": 0.05}),
            ("TestProgress", {"steps": 20, "delay": 0.05}),
            ("TestSleep", {"seconds": 1.0}),
        )

    messages = await events(body={"workflow_api": graph()})
    first = data_of(messages, "live_status")
    before = [live["progress"] for live in first if live["current_node"] == "1"]
    sampler = [live for live in first if live["current_node"] == "2"]
    assert max(before) < 0.1
    assert sampler[0]["time_left"] is None, "it is not known yet"
    assert sampler[-1]["progress"] > 0.85
    assert max(b["progress"] - a["progress"] for a, b in pairwise(sampler)) < 0.15
    times = messages[-2][1]["data"]["node_times"]  # on a busy machine more than the graph says
    total = sum(times[node] for node in ("1", "2", "3"))
    again = data_of(await events(body={"workflow_api": graph()}), "live_status")
    assert again[0]["time_left"] == pytest.approx(total, rel=0.35)
    last = [live for live in again if live["current_node"] == "3"]
    assert last[0]["progress"] == pytest.approx(1 - times["3"] / total, abs=0.15)
    assert len(last) > 1, "the bar moves with time while a node reports nothing"
    progress = [live["progress"] for live in again]
    assert progress == sorted(progress)


async def test_the_status_of_a_run_has_its_progress(api, chain):
    graph = chain(("TestProgress", {"steps": 100, "delay": 0.05}))
    prompt_id = await api.start(graph)
    record = await api.until(prompt_id, "running")
    while not record.get("progress"):
        record = await api.until(prompt_id, "running")
    assert 0 < record["progress"] < 0.9
    assert record["live_status"] == "Executing TestProgress"
    assert record["current_node"] == "1"
    assert set(record) >= {"time_left"}
    await api.post("interrupt", {"prompt_id": prompt_id})
    record = await api.until(prompt_id, "cancelled")
    assert "progress" not in record


async def test_the_result_comes_after_comfyuis_last_event(events, chain):
    """The end is stored at `execution_success`, and sent after ComfyUI's last event."""
    for _ in few(range(20), 5):
        messages = await events(body={"workflow_api": chain()})
        executing = [data.get("node") for data in data_of(messages[:-2], "executing")]
        assert executing[-1] is None, executing
        assert names(messages)[-2:] == ["result", "status"]


async def test_finished_outputs_have_their_url(events, jp_base_url):
    messages = await events(body={"workflow_api": picture(width=8, height=8)})
    (ready,) = data_of(messages, "output_ready")
    (image,) = ready["output"]["images"]
    assert image["url"].startswith(f"{jp_base_url}comfyui-deploy/view?")
    assert "type=temp" in image["url"]


@pytest.mark.parametrize(("wanted", "count"), [(True, 3), (False, 0)])
async def test_previews_only_where_asked_for(events, chain, wanted, count):
    graph = chain(("TestPreview", {"steps": 3, "delay": 0.02, "size": 16}))
    messages = await events(body={"workflow_api": graph, "previews": wanted})
    previews = data_of(messages, "preview")
    assert len(previews) == count
    for preview in previews:
        assert (preview["node"], preview["mime"]) == ("1", "image/jpeg")
        assert Image.open(io.BytesIO(base64.b64decode(preview["image"]))).size == (16, 16)


async def test_runs_without_success_end_their_streams(events, api, chain):
    messages = await events(body={"workflow_api": chain(("TestFail", {"message": "oh"}))})
    assert names(messages)[-2:] == ["result", "status"]
    assert messages[-1][1]["data"]["status"] == "failed"
    assert messages[-2][1]["data"]["error"]["message"] == "oh"
    prompt_id = str(uuid.uuid4())
    graph = chain(("TestSleep", {"seconds": 30}))
    stream = asyncio.ensure_future(events(body={"workflow_api": graph, "prompt_id": prompt_id}))
    await api.until(prompt_id, "running")
    await api.post("interrupt", {"prompt_id": prompt_id})
    messages = await stream
    assert messages[-1][1]["data"] == {"prompt_id": prompt_id, "status": "cancelled"}


class SlowFile(RequestHandler):
    """A picture that is sent late, or does not exist."""

    async def get(self, seconds, code):
        await asyncio.sleep(float(seconds))
        self.set_status(int(code))
        if code == "200":
            picture = io.BytesIO()
            Image.new("RGB", (8, 8)).save(picture, "PNG")
            self.finish(picture.getvalue())


@pytest.fixture
def graph_of_file(jp_asyncio_loop):
    """Return a function that makes a graph which needs a slowly downloaded file."""
    socket, port = bind_unused_port()
    server = HTTPServer(Application([(r"/([\d.]+)/(\d+)/.*", SlowFile)]))

    async def start():
        server.add_socket(socket)

    def make(seconds, code=200):
        url = f"http://127.0.0.1:{port}/{seconds}/{code}/a.png"
        inputs = {"input_id": "photo", "default_value_url": url}
        photo = {"class_type": "ComfyUIDeployExternalImage", "inputs": inputs}
        return {**picture(), "1": photo}

    jp_asyncio_loop.run_until_complete(start())
    yield make
    server.stop()


@pytest.mark.thorough
async def test_the_stream_begins_before_a_run_that_takes_long_to_queue(
    api, events, graph_of_file, wire
):
    missing_id, refused_id, cancelled_id = (str(uuid.uuid4()) for _ in range(3))

    async def cancel_later():
        await asyncio.sleep(6)
        assert (await api.post("interrupt", {"prompt_id": cancelled_id}))[0] == 200

    async def join():
        await asyncio.sleep(0.5)
        return await events("GET", params={"prompt_id": missing_id})

    body = {"workflow_api": graph_of_file(6), "prompt_id": missing_id}
    reader, writer = await wire.send("POST", STREAM, body=json.dumps(body).encode())
    unreadable = graph_of_file(6)
    unreadable["2"]["inputs"]["images"] = ["1", 5]
    reading = asyncio.gather(
        events(body={"workflow_api": graph_of_file(6)}),
        events(body={"workflow_api": graph_of_file(6, 404)}),
        events(body={"workflow_api": unreadable, "prompt_id": refused_id}),
        events(body={"workflow_api": graph_of_file(9), "prompt_id": cancelled_id}),
        join(),
        cancel_later(),
    )
    head = await reader.readuntil(b": keep awake\n\n")
    assert b"200 OK" in head
    assert b"text/event-stream" in head
    writer.close()
    messages, missing, refused, cancelled, joined, _ = await reading
    assert set(joined[0][1]) == {"prompt_id", "number", "node_errors"}
    assert joined[-1][1]["data"] == {"prompt_id": missing_id, "status": "success"}
    assert set(messages[0][1]) == {"prompt_id", "number", "node_errors"}
    assert [number for number, _ in messages] == list(range(1, len(messages) + 1))
    assert messages[-1][1]["data"]["status"] == "success"
    assert names(missing) == ["error", "status"]
    assert missing[0][1]["data"]["details"]["field"] == "inputs.photo"
    assert missing[1][1]["data"] == {"prompt_id": None, "status": "failed"}
    assert names(cancelled) == ["error", "status"]
    assert cancelled[1][1]["data"] == {"prompt_id": None, "status": "cancelled"}
    assert names(refused) == ["error", "status"]
    assert refused[0][1]["data"]["code"] == "prompt_invalid"
    assert refused[1][1]["data"] == {"prompt_id": refused_id, "status": "failed"}
    last = {"Last-Event-ID": str(refused[-1][0])}
    again = await events("GET", params={"prompt_id": refused_id}, headers=last)
    assert names(again) == ["status"]
    assert (await api.until(missing_id, "success"))["success"] is True


async def test_a_run_is_cancelled_before_it_is_queued(api, events, graph_of_file):
    prompt_id = str(uuid.uuid4())
    body = {"workflow_api": graph_of_file(3), "prompt_id": prompt_id}
    posting = asyncio.ensure_future(api.post("run", body))
    await asyncio.sleep(0.5)
    await api.post("machine/create", {"name": "other", "comfyui_url": "http://127.0.0.1:9"})
    refused = await api.refusal("interrupt", {"prompt_id": prompt_id, "machine": "other"})
    assert refused == (404, "prompt_id")
    code, answer = await api.post("interrupt", {"prompt_id": prompt_id, "machine": "local"})
    assert (code, answer["was"]) == (200, "queued")
    code, answer = await posting
    assert (code, answer["details"]) == (409, {"prompt_id": prompt_id, "status": "cancelled"})
    assert (await api.get("check-status", prompt_id=prompt_id))[0] == 404
    await api.run(graph_of_file(0), prompt_id=prompt_id)


@pytest.mark.thorough
async def test_timeout_counts_from_the_request(api, events, graph_of_file):
    prompt_id = str(uuid.uuid4())
    body = {"workflow_api": graph_of_file(3), "prompt_id": prompt_id, "timeout": 0.2}
    began = time.monotonic()
    code, answer = await api.post("run", body)
    assert time.monotonic() - began < 2.5
    assert (code, answer["code"], answer.get("prompt_id")) == (504, "timeout", None)
    assert "was not queued" in answer["error"]
    with pytest.raises(HTTPClientError) as refusal:
        await events(body=body)
    assert refusal.value.code == 504
    await asyncio.sleep(3)
    assert (await api.get("check-status", prompt_id=prompt_id))[0] == 404
    await api.run(**{**body, "timeout": 20})
    # Where ComfyUI is ready there is a run, however short the time is.
    code, answer = await api.post("run", {"workflow_api": graph_of_file(0), "timeout": 1e-9})
    assert (code, answer["code"]) == (504, "timeout")
    assert (await api.until(answer["prompt_id"], "success"))["success"] is True


async def test_refusals_are_ordinary_errors(events):
    graph = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    for method, code, request in (
        ("POST", 400, {"body": {"workflow_api": graph}}),
        ("GET", 404, {"params": {"prompt_id": "never-was"}}),
        ("GET", 400, {"params": {"prompt_id": "x"}, "headers": {"Last-Event-ID": "two"}}),
    ):
        with pytest.raises(HTTPClientError) as refusal:
            await events(method, **request)
        assert refusal.value.code == code
        assert refusal.value.response.headers["Content-Type"].startswith("application/json")


async def test_timeout_ends_the_stream_but_not_the_run(events, api, chain):
    graph = chain(("TestSleep", {"seconds": 3}))
    messages = await events(body={"workflow_api": graph, "timeout": 1})
    assert names(messages)[-2:] == ["error", "status"]
    assert messages[-2][1]["data"]["code"] == "timeout"
    assert messages[-1][1]["data"]["status"] == "running"
    ids = [event_id for event_id, _ in messages]
    assert ids == sorted(set(ids))
    prompt_id = messages[0][1]["prompt_id"]
    await api.until(prompt_id, "success")
    # A client that reconnects after the timeout misses no event, and gets none twice.
    params = {"prompt_id": prompt_id}
    whole = await events("GET", params=params)
    rest = await events("GET", params=params, headers={"Last-Event-ID": str(ids[-1])})
    assert messages[:-2] + rest == whole


async def test_many_streams_follow_one_run(events, extension, api, chain):
    graph = chain(("TestProgress", {"steps": 20, "delay": 0.1}))
    params = {"prompt_id": await api.start(graph)}
    run = extension.services.runs.find(params["prompt_id"])
    await until_async(lambda: run.log.last_id >= 4)

    async def after(event_id):
        return await events("GET", params=params, headers={"Last-Event-ID": str(event_id)})

    whole, *others, early = await asyncio.gather(*(after(n) for n in (0, 0, 0, 4, 999)))
    assert others == [whole, whole, whole[4:]]
    assert names(early)[-2:] == ["result", "status"], "this event did not exist yet"
    assert names(whole)[-1] == "status"
    assert [await after(0), await after(4)] == [whole, whole[4:]]
    # A client whose Last-Event-ID is the last id or a higher one receives the end again.
    assert [await after(whole[-1][0]), await after(999)] == [whole[-1:]] * 2


async def test_events_leave_as_they_arrive(extension, jp_fetch, chain):
    arrivals = []
    graph = chain(("TestProgress", {"steps": 5, "delay": 0.1}))
    await jp_fetch(
        *("comfyui-deploy", "run", "streaming"),
        method="POST",
        body=json.dumps({"workflow_api": graph}),
        streaming_callback=lambda chunk: arrivals.append((time.monotonic(), chunk)),
    )
    steps = [
        when
        for when, chunk in arrivals
        for _, data in parse_stream(chunk)
        if data.get("event") == "progress"
    ]
    assert len(steps) == 5
    assert steps[-1] - steps[0] > 0.3
