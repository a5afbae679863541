"""The base of the panels, without a page."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import ipywidgets as w
import pytest
from jupyter_client.manager import start_new_kernel

from comfydeploy_jupyter.widgets import Panel
from comfydeploy_jupyter.widgets.base import Throttle
from comfydeploy_jupyter.widgets.parts import button, note, row, search_combo

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


def test_an_option_in_an_error_is_not_broken_into_two_lines() -> None:
    panel = Panel()
    panel.show_error("start it with --lowvram <b>")
    assert 'with <span class="cd-unbroken">--lowvram</span> &lt;b&gt;</div>' in panel.error
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


def test_a_panel_has_a_plain_form_for_places_without_widgets() -> None:
    panel = Panel()
    assert panel._repr_mimebundle_()["text/plain"] == "<Panel>"
    panel.keep("<b>done</b>", "done")
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "done"
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    panel.close()


def test_parts_escape_what_they_show_and_have_names() -> None:
    clicks: list[int] = []
    icon = button("", lambda: clicks.append(1), icon="refresh", hint="Look again")
    icon.click()
    assert clicks == [1]
    assert icon.hint == "Look again"
    line = row(icon)
    assert 'role="status"' in note("a", live=True)
    assert "&lt;" in note("<")
    combo = search_combo("Model", ["a", "b"], "a")
    assert (combo.description, combo.value) == ("Model", "a")
    for widget in (line, combo):
        widget.close()


def test_a_panel_takes_the_traits_of_its_box() -> None:
    panel = Panel(layout=w.Layout(width="50%"))
    assert panel.layout.width == "50%"
    panel.close()
    with pytest.raises(TypeError, match="did you mean layout"):
        Panel(layuot=1)
