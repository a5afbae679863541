"""What requests, replies and errors look like."""

from __future__ import annotations

from typing import Any

from ..errors import (
    CloudError,
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    DockerFailedError,
    DockerUnavailableError,
    ForbiddenAPIURLError,
    ForbiddenPathError,
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
from .fields import GRAPH, RUN_ID, UI_GRAPH, WORKFLOW_ID

TIME = "2025-11-24T09:30:00.000Z"
COMMIT = "30c259cac8c08ff8d015f9aff3151cb525c9b702"
SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

ERRORS: tuple[ComfyDeployError, ...] = (
    InvalidJSONError("The body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    InvalidRequestError.of_field("timeout", "Input should be greater than 0"),
    UnknownInputError(
        "Nothing in the graph is called 'Sky.colour'; did you mean '1.color'?",
        details={"field": "inputs.Sky.colour", "unknown": {"Sky.colour": ["1.color"]}},
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
        extra={"hint": "Start it, or set comfyui_path to have it started here."},
    ),
    DockerUnavailableError("No Docker engine answers", extra={"path": "/home/ada/studio"}),
    StoreUnavailableError(
        "Another process has locked the store /home/ada/comfydeploy.db",
        details={
            "reason": "locked",
            "path": "/home/ada/comfydeploy.db",
        },
        extra={"hint": "Try again; if that goes on, end the process that has the file open."},
    ),
    RunTimeoutError("The run has not ended in time; it goes on", extra={"prompt_id": RUN_ID}),
    NoSpaceError("There is no space left on the disk for the snapshot studio"),
    ComfyDeployError("The snapshot was broken off: the server is ending"),
)

RUN: dict[str, Any] = {
    "success": True,
    "prompt_id": RUN_ID,
    "number": 3,
    "status": "success",
    "node_errors": {},
    "outputs": {
        "2": {
            "images": [
                {
                    "filename": "example_00001_.png",
                    "subfolder": "",
                    "type": "output",
                    "url": "/comfyui-deploy/view?filename=example_00001_.png&type=output",
                }
            ]
        }
    },
    "error": None,
    "seeds": {},
    "execution_time": 0.21,
    "cached_nodes": [],
    "node_times": {"1": 0.02, "2": 0.18},
    "machine": "local",
    "created_at": TIME,
    "started_at": TIME,
    "finished_at": TIME,
}
EVENTS = (
    "id: 1\nevent: event_update\n"
    f'data: {{"prompt_id": "{RUN_ID}", "number": 3, "node_errors": {{}}}}\n\n'
    'id: 2\nevent: event_update\ndata: {"event": "status", "data":'
    f' {{"prompt_id": "{RUN_ID}", "status": "success"}}}}\n\n'
)
INTERRUPT = {
    "success": True,
    "message": "Interrupting the run",
    "prompt_id": RUN_ID,
    "was": "running",
}

MODEL = {
    "name": "a.safetensors",
    "folder": "checkpoints",
    "path": "/home/ada/ComfyUI/models/checkpoints/a.safetensors",
    "size": 2132625894,
    "modified": 1763976600.5,
}
UPLOADED = {
    "success": True,
    "filename": "a.txt",
    "name": "a.txt",
    "subfolder": "",
    "type": "input",
    "size": 5,
    "content_type": "text/plain",
    "file_hash": SHA256,
    "reused": False,
    "url": "/comfyui-deploy/view?filename=a.txt&subfolder=&type=input",
}
UPLOAD_FORM: dict[str, Any] = {
    "type": "object",
    "title": "UploadForm",
    "required": ["file"],
    "properties": {
        "type": {
            "type": "string",
            "description": "`input` (default), `temp`, `output`, or `models/<folder>`.",
            "default": "input",
            "maxLength": 4096,
        },
        "subfolder": {
            "type": "string",
            "description": "A folder below that of the type.",
            "maxLength": 4096,
        },
        "machine": {
            "type": "string",
            "description": "The machine, if anything the one of the query: files go to its folders"
            " as they arrive.",
            "maxLength": 255,
        },
        "overwrite": {
            "type": "string",
            "enum": ["true", "false"],
            "description": "Whether other content of this name is replaced; else it gets a free"
            " name.",
            "default": "false",
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The file; there may be several.",
        },
    },
}
CONVERT_FORM: dict[str, Any] = {
    "type": "object",
    "title": "ConvertForm",
    "required": ["file"],
    "properties": {
        "to": {
            "type": "string",
            "enum": ["api", "ui", "notebook", "python"],
            "description": "The format to convert to.",
        },
        "machine": {
            "type": "string",
            "description": "The machine whose node definitions are used.",
            "maxLength": 255,
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "A picture, video, sound or JSON file that carries a workflow.",
        },
    },
}
FILE_HASH = {
    "filename": "input/a.txt",
    "file_hash": SHA256,
    "algorithm": "sha256",
    "size": 5,
    "cached": True,
}
STAT = {
    "path": "/home/ada/ComfyUI/models",
    "type": "directory",
    "size": 4096,
    "modified": 1763976600.5,
    "filesystem": {"total": 500000000000, "used": 200000000000, "free": 300000000000},
}
TRANSFER: dict[str, Any] = {
    "id": "d41d8cd98f00b204",
    "direction": "up",
    "prompt_id": RUN_ID,
    "node_id": "2",
    "filename": "example_00001_.png",
    "size": 81920,
    "sent": 40960,
    "state": "active",
    "attempts": 1,
    "error": None,
}
QUEUE = {
    "queue_size": 0,
    "pending_uploads": 1,
    "active": 1,
    "completed": 4,
    "failed": 0,
    "cancelled": 0,
    "max_concurrent": 3,
    "uploads": [TRANSFER],
}
VOLUME_ANSWER = {"uploadUrl": "https://storage.example.com/a", "objectKey": "models/a.safetensors"}

CONVERTED = {
    "success": True,
    "from": "api",
    "to": "ui",
    "workflow": UI_GRAPH,
    "warnings": [],
}
JUDGEMENT = {
    "valid": True,
    "error": None,
    "node_errors": {},
    "outputs": ["2"],
    "missing_nodes": [],
    "missing_models": [],
    "warnings": [],
    "definitions": {"source": "live", "comfyui_version": "0.33.0"},
}
FETCHED_MODELS = {
    "success": True,
    "dry_run": False,
    "offline": False,
    "models": [
        {
            "name": "ae.safetensors",
            "folder": "vae",
            "path": "models/vae/ae.safetensors",
            "url": "https://huggingface.co/owner/repo/resolve/main/ae.safetensors",
            "size": None,
            "sha256": None,
            "pickle": False,
            "state": "fetching",
            "problem": None,
            "nodes": [{"node_id": "3", "input": "vae_name"}],
            "transfer": TRANSFER["id"],
        }
    ],
    "transfers": [TRANSFER],
    "missing_nodes": [],
    "warnings": [],
}

WORKFLOW: dict[str, Any] = {
    "id": WORKFLOW_ID,
    "workflow_id": WORKFLOW_ID,
    "name": "Portrait",
    "machine_id": None,
    "created_at": TIME,
    "updated_at": TIME,
    "latest_version": 1,
    "versions": 1,
}
VERSION_SUMMARY: dict[str, Any] = {
    "id": "a8098c1a-f86e-51da-bd1a-00112444be1e",
    "workflow_id": WORKFLOW_ID,
    "version": 1,
    "comment": "first light",
    "created_at": TIME,
}
VERSION = {**VERSION_SUMMARY, "workflow": UI_GRAPH, "workflow_api": GRAPH}
WORKFLOW_DETAILS = {
    **WORKFLOW,
    "version": 1,
    "comment": "first light",
    "workflow": UI_GRAPH,
    "workflow_api": GRAPH,
    "versions": [VERSION],
}

NO_TUNNEL: dict[str, Any] = {
    "success": True,
    "running": False,
    "url": None,
    "access_url": None,
    "port": None,
    "target": "comfyui",
    "machine": None,
    "protected": False,
    "protection": "none",
    "state": "stopped",
    "error": None,
    "hint": None,
    "details": {},
}
TUNNEL: dict[str, Any] = {
    **NO_TUNNEL,
    "running": True,
    "url": "https://calm-river.trycloudflare.com",
    "access_url": "https://calm-river.trycloudflare.com/?access=secret",
    "port": 8188,
    "machine": "local",
    "protected": True,
    "protection": "gate",
    "state": "running",
    "named": False,
    "started_at": TIME,
    "restarts": 0,
    "log": "/home/ada/cloudflared.log",
}
STATUS = {
    "status": "ok",
    "version": "0.1.0",
    "instance": "2f1d9c4e7b",
    "comfyui": {
        "reachable": True,
        "url": "http://127.0.0.1:8188",
        "version": "0.33.0",
        "version_note": None,
        "managed": False,
    },
    "queue": {"running": 0, "pending": 0},
    "uploads": {"queue_size": 0, "pending_uploads": 0, "active": 0},
    "tunnel": {
        name: NO_TUNNEL[name]
        for name in ("running", "url", "target", "port", "protected", "state", "error")
    },
    "store": {
        "path": "/home/ada/comfydeploy.db",
        "journal": "wal",
        "warnings": [],
    },
}
COMFYUI_VERSION = {"success": True, "version": "0.33.0", "commit": COMMIT, "source": "running"}
PENDING = {
    "success": True,
    "authenticated": False,
    "status": "pending",
    "auth_url": "https://www.comfydeploy.com/auth/request/c1f4a0d2",
}

NEW_MACHINE = {"name": "studio", "comfyui_url": "http://127.0.0.1:8189"}
MACHINE_SUMMARY = {
    "id": "studio",
    "name": "studio",
    "kind": "comfyui",
    "status": "ready",
    "url": "http://127.0.0.1:8189",
    "version": "0.33.0",
    "gpu": None,
    "work": 0,
    "error": None,
}
MACHINE = {
    "id": "studio",
    "name": "studio",
    "kind": "comfyui",
    "status": "ready",
    "hardware": {
        "cpu": {"name": "AMD EPYC", "cores": 8},
        "memory": {"total": 68719476736, "available": 34359738368, "used": 34359738368},
        "gpus": [{"index": 0, "name": "NVIDIA L4"}],
        "disks": [{"path": "/", "total": 500000000000, "used": 1, "free": 499999999999}],
    },
    "software": {"os": "Linux", "python": "3.11.7", "comfyui": {"version": "0.33.0"}},
    "config": {"comfyui_url": "http://127.0.0.1:8189", "env": {}},
    "restart_required": False,
    "work": 0,
}
SNAPSHOT: dict[str, Any] = {
    "comfyui": {"version": "0.33.0", "commit": COMMIT},
    "python": {
        "version": "3.11.7",
        "packages": [{"name": "torch", "version": "2.9.0", "requirement": "torch==2.9.0"}],
    },
    "custom_nodes": [
        {
            "name": "comfyui-deploy",
            "kind": "git",
            "repository": "https://github.com/BennyKok/comfyui-deploy",
            "commit": COMMIT,
        }
    ],
}
SNAPSHOT_REPLY = {
    "success": True,
    "path": "/home/ada/comfydeploy/snapshots/studio",
    "dockerfile": "FROM python:3.11.7\n",
    "docker_command_steps": {"steps": []},
    "snapshot": SNAPSHOT,
    "warnings": [],
}
SNAPSHOT_EVENTS = (
    'id: 1\nevent: event_update\ndata: {"event": "log", "data": {"line": "Reading"}}\n\n'
    'id: 2\nevent: event_update\ndata: {"event": "result", "data": {"success": true}}\n\n'
)
