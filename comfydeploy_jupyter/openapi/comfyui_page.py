"""ComfyUI's own page with all its routes."""

from __future__ import annotations

from ..errors import ComfyUIUnavailableError, NotFoundError
from .operation import BINARY, HANDSHAKE, OPEN, Content, Operation, Reply


def _page(method: str) -> Operation:
    content = Content("*/*", BINARY)
    return Operation(
        method=method,
        path="/comfyui/{tail}",
        id=f"{method}ComfyUIPage",
        tag="ComfyUI",
        summary="ComfyUI's own page with all its routes, through a proxy",
        text="The tail may have any number of parts. Needs `execute`.",
        bodies=(content,) if method in ("post", "put", "patch", "delete") else (),
        replies=(Reply("The response of ComfyUI, with its status.", (content,), "default"),),
        errors=(NotFoundError, ComfyUIUnavailableError),
    )


OPERATIONS = (
    *map(_page, ("get", "head", "post", "put", "patch", "delete")),
    Operation(
        method="get",
        path="/comfyui/ws",
        id="openComfyUISocket",
        tag="ComfyUI",
        summary="ComfyUI's own WebSocket, through a proxy",
        text="Needs `execute`.",
        headers=HANDSHAKE,
        replies=OPEN,
        errors=(NotFoundError, ComfyUIUnavailableError),
    ),
)
