"""The errors of the Comfy API, and their counterparts among the errors of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError, InvalidRequestError

if TYPE_CHECKING:
    from ..errors import NotFoundError

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


def unknown_machine(error: NotFoundError) -> APIError:
    """Return the error for a request that names a machine that does not exist."""
    return APIError("invalid_request", error.message, details=error.details)


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
