"""Sweeps with a real Jupyter server and a real ComfyUI."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest

from comfydeploy_jupyter.client import Comfy, Sweep
from comfydeploy_jupyter.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunTimeoutError,
    UnknownInputError,
)
from tests.client.test_real import SUNSET, until
from tests.helpers.jupyter import chain
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator


def failing_if() -> dict[str, Any]:
    return {
        "1": {
            "class_type": "TestFailIf",
            "inputs": {"condition": False, "message": "too bad", "token": uuid.uuid4().hex},
            "_meta": {"title": "Judge"},
        },
        "2": {"class_type": "TestSeed", "inputs": {"seed": 1, "anything": ["1", 0]}},
    }


def in_words() -> dict[str, Any]:
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
            "_meta": {"title": "<b>Sky</b>"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "TestText", "inputs": {"text": "=1+1"}, "_meta": {"title": "@Words"}},
        "4": {"class_type": "TestSeed", "inputs": {"seed": 5}},
        "5": {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["1", 0], "upscale_method": "area", "scale_by": 0.1},
        },
    }


@pytest.mark.thorough
def test_each_different_node_of_a_sweep_is_executed_once(comfy):
    """ComfyUI executes no node twice for equal values, also if the first input is the deepest."""
    token = uuid.uuid4().hex
    join = {"string_b": "", "delimiter": token}
    graph = {
        "1": {"class_type": "StringConcatenate", "inputs": {"string_a": "", **join}},
        "2": {"class_type": "StringConcatenate", "inputs": {"string_a": ["1", 0], **join}},
        "3": {"class_type": "StringConcatenate", "inputs": {"string_a": ["2", 0], **join}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    letters = {"3.string_b": "xy", "2.string_b": "abc", "1.string_b": "pq"}
    axes = {name: list(values) for name, values in letters.items()}
    sweep = comfy.sweep(graph, axes, at_once=1, save=False)
    assert [point.label[-1] for point in sweep] == list("pq" * 6), "the user's order"
    executed = sum(len(graph) - len(point.result.cached_nodes) for point in sweep)
    assert executed == 2 + 2 * 3 + 2 * (2 * 3 * 2)
    assert [
        text.replace(token, "") for text in sweep.find({"3.string_b": "y"})[0].result.texts
    ] == ["pay"]


@pytest.mark.thorough
def test_each_machine_of_a_pool_gets_points_that_share_work(comfy, start_comfyui):
    """Each node takes a while, so that the machines are the bottleneck, not the client."""
    other = start_comfyui()
    comfy.machines.create("other", comfyui_url=other.url)
    comfy.machines.create("pair", members=["local", "other"])
    until(lambda: all(machine.status == "ready" for machine in comfy.machines.list()))
    graph = chain(*[("TestSleep", {"seconds": 0.3})] * 5)
    axes = {name: list(values) for name, values in {"5.token": "xyz", "3.token": "ab"}.items()}
    sweep = comfy.sweep(graph, {**axes, "1.token": list("pq")}, machine="pair", save=False)
    assert sweep.counts == {"total": 12, "success": 12}
    executed = sum(len(graph) - len(point.result.cached_nodes) for point in sweep)
    distinct = 2 * 2 + 2 * 4 + 2 * 12
    assert {point.run.record["machine"] for point in sweep} == {"local", "other"}
    assert distinct <= executed <= 1.25 * distinct
    comfy.machines.delete("pair")
    comfy.machines.delete("other")


def sleeping_workflow(seconds: float) -> dict[str, Any]:
    return {
        "1": {"class_type": "TestSleep", "inputs": {"seconds": seconds, "token": uuid.uuid4().hex}},
        "2": {"class_type": "TestText", "inputs": {"text": "", "anything": ["1", 0]}},
    }


SEEDLESS = sleeping_workflow(0)


def ours(comfy: Comfy, sweep: Sweep) -> set[str]:
    """Return the ids of the sweep's runs that the server has."""
    return {run.prompt_id for run in comfy.runs(limit=200)} & {p.prompt_id for p in sweep}


def test_every_point_runs_with_its_values(comfy, tmp_path):
    sweep = comfy.sweep(SUNSET, {"Width.value": [64, 96], "Caption.value": ["a", "b", "<c>"]})
    assert sweep.status == "done"
    assert sweep.counts == {"total": 6, "success": 6}
    assert [p.result.images[0].width for p in sweep] == [64, 64, 64, 96, 96, 96]
    assert [p.result.texts for p in sweep.find({"Width.value": 96})] == [["a"], ["b"], ["<c>"]]
    assert list(sweep.results) == list(sweep)
    assert list(sweep.to_dataframe()["Width.value"]) == [64, 64, 64, 96, 96, 96]
    row = sweep.rows()[5]
    assert (row["Width.value"], row["Caption.value"], row["status"]) == (96, "<c>", "success")
    assert row["images"]
    assert row["prompt_id"] == sweep[5].prompt_id
    assert sweep.path is not None
    assert sweep.path.resolve().parent == tmp_path / "sweeps"
    assert "6 of 6 points" in repr(sweep)
    page = sweep._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 6
    assert "&lt;c&gt;" in page
    assert "<c>" not in page
    sheet = PIL.Image.open(io.BytesIO(sweep.to_png()))
    assert sheet.width > 3 * 192
    assert sheet.height > 2 * 192
    assert len(sheet.getcolors(1 << 20)) > 100, "there are pictures on it"


def test_the_same_call_runs_nothing_again_and_a_larger_grid_what_is_new(comfy):
    graph = failing_if()
    first = comfy.sweep(graph, {"seed": range(3)})
    again = comfy.sweep(graph, {"seed": range(3)})
    assert [p.prompt_id for p in again] == [p.prompt_id for p in first]
    assert [p.result.texts for p in again] == [["0"], ["1"], ["2"]]
    fresh = comfy.sweep(graph, {"seed": range(3)}, fresh=True)
    assert not {p.prompt_id for p in fresh} & {p.prompt_id for p in first}
    graph["2"]["inputs"]["seed"] = 77  # replaced at each point: the same content
    same = comfy.sweep(graph, {"2.seed": range(3)}, save=fresh.path)
    assert [p.prompt_id for p in same] == [p.prompt_id for p in fresh]
    small = comfy.sweep(graph, {"seed": range(2)}, save="kept.json")
    other = comfy.sweep(graph, {"seed": [5]}, save="kept.json")
    large = comfy.sweep(graph, {"seed": [0, 1, 5, 6]}, save="kept.json")
    ids = [p.prompt_id for p in large]
    assert ids[:3] == [p.prompt_id for p in [*small, *other]]
    assert [p.result.texts for p in large] == [["0"], ["1"], ["5"], ["6"]]


def test_failed_points_are_kept_and_the_others_run(comfy):
    sweep = comfy.sweep(failing_if(), {"condition": [True, False], "seed": [1, 2]})
    assert [p.status for p in sweep] == ["failed", "failed", "success", "success"]
    assert "Judge" in sweep[0].error
    assert "too bad" in sweep[0].error
    assert sweep.status == "done"
    assert "2 failed" in repr(sweep)
    assert "too bad" in sweep.to_html()
    before = [p.prompt_id for p in sweep]
    sweep.resume(retry_failed=False)
    assert [p.prompt_id for p in sweep] == before
    sweep.resume()
    assert [p.prompt_id for p in sweep][2:] == before[2:]
    assert sweep[0].prompt_id != before[0]


WRONG: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (UnknownInputError, "sed", {"points": {"sed": range(8)}}),
    (UnknownInputError, "massage", {"inputs": {"massage": "x"}}),
    (InvalidRequestError, "point 1: inputs.steps", {"points": [{"seed": 1}, {"steps": 3}]}),
    (TypeError, "did you mean fresh", {"frsh": True}),
    (TypeError, "prompt_id", {"prompt_id": "x"}),
    (InvalidRequestError, "at_once", {"at_once": 0}),
    (InvalidRequestError, "no node of this workflow has a seed", {"workflow": SEEDLESS}),
    (FileNotFoundError, "nowhere", {"workflow": "nowhere.json"}),
]


def test_nothing_is_queued_if_a_name_is_wrong(comfy):
    before = [run.prompt_id for run in comfy.runs(limit=1)]
    for error, match, arguments in WRONG:
        with pytest.raises(error, match=match):
            comfy.sweep(**{"workflow": failing_if(), "points": {"seed": range(8)}, **arguments})
    assert [run.prompt_id for run in comfy.runs(limit=1)] == before


def test_few_are_queued_at_a_time(comfy):
    sweep = comfy.sweep(sleeping_workflow(30), {"2.text": list("abcdef")}, wait=False)
    until(lambda: sweep.counts.get("running") == 1 and sweep.counts.get("queued") == 1)
    until(lambda: len(ours(comfy, sweep)) == 2)
    assert sweep.counts["waiting"] == 4
    assert sweep.id in [each.id for each in comfy.batches(state="running")]
    point, progress = sweep.progress.current
    assert point.index == 0
    assert progress.status == "running"
    with pytest.raises(ConflictError):
        sweep.resume()
    with pytest.raises(InvalidRequestError, match="timeout: must be a positive number"):
        sweep.wait(0)
    with pytest.raises(RunTimeoutError, match="it continues"):
        sweep.wait(0.01)
    sweep.stop()
    assert sweep.status == "stopped"
    assert len(ours(comfy, sweep)) == 2
    assert {run.status for run in comfy.runs(limit=2)} == {"cancelled"}


@pytest.mark.thorough
def test_it_goes_on_after_its_kernel_ended(comfy, jupyter, tmp_path, monkeypatch):
    graph = sleeping_workflow(1)
    graph["3"] = {"class_type": "TestText", "inputs": {"text": "early"}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    code = (
        "import comfydeploy_jupyter as c\n"
        "sweep = c.connect(start=False).sweep('graph.json', {'2.text': ['a', 'b', 'c']},"
        " save='it.json', labels={'for': 'kernel'}, wait=False)\n"
        "while 'running' not in sweep.counts: pass\n"
        "print('running', flush=True)\n"
        "sweep.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**jupyter.env, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as kernel:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "running\n"
        kernel.send_signal(signal.SIGKILL)
    sweep = comfy.sweep.load("it.json")
    assert sweep.status == "running"
    assert sweep.wait(60).status == "done"
    assert [sorted(p.result.texts) for p in sweep] == [[x, "early"] for x in "abc"]
    assert ours(comfy, sweep) == {p.prompt_id for p in sweep}
    assert comfy.sweep.last is sweep
    asked, get = [], comfy.server.get
    with monkeypatch.context() as counting:
        counting.setattr(comfy.server, "get", lambda *a, **kw: asked.append(a) or get(*a, **kw))
        (found,) = comfy.batches(labels={"for": "kernel"})
    assert asked == [("batches",)]
    assert (found.id, found.labels) == (sweep.id, {"for": "kernel"})
    assert [p.values for p in found] == [p.values for p in sweep]
    assert found[1].result.texts == sweep[1].result.texts
    again = comfy.sweep(
        "graph.json", {"2.text": ["a", "b", "c"]}, labels={"for": "kernel"}, save="it.json"
    )
    assert again.id == sweep.id


def test_interrupting_the_kernel_stops_it(jupyter, tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(sleeping_workflow(30)))
    code = (
        "import comfydeploy_jupyter as c, threading, signal, os, time\n"
        "comfy = c.connect(start=False)\n"
        "def interrupt():\n"
        "    last = None\n"
        "    while last is None or not {'running', 'queued'} <= set(last.counts):\n"
        "        time.sleep(0.02)\n"
        "        last = comfy.sweep.last\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        "try:\n"
        "    comfy.sweep('graph.json', {'2.text': ['a', 'b', 'c']})\n"
        "except KeyboardInterrupt as stop:\n"
        "    print(stop)\n"
        "    print(comfy.sweep.last.status, sorted({p.status for p in comfy.sweep.last}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**jupyter.env, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "stopped at 0 of 3 points, 3 cancelled; it continues with resume()" in done.stdout
    assert "comfy.sweep.load(" in done.stdout
    assert "stopped ['cancelled']" in done.stdout
    assert done.stderr == ""


@pytest.mark.thorough
def test_a_file_is_refused_by_another_server_than_the_one_with_its_runs(
    comfy, start_jupyter, comfyui, tmp_path
):
    config = {"comfyui_url": comfyui.url, "comfyui_path": str(comfyui.path)}
    config["data_dir"] = str(tmp_path / "data")
    jupyter = start_jupyter(ComfyDeploy=config)
    first = jupyter.url
    here = Comfy(f"{first.replace('//', '//ada:secret@')}lab?token={jupyter.token}")
    graph, path = failing_if(), tmp_path / "it.json"
    sweep = here.sweep(graph, {"seed": range(2)}, save=path)
    ids = [point.prompt_id for point in sweep]
    text = path.read_text()
    assert json.loads(text)["server"]["url"] == first
    assert "secret" not in text
    assert jupyter.token not in text

    for attempt in (
        lambda: comfy.sweep.load(path),
        lambda: comfy.sweep(graph, {"seed": range(3)}, save=path),
        lambda: comfy.sweep(graph, {"seed": range(3)}, save=path, fresh=True),
    ):
        with pytest.raises(ConflictError, match=f"it.json are on the Jupyter server '{first}'"):
            attempt()
    assert path.read_text() == text
    assert ours(comfy, sweep) == set()
    assert comfy.sweep(graph, {"seed": [1]}, save="new.json").status == "done"

    # the same one at another address
    jupyter.stop()
    jupyter.move()
    jupyter.start()
    assert jupyter.url != first
    moved = Comfy(jupyter.url, jupyter.token).sweep.load(path).resume()
    assert [point.prompt_id for point in moved] == ids
    assert moved[1].run.status == "success"
    assert json.loads(path.read_text())["server"]["url"] == jupyter.url

    # other data at the same address, for a sweep that is still open
    jupyter.stop()
    (tmp_path / "data" / "comfydeploy.db").unlink()
    jupyter.start()
    with pytest.raises(ConflictError, match="or its data were replaced"):
        moved.resume()


def test_the_file_of_an_earlier_version_is_read(comfy, tmp_path):
    graph = failing_if()
    done = comfy.run(graph, {"2.seed": 1})
    content = {
        "format": "comfydeploy-sweep",
        "version": 1,
        "title": "old",
        "workflow_api": graph,
        "workflow": None,
        "inputs": {"message": "x"},
        "machine": None,
        "options": {"seed_mode": "saved"},
        "at_once": "auto",
        "axes": [{"names": ["2.seed"], "values": [[1], [2]]}],
        "runs": {
            str(number): {
                "values": {"2.seed": number},
                "prompt_id": prompt_id,
                "status": status,
                "error": "",
                "record": {},
                "sent": status != "waiting",
                "starred": True,
            }
            for number, prompt_id, status in ((1, done.prompt_id, "success"), (2, "x", "waiting"))
        },
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    sweep = comfy.sweep.load(path)
    assert (sweep.title, sweep.status) == ("old", "stopped")
    assert [point.status for point in sweep] == ["success", "waiting"]
    assert sweep.starred == [sweep[0]]
    assert sweep[0].result.texts == ["1"]
    assert sweep.resume().status == "done"
    assert sweep[0].prompt_id == done.prompt_id
    assert sweep[1].result.texts == ["2"]
    assert comfy.sweep.load(path).id == sweep.id
    path.write_text(json.dumps(content))
    again = comfy.sweep(graph, {"2.seed": [1, 5]}, {"message": "x"}, save=path)
    assert again[0].prompt_id == done.prompt_id
    assert again.status == "done"


def test_the_kernel_may_end_before_its_file_names_the_batch(comfy, tmp_path):
    graph, path = failing_if(), tmp_path / "it.json"
    comfy.sweep(graph, {"seed": [1]}, save=path)
    before = path.read_text()
    second = comfy.sweep(graph, {"seed": [1, 2]}, save=path)
    path.write_text(before)
    assert comfy.sweep(graph, {"seed": [1, 2]}, save=path).id == second.id
    path.write_text(json.dumps({**json.loads(before), "batch_id": ""}))
    assert comfy.sweep.load(path).id == second.id
    with pytest.raises(UnknownInputError):
        comfy.sweep(graph, {"sed": [1]}, save=path)
    assert comfy.sweep.load(path).id == second.id, "a refused request changes no file"
    new = tmp_path / "new.json"
    with pytest.raises(UnknownInputError):
        comfy.sweep(graph, {"sed": [1]}, save=new)
    with pytest.raises(NotFoundError, match="has deleted the batch"):
        comfy.sweep.load(new)
    assert comfy.sweep(graph, {"seed": [3]}, save=new)[0].result.texts == ["3"]


def test_files_that_are_not_sweeps_are_not_changed(comfy, tmp_path):
    other = tmp_path / "other.json"
    for text in ("{}", "no", '{"format": "comfydeploy-sweep", "version": 1}'):
        other.write_text(text)
        with pytest.raises(InvalidRequestError, match=r"other\.json is not the file of a sweep"):
            comfy.sweep.load(other)
    other.write_text("{}")
    with pytest.raises(InvalidRequestError, match="not the file of a sweep"):
        comfy.sweep(failing_if(), {"seed": [1]}, save=other)
    assert other.read_text() == "{}"
    with pytest.raises(FileNotFoundError):
        comfy.sweep.load("nowhere.json")


def test_without_a_file_or_with_one_that_cannot_be_written(comfy, tmp_path):
    sweep = comfy.sweep(failing_if(), {"seed": [1]}, save=False)
    assert sweep.path is None
    assert list(tmp_path.iterdir()) == []
    assert sweep.save("later.json") == sweep.path
    assert comfy.sweep.load("later.json")[0].result.texts == ["1"]
    (tmp_path / "sweeps").write_text("a file, not a folder")
    before = comfy.runs(limit=1)[0].prompt_id
    with pytest.raises(OSError, match="sweeps"):
        comfy.sweep(failing_if(), {"seed": [1]})
    assert comfy.runs(limit=1)[0].prompt_id == before


def test_a_view_is_updated_and_a_later_change_of_the_workflow_is_ignored(comfy):
    seen: list[tuple[float, str]] = []

    @contextmanager
    def view(progress: Any) -> Iterator[None]:
        seen.append((progress.fraction, progress.status))
        yield
        seen.append((progress.fraction, progress.status))

    workflow = comfy.load(sleeping_workflow(0.2))
    points = {"seconds": [1.5, 0.1]}
    sweep = comfy.sweep(workflow, points, {"2.text": "before"}, wait=False, progress=view)
    workflow.set({"2.text": "after"})
    assert [p.result.texts for p in sweep.wait(30)] == [["before"], ["before"]]
    until(lambda: len(seen) == 2)
    (first, status), last = seen
    assert (first < 0.5, status, last) == (True, "running", (1.0, "done"))


@pytest.mark.thorough
def test_waiting_goes_on_while_the_server_is_started_again(serve, comfyui):
    jupyter = serve(comfyui_url=comfyui.url)
    comfy = Comfy(jupyter.url, jupyter.token)
    sweep = comfy.sweep(
        sleeping_workflow(0.5), {"2.text": list("abcd")}, save=False, wait=False, progress=False
    )
    stream = comfy.stream(sleeping_workflow(0.5))
    assert next(stream).event == "queued"
    ended = threading.Thread(target=sweep.wait)
    ended.start()
    jupyter.kill()
    jupyter.start()
    ended.join(60)
    assert [point.result.texts for point in sweep] == [[text] for text in "abcd"]
    assert [*stream][-1].data["status"] == "success"
    path = jupyter.folder / "it.json"
    comfy.sweep(sleeping_workflow(5), {"2.text": ["a"]}, save=path, wait=False)
    with pytest.raises(ConflictError, match="is running"):
        comfy.sweep(sleeping_workflow(5), {"2.text": ["b"]}, save=path, wait=False)
    assert comfy.sweep.last is not None
    comfy.sweep.last.stop()
    comfy.sweep.last.delete()
    with pytest.raises(NotFoundError):
        comfy.batches.get(comfy.sweep.last.id)
