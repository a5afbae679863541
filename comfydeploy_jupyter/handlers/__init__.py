"""The whole API on one page."""

from __future__ import annotations

from .base import NotFound
from .runs import InterruptHandler, RunHandler, RunsHandler, StreamHandler
from .status import (
    CheckStatusHandler,
    CheckWSStatusHandler,
    ComfyUILogHandler,
    ComfyUIVersionHandler,
    ObjectInfoHandler,
)
from .transfers import (
    CancelUploadsHandler,
    SendFileHandler,
    UploadPartHandler,
    UploadQueueStatusHandler,
    VolumeModelHandler,
)
from .view import ViewHandler
from .ws import EventSocket

PREFIX = "comfyui-deploy"

ROUTES = (
    # Workflow execution
    (f"{PREFIX}/run", RunHandler),
    (f"{PREFIX}/run/streaming", StreamHandler),
    (f"{PREFIX}/interrupt", InterruptHandler),
    (f"{PREFIX}/runs", RunsHandler),
    (f"{PREFIX}/view", ViewHandler),
    # Models and files
    (f"{PREFIX}/upload-file", SendFileHandler),
    (f"{PREFIX}/upload-queue-status", UploadQueueStatusHandler),
    (f"{PREFIX}/cancel-uploads", CancelUploadsHandler),
    (f"{PREFIX}/volume/model", VolumeModelHandler),
    (f"{PREFIX}/volume/file/upload-part-from-path", UploadPartHandler),
    # WebSocket and status
    (f"{PREFIX}/ws", EventSocket),
    (f"{PREFIX}/check-status", CheckStatusHandler),
    (f"{PREFIX}/check-ws-status", CheckWSStatusHandler),
    # Miscellaneous
    (f"{PREFIX}/comfyui-version", ComfyUIVersionHandler),
    (f"{PREFIX}/comfyui/log", ComfyUILogHandler),
    (f"{PREFIX}/object_info", ObjectInfoHandler),
    # Whatever else is asked for under our prefix; the last one
    (rf"{PREFIX}(?:/.*)?", NotFound),
)

__all__ = ["PREFIX", "ROUTES"]
