"""Runs whose inputs are outputs of other runs, with a real ComfyUI."""

import asyncio
import io
import json
import uuid

import pytest
from PIL import Image

from tests.helpers.waiting import until_async

NEXT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "next"}},
}
RED = 0xFF0000


def slow(seconds=0.5, **inputs):
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


def output(run, file=None):
    return {"$output": {"run": run, **({} if file is None else {"file": file})}}


async def colour(api, record):
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


async def test_outputs_go_into_inputs_of_every_kind(api, chain):
    first = await api.start(slow(0.5))
    image = {"width": 8, "height": 8}
    linked = {"2": NEXT["2"], "1": {"class_type": "EmptyImage", "inputs": image}}
    external = {"input_id": "photo", "default_value_url": ""}
    external = {**NEXT, "1": {"class_type": "ComfyUIDeployExternalImage", "inputs": external}}
    files = (None, "SaveImage", "SaveImage.images", "2.images[0]", "images[0]", "files")
    runs = [
        await api.start(graph, inputs={name: output(first, file)})
        for graph, name, file in (
            *((NEXT, "1.image", file) for file in files),
            (linked, "2.images", None),  # which only a link can feed
            (external, "photo", None),
        )
    ]
    for _ in range(3):
        runs.append(await api.start(NEXT, inputs={"image": output(runs[-1])}))
    said = (None, "Prompt.of all.text[0]", "texts[0]")
    texts = [await api.start(chain(), inputs={"1.text": output(first, file)}) for file in said]
    for run in runs:
        assert await colour(api, await api.until(run, "success", "failed")) == (255, 0, 0)
    for run in texts:
        assert (await api.until(run, "success"))["outputs"]["1"] == {"text": ["a red house"]}
    for file in files:  # of a run that has ended
        record = await api.run(NEXT, inputs={"1.image": output(first, file)})
        assert await colour(api, record) == (255, 0, 0)


async def test_wrong_references_name_the_input(api, chain):
    first = (await api.run(slow(0, batch_size=3)))["prompt_id"]
    failed = await api.start(chain(("TestFail", {"message": "no"})))
    await api.until(failed, "failed")
    deleted = (await api.run(chain()))["prompt_id"]
    await api.post("runs/delete", {"prompt_ids": [deleted]})
    twice = {"5": {**NEXT["2"]}, **slow(0)}
    double = (await api.run(twice))["prompt_id"]
    cases = [
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


@pytest.mark.thorough
async def test_outputs_that_are_missing_when_they_are_needed_fail_the_run(api, comfyui):
    held = await api.start(slow(30))  # what follows is asked for before the first run ends
    first = await api.start(slow(0))
    other = await api.start(slow(1.0), inputs={"2.filename_prefix": "other"})  # no name twice
    inputs = {"1.image": output(first, "2.images[0]"), "2.filename_prefix": output(other)}
    second = await api.start(NEXT, inputs=inputs)
    third = await api.start(NEXT, inputs={**inputs, "1.image": output(first, "2.images[1]")})
    await api.post("interrupt", {"prompt_id": held})
    (image,) = (await api.until(first, "success"))["outputs"]["2"]["images"]
    (comfyui.output_dir / image["filename"]).unlink()
    error = (await api.until(second, "failed"))["error"]
    assert error["message"] == (
        f"inputs.1.image: the output {image['filename']!r} of the run {first!r} does not exist"
        " any more"
    )
    assert "out of range" in (await api.until(third, "failed"))["error"]["message"]
    held, other = await api.start(slow(30)), await api.start(slow(0))
    inputs["2.filename_prefix"] = output(other)
    code, body = await api.post("run", {"workflow_api": NEXT, "inputs": inputs, "wait": False})
    assert code == 200, body
    await api.post("runs/delete", {"prompt_ids": [first]})
    await api.post("interrupt", {"prompt_id": held})
    error = (await api.until(body["prompt_id"], "failed"))["error"]
    assert error["message"] == f"inputs.1.image: the run {first!r} was deleted"


async def batch_over(api, sources, graph=NEXT, name="image", **fields):
    inputs = {name: {"$each": sources}, **fields.pop("inputs", {})}
    code, reply = await api.post("batch", {"workflow_api": graph, "inputs": inputs, **fields})
    assert code == 200, reply
    return reply["batch_id"]


async def ended(api, batch_id):
    found = await until_async(
        lambda: api.get(f"batch/{batch_id}"), lambda found: found[1]["finished_at"], timeout=60
    )
    return found[1], (await api.get(f"batch/{batch_id}/points", limit="1000"))[1]["points"]


@pytest.mark.thorough
async def test_each_picture_of_a_run_goes_into_the_next_workflow(api):
    held = await api.start(slow(30))
    first = await api.start(slow(0, batch_size=3))
    prefix = {"filename_prefix": {"$vary": ["x", "y"]}}
    batch_id = await batch_over(api, {"run": first}, inputs=prefix)
    batch = (await api.get(f"batch/{batch_id}"))[1]
    assert (batch["state"], batch["total"], batch["time_left"]) == ("running", 0, None)
    assert (batch["waiting_for"], batch["fraction"]) == ([first], 0)
    assert batch["why"] == f"Waiting for outputs of {first}"
    await api.post("interrupt", {"prompt_id": held})
    batch, points = await ended(api, batch_id)
    assert (batch["state"], batch["total"], batch["counts"]) == ("done", 6, {"success": 6})
    assert (batch["waiting_for"], batch["why"], batch["fraction"]) == ([], "", 1)
    outputs = [output(first, f"2.images[{number}]") for number in range(3)]
    assert [axis["values"] for axis in batch["axes"]] == [
        [[each] for each in outputs],
        [["x"], ["y"]],
    ]
    assert [each["values"] for each in points] == [
        {"image": each, "filename_prefix": prefix} for each in outputs for prefix in "xy"
    ]
    assert {await colour(api, each["run"]) for each in points} == {(255, 0, 0)}
    ids = []
    for _ in range(2):
        _, found = await ended(api, await batch_over(api, {"run": first}, key="each"))
        ids.append([each["prompt_id"] for each in found])
    assert ids[0] == ids[1]
    again = await batch_over(api, [{"run": first, "file": "SaveImage.images[1]"}])
    (point,) = (await ended(api, again))[1]
    assert point["values"] == {"image": output(first, "SaveImage.images[1]")}


@pytest.mark.thorough
async def test_values_change_together_with_outputs(api):
    """With a list, or other outputs; how many these are is known at the end of their batch."""
    body = {"workflow_api": slow(0.4), "inputs": {"color": {"$vary": [RED, 255, 0xFF00]}}}
    source = {"batch": (await api.post("batch", body))[1]["batch_id"]}
    each = {"$each": [source]}
    texts = {"$each": [{**source, "file": "texts"}], "$with": "image"}
    letters = {"$vary": ["x", "y", "z"]}
    with_letters = {**each, "$with": "filename_prefix"}
    pairs = [
        (each, {**letters, "$with": "image"}),
        (with_letters, letters),
        (with_letters, {"$each": ["x", "y", "z"]}),
        (each, texts),
        (each, {"$vary": ["x", "y"], "$with": "image"}),
    ]
    batches = []
    for image, prefix in pairs:
        inputs = {"image": image, "filename_prefix": prefix}
        code, reply = await api.post("batch", {"workflow_api": NEXT, "inputs": inputs})
        assert code == 200, reply
        batches.append(reply["batch_id"])
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    for number, batch_id in enumerate(batches[:4]):
        batch, points = await ended(api, batch_id)
        assert (batch["total"], batch["counts"]) == (3, {"success": 3})
        assert [await colour(api, point["run"]) for point in points] == colours
        assert [{*axis["names"]} for axis in batch["axes"]] == [{"image", "filename_prefix"}]
        prefixes = [point["values"]["filename_prefix"] for point in points]
        assert number == 3 or prefixes == [*"xyz"]
    batch, _ = await ended(api, batches[4])
    assert (batch["state"], batch["total"]) == ("cancelled", 0)
    text = "has 2 values, and 'image', with which it changes, has 3"
    assert batch["why"] == f"Its points cannot be made: inputs.filename_prefix: {text}"
    image = {"$each": ["a.png", *each["$each"], "b.png"]}
    inputs = {"image": image, "filename_prefix": {"$vary": ["x"], "$with": "image"}}
    code, reply = await api.post("batch", {"workflow_api": NEXT, "inputs": inputs})
    assert (code, reply["details"]["field"]) == (400, "inputs.image")
    assert "has at least 2 values, and 'filename_prefix'" in reply["error"]


@pytest.mark.thorough
async def test_a_batch_goes_over_the_pictures_of_a_batch(api, comfyui):
    """Its points are made when that has ended; points that have failed have no pictures."""
    graph = slow(0.4)
    graph["5"] = {"class_type": "TestFailIf", "inputs": {"condition": False, "message": "no"}}
    graph["5"]["inputs"]["anything"] = ["1", 0]
    graph["3"]["inputs"]["anything"] = ["5", 0]
    inputs = {"color": {"$vary": [RED, 255, 0xFF00]}, "batch_size": 2}
    body = {"workflow_api": graph, "inputs": inputs}
    code, reply = await api.post("batch", body)
    assert code == 200, reply
    source = {"batch": reply["batch_id"]}
    second = await batch_over(api, source, labels={"part": "next"})
    one = output((await api.run(slow(0)))["prompt_id"])
    third = await batch_over(api, [{"batch": second}, one], machine="auto")
    listed = (await api.get("batches", **{"labels[part]": "next"}))[1]["batches"]
    assert [each["waiting_for"] for each in listed] == [[reply["batch_id"]]]
    _, points = await ended(api, third)
    colours = [await colour(api, each["run"]) for each in points[:6]]
    assert colours == [c for c in ((255, 0, 0), (0, 0, 255), (0, 255, 0)) for _ in range(2)]
    assert [each["status"] for each in points] == ["success"] * 7
    assert points[6]["values"] == {"image": one}
    code, failing = await api.post(
        "batch", {"workflow_api": graph, "inputs": {"condition": {"$vary": [True, False]}}}
    )
    assert code == 200, failing
    batch, points = await ended(api, await batch_over(api, {"batch": failing["batch_id"]}))
    assert batch["counts"] == {"success": 1}
    empty = (await api.post("batch", {**body, "inputs": {"message": {"$vary": ["a"]}}}))[1]
    await api.post(f"batch/{empty['batch_id']}/cancel")
    batch, points = await ended(api, await batch_over(api, [{"batch": empty["batch_id"]}]))
    assert (batch["state"], batch["total"], points) == ("done", 0, [])
    for route, kind in (("sheet", "png"), ("sheet", "html"), ("table", "csv"), ("table", "json")):
        address = f"batch/{batch['batch_id']}/{route}"
        content = await api.raw("GET", address, params={"format": kind})
        assert (content.code, bool(content.body)) == (200, True), kind


@pytest.mark.thorough
async def test_a_source_that_fails_or_is_cancelled_is_told(api, chain):
    failing = await api.start(
        chain(("TestSleep", {"seconds": 1.0}), ("TestFail", {"message": "no"}))
    )
    good = await api.start(slow(0))
    batch, points = await ended(api, await batch_over(api, [{"run": failing}, {"run": good}]))
    assert batch["counts"] == {"success": 1, "failed": 1}
    assert points[0]["error"] == f"inputs.image: the run '{failing}' failed: TestFail: no"
    assert points[0]["values"] == {"image": output(failing)}
    code, reply = await api.post(
        "batch", {"workflow_api": NEXT, "inputs": {"image": {"$each": {"run": failing}}}}
    )
    assert (code, reply["details"]["field"]) == (400, "inputs.image")
    assert "failed: TestFail: no" in reply["error"]
    long = await api.start(slow(30))
    failed = await batch_over(api, {"run": long})
    cancelled = await batch_over(api, {"run": long}, cancel_with=True)
    own = await batch_over(api, {"run": long})
    for _ in range(2):
        assert (await api.post(f"batch/{own}/cancel"))[1]["state"] == "cancelled"
        assert (await ended(api, own))[0]["counts"] == {}
        again = (await api.post(f"batch/{own}/resume"))[1]
        assert (again["state"], again["waiting_for"]) == ("running", [long])
    await api.post(f"batch/{own}/cancel")
    needed = {"image": {"$vary": [output(long), output(good)]}}
    body = {"workflow_api": NEXT, "inputs": needed, "paused": True, "cancel_with": True}
    paused = (await api.post("batch", body))[1]["batch_id"]
    await api.post("interrupt", {"prompt_id": long})
    await api.until(long, "cancelled")
    await api.post(f"batch/{paused}/resume")
    assert (await ended(api, paused))[0]["counts"] == {"success": 1, "cancelled": 1}
    batch, points = await ended(api, failed)
    assert batch["counts"] == {"failed": 1}
    assert f"the run '{long}' was cancelled" in points[0]["error"]
    batch, points = await ended(api, cancelled)
    assert (batch["state"], batch["total"], points) == ("cancelled", 0, [])
    assert batch["why"] == f"Its points cannot be made: the run '{long}' was cancelled"


async def test_wrong_sources_name_the_input(api):
    first = await api.start(slow(2))
    cases = [
        ({"run": "nothing"}, "there is no run 'nothing'"),
        ({"batch": "nothing"}, "There is no batch 'nothing'"),
        ({"batch": "own"}, "a batch cannot use its own outputs"),
        ({"run": first, "file": "SaveImag"}, "has no node for 'SaveImag'"),
        ({"run": first, "batch": first}, "$each lists"),
        ({"run": 3}, "$each lists"),
        ({"run": first, "index": 3}, "$each lists"),
    ]
    for source, message in cases:
        inputs = {"image": {"$each": [source]}}
        body = {"workflow_api": NEXT, "inputs": inputs, "batch_id": "own"}
        code, reply = await api.post("batch", body)
        assert code in (400, 404), source
        assert reply["details"]["field"] == "inputs.image", reply
        assert message in reply["error"]
    body = {"workflow_api": NEXT, "inputs": {"image": {"$vary": [output(first), output("none")]}}}
    code, reply = await api.post("batch", body)
    assert (code, reply["details"]["field"]) == (404, "inputs.image")
    assert reply["error"] == "point 1: inputs.image: there is no run 'none'"
    each = {"$each": {"run": first}}
    wrong = [
        ({"inputs": {"imag": each}}, "inputs.imag", "imag"),
        ({"inputs": {"image": {**each, "$with": "x"}}}, "inputs.image", "must name another input"),
        ({"inputs": {"image": {**each, "$vary": []}}}, "inputs.image", "'$vary' besides '$each'"),
        (
            {"inputs": {"image": {"$each": ["a", {"run": first}], "$with": "filename_prefix"}}},
            "inputs.image",
            "must name another input with '$vary' or '$each'",
        ),
        ({"inputs": {"image": each}, "points": [{}]}, "inputs.image", "although points are given"),
        ({"points": [{"image": each}]}, "points[0].image", "'$each', which is for inputs"),
        ({"inputs": {"image": each}, "runs": {"0": first}}, "runs", "$each"),
        ({"workflow_api": slow(0), "inputs": {"1.width": each}}, "inputs.1.width", "whole number"),
    ]
    for fields, field, message in wrong:
        code, reply = await api.post("batch", {"workflow_api": NEXT, **fields})
        assert (code, reply["details"]["field"]) == (400, field), reply
        assert message in reply["error"]
    for key in ("$each", "$vary"):
        body = {"workflow_api": NEXT, "inputs": {"image": {key: [{"run": first}]}}}
        code, reply = await api.post("run", body)
        assert (code, reply["details"]["field"]) == (400, "inputs.image")
        assert "is for the inputs of a batch" in reply["error"]
    await api.post("interrupt", {"prompt_id": first})


async def test_the_stream_of_a_run_that_waits_ends_with_its_result(api):
    first = await api.start(slow(0.4))
    body = {"workflow_api": NEXT, "inputs": {"image": output(first)}}
    reply = (await api.raw("POST", "run/streaming", body=json.dumps(body))).body
    assert '"status": "success"' in reply.decode().splitlines()[-2].replace('\\"', '"')
