"""The state of the history for the runs of a workflow."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from comfydeploy_jupyter.client import Deletion, Run, RunProgress
from comfydeploy_jupyter.client.graph import Source
from comfydeploy_jupyter.client.runs import Kept
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.errors import NotFoundError, StoreUnavailableError
from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.widgets import history, progress
from comfydeploy_jupyter.widgets.history import History, RunGraphs
from comfydeploy_jupyter.widgets.progress import ProgressView
from tests.helpers.graphs import node

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER = Server("http://h/")
WORKFLOW: Any = SimpleNamespace(source=None)


def record(number: int, status: str = "success", **more: Any) -> dict[str, Any]:
    return {
        "prompt_id": f"p{number}",
        "status": status,
        "created_at": f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000Z",
        "outputs": {},
        **more,
    }


class Runs:
    """The runs of a server, oldest first."""

    def __init__(self, count: int) -> None:
        self.records = [record(number) for number in range(count)]
        self.queries: list[dict[str, Any]] = []
        self.pin = Mock()
        self.delete = Mock()

    def __call__(self, limit: int, offset: int, *, of: Any, **conditions: Any) -> list[Run]:
        assert of is WORKFLOW
        self.queries.append({"limit": limit, "offset": offset, **conditions})
        return [Run(SERVER, found) for found in self.records[::-1][offset : offset + limit]]


class Panel:
    """A panel that calls everything immediately."""

    def __init__(self, runs: Runs) -> None:
        self.comfy = SimpleNamespace(runs=runs, server=SERVER)
        self.errors: list[Exception] = []

    def start(self, task: Callable[..., object], *arguments: object) -> None:
        self.attempt(task, *arguments)

    def attempt(self, task: Callable[..., object], *arguments: object) -> None:
        try:
            task(*arguments)
        except NotFoundError as error:
            self.errors.append(error)


def made(runs: Runs, **calls: Any) -> tuple[History, list[dict[str, Any]]]:
    """Return a history, and the messages that it sends."""
    panel: Any = Panel(runs)
    calls = {"show": Mock(), "reuse": Mock(), "set_input": Mock(), **calls}
    view = History(panel, calls["show"], calls["reuse"], calls["set_input"])
    sent: list[dict[str, Any]] = []
    view.send = lambda message, *_: sent.append(message)
    view.of(WORKFLOW)
    return view, sent


def send(view: History, kind: str, **message: Any) -> None:
    """Send the view a message of the page."""
    view._receive(None, {"kind": kind, **message}, [])


def ids(view: History) -> list[str]:
    return [entry["prompt_id"] for entry in view.runs]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE", 3)


def test_older_runs_come_page_by_page_and_stay_when_others_are_new() -> None:
    runs = Runs(7)
    view, _ = made(runs)
    assert (ids(view), view.more) == (["p6", "p5", "p4"], True)
    send(view, "more")
    assert (ids(view), view.more) == (["p6", "p5", "p4", "p3", "p2", "p1"], True)
    runs.records += [record(7, status="failed"), record(8, status="running")]
    assert [run.prompt_id for run in view.refresh()] == ["p8"]
    assert (ids(view), view.more) == (["p7", "p6", "p5", "p4", "p3", "p2", "p1"], True)
    send(view, "more")
    assert (ids(view), view.more) == (["p7", "p6", "p5", "p4", "p3", "p2", "p1", "p0"], False)


WHY = "Waiting for a machine: machine 'gpu' is paused (runs fail there)"


def test_a_run_that_no_machine_can_execute_says_why() -> None:
    runs = Runs(2)
    runs.records += [record(2, "queued", live_status=WHY), record(3, "queued", live_status="")]
    view, _ = made(runs)
    assert ids(view) == ["p2", "p1"]
    shown = view.runs[0]
    assert (shown["status"], shown["title"], shown["problem"]) == ("queued", "Waiting", WHY)
    runs.records[2]["live_status"] = ""
    assert [run.prompt_id for run in view.refresh()] == ["p2", "p3"]
    assert ids(view) == ["p1"]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"live_status": WHY, "queue_position": 1}, WHY),
        ({"live_status": "", "queue_position": 1}, "Next in the queue"),
        ({"queue_position": 3}, "Waiting: 2 runs before this one"),
        ({"queue_position": None}, "Waiting in the queue"),
    ],
)
def test_progress_of_a_waiting_run(known: dict[str, Any], text: str) -> None:
    panel: Any = Panel(Runs(0))
    view = ProgressView(panel, Mock())
    waiting = record(0, "queued", **known)
    run: Any = SimpleNamespace(record=waiting, known=waiting)
    view.begin(run)
    view.show(RunProgress(Source(None)))
    assert view.state["text"] == text


def test_no_old_place_is_shown_while_the_server_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = record(0, "queued", queue_position=3)
    lost = StoreUnavailableError("The store is locked")
    replies = iter([known, lost, known])

    class Waiting:
        @property
        def record(self) -> dict[str, Any]:
            if isinstance(reply := next(replies), dict):
                return reply
            raise reply

    def text(interval: float) -> str:
        monkeypatch.setattr(progress, "ASK_INTERVAL", interval)
        view.show(RunProgress(Source(None)))
        return str(view.state["text"])

    panel: Any = Panel(Runs(0))
    view = ProgressView(panel, Mock())
    run: Any = Waiting()
    run.known = known
    view.begin(run)
    assert text(60) == "Waiting: 2 runs before this one"
    assert text(0) == "Waiting in the queue"
    assert text(60) == "Waiting in the queue", "until the server has answered again"
    assert text(0) == "Waiting: 2 runs before this one"


def test_a_run_deleted_by_another_client_disappears() -> None:
    runs = Runs(7)
    view, _ = made(runs)
    send(view, "more")
    del runs.records[5]
    view.refresh()
    assert ids(view) == ["p6", "p4", "p3", "p2", "p1"]
    del runs.records[:]
    view.refresh()
    assert (ids(view), view.more) == ([], False)


def test_filter_is_sent_to_the_server() -> None:
    runs = Runs(3)
    view, _ = made(runs)
    view.filter = {"status": "failed", "search": "cat", "days": 7, "label": ["client", "acme"]}
    query = runs.queries[-1]
    assert (query["status"], query["search"]) == ("failed", "cat")
    assert (query["labels"], query["pinned"]) == ({"client": "acme"}, None)
    assert query["after"].tzinfo is not None
    view.filter = {"status": "", "search": "", "days": 0, "label": [], "pinned": True}
    query = runs.queries[-1]
    assert query == {
        "limit": 4,
        "offset": 0,
        "status": None,
        "search": None,
        "after": None,
        "before": None,
        "labels": None,
        "pinned": True,
    }
    view.filter = {"days": 0, "after": "2030-01-01T23:00:00Z", "before": "2030-01-03T23:00:00Z"}
    query = runs.queries[-1]
    assert (query["after"], query["before"]) == ("2030-01-01T23:00:00Z", "2030-01-03T23:00:00Z")


def test_labels_are_offered() -> None:
    runs = Runs(1)
    runs.records += [record(1, metadata={"shot": "2", "client": "acme"})]
    runs.records += [record(2, metadata={"client": "acme"})]
    view, _ = made(runs)
    assert view.labels == [["client", "acme"], ["shot", "2"]]


def test_deletion_is_reported() -> None:
    runs = Runs(7)
    view, sent = made(runs)
    send(view, "more")

    def delete(prompt_ids: list[str], *, files: bool) -> Deletion:
        assert files
        del runs.records[2]
        return Deletion(1, 2, 3 * 1024**2, [Kept("p1", None, "it is pinned")], 1)

    runs.delete.side_effect = delete
    send(view, "delete", prompt_ids=["p1", "p2"], files=True)
    assert ids(view) == ["p6", "p5", "p4", "p3", "p1"]
    text = "1 run and 2 files deleted (3.0 MiB); 1 kept (it is pinned)."
    assert sent == [{"kind": "notice", "text": text, "problem": True}]


def test_all_failed_runs_of_the_workflow_are_deleted_or_a_reason_is_told() -> None:
    runs = Runs(5)
    runs.records[0]["status"] = runs.records[4]["status"] = "failed"
    view, sent = made(runs)
    runs.delete.side_effect = StoreUnavailableError("The store is locked")
    send(view, "delete", prompt_ids=["p1"], files=False)
    assert sent == [{"kind": "notice", "text": "Not deleted: The store is locked", "problem": True}]
    assert ids(view) == ["p4", "p3", "p2"]
    runs.delete = Mock(return_value=Deletion(2, 0, 0, [], 0))
    del runs.records[4], runs.records[0]
    send(view, "delete", prompt_ids=None, files=False)
    runs.delete.assert_called_once_with(of=WORKFLOW, status="failed", files=False)
    assert ids(view) == ["p3", "p2", "p1"]


def test_pin_is_shown_at_once() -> None:
    runs = Runs(2)
    view, sent = made(runs)
    send(view, "pin", prompt_ids=["p0"], pinned=True)
    runs.pin.assert_called_once_with(["p0"], True)
    assert [entry["pinned"] for entry in view.runs] == [False, True]
    runs.pin.side_effect = NotFoundError("gone")
    del runs.records[0]
    send(view, "pin", prompt_ids=["p0"], pinned=False)
    assert (sent[0]["text"], sent[0]["problem"]) == ("A run was deleted in the meantime.", True)
    assert ids(view) == ["p1"]


def test_values_are_used_again_with_a_message() -> None:
    reuse = Mock(return_value="They are in the form now.")
    view, sent = made(Runs(1), reuse=reuse)
    send(view, "reuse", prompt_id="p0")
    reuse.assert_called_once_with("p0")
    assert sent[0]["text"] == "They are in the form now."


def graphs_of(graphs: dict[str, dict[str, Any]]) -> tuple[RunGraphs, Any]:
    server = Mock()
    server.get.side_effect = lambda _, graph: {"workflow_api": graphs[graph], "workflow": None}
    return RunGraphs(), server


def sampler(**inputs: Any) -> dict[str, Any]:
    return node("KSampler", "Sampler", **inputs)


def test_differences_of_two_runs_in_words() -> None:
    long = "a very long prompt " * 100
    first = {"1": sampler(steps=4, text=long, model=["9", 0]), "2": sampler(gone=1)}
    second = {"1": sampler(steps=8, text=long + "!", model=["9", 0], cfg=1.5)}
    graphs, server = graphs_of({"a": first, "b": second})
    assert graphs.differences(server, "a", "b") == [
        ['removed "Sampler" (KSampler, id 2)', "", ""],
        ["Sampler: steps", "4", "8", "int"],
        ["Sampler: text", long, long + "!", "multiline"],
        ["Sampler: cfg", "-", "1.5", "float"],
    ]
    assert graphs.differences(server, "a", "a") == []
    assert server.get.call_count == 2, "each graph is requested once"


def test_differences_are_shown_as_in_the_form() -> None:
    """Labels, colours, numbers and switches are those of the fields; other values are JSON."""
    colour = {"display": "color", "min": 0, "max": 0xFFFFFF}
    specs = {
        "color": ["INT", colour],
        "scale": ["FLOAT", {}],
        "tiled": ["BOOLEAN", {}],
        "points": ["POINTS", {}],
    }
    definitions = {"KSampler": {"input": {"required": specs}, "output": ["IMAGE"]}}
    before = {"1": sampler(color=255, scale=0.1 + 0.2, tiled=False, points=[1.5, 2])}
    after = {"1": sampler(color=0xC03030, scale=1.0, tiled=True, points=[3])}
    fields = workflow_form(after, definitions, None).fields
    label = "Colour of the paper"
    named = [replace(f, label=label) if f.kind == "color" else f for f in fields]
    _, server = graphs_of({"a": before, "b": after})
    assert RunGraphs(definitions, named).differences(server, "a", "b") == [
        [label, "#0000ff", "#c03030", "color"],
        ["Sampler: scale", "0.3", "1.0", "float"],
        ["Sampler: tiled", "off", "on", "bool"],
        ["Sampler: points", "[1.5, 2]", "[3]", ""],
    ]


def test_prompts_of_a_run() -> None:
    text = "a quiet harbour\nwith many boats"
    graphs, server = graphs_of({"a": {"1": node("CLIPTextEncode", text=text, clip=["2", 0])}})
    ((label, prompt),) = graphs.prompts(server, "a")
    assert ("text" in label, prompt) == (True, text)


class Watched(Panel):
    """A panel that is closed after some pauses; something happens in each of them."""

    def __init__(self, runs: Runs, *happenings: Callable[[], object]) -> None:
        super().__init__(runs)
        self.closing = False
        self._happenings = list(happenings)

    def idle(self, _: threading.Event, __: float) -> None:
        if self._happenings:
            self._happenings.pop(0)()
        else:
            self.closing = True


def test_what_others_do_is_shown_without_a_click() -> None:
    """A run of ComfyUI's editor may be stored when newer runs are in the list already."""
    runs = Runs(0)
    runs.records = [record(1), record(3)]
    seen: list[list[str]] = []

    def fail(*_: Any, **__: Any) -> list[Run]:
        raise StoreUnavailableError("The store is locked")

    def begin(status: str) -> None:
        runs.records[3:] = [record(4, status=status)]

    def disconnect() -> None:
        panel.comfy.runs = fail

    def reconnect() -> None:
        panel.comfy.runs = runs
        del runs.records[1]

    def fold() -> None:
        view.opened = False
        runs.records.append(record(5))

    steps: list[Callable[[], object]] = [
        lambda: runs.records.insert(1, record(2, from_editor=True)),
        lambda: begin("running"),
        lambda: begin("success"),
        disconnect,
        reconnect,
        fold,
    ]

    def step(happen: Callable[[], object]) -> Callable[[], object]:
        return lambda: (seen.append(ids(view)), happen())

    panel: Any = Watched(runs, *map(step, [*steps, lambda: None]))
    view = History(panel, Mock(), Mock(), Mock())
    view.of(WORKFLOW)
    view.watch(panel)
    assert seen == [
        ["p3", "p1"],
        ["p3", "p2", "p1"],
        ["p3", "p2", "p1"],
        ["p4", "p3", "p2", "p1"],
        ["p4", "p3", "p2", "p1"],
        ["p4", "p3", "p1"],
        ["p4", "p3", "p1"],
    ]


def test_another_reason_why_a_run_waits_is_shown_without_a_click() -> None:
    runs = Runs(0)
    runs.records = [record(0, "queued", live_status=WHY)]
    other = WHY.replace("paused", "lost")
    panel: Any = Watched(runs, lambda: None, lambda: runs.records[0].update(live_status=other))
    view = History(panel, Mock(), Mock(), Mock())
    view.of(WORKFLOW)
    assert [entry["problem"] for entry in view.runs] == [WHY]
    runs.records = [dict(runs.records[0])]
    view.watch(panel)
    assert [entry["problem"] for entry in view.runs] == [other]
    del runs.queries[:]
    panel = Watched(runs, *[lambda: None] * 5)
    view._panel = panel
    view.watch(panel)
    limits = [query["limit"] for query in runs.queries]
    assert limits == [history.WATCHED, history.PAGE + 1, *[history.WATCHED] * 4], "no change"


def test_two_refreshes_at_the_same_time_list_each_run_once() -> None:
    view, _ = made(Runs(3))
    threads = [threading.Thread(target=view.refresh) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(view) == ["p2", "p1", "p0"]
