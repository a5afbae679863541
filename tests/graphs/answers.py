"""Replies to a prompt: get them from a server, and normalize them for comparison."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from tests.helpers.waiting import until

if TYPE_CHECKING:
    from comfydeploy_jupyter.graphs.validation import Validation

_FOLLOWER = {"traceback", "input_name", "input_config", "linked_node"}


def post_prompt(url: str, prompt: Any) -> dict[str, Any]:
    """Return the reply of a ComfyUI, and leave its queue empty.

    Returns
    -------
    dict
        ``valid``, ``error``, ``node_errors`` without tracebacks; or ``raises`` if the server fails.
    """
    reply = requests.post(f"{url}/prompt", data=json.dumps({"prompt": prompt}), timeout=60)
    if reply.status_code == 500:
        return {"raises": True}
    if reply.ok:
        requests.post(f"{url}/queue", json={"clear": True}, timeout=60).raise_for_status()
        requests.post(f"{url}/interrupt", json={}, timeout=60).raise_for_status()
    answer = json.loads(reply.text, parse_constant=str)
    for entry in answer["node_errors"].values():
        for error in entry["errors"]:
            error["extra_info"].pop("traceback", None)
    return {
        "valid": reply.ok,
        "error": answer.get("error"),
        "node_errors": answer["node_errors"],
    }


def wait_until_idle(url: str) -> None:
    """Wait until a ComfyUI executes no prompt."""
    until(
        lambda: requests.get(f"{url}/queue", timeout=60).json(),
        lambda queue: not queue["queue_running"] and not queue["queue_pending"],
    )


def comparable(valid: bool, error: dict[str, Any] | None, node_errors: dict[str, Any]) -> Any:
    """Return a reply in which all data from ComfyUI's sets is sorted or removed."""
    if error is not None:
        error = {**error, "details": sorted(words(error["details"]).split("\n"))}
    nodes = {}
    for node_id, entry in node_errors.items():
        # an output is also added to bad nodes that were validated before, related or not
        one = len(node_errors) == 1
        dependents = sorted(entry["dependent_outputs"]) if one else bool(entry["dependent_outputs"])
        errors = sorted(_error(error) for error in entry["errors"])
        nodes[node_id] = {**entry, "errors": errors, "dependent_outputs": dependents}
    return valid, error, nodes


def _error(error: dict[str, Any]) -> str:
    extra = dict(error["extra_info"])
    if error["type"].startswith("exception_"):
        # the order also decides which of several dependent nodes reports an exception
        extra = {key: value for key, value in extra.items() if key not in _FOLLOWER}
    return words(json.dumps({**error, "extra_info": extra}, sort_keys=True))


def words(text: str) -> str:
    """Return Python's error message in the form of all versions; some are longer since 3.11."""
    return text.replace("must be integers, not 'str'", "must be integers").replace(
        "the limit (4300 digits)", "the limit (4300)"
    )


def comparable_result(result: Validation) -> Any:
    """Return our own reply in the same form, after conversion to JSON and back."""
    text = json.dumps([result.valid, result.error, result.node_errors])
    return comparable(*json.loads(text, parse_constant=str))
