"""RunPanel without a page, with the real routes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter import RunPanel
from comfydeploy_jupyter.errors import InvalidRequestError, UnknownInputError
from comfydeploy_jupyter.receipts import ReceiptError
from comfydeploy_jupyter.widgets.run_panel import ASKED_AHEAD
from tests.helpers.graphs import SUNSET_PATH, node, paper, shown
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from comfydeploy_jupyter.client import Comfy, Result

PAPER = {"1": paper(color=7), "2": shown("1")}
SEEDED = {
    "3": node("TestSeed", seed=2**63 + 1),
    "4": node("TestText", text="x", anything=["3", 0]),
}


@pytest.fixture
def panel_of(comfy: Comfy, opened: Callable[[RunPanel], RunPanel]) -> Callable[..., RunPanel]:
    """A function that makes a panel and waits until it is ready."""
    return lambda *args, **kwargs: opened(RunPanel(*args, comfy=comfy, **kwargs))


def ended(panel: RunPanel) -> Result:
    panel.wait(60)
    until(lambda: panel.result is not None)
    result: Result = panel.result
    return result


def test_values_are_set_read_and_run(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(PAPER)
    results = []
    panel.on_result(results.append)
    assert panel.inputs == {}
    panel.set_input("width", 47)
    panel.set_input("width", 48)
    panel.set_input("1.height", 32)
    assert panel.values == {"1.width": "48", "1.height": "32"}
    assert panel.inputs == {"1.width": 48, "1.height": 32}
    panel.set_input("Paper.color", 0x1F2A6B)
    assert panel.values["1.color"] == "#1f2a6b"
    assert panel.inputs["1.color"] == 0x1F2A6B
    panel.set_input("1.color", 7)
    assert "1.color" not in panel.values, "as in the workflow"
    panel.run()
    result = ended(panel)
    assert result.status == "success"
    assert result.images[0].size == (48, 32)
    assert results == [result]
    assert not panel.running
    data = panel._repr_mimebundle_()[0]
    assert result.files[0].filename in data["text/plain"]
    state = panel.get_state("result")["result"]
    assert state["prompt_id"] == result.prompt_id


def test_the_form_of_a_large_workflow_is_asked_for_before_the_page_has_it(
    panel_of: Callable[..., RunPanel],
    comfy: Comfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    request = comfy.server.request

    def recorded(method: str, address: str, **content: Any) -> Any:
        asked.append((address.rpartition("/")[2], content.get("body")))
        return request(method, address, **content)

    monkeypatch.setattr(comfy.server, "request", recorded)
    path = tmp_path / "workflow.json"
    monkeypatch.setattr(RunPanel, "_asked", (None, 0.0))
    for size, is_asked in ((ASKED_AHEAD, True), (ASKED_AHEAD, False), (0, False)):
        path.write_text(json.dumps({**PAPER, "4": node("TestText", text="x" * size)}))
        asked.clear()
        panel = panel_of(path)
        body = {**panel.shown_workflow["source"], "machine": None, "brief": True}
        if is_asked:
            until(lambda: ("form", body) in asked and RunPanel._asked[1])  # noqa: B023 - now
        assert (("form", body) in asked) == is_asked


def test_a_receipt_is_opened(
    comfy: Comfy, opened: Callable[[RunPanel], RunPanel], tmp_path: Path
) -> None:
    path = comfy.submit(PAPER).receipt(tmp_path / "receipt.zip")
    panel = opened(comfy.open(path))
    panel.set_input("width", 48)
    panel.run()
    result = ended(panel)
    assert result.images[0].size == (48, PAPER["1"]["inputs"]["height"])
    changed = bytearray(path.read_bytes())
    changed[99] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ReceiptError):
        comfy.open(path)


def test_wrong_names_values_and_numbers_are_refused(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="did you mean workflow"):
        panel_of(worklow=PAPER)
    panel = panel_of(PAPER)
    with pytest.raises(UnknownInputError, match=r"'widht'.*did you mean width"):
        panel.set_input("widht", 1)
    with pytest.raises(InvalidRequestError, match="times"):
        panel.run(0)
    with pytest.raises(InvalidRequestError, match="times"):
        panel.run(101)
    panel.values = {"1.width": "0"}
    with pytest.raises(InvalidRequestError, match="at least 1"):
        panel.run()
    assert panel.values == {"1.width": "0"}, "the page shows it"
    empty = panel_of()
    with pytest.raises(InvalidRequestError, match="none is open"):
        empty.run()
    empty.show(tmp_path / "nothing.json")
    until(lambda: "nothing.json" in empty.error)
    empty.show("nobody's workflow")
    until(lambda: "neither a file nor a stored workflow" in empty.error)
    empty.show(PAPER)
    empty.wait()
    assert empty.error == ""
    assert empty.workflow is not None


def test_seeds_are_exact_and_drawn_unless_they_are_locked(
    panel_of: Callable[..., RunPanel],
) -> None:
    panel = panel_of(SEEDED)
    panel.locked = ["3.seed"]
    panel.set_input("seed", 2**64 - 1)
    assert panel.inputs == {"3.seed": 2**64 - 1}
    panel.run()
    assert ended(panel)["inputs"]["3.seed"] == 2**64 - 1
    panel.locked = []
    panel.run(2)
    panel.wait(60)
    until(lambda: not panel.running)
    seeds = {run.known["inputs"]["3.seed"] for run in panel.comfy.runs(3)}
    assert len(seeds) == 3


def test_the_values_of_a_run_are_used_again(panel_of: Callable[..., RunPanel]) -> None:
    panel = panel_of(SEEDED)
    seed = 2**64 - 3
    run = panel.comfy.submit({**SEEDED, "9": node("TestText", text="more")}, {"3.seed": seed})
    run.wait()
    sentence = panel.reuse(run.prompt_id)
    assert sentence == "The values and seeds of this run are in the form now."
    assert panel.values == {"3.seed": str(seed)}
    assert panel.locked == ["3.seed"]
    other = panel_of(PAPER)
    assert "does not tell: Paper" in other.reuse(run.prompt_id)


def test_workflows_are_given_in_each_way(
    panel_of: Callable[..., RunPanel], comfy: Comfy, tmp_path: Path
) -> None:
    stored = comfy.workflows.save(PAPER, f"paper {time.time()}")
    comfy.workflows.save(SEEDED, workflow_id=stored.id)
    path = tmp_path / "paper.json"
    path.write_text(json.dumps(PAPER))
    loaded = comfy.load(PAPER)
    loaded["1"].width = 77
    loaded["1"].color = 0x1F2A6B
    ways: dict[str, Any] = {
        stored.name: (stored.name,),
        "paper.json": (path,),
        "Given workflow": (json.dumps(PAPER),),
        str(SUNSET_PATH): (str(SUNSET_PATH),),
    }
    for title, given in ways.items():
        panel = panel_of(*given, directory=tmp_path)
        assert panel.shown_workflow["title"] == title
        assert panel.workflow is not None
    assert panel_of(stored.id, version=1).workflow["1"].width == 64
    changed = panel_of(loaded)
    assert changed.workflow["1"].width == 77
    assert changed.inputs.get("1.color", 0x1F2A6B) == 0x1F2A6B


def test_a_file_of_one_line_is_sent_as_it_is(
    panel_of: Callable[..., RunPanel], tmp_path: Path
) -> None:
    plain = json.dumps(PAPER, separators=(",", ":"))
    ways = {
        f"{plain}\n": f"{plain}\n",
        json.dumps(PAPER, indent=2): json.dumps(PAPER),
        plain.replace("Paper", "紙"): json.dumps(PAPER).replace("Paper", "\\u7d19"),
    }
    for content, sent in ways.items():
        path = tmp_path / "paper.json"
        path.write_text(content, encoding="utf-8")
        source = panel_of(path).shown_workflow["source"]
        assert source == {"workflow_api": sent}
    panel = panel_of(plain.replace('"color":7', '"color":7.0').encode())
    assert '"color":7.0' in panel.shown_workflow["source"]["workflow_api"]
    assert panel.workflow["1"].color == 7


def test_runs_of_the_page_are_followed_and_cancelled(
    panel_of: Callable[..., RunPanel], comfy: Comfy
) -> None:
    panel = panel_of(PAPER)
    sleep = node("TestSleep", seconds=600.0, token=str(time.time()))
    run = comfy.submit({"1": sleep, "2": node("TestText", text="x", anything=["1", 0])})
    panel.runs = [run.prompt_id]  # as the page sets it
    assert panel.running
    panel.cancel()
    until(lambda: panel.result is not None)
    assert panel.result.status == "cancelled"
    assert panel.result.prompt_id == run.prompt_id
