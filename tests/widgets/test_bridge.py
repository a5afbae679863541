"""Requests of a page that the kernel passes on to the real routes."""

from __future__ import annotations

import json
import queue
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.widgets.bridge import MAX_OPEN, REQUESTS, Bridge
from tests.client.conftest import small_server  # noqa: F401 - a fixture
from tests.helpers.graphs import node, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.small_server import Reply, Request, SmallServer

FAST = {"1": paper(color=7), "2": shown("1")}


class Page:
    """The end of the page: sends messages, and collects the answers by their ids."""

    def __init__(self, comfy: Comfy) -> None:
        self.answers: queue.Queue[tuple[dict[str, Any], list[bytes]]] = queue.Queue()
        self.bridge = Bridge(lambda: comfy, lambda *answer: self.answers.put(answer))

    def send(self, kind: str, path: str = "", content: bytes | None = None, **more: Any) -> None:
        body = more.pop("body", None)
        text = None if body is None else json.dumps(body)
        message = {"kind": kind, "id": "1", "path": path, "query": "", "body": text, **more}
        self.bridge.receive(message, [] if content is None else [memoryview(content)])

    def answer(self) -> tuple[dict[str, Any], bytes]:
        message, content = self.answers.get(timeout=30)
        return message, b"".join(content)


@pytest.fixture
def page(comfy: Comfy) -> Iterator[Page]:
    made = Page(comfy)
    yield made
    made.bridge.close()


def test_a_request_is_answered(page: Page) -> None:
    page.send("request", "runs", method="GET", query="limit=1&search=nothing+like+this")
    message, content = page.answer()
    assert message.items() >= {"kind": "reply", "id": "1", "status": 200}.items()
    assert json.loads(content) == []
    page.send("request", "workflow/validate", method="POST", body={"workflow_api": FAST})
    assert json.loads(page.answer()[1])["valid"] is True


def test_a_script_of_the_package_is_sent_and_no_other_file(page: Page) -> None:
    page.send("script", name="viewers/model_viewer.js")
    message, content = page.answer()
    assert message["status"] == 200
    assert content.startswith(b"// Made from js/src/viewers/")
    page.send("script", name="../panel.py")
    message, _ = page.answer()
    assert message["kind"] == "failed"


def test_an_error_of_a_route_is_its_reply(page: Page) -> None:
    page.send("request", "workflow", method="GET", query="workflow_id=nothing")
    message, content = page.answer()
    assert message["status"] == 404
    assert json.loads(content)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "../api/contents"),
        ("GET", "runs/../../api/kernels"),
        ("GET", "/api/kernels"),
        ("GET", "http://example.com/"),
        ("GET", "runs?limit=1"),
        ("GET", "runs%2f..%2f..%2fapi"),
        ("PUT", "runs"),
    ],
)
def test_only_routes_are_reached(page: Page, method: str, path: str) -> None:
    page.send("request", path, method=method)
    message, _ = page.answer()
    assert message["kind"] == "failed"
    assert "path" in message["error"]


def test_a_server_that_does_not_answer_is_named() -> None:
    page = Page(Comfy("http://127.0.0.1:9/", "secret-token"))
    page.send("request", "runs", method="GET")
    message, _ = page.answer()
    assert "127.0.0.1:9" in message["error"]
    assert "does not answer" in message["error"]
    assert "secret-token" not in str(message)
    page.bridge.close()


def test_a_stream_arrives_in_parts(page: Page) -> None:
    page.send("stream", "run/streaming", method="POST", body={"workflow_api": FAST})
    text = b""
    while (answer := page.answer())[0]["kind"] == "data":
        text += answer[1]
    assert answer[0]["kind"] == "end"
    assert b'"status": "success"' in text
    page.send("stream", "run/streaming", method="GET", query="prompt_id=nothing")
    assert page.answer()[0]["status"] == 404


def test_a_stream_is_given_up(page: Page, comfy: Comfy) -> None:
    steps = node("TestPreview", "slow", steps=600, delay=0.1, size=64, token="bridge")
    run_id = str(uuid.uuid4())
    body = {"workflow_api": {"1": steps, "2": shown("1")}, "prompt_id": run_id}
    page.send("stream", "run/streaming", method="POST", body=body)
    assert page.answer()[0]["kind"] == "data"
    page.send("abort")
    while page.answer()[0]["kind"] == "data":
        pass
    until(lambda: not page.bridge._open)
    comfy.interrupt(run_id)  # which may not have begun


def test_a_request_that_waits_for_others_is_given_up(
    small_server: Callable[[Callable[[Request, Reply], None]], SmallServer],  # noqa: F811 - the fixture
) -> None:
    answering = threading.Event()
    asked: list[str] = []

    def reply(request: Request, answer: Reply) -> None:
        asked.append(request.query["search"])
        answering.wait(30)
        answer.json([])

    page = Page(Comfy(small_server(reply).url))
    for number in range(REQUESTS + 2):
        page.send("request", "runs", method="GET", query=f"search={number}", id=str(number))
    until(lambda: len(asked) == REQUESTS)
    page.send("abort", id=str(REQUESTS))
    page.send("abort", id="0")  # its answer is on its way
    answering.set()
    ids = {page.answer()[0]["id"] for _ in range(REQUESTS + 1)}
    page.bridge.close()
    assert str(REQUESTS) not in ids
    assert sorted(asked) == sorted(ids)
    until(lambda: not page.bridge._asked)


def test_a_file_is_uploaded_in_any_order(page: Page, comfy: Comfy) -> None:
    content = bytes(range(256)) * 5000
    half = len(content) // 2
    facts = {"name": "../order.bin", "size": len(content), "fields": {"type": "input"}}
    page.send("upload", "upload-file", **facts)
    page.send("piece", content=content[half:], offset=half)
    page.send("piece", content=content[:half], offset=0)
    kinds = [page.answer()[0]["kind"] for _ in range(3)]
    assert kinds == ["took"] * 3
    message, reply = page.answer()
    assert message["status"] == 200
    assert json.loads(reply)["name"].startswith("order")
    assert json.loads(reply)["size"] == len(content)


def test_an_upload_is_given_up(page: Page) -> None:
    page.send("upload", "upload-file", name="a.bin", size=10, fields={})
    page.send("abort")
    page.send("piece", content=b"late", offset=0)
    assert page.answer()[0]["kind"] == "took"
    assert page.answers.empty()


def test_the_number_of_streams_is_bounded(page: Page) -> None:
    for number in range(MAX_OPEN):
        page.bridge._open[f"other-{number}"] = None
    page.send("stream", "run/streaming", method="GET", query="prompt_id=nothing")
    assert "too many" in page.answer()[0]["error"]
