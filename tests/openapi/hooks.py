"""Hooks of schemathesis besides the specification; loaded into its process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis


def _operation(case: Any) -> str:
    return str(case.operation.definition.raw.get("operationId"))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave out what ends the ComfyUI under test or starts another: that has other tests."""
    body, operation = case.body, _operation(case)
    if not isinstance(body, dict):
        return
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


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Record requests and replies for the test."""
    noted = {"operation": _operation(case), "status": response.status_code}
    with Path(os.environ["FUZZ_NOTES"]).open("a") as notes:
        notes.write(json.dumps(noted) + "\n")
