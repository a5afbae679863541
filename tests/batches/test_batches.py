"""Batches through their routes, with a ComfyUI that answers at once."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from comfydeploy_jupyter.graphs.dependencies import structure_of
from tests.helpers.comfyui import free_port
from tests.helpers.graphs import node
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def instant(jp_asyncio_loop) -> Iterator[InstantComfyUI]:
    found = InstantComfyUI()
    found.port = free_port()
    serving = asyncio.ensure_future(found.serve(found.port), loop=jp_asyncio_loop)
    yield found
    serving.cancel()
    jp_asyncio_loop.run_until_complete(asyncio.wait([serving]))


@pytest.fixture
def extension_config(instant, tmp_path) -> dict[str, Any]:
    return {
        "comfyui_url": f"http://127.0.0.1:{instant.port}",
        "data_dir": str(tmp_path / "data"),
    }


def graph(**inputs: Any) -> dict[str, Any]:
    return {"1": node("TestText", text="", token="", **inputs)}


async def create(api, **fields: Any) -> str:
    body = {"workflow_api": graph(), **fields}
    if "prompts" in fields:
        del body["workflow_api"]
    code, reply = await api.post("batch", body)
    assert code == 200, reply
    return str(reply["batch_id"])


async def ended(api, batch_id: str) -> dict[str, Any]:
    async def batch() -> dict[str, Any]:
        return (await api.get(f"batch/{batch_id}"))[1]

    found: dict[str, Any] = await until_async(batch, lambda found: found["finished_at"])
    return found


async def points(api, batch_id: str, **query: str) -> list[dict[str, Any]]:
    code, reply = await api.get(f"batch/{batch_id}/points", **query)
    assert code == 200, reply
    return list(reply["points"])


async def test_a_repeated_request_makes_no_second_batch(api):
    body = {"workflow_api": graph(), "points": [{}], "batch_id": "mine"}
    code, _ = await api.post("batch", body)
    assert code == 200
    code, error = await api.post("batch", body)
    assert (code, error["code"], error["details"]["field"]) == (409, "conflict", "batch_id")
    assert (await ended(api, "mine"))["counts"] == {"success": 1}


async def test_each_combination_runs_once(api):
    values = {"text": {"$vary": ["a", "b"]}, "token": {"$vary": ["1", "2", "3"]}}
    batch_id = await create(api, inputs=values, labels={"client": "acme"}, title="Six")
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 6})
    assert (batch["fraction"], batch["time_left"]) == (1.0, 0.0)
    assert batch["axes"][0] == {"names": ["text"], "values": [["a"], ["b"]]}
    found = await points(api, batch_id)
    combinations = [(each["values"]["text"], each["values"]["token"]) for each in found]
    assert combinations == [(a, b) for a in "ab" for b in "123"]
    texts = [each["run"]["outputs"]["1"]["text"] for each in found]
    assert texts == [[a] for a, _ in combinations]
    assert all(each["run"]["metadata"] == {"client": "acme"} for each in found)
    runs = (await api.get("runs", batch_id=batch_id))[1]
    assert {(run["prompt_id"], run["point"]) for run in runs} == {
        (each["prompt_id"], each["point"]) for each in found
    }
    single = await api.run(graph())
    assert [run["prompt_id"] for run in (await api.get("runs", single="true"))[1]] == [
        single["prompt_id"]
    ]
    listed = (await api.get("batches", **{"labels[client]": "acme"}))[1]
    assert (listed["total"], listed["batches"][0]["title"]) == (1, "Six")
    assert (await api.get("batches", state="running"))[1]["batches"] == []
    for structure, number in ((structure_of(graph()), 1), ("0" * 32, 0)):
        assert (await api.get("batches", structure=structure))[1]["total"] == number


async def test_inputs_change_together(api):
    size = {"text": {"$vary": ["a", "b"]}, "token": {"$vary": ["1", "2"], "$with": "text"}}
    found = await points(api, await create(api, inputs=size))
    assert [each["values"] for each in found] == [
        {"text": "a", "token": "1"},
        {"text": "b", "token": "2"},
    ]


async def test_points_and_prompts(api):
    listed = [{"text": "a"}, {"token": "7"}, {"text": "c", "token": "8"}]
    batch_id = await create(api, points=listed, inputs={"text": "other"})
    await ended(api, batch_id)
    texts = [each["run"]["outputs"]["1"]["text"][0] for each in await points(api, batch_id)]
    assert texts == ["a", "other", "c"]
    prompts = [{"1": node("TestText", text=text, token="")} for text in "xyx"]
    batch_id = await create(api, prompts=prompts)
    await ended(api, batch_id)
    found = await points(api, batch_id)
    assert [each["values"] for each in found] == [{"1.text": text} for text in "xyx"]
    assert [each["run"]["outputs"]["1"]["text"] for each in found] == [["x"], ["y"], ["x"]]
    assert found[0]["prompt_id"] == found[2]["prompt_id"], "equal points run once"


async def test_equal_points_run_once_and_are_taken_over_by_their_key(api):
    first = await create(api, points=[{"text": "a"}, {"text": "a"}, {"1.text": "a"}], key="k")
    await ended(api, first)
    ids = {each["prompt_id"] for each in await points(api, first)}
    assert len(ids) == 1
    body = {"workflow_api": graph(), "inputs": {"text": {"$vary": ["a", "b"]}}}
    code, reply = await api.post("batch", {**body, "key": "k"})
    assert (code, reply["taken_over"]) == (200, 1)
    await ended(api, reply["batch_id"])
    found = await points(api, reply["batch_id"])
    assert {found[0]["prompt_id"]} == ids
    assert found[1]["run"]["batch_id"] == reply["batch_id"]
    for other in ({"key": "other"}, {"key": "k", "fresh": True}, {}):
        assert (await api.post("batch", {**body, **other}))[1]["taken_over"] == 0


async def test_points_by_value_and_status(api, instant):
    values = ["3", "30", '"seed":3', "", "ü"]
    batch_id = await create(api, inputs={"text": {"$vary": values}})
    await ended(api, batch_id)
    for value in values[:3] + values[4:]:
        found = await points(api, batch_id, **{"values[text]": value})
        assert [each["values"]["text"] for each in found] == [value]
    assert await points(api, batch_id, status="failed") == []
    assert len(await points(api, batch_id, status="success", limit="2", offset="1")) == 2
    numbers = [2**63, 2**64 - 1, 2**64 - 2, 7, 7.5, True, {"a": 1}]
    many = [{"1": node("TestText", text="x", token=value)} for value in numbers]
    batch_id = await create(api, prompts=many)
    for value in numbers:
        found = await points(api, batch_id, **{"values[1.token]": json.dumps(value)})
        assert [each["values"]["1.token"] for each in found] == [value]


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"inputs": {"text": "a"}}, "inputs", "no input with several values"),
        ({"inputs": {"text": {"$vary": []}}}, "inputs.text", "list with values"),
        ({"inputs": {"text": {"$vary": "ab"}}}, "inputs.text", "list with values"),
        ({"inputs": {"text": {"$vary": ["a"], "$wiht": "b"}}}, "inputs.text", "$wiht"),
        ({"inputs": {"text": {"$vary": ["a"], "$with": "b"}}}, "inputs.text", "another input"),
        ({"points": []}, "points", "empty"),
        ({"points": [{"text": "a"}, "b"]}, "points[1]", "must be an object"),
        ({"points": [{"text": {"$vary": [1]}}]}, "points[0].text", "$vary"),
        ({"points": [{}], "prompts": [graph()]}, "workflow_api", "prompts"),
        ({"points": [{}], "at_once": 0}, "at_once", "1"),
        ({"points": [{}], "machine": "nowhere"}, "machine", "nowhere"),
        ({"points": [{}], "workflow_id": "x"}, "workflow_api", "workflow_id"),
    ],
)
async def test_bad_requests_name_the_field(api, fields, field, text):
    code, reply = await api.post("batch", {"workflow_api": graph(), **fields})
    assert code in (400, 404)
    assert reply["details"]["field"] == field, reply
    assert text in reply["error"]
    assert (await api.get("batches"))[1]["total"] == 0


async def test_a_grid_that_is_too_large_is_refused_with_its_number(api):
    axis = {"$vary": list(range(1000))}
    inputs = {"text": axis, "token": axis, "1.more": axis}
    code, reply = await api.post("batch", {"workflow_api": graph(more=1), "inputs": inputs})
    assert (code, reply["details"]["points"]) == (400, 10**9)
    assert "1000000000" in reply["error"]


async def test_wrong_points_are_named_by_their_numbers(api):
    many: list[dict[str, Any]] = [{"text": str(number)} for number in range(8000)]
    many[7301] = {"txet": "a"}
    many[7999] = {"text": "b", "nothing": 1}
    code, reply = await api.post("batch", {"workflow_api": graph(), "points": many})
    assert (code, reply["details"]["wrong"]) == (400, 2)
    assert [each["point"] for each in reply["details"]["points"]] == [7301, 7999]
    assert "point 7301: inputs.txet" in reply["error"]
    prompts = [graph(), {"1": {"inputs": {}}}, graph()]
    code, reply = await api.post("batch", {"prompts": prompts})
    assert (code, reply["details"]["points"][0]["point"]) == (400, 1)


async def test_events_of_a_batch(api, instant):
    instant.released.clear()
    batch_id = await create(api, inputs={"text": {"$vary": ["a", "b", "c"]}})
    reading = asyncio.ensure_future(api.raw("GET", f"batch/{batch_id}/events"))
    await asyncio.sleep(0.3)
    instant.released.set()
    text = (await reading).body.decode()
    messages = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    kinds = [message["event"] for message in messages]
    assert kinds.count("point") == 3
    assert kinds[0] == "progress"
    assert kinds[-1] == "end"
    assert messages[-1]["data"]["state"] == "done"
    ids = [line[4:] for line in text.splitlines() if line.startswith("id: ")]
    second = [i for i, kind in enumerate(kinds) if kind == "point"][1]
    again = await api.raw("GET", f"batch/{batch_id}/events", headers={"Last-Event-ID": ids[second]})
    rest = [data["event"] for _, data in parse_stream_text(again.body)]
    assert rest == ["point", "end"]
    bad = await api.call("GET", f"batch/{batch_id}/events", headers={"Last-Event-ID": "x"})
    assert (bad[0], bad[1]["details"]["field"]) == (400, "Last-Event-ID")


def parse_stream_text(body: bytes) -> list[tuple[str, Any]]:
    blocks = body.decode().strip().split("\n\n")
    lines = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(block["id"], json.loads(block["data"])) for block in lines if "data" in block]


async def test_cancel(api, instant):
    instant.released.clear()
    batch_id = await create(api, inputs={"text": {"$vary": [*"abcdef"]}})
    await until_async(lambda: instant.load, lambda load: sum(load) == 2)
    code, batch = await api.post(f"batch/{batch_id}/cancel")
    assert (code, batch["state"], batch["counts"]["cancelled"]) == (200, "cancelled", 4)
    assert (await api.post(f"batch/{batch_id}/cancel"))[0] == 409
    instant.released.set()
    batch = await ended(api, batch_id)
    assert batch["state"] == "cancelled"
    assert sum(batch["counts"].values()) == 6
    assert (await api.post(f"batch/{uuid.uuid4()}/cancel"))[0] == 404


async def test_few_points_are_queued_at_a_time_and_single_runs_go_first(api, instant):
    instant.released.clear()
    first = await create(api, inputs={"text": {"$vary": [*"abcdef"]}})
    second = await create(api, inputs={"text": {"$vary": [*"ghijkl"]}})
    await until_async(lambda: instant.load, lambda load: sum(load) == 2)
    await asyncio.sleep(0.3)
    assert sum(instant.load) == 2
    singles = [await api.start(graph()) for _ in range(3)]
    instant.released.set()
    await ended(api, first)
    await ended(api, second)
    order = [*instant._history]
    assert [order.index(each) for each in singles] == [2, 3, 4]
    ids = {each["prompt_id"]: one for one in (first, second) for each in await points(api, one)}
    turns = [ids[each] == first for each in order if each in ids]
    for count in range(5, 9):  # the first two may both be of the batch that came first
        assert abs(2 * sum(turns[:count]) - count) <= 2, turns


async def test_points_that_wait_for_outputs_of_other_runs_hold_nobody_up(api, instant):
    other = InstantComfyUI()
    other.released.clear()
    serving = asyncio.ensure_future(other.serve(port := free_port()))
    machine = {"name": "slow", "comfyui_url": f"http://127.0.0.1:{port}"}
    assert (await api.post("machine/create", machine))[0] == 200
    run_id = await api.start(graph(), inputs={"text": "made"}, machine="slow")
    await until_async(lambda: other.load, lambda load: sum(load) == 1)
    made = {"$output": {"run": run_id, "file": "texts[0]"}}
    needing = await create(api, points=[{"text": made, "token": str(n)} for n in range(4)])
    batch_id = await create(api, inputs={"text": {"$vary": [*"abc"]}})
    assert (await ended(api, batch_id))["counts"] == {"success": 3}
    found = await points(api, needing)
    assert {each["status"] for each in found} == {"not-started"}
    assert (await api.call("DELETE", f"batch/{needing}"))[0] == 409
    other.released.set()
    assert (await ended(api, needing))["counts"] == {"success": 4}
    assert [each["run"]["outputs"]["1"]["text"] for each in await points(api, needing)] == [
        ["made"]
    ] * 4
    serving.cancel()
    await asyncio.wait([serving])


async def test_a_point_that_cannot_run_fails_alone(api, instant):
    instant.fails = True
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}], retry=1)
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"failed": 2})
    found = await points(api, batch_id)
    assert [(each["attempts"], each["error"]) for each in found] == [(2, "no kernel image")] * 2


async def test_too_many_failures_pause_a_batch(api, instant):
    instant.fails = True
    many = {"$vary": list("abcdefgh")}
    batch_id = await create(api, inputs={"text": many}, stop_after=2, at_once=1)

    async def batch() -> dict[str, Any]:
        return (await api.get(f"batch/{batch_id}"))[1]

    found = await until_async(batch, lambda found: found["state"] == "paused")
    assert found["why"] == "2 points have failed"
    assert found["counts"] == {"failed": 2, "waiting": 6}


async def test_pause_and_resume(api, instant):
    instant.released.clear()
    batch_id = await create(api, inputs={"text": {"$vary": [*"abcd"]}})
    await until_async(lambda: instant.load, lambda load: sum(load) == 2)
    code, batch = await api.post(f"batch/{batch_id}/pause")
    assert (code, batch["state"]) == (200, "paused")
    assert (await api.post(f"batch/{batch_id}/pause"))[0] == 409
    instant.released.set()

    async def counts() -> dict[str, int]:
        return dict((await api.get(f"batch/{batch_id}"))[1]["counts"])

    await until_async(counts, lambda found: found == {"success": 2, "waiting": 2})
    await asyncio.sleep(0.2)
    assert await counts() == {"success": 2, "waiting": 2}
    assert (await api.post(f"batch/{batch_id}/resume"))[1]["state"] == "running"
    assert (await ended(api, batch_id))["counts"] == {"success": 4}
    assert (await api.post(f"batch/{batch_id}/resume"))[0] == 409


async def test_a_cancelled_batch_can_go_on(api, instant):
    instant.released.clear()
    batch_id = await create(api, inputs={"text": {"$vary": [*"abcd"]}})
    await until_async(lambda: instant.load, lambda load: sum(load) == 2)
    await api.post(f"batch/{batch_id}/cancel")
    instant.released.set()
    await ended(api, batch_id)
    batch = (await api.post(f"batch/{batch_id}/resume"))[1]
    assert (batch["state"], batch["finished_at"]) == ("running", None)
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 4})


async def test_failed_points_run_again(api, instant):
    instant.fails = True
    points_of = [{"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": "a"}]
    batch_id = await create(api, points=points_of, stop_after=4)
    await ended(api, batch_id)
    instant.fails = False
    for numbers, counts in (([3], {"success": 2, "failed": 2}), (None, {"success": 4})):
        code, batch = await api.post(f"batch/{batch_id}/retry", {"points": numbers})
        assert (code, batch["state"]) == (200, "running")
        assert (await ended(api, batch_id))["counts"] == counts
    assert (await api.post(f"batch/{batch_id}/retry", {}))[0] == 409
    assert (await api.post(f"batch/{batch_id}/retry", {"points": [0, -1]}))[0] == 400


async def test_labels_can_be_changed(api):
    batch_id = await create(api, points=[{"text": "a"}], labels={"client": "acme"})
    await ended(api, batch_id)
    code, batch = await api.call(
        "PATCH", f"batch/{batch_id}", body=json.dumps({"labels": {"project": "ü"}})
    )
    assert (code, batch["labels"]) == (200, {"project": "ü"})
    assert (await points(api, batch_id))[0]["run"]["metadata"] == {"project": "ü"}
    assert (await api.get("batches", **{"labels[client]": "acme"}))[1]["total"] == 0


async def test_delete(api, instant):
    instant.released.clear()
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}])
    await until_async(lambda: instant.load, lambda load: sum(load) == 2)
    assert (await api.call("DELETE", f"batch/{batch_id}"))[0] == 409
    instant.released.set()
    await ended(api, batch_id)
    assert (await api.call("DELETE", f"batch/{batch_id}"))[1]["runs"] == 0
    assert (await api.get(f"batch/{batch_id}"))[0] == 404
    assert len((await api.get("runs", single="true"))[1]) == 2
    batch_id = await create(api, points=[{"text": "c"}, {"text": "d"}])
    await ended(api, batch_id)
    code, reply = await api.call("DELETE", f"batch/{batch_id}", params={"files": "true"})
    assert (code, reply["runs"]) == (200, 2)
    assert len((await api.get("runs"))[1]) == 2


async def test_a_webhook_gets_the_end(api, endpoint):
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}], webhook=endpoint.url)
    await ended(api, batch_id)
    (message,) = await until_async(lambda: endpoint.messages)
    assert (message["batch_id"], message["state"]) == (batch_id, "done")
    assert (message["counts"], message["total"]) == ({"success": 2}, 2)


@pytest.fixture
def endpoint(jp_asyncio_loop) -> Iterator[Any]:
    """A server that keeps what is posted to it."""
    messages: list[Any] = []

    async def keep(request: web.Request) -> web.Response:
        messages.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/end", keep)
    runner, port = web.AppRunner(app), free_port()
    jp_asyncio_loop.run_until_complete(runner.setup())
    jp_asyncio_loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", port).start())
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}/end", messages=messages)
    jp_asyncio_loop.run_until_complete(runner.cleanup())


async def test_many_points_are_accepted_quickly_and_take_no_memory(api, extension, instant):
    instant.released.clear()
    stalls = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - before)

    many = [{"text": str(number), "token": "7"} for number in range(10_000)]
    body = json.dumps({"workflow_api": graph(), "points": many})
    watching = asyncio.ensure_future(watch())
    started = time.perf_counter()
    code, reply = await api.post("batch", body)
    took = time.perf_counter() - started
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert (code, reply["total"]) == (200, 10_000)
    assert took < 10
    started = time.perf_counter()
    assert len(await points(api, reply["batch_id"], offset="9000")) == 100
    assert max(stalls) < 0.3
    await api.post(f"batch/{reply['batch_id']}/cancel")
    instant.released.set()
    await ended(api, reply["batch_id"])
