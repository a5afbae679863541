"""The whole API on one page."""

from __future__ import annotations

from .base import NotFound
from .cloud import (
    VOLUME_STEPS,
    AuthResponseHandler,
    ComfyAccountHandler,
    SiteHandler,
    VolumeFileHandler,
)
from .comfy_api import ROUTES as COMFY_API
from .comfyui_page import PAGE, PageHandler
from .comfyui_socket import PageSocket
from .deployments import DeploymentCancelHandler, DeploymentQueueHandler, DeploymentRunHandler
from .files import (
    FileHashHandler,
    FilenameListHandler,
    ModelsHandler,
    ModelUsesHandler,
    StatHandler,
    UploadFileHandler,
)
from .graphs import ConvertHandler, FetchModelsHandler, SchemaHandler, ValidateHandler
from .machines import (
    FreeHandler,
    MachineCreateHandler,
    MachineDeleteHandler,
    MachineHandler,
    MachinesHandler,
    MachineUpdateHandler,
)
from .openapi import OpenAPIHandler
from .runs import (
    InterruptHandler,
    RunHandler,
    RunsDeleteHandler,
    RunsHandler,
    RunsUpdateHandler,
    StreamHandler,
)
from .snapshots import SnapshotHandler
from .status import (
    CheckStatusHandler,
    CheckWSStatusHandler,
    ComfyUILogHandler,
    ComfyUIVersionHandler,
    ObjectInfoHandler,
)
from .transfers import (
    CancelUploadsHandler,
    RetryUploadsHandler,
    UploadPartHandler,
    UploadQueueStatusHandler,
    VolumeModelHandler,
)
from .tunnel import TunnelStartHandler, TunnelStatusHandler, TunnelStopHandler
from .view import ViewHandler
from .workflows import (
    EditorWorkflowHandler,
    EditorWorkflowsHandler,
    PresetDeleteHandler,
    PresetHandler,
    PresetsHandler,
    VersionHandler,
    VersionsHandler,
    WorkflowDeleteHandler,
    WorkflowEditHandler,
    WorkflowHandler,
    WorkflowRestoreHandler,
    WorkflowsHandler,
    WorkflowUpdateHandler,
)
from .ws import EventSocket

PREFIX = "comfyui-deploy"

ROUTES = (
    # Tunnel management; the first one without prefix, as in the ComfyUI node
    ("tunnel/status", TunnelStatusHandler),
    (f"{PREFIX}/tunnel/status", TunnelStatusHandler),
    (f"{PREFIX}/tunnel/start", TunnelStartHandler),
    (f"{PREFIX}/tunnel/stop", TunnelStopHandler),
    # Workflow execution
    (f"{PREFIX}/run", RunHandler),
    (f"{PREFIX}/run/streaming", StreamHandler),
    (f"{PREFIX}/run/deployment/queue", DeploymentQueueHandler),
    (f"{PREFIX}/run/([^/]+)/cancel", DeploymentCancelHandler),
    (f"{PREFIX}/run/([^/]+)", DeploymentRunHandler),
    (f"{PREFIX}/interrupt", InterruptHandler),
    (f"{PREFIX}/runs", RunsHandler),
    (f"{PREFIX}/runs/update", RunsUpdateHandler),
    (f"{PREFIX}/runs/delete", RunsDeleteHandler),
    (f"{PREFIX}/view", ViewHandler),
    # Models and files
    (f"{PREFIX}/models", ModelsHandler),
    (f"{PREFIX}/models/uses", ModelUsesHandler),
    (f"{PREFIX}/filename_list_cache", FilenameListHandler),
    (f"{PREFIX}/get-file-hash", FileHashHandler),
    (f"{PREFIX}/upload-file", UploadFileHandler),
    (f"{PREFIX}/upload-queue-status", UploadQueueStatusHandler),
    (f"{PREFIX}/cancel-uploads", CancelUploadsHandler),
    (f"{PREFIX}/retry-uploads", RetryUploadsHandler),
    (f"{PREFIX}/volume/model", VolumeModelHandler),
    (f"{PREFIX}/volume/file/upload-part-from-path", UploadPartHandler),
    *((f"{PREFIX}/volume/file/{step}", VolumeFileHandler) for step in VOLUME_STEPS),
    (f"{PREFIX}/fs/stat", StatHandler),
    # Workflows
    (f"{PREFIX}/workflow/convert", ConvertHandler),
    (f"{PREFIX}/workflow/validate", ValidateHandler),
    (f"{PREFIX}/workflow/fetch-models", FetchModelsHandler),
    (f"{PREFIX}/workflow/schema", SchemaHandler),
    # WebSocket and status
    (f"{PREFIX}/ws", EventSocket),
    (f"{PREFIX}/check-status", CheckStatusHandler),
    (f"{PREFIX}/check-ws-status", CheckWSStatusHandler),
    # Workflow management
    (f"{PREFIX}/workflow", WorkflowHandler),
    (f"{PREFIX}/workflows", WorkflowsHandler),
    (f"{PREFIX}/workflow/version", VersionHandler),
    (f"{PREFIX}/workflow/versions", VersionsHandler),
    (f"{PREFIX}/workflow/update", WorkflowUpdateHandler),
    (f"{PREFIX}/workflow/delete", WorkflowDeleteHandler),
    (f"{PREFIX}/workflow/restore", WorkflowRestoreHandler),
    (f"{PREFIX}/workflow/edit", WorkflowEditHandler),
    (f"{PREFIX}/editor/workflows", EditorWorkflowsHandler),
    (f"{PREFIX}/editor/workflow", EditorWorkflowHandler),
    (f"{PREFIX}/workflow/presets", PresetsHandler),
    (f"{PREFIX}/workflow/preset", PresetHandler),
    (f"{PREFIX}/workflow/preset/delete", PresetDeleteHandler),
    # Machines
    (f"{PREFIX}/machine", MachineHandler),
    (f"{PREFIX}/machines", MachinesHandler),
    (f"{PREFIX}/machine/update", MachineUpdateHandler),
    (f"{PREFIX}/machine/create", MachineCreateHandler),
    (f"{PREFIX}/machine/delete", MachineDeleteHandler),
    (f"{PREFIX}/free", FreeHandler),
    (f"{PREFIX}/snapshot-to-docker", SnapshotHandler),
    # Miscellaneous
    (f"{PREFIX}/auth-response", AuthResponseHandler),
    (f"{PREFIX}/comfy-account", ComfyAccountHandler),
    (f"{PREFIX}/comfyui-version", ComfyUIVersionHandler),
    (f"{PREFIX}/comfyui/log", ComfyUILogHandler),
    (f"{PREFIX}/object_info", ObjectInfoHandler),
    (f"{PREFIX}/openapi.json", OpenAPIHandler),
    (r"comfydeploy(?:/.*)?", SiteHandler),
    # The Comfy API
    *COMFY_API,
    # ComfyUI's own page
    (rf"{PAGE}/(?:api/)?ws", PageSocket),
    (rf"{PAGE}(?:/.*)?", PageHandler),
    # All other paths below the prefix; must be the last one
    (rf"{PREFIX}(?:/.*)?", NotFound),
)

__all__ = ["PREFIX", "ROUTES"]
