"""The model of errors, and the errors that each route can return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import (
    CloudError,
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    DockerFailedError,
    DockerUnavailableError,
    ForbiddenAPIURLError,
    ForbiddenPathError,
    InvalidInputError,
    InvalidJSONError,
    InvalidRequestError,
    NoAPIKeyError,
    NoSpaceError,
    NotFoundError,
    OfflineError,
    PromptInvalidError,
    RunTimeoutError,
    StoreUnavailableError,
    TooLargeError,
    TunnelFailedError,
    UnauthorizedError,
    UnknownInputError,
    UnsupportedPlatformError,
)
from ..schemas.examples import RUN_ID
from .operation import OpenReplyModel

if TYPE_CHECKING:
    from .operation import Operation

_EVERYWHERE = (
    InvalidRequestError,
    UnauthorizedError,
    StoreUnavailableError,
    NoSpaceError,
    UnsupportedPlatformError,
)
_WITH_BODY = (InvalidJSONError, TooLargeError)

EXAMPLES: tuple[ComfyDeployError, ...] = (
    InvalidJSONError("The body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    InvalidRequestError.of_field("timeout", "Input should be greater than 0"),
    UnknownInputError(
        "inputs.Sky.colour: no input of the workflow has this name; did you mean Sky.color?",
        details={"field": "inputs.Sky.colour", "unknown": {"Sky.colour": ["Sky.color"]}},
    ),
    InvalidInputError(
        "inputs.KSampler.steps: must be at most 10000, not 20000",
        details={
            "field": "inputs.3.steps",
            "invalid": {"3.steps": "must be at most 10000, not 20000"},
        },
    ),
    PromptInvalidError(
        "Prompt has no outputs",
        details={
            "type": "prompt_no_outputs",
            "message": "Prompt has no outputs",
            "details": "",
            "extra_info": {},
        },
        extra={"node_errors": {}},
    ),
    NoAPIKeyError("No ComfyDeploy API key is known: sign in, or send one"),
    UnauthorizedError("Jupyter's token or login is needed for this"),
    ForbiddenPathError(
        "filename: is outside the folders that may be read", details={"field": "filename"}
    ),
    OfflineError(
        "a.safetensors is not fetched: the setting `offline` forbids that",
        details={"setting": "offline"},
        extra={"hint": "Set c.ComfyDeploy.offline = False, or unset COMFYDEPLOY_OFFLINE."},
    ),
    ForbiddenAPIURLError(
        "api_url: https://example.com is not on allowed_api_urls", details={"field": "api_url"}
    ),
    NotFoundError(
        f"prompt_id: there is no run {RUN_ID!r}",
        details={"field": "prompt_id", "prompt_id": RUN_ID},
    ),
    ConflictError("No run executes on machine 'local'"),
    TooLargeError(
        "The body has 70000000 bytes, the limit is 67108864",
        details={"size": 70000000, "limit": 67108864},
    ),
    UnsupportedPlatformError(
        "The server extension of ComfyUI needs Linux or macOS and does not run on Windows"
    ),
    CloudError("ComfyDeploy at api.comfydeploy.com cannot be reached: Connection refused"),
    TunnelFailedError(
        "There is no cloudflared on this machine", details={"reason": "no_binary", "log": []}
    ),
    DockerFailedError("The image could not be built", details={"log": ["ERROR: exit code 1"]}),
    ComfyUIUnavailableError(
        "No ComfyUI answers at http://127.0.0.1:8188",
        extra={"hint": "Start it, or set comfyui_path so that this server starts it."},
    ),
    DockerUnavailableError("No Docker engine answers", extra={"path": "/home/ada/studio"}),
    StoreUnavailableError(
        "Another process has locked the store /home/ada/comfydeploy.db",
        details={"reason": "locked", "path": "/home/ada/comfydeploy.db"},
        extra={"hint": "Try again; if the error remains, end the process that has the file open."},
    ),
    RunTimeoutError("The run has not ended in time; it continues", extra={"prompt_id": RUN_ID}),
    NoSpaceError("There is no space left on the disk for the snapshot studio"),
    ComfyDeployError("The snapshot was not finished because the server is stopping"),
)


class ErrorReply(OpenReplyModel):
    """Every error. Some codes have further keys, such as ``hint`` or ``prompt_id``.

    Errors of ``volume/…`` also have the message as ``detail``.
    """

    success: Literal[False]
    error: str
    code: str
    message: str
    details: dict[str, Any]


def errors_of(operation: Operation) -> dict[str, list[type[ComfyDeployError]]]:
    """Return the errors that an operation can return, by their HTTP status.

    ``4XX`` stands for the status of ComfyDeploy, if the route returns this status.
    """
    kinds = [*_EVERYWHERE, *(_WITH_BODY if operation.bodies else ()), *operation.errors]
    found: dict[str, list[type[ComfyDeployError]]] = {}
    for kind in dict.fromkeys(kinds):
        found.setdefault(str(kind.status), []).append(kind)
    for status, kind in operation.errors_by_status:
        found.setdefault(str(status), []).append(kind)
    replies_of_others = any(reply.status == "default" for reply in operation.replies)
    if CloudError in kinds and not replies_of_others:
        found.setdefault("4XX", [])
        for code, known in found.items():
            if code.startswith("4"):
                known.append(CloudError)
    return dict(sorted(found.items()))


def sentence(kind: type[ComfyDeployError]) -> str:
    """Return the first line of the docstring of an error."""
    return (kind.__doc__ or "").partition("\n")[0].replace("``", "`")
