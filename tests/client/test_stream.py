from __future__ import annotations

import base64
import threading
import time
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.client import Comfy, EventStream
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.errors import (
    NotFoundError,
    PromptInvalidError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    ServerUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.small_server import Reply, Request, SmallServer

    Start = Callable[[Callable[[Request, Reply], None]], SmallServer]

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8}, "_meta": {"title": "Sky"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


def first(request: Request) -> dict[str, object]:
    return {"prompt_id": request.body["prompt_id"], "number": 1, "node_errors": {}}


def record(prompt_id: str, status: str = "success", **more: object) -> dict[str, object]:
    return {"prompt_id": prompt_id, "status": status, "outputs": {}, "error": None, **more}


def result(record: dict[str, object]) -> dict[str, object]:
    return {"event": "result", "data": record}


def status(value: str) -> dict[str, object]:
    return {"event": "status", "data": {"status": value}}


def executing(node: str) -> dict[str, object]:
    return {"event": "executing", "data": {"node": node}}


@pytest.mark.parametrize("chunked", [True, False])
def test_events_arrive_without_delay(small_server: Start, chunked: bool) -> None:
    go_on = threading.Event()

    def answer(request: Request, reply: Reply) -> None:
        reply.start_stream(chunked=chunked)
        reply.event(1, first(request))
        assert go_on.wait(10)
        picture = base64.b64encode(b"picture").decode()
        data = {"node": "1", "mime": "image/png", "image": picture}
        reply.event(2, {"event": "preview", "data": data})
        reply.event(3, status("success"))
        reply.end_stream()

    server = small_server(answer)
    stream = Comfy(server.url, "secret").stream(GRAPH, {"1.width": 16})
    event = next(stream)
    assert (event.event, event.data["number"]) == ("queued", 1)
    go_on.set()
    preview, last = list(stream)
    assert (preview.event, preview.node, preview.image_bytes) == ("preview", "1", b"picture")
    assert "picture" not in repr(preview)
    assert last.is_final
    (request,) = server.requests
    assert request.path == "/user/a%40b/comfyui-deploy/run/streaming"
    assert request.headers["Authorization"] == "token secret"
    assert request.body["workflow_api"] == GRAPH
    assert request.body["inputs"] == {"1.width": 16}


def test_reconnects_after_the_last_received_event(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.start_stream()
            reply.event(1, first(request))
            reply.event(2, executing("1"))
            reply.cut()
        elif request.path.endswith("check-status"):
            reply.json(record(request.query["prompt_id"], "running"))
        else:
            reply.start_stream()
            reply.event(3, executing("2"))
            reply.event(4, result(record(request.query["prompt_id"])))
            reply.event(5, status("success"))
            reply.end_stream()

    server = small_server(answer)
    events = list(Comfy(server.url).stream(GRAPH))
    assert [event.event for event in events] == [
        *("queued", "executing", "executing", "result", "status")
    ]
    join = server.requests[-1]
    assert join.headers["Last-Event-ID"] == "2"
    assert join.query["prompt_id"] == server.requests[0].body["prompt_id"]


def test_a_stream_that_was_not_read_for_long_reconnects(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.start_stream()
            reply.event(1, first(request))
            reply.cut()
        elif request.path.endswith("check-status"):
            reply.json(record(request.query["prompt_id"], "running"))
        else:
            reply.start_stream()
            reply.event(2, status("success"))
            reply.end_stream()

    stream = Comfy(small_server(answer).url).stream(GRAPH)
    assert next(stream).event == "queued"
    stream._last_received -= 3600
    assert [event.event for event in stream] == ["status"]


def test_a_run_whose_first_reply_got_lost_is_found_again(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.cut()
        else:
            reply.start_stream()
            reply.event(1, result(record(request.query["prompt_id"])))
            reply.event(2, status("success"))
            reply.end_stream()

    assert Comfy(small_server(answer).url).run(GRAPH).status == "success"


def test_a_refusal_after_comfyui_had_to_start_is_raised_at_once(small_server: Start) -> None:
    refusal = {
        "code": "prompt_invalid",
        "error": "ComfyUI refuses the graph",
        "hint": "look at it",
        "node_errors": {"1": {"errors": [{"message": "Value too small", "details": "width"}]}},
    }

    def answer(request: Request, reply: Reply) -> None:
        reply.start_stream()
        reply.write(b": keep awake\n\n")
        reply.event(1, {"event": "error", "data": refusal})
        reply.event(2, status("failed"))
        reply.end_stream()

    comfy = Comfy(small_server(answer).url)
    for start in (comfy.run, comfy.submit, comfy.stream):
        with pytest.raises(
            PromptInvalidError, match=r"(?s)refuses the graph \(look at it\).*Sky.*too small"
        ):
            start(GRAPH)


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_is_cancelled_before_it_is_queued(small_server: Start, begun: bool) -> None:
    refusal = {"code": "conflict", "error": "was cancelled", "details": {"status": "cancelled"}}

    def answer(request: Request, reply: Reply) -> None:
        if not begun:
            reply.json(refusal, 409)
            return
        reply.start_stream()
        reply.event(1, {"event": "error", "data": refusal})
        reply.event(2, status("failed"))
        reply.end_stream()

    with pytest.raises(RunCancelledError, match="was cancelled"):
        Comfy(small_server(answer).url).run(GRAPH)


@pytest.mark.parametrize("begun", [False, True])
def test_timeout_counts_while_comfyui_starts(small_server: Start, begun: bool) -> None:
    over = threading.Event()

    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST" and begun:
            over.wait(0.8)
            reply.start_stream()
            reply.write(b": keep awake\n\n")
        over.wait(10)

    comfy = Comfy(small_server(answer).url)
    started = time.monotonic()
    with pytest.raises(RunTimeoutError, match="has not ended after 1 s"):
        comfy.stream(GRAPH, timeout=1)
    assert time.monotonic() - started < 1.7
    over.set()


def test_a_run_that_is_not_queued_yet_is_waited_for(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.start_stream()
            reply.write(b": keep awake\n\n")
            reply.cut()
        elif len(server.requests) < 5:
            reply.json({"success": False, "error": "no such run", "code": "not_found"}, 404)
        elif request.path.endswith("check-status"):
            reply.json(record(request.query["prompt_id"], "running"))
        else:
            reply.start_stream()
            reply.event(1, {"prompt_id": request.query["prompt_id"], "number": 3})
            reply.event(2, result(record(request.query["prompt_id"])))
            reply.event(3, status("success"))
            reply.end_stream()

    server = small_server(answer)
    assert Comfy(server.url).submit(GRAPH).known["number"] == 3
    assert [request.method for request in server.requests] == ["POST", *4 * ["GET"]]


def test_a_run_that_never_reached_the_server_is_an_error(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.cut()
        else:
            reply.json({"success": False, "error": "no such run", "code": "not_found"}, 404)

    with pytest.raises(ServerUnreachableError, match="broke the connection"):
        Comfy(small_server(answer).url).run(GRAPH)


def test_the_end_is_read_from_the_record_if_streams_are_blocked(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.start_stream()
            reply.cut()
        elif request.path.endswith("check-status"):
            done = len([r for r in server.requests if r.path.endswith("check-status")]) > 1
            reply.json(record(request.query["prompt_id"], "success" if done else "running"))
        else:
            reply.raw(b"<h1>Bad Gateway</h1>", 502)

    server = small_server(answer)
    assert Comfy(server.url).run(GRAPH).status == "success"


def test_ends_with_the_run_id_in_the_error_if_the_server_stays_unreachable(
    small_server: Start,
) -> None:
    def answer(request: Request, reply: Reply) -> None:
        if request.method == "POST":
            reply.start_stream()
            reply.event(1, first(request))
        reply.cut()

    server = small_server(answer)
    body = {"prompt_id": "p1", "workflow_api": GRAPH}
    stream = EventStream(Server(server.url), "p1", body=body, patience=0.3)
    with pytest.raises(ServerUnreachableError, match="cannot be followed any more") as caught:
        list(stream)
    assert caught.value.extra["prompt_id"] == "p1"


def test_no_server_at_the_address() -> None:
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        Comfy("http://127.0.0.1:9/").run(GRAPH)


def test_the_timeout_ends_the_wait_in_time(small_server: Start) -> None:
    over = threading.Event()

    def answer(request: Request, reply: Reply) -> None:
        if request.path.endswith("check-status"):
            reply.json(record(request.query["prompt_id"], "running"))
            return
        reply.start_stream()
        reply.event(1, first(request))
        over.wait(20)

    began = time.monotonic()
    with pytest.raises(RunTimeoutError, match=r"has not ended after 0\.3 s; it continues"):
        Comfy(small_server(answer).url).run(GRAPH, timeout=0.3)
    took = time.monotonic() - began
    over.set()
    assert took < 3


def test_close_from_another_thread_wakes_the_reader(small_server: Start) -> None:
    over = threading.Event()

    def answer(request: Request, reply: Reply) -> None:
        reply.start_stream()
        reply.event(1, first(request))
        over.wait(20)

    stream = Comfy(small_server(answer).url).stream(GRAPH)
    next(stream)
    threading.Timer(0.2, stream.close).start()
    began = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - began < 3
    over.set()


def test_close_while_it_reconnects_ends_it_too(small_server: Start) -> None:
    joining, closed, over = threading.Event(), threading.Event(), threading.Event()

    def answer(request: Request, reply: Reply) -> None:
        if request.path.endswith("check-status"):
            reply.json(record(request.query["prompt_id"], "running"))
            return
        if request.method == "GET":
            joining.set()
            closed.wait(20)
        reply.start_stream()
        reply.event(1, executing("1"))
        if request.method == "POST":
            reply.cut()
        else:
            over.wait(20)

    stream = Comfy(small_server(answer).url).stream(GRAPH)
    reader = threading.Thread(target=list, args=(stream,))
    reader.start()
    assert joining.wait(10)
    stream.close()
    closed.set()
    reader.join(10)
    assert not reader.is_alive()
    over.set()
    reader.join()


def test_a_failed_run_names_the_node(small_server: Start) -> None:
    error = {"type": "ValueError", "message": "too blue", "node_id": "1", "node_type": "EmptyImage"}

    def answer(request: Request, reply: Reply) -> None:
        reply.start_stream()
        reply.event(1, result(record(request.body["prompt_id"], "failed", error=error)))
        reply.event(2, status("failed"))
        reply.end_stream()

    with pytest.raises(RunFailedError) as caught:
        Comfy(small_server(answer).url).run(GRAPH)
    assert str(caught.value) == 'node "Sky" (EmptyImage) failed: ValueError: too blue'
    assert caught.value.result.status == "failed"
    assert caught.value.details["node_id"] == "1"


@pytest.mark.parametrize("data", [{}, {"prompt_id": "x", "status": "queued"}])
def test_a_result_without_an_end_is_requested_again(
    small_server: Start, data: dict[str, object]
) -> None:
    states = ["queued", "queued", "success"]

    def answer(request: Request, reply: Reply) -> None:
        if "check-status" in request.path:
            reply.json(record("x", states.pop(0)))
            return
        reply.start_stream()
        reply.event(1, result(data))
        reply.event(2, status("success"))
        reply.end_stream()

    run = Comfy(small_server(answer).url).get("x")
    assert run.wait(20).status == "success"
    assert not states


def test_a_cancelled_run(small_server: Start) -> None:
    def answer(request: Request, reply: Reply) -> None:
        reply.start_stream()
        reply.event(1, result(record(request.body["prompt_id"], "cancelled")))
        reply.event(2, status("cancelled"))
        reply.end_stream()

    with pytest.raises(RunCancelledError):
        Comfy(small_server(answer).url).run(GRAPH)


def test_a_refused_graph_names_its_nodes(small_server: Start) -> None:
    fault = {"type": "value_smaller_than_min", "message": "Value too small", "details": "width"}
    body = {
        "success": False,
        "error": "ComfyUI refuses the graph",
        "code": "prompt_invalid",
        "node_errors": {"1": {"errors": [fault], "class_type": "EmptyImage"}},
    }
    server = small_server(lambda _, reply: reply.json(body, 400))
    for call in (Comfy(server.url).run, Comfy(server.url).stream, Comfy(server.url).submit):
        with pytest.raises(PromptInvalidError) as caught:
            call(GRAPH)
        assert 'node "Sky" (EmptyImage): Value too small: width' in str(caught.value)


def test_an_unknown_run(small_server: Start) -> None:
    body = {"success": False, "error": "no run x", "code": "not_found"}
    server = small_server(lambda _, reply: reply.json(body, 404))
    with pytest.raises(NotFoundError, match="no run x"):
        Comfy(server.url).get("x")
