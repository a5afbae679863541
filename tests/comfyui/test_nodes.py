from __future__ import annotations

import contextlib
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.waiting import until

if TYPE_CHECKING:
    from tests.helpers.comfyui import ComfyUIServer


def call(server: ComfyUIServer, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(server.url + path, data)) as reply:
        content = reply.read()
    return json.loads(content) if content else None


def queue(server: ComfyUIServer, graph: dict[str, Any]) -> str:
    reply = call(server, "/prompt", {"prompt": graph})
    assert reply["node_errors"] == {}
    return str(reply["prompt_id"])


def finished(server: ComfyUIServer, prompt_id: str) -> dict[str, Any]:
    history = until(lambda: call(server, f"/history/{prompt_id}"))
    return dict(history[prompt_id])


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def test_chain_of_all_harmless_nodes(comfyui):
    graph = {
        "1": node("TestPreview", steps=2, delay=0.0, size=8),
        "2": node("TestSleep", seconds=0.01, anything=["1", 0]),
        "3": node("TestProgress", steps=2, delay=0.0, anything=["2", 0]),
        "4": node("TestFailIf", condition=False, message="no", anything=["3", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="chain"),
        "6": node("TestText", text="hello", anything=["4", 0]),
        "7": node("TestSeed", seed=2**64 - 1),
    }
    outputs = finished(comfyui, queue(comfyui, graph))["outputs"]
    assert outputs["6"]["text"] == ["hello"]
    assert outputs["7"]["text"] == [str(2**64 - 1)]
    assert (comfyui.output_dir / outputs["5"]["images"][0]["filename"]).is_file()


@pytest.mark.parametrize(
    "failing",
    [
        node("TestFail", message="on purpose"),
        node("TestFailIf", condition=True, message="on purpose"),
    ],
)
def test_failing_nodes_have_their_message(comfyui, failing):
    graph = {"1": failing, "2": node("TestText", text="never", anything=["1", 0])}
    status = finished(comfyui, queue(comfyui, graph))["status"]
    error = dict(status["messages"])["execution_error"]
    assert error["exception_message"].strip() == "on purpose"
    assert error["node_id"] == "1"


def test_blocked_node_has_no_output(comfyui):
    graph = {
        "1": node("TestBlock", message="blocked"),
        "2": node("TestText", text="never", anything=["1", 0]),
        "3": node("TestText", text="runs"),
    }
    assert "2" not in finished(comfyui, queue(comfyui, graph))["outputs"]


def test_sleep_can_be_interrupted(comfyui):
    graph = {
        "1": node("TestSleep", seconds=600.0),
        "2": node("TestText", text="never", anything=["1", 0]),
    }
    prompt_id = queue(comfyui, graph)
    until(lambda: call(comfyui, "/queue")["queue_running"])
    call(comfyui, "/interrupt", {})
    messages = dict(finished(comfyui, prompt_id)["status"]["messages"])
    assert "execution_interrupted" in messages


def test_a_crash_ends_comfyui_and_a_restart_starts_it_again(start_comfyui):
    server = start_comfyui()
    first = server.pid
    graph = {
        "1": node("TestCrash", exit_code=70),
        "2": node("TestText", text="never", anything=["1", 0]),
    }
    # it may crash before it answers
    with contextlib.suppress(ConnectionError):
        queue(server, graph)
    until(server.has_ended)
    server.restart()
    assert server.pid != first
    assert call(server, "/system_stats")["system"]["comfyui_version"]
