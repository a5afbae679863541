"""Make the bundled definitions of ComfyUI's core nodes from a running ComfyUI without custom nodes.

    python scripts/bundle_definitions.py http://127.0.0.1:8188

The bundle contains the data with which graphs are read: names, types, defaults, ranges, choices. It
does not contain texts for people (descriptions, tooltips, prices) or custom nodes. Use a ComfyUI
whose base directory is empty, so that no files of that machine are among the choices. The node
replacements of this version are compared with those in ``graphs/versions.py``.
"""

from __future__ import annotations

import gzip
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from comfydeploy_jupyter.graphs.versions import BUNDLED

TARGET = Path(__file__).resolve().parent.parent / "comfydeploy_jupyter/comfyui/core_nodes.json.gz"
TEXTS = {
    *("description", "tooltip", "output_tooltips", "documentation", "deprecated_reason"),
    *("price_badge", "search_aliases", "essentials_category"),
}
SECTIONS = {"required", "optional", "hidden"}


def without_texts(value: Any, *, named: bool = False) -> Any:
    """Return the value without texts for people, at every depth.

    If the keys are names of inputs (``named``), all keys are kept.
    """
    if isinstance(value, dict):
        return {
            key: without_texts(inner, named=key in SECTIONS)
            for key, inner in value.items()
            if named or key not in TEXTS
        }
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
    replacements = ask(f"{url}/node_replacements")
    for old, rows in replacements.items():
        replacements[old] = [
            {
                key: row[key]
                for key in ("new_node_id", "input_mapping", "output_mapping")
                if row[key]
            }
            for row in rows
        ]
    if replacements != BUNDLED:
        sys.exit(f"graphs/versions.py differs from what this ComfyUI replaces: {replacements}")
    kept = {"comfyui_version": version, "object_info": object_info}
    TARGET.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), 9, mtime=0))
    print(f"{len(object_info)} nodes of ComfyUI {version}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
