"""The language of the Comfy API: errors, cursors, the form of jobs, references to assets.

A reference is ``{"__type": "core/ASSET", "info": {"id": …}}``, anywhere in the inputs of a node.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..errors import ComfyDeployError, InvalidRequestError
from ..graphs.formats import GraphFormat, detect_format
from ..graphs.validation import complaints
from ..runs.records import ACTIVE, RunFilter, record_of
from ..runs.state import Cause
from ..store.database import DETAILS, Repository, reading, writing
from ..util.jsons import dumps
from ..util.times import parse_timestamp

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Mapping

    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..util.jsons import RawJSON

CODES: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "The body is not a JSON object."),
    "unauthorized": (401, "Jupyter's token is missing or wrong."),
    "forbidden": (403, "The user may not do this, or a page of another site sent the request."),
    "not_found": (404, "There is no such job, asset or route."),
    "blob_not_found": (404, "The server has no file with this hash."),
    "output_unavailable": (404, "The file of this asset does not exist any more."),
    "method_not_allowed": (405, "The route does not take this method."),
    "hash_mismatch": (409, "The file that arrived has another hash than `expected_hash`."),
    "conflict": (409, "The request conflicts with the present state."),
    "too_large": (413, "The body or the file is too large."),
    "range_not_satisfiable": (416, "The range is outside the file."),
    "invalid_request": (422, "A field is missing or wrong; `details.field` names it."),
    "invalid_workflow": (422, "ComfyUI refuses the workflow; see `details.node_errors`."),
    "workflow_format_ui": (422, "The workflow is in the editor's format, not in API format."),
    "missing_asset": (422, "The workflow refers to an asset that does not exist."),
    "idempotency_key_reuse": (422, "The Idempotency-Key was used for an earlier request."),
    "metadata_invalid": (422, "The labels of the job are wrong."),
    "invalid_metadata_filter": (422, "The labels to search for are wrong."),
    "invalid_cursor": (422, "The cursor is not one of this list."),
    "internal_error": (500, "An unexpected error, which the log describes under `details.id`."),
    "unsupported_platform": (501, "The server extension does not run on this system."),
    "upstream_unreachable": (503, "ComfyUI does not answer."),
    "store_unavailable": (503, "The store cannot be read or written now."),
    "no_space": (507, "There is no space left on the disk."),
}
"""The codes of the Comfy API with their status and meaning."""

_BY_CODE = {
    "comfyui_unavailable": "upstream_unreachable",
    "prompt_invalid": "invalid_workflow",
    "unknown_input": "invalid_workflow",
    "invalid_input": "invalid_workflow",
    "forbidden_path": "invalid_request",
    "offline": "invalid_request",
    "timeout": "upstream_unreachable",
    "unauthorized": "forbidden",
}
_BY_FIELD = {
    "workflow": "invalid_workflow",
    "workflow_api": "invalid_workflow",
    "inputs": "invalid_workflow",
    "webhook_url": "invalid_workflow",
    "metadata": "metadata_invalid",
    "cursor": "invalid_cursor",
    "expected_hash": "hash_mismatch",
}
_FIELDS = {"workflow_api": "workflow", "type": "file_path", "subfolder": "file_path"}
"""Fields of this package's own routes, and those of the Comfy API that stand for them."""

_OUTSIDE = 416


class APIError(ComfyDeployError):
    """An error in the form of the Comfy API: an object ``error`` with code, message and details."""

    def __init__(self, name: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=details)
        self.name = name
        self.status = CODES[name][0]

    def to_reply(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {
            "error": {"code": self.name, "message": self.sentence, "details": self.details or None}
        }


def api_error(error: ComfyDeployError) -> APIError:
    """Return the error of the Comfy API for an error of this package."""
    if isinstance(error, APIError):
        return error
    name = _BY_CODE.get(error.code, error.code)
    if isinstance(error, InvalidRequestError) or name == "conflict":
        field = str(error.details.get("field")).partition("[")[0]
        name = _BY_FIELD.get(field, "conflict" if name == "conflict" else "invalid_request")
        if error.status == _OUTSIDE:
            name = "range_not_satisfiable"
    if name not in CODES:
        name = "internal_error"
    details = {**error.details, **{k: v for k, v in error.extra.items() if k != "prompt_id"}}
    message, own = error.message, str(error.details.get("field"))
    if own in _FIELDS:
        details["field"] = _FIELDS[own]
        if message.startswith(f"{own}:"):
            message = f"{_FIELDS[own]}{message.removeprefix(own)}"
    return APIError(name, message, details=details)


_POSITION = struct.Struct(">Q")
_SIGNATURE = 16  # bytes


def cursor_after(position: int, filters: str, secret: bytes) -> str:
    """Return the cursor for the page after a position in the store."""
    packed = _POSITION.pack(position)
    signed = packed + _signature(packed, filters, secret)
    return base64.urlsafe_b64encode(signed).decode()


def position_of(cursor: str, filters: str, secret: bytes) -> int:
    """Return the position at which a page begins; APIError if the cursor is not of this list."""
    try:
        signed = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        signed = b""
    packed, signature = signed[: _POSITION.size], signed[_POSITION.size :]
    if not hmac.compare_digest(signature, _signature(packed, filters, secret)):
        raise APIError("invalid_cursor", "cursor: was not returned by this list with these filters")
    return int(_POSITION.unpack(packed)[0])


def _signature(packed: bytes, filters: str, secret: bytes) -> bytes:
    signed = packed + filters.encode(errors="backslashreplace")
    return hmac.digest(secret, signed, hashlib.sha256)[:_SIGNATURE]


class StatusGroup(NamedTuple):
    """Some statuses of runs."""

    statuses: tuple[str, ...]
    # Only runs whose cancellation was, or was not, requested; None: both
    cancelling: bool | None = None

    @property
    def condition(self) -> str:
        """The condition in SQL, with a mark for each status."""
        found = f"status IN ({', '.join('?' * len(self.statuses))})"
        if self.cancelling is None:
            return found
        requested = f"coalesce(json_extract({DETAILS}, '$.cancelling'), 0)"
        return f"({found} AND {'' if self.cancelling else 'NOT '}{requested})"


class KeyOwner(NamedTuple):
    """The run that was started with an idempotency key."""

    prompt_id: str
    deleted: bool


class JobRepository(Repository):
    """Reads and writes the data of jobs besides their runs."""

    @reading
    def page(
        self,
        db: sqlite3.Connection,
        limit: int,
        *,
        before: int | None = None,
        groups: Collection[StatusGroup] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> list[tuple[int, RunRecord]]:
        """Return the newest runs, each with its position in the store.

        Only those that are older than the one at position ``before``, in one of these groups, and
        with all of these labels; no groups mean all.
        """
        condition, values = RunFilter(metadata=metadata).where()
        conditions = [condition]
        if groups:
            conditions.append(f"({' OR '.join(group.condition for group in groups)})")
            values += [status for group in groups for status in group.statuses]
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        rows = db.execute(
            f"SELECT * FROM runs WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - only marks are put in
            (*values, limit),
        )
        return [(row["id"], record_of(row)) for row in rows]

    @reading
    def owner(self, db: sqlite3.Connection, key: str) -> KeyOwner | None:
        """Return the run that has an idempotency key, or None."""
        row = db.execute(
            "SELECT prompt_id, deleted_at FROM job_keys WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else KeyOwner(row["prompt_id"], row["deleted_at"] is not None)

    @writing
    def free(self, db: sqlite3.Connection, prompt_id: str) -> None:
        """Delete the idempotency key of a run, if it has one."""
        db.execute("DELETE FROM job_keys WHERE prompt_id = ?", (prompt_id,))

    @reading
    def secret(self, db: sqlite3.Connection) -> bytes:
        """Return the secret that signs the cursors of this store."""
        row = db.execute("SELECT value FROM job_secret").fetchone()
        return bytes(row[0])


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


ASSET = "core/ASSET"


def asset_ids(workflow: dict[str, Any]) -> list[str]:
    """Return the ids of the assets that a workflow refers to, each once.

    APIError if it is in the editor's format, or a reference has no id.
    """
    if detect_format(workflow, field="workflow") is GraphFormat.UI:
        raise APIError(
            "workflow_format_ui",
            "The workflow is in the editor's format; send the one that Export (API) saves",
        )
    found: dict[str, None] = {}
    for reference in _references(list(workflow.values())):
        info = reference.get("info")
        asset_id = info.get("id") if isinstance(info, dict) else None
        if not isinstance(asset_id, str):
            raise APIError("missing_asset", "A reference to an asset has no info.id")
        found[asset_id] = None
    return list(found)


def with_names(workflow: Any, names: Mapping[str, str]) -> Any:
    """Return the workflow with the name of the file in place of each reference."""
    if isinstance(workflow, list):
        return [with_names(item, names) for item in workflow]
    if not isinstance(workflow, dict):
        return workflow
    if workflow.get("__type") == ASSET:
        return names[workflow["info"]["id"]]
    return {key: with_names(value, names) for key, value in workflow.items()}


def may_have_references(workflow: RawJSON) -> bool:
    """Return whether a large workflow may have references, or may be in the editor's format."""
    return ASSET.encode() in workflow.text or b'"nodes"' in workflow.text


def with_names_as_text(workflow: dict[str, Any], names: Mapping[str, str]) -> bytes:
    """Return what `with_names` returns as JSON, for a worker process."""
    return dumps(with_names(workflow, names)).encode()


def _references(parts: list[Any]) -> Iterator[dict[str, Any]]:
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        elif isinstance(part, dict):
            if part.get("__type") == ASSET:
                yield part
            else:
                parts.extend(part.values())
