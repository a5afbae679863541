"""The base of the panels, without a page."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import ipywidgets as w
import pytest
from jupyter_client.manager import start_new_kernel

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import RunTimeoutError
from comfydeploy_jupyter.widgets import (
    ComfyDeployPanel,
    Panel,
    RunPanel,
    TunnelPanel,
    UploadPanel,
    WorkflowPanel,
)
from comfydeploy_jupyter.widgets.base import Throttle
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_a_throttle_calls_at_once_then_at_intervals_and_never_loses_the_last() -> None:
    calls: list[tuple[float, int]] = []
    throttle = Throttle(lambda n: calls.append((time.monotonic(), n)), interval=0.05)
    for n in range(2000):
        throttle(n)
    throttle.close()
    assert calls[0][1] == 0
    assert calls[-1][1] == 1999
    times = [at for at, _ in calls[:-1]]
    assert all(later - sooner >= 0.049 for sooner, later in itertools.pairwise(times))
    throttle(1)
    assert calls[-1][1] == 1999, "a closed one calls no more"


def test_a_throttle_makes_the_last_call_later_by_itself() -> None:
    called = threading.Event()
    throttle = Throttle(lambda n: called.set() if n == 2 else None, interval=0.01)
    throttle(1)
    throttle(2)
    assert called.wait(30)
    throttle.close()


def test_closing_a_panel_ends_its_threads_waits() -> None:
    panel = Panel()
    left: list[bool] = []
    thread = panel.start(lambda: left.append(panel.pause(3600)))
    panel.close()
    assert not thread.is_alive()
    assert left == [False]


def test_errors_are_shown_as_text_without_broken_options() -> None:
    def task() -> None:
        raise ValueError("<i>oh</i>, start it with --lowvram")

    panel = Panel()
    panel.start(task).join()
    assert "ValueError: &lt;i&gt;oh&lt;/i&gt;, start it with" in panel.error
    assert '<span class="cd-unbroken">--lowvram</span></div>' in panel.error
    panel.clear_error()
    assert panel.error == ""
    panel.close()


def test_waiting_can_time_out() -> None:
    panel = Panel()
    stop = threading.Event()
    panel.start(stop.wait)
    with pytest.raises(RunTimeoutError, match=r"not finished after 0\.1 s"):
        panel.wait(timeout=0.1)
    stop.set()
    panel.wait()
    panel.close()


CELL = """
from comfydeploy_jupyter.widgets import Panel
shown = globals().setdefault("shown", [])
shown.append(Panel())
display(shown[-1])
"""


@pytest.fixture
def execute() -> Iterator[Callable[[str, str], str]]:
    """A function that executes a cell in a real kernel as JupyterLab does; gives its output."""
    manager, client = start_new_kernel(kernel_name="python3")

    def run(cell_id: str, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
        message = client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        client.shell_channel.send(message)
        printed = ""
        while True:
            reply = client.get_iopub_msg(timeout=60)
            if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            assert reply["msg_type"] != "error", reply["content"]
            if reply["msg_type"] == "stream":
                printed += reply["content"]["text"]
            if reply["content"].get("execution_state") == "idle":
                return printed.strip()

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_panel_stops_updates_when_its_cell_is_run_again(
    execute: Callable[[str, str], str],
) -> None:
    resting = "print([panel.resting for panel in shown])"
    execute("one", CELL)
    assert execute("other", resting) == "[False]"
    execute("one", CELL)
    assert execute("other", resting) == "[True, False]"
    execute("two", "display(shown[0])")
    assert execute("other", resting) == "[False, False]", "it is shown again"
    execute("other", "from comfydeploy_jupyter.widgets import Panel; part = Panel(shown[0])")
    execute("two", "pass")
    assert execute("other", "print(part.resting, shown[0].resting)") == "True True"
    execute("other", "shown[0].close(); shown[1].close()")
    execute("one", "pass")


def test_a_panel_has_a_plain_form_for_places_without_widgets_and_traits_of_a_box() -> None:
    panel = Panel(layout=w.Layout(width="50%"))
    assert panel.layout.width == "50%"
    assert panel._repr_mimebundle_()["text/plain"] == "<Panel>"
    panel.keep("<b>done</b>", "done")
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "done"
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    panel.close()


@pytest.mark.parametrize(
    ("panel", "wrong", "hint"),
    [
        (Panel, "layuot", "did you mean layout"),
        (ComfyDeployPanel, "machin", "did you mean machine"),
        (RunPanel, "workfow", "did you mean workflow"),
        (RunPanel, "zzzzz", "it takes workflow, comfy, version, machine, directory"),
        (TunnelPanel, "targt", "did you mean target"),
        (UploadPanel, "destinaton", "did you mean destination"),
        (WorkflowPanel, "workflowid", "did you mean workflow_id"),
    ],
)
def test_unknown_arguments_are_refused_with_a_hint(
    panel: type[Panel], wrong: str, hint: str
) -> None:
    with pytest.raises(TypeError, match=f"{panel.__name__} has no argument '{wrong}'; {hint}"):
        panel(**{wrong: 1})


@pytest.mark.parametrize("kind", [TunnelPanel, UploadPanel, WorkflowPanel])
def test_an_unreachable_server_is_reported(kind: type[Panel]) -> None:
    panel = kind(comfy=Comfy("http://127.0.0.1:9"))
    until(lambda: "does not answer" in panel.error)
    panel.close()
