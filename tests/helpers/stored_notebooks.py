"""Prepares executed notebooks for storage: with outputs, without data of the machine or time."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from collections.abc import Mapping

VIEW = "application/vnd.jupyter.widget-view+json"
HEX = r"[0-9a-f]"
UUID = re.compile(rf"\b{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}\b")
UUID_FORM = "00000000-0000-4000-8000-{:012d}"
RECORD = re.compile(rf"comfydeploy-record-{HEX}{{32}}")


def digest(notebook: Any) -> str:
    sources = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def cleaned(notebook: Any, names: Mapping[str, str]) -> Any:
    """Return an executed notebook in its stored form.

    Widgets are removed: without their kernel they are an empty box, and the plain text of the
    panels has the same content. Ids are numbered, so that stored notebooks change little.
    """
    stored = copy.deepcopy(notebook)
    stored.metadata.pop("widgets", None)
    stored.metadata["comfydeploy"] = {"sources": digest(notebook)}
    for cell in stored.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined(o for o in cell.outputs if VIEW not in o.get("data", {}))
            for output in cell.outputs:
                output.pop("transient", None)
                if "image/png" in output.get("data", {}):  # Pillow provides both
                    output.data.pop("image/jpeg", None)
    text = json.dumps([cell.get("outputs") for cell in stored.cells])
    for name, public in names.items():
        text = text.replace(json.dumps(name)[1:-1], public)
    known: dict[str, str] = {}
    for pattern, form in ((RECORD, "comfydeploy-record-{}"), (UUID, UUID_FORM)):
        for number, found in enumerate(dict.fromkeys(pattern.findall(text)), 1):
            known[found] = form.format(number)
    for found, number in known.items():
        text = text.replace(found, number)
    for cell, outputs in zip(stored.cells, json.loads(text), strict=True):
        if outputs is not None:
            cell.outputs = outputs
    return nbformat.from_dict(stored)


def _joined(outputs: Any) -> list[Any]:
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last["text"] += output.text
        else:
            joined.append(output)
    return joined
