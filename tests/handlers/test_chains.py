"""Runs whose inputs are outputs of other runs, with a real ComfyUI."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from typing import Any

import pytest
from PIL import Image

from tests.helpers.waiting import until_async

NEXT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "next"}},
}
RED = 0xFF0000


def slow(seconds: float = 0.5, **inputs: Any) -> dict[str, Any]:
    """Return a graph that saves red pictures and shows a text after a while."""
    size = {"width": 24, "height": 16, "batch_size": 1, "color": RED}
    sleep = {"seconds": seconds, "anything": ["1", 0], "token": uuid.uuid4().hex}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, **inputs}},
        "3": {"class_type": "TestSleep", "inputs": sleep},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "slow"}},
        "4": {
            "class_type": "TestText",
            "inputs": {"text": "a red house", "anything": ["3", 0]},
            "_meta": {"title": "Prompt.of all"},
        },
    }


def output(run: str, file: str | None = None) -> dict[str, Any]:
    return {"$output": {"run": run, **({} if file is None else {"file": file})}}


async def colour(api, record: dict[str, Any]) -> Any:
    (image,) = record["outputs"]["2"]["images"]
    content = (await api.raw("GET", "view", params={"filename": image["filename"]})).body
    return Image.open(io.BytesIO(content)).convert("RGB").getpixel((3, 3))


async def test_a_run_takes_a_picture_of_one_that_has_not_ended(api):
    await api.run(slow(0), inputs={"1.width": 32})  # the node definitions are known from now on
    first = await api.start(slow(1.5))
    inputs = {"image": output(first, "SaveImage.images[0]")}
    code, body = await api.post("run", {"workflow_api": NEXT, "inputs": inputs, "wait": False})
    assert (code, body["status"], body["waiting_for"]) == (200, "not-started", [first])
    assert first in body["live_status"]
    assert body["inputs"] == inputs
    (listed,) = (await api.get("runs", limit="1"))[1]
    assert (listed["status"], listed["waiting_for"]) == ("not-started", [first])
    card = (await api.get("runs/cards"))[1]["waiting"][0]
    assert (card["prompt_id"], card["why"]) == (body["prompt_id"], body["live_status"])
    assert card["inputs"] == [f"image: SaveImage.images[0] of run {first}"]
    job = (await api.get(f"api/v2/jobs/{body['prompt_id']}"))[1]
    assert job["status"] == "queued"
    record = await api.until(body["prompt_id"], "success", "failed")
    assert record["status"] == "success", record["error"]
    assert "waiting_for" not in record
    assert await colour(api, record) == (255, 0, 0)
    ended = (await api.get("check-status", prompt_id=first))[1]["finished_at"]
    assert ended <= record["started_at"]
    _, story = await api.get("runs", story=body["prompt_id"])
    causes = [entry["cause"] for entry in story]
    assert causes[1:3] == ["needs outputs of other runs", "a run that it needs has ended"]


@pytest.mark.parametrize(
    "file", [None, "SaveImage", "SaveImage.images", "2.images[0]", "images[0]", "files"]
)
async def test_an_output_of_a_run_that_has_ended_is_used_at_once(api, file):
    first = (await api.run(slow(0)))["prompt_id"]
    record = await api.run(NEXT, inputs={"1.image": output(first, file)})
    assert await colour(api, record) == (255, 0, 0)


async def test_a_text_is_used_where_the_input_is_a_text(api, chain):
    first = await api.start(slow(0.3))
    texts = [output(first), output(first, "Prompt.of all.text[0]"), output(first, "texts[0]")]
    graph = chain()
    runs = [await api.start(graph, inputs={"1.text": text}) for text in texts]
    for run in runs:
        assert (await api.until(run, "success"))["outputs"]["1"] == {"text": ["a red house"]}


async def test_chains_go_on_over_several_runs(api):
    run = await api.start(slow(0.5))
    for _ in range(3):
        run = await api.start(NEXT, inputs={"image": output(run)})
    assert await colour(api, await api.until(run, "success")) == (255, 0, 0)


async def test_a_picture_goes_into_an_input_that_only_a_link_can_feed(api):
    first = await api.start(slow(0.3))
    graph = {"2": NEXT["2"], "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}}}
    run = await api.start(graph, inputs={"2.images": output(first)})
    assert await colour(api, await api.until(run, "success")) == (255, 0, 0)


async def test_an_external_input_takes_an_output(api):
    first = await api.start(slow(0.3))
    external = {"input_id": "photo", "default_value_url": ""}
    graph = {**NEXT, "1": {"class_type": "ComfyUIDeployExternalImage", "inputs": external}}
    run = await api.start(graph, inputs={"photo": output(first)})
    assert await colour(api, await api.until(run, "success", "failed")) == (255, 0, 0)


async def test_wrong_references_name_the_input(api, chain):
    first = (await api.run(slow(0, batch_size=3)))["prompt_id"]
    failed = await api.start(chain(("TestFail", {"message": "no"})))
    await api.until(failed, "failed")
    deleted = (await api.run(chain()))["prompt_id"]
    await api.post("runs/delete", {"prompt_ids": [deleted]})
    twice = {"5": {**NEXT["2"]}, **slow(0)}
    double = (await api.run(twice))["prompt_id"]
    cases: list[tuple[Any, str]] = [
        (output("nothing"), "there is no run 'nothing'"),
        (output(deleted), f"the run '{deleted}' was deleted"),
        (output(failed), "failed: TestFail: no"),
        (output("me"), "its own output"),
        (output(first), "has 3 outputs for this; name one"),
        (output(first, "SaveImage.images[3]"), "out of range"),
        (output(first, "SaveImag.images[0]"), "has no node for 'SaveImag.images[0]'"),
        (output(first, "SaveImage.audio"), "has no output SaveImage.audio"),
        (output(double, "SaveImage.images[0]"), "several nodes of the run are named 'SaveImage'"),
        ({"$output": first}, "is written"),
        ({"$output": {"run": first, "index": 1}}, "is written"),
        ({"$output": {"run": 3}}, '"run" of $output must be the id of a run'),
        ({"$output": {"run": first, "file": 3}}, '"file" of $output must be a text'),
    ]
    for value, message in cases:
        body = {"workflow_api": NEXT, "inputs": {"image": value}, "prompt_id": "me"}
        code, reply = await api.post("run", body)
        assert code in (400, 404), value
        assert reply["details"]["field"] == "inputs.image"
        assert message in reply["error"]
    body = {"workflow_api": slow(0), "inputs": {"1.width": output(first, "images[0]")}}
    code, reply = await api.post("run", body)
    assert (code, reply["details"]["field"]) == (400, "inputs.1.width")
    assert "takes a whole number, not an output of a run" in reply["error"]
    body = {"workflow_api": NEXT, "inputs": {"imag": output(first, "2.images[0]")}}
    assert (await api.post("run", body))[1]["code"] == "unknown_input"


async def test_runs_that_need_each_other_are_refused(api):
    """Neither exists before the other one."""
    bodies = [
        {"workflow_api": NEXT, "wait": False, "prompt_id": one, "inputs": {"image": output(other)}}
        for one, other in (("one", "other"), ("other", "one"))
    ]
    replies = await asyncio.gather(*(api.post("run", body) for body in bodies))
    assert {code for code, _ in replies} <= {400, 404}
    assert all(reply["details"]["field"] == "inputs.image" for _, reply in replies)


async def test_a_run_fails_with_the_cause_of_the_one_that_it_needs(api):
    graph = slow(2.0)
    graph["5"] = {"class_type": "TestFail", "inputs": {"message": "no", "anything": ["3", 0]}}
    graph["2"]["inputs"]["images"] = ["5", 0]
    first = await api.start(graph)
    second = await api.start(NEXT, inputs={"image": output(first)})
    third = await api.start(NEXT, inputs={"image": output(second)})
    why = f"inputs.image: the run {first}, whose output it needs, failed: TestFail: no"
    record = await api.until(second, "failed")
    assert not {"waiting_for", "live_status"} & record.keys()
    error = record["error"]
    assert (error["type"], error["message"]) == ("InputFailed", why)
    error = (await api.until(third, "failed"))["error"]
    assert error["message"] == (
        f"inputs.image: the run {second}, whose output it needs, failed: {why}"
    )


async def test_a_cancelled_run_cancels_those_that_ask_for_it_and_fails_others(api):
    first = await api.start(slow(30))
    cancelled = await api.start(NEXT, inputs={"image": output(first)}, cancel_with=True)
    failed = await api.start(NEXT, inputs={"image": output(first)})
    own = await api.start(NEXT, inputs={"image": output(first)})
    code, reply = await api.post("interrupt", {"prompt_id": own})
    assert (code, reply["was"]) == (200, "queued")
    assert (await api.until(own, "cancelled"))["error"] is None
    await api.post("interrupt", {"prompt_id": first})
    await api.until(first, "cancelled")
    await api.until(cancelled, "cancelled")
    error = (await api.until(failed, "failed"))["error"]
    assert f"the run {first}, whose output it needs, was cancelled" in error["message"]


async def test_outputs_that_are_missing_when_they_are_needed_fail_the_run(api, comfyui):
    first = await api.start(slow(0.5))
    other = await api.start(slow(1.0), inputs={"2.filename_prefix": "other"})  # no name twice
    inputs = {"1.image": output(first, "2.images[0]"), "2.filename_prefix": output(other)}
    second = await api.start(NEXT, inputs=inputs)
    third = await api.start(NEXT, inputs={**inputs, "1.image": output(first, "2.images[1]")})
    (image,) = (await api.until(first, "success"))["outputs"]["2"]["images"]
    (comfyui.output_dir / image["filename"]).unlink()
    error = (await api.until(second, "failed"))["error"]
    assert error["message"] == (
        f"inputs.1.image: the output {image['filename']!r} of the run {first!r} does not exist"
        " any more"
    )
    assert "out of range" in (await api.until(third, "failed"))["error"]["message"]
    other = await api.start(slow(1.0))
    inputs["2.filename_prefix"] = output(other)
    code, body = await api.post("run", {"workflow_api": NEXT, "inputs": inputs, "wait": False})
    assert code == 200, body
    await api.post("runs/delete", {"prompt_ids": [first]})
    error = (await api.until(body["prompt_id"], "failed"))["error"]
    assert error["message"] == f"inputs.1.image: the run {first!r} was deleted"


async def test_points_of_a_batch_take_outputs(api):
    firsts = [await api.start(slow(1.5, color=color)) for color in (RED, 255)]
    body = {"workflow_api": NEXT, "inputs": {"image": {"$vary": [output(run) for run in firsts]}}}
    code, reply = await api.post("batch", body)
    assert code == 200, reply
    batch_id = reply["batch_id"]
    await until_async(
        lambda: api.get(f"batch/{batch_id}"), lambda found: found[1]["finished_at"], timeout=60
    )
    points = (await api.get(f"batch/{batch_id}/points"))[1]["points"]
    colours = [await colour(api, point["run"]) for point in points]
    assert colours == [(255, 0, 0), (0, 0, 255)]
    body["inputs"]["image"]["$vary"].append(output("none"))
    code, reply = await api.post("batch", body)
    assert (code, reply["details"]["field"]) == (404, "inputs.image")
    assert reply["error"] == "point 2: inputs.image: there is no run 'none'"


async def test_the_stream_of_a_run_that_waits_ends_with_its_result(api):
    first = await api.start(slow(0.4))
    body = {"workflow_api": NEXT, "inputs": {"image": output(first)}}
    reply = (await api.raw("POST", "run/streaming", body=json.dumps(body))).body
    assert '"status": "success"' in reply.decode().splitlines()[-2].replace('\\"', '"')
