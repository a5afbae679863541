"""The end of a run as ComfyUI's history tells it."""

from __future__ import annotations

from typing import Any

from ..comfyui.memory import is_out_of_memory, with_advice
from ..graphs.dependencies import sources_of
from ..graphs.formats import START, class_of, inputs_of, mapping, without_added
from ..graphs.loops import loop_bodies
from ..util.times import timestamp_of
from .loops import outputs_of_nodes
from .records import RunRecord

# ComfyUI 0.38 accepts a prompt of which only some outputs belong to a loop that is not whole. It
# then prepares none of its loops, and says so by the key that it misses.
BROKEN_LOOP = (
    "ComfyUI cannot execute this loop, because another loop of the workflow is not whole; validate"
    " the workflow to see which one"
)
TOO_LARGE = (
    "ComfyUI's outputs are too large to be stored: the files are in ComfyUI's output folder, and"
    " texts are missing"
)
MAX_TRACEBACK = 20_000  # characters of a traceback that are kept
_LAST_STAMP = 1e13  # milliseconds since the epoch; later times are treated as invalid


def read_history(record: RunRecord, entry: dict[str, Any]) -> None:
    """Fill in the end of a record from ComfyUI's history."""
    status = entry.get("status") or {}
    messages = _messages(status)
    outputs = entry.get("outputs")
    if isinstance(outputs, dict):
        record.outputs = outputs_of_nodes(outputs, mapping(entry.get("meta")))
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
        if record.error.get("node_type") == START:
            record.error |= _failed_in_loop(entry, messages)
    _read_times(record, messages)


def _messages(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    messages: dict[str, dict[str, Any]] = {}
    entries = status.get("messages")
    for message in entries if isinstance(entries, list) else ():
        if isinstance(message, (list, tuple)) and len(message) == 2:
            name, data = message
            if isinstance(name, str) and isinstance(data, dict):
                messages[name] = data
    return messages


def _failed_in_loop(entry: dict[str, Any], messages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return id and class of the node that failed in a loop, by the values that it got.

    A history names only the node that starts the loop. Empty if several nodes may be meant, or if
    the entry has no graph.
    """
    names = {*mapping(messages.get("execution_error", {}).get("current_inputs"))}
    prompt = entry.get("prompt")
    graph = mapping(prompt[2] if isinstance(prompt, list) and len(prompt) > 2 else None)
    nodes = {key: without_added(node) for key, node in graph.items() if isinstance(node, dict)}
    classes = {node_id: class_of(node) for node_id, node in nodes.items()}
    looped = loop_bodies(classes, sources_of(nodes)) if names else ()
    found = [node_id for node_id in looped if {*inputs_of(nodes[node_id])} == names]
    return {"node_id": found[0], "node_type": classes[found[0]]} if len(found) == 1 else {}


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
    if (kind, message) == ("KeyError", "'_loop_body'"):
        message = BROKEN_LOOP
    error = {
        "type": kind,
        "message": message,
        "node_id": data.get("node_id"),
        "node_type": data.get("node_type"),
    }
    lines = data.get("traceback")
    if isinstance(lines, list) and lines:
        text = "".join(line if isinstance(line, str) else "" for line in lines)
        error["traceback"] = text[-MAX_TRACEBACK:]
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
