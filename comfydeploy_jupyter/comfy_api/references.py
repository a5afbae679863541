"""The references to assets in a workflow: objects that replace the name of a file.

A reference is ``{"__type": "core/ASSET", "info": {"id": …}}``, anywhere in the inputs of a node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graphs.formats import GraphFormat, detect_format
from ..util.json_stream import dumps
from .errors import APIError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..util.unparsed import Unparsed

ASSET = "core/ASSET"


def asset_ids(workflow: dict[str, Any]) -> list[str]:
    """Return the ids of the assets that a workflow refers to, each once."""
    if detect_format(workflow, field="workflow") is GraphFormat.UI:
        raise APIError(
            "workflow_format_ui",
            "The workflow is in the editor's format; send the one that Export (API) saves",
        )
    found: dict[str, None] = {}
    for reference in _references(list(workflow.values())):
        info = reference.get("info")
        asset_id = info.get("id") if isinstance(info, dict) else None
        if not isinstance(asset_id, str):
            raise APIError("missing_asset", "A reference to an asset has no info.id")
        found[asset_id] = None
    return list(found)


def with_names(workflow: Any, names: Mapping[str, str]) -> Any:
    """Return the workflow with the name of the file in place of each reference."""
    if isinstance(workflow, list):
        return [with_names(item, names) for item in workflow]
    if not isinstance(workflow, dict):
        return workflow
    if workflow.get("__type") == ASSET:
        return names[workflow["info"]["id"]]
    return {key: with_names(value, names) for key, value in workflow.items()}


def may_have_references(workflow: Unparsed) -> bool:
    """Return whether a large workflow may have references, or may be in the editor's format."""
    return ASSET.encode() in workflow.text or b'"nodes"' in workflow.text


def with_names_as_text(workflow: dict[str, Any], names: Mapping[str, str]) -> bytes:
    """Return what `with_names` returns as JSON, for a worker process."""
    return dumps(with_names(workflow, names)).encode()


def _references(parts: list[Any]) -> Iterator[dict[str, Any]]:
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        elif isinstance(part, dict):
            if part.get("__type") == ASSET:
                yield part
            else:
                parts.extend(part.values())
