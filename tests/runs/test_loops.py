"""Runs with loops: what ComfyUI 0.38 sends about copies of nodes is told of the graph's nodes.

The messages are made in the order and format that were recorded from loops of that version.
"""

import asyncio
import contextlib
import itertools
import json
import time

import pytest
from aiohttp import web

from comfydeploy_jupyter.comfyui.client import ComfyUIClient
from comfydeploy_jupyter.comfyui.socket import STATES_RATE, Connection, Event
from comfydeploy_jupyter.graphs.loops import loop_bodies
from comfydeploy_jupyter.request_models import RunRequest
from comfydeploy_jupyter.runs.history import node_error, read_history
from comfydeploy_jupyter.runs.prepare import Prepared, compose
from comfydeploy_jupyter.runs.progress import NodeName
from comfydeploy_jupyter.runs.records import RunRecord
from comfydeploy_jupyter.runs.run import Run
from comfydeploy_jupyter.runs.state import Notification
from tests.helpers.comfyui import free_port
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.servers import serving
from tests.helpers.waiting import until_async

CLASSES = {
    "1": "StartLoop",
    "5": "StartLoop",
    "2": "Sampler",
    "3": "SaveImage",
    "6": "EndLoop",
    "4": "EndLoop",
    "9": "PreviewImage",
}
SOURCES = {"1": [], "5": ["1"], "2": ["5"], "3": ["2"], "6": ["3"], "4": ["6"], "9": ["4"]}


class ComfyUI:
    """Executes two nested loops, and makes the messages about them."""

    def __init__(self, outer, inner, fails_at=None):
        self.outer, self.inner, self.fails_at = outer, inner, fails_at
        self.states = {}
        self.outputs = {}
        self.meta = {}
        self.culprit = ""

    def node(
        self,
        node,
        shown,
        pictures=None,
        done=None,
    ):
        ids = {"node_id": node, "display_node_id": shown, "real_node_id": "1"}
        self.states[node] = {"value": 0.0, "max": 1.0, "state": "running", **ids}
        yield self.message("progress_state", nodes=json.loads(json.dumps(self.states)))
        yield self.message("executing", node=node, display_node=shown)
        if done is not None:
            start, ended, total = done
            yield self.message("progress_text", node=start, text=f"Iteration {ended} / {total}")
        if shown == "2":
            yield self.message("progress", node=node, value=1, max=2)
        if pictures is not None:
            output = {"images": [{"filename": f"{pictures}.png"}]}
            self.outputs[node], self.meta[node] = output, {"node_id": node, "display_node": shown}
            yield self.message("executed", node=node, display_node=shown, output=output)
        self.states[node] = {**self.states[node], "value": 1.0, "state": "finished"}
        yield self.message("progress_state", nodes=json.loads(json.dumps(self.states)))

    def message(self, kind, **data):
        return Event(kind, {"prompt_id": "p", **data}, len(json.dumps(data)))

    def messages(self):
        yield self.message("execution_start")
        yield self.message("execution_cached", nodes=[])
        yield from self.node("1", "1", done=("1", 0, self.outer))
        for i in range(self.outer):
            yield from self.node(f"1.0.0.iteration_{i}", "1")
            loop = f"1.0.0.{i}_5"
            yield from self.node(loop, "5", done=(loop, 0, self.inner))
            for k in range(self.inner):
                copy = f"{loop}.0.0.{k}_1.0.0.{i}"
                for message in self.node(f"{copy}_2", "2"):
                    yield message
                    if (i, k) == self.fails_at and message.type == "executing":
                        done = ["1.0.0.iteration_0", f"{loop}.0.0.0_1.0.0.{i}_3"]
                        error = {"node_id": "1", "node_type": "StartLoop", "executed": done}
                        error["current_outputs"] = [*self.states]
                        yield self.message("execution_error", exception_message="no", **error)
                        return
                yield from self.node(f"{copy}_3", "3", i * self.inner + k)
                ended = (loop, k + 1, self.inner)
                yield from self.node(f"{loop}.0.0.progress_{k}", "5", done=ended)
            yield from self.node(f"1.0.0.{i}_6", "6")
            yield from self.node(f"1.0.0.progress_{i}", "1", done=("1", i + 1, self.outer))
        yield from self.node("1.0.0.result", "1")
        yield from self.node("4", "4")
        yield from self.node("9", "9", 99)
        yield self.message("execution_success")


def run_of(classes, sources, **steps):
    nodes = {key: NodeName(f"The {kind}", kind) for key, kind in classes.items()}
    looped = loop_bodies(classes, sources)
    expected = {node: steps.get(f"n{node}", 0) for node in classes if node not in looped}
    record = RunRecord("p", "local", "s", created_at="2026-01-01T00:00:00.000Z", status="running")
    run = Run(record, nodes, steps=expected, looped=looped)
    run.send(Notification.FIRST)
    return run


def follow(comfyui):
    """Return a run that has received all messages, and its progress after each of them."""
    assert loop_bodies(CLASSES, SOURCES) == dict.fromkeys(("5", "2", "3", "6"), "1")
    run = run_of(CLASSES, SOURCES)
    seen = []
    for message in comfyui.messages():
        run.show(message)
        seen.append(run.live())
    return run, seen


async def test_iterations_are_those_of_the_graphs_nodes():
    comfyui = ComfyUI(3, 11)
    run, seen = follow(comfyui)
    texts = [live["live_status"] for live in seen]
    assert "Executing The Sampler (iteration 3 of 3, 11 of 11)" in texts
    assert "Executing The StartLoop (iteration 1 of 3)" in texts
    assert texts[-1] == "Executing The PreviewImage"
    fractions = [live["progress"] for live in seen]
    assert fractions == sorted(fractions)
    in_loop = {
        text.split("(")[-1]: fraction for text, fraction in zip(texts, fractions, strict=True)
    }
    assert in_loop["iteration 1 of 3)"] < 0.3, "what is between the loops"
    assert in_loop["iteration 2 of 3, 6 of 11)"] == pytest.approx(0.9 * 16 / 33, abs=0.03)
    assert run.live_status.nodes() == (7, 7)
    names = [f"{n}.png" for n in range(33)]
    assert [each["filename"] for each in run.record.outputs["3"]["images"]] == names
    assert set(run.record.outputs) == {"3", "9"}
    assert set(run.record.node_times) == set(CLASSES)
    live = run.record.outputs
    read_history(run.record, {"outputs": comfyui.outputs, "meta": comfyui.meta, "status": {}})
    assert run.record.outputs == live
    scattered = dict(reversed(comfyui.outputs.items()))  # a cache may tell them in another order
    read_history(run.record, {"outputs": scattered, "meta": comfyui.meta, "status": {}})
    assert run.record.outputs == live


async def test_no_reader_sees_the_id_of_a_copy():
    run, _ = follow(ComfyUI(2, 2, fails_at=(1, 1)))
    for entry in run.log.after(0):
        text = json.dumps(entry.data)
        assert ".0." not in text, text
    last = [entry.data for entry in run.log.after(0) if entry.event == "execution_error"][-1]
    assert (last["node_id"], last["node_type"]) == ("2", "Sampler")
    assert last["executed"] == ["1", "3"]
    assert last["current_outputs"] == ["1", "5", "2", "3", "6"]
    assert run.live_status.current_step() is None
    error = {"type": "X", "message": "no", "node_id": "1", "node_type": "StartLoop"}
    assert run.live_status.with_culprit(error)["node_id"] == "2"
    other = {**error, "node_id": "9", "node_type": "PreviewImage"}
    assert run.live_status.with_culprit(other) == other


@pytest.mark.parametrize("separators", [None, (",", ":")])
async def test_a_failure_that_only_the_history_tells_names_the_node(separators):
    graph = {
        "1": {"class_type": "StartLoop", "inputs": {}},
        "2": {"class_type": "Sampler", "inputs": {"latent": ["1", 3]}, "_loop_body": True},
        "4": {"class_type": "EndLoop", "inputs": {"saved": ["2", 0]}},
    }
    told = {"node_id": "1", "node_type": "StartLoop", "current_inputs": {"latent": [1]}}
    status = {"status_str": "error", "messages": [["execution_error", told]]}

    async def history(request):
        entry = {"prompt": [0, "p", graph, {}, []], "outputs": {}, "status": status}
        return web.Response(text=json.dumps({"p": entry}, separators=separators))

    app = web.Application()
    app.add_routes([web.get("/history/p", history)])
    async with serving(app) as url:
        client = ComfyUIClient(url, timeout=10)
        entry = await client.history("p")
        await client.close()
    record = RunRecord("p", "local", "s", created_at="2026-01-01T00:00:00.000Z")
    read_history(record, entry)
    assert (record.error["node_id"], record.error["node_type"]) == ("2", "Sampler")


async def test_the_next_attempt_begins_again():
    """ComfyUI was killed in the second iteration, and executes the run again."""
    comfyui = ComfyUI(3, 2, fails_at=(1, 1))
    run, seen = follow(comfyui)
    assert "(iteration 2 of 3, 2 of 2)" in seen[-1]["live_status"]
    run.restart()
    again = [*ComfyUI(3, 2).messages()][:4]
    for message in again:
        run.show(message)
    assert run.live()["live_status"] == "Executing The StartLoop"
    run.show(Event("progress_text", {"node": "2", "text": "Iteration 1 / 9"}))  # of a sampler
    assert run.live()["live_status"] == "Executing The StartLoop"


class Timed:
    """A run whose events come at given times; loops are only told by their nodes and texts."""

    def __init__(self, classes, sources, **steps):
        self.run, self.now = run_of(classes, sources, **steps), 0.0
        self.run.live_status.clock = lambda: self.now

    def at(self, now, node, text=None):
        self.now = now
        self.run.show(Event("executing", {"node": node}))
        if text is not None:
            start = node.rpartition(".0.0.progress")[0] or node
            self.run.show(Event("progress_text", {"node": start, "text": f"Iteration {text}"}))
            early = {start: {"state": "finished"}}  # what ComfyUI says of the Start itself
            self.run.show(Event("progress_state", {"nodes": early}))
        return self.run.live()


ONE = {"1": "StartLoop", "2": "Sampler", "4": "EndLoop", "8": "Upscale", "9": "SaveImage"}
IN_ONE = {"1": [], "2": ["1"], "4": ["2"], "8": ["4"], "9": ["8"]}


async def test_the_time_left_is_learned_from_the_first_iterations():
    timed = Timed(ONE, IN_ONE)
    assert timed.at(0, "1", "0 / 10")["time_left"] is None
    assert timed.at(40, "1.0.0.0_2")["time_left"] is None
    assert timed.at(60, "1.0.0.progress_0", "1 / 10")["time_left"] == 540
    assert timed.at(70, "1.0.0.progress_1", "2 / 10")["time_left"] == 80, "without what was loaded"
    assert timed.run.live_status.nodes() == (0, 5)
    for done in range(3, 10):
        live = timed.at(50 + 10 * done, f"1.0.0.progress_{done - 1}", f"{done} / 10")
        assert live["time_left"] == 100 - 10 * done
    left = [timed.at(140 + wait, "1.0.0.9_2")["time_left"] for wait in (5, 9, 12, 30)]
    assert left == [5, 1, 0, None], "a last iteration that takes longer is not about to end"
    assert timed.at(175, "1.0.0.progress_9", "10 / 10")["time_left"] is None
    live = timed.at(180, "8")
    assert live["live_status"] == "Executing The Upscale"
    assert live["progress"] > 0.2, "the whole loop is done, whatever is said of its Start later"
    assert timed.run.live_status.nodes() == (2, 5)
    assert timed.run.record.node_times["1"] == 175
    assert timed.run.record.node_steps["1"] == [10, 1, 0]


async def test_a_sampler_behind_a_loop_has_its_own_pace():
    timed = Timed(ONE, IN_ONE, n8=20)
    timed.at(0, "1", "0 / 10")
    assert timed.at(60, "1.0.0.progress_0", "1 / 10")["time_left"] is None


async def test_loops_beside_each_other_are_not_nested():
    classes = {**ONE, "11": "StartLoop", "12": "Sampler", "14": "EndLoop"}
    sources = {**IN_ONE, "11": [], "12": ["11"], "14": ["12"], "8": ["4", "14"]}
    timed = Timed(classes, sources)
    timed.at(0, "1", "0 / 4")
    timed.at(1, "11", "0 / 2")
    live = timed.at(2, "1.0.0.0_2")
    assert live["live_status"] == "Executing The Sampler (iteration 1 of 4)"
    assert live["iterations"] == [[1, 4]]
    timed.at(12, "1.0.0.progress_0", "1 / 4")
    assert timed.at(13, "11.0.0.0_12")["live_status"] == "Executing The Sampler (iteration 1 of 2)"
    timed.at(33, "11.0.0.progress_0", "1 / 2")
    live = timed.at(34, "1.0.0.1_2")
    assert live["live_status"] == "Executing The Sampler (iteration 2 of 4)"
    half = live["progress"]
    assert timed.at(53, "11.0.0.progress_1", "2 / 2")["progress"] > half
    assert timed.run.live_status.nodes() == (2, 8)


async def test_one_outer_iteration_advances_with_those_in_it():
    inner = {"1": "StartLoop", "5": "StartLoop", "2": "Sampler", "6": "EndLoop", "15": "StartLoop"}
    classes = {**inner, "12": "Sampler", "16": "EndLoop", "4": "EndLoop", "9": "SaveImage"}
    sources = {"1": [], "5": ["1"], "2": ["5"], "6": ["2"], "15": ["6"], "12": ["15"]}
    timed = Timed(classes, {**sources, "16": ["12"], "4": ["16"], "9": ["4"]})
    timed.at(0, "1", "0 / 1")
    timed.at(0, "1.0.0.0_5", "0 / 4")
    seen = [timed.at(10, "1.0.0.0_5.0.0.progress_0", "1 / 4")]
    seen += [timed.at(20, "1.0.0.0_5.0.0.progress_1", "2 / 4")]
    assert (seen[0]["progress"], seen[0]["time_left"]) == (0.225, 30)
    assert (seen[1]["progress"], seen[1]["time_left"]) == (0.45, 20)
    timed.at(40, "1.0.0.0_5.0.0.progress_3", "4 / 4")
    live = timed.at(41, "1.0.0.0_15", "0 / 2")  # another loop in the same iteration
    assert live["live_status"] == "Executing The StartLoop (iteration 1 of 1, 1 of 2)"
    timed.at(51, "1.0.0.0_15.0.0.progress_0", "1 / 2")
    timed.at(61, "1.0.0.progress_0", "1 / 1")
    assert timed.run.record.node_steps["1"] == [1, 1, 0], "no second beginning"


async def test_the_steps_of_a_node_in_a_loop_are_those_of_its_iteration():
    timed = Timed(ONE, IN_ONE)
    timed.at(0, "1", "0 / 3")
    assert timed.run.live_status.current_step() is None
    timed.at(1, "1.0.0.0_2")
    timed.run.show(Event("progress", {"node": "1.0.0.0_2", "value": 7, "max": 20}))
    assert timed.run.live_status.current_step() == (7, 20)
    timed.at(2, "1.0.0.1_2")
    assert timed.run.live_status.current_step() is None


async def test_hostile_ids_and_outputs_do_no_harm():
    long = "1" * 5000
    outputs = {long: {"images": [1]}, "2": [], "1.0.0.1_3": {"text": 5}, "1.0.0.0_3": {"text": []}}
    meta = {"1.0.0.1_3": {"display_node": "3"}, "1.0.0.0_3": {"display_node": "3"}, "2": 5}
    run, _ = follow(ComfyUI(1, 1))
    read_history(run.record, {"outputs": outputs, "meta": meta, "status": {}})
    assert run.record.outputs == {long: {"images": [1]}, "3": {"text": 5}}
    states = {"1.0.0.7_2": {"display_node_id": "1.0.0.7_2", "state": "running", "value": 0.5}}
    run.show(Event("progress_state", {"nodes": states}))
    last = [e.data for e in run.log.after(0) if e.event == "progress_state"][-1]
    assert list(last["nodes"]) == ["2"]


async def test_what_is_sent_grows_with_the_iterations_only():
    sizes = []
    for iterations in (10, 100):
        run, _ = follow(ComfyUI(1, iterations))
        events = list(run.log.after(0))
        assert [e.id for e in events] == [*range(1, len(events) + 1)], "the log has space for all"
        sizes.append(sum(len(json.dumps(e.data)) for e in events) / iterations)
    assert sizes[1] < 1.2 * sizes[0]


@contextlib.asynccontextmanager
async def receiving(frames, on_event):
    """A connection to a ComfyUI that sends these frames at once."""

    async def accept(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for frame in frames:
            await socket.send_str(frame)
        await socket.receive()
        return socket

    async def remaining(_):
        return web.json_response({"exec_info": {"queue_remaining": 0}})

    app = web.Application()
    app.add_routes([web.get("/ws", accept), web.get("/prompt", remaining)])
    async with serving(app) as url:
        client = ComfyUIClient(url, timeout=10)
        connection = Connection(
            client,
            "me",
            on_event=on_event,
            on_connect=lambda: None,
            on_disconnect=lambda: None,
        )
        connection.start()
        try:
            yield
        finally:
            await connection.close()
            await client.close()


async def test_many_frames_at_once_leave_the_event_loop_to_others():
    """Each ends a run, say, and needs a millisecond."""
    received, turns = 0, []

    def handle(_):
        nonlocal received
        received += 1
        time.sleep(0.001)

    async def take_turns():
        while received < 1000:
            turns.append(received)
            await asyncio.sleep(0)
        turns.append(received)

    frames = [json.dumps({"type": "executing", "data": {"prompt_id": "p", "node": None}})] * 1000
    async with receiving(frames, handle):
        await asyncio.wait_for(take_turns(), 60)
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 12


async def test_few_of_the_frequent_events_about_many_nodes_are_read():
    few, many = (
        {str(n): {"state": "finished", "value": 1, "max": 1} for n in range(count)}
        for count in (50, 2000)
    )
    kinds_sent = ["progress_state"] * 40
    frames = [
        json.dumps({"type": kind, "data": {"prompt_id": "p", "nodes": states}})
        for states, kind in [
            *((few, kind) for kind in kinds_sent),
            *((many, kind) for kind in kinds_sent),
            ({}, "executing"),
            (many, "progress_state"),
            ({}, "execution_success"),
        ]
    ]
    pause = len(frames[40]) / STATES_RATE
    kinds = []
    begun = time.monotonic()
    async with receiving(frames, lambda event: kinds.append(getattr(event, "type", ""))):
        await until_async(lambda: "execution_success" in kinds)
    took = time.monotonic() - begun
    assert kinds[:40] == kinds_sent
    assert kinds[-2:] == ["progress_state", "execution_success"], "the last states are read"
    assert kinds[40:-2].count("progress_state") <= 1 + took / pause
    assert "executing" in kinds


@pytest.mark.parametrize("text", ["Iteration 5", "Iteration x / 3", "Iteration 1 / 0", 5, None])
async def test_other_texts_are_no_iterations(text):
    run, _ = follow(ComfyUI(1, 1))
    run.show(Event("progress_text", {"node": "1", "text": text}))
    run.show(Event("progress_text", {"node": 7, "text": "Iteration 1 / 3"}))
    assert "iteration" not in run.live()["live_status"]


def test_what_to_expect_of_loops_is_told_with_the_run():
    graph = {
        "1": {
            "class_type": "StartLoop",
            "inputs": {"mode": "simple", "mode.num_iterations": 10**9},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        "4": {"class_type": "EndLoop", "inputs": {"terminations.termination0": ["3", 0]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }
    prepared = compose(RunRequest(workflow_api=graph, outputs=["5"]), None, False)
    assert isinstance(prepared, Prepared)
    many, also = prepared.warnings
    assert many == "Node StartLoop has 1,000,000,000 iterations."
    assert also.startswith("Output node SaveImage is executed, too")
    graph["1"]["inputs"]["mode.num_iterations"] = 3
    prepared = compose(RunRequest(workflow_api=graph), None, False)
    assert isinstance(prepared, Prepared)
    assert prepared.warnings == []


class Refusing(InstantComfyUI):
    """A ComfyUI that answers 500, as 0.38 does if the fault of a loop reaches no output."""

    async def definitions(self, request):
        any_input = {"input": {"optional": {"any": ["*", {}]}}, "output": ["*"]}
        classes = dict.fromkeys(("StartLoop", "EndLoop", "Draw"), any_input)
        return web.json_response({**classes, "Show": {**any_input, "output_node": True}})

    async def queue_prompt(self, request):
        return web.Response(status=500, text="500 Internal Server Error")


@pytest.fixture
def extension_config(tmp_path, jp_asyncio_loop):
    port = free_port()
    serving = asyncio.ensure_future(Refusing().serve(port), loop=jp_asyncio_loop)
    yield {"comfyui_url": f"http://127.0.0.1:{port}", "data_dir": str(tmp_path / "data")}

    async def stop():
        serving.cancel()
        await asyncio.wait([serving])
        await until_async(lambda: "RequestHandler.start" not in str(asyncio.all_tasks()))

    jp_asyncio_loop.run_until_complete(stop())


async def test_a_fault_for_which_comfyui_answers_500_is_said_in_words(api):
    links = {"8": "", "10": "8", "7": "10", "9": "10"}
    classes = {"8": "Draw", "10": "Show", "7": "StartLoop", "9": "EndLoop"}
    graph = {
        key: {"class_type": classes[key], "inputs": {"any": [found, 0]} if found else {}}
        for key, found in links.items()
    }
    why = "ComfyUI could not read the graph"
    fault = "End Loop has no Start Loop: End Loop 9 has no available Start Loop"
    code, reply = await api.post("run", {"workflow_api": graph})
    assert code == 400
    assert reply["error"] == f"{why} (it answered 500): {fault}"
    code, reply = await api.post("workflow/validate", {"workflow_api": graph})
    assert (code, reply["valid"], reply["general"]) == (200, False, [f"{why}: {fault}"])


def test_a_good_loop_beside_a_broken_one_fails_in_words():
    data = {"exception_type": "KeyError", "exception_message": "'_loop_body'\n", "node_id": "1"}
    error = node_error(data)
    assert "another loop of the workflow is not whole" in error["message"]
    assert error["type"] == "KeyError"
    assert node_error({**data, "exception_message": "'other'"})["message"] == "'other'"
