"""What all panels share, without a page."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import ipywidgets as w
import pytest

from comfydeploy_jupyter.widgets import Panel
from comfydeploy_jupyter.widgets.base import Throttle
from comfydeploy_jupyter.widgets.parts import CopyButton, button, card, note, row, search_combo


def test_a_throttle_calls_at_once_then_seldom_and_never_loses_the_last() -> None:
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
    told = threading.Event()
    throttle = Throttle(lambda n: told.set() if n == 2 else None, interval=0.01)
    throttle(1)
    throttle(2)
    assert told.wait(30)
    throttle.close()


def test_closing_a_panel_ends_what_its_threads_wait_for() -> None:
    panel = Panel()
    left: list[bool] = []
    thread = panel.start(lambda: left.append(panel.pause(3600)))
    panel.close()
    assert not thread.is_alive()
    assert left == [False]


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
    framed: Any = card("<i>", row(icon))
    assert "&lt;i&gt;" in framed.children[0].value
    assert 'role="status"' in note("a", live=True)
    assert "&lt;" in note("<")
    combo = search_combo("Model", ["a", "b"], "a")
    assert (combo.description, combo.value) == ("Model", "a")
    copied = CopyButton("text")
    assert copied.text == "text"
    assert "clipboard" in copied._esm
    for widget in (framed, combo, copied):
        widget.close()


def test_a_panel_takes_the_traits_of_its_box() -> None:
    panel = Panel(layout=w.Layout(width="50%"))
    assert panel.layout.width == "50%"
    panel.close()
    with pytest.raises(TypeError, match="did you mean layout"):
        Panel(layuot=1)
