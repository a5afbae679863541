"""Only valid prompts of ComfyUI's editor are read in its history."""

import json

import pytest

from comfydeploy_jupyter.comfyui.client import OWN_PROMPT
from comfydeploy_jupyter.runs.editor import EditorRuns, read_prompts

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 2, "model": ["1", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "x" * 20_000, "clip": ["1", 1]}},
}
EXTRA = {"client_id": "c", "create_time": 1_700_000_000_500, "extra_pnginfo": {"workflow": {}}}
STATUS = {"status_str": "success", "completed": True, "messages": []}


def entry(number=1, graph=GRAPH, extra=EXTRA, status=STATUS, **more):
    return {"prompt": [number, "id", graph, extra, ["9"]], "outputs": {}, "status": status, **more}


def read(history, known=frozenset()):
    return read_prompts(json.dumps(history).encode(), known)


def test_values_and_seeds_are_read():
    ids, [prompt] = read({"a": entry(), "b": entry()}, frozenset(["b"]))
    assert ids == ["a", "b"]
    record = prompt.record
    assert (record.prompt_id, record.number, record.session) == ("a", 1, "c")
    assert record.created_at == "2023-11-14T22:13:20.500Z"
    assert record.inputs == {"3.seed": 7, "3.steps": 2}  # links and long texts are left out
    assert record.seeds == {"3.seed": 7}
    assert json.loads(prompt.prompt) == GRAPH
    assert (record.status, record.outputs, record.from_editor) == ("success", {}, True)


def test_a_run_with_a_loop_is_about_the_nodes_of_its_graph():
    start = {"class_type": "StartLoop", "inputs": {"mode": "simple", "mode.num_iterations": 11}}
    graph = {"1": start, "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 3]}}}
    added = {"_loop_body": ["3"], "_loop_end": "4", "is_changed": [float("nan")]}
    numbers = [10, 0, 9, *range(1, 9)]
    run = entry(graph={**graph, "1": {**start, **added}})
    run["outputs"] = {f"1.0.0.{n}_3": {"images": [{"filename": f"{n}.png"}]} for n in numbers}
    run["meta"] = {copy: {"display_node": "3"} for copy in run["outputs"]}
    _, [prompt] = read({"a": run})
    images = [{"filename": f"{n}.png"} for n in range(11)]
    assert prompt.record.outputs == {"3": {"images": images}}
    assert json.loads(prompt.prompt) == graph
    assert prompt.record.inputs == {"1.mode": "simple", "1.mode.num_iterations": 11}


@pytest.mark.parametrize(
    ("given", "node"),
    [
        ({"images": [1], "index": [0]}, "2"),
        ({"images": [1]}, "1"),  # of no node
        ({"filename_prefix": [1], "images": [1]}, "1"),  # of two
        ({}, "1"),
        (5, "1"),
    ],
)
def test_a_failure_in_a_loop_names_the_node_that_failed(given, node):
    save = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    graph = {
        "1": {"class_type": "StartLoop", "inputs": {}},
        "2": {"class_type": "Blur", "inputs": {"images": ["1", 3], "index": ["1", 0]}},
        "3": save,
        "5": save,
        "4": {"class_type": "EndLoop", "inputs": {"saved": ["3", 0], "other": ["5", 0]}},
        "9": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }
    error = {"node_id": "1", "node_type": "StartLoop", "exception_message": "no"}
    messages = [["execution_error", {**error, "current_inputs": given}], ["odd"], 5]
    status = {"status_str": "error", "completed": False, "messages": messages}
    _, [prompt] = read({"a": entry(graph=graph, status=status)})
    assert prompt.record.error["node_id"] == node
    assert prompt.record.error["node_type"] == graph[node]["class_type"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "malformed",
    [
        None,
        [],
        {},
        {"prompt": "text"},
        {"prompt": [1, "id", GRAPH]},
        entry(graph=[]),
        entry(graph={"1": "text"}),
        entry(extra=None),
        entry(extra={}),
        entry(extra={"extra_pnginfo": []}),
        entry(extra={"extra_pnginfo": {"workflow": "text"}}),
        entry(extra={**EXTRA, OWN_PROMPT: True}),
        entry(status=None),
        entry(graph={"1": {"inputs": []}}, extra=[]),
        entry(status="text"),
    ],
)
def test_other_prompts_are_left_out(malformed):
    ids, [prompt] = read({"a": malformed, "b": entry()})
    assert (ids, prompt.record.prompt_id) == (["a", "b"], "b")


@pytest.mark.parametrize("history", [[], None, 7, "text"])
def test_other_json_has_no_prompts(history):
    assert read(history) == ([], [])


def test_malformed_graphs_are_kept_unchanged():
    graph = {"1": {}, "2": {"class_type": 7, "inputs": "text"}, "": {"inputs": {"a": None}}}
    _, [prompt] = read({"a": entry(graph=graph)})
    assert (json.loads(prompt.prompt), prompt.record.inputs) == (graph, {".a": None})


def test_invalid_numbers_and_times_are_left_out():
    extra = {"create_time": "now", "extra_pnginfo": {"workflow": {}}}
    _, [prompt] = read({"a": entry(number="1", extra=extra)})
    assert (prompt.record.number, prompt.record.session) == (None, "")
    assert prompt.record.created_at > "2025", "now"


class History:
    """The history of a ComfyUI, without its connection; remembers what was requested."""

    def __init__(self, count, size):
        self.entries = {f"id-{n}": entry(n, status="x" * size) for n in range(count)}
        self.requests = []

    async def recent_history(self, most):
        self.requests.append(most)
        return json.dumps(dict([*self.entries.items()][-most:])).encode()

    async def known(self, ids):
        return set(), set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "requests"),
    [
        (0, [1, 8, 64, 200]),  # an entry of the graph above has 20 kB
        (80_000, [1, 8, 40]),
        (1_000_000, [1, 4]),
        (12_000_000, [1]),
    ],
)
async def test_the_next_response_is_never_expected_to_be_large(size, requests):
    history = History(300, size) if size < 10**6 else History(6, size)
    runs = EditorRuns(None, None)  # they are not used in the search
    ids, _ = await runs._find(history, history)
    assert len(ids) == min(history.requests[-1], len(history.entries))
    assert history.requests[: len(requests) - 1] == requests[:-1]
    assert history.requests[-1] == pytest.approx(requests[-1], rel=0.1)
