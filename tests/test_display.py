import re
import time

import pytest

from comfydeploy_jupyter.client import Event, Result, RunProgress
from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.client.text import Terminal
from comfydeploy_jupyter.display import (
    Live,
    NotebookView,
    TerminalView,
    activity,
    close_tree,
)
from tests.client.test_terminal import Stream
from tests.helpers.jupyter import run_in_terminal

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Paint\x1b[31m <b>it</b>"}},
    "4": {"class_type": "SaveImage", "inputs": {}},
}


def started(step=3, steps=20):
    progress = RunProgress(Source(GRAPH))
    progress.feed(Event("execution_start", {}))
    progress.feed(Event("executing", {"node": "3"}))
    progress.feed(Event("progress", {"node": "3", "value": step, "max": steps}))
    progress.feed(Event("live_status", {"live_status": "Executing", "progress": 0.25}))
    return progress


class Recorder:
    def __init__(self):
        self.shown = []
        self.ended = None

    def show(self, progress):
        self.shown.append(progress.step)

    def end(self, progress):
        self.ended = progress.status


class Broken(Recorder):
    def show(self, progress):
        raise RuntimeError("the page is gone")


def test_progress_after_a_series_of_events():
    progress = started()
    assert (progress.status, progress.fraction) == ("running", 0.25)
    assert (progress.step, progress.steps) == (3, 20)
    progress.feed(Event("live_status", {"progress": 0.1}))
    assert progress.fraction == 0.25, "progress never goes back"
    progress.feed(Event("executing", {"node": "4"}))
    assert (activity(progress), progress.steps) == ("SaveImage", 0)
    loops = {"iterations": [[2, 3], [5, 8]]}
    progress.feed(Event("live_status", loops))
    assert activity(progress) == "SaveImage (iteration 2 of 3, 5 of 8)"
    progress.feed(Event("live_status", {"iterations": [1, [2], "x"]}))
    assert activity(progress) == "SaveImage"
    progress.feed(Event("unknown", {"node": None}))
    progress.feed(Event("status", {"status": "success"}))
    assert (progress.status, progress.fraction, activity(progress)) == ("success", 1.0, "Success")
    took = progress.elapsed
    time.sleep(0.01)
    assert progress.elapsed == took


def test_at_most_ten_updates_a_second():
    progress, view = started(), Recorder()
    began = time.monotonic()
    with Live(progress, view):
        for step in range(200):
            progress.feed(Event("progress", {"node": "3", "value": step, "max": 400}))
            time.sleep(0.001)
        progress.feed(Event("status", {"status": "success"}))
    took = time.monotonic() - began
    assert 2 <= len(view.shown) <= 10 * took + 2
    assert view.ended == "success"


def test_the_elapsed_time_is_shown_while_a_node_sends_no_events():
    view = Recorder()
    with Live(started(), view):
        time.sleep(1.2)
    assert len(view.shown) >= 3
    assert view.ended == "left"


def test_a_view_that_fails_does_not_affect_the_run():
    progress, view = started(), Broken()
    with Live(progress, view):
        time.sleep(0.3)
        progress.feed(Event("status", {"status": "success"}))
    assert view.ended == "success"


def test_the_line_of_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Stream()
    view = TerminalView(Terminal(stream, {"TERM": "xterm", "VTE_VERSION": "6800"}))
    view.show(started())
    line = stream.getvalue()
    assert line.startswith("\r█████░░░")
    assert " 25%" in line
    assert "\x1b[31m" not in line, "a title must not send control characters to the terminal"
    assert "\n" not in line
    assert len(line) <= 60 + len("\r\x1b[K")
    progress = started()
    outputs = {"4": {"images": [{"filename": f"{n}\x1b[1m.png"} for n in range(5)]}}
    progress.result = Result(Server("http://h/"), {"outputs": outputs})
    progress.feed(Event("status", {"status": "success"}))
    view.end(progress)
    left = stream.getvalue()[len(line) :]
    assert left.startswith(f"\r{'█' * 20} 100%")
    assert "Success: \x1b]8;;http://h/comfyui-deploy/view?" in left
    assert "\x1b\\2\\x1b[1m.png\x1b]8;;\x1b\\, and 2 files more\x1b[K\n" in left


def test_the_bar_of_a_failed_run_stays_also_in_a_terminal_without_unicode():
    stream, progress, plain = Stream(), started(), Stream("ascii")
    TerminalView(Terminal(plain)).show(progress)
    assert plain.getvalue().startswith("\r#####-----")
    progress.feed(Event("status", {"status": "failed"}))
    TerminalView(Terminal(stream)).end(progress)
    assert re.fullmatch(r"\r█{5}░{15}  25% +\d\.\d s  Failed\x1b\[K\n", stream.getvalue())


def test_a_run_that_never_began_leaves_no_line():
    stream, progress = Stream(), RunProgress(Source(GRAPH))
    with pytest.raises(ValueError, match="wrong"), Live(progress, TerminalView(Terminal(stream))):
        raise ValueError("wrong")
    assert (progress.status, activity(progress)) == ("not-started", "Not started")
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_widgets_show_it_escaped(capsys):
    view = NotebookView()
    view.show(started())
    text, overall, step, _ = view.box.children
    assert "&lt;b&gt;it&lt;/b&gt;" in text.value
    assert "3/20" in text.value
    assert (overall.value, step.value, step.max) == (0.25, 3.0, 20.0)
    close_tree(view.box)


def test_a_script_in_a_terminal_shows_a_line_that_stays(jupyter, tmp_path):
    code = (
        "import comfydeploy_jupyter, sys\n"
        "graph = {'1': {'class_type': 'TestProgress', 'inputs': {'steps': 8, 'delay': 0.1,"
        " 'token': sys.argv[1]}, '_meta': {'title': 'Counter'}},\n"
        " '2': {'class_type': 'TestText', 'inputs': {'text': 'done', 'anything': ['1', 0]}}}\n"
        "print(comfydeploy_jupyter.connect(start=False).run(graph).texts)"
    )
    out, drawn = run_in_terminal(code, str(time.time()), jupyter=jupyter, folder=tmp_path)
    assert out.strip() == "['done']"
    assert "Counter (TestProgress)" in drawn
    assert "/8" in drawn
    assert re.search(r"\r█{20} 100% +\d+\.\d s  Success\x1b\[K\r\n$", drawn)
    assert run_in_terminal(
        code, str(time.time()), jupyter=jupyter, folder=tmp_path, TERM="dumb"
    ) == ("['done']\n", "")
