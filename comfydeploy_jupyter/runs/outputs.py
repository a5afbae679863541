"""Runs in the forms that clients read, and the end of a run in ComfyUI's history.

The forms are that of this package and that of the ComfyDeploy service, as its SDKs read it: in the
published package comfydeploy 0.7.0 (``WorkflowRunModel``).
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import NotFoundError
from ..util import jsons
from ..util.times import parse_timestamp
from .progress import name_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .progress import NodeName
    from .records import RunRecord
    from .run import Run

_NAMESPACE = uuid.UUID("5f1d0e0e-6f59-4c43-9a0f-3f6d2b1c7a90")
_encoder = json.JSONEncoder(ensure_ascii=False)
# Fields of the reply to ``POST run``
_ALWAYS = (
    *("prompt_id", "number", "status", "node_errors", "error", "seeds", "execution_time"),
    *("cached_nodes", "machine", "created_at", "started_at", "finished_at"),
)
_IF_KNOWN = (
    *("metadata", "pool", "from_editor", "pinned", "starred", "note"),
    *("inputs", "next_seeds", "warnings", "waiting_for"),
)
# Fields of the service for which this package has no values.
_ABSENT = (
    *("workflow_api", "machine_version", "machine_type", "gpu", "gpu_event_id", "webhook"),
    *("modal_function_call_id", "user_id", "org_id"),
    *("cold_start_duration", "cold_start_duration_total"),
)


def with_urls(output: dict[str, Any], view_url: str, machine: str) -> dict[str, Any]:
    """Return one node's output with a ``url`` added to each file in it."""
    return {
        kind: [_linked(item, view_url, machine) for item in items]
        if isinstance(items, list)
        else items
        for kind, items in output.items()
    }


def _linked(item: Any, view_url: str, machine: str) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("filename"), str):
        return item
    subfolder, kind = item.get("subfolder") or "", item.get("type") or "output"
    query = view_query(item["filename"], subfolder, kind, machine)
    return {**item, "url": f"{view_url}?{query}"}


def view_query(filename: str, subfolder: str, kind: str, machine: str) -> str:
    """Return the query of the route ``view`` for an output file."""
    query = {"filename": filename, "subfolder": subfolder, "type": kind}
    if machine != "local":
        query["machine"] = machine
    # JSON strings may contain lone surrogates, which a URL cannot contain.
    return urlencode(query, errors="replace")


def reply(record: RunRecord, view_url: str) -> dict[str, Any]:
    """Return the body of the reply to ``POST run``.

    ``success`` is false if the run has failed or was cancelled.
    """
    values = vars(record)
    outputs = {
        node: with_urls(output, view_url, record.machine) for node, output in record.outputs.items()
    }
    body = {
        "success": record.status not in ("failed", "cancelled"),
        **{name: values[name] for name in _ALWAYS},
        "outputs": outputs,
        "node_times": dict(record.node_times),  # a copy: the original may still be changed
        **{name: values[name] for name in _IF_KNOWN if values[name]},
    }
    if record.batch is not None:
        body["batch_id"], body["point"] = record.batch, record.point
    if record.workflow_id is not None:
        body["workflow_id"], body["version"] = record.workflow_id, record.version
    return body


def unknown_run(prompt_id: str, where: str = "") -> NotFoundError:
    return NotFoundError.of_field(
        "prompt_id", f"there is no run {prompt_id!r}{where}", prompt_id=prompt_id
    )


def as_json(body: dict[str, Any]) -> bytes:
    """Return a body as JSON for the SDK, in valid Unicode.

    The SDK refuses a body with an unpaired surrogate, such as half of an emoji: a question mark
    replaces each of them. Call this in a thread if the body is large.
    """
    return jsons.dumps(body, encoder=_encoder).encode(errors="replace")


def service_run(
    record: RunRecord,
    run: Run | None,
    view_url: str,
    *,
    nodes: Mapping[str, NodeName],
    version_id: str | None,
    webhook_status: str | None,
) -> dict[str, Any]:
    """Return a run in the form of the service."""
    duration = None
    if record.finished_at is not None:
        begun, ended = map(parse_timestamp, (record.created_at, record.finished_at))
        duration = max((ended - begun).total_seconds(), 0.0)
    return {
        **dict.fromkeys(_ABSENT),
        "id": record.prompt_id,
        "workflow_id": record.workflow_id or "",
        "workflow_version_id": version_id,
        "webhook_status": webhook_status,
        "workflow_inputs": record.inputs,
        "machine_id": record.machine,
        "origin": "api",
        "created_at": record.created_at,
        "updated_at": record.finished_at or record.started_at or record.created_at,
        "queued_at": record.created_at,
        "started_at": record.started_at,
        "ended_at": record.finished_at,
        "number": int(record.number or 0),
        "duration": duration,
        "run_duration": record.execution_time,
        "is_realtime": False,
        **service_state(record, run, view_url, nodes),
    }


def service_state(
    record: RunRecord, run: Run | None, view_url: str, nodes: Mapping[str, NodeName]
) -> dict[str, Any]:
    """Return ``status``, ``live_status``, ``progress`` and ``outputs`` of a run."""
    live_status, progress = None, 1.0 if record.finished else 0.0
    if run is not None and record.status in ("running", "uploading"):
        live = run.live()
        live_status, progress = live.get("live_status"), float(live.get("progress") or 0.0)
    return {
        "status": record.status,
        "live_status": live_status,
        "progress": progress,
        "outputs": [
            _output(record, name_in(nodes, node), node, with_urls(output, view_url, record.machine))
            for node, output in record.outputs.items()
        ],
    }


def _output(
    record: RunRecord, name: NodeName | None, node: str, output: dict[str, Any]
) -> dict[str, Any]:
    moment = record.finished_at or record.started_at or record.created_at
    place = f"{record.prompt_id}/{node}".encode(errors="backslashreplace").decode()
    return {
        "id": str(uuid.uuid5(_NAMESPACE, place)),
        "run_id": record.prompt_id,
        "data": {kind: _values(items) for kind, items in output.items()},
        "node_meta": {"node_id": node, "node_class": None if name is None else name.class_type},
        "node_id": node,
        "type": None,
        "created_at": moment,
        "updated_at": moment,
    }


def _values(items: Any) -> list[Any]:
    """Return the values of an output: files, texts and booleans; others as text, null not at all.

    The SDK refuses a whole run with any other value in it.
    """
    values = items if isinstance(items, list) else [items]
    return [_value(value) for value in values if value is not None]


def _value(value: Any) -> Any:
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict) and "url" in value and isinstance(value.get("filename"), str):
        file = {
            "url": value["url"],
            "type": str(value.get("type") or "output"),
            "filename": value["filename"],
        }
        if isinstance(value.get("subfolder"), str):
            file["subfolder"] = value["subfolder"]
        return file
    return json.dumps(value, ensure_ascii=False)
