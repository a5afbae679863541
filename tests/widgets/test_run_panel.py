"""RunPanel without a page: the state of its widgets, with a real server."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from PIL import Image

from comfydeploy_jupyter import RunPanel
from comfydeploy_jupyter.client import Comfy, EventStream, Result, Run
from comfydeploy_jupyter.errors import InvalidRequestError, RunTimeoutError, UnknownInputError
from comfydeploy_jupyter.widgets.picker import Requests
from comfydeploy_jupyter.widgets.progress import KEPT_STREAMS, Follower
from tests.helpers.comfyui_proxies import FAULTS, FaultyComfyUI
from tests.helpers.graphs import SUNSET, SUNSET_PATH, node, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.helpers.comfyui import ComfyUIServer

FAILING = {
    "1": node("TestFail", message="<b>no</b>"),
    "2": node("TestText", text="x", anything=["1", 0]),
}
ENLARGED = {
    "2": node("ImageScaleBy", image=["9", 0], upscale_method="area", scale_by=2.0),
    "3": shown("2"),
    "9": paper(8, 8, color=1),
}
"""Shows an empty picture of 8 by 8 pixels (node 9), which node 2 enlarges."""


def slow(seconds: float = 600) -> dict[str, Any]:
    """Return a workflow that sleeps, and that no cache has."""
    sleep = node("TestSleep", seconds=float(seconds), token=str(time.time()))
    return {"1": sleep, "2": node("TestText", text="x", anything=["1", 0])}


@pytest.fixture
def panel_of(comfy: Comfy, opened: Callable[[RunPanel], RunPanel]) -> Callable[..., RunPanel]:
    """A function that makes a panel and waits until it is ready."""
    return lambda *args, **kwargs: opened(RunPanel(*args, comfy=comfy, **kwargs))


def run(panel: RunPanel) -> Result:
    """Run the workflow of a panel, and return the result when the panel shows it."""
    panel.run()
    panel.wait(60)
    assert panel.result is not None
    return panel.result


def test_its_plain_form_names_each_file_once(panel_of: Callable[..., RunPanel]) -> None:
    saved = node("SaveImage", images=["1", 0], filename_prefix="five")
    panel = panel_of({"1": paper(number=5), "2": saved})
    names = [file.filename for file in run(panel).files]
    assert len(names) == 5
    assert [panel.kept[1].count(name) for name in names] == [1] * 5


def test_price_of_partner_nodes_follows_the_values(
    panel_of: Callable[..., RunPanel], monkeypatch: pytest.MonkeyPatch
) -> None:
    expression = '{"type": "usd", "usd": 0.01 * widgets.value}'
    depends = {"widgets": [{"name": "value", "type": "INT"}], "inputs": [], "input_groups": []}
    badge = {"engine": "jsonata", "expr": expression, "depends_on": depends}
    object_info = Comfy.object_info

    def with_price(self: Comfy, **given: Any) -> dict[str, Any]:
        info = object_info(self, **given)
        return {**info, "PrimitiveInt": {**info["PrimitiveInt"], "price_badge": badge}}

    monkeypatch.setattr(Comfy, "object_info", with_price)
    panel = panel_of(SUNSET_PATH)
    price = panel._bar._price

    def amount() -> float:
        return float(price.value.partition("Partner nodes: $")[2].partition("<")[0])

    panel.set_input("1.value", 250)
    before = amount()
    panel.set_input("1.value", 350)
    assert amount() == pytest.approx(before + 1)
    panel.show(ENLARGED)
    until(lambda: not price.value)
    assert price.layout.display == "none"


def test_run_sends_the_changed_values(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(SUNSET_PATH)
    for times in (0, 101, 1.5, None):
        with pytest.raises(InvalidRequestError, match="times: must be 1 to 100"):
            panel.run(times)
    assert not panel.running
    assert panel.inputs == {}
    panel.set_input("Width.value", np.int64(200))
    panel.set_input("2.value", 96.0)
    panel.set_input("Sky.color", np.float64(0x102030))
    assert panel.inputs == {"1.value": 200, "2.value": 96, "3.color": 0x102030}
    assert run(panel).images[0].size == (200, 96)
    assert panel.error == ""

    # the values of a run are used again
    panel.set_input("1.value", 224)
    sent: list[dict[str, Any]] = []
    panel._gallery.send = sent.append
    message = {"kind": "reuse", "prompt_id": panel.result.prompt_id}
    panel._gallery._handle_custom_msg(message, [])
    panel.wait(60)
    told = "The values and seeds of this run are in the form now."
    assert sent == [{"kind": "reused", "text": told}]
    assert panel.inputs == {"1.value": 200, "2.value": 96, "3.color": 0x102030}


@pytest.mark.parametrize("saved_as", ["api", "ui"])
def test_values_that_do_not_fit_are_reported(
    comfy: Comfy, panel_of: Callable[..., RunPanel], saved_as: str
) -> None:
    graph = json.loads(json.dumps(SUNSET))
    graph["1"]["inputs"]["value"] = "nearest-exact"
    if saved_as == "ui":
        graph = comfy.server.post("workflow/convert", {"workflow_api": graph})["workflow"]
    panel = panel_of(graph)
    notes = panel.notes
    assert "<details open" in notes
    assert "Some values do not fit their inputs (1)" in notes
    assert panel._form.problems == {"1.value": "must be an integer"}
    assert panel._form.values["1.value"] == ""
    with pytest.raises(InvalidRequestError, match="must have a value"):
        panel.run()
    panel.set_input("1.value", 200)
    assert run(panel).images[0].size[0] == 200
    told = "the value of its input value must be an integer, but is &quot;nearest-exact&quot;"
    assert told in notes
    assert "conversion" not in notes
    panel.show(SUNSET)
    panel.wait(60)
    assert panel.notes == ""


def test_a_click_is_not_handled_before_values_typed_earlier(
    panel_of: Callable[..., RunPanel],
) -> None:
    """The message of the form arrives later, or never; the click has what was typed, too."""
    panel = panel_of(SUNSET_PATH)
    typed = {"kind": "typed", "id": "a", "page": "p", "number": 1, "values": {"1.value": "200"}}
    panel._bar.run._handle_custom_msg({"kind": "run", "times": 1, "typed": [typed]}, [])
    until(lambda: panel.result is not None)
    assert panel.result.images[0].size[0] == 200
    newer = {**typed, "number": 2, "values": {"1.value": "300"}}
    panel._form._handle_custom_msg(newer, [])
    panel._form._handle_custom_msg(typed, [])
    assert panel.inputs == {"1.value": 300}


@pytest.fixture
def stream_requests(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The methods of the requests for streams of runs that this process sends from now on."""
    methods: list[str | None] = []
    send = requests.Session.send

    def note(session: requests.Session, request: Any, **kwargs: Any) -> requests.Response:
        if urlsplit(request.url).path.endswith("/run/streaming"):
            methods.append(request.method)
        return send(session, request, **kwargs)

    monkeypatch.setattr(requests.Session, "send", note)
    return methods


def test_runs_are_followed_over_the_streams_that_started_them(
    panel_of: Callable[..., RunPanel], stream_requests: list[str | None]
) -> None:
    panel = panel_of(SUNSET_PATH)
    panel.set_input("3.color", int(time.time()) % 0xFFFFFF)
    ended: list[str] = []
    panel.observe(lambda _: ended.append(panel.shown["prompt_id"]), "kept")
    panel.run(times=3)
    panel.wait()
    assert len(set(ended)) == 3
    assert stream_requests == ["POST"] * 3


def test_few_streams_are_open_and_all_are_closed_at_the_end(comfy: Comfy) -> None:
    idle: Any = SimpleNamespace(closing=False, start=lambda _: None)  # its thread never begins
    view: Any = SimpleNamespace(wait_behind=lambda _: None)
    follower = Follower(idle, view, lambda: None, lambda _: None)
    runs = [Run(comfy.server, {"prompt_id": str(n)}) for n in range(KEPT_STREAMS + 2)]
    streams: list[Any] = [Mock(spec=EventStream) for _ in runs]
    for run, stream in zip(runs, streams, strict=True):
        follower.add(run, stream)
    closed = [stream.close.called for stream in streams]
    assert closed == [False] * KEPT_STREAMS + [True] * 2
    again = Mock(spec=EventStream)
    follower.add(runs[0], again)
    assert again.close.called
    assert [run.prompt_id for run in follower.runs] == [run.prompt_id for run in runs]
    follower.stop()
    assert all(stream.close.called for stream in streams)


def test_code_can_set_inputs_before_the_form_is_ready(comfy: Comfy) -> None:
    panel = RunPanel(SUNSET_PATH, comfy=comfy)
    panel.set_input("1.value", 201)
    assert run(panel).images[0].size == (201, 640)
    with pytest.raises(UnknownInputError, match=r"1\.colour"):
        panel.set_input("1.colour", 0)
    panel.close()


def test_a_lost_server_is_reported_and_no_value_is_lost(
    comfy: Comfy, panel_of: Callable[..., RunPanel]
) -> None:
    panel = panel_of(SUNSET_PATH)
    panel.set_input("1.value", 200)
    address = comfy.server.url
    comfy.server.url = "http://127.0.0.1:9/"  # nothing listens there
    panel.run()
    panel.wait()
    assert "the Jupyter server at http://127.0.0.1:9/" in panel.error
    assert panel.inputs == {"1.value": 200}
    assert not panel.running
    comfy.server.url = address
    assert run(panel).images[0].size == (200, 640)
    assert panel.error == ""


def test_inputs_without_a_field_are_set_and_files_are_uploaded(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    Image.new("RGB", (24, 16), "red").save(tmp_path / f"{time.time_ns()}.png")
    (picture,) = tmp_path.glob("*.png")
    panel = panel_of({"1": node("LoadImage", image="none.png"), **ENLARGED})
    panel.set_input("1.image", picture)
    panel.set_input("2.image", ["1", 0])
    assert panel.inputs == {"1.image": picture.name, "2.image": ["1", 0]}
    assert run(panel).images[0].size == (48, 32)


def test_a_file_of_the_page_is_uploaded_and_confirmed_even_if_it_exists_already(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    path = tmp_path / f"{time.time_ns()}.png"
    Image.new("RGB", (24, 16), "red").save(path)
    panel = panel_of({"1": node("LoadImage", image="none.png"), **ENLARGED})
    sent: list[dict[str, Any]] = []
    panel._form.send = lambda message, *_: sent.append(message)
    content = path.read_bytes()
    for number in ("first", "again"):
        message = {"kind": "piece", "id": number, "name": path.name, "size": len(content)}
        panel._form._receive(None, {**message, "offset": 0}, [memoryview(content)])
        panel.wait(60)
        assert sent == [
            {"kind": "took", "id": number},
            {"kind": "stored", "id": number, "name": path.name},
        ]
        sent.clear()
    panel._form.machine = "no such machine"
    panel._form.received(path, {"id": "refused"})
    assert sent[0]["error"]
    assert "name" not in sent[0]


def test_an_error_is_shown_at_its_field_and_replaces_the_old_status(
    panel_of: Callable[..., RunPanel],
) -> None:
    graph = {"1": node("TestSmallSeed", seed=5, token=str(time.time())), **ENLARGED}
    panel = panel_of(graph)
    panel.run()
    until(lambda: panel.shown.get("title") == "Success" and not panel.running)
    panel.set_input("1.seed", 1001)
    with pytest.raises(InvalidRequestError, match="must be at most 1000"):
        panel.run()
    assert panel._form.problems == {"1.seed": "must be at most 1000"}
    assert "must be at most 1000" in panel.error
    assert panel.shown["title"] == "Earlier run"
    panel.set_input("1.seed", 1000)
    assert panel.error == "", "the field is in order again"
    panel.set_input("upscale_method", "nonsense")
    panel.run()
    until(lambda: panel._form.problems and not panel.running)
    assert panel._form.problems["2.upscale_method"].startswith("must be one of"), "the rest is run"
    del graph["1"]
    panel.show(graph)
    panel.set_input("upscale_method", "nonsense")
    panel.run()
    until(lambda: panel.error and not panel.running)
    assert "must be one of" in panel._form.problems["2.upscale_method"], "refused as a whole"


def test_a_refused_run_draws_no_new_seed(panel_of: Callable[..., RunPanel]) -> None:
    graph = {
        "1": node("ImageAddNoise", image=["9", 0], seed=5, strength=0.5),
        "2": shown("1"),
        "9": node("LoadImage", image="lost.png"),
    }
    panel = panel_of(graph)
    panel._form.locked = []
    panel.run()
    until(lambda: panel.error and not panel.running)
    problem = "lost.png is not in the input folder of this ComfyUI"
    assert panel._form.problems == {"9.image": problem}
    assert problem in panel.error
    assert panel._form.get_state()["values"]["1.seed"] == "5"
    panel.show({**graph, "9": ENLARGED["9"]})
    panel._requests.wait(30)
    panel._form.locked = []
    seeds = run(panel).seeds
    assert panel._form.get_state()["values"]["1.seed"] == str(seeds["1.seed"])


def test_a_required_input_is_asked_for_before_a_run_and_keeps_no_machine_from_its_files(
    panel_of: Callable[..., RunPanel], comfy: Comfy, tmp_path: Path
) -> None:
    picture = tmp_path / f"{time.time_ns()}.png"
    Image.new("RGB", (24, 16), "red").save(picture)
    graph = {
        "1": node("LoadImage", image="none.png"),
        "2": node("ImageScaleBy", image=["1", 0], scale_by=2.0),
        "3": node("SaveImage", images=["2", 0]),
    }
    panel = panel_of(graph)
    marked = {row["key"]: row["original"] for row in panel._form.fields if row["required"]}
    assert marked["3.filename_prefix"] == "ComfyUI", "the default of the node class"
    assert marked.keys() == {"2.upscale_method", "3.filename_prefix"}
    panel.set_input("2.scale_by", 3.0)
    with pytest.raises(InvalidRequestError, match="upscale method: must have a value"):
        panel.run()
    assert panel._form.problems.keys() == {"2.upscale_method"}
    comfy.upload(picture)
    panel.machine = "local"
    panel.wait(30)
    assert panel.error == ""
    (row,) = [row for row in panel._form.fields if row["key"] == "1.image"]
    assert picture.name in row["options"]
    assert panel.valid_inputs == {"2.scale_by": 3.0}
    panel.set_input("1.image", picture.name)
    panel.set_input("2.upscale_method", "area")
    panel.set_input("3.filename_prefix", "")
    with pytest.raises(InvalidRequestError, match="must have a value"):
        panel.run()
    panel.set_input("3.filename_prefix", "asked")
    (image,) = run(panel).files
    assert image.filename.startswith("asked")


def test_unreadable_workflows_are_reported_without_temporary_paths(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    panel = panel_of(SUNSET_PATH)
    bad = tmp_path / "bad.json"
    for content, reported in (("{", "is not JSON"), ('{"a": 1}', "a"), ("words", "")):
        bad.write_text(content)
        panel._picker._upload.received(bad, {})
        assert "bad.json" in panel.error or content == '{"a": 1}'
        assert reported in panel.error
        assert panel.error != ""
        assert str(tmp_path) not in panel.error
    panel.show("no-such-workflow")
    until(lambda: "no-such-workflow" in panel.error)
    panel.show(SUNSET_PATH)
    until(lambda: panel.error == "")


def test_failures_and_refusals_are_shown_as_text(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(FAILING)
    assert run(panel).status == "failed"
    (problem,) = panel.shown["problems"]
    assert "node TestFail failed" in problem
    assert "<b>no</b>" in problem, "the page shows it as text"
    assert "node TestFail failed" in panel._repr_mimebundle_()["text/plain"]
    panel.show({"1": node("NoSuchNode", a=1)})
    panel.wait(60)
    panel.run()
    until(lambda: "NoSuchNode" in panel.error)
    until(lambda: not panel.running)


def test_close_ends_the_threads_and_not_the_run(
    panel_of: Callable[..., RunPanel], comfy: Comfy
) -> None:
    panel = panel_of(slow(1.5))
    panel.run()
    until(lambda: comfy.runs(limit=1)[0].status == "running")
    running = comfy.runs(limit=1)[0]
    panel.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("comfydeploy")]
    assert running.wait(20).texts == ["x"]


def test_finds_the_workflows_of_the_folder(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    saved = {"id": 1, "type": "TestText", "widgets_values": ["x", ""], "inputs": []}
    ui = {"nodes": [saved], "links": []}
    for name in ("api.json", ".hidden/no.json", "deep/also.json"):
        (tmp_path / name).write_text(json.dumps(FAILING))
    (tmp_path / "ui.json").write_text(json.dumps(ui))
    (tmp_path / "settings.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    panel = panel_of(directory=tmp_path)
    files = [name for name in panel.workflows if (tmp_path / name).exists()]
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


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimpleNamespace]]:
    """A function after which this process's requests for a path, with a parameter, wait."""
    all_held: list[SimpleNamespace] = []

    def hold_requests(path: str, parameter: str = "") -> SimpleNamespace:
        held = SimpleNamespace(requested=threading.Event(), answer=threading.Event())
        all_held.append(held)
        send = requests.Session.send

        def wait(session: requests.Session, request: Any, **kwargs: Any) -> requests.Response:
            url = urlsplit(request.url)
            if url.path.endswith(path) and parameter in ("", *url.query.split("&")):
                held.requested.set()
                held.answer.wait(20)
            return send(session, request, **kwargs)

        monkeypatch.setattr(requests.Session, "send", wait)
        return held

    yield hold_requests
    for held in all_held:
        held.answer.set()


@pytest.fixture
def slow_version(hold: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    """The request of this process for version 1 of a workflow waits for ``answer``."""
    return hold("/workflow/version", "version=1")


@pytest.mark.parametrize("way", ["pick", "version", "show"])
def test_the_form_is_that_of_the_last_choice(
    comfy: Comfy,
    panel_of: Callable[..., RunPanel],
    slow_version: SimpleNamespace,
    tmp_path: Path,
    way: str,
) -> None:
    """The server answers the request for the workflow that was chosen before too late."""
    (tmp_path / "fails.json").write_text(json.dumps(FAILING))
    stored = comfy.workflows.save({"1": FAILING["2"]}, f"slow {time.time_ns()}")
    comfy.workflows.save(ENLARGED, workflow_id=stored.id)
    stored = comfy.workflows.get(stored.id)
    panel = panel_of(stored, directory=tmp_path)
    until(lambda: "fails.json" in panel.workflows)
    assert panel._picker._version.value == 2
    if way == "show":
        panel.show(stored, 1)
    else:
        panel._picker._version.value = 1
    assert slow_version.requested.wait(20)
    assert not panel.ready
    if way == "pick":
        panel.choose("fails.json")
    elif way == "version":
        panel._picker._version.value = 2
    else:
        panel.show(FAILING)
    until(lambda: panel.ready)
    slow_version.answer.set()
    panel.wait(30)
    assert panel.ready
    assert panel.error == ""
    graph, versions = panel.workflow.to_api(), panel._picker._version
    if way == "version":
        assert graph == ENLARGED
        assert (panel._picker.stored.id, versions.value) == (stored.id, 2)
    else:
        assert graph == FAILING
        assert (panel._picker.stored, versions.layout.display) == (None, "none")
    assert (
        panel._picker._field.value
        == {
            "pick": "fails.json",
            "version": stored.name,
            "show": "Given workflow",
        }[way]
    )
    panel.choose(panel._picker._field.value)
    assert panel.ready, "it is shown already"


def click_run(panel: RunPanel) -> None:
    """Send the panel the message that its page sends for a click on Run."""
    panel._bar.run._handle_custom_msg({"kind": "run", "times": 1, "typed": []}, [])


@pytest.mark.parametrize("then", ["wait", "cancel", "pick", "fail"])
def test_a_click_while_another_workflow_is_opened_does_not_wait_in_the_kernel(
    comfy: Comfy,
    panel_of: Callable[..., RunPanel],
    slow_version: SimpleNamespace,
    then: str,
) -> None:
    stored = comfy.workflows.save(ENLARGED, f"slow {time.time_ns()}")
    panel = panel_of(FAILING)
    panel.show(stored, 1)
    assert slow_version.requested.wait(20)
    click_run(panel)
    assert not panel.ready, "the click was handled at once"
    assert "Queueing …" in panel._bar._state.value
    if then == "cancel":
        panel._bar._cancel.click()
        assert "Cancelling …" in panel._bar._state.value
    elif then == "pick":
        panel.show({"1": FAILING["2"]})
    elif then == "fail":
        stored.delete()
    slow_version.answer.set()
    panel.wait(60)
    assert not panel.running
    if then == "wait":
        assert panel.result.images[0].size == (16, 16)
    else:
        assert panel.result is None
        assert "…" not in panel._bar._state.value
        assert ("no workflow" in panel.error) == (then == "fail"), panel.error


def test_runs_that_the_server_has_not_accepted_yet_can_be_cancelled(
    panel_of: Callable[..., RunPanel], hold: Callable[..., SimpleNamespace]
) -> None:
    panel = panel_of(slow())
    held = hold("/run/streaming")
    click_run(panel)
    assert held.requested.wait(20)
    assert "Queueing …" in panel._bar._state.value
    assert not panel._bar._cancel.disabled
    panel._bar._cancel.click()
    until(lambda: panel._bar._cancel.disabled)
    assert "Cancelling …" in panel._bar._state.value
    held.answer.set()
    until(lambda: panel.result is not None)
    assert panel.result.status == "cancelled"
    panel.wait(60)
    assert "Ready · the last run was cancelled" in panel._bar._state.value
    assert panel.error == ""


def test_a_click_is_answered_while_another_run_goes_on(
    panel_of: Callable[..., RunPanel], hold: Callable[..., SimpleNamespace]
) -> None:
    panel = panel_of(slow())
    panel.run()
    until(lambda: panel._follower.runs and "Queueing" not in panel._bar._state.value)
    held = hold("/run/streaming")
    click_run(panel)
    assert held.requested.wait(20)
    assert "Queueing …" in panel._bar._state.value
    panel.cancel_all()
    assert "Cancelling …" in panel._bar._state.value
    held.answer.set()
    panel.wait(60)
    assert "Ready · the last run was cancelled" in panel._bar._state.value


def test_code_is_told_that_no_workflow_is_open_or_takes_too_long_to_open(
    panel_of: Callable[..., RunPanel],
) -> None:
    with pytest.raises(InvalidRequestError, match="workflow: none is open; choose one first"):
        panel_of().run()
    opening = Requests()
    opening.next()
    with pytest.raises(RunTimeoutError, match=r"still being opened after 0\.01 s"):
        opening.wait(0.01)
    opening.done.set()
    opening.wait(0.01)


@pytest.mark.parametrize("workflow", [SUNSET_PATH, None])
def test_a_comfyui_that_answers_later_is_used_without_a_click(
    comfy: Comfy, faulty: FaultyComfyUI, tmp_path: Path, workflow: Path | None
) -> None:
    machine = comfy.machines.create(f"late {time.time_ns()}", comfyui_url=faulty.url)
    faulty.fail("GET", "", FAULTS["500"])
    panel = RunPanel(workflow, comfy, machine=machine.id, directory=tmp_path)
    try:
        panel.wait(60)
        assert panel.error
        assert panel._start.examples == []
        if workflow is not None:
            panel.set_input("1.value", 208)
        faulty.remove_faults()
        until(lambda: not panel.error)
        if workflow is None:
            until(lambda: panel._start.examples)
            return
        assert panel.inputs == {"1.value": 208}
        (width,) = [row for row in panel._form.fields if row["key"] == "1.value"]
        assert width["min"] is not None, "the definition says so"
        panel.run()
        until(lambda: panel.result is not None)
        assert panel.result.images[0].size == (208, 640)
    finally:
        panel.close()
        machine.delete()


def test_a_panel_says_that_it_waits_for_comfyui(
    comfy: Comfy, comfyui: ComfyUIServer, hold: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    starting = FaultyComfyUI(comfyui.url)
    starting.start()
    machine = comfy.machines.create(f"starts {time.time_ns()}", comfyui_url=starting.url)
    starting.close()
    until(lambda: not comfy.status(machine=machine.id)["comfyui"]["reachable"])
    held = hold("/object_info")
    panel = RunPanel(SUNSET_PATH, comfy, machine=machine.id, directory=tmp_path)
    assert held.requested.wait(20)
    assert "Waiting for ComfyUI …" in panel._bar._state.value
    held.answer.set()
    panel.wait(60)
    assert "…" not in panel._bar._state.value
    assert "does not answer" in panel.error
    panel.close()
    machine.delete()


def test_the_values_of_a_run_that_came_with_its_graph_are_used_again(
    comfy: Comfy, panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    """The run of a changed workflow, and of a picture, has its values in its own graph."""
    changed = comfy.load(SUNSET_PATH)
    changed["Width"].value = 232
    first = comfy.run(changed, {"Height.value": 96}, seed=5)
    panel = panel_of(SUNSET_PATH)
    assert panel.reuse(first.prompt_id) == "The values and seeds of this run are in the form now."
    assert panel.inputs == {"1.value": 232, "2.value": 96, **first.seeds}
    picture = first.files[0].save(tmp_path)
    second = comfy.run(picture, {"Height.value": 104})
    panel.reuse(second.prompt_id)
    assert panel.inputs == {"1.value": 232, "2.value": 104, **second.seeds}


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    panel = RunPanel(FAILING, Comfy("http://127.0.0.1:9"), directory=tmp_path)
    until(lambda: panel.ready)
    assert "does not answer" in panel.error
    panel.set_input("1.message", "the form is there all the same")
    panel.close()


def test_missing_models_are_shown_and_nothing_is_fetched(
    panel_of: Callable[..., RunPanel], comfy: Comfy
) -> None:
    loader = {"id": 1, "type": "CheckpointLoaderSimple", "mode": 0, "inputs": [], "outputs": []}
    evil = "<img src=x>.safetensors"
    listed = {"name": evil, "url": "javascript:alert(1)", "directory": "checkpoints"}
    node = {**loader, "widgets_values": [evil], "properties": {"models": [listed]}}
    panel = panel_of({"nodes": [node], "links": [], "version": 0.4})
    panel.wait(30)
    assert "1 model is missing" in panel.missing
    assert "&lt;img src=x&gt;.safetensors" in panel.missing
    assert "<img" not in panel.missing
    assert "href" not in panel.missing
    assert comfy.uploads()["active"] == 0
    panel.show(SUNSET_PATH)
    panel.wait(30)
    assert panel.missing == ""
