"""RunPanel without a page: what its widgets hold, with a real server behind it."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter import RunPanel
from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import InvalidRequestError, RunTimeoutError
from comfydeploy_jupyter.widgets import Panel
from tests.jupyter_process import REPOSITORY
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUNSET = REPOSITORY / "notebooks" / "sunset.json"
FAILING = {
    "1": {"class_type": "TestFail", "inputs": {"message": "<b>no</b>"}},
    "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
}


@pytest.fixture
def panel_of(comfy: Comfy) -> Iterator[Callable[..., RunPanel]]:
    """A function that makes a panel and waits until it is ready."""
    panels: list[RunPanel] = []

    def make(*args: Any, **kwargs: Any) -> RunPanel:
        panels.append(RunPanel(*args, comfy=comfy, **kwargs))
        until(lambda: panels[-1].ready)
        return panels[-1]

    yield make
    for panel in panels:
        panel.close()


def test_unknown_arguments_are_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match="no argument 'workfow'; did you mean workflow"):
        RunPanel(workfow="a.json")
    with pytest.raises(TypeError, match="it takes workflow, comfy, version, machine, directory"):
        RunPanel(zzzzz=1)


def test_run_changes_what_was_changed(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(SUNSET)
    assert panel.inputs == {}
    panel.set_input("1.value", 200)
    panel.set_input("3.color", 0x102030)
    assert panel.inputs == {"1.value": 200, "3.color": 0x102030}
    panel.run()
    until(lambda: panel.result is not None)
    assert panel.result.images[0].size == (200, 640)
    assert panel.error == ""


@pytest.mark.parametrize("times", [0, 101, 1.5, None])
def test_how_many_runs_must_be_a_number_of_them(
    panel_of: Callable[..., RunPanel], times: Any
) -> None:
    panel = panel_of(SUNSET)
    with pytest.raises(InvalidRequestError, match="times: must be 1 to 100"):
        panel.run(times)
    assert not panel.running


def test_code_need_not_wait_for_the_form(comfy: Comfy) -> None:
    panel = RunPanel(SUNSET, comfy=comfy)
    panel.set_input("1.value", 201)
    panel.run()
    panel.wait()
    assert panel.result is not None
    assert panel.result.images[0].size == (201, 640)
    with pytest.raises(KeyError, match=r"1\.colour"):
        panel.set_input("1.colour", 0)
    panel.close()


def test_waiting_has_an_end(comfy: Comfy) -> None:
    panel = RunPanel(comfy=comfy)
    stop = threading.Event()
    panel.start(stop.wait)
    with pytest.raises(RunTimeoutError, match=r"not done after 0\.1 s"):
        panel.wait(timeout=0.1)
    stop.set()
    panel.wait()
    panel.close()


def test_a_failure_is_shown_escaped(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(FAILING)
    panel.run()
    until(lambda: panel.result is not None)
    assert panel.result.status == "failed"
    (problem,) = panel.shown["problems"]
    assert "TestFail (id 1)" in problem
    assert "<b>no</b>" in problem, "the page shows it as text"
    until(lambda: "TestFail (id 1)" in panel._repr_mimebundle_()["text/plain"])


def test_a_refusal_is_shown_and_the_next_run_may_start(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of({"1": {"class_type": "NoSuchNode", "inputs": {"a": 1}}})
    panel.run()
    until(lambda: panel.error)
    assert "NoSuchNode" in panel.error
    until(lambda: not panel.running)


def test_cancel_ends_only_this_run(panel_of: Callable[..., RunPanel], comfy: Comfy) -> None:
    graph = {
        "1": {"class_type": "TestSleep", "inputs": {"seconds": 60, "token": str(time.time())}},
        "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
    }
    panel = panel_of(graph)
    panel.run()
    until(lambda: comfy.runs(limit=1)[0].status == "running")
    panel.cancel()
    until(lambda: panel.result is not None)
    assert panel.result.status == "cancelled"


def test_close_ends_the_threads_and_not_the_run(
    panel_of: Callable[..., RunPanel], comfy: Comfy
) -> None:
    graph = {
        "1": {"class_type": "TestSleep", "inputs": {"seconds": 1.5, "token": str(time.time())}},
        "2": {"class_type": "TestText", "inputs": {"text": "x", "anything": ["1", 0]}},
    }
    panel = panel_of(graph)
    panel.run()
    until(lambda: comfy.runs(limit=1)[0].status == "running")
    run = comfy.runs(limit=1)[0]
    panel.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("comfydeploy")]
    assert run.wait(20).texts == ["x"]


def test_finds_the_workflows_of_the_folder(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    node = {"id": 1, "type": "TestText", "widgets_values": ["x", ""], "inputs": []}
    ui = {"nodes": [node], "links": []}
    for name in ("api.json", ".hidden/no.json", "deep/also.json"):
        (tmp_path / name).write_text(json.dumps(FAILING))
    (tmp_path / "ui.json").write_text(json.dumps(ui))
    (tmp_path / "settings.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    panel = panel_of(directory=tmp_path)
    files = [name for name in panel.workflows if name.endswith(".json")]  # others are stored ones
    assert files == ["api.json", "ui.json", "deep/also.json"], panel.error
    panel.choose("deep/also.json")
    until(lambda: panel.ready)
    panel.set_input("1.message", "hello")
    assert panel.inputs == {"1.message": "hello"}
    panel.choose("ui.json")
    until(lambda: panel.ready)
    assert panel.inputs == {}
    with pytest.raises(KeyError):
        panel.choose("settings.json")


def test_an_unreachable_server_is_told(tmp_path: Path) -> None:
    panel = RunPanel(FAILING, Comfy("http://127.0.0.1:9"), directory=tmp_path)
    until(lambda: panel.ready)
    assert "does not answer" in panel.error
    panel.set_input("1.message", "the form is there all the same")
    panel.close()


def test_errors_of_a_task_are_never_swallowed() -> None:
    def task() -> None:
        raise ValueError("<i>oh</i>")

    panel = Panel()
    panel.start(task).join()
    assert "ValueError: &lt;i&gt;oh&lt;/i&gt;" in panel.error
    panel.clear_error()
    assert panel.error == ""
    panel.close()
