"""Record the replies of real ComfyUI servers to the prompts in tests/golden.

Usage::

    python scripts/record_validation.py --base DIR [--add PROMPTS.json] URL [URL ...]

for servers that run on the base directory DIR; the files that the prompts name are created there.
PROMPTS.json has further prompts by their names. The replies of ComfyUI 0.3.75 are stored as
``validate``, those of a later version as ``validate_today``. Use several servers with different
values of ``PYTHONHASHSEED`` to find replies that depend on the order of a set: prompts with
different replies are left out. Valid prompts are queued by this script, and removed from the queue
at once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[1]))

from comfydeploy_jupyter.graphs.versions import BUNDLED
from tests.graphs.validation_prompts import comparable, make_files, post_prompt
from tests.helpers.graphs import GOLDEN, recorded


def record(urls: list[str], prompts: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the recorded replies and the definitions that belong to them."""
    object_info = requests.get(f"{urls[0]}/object_info", timeout=60).json()
    used = {row["new_node_id"] for rows in BUNDLED.values() for row in rows}
    lines = []
    for name, prompt in prompts.items():
        answers = [post_prompt(url, prompt) for url in urls]
        if any(answer.keys() != answers[0].keys() for answer in answers) or (
            "node_errors" in answers[0]
            and any(comparable(**answer) != comparable(**answers[0]) for answer in answers)
        ):
            print(f"left out: {name}")
            continue
        lines.append({"name": name, "prompt": prompt, **answers[0]})
        for node in prompt.values() if isinstance(prompt, dict) else ():
            class_type = node.get("class_type") if isinstance(node, dict) else None
            used.update([class_type] if isinstance(class_type, str) else [])
    return lines, {name: object_info[name] for name in object_info if name in used}


def write(path: Path, data: str) -> None:
    """Write a gzip file without a time stamp, which depends only on its contents."""
    path.write_bytes(gzip.compress(data.encode(), 9, mtime=0))


def main() -> None:
    """Parse the command line and record the replies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="base directory of the servers")
    parser.add_argument("--add", type=Path, help="a JSON file of further prompts by name")
    parser.add_argument("urls", nargs="+", metavar="URL")
    arguments = parser.parse_args()
    make_files(arguments.base)
    stats = requests.get(f"{arguments.urls[0]}/system_stats", timeout=60).json()
    earlier = stats["system"]["comfyui_version"] == "0.3.75"
    name = "validate" if earlier else "validate_today"
    prompts = {line["name"]: line["prompt"] for line in recorded(f"{name}.jsonl.gz")}
    prompts |= json.loads(arguments.add.read_text()) if arguments.add else {}
    lines, definitions = record(arguments.urls, prompts)
    write(GOLDEN / f"{name}.jsonl.gz", "".join(json.dumps(line) + "\n" for line in lines))
    write(GOLDEN / f"{name}.object_info.json.gz", json.dumps(definitions))
    print(f"{len(lines)} answers, {len(definitions)} classes")


if __name__ == "__main__":
    main()
