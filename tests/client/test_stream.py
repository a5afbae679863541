import base64
import itertools
import threading
import time
from functools import partial

import pytest

from comfydeploy_jupyter.client import Comfy, EventStream
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.client.stream import Message, SSEParser
from comfydeploy_jupyter.errors import (
    NotFoundError,
    PromptInvalidError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    ServerUnreachableError,
)

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8}, "_meta": {"title": "Sky"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
KEEP_AWAKE = b": keep awake\n\n"
FIRST = "the first message of a run"
CUT = "the connection is closed"
NO_RUN = {"success": False, "error": "no such run", "code": "not_found"}


def record(status="success", **more):
    return {"prompt_id": "x", "status": status, "outputs": {}, "error": None, **more}


def event(name, **data):
    return {"event": name, "data": data}


END = [event("result", **record()), event("status", status="success")]
EXECUTING = event("executing", node="1")


@pytest.fixture
def serve(small_server):
    """A function that starts a server with replies for the run, for who joins it, and its states.

    A stream is a list of events, of bytes, and of functions to call; a state without a record is
    one of a run that the server does not know. The last state holds from then on.
    """

    def start(post, join=(), states=("running",)):
        left = list(states)

        def stream(prompt_id, reply, content):
            if content and content[0] == CUT:
                reply.cut()
                return
            reply.start_stream(chunked=True)
            for number, each in enumerate(content, 1):
                if callable(each):
                    each()
                elif each == CUT:
                    reply.cut()
                    return
                elif isinstance(each, bytes):
                    reply.write(each)
                else:
                    first = {"prompt_id": prompt_id, "number": 1, "node_errors": {}}
                    reply.event(number, first if each == FIRST else each)
            reply.end_stream()

        def answer(request, reply):
            if request.method == "POST":
                stream(request.body["prompt_id"], reply, post)
                return
            is_join = not request.path.endswith("check-status")
            state = left[0] if is_join or len(left) == 1 else left.pop(0)
            if state is None:
                reply.json(NO_RUN, 404)
            elif is_join:
                stream(request.query["prompt_id"], reply, join)
            else:
                reply.json(record(state))

        return small_server(answer)

    return start


@pytest.fixture
def over():
    """Set at the end of the test, for replies that wait until then."""
    ended = threading.Event()
    yield ended
    ended.set()


@pytest.mark.parametrize("chunked", [True, False])
def test_events_arrive_without_delay(small_server, chunked):
    go_on = threading.Event()
    picture = base64.b64encode(b"picture").decode()

    def answer(request, reply):
        reply.start_stream(chunked=chunked)
        reply.event(1, {"prompt_id": request.body["prompt_id"], "number": 1})
        assert go_on.wait(10)
        reply.event(2, event("preview", node="1", mime="image/png", image=picture))
        reply.event(3, event("status", status="success"))
        reply.end_stream()

    server = small_server(answer)
    stream = Comfy(server.url, "secret").stream(GRAPH, {"1.width": 16})
    queued = next(stream)
    assert (queued.event, queued.data["number"]) == ("queued", 1)
    go_on.set()
    preview, last = list(stream)
    assert (preview.event, preview.node, preview.image_bytes) == ("preview", "1", b"picture")
    assert last.is_final
    (request,) = server.requests
    assert request.path == "/user/a%40b/comfyui-deploy/run/streaming"
    assert request.headers["Authorization"] == "token secret"
    assert (request.body["workflow_api"], request.body["inputs"]) == (GRAPH, {"1.width": 16})


def test_reconnects_after_the_last_received_event_also_if_it_was_not_read_for_long(serve):
    server = serve([FIRST, EXECUTING, CUT], [EXECUTING, *END])
    stream = Comfy(server.url).stream(GRAPH)
    first = next(stream)
    stream._last_received -= 3600
    assert [each.event for each in (first, *stream)] == [
        *("queued", "executing", "executing", "result", "status")
    ]
    join = server.requests[-1]
    assert join.headers["Last-Event-ID"] == "2"
    assert join.query["prompt_id"] == server.requests[0].body["prompt_id"]


def test_a_run_whose_first_reply_got_lost_is_found_again(serve):
    assert Comfy(serve([CUT], END).url).run(GRAPH).status == "success"


def test_a_run_that_is_not_queued_yet_is_waited_for(serve):
    server = serve([KEEP_AWAKE, CUT], [FIRST, *END], [None, None, "running"])
    assert Comfy(server.url).submit(GRAPH).known["number"] == 1
    assert server.requests[0].method == "POST"
    assert len(server.requests) > 3


def test_a_run_that_never_reached_the_server_is_an_error(serve):
    with pytest.raises(ServerUnreachableError, match="broke the connection"):
        Comfy(serve([CUT], states=[None]).url).run(GRAPH)


def test_no_server_at_the_address():
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        Comfy("http://127.0.0.1:9/").run(GRAPH)


def test_the_end_is_read_from_the_record_if_streams_are_blocked(serve):
    server = serve([b"", CUT], [CUT], ["running", "success"])
    assert Comfy(server.url).run(GRAPH).status == "success"


def test_ends_with_the_run_id_in_the_error_if_the_server_stays_unreachable(
    small_server, monkeypatch
):
    def answer(request, reply):
        if request.method == "POST":
            reply.start_stream()
            reply.event(1, {"prompt_id": "p1"})
        reply.cut()

    body = {"prompt_id": "p1", "workflow_api": GRAPH}
    monkeypatch.setattr("comfydeploy_jupyter.client.stream.PATIENCE", 0.3)
    stream = EventStream(Server(small_server(answer).url), "p1", body=body)
    with pytest.raises(ServerUnreachableError, match="cannot be followed any more") as caught:
        list(stream)
    assert caught.value.extra["prompt_id"] == "p1"


REFUSAL = {
    "success": False,
    "error": "ComfyUI refuses the graph",
    "code": "prompt_invalid",
    "hint": "look at it",
    "node_errors": {
        "1": {
            "class_type": "EmptyImage",
            "errors": [
                {
                    "type": "value_smaller_than_min",
                    "message": "Value too small",
                    "details": "width",
                }
            ],
        }
    },
}
CANCELLED = {"code": "conflict", "error": "was cancelled", "details": {"status": "cancelled"}}


def refusing(refusal, code, begun):
    """Return replies that refuse a run: at once, or after ComfyUI had to be started."""

    def answer(request, reply):
        if not begun:
            reply.json(refusal, code)
            return
        reply.start_stream()
        reply.write(KEEP_AWAKE)
        reply.event(1, event("error", **refusal))
        reply.event(2, event("status", status="failed"))
        reply.end_stream()

    return answer


@pytest.mark.parametrize("begun", [False, True])
def test_a_refused_graph_names_its_nodes(small_server, begun):
    comfy = Comfy(small_server(refusing(REFUSAL, 400, begun)).url)
    for start in (comfy.run, comfy.submit, comfy.stream):
        with pytest.raises(PromptInvalidError, match=r"refuses the graph \(look at it\)") as caught:
            start(GRAPH)
        assert 'node "Sky" (EmptyImage): Value too small: width' in str(caught.value)


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_is_cancelled_before_it_is_queued(small_server, begun):
    with pytest.raises(RunCancelledError, match="was cancelled"):
        Comfy(small_server(refusing(CANCELLED, 409, begun)).url).run(GRAPH)


@pytest.mark.parametrize(
    "begun", [[], [partial(time.sleep, 0.2), KEEP_AWAKE], [FIRST]], ids=["none", "awake", "queued"]
)
def test_the_timeout_ends_the_wait_in_time(serve, over, begun):
    comfy = Comfy(serve([*begun, partial(over.wait, 20)]).url)
    started = time.monotonic()
    with pytest.raises(RunTimeoutError, match=r"has not ended after 0\.4 s; it continues"):
        comfy.run(GRAPH, timeout=0.4)
    assert time.monotonic() - started < 1


def test_close_from_another_thread_wakes_the_reader(serve, over):
    stream = Comfy(serve([FIRST, partial(over.wait, 20)]).url).stream(GRAPH)
    next(stream)
    threading.Timer(0.2, stream.close).start()
    began = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - began < 3


def test_close_while_it_reconnects_ends_it_too(serve, over):
    joining, closed = threading.Event(), threading.Event()
    join = [joining.set, partial(closed.wait, 20), EXECUTING, partial(over.wait, 20)]
    stream = Comfy(serve([EXECUTING, CUT], join).url).stream(GRAPH)
    reader = threading.Thread(target=list, args=(stream,))
    reader.start()
    assert joining.wait(10)
    stream.close()
    closed.set()
    reader.join(10)
    assert not reader.is_alive()


def test_failed_and_cancelled_runs_are_errors(serve):
    error = {"type": "ValueError", "message": "too blue", "node_id": "1", "node_type": "EmptyImage"}
    failed = [event("result", **record("failed", error=error)), event("status", status="failed")]
    with pytest.raises(RunFailedError) as caught:
        Comfy(serve(failed).url).run(GRAPH)
    assert str(caught.value) == 'node "Sky" (EmptyImage) failed: ValueError: too blue'
    assert (caught.value.result.status, caught.value.details["node_id"]) == ("failed", "1")
    ends = [event("result", **record("cancelled")), event("status", status="cancelled")]
    with pytest.raises(RunCancelledError):
        Comfy(serve(ends).url).run(GRAPH)


@pytest.mark.parametrize("data", [{}, {"prompt_id": "x", "status": "queued"}])
def test_a_result_without_an_end_is_requested_again(serve, data):
    join = [event("result", **data), event("status", status="success")]
    run = Comfy(serve([], join, ["queued", "queued", "success"]).url).get("x")
    assert run.wait(20).status == "success"


def test_an_unknown_run(serve):
    with pytest.raises(NotFoundError, match="no such run"):
        Comfy(serve([], states=[None]).url).get("x")


STREAM = (
    "\ufeff: a comment\n\n"
    'id: 1\nevent: event_update\ndata: {"a": "ü…😀"}\n\n'
    "data: two\r\ndata:  lines\r\n\r\n"
    "id: 3\rdata\rdata:x\r\r"
    "event: nothing\n\n"
    "id\ndata: no id any more\n\n"
    "data: never finished\n"
).encode()
MESSAGES = [
    Message('{"a": "ü…😀"}', "1"),
    Message("two\n lines", "1"),
    Message("\nx", "3"),
    Message("no id any more", ""),
]


@pytest.mark.parametrize("cuts", [[], range(len(STREAM)), range(0, len(STREAM), 7)])
def test_events_do_not_depend_on_where_the_stream_is_cut(cuts):
    parser = SSEParser()
    edges = [0, *cuts, len(STREAM)]
    got = [
        message
        for start, end in itertools.pairwise(edges)
        for message in parser.feed(STREAM[start:end])
    ]
    assert got == MESSAGES
