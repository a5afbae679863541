"""Sweeps as notebooks and terminals show and store them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import nbformat

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.text import Terminal
from comfydeploy_jupyter.display import SweepLine
from comfydeploy_jupyter.display.sweeps import SheetView
from tests.client.sweep.test_sweep import failing_if, in_words
from tests.helpers.jupyter import JupyterProcess, run_in_terminal
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until
from tests.test_notebooks import execute, outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from comfydeploy_jupyter.client import Sweep

WIDGET = "application/vnd.jupyter.widget-view+json"


def run_cells(jupyter: JupyterProcess, folder: Path, *sources: str) -> Any:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    execute(notebook, folder, jupyter)
    return notebook


def test_sheet_and_table_stay_in_the_saved_notebook(jupyter, tmp_path):
    sunset = json.dumps(str(REPOSITORY / "notebooks" / "sunset.json"))
    notebook = run_cells(
        jupyter,
        tmp_path,
        "import comfydeploy_jupyter\ncomfy = comfydeploy_jupyter.connect(start=False)",
        f"comfy.sweep({sunset}, {{'Width.value': [64, 96], 'Caption.value': ['<u>', 'b']}})",
        "comfy.sweep.last",
        "sweep = comfy.sweep.last.resume(wait=False)\nsweep.wait()",
    )
    found = outputs(notebook)
    assert [o for o in found if o.get("name") == "stderr"] == []
    record, view, headline = notebook.cells[1].outputs
    assert WIDGET in view.data, "stars and downloads can be used when it has ended"
    page = record.data["text/html"]
    assert page.count("data:image/webp;base64,") == 4
    assert "Done after" in page
    assert "&lt;u&gt;" in page
    assert "<u>" not in page
    assert "4 of 4 points, done" in record.data["text/plain"]
    assert "data:image" not in headline.data["text/html"], "its own cell shows it already"
    again, view = notebook.cells[2].outputs
    assert again.data["text/html"].count("data:image/webp;base64,") == 4
    assert WIDGET in view.data
    assert len(notebook.cells[3].outputs) == 3


class Host:
    """Calls everything immediately, or when the test wants it, and records the errors."""

    closing = False

    def __init__(self, comfy: Comfy, *, later: bool = False) -> None:
        self.comfy = comfy
        self.errors: list[str] = []
        self.later = later
        self.tasks: list[Callable[[], object]] = []

    def start(self, task: Callable[..., object], *args: object) -> None:
        if self.later:
            self.tasks.append(lambda: self.attempt(task, *args))
        else:
            self.attempt(task, *args)

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        try:
            task(*args)
        except Exception as error:
            self.errors.append(str(error))


def view_of(host: Host, sweep: Sweep) -> tuple[SheetView, list[tuple[dict[str, Any], Any]]]:
    """Return a view and the list of what it sends to the page."""
    view, sent = SheetView(host, sweep), list[tuple[dict[str, Any], Any]]()
    view.send = lambda content, buffers=None: sent.append((content, buffers))
    return view, sent


def test_requests_of_the_page(jupyter, tmp_path):
    comfy = Comfy(jupyter.url, jupyter.token)
    values = {"condition": [True, False], "seed": [1, 2]}
    sweep = comfy.sweep(failing_if(), values, save=tmp_path / "it.json")
    host = Host(comfy)
    view, sent = view_of(host, sweep)

    def send(**message: Any) -> tuple[dict[str, Any], Any]:
        view._receive(view, message, [])
        return sent.pop()

    assert view.heads["columns"] == ["1", "2"]
    assert view.heads["rows"] == ["yes", "no"]
    failed, done = view.points[0], view.points[3]
    assert failed[0] == "failed"
    assert "too bad" in failed[2]
    assert done[:3] == ["success", done[1], "2"]
    assert send(kind="star", index=3, starred=True)[0] == {"kind": "stars", "failed": False}
    assert [p.index for p in comfy.sweep.load(tmp_path / "it.json").starred] == [3]
    assert send(kind="star", index=4, starred=True)[0]["failed"] is True
    assert host.errors == ["the sweep has no point 4; it has the points 0 to 3"]
    answer, (content,) = send(kind="export", format="png", starred=True)
    assert answer["name"] == "sweep.png"
    assert content.startswith(b"\x89PNG")
    answer, (content,) = send(kind="export", format="csv", starred=False)
    assert content.decode("utf-8-sig").count("success") == 2
    sweep.unstar(3)
    answer, buffers = send(kind="export", format="csv", starred=True)
    assert "no point of the sweep has a star" in answer["problem"]
    assert buffers is None


def test_stars_removed_before_they_were_saved_are_not_set(jupyter):
    comfy = Comfy(jupyter.url, jupyter.token)
    sweep = comfy.sweep(failing_if(), {"seed": [1, 2, 3]}, save=False)
    host = Host(comfy, later=True)
    view, sent = view_of(host, sweep)

    def star(index: int) -> None:
        view._receive(view, {"kind": "star", "index": index, "starred": True}, [])

    for index in (1, 9, 2):
        star(index)
    for task in host.tasks:
        task()
    assert [message["failed"] for message, _ in sent] == [True, False, False]
    assert host.errors == ["the sweep has no point 9; it has the points 0 to 2"]
    before = [point.index for point in sweep.starred]
    assert 1 not in before
    star(0)
    host.tasks[-1]()
    assert [point.index for point in sweep.starred] == sorted({0, *before})


def test_pictures_are_sent_while_the_kernel_answers_no_requests(jupyter):
    comfy = Comfy(jupyter.url, jupyter.token)
    sweep = comfy.sweep(in_words(), {"1.color": [0, 255]}, save=False)
    view, sent = view_of(Host(comfy), sweep)
    view.push_pictures()
    view.push_pictures()
    assert [message["query"] for message, _ in sent] == [point[4] for point in view.points]
    assert all(content.startswith(b"RIFF") for _, (content,) in sent)


def test_a_sweep_of_many_points_is_described_briefly(jupyter):
    """Its description in the page grows by less than 200 bytes for each point."""
    comfy = Comfy(jupyter.url, jupyter.token)
    sweep = comfy.sweep(failing_if(), {"seed": range(60)}, save=False)
    view, _ = view_of(Host(comfy), sweep)
    state = {name: getattr(view, name) for name in ("heads", "points", "stars")}
    assert len(json.dumps(state)) < 60 * 200


def test_a_terminal_shows_a_line_and_keeps_the_final_state(jupyter, tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(failing_if()))
    code = (
        "import comfydeploy_jupyter\n"
        "comfy = comfydeploy_jupyter.connect(start=False)\n"
        "print(comfy.sweep('graph.json', {'seed': [1, 2], 'condition': [False, True]}))\n"
    )
    out, drawn = run_in_terminal(code, jupyter=jupyter, folder=tmp_path)
    assert "2 of 4 points, 2 failed" in drawn.rstrip().splitlines()[-1]
    assert out.startswith("Sweep 'graph': 2 of 4 points, 2 failed, done; saved in sweeps/graph-")
    assert "ValueError: too bad" in out


def test_the_line_names_the_point_and_its_node(jupyter, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    graph = {
        "1": {
            "class_type": "TestProgress",
            "inputs": {"steps": 1000, "delay": 0.05},
            "_meta": {"title": "Count\x1b[31m"},
        },
        "2": {"class_type": "TestText", "inputs": {"text": "", "anything": ["1", 0]}},
    }
    comfy = Comfy(jupyter.url, jupyter.token)
    sweep = comfy.sweep(graph, {"2.text": ["one", "two"]}, save=False, wait=False)
    stream = io.StringIO()

    def shown() -> str:
        SweepLine(Terminal(stream)).show(sweep.progress)
        return stream.getvalue()

    until(shown, lambda text: "/1000" in text)
    line = stream.getvalue().rpartition("\r")[2]
    assert "0 of 2 points, time left unknown: 2.text one: Count" in line
    assert "\x1b[31m" not in line
    sweep.stop()
    stream.truncate(0)
    SweepLine(Terminal(stream)).end(sweep.progress)
    assert "Stopped after" in stream.getvalue()
