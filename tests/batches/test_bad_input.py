"""What goes wrong with batches while they run, with a real ComfyUI."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.helpers.disks import files_limited_to
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    from pathlib import Path

LOAD = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}},
}


async def create(api, **body: Any) -> str:
    code, reply = await api.post("batch", body)
    assert code == 200, reply
    return str(reply["batch_id"])


async def ended(api, batch_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = await until_async(
        lambda: api.get(f"batch/{batch_id}"), lambda found: found[1]["finished_at"], timeout=90
    )
    return found[1], (await api.get(f"batch/{batch_id}/points", limit="1000"))[1]["points"]


def picture(folder: Path, colour: str) -> str:
    name = f"{uuid.uuid4().hex}.png"
    content = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(content, "PNG")
    (folder / name).write_bytes(content.getvalue())
    return name


@pytest.mark.thorough
async def test_files_that_vanish_meanwhile_fail_their_points_alone(api, comfyui):
    names = [picture(comfyui.input_dir, colour) for colour in ("red", "lime", "blue")]
    inputs = {"image": {"$vary": names}, "filename_prefix": uuid.uuid4().hex}
    batch_id = await create(api, workflow_api=LOAD, inputs=inputs, paused=True)
    (comfyui.input_dir / names[1]).unlink()
    await api.post(f"batch/{batch_id}/resume")
    batch, points = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 2, "failed": 1})
    assert points[1]["status"] == "failed"
    assert names[1] in points[1]["error"]
    (comfyui.input_dir / names[1]).write_bytes((comfyui.input_dir / names[0]).read_bytes())
    assert (await api.post(f"batch/{batch_id}/retry", {}))[0] == 200
    assert (await ended(api, batch_id))[0]["counts"] == {"success": 3}


async def test_files_that_are_not_there_are_told_before_anything_is_queued(api, comfyui):
    there, away = picture(comfyui.input_dir, "red"), f"{uuid.uuid4().hex}.png"
    values = [there, away, f"{away} [output]", f"folder/{away}", there, away]
    points = [{"image": value} for value in values]
    why = f"inputs.image: {away} is not in the input folder of this ComfyUI"
    code, reply = await api.post("batch", {"workflow_api": LOAD, "points": points})
    assert (code, reply["error"]) == (400, f"point 1: {why} (1 more point is wrong)")
    assert [each["point"] for each in reply["details"]["points"]] == [1, 5]
    inputs = {"image": away, "filename_prefix": {"$vary": ["a", "b"]}}
    code, reply = await api.post("batch", {"workflow_api": LOAD, "inputs": inputs})
    assert (code, reply["error"], reply["details"]["field"]) == (400, why, "inputs.image")
    (comfyui.input_dir / away).write_bytes((comfyui.input_dir / there).read_bytes())
    assert (await ended(api, await create(api, workflow_api=LOAD, inputs=inputs)))[0]["counts"] == {
        "success": 2
    }


async def test_outputs_that_are_deleted_before_a_point_needs_them(api, comfyui):
    made = {"width": 8, "height": 8, "batch_size": 1, "color": 255}
    save = {"images": ["1", 0], "filename_prefix": uuid.uuid4().hex}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": made},
        "2": {"class_type": "SaveImage", "inputs": save},
    }
    source = await create(api, workflow_api=graph, inputs={"color": {"$vary": [1, 2, 3]}})
    _, first = await ended(api, source)
    each = {"$each": {"batch": source}}
    batch_id = await create(api, workflow_api=LOAD, inputs={"image": each}, paused=True)
    await until_async(lambda: api.get(f"batch/{batch_id}"), lambda found: found[1]["total"] == 3)
    (image,) = first[0]["run"]["outputs"]["2"]["images"]
    (comfyui.output_dir / image["filename"]).unlink()
    await api.post("runs/delete", {"prompt_ids": [first[2]["prompt_id"]]})
    await api.post(f"batch/{batch_id}/resume")
    batch, points = await ended(api, batch_id)
    assert batch["counts"] == {"success": 1, "failed": 2}
    assert f"the output {image['filename']!r} of the run" in points[0]["error"]
    assert points[1]["status"] == "success"
    assert points[2]["error"] == f"inputs.image: the run {first[2]['prompt_id']!r} was deleted"


async def test_a_workflow_that_is_deleted_or_changed_changes_no_batch(api):
    graph = chain()
    code, stored = await api.post("workflow", {"name": uuid.uuid4().hex, "workflow_api": graph})
    assert code == 200, stored
    workflow = {"workflow_id": stored["workflow_id"]}
    points = [{"text": text} for text in "abc"]
    batch_id = await create(api, **workflow, points=points, paused=True)
    each = {"text": {"$each": {"batch": batch_id, "file": "texts"}}}
    over = await create(api, **workflow, inputs=each)
    code, reply = await api.post("workflow/delete", workflow)
    assert code == 200, reply
    assert (await api.post("batch", {**workflow, "points": points}))[0] == 404
    await api.post(f"batch/{batch_id}/resume")
    for each_id in (batch_id, over):
        batch, found = await ended(api, each_id)
        assert (batch["workflow_id"], batch["version"]) == (stored["workflow_id"], 1)
        texts = [point["run"]["outputs"]["1"]["text"] for point in found]
        assert texts == [["a"], ["b"], ["c"]]


@pytest.mark.thorough
@pytest.mark.slow
async def test_a_member_that_dies_loses_and_doubles_no_point(api, start_comfyui):
    other = start_comfyui()
    assert (await api.post("machine/create", {"name": "dies", "comfyui_url": other.url}))[0] == 200
    pool = {"name": "two", "members": ["local", "dies"]}
    assert (await api.post("machine/create", pool))[0] == 200
    graph = chain(("TestSleep", {"seconds": 0.3}))
    points = [{"2.text": str(number), "1.seconds": 0.3 + number / 1000} for number in range(16)]
    batch_id = await create(api, workflow_api=graph, points=points, machine="two", retry=1)

    async def busy() -> bool:
        runs = (await api.get("runs", batch_id=batch_id, limit="1000"))[1]
        return any(run["machine"] != "local" and run["status"] == "running" for run in runs)

    await until_async(busy)
    other.kill()
    batch, found = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 16})
    texts = [point["run"]["outputs"]["2"]["text"] for point in found]
    assert texts == [[str(number)] for number in range(16)]
    runs = (await api.get("runs", batch_id=batch_id, limit="1000"))[1]
    succeeded = Counter(run["point"] for run in runs if run["status"] == "success")
    assert succeeded == Counter(range(16))
    assert all(point["attempts"] <= 2 for point in found)


async def test_points_whose_runs_were_cancelled_can_run_after_the_end(api):
    graph = chain(("TestSleep", {"seconds": 1.0}))
    points = [{"2.text": text, "1.seconds": 1 + ord(text) / 1000} for text in "ab"]
    batch_id = await create(api, workflow_api=graph, points=points)
    path = f"batch/{batch_id}/points"
    _, found = await until_async(
        lambda: api.get(path, status="running"), lambda found: found[1]["total"]
    )
    code, _ = await api.post("interrupt", {"prompt_id": found["points"][0]["prompt_id"]})
    assert code == 200
    batch, _ = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 1, "cancelled": 1})
    code, batch = await api.post(f"batch/{batch_id}/resume")
    assert (code, batch["state"], batch["counts"]["success"]) == (200, "running", 1)
    batch, found = await ended(api, batch_id)
    assert (batch["state"], batch["counts"]) == ("done", {"success": 2})
    texts = [point["run"]["outputs"]["2"]["text"] for point in found]
    assert texts == [["a"], ["b"]]
    code, reply = await api.post(f"batch/{batch_id}/resume")
    assert (code, reply["details"]["state"]) == (409, "done")


async def test_points_wait_while_the_disk_is_full(api, extension):
    graph = chain(("TestSleep", {"seconds": 0.2}))
    points = [{"2.text": str(number), "1.seconds": 0.2 + number / 1000} for number in range(6)]
    batch_id = await create(api, workflow_api=graph, points=points, paused=True)
    each = {"2.text": {"$each": {"batch": batch_id, "file": "texts"}}}
    over = await create(api, workflow_api=chain(("TestSleep", {"seconds": 0.01})), inputs=each)
    await api.post(f"batch/{batch_id}/resume")
    await until_async(
        lambda: api.get(f"batch/{batch_id}"), lambda found: found[1]["counts"].get("success")
    )
    with files_limited_to(0):
        code, reply = await api.post("batch", {"workflow_api": graph, "points": points})
        assert code in (503, 507), reply
        await asyncio.sleep(2)
    for each_id in (batch_id, over):
        batch, found = await ended(api, each_id)
        assert (batch["counts"], batch["why"]) == ({"success": 6}, "")
        texts = [point["run"]["outputs"]["2"]["text"] for point in found]
        assert texts == [[str(number)] for number in range(6)]
        assert len((await api.get("runs", batch_id=each_id))[1]) == 6


async def test_wrong_types_are_found_at_any_point(api):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    before = (await api.get("batches"))[1]["total"]
    for position, value in ((7301, "wide"), (7302, 0), (9999, [8]), (5000, {"a": 1})):
        points: list[dict[str, Any]] = [{"width": number % 64 + 1} for number in range(10_000)]
        points[position] = {"width": value}
        code, reply = await api.post("batch", {"workflow_api": graph, "points": points})
        assert code == 400, (value, reply)
        assert reply["details"]["wrong"] == 1
        assert reply["details"]["points"][0]["point"] == position
        assert reply["error"].startswith(f"point {position}: inputs.width: ")
    assert (await api.get("batches"))[1]["total"] == before
