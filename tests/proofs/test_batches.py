"""Whether the points of batches can be made again, with a real ComfyUI."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tests.helpers.bodies import picture
from tests.helpers.comfyui_proxies import FaultyComfyUI
from tests.helpers.graphs import node
from tests.helpers.jupyter import chain
from tests.helpers.selection import few
from tests.helpers.waiting import until, until_async


async def made(api, *prompts: dict[str, Any], **fields: Any) -> str:
    """Run a batch, and return its id."""
    code, reply = await api.post("batch", {"prompts": list(prompts), **fields})
    assert code == 200, reply

    async def batch() -> dict[str, Any]:
        return (await api.get(f"batch/{reply['batch_id']}"))[1]

    await until_async(batch, lambda found: found["finished_at"])
    return str(reply["batch_id"])


async def ended(api, batch_id: str, **query: str) -> dict[str, Any]:
    async def verification() -> dict[str, Any]:
        code, found = await api.get(f"batch/{batch_id}/verify", **query)
        assert code == 200, found
        return found

    found: dict[str, Any] = await until_async(
        verification, lambda found: found["state"] != "running"
    )
    return found


def colours(count: int, name: str = "") -> list[dict[str, Any]]:
    return [picture(name or uuid.uuid4().hex, color=number + 1) for number in range(count)]


async def test_each_point_has_its_verdict(api):
    unstable = {
        "1": node("TestUnstable", height=20),
        "2": node("SaveImage", images=["1", 0], filename_prefix="unstable"),
    }
    failing = node("TestFail", message="no", token=uuid.uuid4().hex)
    fails = {"1": failing, "2": node("TestText", text="", anything=["1", 0])}
    batch_id = await made(api, *colours(2), unstable, fails)
    assert (await api.get(f"batch/{batch_id}/verify"))[0] == 404
    code, begun = await api.post(f"batch/{batch_id}/verify", {"nodes": True})
    assert (code, begun["state"], begun["verdict"], begun["total"]) == (200, "running", None, 4)
    found = await ended(api, batch_id)
    assert found["counts"] == {"identical": 2, "differs": 1, "cannot": 1}, found
    assert (found["state"], found["verdict"], found["differences"]) == ("done", "differs", [])
    verdicts = {point["point"]: point for point in found["points"]}
    assert [verdicts[place]["verdict"] for place in range(4)] == [
        *("identical", "identical", "differs", "cannot")
    ]
    assert "TestUnstable (id 1)" in verdicts[2]["reason"]
    assert verdicts[3]["reason"] == "its run is failed"
    repetition = (await api.get(f"runs/{verdicts[0]['repetition']}/record"))[1]
    assert repetition["cached_nodes"] == []
    only = await ended(api, batch_id, verdict="differs", limit="1")
    assert [point["point"] for point in only["points"]] == [2]


async def test_a_sample_is_spread_evenly_or_chosen(api):
    batch_id = await made(api, *colours(5))
    for points, expected in ((2, [0, 4]), (3, [0, 2, 4]), ([3, 1, 3], [1, 3]), (99, [*range(5)])):
        code, _ = await api.post(f"batch/{batch_id}/verify", {"points": points})
        assert code == 200
        code, _ = await api.post(f"batch/{batch_id}/verify/cancel", {})
        assert code in (200, 409)
        found = await ended(api, batch_id)
        assert [point["point"] for point in found["points"]] == expected
    for wrong in (0, -1, True, [], [-1], "2", 1.5, [1, 5]):
        refused = await api.refusal(f"batch/{batch_id}/verify", {"points": wrong})
        assert refused[0] == 400
        assert refused[1].startswith("points"), (wrong, refused)
    assert (await api.refusal("batch/none/verify", {}))[0] == 404
    assert (await api.refusal(f"batch/{batch_id}/verify", {"machine": "none"}))[1] == "machine"


@pytest.mark.thorough
async def test_a_machine_that_works_is_waited_for_until_that_is_cancelled(api):
    batch_id = await made(api, *colours(2))
    busy = await api.start(chain(("TestSleep", {"seconds": 3.0})))
    await api.until(busy, "running")
    assert (await api.post(f"batch/{batch_id}/verify", {}))[0] == 200

    async def why() -> str:
        return str((await api.get(f"batch/{batch_id}/verify"))[1]["why"])

    await until_async(why, lambda text: text == "Waiting until local executes nothing")
    assert (await api.refusal(f"batch/{batch_id}/verify", {})) == (409, "conflict")
    code, found = await api.post(f"batch/{batch_id}/verify/cancel", {})
    assert (code, found["state"], found["verdict"], found["why"]) == (200, "cancelled", None, "")
    assert (await api.refusal(f"batch/{batch_id}/verify/cancel", {})) == (409, "conflict")
    assert (await api.post(f"batch/{batch_id}/verify", {"points": [1]}))[0] == 200
    found = await ended(api, batch_id)
    assert (found["counts"]["identical"], found["total"]) == (1, 1)


async def test_a_repetition_is_cancelled_and_deleted_batches_are_left(api):
    slow = chain(("TestSleep", {"seconds": 2.0}))
    batch_id = await made(api, slow)
    await api.post(f"batch/{batch_id}/verify", {})
    which = {
        "metadata[verifies]": (await api.get(f"batch/{batch_id}/points"))[1]["points"][0][
            "prompt_id"
        ]
    }

    async def repetitions() -> list[dict[str, Any]]:
        return list((await api.get("runs", **which))[1])

    (run,) = await until_async(repetitions, bool)
    await api.post(f"batch/{batch_id}/verify/cancel", {})
    await api.until(run["prompt_id"], "cancelled")
    await api.post(f"batch/{batch_id}/verify", {})
    code, _ = await api.call("DELETE", f"batch/{batch_id}")
    assert code == 200
    assert (await api.get(f"batch/{batch_id}/verify"))[0] == 404


@pytest.mark.thorough
async def test_points_whose_runs_were_deleted_cannot_be_known(api):
    batch_id = await made(api, *colours(2))
    points = (await api.get(f"batch/{batch_id}/points"))[1]["points"]
    await api.post("runs/delete", {"prompt_ids": [points[0]["prompt_id"]]})
    await api.post(f"batch/{batch_id}/verify", {})
    found = await ended(api, batch_id)
    assert found["counts"] == {"identical": 1, "differs": 0, "cannot": 1}
    assert found["verdict"] == "cannot"


@pytest.fixture
def far_comfyui(comfyui):
    """The address of a ComfyUI as on another computer: no server reads its Python packages."""
    proxy = FaultyComfyUI(comfyui.url)
    proxy.start()
    yield proxy.url
    proxy.close()


@pytest.mark.thorough
def test_the_next_server_goes_on(serve, far_comfyui):
    jupyter = serve(comfyui_url=far_comfyui)
    slow = [chain(("TestSleep", {"seconds": 0.4 + n / 1000})) for n in range(4)]
    batch_id = jupyter.post("batch", {"prompts": slow})[1]["batch_id"]
    until(lambda: jupyter.get(f"batch/{batch_id}")[1], lambda found: found["finished_at"])

    def verification() -> dict[str, Any]:
        return dict(jupyter.get(f"batch/{batch_id}/verify")[1])

    assert jupyter.post(f"batch/{batch_id}/verify", {})[0] == 200
    for compared in few((1, 2)):
        until(verification, lambda found, most=compared: found["counts"]["identical"] >= most)
        time.sleep(0.3)
        jupyter.kill()
        jupyter.start()
    found = until(verification, lambda found: found["state"] == "done", timeout=60)
    assert found["counts"] == {"identical": 4, "differs": 0, "cannot": 0}, found
    assert len({point["repetition"] for point in found["points"]}) == 4
