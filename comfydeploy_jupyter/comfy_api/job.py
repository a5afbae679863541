"""The state of a run as the Comfy API shows it: status, progress, error, times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..graphs.issues import complaints
from ..runs.lifecycle import Cause
from ..runs.records import ACTIVE
from ..util.timestamps import parse_timestamp
from .job_records import StatusGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..runs.records import RunRecord
    from ..runs.run import Run

NEVER = "9999-12-31T23:59:59Z"
"""The end of something that does not expire; clients need a time."""

STATUSES: dict[str, StatusGroup | None] = {
    "queued": StatusGroup(("not-started", "queued"), False),
    "running": StatusGroup(("running", "uploading"), False),
    "canceling": StatusGroup(ACTIVE, True),
    "succeeded": StatusGroup(("success",)),
    "canceled": StatusGroup(("cancelled",)),
    "failed": StatusGroup(("failed",)),
    "expired": None,  # no run of this server expires
}
"""The statuses of jobs, and the runs that have them."""

TERMINAL = frozenset({"succeeded", "canceled", "failed", "expired"})


def status_of(record: RunRecord) -> str:
    """Return the status of a run as a job."""
    for name, group in STATUSES.items():
        if group is None or record.status not in group.statuses:
            continue
        if group.cancelling in (None, record.cancelling):
            return name
    raise AssertionError(f"a job has no status for {record.status!r}")


def progress_of(record: RunRecord, run: Run | None) -> dict[str, Any] | None:
    """Return the whole progress of a run; None before it is executed, and if it is not known."""
    if record.status == "success":
        count = record.node_count or len({*record.cached_nodes, *record.node_times})
        if run is not None:
            count = run.live_status.nodes()[1]
        return {"value": 1.0, "nodes_done": count, "nodes_total": count}
    if run is None or record.started_at is None:
        return None
    live = run.live_status
    read, (done, total), step = live.read(), live.nodes(), live.current_step()
    node = read["current_node"]
    found: dict[str, Any] = {
        "value": 1.0 if record.status == "uploading" else read["progress"],
        "nodes_done": done,
        "nodes_total": total,
    }
    if node is not None:
        found["current_node"] = node
        found["current_node_class"] = live.name(node).class_type
        found["message"] = read["live_status"]
        if step is not None:
            found["step"], found["steps"] = step
            found["message"] += f" {step[0]}/{step[1]}"
    return found


def is_refused(record: RunRecord) -> bool:
    """Return whether ComfyUI has refused the workflow of a run."""
    return any(entry[1] == Cause.REFUSED for entry in record.story)


def error_of(record: RunRecord) -> dict[str, Any] | None:
    """Return why a run has failed, or None."""
    error = record.error
    if error is None:
        return None
    at_node = error.get("node_id") is not None and error.get("node_type") is not None
    code = "node_execution_error" if at_node else "execution_error"
    return {
        "code": "invalid_workflow" if is_refused(record) else code,
        "message": str(error.get("message")),
        "node_id": error.get("node_id"),
        "class_type": error.get("node_type"),
        "traceback": error.get("traceback"),
    }


def warnings_of(record: RunRecord) -> list[str]:
    """Return what is lost although a run is executed, such as nodes that ComfyUI leaves out."""
    accepted = record.number is not None
    return [*record.warnings, *(_left_out(record.node_errors) if accepted else ())]


def job_of(
    record: RunRecord,
    run: Run | None,
    *,
    queue_position: int | None,
    outputs: list[dict[str, Any]],
    jobs_url: str,
) -> dict[str, Any]:
    """Return a run as a job."""
    url = f"{jobs_url}/{quote(record.prompt_id, safe='')}"
    completed_at = record.finished_at if record.finished else None
    return {
        "id": record.prompt_id,
        "status": status_of(record),
        "created_at": record.created_at,
        "started_at": record.started_at,
        "completed_at": completed_at,
        "expires_at": NEVER,
        "queue_position": queue_position,
        "progress": progress_of(record, run),
        "outputs": outputs,
        "error": error_of(record),
        "metrics": {
            "queue_ms": _milliseconds(record.created_at, record.started_at),
            "execution_ms": _milliseconds(record.started_at, completed_at),
        },
        "metadata": record.metadata,
        "warnings": warnings_of(record),
        "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel"},
    }


def item_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as an item of the list of jobs."""
    updated = job["completed_at"] or job["started_at"] or job["created_at"]
    return {
        **job,
        "create_time": job["created_at"],
        "update_time": updated,
        "deployment_id": None,
    }


def _left_out(node_errors: dict[str, Any]) -> Iterator[str]:
    """Yield why ComfyUI does not execute some nodes of a run."""
    for text in complaints(node_errors, lambda key, kind: f"{key} ({kind}) is not executed"):
        yield f"N{text[1:]}"


def _milliseconds(start: str | None, end: str | None) -> int | None:
    if start is None or end is None:
        return None
    seconds = (parse_timestamp(end) - parse_timestamp(start)).total_seconds()
    return max(round(seconds * 1000), 0)
