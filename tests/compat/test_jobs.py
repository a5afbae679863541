"""Jobs, also of a ComfyUI that does not answer."""

import pytest

from comfydeploy_jupyter.compat.comfy_assets import Assets
from comfydeploy_jupyter.compat.comfy_jobs import Jobs, job_of
from comfydeploy_jupyter.request_models import JobRequest
from comfydeploy_jupyter.runs.records import RunRecord
from tests.runs.world import GRAPH, World

PATIENCE_OF_CLIENT = 30.0  # seconds that comfy-sdk waits for a reply


@pytest.fixture
def world():
    found = World()
    yield found
    found.close()


@pytest.mark.parametrize("answer", ["slow", "late", "ignored"])
def test_a_job_is_returned_before_its_client_stops_waiting(world, answer):
    world.comfyui.answer, world.comfyui.patience = answer, 30.0
    unused = None
    store = world.store
    assets = Assets(unused, world.registry, unused, unused)
    jobs = Jobs(world.service, store, unused, world.registry, assets)
    began = world.loop.time()
    job = world.do(
        jobs.create(
            JobRequest(workflow=GRAPH),
            key=None,
            machine=None,
            root="v2",
        )
    )
    assert world.loop.time() - began < PATIENCE_OF_CLIENT - 4.0
    assert job["status"] == "queued"
    world.tick(30.0)
    assert world.store.rows[job["id"]].status == ("failed" if answer == "ignored" else "queued")


def test_a_job_is_complete_when_its_status_says_so():
    """The clock of a run stops before its outputs are saved."""
    began, ended = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:02.000Z"
    record = RunRecord("p", "local", "s", began, started_at=began, finished_at=ended)
    for status, completed_at, execution_ms in (
        ("uploading", None, None),
        ("success", ended, 2000),
    ):
        record.status = status
        job = job_of(record, None, queue_position=None, outputs=[], root="http://a.test")
        assert (job["completed_at"], job["metrics"]["execution_ms"]) == (completed_at, execution_ms)
