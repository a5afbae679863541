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
            graphs = (chain(("TestSleep", {"seconds": 0.2})) for _ in range(count))
            return [await api.start(graph, **fields) for graph in graphs]

        async def release(self, runs):
            await api.post("interrupt", {"prompt_id": self.busy})
            ended = [await api.until(run, "success", "failed", "cancelled") for run in runs]
            assert [run["status"] for run in ended] == ["success"] * len(runs)
            return [run["prompt_id"] for run in sorted(ended, key=lambda run: run["started_at"])]

    return Blocked()


async def position(api, prompt_id):
    return (await api.get("check-status", prompt_id=prompt_id))[1]["queue_position"]


async def test_runs_are_executed_in_the_new_order(api, blocked):
    await api.post("machine/create", {"name": "team", "kind": "pool", "members": ["local"]})
    for machine in ("local", "team"):
        runs = a, b, c, d, e, f = await blocked.wait(6, machine=machine)
        body = {"prompt_ids": [f, e], "to": "first"}  # after what the machine has, in a pool
        assert await api.post("runs/move", body) == (200, {"success": True, "moved": 2})
        for moved, where, order in (
            ([a], {"to": "last"}, [f, e, b, c, d, a]),
            ([c], {"before": e}, [f, c, e, b, d, a]),
            ([f], {"before": a}, [c, e, b, d, f, a]),
            ([a, d], {"before": b}, [c, e, a, d, b, f]),
        ):
            reply = await api.post("runs/move", {"prompt_ids": moved, **where})
            assert reply == (200, {"success": True, "moved": len(moved)})
            assert [await position(api, run) for run in order] == [1, 2, 3, 4, 5, 6]
        assert await blocked.release(runs) == order
        _, story = await api.get("runs", story=a)
        assert "put at another place in the queue" in [entry["cause"] for entry in story]
        _, found = await api.get("runs")
        assert [each["prompt_id"] for each in found].count(a) == 1


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


async def test_a_run_that_does_not_wait_is_not_moved(api, blocked):
    waiting, other = await blocked.wait(2)
    _, error = await api.post("runs/move", {"prompt_ids": [waiting, blocked.busy], "to": "first"})
    assert (error["code"], error["details"]["status"]) == ("conflict", "running")
    code, _ = await api.post("runs/move", {"prompt_ids": ["unknown"], "to": "first"})
    assert code == 404
    assert await api.refusal("runs/move", {"prompt_ids": [], "to": "first"}) == (400, "prompt_ids")
    assert await api.refusal("runs/move", {"prompt_ids": ["a"], "to": "up"}) == (400, "to")
    await api.post("runs/move", {"prompt_ids": [other], "to": "first"})
    await api.post("interrupt", {"prompt_id": other})
    await api.until(other, "cancelled")
    await blocked.release([waiting])
    code, error = await api.post("runs/move", {"prompt_ids": [waiting], "to": "last"})
    assert (code, error["code"]) == (409, "conflict")
