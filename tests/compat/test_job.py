"""The state of a run as a job."""

from __future__ import annotations

from comfydeploy_jupyter.compat.comfy_api import job_of
from comfydeploy_jupyter.runs.records import RunRecord


def test_a_job_is_complete_when_its_status_says_so():
    """The clock of a run stops before its outputs are saved."""
    began, ended = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:02.000Z"
    record = RunRecord("p", "local", "s", began, started_at=began, finished_at=ended)
    for status, completed_at, execution_ms in (
        ("uploading", None, None),
        ("success", ended, 2000),
    ):
        record.status = status
        job = job_of(record, None, queue_position=None, outputs=[], jobs_url="http://a.test/jobs")
        assert (job["completed_at"], job["metrics"]["execution_ms"]) == (completed_at, execution_ms)
