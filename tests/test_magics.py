"""``%comfy`` in an IPython shell, with a real Jupyter server and a real ComfyUI."""

import json
import re
import time
import uuid
from datetime import datetime

import nbformat
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from PIL import Image

from comfydeploy_jupyter import load_ipython_extension
from comfydeploy_jupyter.client import Comfy, Result
from comfydeploy_jupyter.errors import NotFoundError
from comfydeploy_jupyter.magics import HELP, parse_pair, parse_values, runs_page
from comfydeploy_jupyter.widgets import ComfyDeployPanel


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    load_ipython_extension(shell)
    yield shell
    shell.history_manager.end_session()


@pytest.fixture
def comfy(shell, jupyter, tmp_path):
    """``%comfy``, as a function of its line, with two workflows in the folder."""
    shell.user_ns["comfy"] = Comfy(jupyter.url, jupyter.token)
    graph = {
        "1": {"class_type": "TestSeed", "inputs": {"seed": 1, "token": uuid.uuid4().hex}},
        "2": {"class_type": "TestText", "inputs": {"text": "hello"}},
    }
    (tmp_path / "my flow.json").write_text(json.dumps(graph))
    graph["3"] = {"class_type": "TestFail", "inputs": {"message": "too bad"}}
    graph["2"]["inputs"]["anything"] = ["3", 0]
    (tmp_path / "fails.json").write_text(json.dumps(graph))
    return lambda line: shell.run_line_magic("comfy", line)


def test_run_with_values(comfy):
    result = comfy("run 'my flow.json' seed=7 \"text=two words\"")
    assert isinstance(result, Result)
    assert sorted(result.texts) == ["7", "two words"]


def test_an_output_of_a_run_is_a_value(comfy):
    first = comfy("run 'my flow.json' text=chained")
    for name in (f"{first.prompt_id[:8]}.2.text[0]", f"{first.prompt_id}.TestText"):
        assert "chained" in comfy(f"run 'my flow.json' text=@{name} seed=6").texts
    assert "@home" in comfy("run 'my flow.json' text=@home").texts
    with pytest.raises(UsageError, match="there is no run '00000000'"):
        comfy("run 'my flow.json' text=@00000000")


def test_status_and_runs(comfy, shell):
    page = comfy("status")
    lines = repr(page).splitlines()
    assert any(re.fullmatch(r"comfyui +reachable +yes", line) for line in lines), lines
    assert any(re.fullmatch(r"queue +running +\d+", line) for line in lines), lines
    assert any(re.fullmatch(r" +pending +\d+", line) for line in lines), lines
    assert "<table>" in page._repr_html_()
    result = comfy("run 'my flow.json' seed=8")
    page = comfy("runs 1")
    head, line = repr(page).splitlines()
    assert head.split() == ["id", "status", "started", "took", "files"]
    short, status, day, clock, took, unit = line.split()
    assert result.prompt_id.startswith(short)
    assert len(short) == 8
    assert (status, unit) == ("success", "s")
    assert float(took) < 60
    begun = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S")
    assert abs(begun.timestamp() - time.time()) < 60
    assert result.prompt_id in page._repr_html_()
    assert shell.user_ns["comfy"].get(short).prompt_id == result.prompt_id
    for unknown in ("0" * 8, short[:7]):
        with pytest.raises(NotFoundError):
            shell.user_ns["comfy"].get(unknown)


def test_a_batch_of_several_values(comfy, tmp_path):
    (tmp_path / "words.txt").write_text("a cat\n\n7\n")
    batch = comfy("batch submit 'my flow.json' seed*=3..1 text*=words.txt token=x")
    assert [point.values for point in batch] == [
        {"seed": seed, "text": text} for seed in (3, 2, 1) for text in ("a cat", 7)
    ]
    assert comfy(f"batch wait {batch.id[:8]}").status == "done"
    texts = [sorted(point.result.texts) for point in batch]
    assert texts == [sorted([str(seed), t]) for seed in (3, 2, 1) for t in ("a cat", "7")]
    lines = repr(comfy(f"batch status {batch.id}")).splitlines()
    assert any(re.fullmatch(r" +points +6: 6 success", line) for line in lines), lines
    head, line = repr(comfy("batch list 1")).splitlines()
    assert head.split() == ["id", "state", "started", "points", "title"]
    assert line.split()[:2] == [batch.id[:8], "done"]
    assert line.endswith("6: 6 success  my flow")
    assert batch.id in comfy("batch")._repr_html_()
    single = comfy("batch submit 'my flow.json' seed*=[4] text=once")
    assert sorted(single.wait(60)[0].result.texts) == ["4", "once"]


def test_texts_that_are_no_values_of_a_batch(tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"\xff\x00")
    for text in ("", "x" * 5000, "7", "[NaN]", "~nobody_is_called_so/a", str(data), "[" * 9999):
        with pytest.raises(UsageError, match=r"is not key\*=values"):
            parse_values(f"seed*={text}")


def test_a_batch_of_pictures_and_of_whole_graphs(comfy, shell, tmp_path):
    loading = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    (tmp_path / "load.json").write_text(json.dumps(loading))
    (tmp_path / "shots").mkdir()
    for number in (1, 2):
        Image.new("RGB", (8 * number, 8)).save(tmp_path / "shots" / f"{number}.png")
    batch = comfy("batch submit load.json image*=shots").wait(60)
    assert [point.result.images[0].width for point in batch] == [8, 16]
    graphs = [{"1": {"class_type": "TestText", "inputs": {"text": text}}} for text in "xy"]
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    batch = comfy("batch submit graphs.json").wait(60)
    assert [point.result.texts for point in batch] == [["x"], ["y"]]
    request = {"workflow_api": graphs[0], "points": [{"text": "z"}], "title": "Whole"}
    (tmp_path / "request.json").write_text(json.dumps(request))
    batch = comfy("batch submit request.json").wait(60)
    assert (batch.title, batch[0].result.texts) == ("Whole", ["z"])


def test_a_batch_is_paused_resumed_cancelled_and_retried(comfy, tmp_path):
    nap = {"1": {"class_type": "TestSleep", "inputs": {"seconds": 30, "token": uuid.uuid4().hex}}}
    nap["2"] = {"class_type": "TestText", "inputs": {"text": "", "anything": ["1", 0]}}
    (tmp_path / "nap.json").write_text(json.dumps(nap))
    batch = comfy('batch submit nap.json text*=\'["a", "b", "c"]\'')
    for command, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        lines = repr(comfy(f"batch {command} {batch.id[:8]}")).splitlines()
        assert any(re.fullmatch(rf".* state +{state}", line) for line in lines), lines
    assert batch.wait(60).counts == {"total": 3, "cancelled": 3}
    failing = comfy("batch submit fails.json seed*=1..2").wait(60)
    assert failing.counts["failed"] == 2
    before = {point.prompt_id for point in failing}
    assert "state" in repr(comfy(f"batch retry {failing.id}"))
    again = comfy(f"batch wait {failing.id}")
    assert again.counts["failed"] == 2
    assert not {point.prompt_id for point in again} & before


def test_names_in_a_table_of_runs_are_escaped():
    evil = "<b>\x1b[31m日本.png"
    page = runs_page(
        [
            {"prompt_id": "a" * 36, "outputs": {"1": {"images": [{"filename": evil}] * 4}}},
            {"prompt_id": "b", "status": "queued", "created_at": "soon", "outputs": {"1": None}},
            {
                "prompt_id": "c",
                "status": "queued",
                "live_status": "Waiting for a machine: it fails",
            },
        ]
    )
    head, first, second, third = repr(page).splitlines()
    assert head.index("files") == first.index("<b>")
    assert "\x1b" not in first
    assert "and 1 more" in first
    assert second.split() == ["b", "queued"]
    assert third.split(maxsplit=1) == ["c", "queued, waiting for a machine: it fails"]
    assert "&lt;b&gt;" in page._repr_html_()
    assert "<b>" not in page._repr_html_()


def test_panel_and_help(comfy):
    for line in ("panel", "panel 'my flow.json'"):
        panel = comfy(line)
        assert isinstance(panel, ComfyDeployPanel)
        panel.close()
    assert repr(comfy("")) == repr(comfy("help")) == HELP


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rum x", "there is no command 'rum'; did you mean run?"),
        ("zzz", "there is no command 'zzz'\n%comfy status"),
        ("run", "the file is missing"),
        ("run 'my flow.json' text", "'text' is not key=value"),
        ("run 'my flow.json' seed=x", "seed must be a whole number, not 'x'"),
        ("run 'my flow.json' txet=x", "did you mean text?"),
        ("run 'my flow.json", "No closing quotation"),
        ("run nowhere.json", "nowhere.json: No such file"),
        ("run fails.json", "TestFail failed: ValueError: too bad"),
        ("panel a b", "there is no argument 'b'"),
        ("back", "was not started by this server"),
        ("batch now", "there is no command 'now'"),
        ("batch list x", "must be a number, not 'x'"),
        ("batch submit", "the file is missing"),
        ("batch submit 'my flow.json' seed=3", "no input has several values"),
        ("batch submit 'my flow.json' seed*=x", "'seed*=x' is not key*=values"),
        ("batch submit 'my flow.json' seed*=0..100000", "more than 100000 values"),
        ("batch submit 'my flow.json' seed*=[]", "points.seed: is empty"),
        ("batch submit 'my flow.json' sed*=[1]", "did you mean seed?"),
        ("batch status", "the id is missing"),
        ("batch cancel 00000000", "There is no batch '00000000'"),
    ],
)
def test_errors_are_reported(comfy, line, message):
    with pytest.raises(UsageError) as raised:
        comfy(line)
    assert message in str(raised.value)


def test_values_are_json_else_text():
    values = {"3": 3, "2.5": 2.5, "true": True, "[1, 2]": [1, 2], '"3"': "3"}
    for text, value in {**values, "a=b": "a=b", "": "", "NaN": "NaN"}.items():
        assert parse_pair(f"a={text}") == ("a", value)


def test_in_a_notebook_an_error_is_one_line_and_stops_later_cells(jupyter, tmp_path):
    sources = ["%load_ext comfydeploy_jupyter", "%comfy status", "%comfy rum"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=jupyter.env)
    assert "reachable" in notebook.cells[1].outputs[0].data["text/plain"]
    (error,) = notebook.cells[2].outputs
    assert error.output_type == "stream"
    assert error.text.startswith("UsageError: %comfy: there is no command 'rum'; did you mean run?")
    assert "Traceback" not in error.text
