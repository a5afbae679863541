"""Make the bundled definitions of ComfyUI's core nodes from a running ComfyUI without custom nodes.

    python scripts/bundle_definitions.py http://127.0.0.1:8188

Kept are the facts that graphs are read with: names, types, defaults, ranges, choices. Left out are
texts for people (descriptions, tooltips) and whatever lists the files of that machine.
"""

from __future__ import annotations

import gzip
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "comfydeploy_jupyter/comfyui/core_nodes.json.gz"
TEXTS = {"description", "tooltip", "output_tooltips", "documentation", "deprecated_reason"}


def without_texts(value: Any) -> Any:
    """Return the value without texts for people, at every depth."""
    if isinstance(value, dict):
        return {k: without_texts(v) for k, v in value.items() if k not in TEXTS}
    if isinstance(value, list):
        return [without_texts(item) for item in value]
    return value


def ask(url: str) -> Any:
    """Return the JSON at a URL."""
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def main(url: str) -> None:
    """Write the bundle."""
    version = ask(f"{url}/system_stats")["system"]["comfyui_version"]
    object_info = {
        name: without_texts(entry)
        for name, entry in sorted(ask(f"{url}/object_info").items())
        if not entry["python_module"].startswith("custom_nodes.")
    }
    kept = {"comfyui_version": version, "object_info": object_info}
    TARGET.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), 9, mtime=0))
    print(f"{len(object_info)} nodes of ComfyUI {version}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
