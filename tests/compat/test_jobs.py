"""Jobs of a ComfyUI that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.compat.comfy_assets import Outputs
from comfydeploy_jupyter.compat.comfy_jobs import Addresses, Jobs
from comfydeploy_jupyter.request_models import JobRequest
from tests.runs.world import GRAPH, World

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_OF_CLIENT = 30.0  # seconds that comfy-sdk waits for a reply


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.close()


@pytest.mark.parametrize("answer", ["slow", "late", "ignored"])
def test_a_job_is_returned_before_its_client_stops_waiting(world: World, answer: str) -> None:
    world.comfyui.answer, world.comfyui.patience = answer, 30.0
    unused: Any = None
    store: Any = world.store
    outputs = Outputs(unused, world.registry, unused)
    jobs = Jobs(world.service, store, unused, world.registry, outputs, unused)
    began = world.loop.time()
    job = world.do(
        jobs.create(
            JobRequest(workflow=GRAPH),
            key=None,
            machine=None,
            addresses=Addresses("jobs", "assets"),
        )
    )
    assert world.loop.time() - began < PATIENCE_OF_CLIENT - 4.0
    assert job["status"] == "queued"
    world.tick(30.0)
    assert world.store.rows[job["id"]].status == ("failed" if answer == "ignored" else "queued")
