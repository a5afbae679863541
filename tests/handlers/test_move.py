"""Runs that wait get another place in the queue."""

import pytest

from comfydeploy_jupyter.runs import service


@pytest.fixture
def blocked(api, chain):
    """Start a long run on the machine, and return functions."""

    class Blocked:
        async def wait(self, count, **fields):
            self.busy = await api.start(chain(("TestSleep", {"seconds": 600})), **fields)
            await api.until(self.busy, "running")
            graphs = (chain(("TestSleep", {"seconds": 0.05})) for _ in range(count))
            return [await api.start(graph, **fields) for graph in graphs]

        async def release(self, runs):
            await api.post("interrupt", {"prompt_id": self.busy})
            ended = [await api.until(run, "success", "failed", "cancelled") for run in runs]
            assert [run["status"] for run in ended] == ["success"] * len(runs)
            return [run["prompt_id"] for run in sorted(ended, key=lambda run: run["started_at"])]

    return Blocked()


async def position(api, prompt_id):
    return (await api.get("check-status", prompt_id=prompt_id))[1]["queue_position"]


@pytest.mark.parametrize("machine", ["local", "team"])
async def test_runs_are_executed_in_the_new_order(api, blocked, machine):
    await api.post("machine/create", {"name": "team", "kind": "pool", "members": ["local"]})
    runs = first, second, third, fourth = await blocked.wait(4, machine=machine)
    assert await api.post("runs/move", {"prompt_ids": [fourth, third], "to": "first"}) == (
        200,
        {"success": True, "moved": 2},
    )
    await api.post("runs/move", {"prompt_ids": [first], "to": "last"})
    order = [fourth, third, second, first]
    assert [await position(api, run) for run in order] == [1, 2, 3, 4]
    assert await blocked.release(runs) == order
    _, story = await api.get("runs", story=fourth)
    assert "put at another place in the queue" in [entry["cause"] for entry in story]


@pytest.mark.parametrize("machine", ["local", "team"])
async def test_runs_are_put_before_another_one(api, blocked, machine):
    await api.post("machine/create", {"name": "team", "kind": "pool", "members": ["local"]})
    runs = a, b, c, d, e, f = await blocked.wait(6, machine=machine)
    # near the front, near the end, several
    moves = (
        ([e], b, [a, e, b, c, d, f]),
        ([b], f, [a, e, c, d, b, f]),
        ([f, d], c, [a, e, f, d, c, b]),
    )
    for ids, before, order in moves:
        reply = await api.post("runs/move", {"prompt_ids": ids, "before": before})
        assert reply == (200, {"success": True, "moved": len(ids)})
        assert [await position(api, run) for run in order] == [1, 2, 3, 4, 5, 6]
    assert await blocked.release(runs) == order


async def test_a_run_is_not_put_before_one_of_another_queue(api, blocked, monkeypatch):
    await api.post("machine/create", {"name": "team", "kind": "pool", "members": ["local"]})
    first, second, third = await blocked.wait(3, machine="local")
    [other] = [
        await api.start({"1": {"class_type": "TestText", "inputs": {"text": "a"}}}, machine="team")
    ]
    for before in (other, first):
        code, error = await api.post("runs/move", {"prompt_ids": [first], "before": before})
        assert (code, error["code"]) == (409, "conflict")
    body = {"prompt_ids": [first], "before": second}
    assert await api.refusal("runs/move", {**body, "to": "last"}) == (400, "to")
    assert await api.refusal("runs/move", {"prompt_ids": [first]}) == (400, "to")
    code, _ = await api.post("runs/move", {**body, "before": blocked.busy})
    assert code == 409
    monkeypatch.setattr(service, "MAX_MOVED", 1)
    code, _ = await api.post("runs/move", {"prompt_ids": [first, second], "before": third})
    assert code == 409
    await api.post("interrupt", {"prompt_id": other})
    assert await blocked.release([first, second, third]) == [first, second, third]


async def test_a_moved_run_has_its_events_once(api, blocked, chain):
    [run] = await blocked.wait(1)
    await api.post("runs/move", {"prompt_ids": [run], "to": "first"})
    await blocked.release([run])
    _, record = await api.get("check-status", prompt_id=run)
    assert record["outputs"]
    _, found = await api.get("runs")
    assert [each["prompt_id"] for each in found].count(run) == 1


async def test_a_run_that_does_not_wait_is_not_moved(api, blocked, chain):
    [waiting] = await blocked.wait(1)
    _, error = await api.post("runs/move", {"prompt_ids": [waiting, blocked.busy], "to": "first"})
    assert (error["code"], error["details"]["status"]) == ("conflict", "running")
    code, _ = await api.post("runs/move", {"prompt_ids": ["unknown"], "to": "first"})
    assert code == 404
    assert await api.refusal("runs/move", {"prompt_ids": [], "to": "first"}) == (400, "prompt_ids")
    assert await api.refusal("runs/move", {"prompt_ids": ["a"], "to": "up"}) == (400, "to")
    await blocked.release([waiting])
    code, error = await api.post("runs/move", {"prompt_ids": [waiting], "to": "last"})
    assert (code, error["code"]) == (409, "conflict")


async def test_a_moved_run_can_be_cancelled(api, blocked):
    first, second = await blocked.wait(2)
    await api.post("runs/move", {"prompt_ids": [second], "to": "first"})
    await api.post("interrupt", {"prompt_id": second})
    assert (await api.until(second, "cancelled"))["status"] == "cancelled"
    await blocked.release([first])
