"""Sweeps as notebooks and terminals show and store them."""

import io
import json

import nbformat

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.text import Terminal
from comfydeploy_jupyter.display import SweepLine
from tests.client.sweep.test_sweep import failing_if
from tests.helpers.jupyter import run_in_terminal
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until
from tests.test_notebooks import execute, outputs

WIDGET = "application/vnd.jupyter.widget-view+json"


def run_cells(jupyter, folder, *sources):
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
    assert page.count("data:image/jpeg;base64,") == 4
    assert "Done after" in page
    assert "&lt;u&gt;" in page
    assert "<u>" not in page
    assert "4 of 4 points, done" in record.data["text/plain"]
    assert "data:image" not in headline.data["text/html"], "its own cell shows it already"
    again, view = notebook.cells[2].outputs
    assert again.data["text/html"].count("data:image/jpeg;base64,") == 4
    assert WIDGET in view.data
    assert len(notebook.cells[3].outputs) == 3


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

    def shown():
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
