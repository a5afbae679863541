"""Hooks of schemathesis besides the specification; loaded into its process."""

from __future__ import annotations

import json
import os
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import schemathesis

ADDED = {"action": "add", "source": "local", "path": "input/a.png", "folder": "checkpoints"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Prevent harmful requests, and let those that begin a chain succeed."""
    body = case.body
    if isinstance(body, dict):
        _keep_from_harm(_operation(case), body)
        if _phase(case) == "stateful":
            _make_good(case, body)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Record requests and replies for the test."""
    noted = {
        "operation": _operation(case),
        "status": response.status_code,
    }
    with Path(os.environ["FUZZ_NOTES"]).open("a") as notes:
        notes.write(json.dumps(noted) + "\n")


def _stamp(body: dict[str, Any]) -> int:
    """Return a number that is the same for the same body."""
    return zlib.crc32(repr(body).encode())


def _operation(case: Any) -> str:
    return str(case.operation.definition.raw.get("operationId"))


def _phase(case: Any) -> str | None:
    return None if case.meta is None else str(case.meta.phase.name.value)


def _keep_from_harm(operation: str, body: dict[str, Any]) -> None:
    """Remove requests that end the ComfyUI under test or start another: they have other tests."""
    if operation == "updateMachine":
        # A new address for the machine that all other requests need.
        body.pop("comfyui_url", None)
        body.pop("restart", None)
    elif operation == "createMachine" and body.get("kind") == "managed":
        body["kind"] = "comfyui"
    elif operation == "setComfyAccount" and {"email", "password"} <= body.keys():
        del body["email"], body["password"]  # a sign-in needs the internet
        body.setdefault("api_key", "comfyui-key")
    elif operation == "snapshotToDocker":
        body.pop("build", None)


def _make_good(case: Any, body: dict[str, Any]) -> None:
    """Insert the example where random values would not lead to a next request."""
    operation = _operation(case)
    content = case.operation.definition.raw["requestBody"]["content"]
    good = content.get("application/json", {}).get("example", {})
    if operation == "run" and body.get("workflow_id") is not None:
        given = {name: body[name] for name in ("workflow_id", "version") if name in body}
    elif operation == "saveVersion":
        given = {**good, "workflow_id": body.get("workflow_id")}
    elif operation == "createMachine":
        given = {**good, "name": f"studio {_stamp(body)}"}
    elif operation == "changeModels":
        given = {**ADDED, "filename": f"{_stamp(body)}.safetensors"}
    elif operation == "startTunnel":
        given = {"target": body.get("target") or "comfyui"}
    elif operation == "uploadFile" and "file" in body:
        given = {"file": body["file"], "type": "input"}
    elif operation in ("run", "saveWorkflow", "createJob"):
        given = good
    else:
        return
    case.body = deepcopy(given)
