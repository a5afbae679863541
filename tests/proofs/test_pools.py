"""Records and repetitions of runs of a pool with two real ComfyUIs."""

from __future__ import annotations

import uuid

import pytest

from tests.helpers.bodies import picture
from tests.helpers.jupyter import chain
from tests.helpers.waiting import until_async
from tests.machines.test_chains import pool, second  # noqa: F401 - fixtures
from tests.proofs.test_batches import ended, made
from tests.proofs.test_records import recorded
from tests.proofs.test_verify import verified


@pytest.mark.thorough
async def test_a_batch_of_a_pool_is_repeated_by_the_members_that_are_idle(api):
    graphs = []
    for number in range(8):
        graph = chain(("TestSleep", {"seconds": 0.3, "token": uuid.uuid4().hex}))
        shown = picture("pooled", color=number + 1)
        graphs.append({**graph, **{f"p{name}": node for name, node in shown.items()}})
        graphs[-1]["p2"]["inputs"]["images"] = ["p1", 0]
    batch_id = await made(api, *graphs, machine="both")
    points = (await api.get(f"batch/{batch_id}/points"))[1]["points"]
    records = [await recorded(api, point["prompt_id"]) for point in points]
    assert {record["machine"] for record in records} == {"local", "second"}
    assert all(record["environment"]["torch"] for record in records)
    busy = await api.start(chain(("TestSleep", {"seconds": 300.0})), machine="local")
    await api.until(busy, "running")
    assert (await api.post(f"batch/{batch_id}/verify", {}))[0] == 200
    found = await ended(api, batch_id)
    assert found["counts"] == {"identical": 8, "differs": 0, "cannot": 0}, found
    assert found["differences"] == []
    again = [await recorded(api, point["repetition"]) for point in found["points"]]
    assert {record["machine"] for record in again} == {"second"}
    (first,) = [each for each in records if each["machine"] == "local"][:1]
    one = await verified(api, first["prompt_id"], machine="both")
    assert one["verdict"] == "identical", one
    assert (await recorded(api, one["prompt_id"]))["machine"] == "second"
    await api.post("interrupt", {"prompt_id": busy})
    await api.until(busy, "cancelled")
    assert (await api.post(f"batch/{batch_id}/verify", {"points": 4}))[0] == 200
    found = await ended(api, batch_id)
    assert found["counts"]["identical"] == 4

    async def members() -> set[str]:
        again = [await recorded(api, point["repetition"]) for point in found["points"]]
        return {record["machine"] for record in again}

    assert await until_async(members, bool) == {
        records[point["point"]]["machine"] for point in found["points"]
    }
