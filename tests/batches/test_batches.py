"""Batches through their routes, with a ComfyUI that answers at once."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
import uuid
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
from aiohttp import web

from comfydeploy_jupyter.batches import records, service
from comfydeploy_jupyter.files import pictures
from comfydeploy_jupyter.graphs.dependencies import structure_of
from comfydeploy_jupyter.runs.deletion import KeepRuns
from tests.helpers.comfyui import free_port
from tests.helpers.disks import files_limited_to
from tests.helpers.graphs import node
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.selection import few
from tests.helpers.servers import serving
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


@pytest.mark.parametrize("count", few([2, 60]))
async def test_a_batch_says_that_the_disk_is_full(api, extension, instant, count):
    """Also if all of its points are at work, and only their ends cannot be stored."""

    async def shown() -> dict[str, Any]:
        return (await api.get(f"batch/{batch_id}"))[1]

    instant.released.clear()
    batch_id = await create(api, inputs={"text": {"$vary": [*map(str, range(count))]}})
    await until_async(shown, lambda found: found["counts"].get("queued"))
    with files_limited_to(0):
        instant.released.set()
        for _ in range(3):
            found = await until_async(shown, lambda found: found["why"])
            assert str(extension.services.database.path) in found["why"]
            await asyncio.sleep(1)
    found = await ended(api, batch_id)
    assert (found["counts"], found["why"]) == ({"success": count}, "")


async def test_each_combination_runs_once(api):
    values = {"text": {"$vary": ["a", "b"]}, "token": {"$vary": ["1", "2", "3"]}}
    batch_id = await create(api, inputs=values, labels={"client": "acme"}, title="Six")
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 6})
    assert (batch["fraction"], batch["time_left"]) == (1.0, 0.0)
    assert batch["axes"][0] == {"names": ["text"], "values": [["a"], ["b"]]}
    without = (await api.get(f"batch/{batch_id}", axes="false"))[1]
    assert without == {**batch, "axes": []}
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
    which = {"batches": "true", "structure": structure_of(graph())}
    shown = (await api.get("runs/cards", **which))[1]
    assert shown["total"] == 2
    assert [run["prompt_id"] for run in shown["runs"]] == [single["prompt_id"]]
    assert shown["batches"] == [{**(await api.get("batches"))[1]["batches"][0]}]
    rest = (await api.get("runs/cards", **which, limit=1))[1]
    assert rest["batches"] == []
    rest = (await api.get("runs/cards", **which, cursor=rest["next"], count="false"))[1]
    assert [each["batch_id"] for each in rest["batches"]] == [batch_id]
    assert (rest["runs"], rest["total"]) == ([], 1)
    for wrong, field in (({"status": "failed"}, "batches"), ({"cursor": "1/run"}, "cursor")):
        code, error = await api.get("runs/cards", batches="true", **wrong)
        assert code == 400
        assert field in error["message"]
    listed = (await api.get("batches", **{"labels[client]": "acme"}))[1]
    assert (listed["total"], listed["batches"][0]["title"]) == (1, "Six")
    assert (await api.get("batches", state="running"))[1]["batches"] == []
    for structure, number in ((structure_of(graph()), 1), ("0" * 32, 0)):
        assert (await api.get("batches", structure=structure))[1]["total"] == number


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
    body = {"workflow_api": graph(), "inputs": {"text": {"$vary": ["b", "a"]}}}
    code, reply = await api.post("batch", {**body, "key": "k", "paused": True})
    assert (code, reply["taken_over"]) == (200, 1)
    path = f"batch/{reply['batch_id']}"
    _, taken = await api.get(f"{path}/points", after="0-0")
    assert [each["point"] for each in taken["points"]] == [1]
    await api.post(f"{path}/resume")
    await ended(api, reply["batch_id"])
    found = await points(api, reply["batch_id"])
    assert {found[1]["prompt_id"]} == ids
    assert found[0]["run"]["batch_id"] == reply["batch_id"]
    _, later = await api.get(f"{path}/points", after=taken["mark"])
    assert [each["point"] for each in later["points"]] == [0], "a reader misses no end"
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


AXIS = {"$vary": [*range(1000)]}
BAD = [
    ({"inputs": {"text": "a"}}, "inputs", "no input with several values"),
    ({"inputs": {"text": {"$vary": []}}}, "inputs.text", "list with values"),
    ({"inputs": {"text": {"$vary": "ab"}}}, "inputs.text", "list with values"),
    ({"inputs": {"text": {"$vary": ["a"], "$wiht": "b"}}}, "inputs.text", "$wiht"),
    ({"inputs": {"text": {"$vary": ["a"], "$with": "b"}}}, "inputs.text", "another input"),
    ({"points": []}, "points", "empty"),
    ({"points": [{"text": "a"}, "b"]}, "points[1]", "must be an object"),
    ({"points": [{"text": {"$vary": [1]}}]}, "points[0].text", "$vary"),
    (
        {"points": [{"text": [{"$vary": [1]}]}]},
        None,
        "point 0: inputs.text: has '$vary' inside",
    ),
    ({"inputs": {"text": {"$vary": ["a", {"$each": []}]}}}, None, "point 1: inputs.text: has"),
    ({"points": [{"text": {"$output": {"run": "\ud83d"}}}]}, "inputs.text", "id of a run"),
    ({"inputs": {"text": {"$each": {"run": "\ud83d"}}}}, "inputs.text", "$each lists"),
    ({"points": [{}], "key": "\ud83d"}, "key", "unicode"),
    ({"points": [{}], "prompts": [graph()]}, "workflow_api", "prompts"),
    ({"points": [{}], "at_once": 0}, "at_once", "1"),
    ({"points": [{}], "machine": "nowhere"}, "machine", "nowhere"),
    ({"points": [{}], "workflow_id": "x"}, "workflow_api", "workflow_id"),
    ({"points": [{}], "runs": {"x": "a"}}, "runs", "no point 'x'"),
    ({"points": [{}, {}], "runs": {"2": "a"}}, "runs", "no point '2': they are numbered from"),
    ({"inputs": {"text": AXIS, "token": AXIS, "1.more": AXIS}}, None, "1000000000"),
]


async def test_bad_requests_name_the_field(api):
    for fields, field, text in BAD:
        code, reply = await api.post("batch", {"workflow_api": graph(more=1), **fields})
        assert code in (400, 404), fields
        assert field in (None, reply["details"].get("field")), reply
        assert text in reply["error"], fields
    assert (await api.get("batches"))[1]["total"] == 0
    body = {"workflow_api": graph(), "points": [{}], "batch_id": "mine"}
    assert (await api.post("batch", body))[0] == 200
    code, error = await api.post("batch", body)
    assert (code, error["code"], error["details"]["field"]) == (409, "conflict", "batch_id")
    assert (await ended(api, "mine"))["counts"] == {"success": 1}


async def test_a_value_may_be_half_an_emoji(api):
    half = ["half \ud83d", "a\x00b", "ü 😀"]
    ways = (
        {"inputs": {"text": {"$vary": half}}},
        {"prompts": [{"1": node("TestText", text=text, token="7")} for text in half]},
    )
    for fields in ways:
        batch_id = await create(api, **fields)
        assert (await ended(api, batch_id))["counts"] == {"success": 3}
        found = await points(api, batch_id)
        assert [each["run"]["outputs"]["1"]["text"] for each in found] == [[t] for t in half]
        (name,) = found[0]["values"]
        (found,) = await points(api, batch_id, **{f"values[{name}]": half[2]})
        assert found["values"][name] == half[2]
        assert (await api.raw("GET", f"batch/{batch_id}/table")).code == 200


async def test_a_batch_that_cannot_be_read_holds_no_other_one_up(api, extension):
    damaged = await create(api, points=[{"text": "a"}], paused=True)
    sql = "UPDATE batch_points SET inputs = '{'"
    await extension.services.database.write(lambda db: db.execute(sql))
    assert (await api.post(f"batch/{damaged}/resume"))[0] == 200
    other = await create(api, points=[{"text": "b"}])
    assert (await ended(api, other))["counts"] == {"success": 1}
    assert "Expecting" in (await api.get(f"batch/{damaged}"))[1]["why"]
    assert (await api.post(f"batch/{damaged}/cancel"))[0] == 200


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


async def test_a_batch_is_cancelled_and_goes_on(api, instant):
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
    batch = (await api.post(f"batch/{batch_id}/resume"))[1]
    assert (batch["state"], batch["finished_at"]) == ("running", None)
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 6})


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


async def test_runs_that_upload_their_outputs_hold_no_batch_up(api, instant):
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    instant.files = {"a.png": b"picture"}
    picture = {"1": node("TestPicture", text="a.png", token="")}
    for _ in range(2):
        url = f"http://127.0.0.1:{port}/upload"
        body = {"workflow_api": picture, "wait": False, "file_upload_endpoint": url}
        assert (await api.post("run", body))[0] == 200
    await until_async(
        lambda: api.get("runs"), lambda found: {r["status"] for r in found[1]} == {"uploading"}
    )
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}])
    assert (await ended(api, batch_id))["counts"] == {"success": 2}
    silent.close()
    for writer in writers:
        writer.close()


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
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}], retry=2)
    batch = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"failed": 2})
    found = await points(api, batch_id)
    assert [(each["attempts"], each["error"]) for each in found] == [(3, "no kernel image")] * 2
    body = (await api.raw("GET", f"batch/{batch_id}/events")).body
    told = [data["data"] for _, data in parse_stream_text(body) if data["event"] == "point"]
    ends = [(each["point"], each["status"], each["attempts"]) for each in told]
    assert ends == [(0, "failed", 3), (1, "failed", 3)], "one that waits again has not ended"


async def test_points_are_read_in_blocks(api, instant, monkeypatch):
    monkeypatch.setattr(records, "BLOCK", 3)
    texts = [str(number // 2) for number in range(40)]
    batch_id = await create(api, points=[{"text": text} for text in texts], retry=1)
    assert (await ended(api, batch_id))["counts"] == {"success": 40}
    found = await points(api, batch_id)
    assert [each["run"]["outputs"]["1"]["text"] for each in found] == [[text] for text in texts]
    assert len({each["prompt_id"] for each in found}) == len({*texts})
    assert {each["attempts"] for each in found} == {1}
    assert instant.number == 20, "no point was sent twice"


async def test_a_sheet_has_the_pictures_of_a_machine_elsewhere(api, instant, monkeypatch):
    """Each is requested once; one that is gone or damaged is left out."""
    monkeypatch.setattr(pictures, "PORTION", 2)
    content = io.BytesIO()
    PIL.Image.new("RGB", (64, 32), "#ff0000").save(content, "PNG")
    names = [f"{number}.png" for number in range(5)]
    instant.files = dict.fromkeys(names[:3], content.getvalue()) | {names[3]: b"no picture"}
    picture = {"1": node("TestPicture", text="", token="")}
    batch_id = await create(api, workflow_api=picture, points=[{"1.text": name} for name in names])
    await ended(api, batch_id)
    for _ in range(2):
        found = await api.raw("GET", f"batch/{batch_id}/sheet", params={"format": "html"})
        assert (found.code, found.body.count(b"data:image/jpeg")) == (200, 3)
        instant.files = {}
    sheet = await api.raw("GET", f"batch/{batch_id}/sheet")
    with PIL.Image.open(io.BytesIO(sheet.body)) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert any(red > 230 and green < 30 and blue < 30 for red, green, blue in colours)


async def test_a_sheet_of_more_pictures_than_are_kept_replaces_no_copies(
    api, extension, instant, monkeypatch
):
    content = io.BytesIO()
    PIL.Image.new("RGB", (64, 32), "#ff0000").save(content, "JPEG")
    names = [f"{number}.jpg" for number in range(4)]
    instant.files = dict.fromkeys(names, content.getvalue())
    picture = {"1": node("TestPicture", text="", token="")}
    batch_id = await create(api, workflow_api=picture, points=[{"1.text": name} for name in names])
    await ended(api, batch_id)
    ids = [each["prompt_id"] for each in await points(api, batch_id)]
    for run_id in ids:
        record = f"runs/{run_id}/record"
        await until_async(partial(api.get, record), lambda found: found[1]["complete"])
    for module in (pictures, service):
        monkeypatch.setattr(module, "KEPT", 2)
    kept = extension.services.pictures
    await kept.keep(dict.fromkeys(ids[:2], content.getvalue()), 200)
    assert (await api.raw("GET", f"batch/{batch_id}/sheet")).code == 200
    assert [*await kept._kept(ids, 0)] == ids[:2]


async def test_small_copies_are_made_when_the_record_of_a_point_is(api, instant):
    """So the first sheet reads no picture again."""
    content = io.BytesIO()
    PIL.Image.new("RGBA", (400, 200), "#ff000080").save(content, "PNG")
    instant.files = {"glass.png": content.getvalue()}
    picture = {"1": node("TestPicture", text="glass.png", token="")}
    batch_id = await create(api, workflow_api=picture, points=[{}])
    await ended(api, batch_id)
    (point,) = await points(api, batch_id)
    record = f"runs/{point['prompt_id']}/record"
    await until_async(lambda: api.get(record), lambda found: found[1]["complete"])
    instant.files = {}
    found = await api.raw("GET", f"batch/{batch_id}/sheet", params={"format": "html"})
    (copy,) = re.findall(rb"data:image/webp;base64,([^\"]+)", found.body)
    with PIL.Image.open(io.BytesIO(base64.b64decode(copy))) as image:
        assert (image.size, image.mode) == ((192, 96), "RGBA")


async def test_the_last_small_copies_are_stored_with_their_runs(api, extension, monkeypatch):
    monkeypatch.setattr(pictures, "KEPT", 2)
    batch_id = await create(api, points=[{"text": text} for text in "abc"])
    await ended(api, batch_id)
    ids = [each["prompt_id"] for each in await points(api, batch_id)]
    kept = extension.services.pictures
    for side, content, of in ((64, b"small", ids), (192, b"large", ids), (32, b"less", ids[1:])):
        await kept.keep(dict.fromkeys([*of, "unknown"], content), side)
    assert await kept._kept([*ids, "unknown"], 64) == dict.fromkeys(ids[1:], b"large")
    assert await kept._kept(ids, 193) == {}
    await api.call("DELETE", f"batch/{batch_id}", params={"runs": "true"})
    rows = "SELECT * FROM run_pictures"
    assert await extension.services.database.read(lambda db: [*db.execute(rows)]) == []


async def test_a_clock_that_is_set_back_ends_no_batch_before_its_start(api, monkeypatch):
    monkeypatch.setattr(records, "utc_now", lambda: "2000-01-01T00:00:00.000Z")
    batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}])
    batch = await ended(api, batch_id)
    assert batch["counts"] == {"success": 2}
    assert batch["finished_at"] == batch["created_at"]


async def test_too_many_failures_pause_a_batch(api, instant):
    many = {"$vary": [*map(str, range(60))]}
    instant.fails = True
    batch_id = await create(api, inputs={"text": many}, stop_after=3, at_once=16)

    async def batch() -> dict[str, Any]:
        return (await api.get(f"batch/{batch_id}"))[1]

    found = await until_async(batch, lambda found: found["state"] == "paused")
    assert found["why"] == "3 points have failed"
    assert found["counts"] == {"failed": 3, "waiting": 57}
    assert (await api.post(f"batch/{batch_id}/resume"))[0] == 200
    found = await until_async(batch, lambda found: found["state"] == "paused")
    assert found["counts"] == {"failed": 6, "waiting": 54}


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
    run = (await points(api, batch_id))[0]["run"]
    assert run["metadata"] == {"project": "ü"}
    known = (await api.get("check-status", prompt_id=run["prompt_id"]))[1]
    assert (known["metadata"], known["batch_id"]) == ({"project": "ü"}, batch_id)
    await api.call("DELETE", f"batch/{batch_id}")
    known = (await api.get("check-status", prompt_id=run["prompt_id"]))[1]
    assert known.get("batch_id") is None
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


async def test_runs_that_a_later_batch_has_taken_over_stay(api):
    """They belong to the first one of the batches that are left."""
    listed = [{"text": "a"}, {"text": "b"}]
    first = await create(api, points=[*listed, {"text": "c"}], key="k")
    await ended(api, first)
    second = await create(api, points=listed, key="k")
    third = await create(api, points=[{"text": "b"}, {"text": "d"}], key="k")
    for each in (second, third):
        await ended(api, each)
    ids = [each["prompt_id"] for each in await points(api, second)]
    for batch_id, runs, left in ((first, 1, second), (second, 1, third)):
        code, reply = await api.call("DELETE", f"batch/{batch_id}", params={"files": "true"})
        assert (code, reply["runs"]) == (200, runs)
        owned = (await api.get("runs", batch_id=left))[1]
        assert {run["prompt_id"] for run in owned} >= {
            each["prompt_id"] for each in await points(api, left) if each["prompt_id"] in ids
        }
    found = await points(api, third)
    assert [each["run"]["outputs"]["1"]["text"] for each in found] == [["b"], ["d"]]
    known = (await api.get("check-status", prompt_id=ids[1]))[1]
    assert (known["batch_id"], known["point"]) == (third, 0)
    code, reply = await api.call("DELETE", f"batch/{third}", params={"runs": "true"})
    assert (code, reply["runs"], (await api.get("runs"))[1]) == (200, 2, [])


async def test_limits_spare_runs_whose_outputs_points_need(api, extension, instant):
    """Also those of a batch whose points go into the points of another one."""
    run_id = await api.start(graph(), inputs={"text": "kept"})
    await api.until(run_id, "success")
    source = await create(api, points=[{"text": "x"}])
    await ended(api, source)
    other, newest = [await api.start(graph(), inputs={"text": text}) for text in ("old", "new")]
    await api.until(newest, "success")
    instant.released.clear()
    blocking = await api.start(graph())
    made = {"$output": {"run": run_id, "file": "texts[0]"}}
    paused = await create(api, points=[{"text": made}], paused=True)
    over = {"text": {"$each": [{"batch": source}, {"run": blocking, "file": "texts"}]}}
    waits = await create(api, inputs=over)
    deleter = extension.services.runs.deleter
    deleter._keep = KeepRuns(number=1)
    await deleter.apply_limits()
    left = {run["prompt_id"] for run in (await api.get("runs"))[1]}
    assert {run_id, newest} < left
    assert other not in left
    instant.released.set()
    batch = await ended(api, waits)
    assert batch["counts"] == {"success": 2}
    await api.post(f"batch/{paused}/resume")
    assert (await ended(api, paused))["counts"] == {"success": 1}


async def test_a_webhook_gets_the_end(api):
    messages: list[Any] = []

    async def keep(request: web.Request) -> web.Response:
        messages.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/end", keep)
    async with serving(app) as url:
        batch_id = await create(api, points=[{"text": "a"}, {"text": "b"}], webhook=f"{url}/end")
        await ended(api, batch_id)
        (message,) = await until_async(lambda: messages)
    assert (message["batch_id"], message["state"]) == (batch_id, "done")
    assert (message["counts"], message["total"]) == ({"success": 2}, 2)


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
