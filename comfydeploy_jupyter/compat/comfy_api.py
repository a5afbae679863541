"""The language of the Comfy API: errors, cursors, references to assets.

A reference is ``{"__type": "core/ASSET", "info": {"id": …}}``, anywhere in the inputs of a node.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, InvalidRequestError
from ..graphs.formats import GraphFormat, detect_format
from ..util.jsons import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..util.jsons import RawJSON

CODES: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "The body is not a JSON object."),
    "unauthorized": (401, "Jupyter's token is missing or wrong."),
    "forbidden": (403, "The user may not do this, or a page of another site sent the request."),
    "not_found": (404, "There is no such job, asset or route."),
    "blob_not_found": (404, "The server has no file with this hash."),
    "output_unavailable": (404, "The file of this asset does not exist any more."),
    "method_not_allowed": (405, "The route does not take this method."),
    "hash_mismatch": (409, "The file that arrived has another hash than `expected_hash`."),
    "conflict": (409, "The request conflicts with the present state."),
    "too_large": (413, "The body or the file is too large."),
    "range_not_satisfiable": (416, "The range is outside the file."),
    "invalid_request": (422, "A field is missing or wrong; `details.field` names it."),
    "invalid_workflow": (422, "ComfyUI refuses the workflow; see `details.node_errors`."),
    "workflow_format_ui": (422, "The workflow is in the editor's format, not in API format."),
    "missing_asset": (422, "The workflow refers to an asset that does not exist."),
    "idempotency_key_reuse": (422, "The Idempotency-Key was used for an earlier request."),
    "metadata_invalid": (422, "The labels of the job are wrong."),
    "invalid_metadata_filter": (422, "The labels to search for are wrong."),
    "invalid_cursor": (422, "The cursor is not one of this list."),
    "internal_error": (500, "An unexpected error, which the log describes under `details.id`."),
    "unsupported_platform": (501, "The server extension does not run on this system."),
    "upstream_unreachable": (503, "ComfyUI does not answer."),
    "store_unavailable": (503, "The store cannot be read or written now."),
    "no_space": (507, "There is no space left on the disk."),
}
"""The codes of the Comfy API with their status and meaning."""

_BY_CODE = {
    "comfyui_unavailable": "upstream_unreachable",
    "prompt_invalid": "invalid_workflow",
    "unknown_input": "invalid_workflow",
    "invalid_input": "invalid_workflow",
    "forbidden_path": "invalid_request",
    "offline": "invalid_request",
    "timeout": "upstream_unreachable",
    "unauthorized": "forbidden",
}
_BY_FIELD = {
    "workflow": "invalid_workflow",
    "workflow_api": "invalid_workflow",
    "inputs": "invalid_workflow",
    "webhook_url": "invalid_workflow",
    "metadata": "metadata_invalid",
    "cursor": "invalid_cursor",
    "expected_hash": "hash_mismatch",
}
_FIELDS = {"workflow_api": "workflow", "type": "file_path", "subfolder": "file_path"}
"""Fields of this package's own routes, and those of the Comfy API that stand for them."""

_OUTSIDE = 416


class APIError(ComfyDeployError):
    """An error in the form of the Comfy API: an object ``error`` with code, message and details."""

    def __init__(self, name: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=details)
        self.name = name
        self.status = CODES[name][0]

    def to_reply(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {
            "error": {"code": self.name, "message": self.sentence, "details": self.details or None}
        }


def api_error(error: ComfyDeployError) -> APIError:
    """Return the error of the Comfy API for an error of this package."""
    if isinstance(error, APIError):
        return error
    name = _BY_CODE.get(error.code, error.code)
    if isinstance(error, InvalidRequestError) or name == "conflict":
        field = str(error.details.get("field")).partition("[")[0]
        name = _BY_FIELD.get(field, "conflict" if name == "conflict" else "invalid_request")
        if error.status == _OUTSIDE:
            name = "range_not_satisfiable"
    if name not in CODES:
        name = "internal_error"
    details = {**error.details, **{k: v for k, v in error.extra.items() if k != "prompt_id"}}
    message, own = error.message, str(error.details.get("field"))
    if own in _FIELDS:
        details["field"] = _FIELDS[own]
        if message.startswith(f"{own}:"):
            message = f"{_FIELDS[own]}{message.removeprefix(own)}"
    return APIError(name, message, details=details)


def cursor_after(position: int, filters: str, secret: bytes) -> str:
    """Return the cursor for the page after a position in the store: it is signed."""
    signed = f"{position}.{filters}".encode(errors="backslashreplace")
    return f"{position}.{hmac.digest(secret, signed, 'sha256').hex()}"


def position_of(cursor: str, filters: str, secret: bytes) -> int:
    """Return the position at which a page begins; APIError if the cursor is not of this list."""
    found = re.match(r"[0-9]{1,19}", cursor)
    expected = cursor_after(int(found[0]), filters, secret) if found else ""
    if not found or not hmac.compare_digest(cursor.encode(errors="replace"), expected.encode()):
        raise APIError("invalid_cursor", "cursor: was not returned by this list with these filters")
    return int(found[0])


NEVER = "9999-12-31T23:59:59Z"
"""The end of something that does not expire; clients need a time."""

ASSET = "core/ASSET"


def asset_ids(workflow: dict[str, Any]) -> list[str]:
    """Return the ids of the assets that a workflow refers to, each once.

    APIError if it is in the editor's format, or a reference has no id.
    """
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


def may_have_references(workflow: RawJSON) -> bool:
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
