"""Batches of a server that is killed at any time."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

import pytest
import requests

from tests.helpers.jupyter import chain
from tests.helpers.selection import few
from tests.helpers.waiting import until

POINTS = 12


def executed(comfyui, token: str) -> list[str]:
    """Return what the prompts with a token that ComfyUI has executed say, in order."""
    history = requests.get(f"{comfyui.url}/history", timeout=10).json()
    graphs = [entry["prompt"][2] for entry in history.values()]
    inputs = [each["2"]["inputs"] for each in graphs if "2" in each]
    return [each["text"] for each in inputs if each.get("token") == token]


def batch_of(jupyter, batch_id: str) -> dict[str, Any]:
    code, batch = jupyter.get(f"batch/{batch_id}")
    assert code == 200, batch
    return dict(batch)


def points_of(values: list[str]) -> list[dict[str, Any]]:
    return [{"2.text": text, "1.seconds": 0.1 + int(text) / 1000} for text in values]


@pytest.mark.thorough
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", few([*range(10)]))
def test_batches_go_on_however_often_the_server_is_killed(serve, comfyui, seed):
    """Each point runs once, also those of a batch over a batch; a cancelled one stays so."""
    jupyter = serve(comfyui_url=comfyui.url)
    random = Random(seed)
    graphs = [chain(("TestSleep", {"seconds": 0.1})) for _ in range(2)]
    values = [str(number) for number in range(POINTS)]
    source = jupyter.post("batch", {"workflow_api": graphs[0], "points": points_of(values)})[1]
    each = {"$each": [{"batch": source["batch_id"]}, "more"]}
    code, over = jupyter.post("batch", {"workflow_api": graphs[1], "inputs": {"2.text": each}})
    assert code == 200, over
    for _ in range(3):
        time.sleep(random.uniform(0, 0.6))
        jupyter.kill()
        jupyter.start()
    for reply, graph, texts in (
        (source, graphs[0], values),
        (over, graphs[1], [*values, "more"]),
    ):
        batch_id = reply["batch_id"]
        batch = until(
            lambda each=batch_id: batch_of(jupyter, each), lambda found: found["finished_at"]
        )
        assert (batch["state"], batch["counts"]) == ("done", {"success": len(texts)})
        found = jupyter.get(f"batch/{batch_id}/points")[1]["points"]
        assert [point["run"]["outputs"]["2"]["text"] for point in found] == [[t] for t in texts]
        assert len({point["prompt_id"] for point in found}) == len(texts)
        assert Counter(executed(comfyui, graph["2"]["inputs"]["token"])) == Counter(texts)

    points = [{"1.seconds": 300 + number} for number in range(4)]
    _, reply = jupyter.post("batch", {"workflow_api": graphs[0], "points": points})
    until(lambda: batch_of(jupyter, reply["batch_id"])["counts"].get("running"))
    jupyter.post(f"batch/{reply['batch_id']}/cancel", {})
    jupyter.kill()
    jupyter.start()
    batch = until(lambda: batch_of(jupyter, reply["batch_id"]), lambda found: found["finished_at"])
    assert (batch["state"], batch["counts"]) == ("cancelled", {"cancelled": 4})


@pytest.fixture
def own_comfyui(start_comfyui):
    return start_comfyui()


@pytest.mark.slow
@pytest.mark.parametrize("seed", few([8, *range(8), *range(9, 30)]))
def test_no_point_is_lost_or_doubled_when_servers_are_killed(serve, own_comfyui, seed):
    """Only a point that a killed ComfyUI was executing fails; `retry` lets it run again."""
    random, comfyui = Random(seed), own_comfyui
    jupyter = serve(comfyui_url=comfyui.url)
    graph = chain(("TestSleep", {"seconds": 0.1}))
    points = points_of([str(number) for number in range(POINTS)])
    retry = seed % 2
    batches = []
    for half in (points[:8], points[4:]):
        request = {"workflow_api": graph, "points": half, "key": "all", "retry": 3 * retry}
        code, reply = jupyter.post(
            "batch", {**request, "machine": random.choice(["auto", "local"])}
        )
        assert code == 200, reply
        batches.append((reply["batch_id"], len(half)))
    killed = 0
    for _ in range(2):
        time.sleep(random.uniform(0, 1))
        victims = random.choice([(jupyter,), (comfyui,), (jupyter, comfyui), (comfyui, jupyter)])
        for victim in victims:
            victim.kill()
        for victim in reversed(victims):
            victim.start()
        killed += comfyui in victims
    failed = 0
    for batch_id, total in batches:
        batch = until(
            lambda each=batch_id: batch_of(jupyter, each),
            lambda found: found["finished_at"],
            timeout=120,
        )
        counts = batch["counts"]
        assert (batch["state"], sum(counts.values())) == ("done", total)
        failed += counts.get("failed", 0)
        assert set(counts) <= {"success", "failed"}
        found = jupyter.get(f"batch/{batch_id}/points")[1]["points"]
        own = [each for each in found if each["status"] == "success"]
        texts = [[each["values"]["2.text"]] for each in own]
        assert [each["run"]["outputs"]["2"]["text"] for each in own] == texts
        runs = jupyter.get("runs", batch_id=batch_id, limit="1000")[1]
        ended = Counter(run["point"] for run in runs if run["status"] == "success")
        assert set(ended.values()) <= {1}, "a point ran twice"
        assert all(run["status"] in ("success", "failed") for run in runs)
        assert len(runs) <= total + killed
    assert failed <= (0 if retry else killed), "only runs that a killed ComfyUI executed fail"
