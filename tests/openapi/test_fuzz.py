"""Thousands of requests, generated from the specification, to a running server.

No reply may be an error of the server, and each must be in the specification.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import THOROUGH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Specified

FOLLOWED = 3  # links at least, of those that there are
CONFIGURATION = Path(__file__).with_name("fuzz.toml")
# Parameters whose examples would send all requests to ComfyDeploy, or change to a WebSocket.
MISLEADING = ("api_url", "X-ComfyDeploy-Token", "Upgrade")
# Parameters that prevent a request from following links: other ids than those of replies,
# ComfyDeploy, and conditions that cause the status 304.
LEFT_OUT = {
    *("prompt_id", "client_id", "gpu_event_id", "machine_id", "machine", "file_path"),
    *("api_url", "target", "X-ComfyDeploy-Token", "If-None-Match", "If-Modified-Since"),
    *("Last-Event-ID", "Range"),
}


def operations(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in specification["paths"].values():
        yield from item.values()


def go_through(
    server: Specified, specification: dict[str, Any], phases: str, folder: Path
) -> tuple[str, dict[str, set[int]]]:
    """Run schemathesis; return its output, and the replies by operation."""
    document, notes = folder / "openapi.json", folder / "notes.jsonl"
    document.write_text(json.dumps(specification))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
            *("run", str(document), "--url", server.url, "--phases", phases),
            *("--header", f"Authorization: token {server.jupyter.token}"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "SCHEMATHESIS_HOOKS": "tests.openapi.hooks",
            "FUZZ_NOTES": str(notes),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = defaultdict(set)
    for line in notes.read_text().splitlines():
        noted = json.loads(line)
        answers[noted["operation"]].add(noted["status"])
    return done.stdout, answers


@pytest.mark.timeout(600)
def test_no_reply_is_a_server_error_or_unspecified(specified: Specified, tmp_path: Path) -> None:
    specification = specified.specification
    for operation in operations(specification):
        for parameter in operation["parameters"]:
            if parameter["name"] in MISLEADING:
                del parameter["example"]
    phases = "examples,coverage,fuzzing" if THOROUGH else "examples"
    _, answers = go_through(specified, specification, phases, tmp_path)
    ours = {o["operationId"] for o in operations(specification) if o["tags"] != ["ComfyUI"]}
    if not THOROUGH:  # not all routes have examples
        assert len(answers) > 0.9 * len(ours)
        return
    assert set(answers) == ours
    # It got further than to the checks of the requests.
    without = {name for name, statuses in answers.items() if not statuses & {200, 201, 202, 204}}
    assert without <= {"openSocket", "getSiteRoot", "getSitePage"}


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_no_request_with_values_of_earlier_replies_gives_a_server_error(
    specified: Specified, tmp_path: Path
) -> None:
    specification = specified.specification
    linked = {
        (link["operationId"], name)
        for operation in operations(specification)
        for reply in operation["responses"].values()
        for link in reply.get("links", {}).values()
        for name in link.get("parameters", {})
    }
    for operation in operations(specification):
        operation["parameters"] = [
            parameter
            for parameter in operation["parameters"]
            if parameter["required"]
            or parameter["name"] not in LEFT_OUT
            or (operation["operationId"], parameter["name"]) in linked
        ]
    for schema in specification["components"]["schemas"].values():
        for name in LEFT_OUT - set(schema.get("required", ())):
            schema.get("properties", {}).pop(name, None)
    said, _ = go_through(specified, specification, "stateful", tmp_path)
    followed = re.search(r"API Links: +(\d+) covered", said)
    assert followed is not None, said
    # test_links follows each one; here it is for what chance makes of them.
    assert int(followed[1]) >= FOLLOWED, said
