"""Record the prompts that ComfyUI's editor queues for the workflows in ``ui_to_api.jsonl.gz``.

Run by hand, with two ComfyUI servers whose editors have the versions in the order given, and the
files of workflows to add or replace::

    python -m tests.golden.record_ui_to_api http://127.0.0.1:8301 http://127.0.0.1:8302 new.json

The first is frontend 1.32.9, the second 1.58.1 (``--front-end-root``). The script replaces the node
definitions of the editor by those in ``ui_to_api.object_info.json.gz``, so the servers need no test
nodes. Each line has ``name``, ``ui``, ``api`` (or ``error``) of the first and, where it differs,
``api_new``.
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Route, sync_playwright

HERE = Path(__file__).parent
ROWS = HERE / "ui_to_api.jsonl.gz"
DEFINITIONS = gzip.decompress((HERE / "ui_to_api.object_info.json.gz").read_bytes())
QUEUE = """async (ui) => {
    try {
        await app.loadGraphData(ui, true, false)
        const { output } = await app.graphToPrompt()
        return { api: JSON.parse(JSON.stringify(output)) }
    } catch (error) {
        return { error: error.message }
    }
}"""
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 20"


def record(
    address: str, workflows: dict[str, Any], definitions: bytes | None = DEFINITIONS
) -> dict[str, Any]:
    """Return what the editor queues for workflows; without definitions, with those of ComfyUI."""

    def answer(route: Route) -> None:
        route.fulfill(status=200, body=definitions, content_type="application/json")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox"],
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)
        if definitions is not None:
            page.route("**/api/object_info", answer)
        page.goto(address)
        page.wait_for_function(READY)
        page.wait_for_timeout(2000)
        found = {name: page.evaluate(QUEUE, copy.deepcopy(ui)) for name, ui in workflows.items()}
        browser.close()
    return found


def without_titles(row: dict[str, Any]) -> dict[str, Any]:
    for node in row.get("api", {}).values():
        node.pop("_meta", None)
    return row


def main() -> None:
    rows = map(json.loads, gzip.decompress(ROWS.read_bytes()).splitlines())
    workflows = {row["name"]: row["ui"] for row in rows}
    workflows |= {Path(path).stem: json.loads(Path(path).read_text()) for path in sys.argv[3:]}
    old, new = (record(address, workflows) for address in sys.argv[1:3])
    lines = []
    for name, ui in workflows.items():
        first, second = without_titles(old[name]), without_titles(new[name])
        row = {"name": name, "ui": ui, **first}
        if second != first:
            row |= {f"{key}_new": value for key, value in second.items()}
        lines.append(json.dumps(row))
    ROWS.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main()
