"""The outputs and the end of a run in its reply."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ..comfyui.out_of_memory import is_out_of_memory, with_advice
from ..errors import NotFoundError
from ..util.timestamps import timestamp_of
from .records import RunRecord

TOO_LARGE = (
    "ComfyUI's outputs are too large to be stored: the files are in ComfyUI's output folder, and"
    " texts are missing"
)
LONGEST_TRACEBACK = 20_000
"""How many characters of a traceback are kept."""

_LAST_STAMP = 1e13  # milliseconds since the epoch; later times are treated as invalid


def with_urls(output: dict[str, Any], view_url: str, machine: str) -> dict[str, Any]:
    """Return one node's output with a ``url`` added to each file in it.

    Parameters
    ----------
    output : dict
        Lists of items by kind, e.g. ``{"images": [{"filename", "subfolder", "type"}]}``, in the
        format of ComfyUI. Items that are not files are not changed.
    view_url : str
        Address of this package's ``view`` route.
    machine : str
        Id of the machine that has the files.
    """
    return {
        kind: [_linked(item, view_url, machine) for item in items]
        if isinstance(items, list)
        else items
        for kind, items in output.items()
    }


def _linked(item: Any, view_url: str, machine: str) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("filename"), str):
        return item
    query = {
        "filename": item["filename"],
        "subfolder": item.get("subfolder") or "",
        "type": item.get("type") or "output",
    }
    if machine != "local":
        query["machine"] = machine
    # JSON strings may contain lone surrogates, which a URL cannot contain.
    return {**item, "url": f"{view_url}?{urlencode(query, errors='replace')}"}


def reply(record: RunRecord, view_url: str) -> dict[str, Any]:
    """Return the body of the reply to ``POST run``.

    ``success`` is false if the run has failed or was cancelled.
    """
    body: dict[str, Any] = {
        "success": record.status not in ("failed", "cancelled"),
        "prompt_id": record.prompt_id,
        "number": record.number,
        "status": record.status,
        "node_errors": record.node_errors,
        "outputs": {
            node: with_urls(output, view_url, record.machine)
            for node, output in record.outputs.items()
        },
        "error": record.error,
        "seeds": record.seeds,
        "execution_time": record.execution_time,
        "cached_nodes": record.cached_nodes,
        "node_times": dict(record.node_times),  # a copy: the original may still be changed
        "machine": record.machine,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }
    if record.metadata:
        body["metadata"] = record.metadata
    if record.pool is not None:
        body["pool"] = record.pool
    if record.from_editor:
        body["from_editor"] = True
    if record.pinned:
        body["pinned"] = True
    if record.inputs:
        body["inputs"] = record.inputs
    if record.next_seeds:
        body["next_seeds"] = record.next_seeds
    if record.workflow_id is not None:
        body["workflow_id"], body["version"] = record.workflow_id, record.version
    if record.warnings:
        body["warnings"] = record.warnings
    return body


def read_history(record: RunRecord, entry: dict[str, Any]) -> None:
    """Fill in the end of a record from ComfyUI's history.

    Parameters
    ----------
    record : RunRecord
        The record; its status, error, outputs, cached nodes and missing times are set.
    entry : dict
        ``outputs`` and ``status`` in the format of ComfyUI's ``GET /history/{prompt_id}``. If
        ``outputs`` is missing, the record keeps the outputs from events and gets a note of it.
    """
    status = entry.get("status") or {}
    messages: dict[str, dict[str, Any]] = {}
    entries = status.get("messages")
    for message in entries if isinstance(entries, list) else ():
        if isinstance(message, (list, tuple)) and len(message) == 2:
            name, data = message
            if isinstance(name, str) and isinstance(data, dict):
                messages[name] = data
    outputs = entry.get("outputs")
    if isinstance(outputs, dict):
        record.outputs = {
            str(node): output for node, output in outputs.items() if isinstance(output, dict)
        }
    elif "outputs" not in entry:
        record.warnings = [*record.warnings, TOO_LARGE]
    cached = messages.get("execution_cached", {}).get("nodes")
    if isinstance(cached, list):
        record.cached_nodes = [str(node) for node in cached]
    if status.get("status_str") == "success":
        record.status, record.error = "success", None
    elif "execution_interrupted" in messages:
        record.status, record.error = "cancelled", None
    else:
        record.status = "failed"
        record.error = node_error(messages.get("execution_error", {}))
    _read_times(record, messages)


def has_failed(entry: dict[str, Any]) -> bool:
    """Return whether a run failed, according to ComfyUI's history; not if it was interrupted."""
    found = RunRecord("", "", "", "")
    read_history(found, entry)
    return found.status == "failed"


def node_error(data: dict[str, Any]) -> dict[str, Any]:
    """Return ComfyUI's ``execution_error`` as ``{"type", "message", "node_id", "node_type"}``.

    With ``traceback`` if ComfyUI sends one: its last lines, as text.
    """
    kind = data.get("exception_type") or "UnknownError"
    message = str(data.get("exception_message") or "ComfyUI gave no reason").strip()
    if is_out_of_memory(str(kind), message):
        message = with_advice(message)
    error = {
        "type": kind,
        "message": message,
        "node_id": data.get("node_id"),
        "node_type": data.get("node_type"),
    }
    lines = data.get("traceback")
    if isinstance(lines, list) and lines:
        text = "".join(line if isinstance(line, str) else "" for line in lines)
        error["traceback"] = text[-LONGEST_TRACEBACK:]
    return error


def _read_times(record: RunRecord, messages: dict[str, dict[str, Any]]) -> None:
    """Set the missing times of a record from the milliseconds in each message."""
    stamps = [
        data["timestamp"]
        for data in messages.values()
        if isinstance(data.get("timestamp"), (int, float)) and 0 < data["timestamp"] < _LAST_STAMP
    ]
    if not stamps:
        return
    record.started_at = record.started_at or timestamp_of(min(stamps) / 1000)
    record.finished_at = record.finished_at or timestamp_of(max(stamps) / 1000)
    if record.execution_time is None:
        record.execution_time = round((max(stamps) - min(stamps)) / 1000, 3)


def unknown_run(prompt_id: str, where: str = "") -> NotFoundError:
    """Return the error for an unknown run; ``where`` is the end of the message, if given."""
    return NotFoundError(
        f"prompt_id: there is no run {prompt_id!r}{where}",
        details={"field": "prompt_id", "prompt_id": prompt_id},
    )
