"""Every route and method: what it takes, what it answers, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import schemas
from ..errors import (
    CloudError,
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    DockerFailedError,
    DockerUnavailableError,
    ForbiddenAPIURLError,
    ForbiddenPathError,
    InvalidRequestError,
    NoAPIKeyError,
    NotFoundError,
    OfflineError,
    PromptInvalidError,
    RunTimeoutError,
    TunnelFailedError,
    UnknownInputError,
)
from . import examples, replies
from .fields import GRAPH, RUN_ID, UI_GRAPH, WORKFLOW_ID

if TYPE_CHECKING:
    Errors = tuple[type[ComfyDeployError], ...]

JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"
BYTES = "application/octet-stream"
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}

CLOUD: Errors = (NoAPIKeyError, ForbiddenAPIURLError, CloudError)
FILES: Errors = (ForbiddenPathError, NotFoundError, ComfyUIUnavailableError)
MACHINE: Errors = (NotFoundError, ComfyUIUnavailableError)


@dataclass(frozen=True)
class Content:
    """One media type of a body or a reply.

    Attributes
    ----------
    media_type : str
        Such as ``application/json``.
    schema : type or dict
        A model, or another type that pydantic knows; or JSON Schema as it stands.
    example : object
        What it may be.
    """

    media_type: str
    schema: Any
    example: Any = None


@dataclass(frozen=True)
class Header:
    """A header that a request may have."""

    name: str
    text: str
    example: str


@dataclass(frozen=True)
class Link:
    """What can be asked next with what was answered.

    Attributes
    ----------
    operation : str
        Id of the operation to ask.
    parameters, body : dict
        Its query and fields of its body, as runtime expressions.
    """

    operation: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One status that is no error.

    Attributes
    ----------
    text : str
        When it is answered.
    contents : tuple of Content
        In which forms; none for an empty body.
    status : int or str
        ``default`` for whatever status somebody else decides on.
    links : tuple of Link
        What can be asked next.
    """

    text: str
    contents: tuple[Content, ...] = ()
    status: int | str = 200
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Attributes
    ----------
    method, path : str
        ``path`` is below Jupyter's base URL.
    id : str
        Its name in generated clients.
    tag : str
        The section of the documentation.
    summary, text : str
        What it does, in a line and at length.
    replies : tuple of Reply
    query : tuple of type
        Models of its query.
    headers : tuple of Header
        What is understood beside Jupyter's own headers.
    bodies : tuple of Content
        What its body may be.
    errors : tuple of type
        How it can fail, beside what all routes have in common.
    needs : tuple of str
        Fields of a JSON body of which one at least must be there.
    special : tuple of (int, type)
        Errors with another status than their own.
    by_service : bool
        Whether ComfyDeploy may ask for it with the machine's token.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    replies: tuple[Reply, ...]
    text: str = ""
    query: tuple[type[schemas.Model], ...] = ()
    headers: tuple[Header, ...] = ()
    bodies: tuple[Content, ...] = ()
    errors: Errors = ()
    needs: tuple[str, ...] = ()
    special: tuple[tuple[int, type[ComfyDeployError]], ...] = ()
    by_service: bool = False


def _json(schema: Any, example: Any, text: str = "Done.", *links: Link, status: int = 200) -> Reply:
    return Reply(text, (Content(JSON, schema, example),), status, links)


def _body(model: type[schemas.Model], example: Any) -> tuple[Content, ...]:
    return (Content(JSON, model, example),)


KEY = Header("X-ComfyDeploy-Token", "The API key of ComfyDeploy.", "cd-key")
LAST_EVENT = Header("Last-Event-ID", "The last event that was read; those after it follow.", "3")
RANGES = (
    Header("Range", "The bytes that are wanted; several ranges are ignored.", "bytes=0-99"),
    Header("If-Range", "The range only counts for the file with this ETag or date.", '"17-2a"'),
    Header("If-None-Match", "304 if the file still has this ETag.", '"17-2a"'),
    Header(
        "If-Modified-Since",
        "304 if the file is no newer than this.",
        "Mon, 01 Jan 2024 00:00:00 GMT",
    ),
)

_HANDSHAKE = (
    Header("Upgrade", "What makes it a WebSocket.", "websocket"),
    Header("Connection", "What makes it a WebSocket.", "Upgrade"),
    Header("Sec-WebSocket-Version", "The protocol.", "13"),
    Header("Sec-WebSocket-Key", "16 bytes in base64.", "dGhlIHNhbXBsZSBub25jZQ=="),
)
_RUN_ERRORS: Errors = (
    UnknownInputError,
    PromptInvalidError,
    *CLOUD,
    *FILES,
    ConflictError,
    OfflineError,
)
_OF_RUN = (
    Link("getStatus", {"prompt_id": "$response.body#/prompt_id"}),
    Link("followRun", {"prompt_id": "$response.body#/prompt_id"}),
    Link("interruptRun", body={"prompt_id": "$response.body#/prompt_id"}),
    Link("getUploadQueue", {"prompt_id": "$response.body#/prompt_id"}),
    Link("cancelUploads", body={"prompt_id": "$response.body#/prompt_id"}),
)
_RUN_BODY = _body(schemas.RunRequest, {"workflow_api": GRAPH, "inputs": {"1.width": 128}})
_GRAPHS = ("workflow_api", "workflow", "workflow_id", "workflow_api_raw", "is_native_run")
_EVENTS = Reply(
    "The events as they happen, the `status` last; the schema is that of one. Its `data` is JSON"
    " with `event` and `data`, that of the first one `prompt_id`, `number`, `node_errors`. The"
    " status is final, except where `timeout` was over and an `error` came before.",
    (Content(EVENTS, replies.StreamEvent, examples.EVENTS),),
)
_FILE_REPLIES = (
    Reply("The file.", (Content("*/*", BINARY),)),
    Reply("The range of it that was asked for.", (Content("*/*", BINARY),), 206),
    Reply("The client has this version already.", status=304),
)
_SITE = (Reply("What the site answers, with its status.", (Content("*/*", BINARY),), "default"),)


def _tunnel_status(path: str, name: str) -> Operation:
    return Operation(
        "get",
        path,
        name,
        "Tunnels",
        "Whether there is a tunnel, where, and who gets through it",
        (_json(replies.TunnelReply, examples.TUNNEL, "How the tunnel is."),),
        query=(schemas.TunnelQuery,),
    )


def _volume_step(step: str, name: str, example: dict[str, Any]) -> Operation:
    return Operation(
        "post",
        f"/comfyui-deploy/volume/file/{step}",
        name,
        "ComfyDeploy",
        "A step of an upload to a ComfyDeploy volume, passed on",
        (_json(replies.CloudAnswer, examples.VOLUME_ANSWER, "What ComfyDeploy answers."),),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(schemas.CloudBody, example),
        errors=CLOUD,
    )


def _site(method: str, path: str, name: str) -> Operation:
    body = Content("*/*", BINARY)
    return Operation(
        method,
        path,
        name,
        "ComfyDeploy",
        "A page of ComfyDeploy's web site, passed on",
        _SITE,
        text="The tail may have any number of parts. Status and content are those of the site.",
        headers=(KEY,),
        bodies=(body,) if method == "post" else (),
        errors=CLOUD,
    )


def _page(method: str) -> Operation:
    return Operation(
        method,
        "/comfyui/{tail}",
        f"{method}ComfyUIPage",
        "ComfyUI",
        "ComfyUI's own page with all its routes, passed on",
        (Reply("What ComfyUI answers, with its status.", (Content("*/*", BINARY),), "default"),),
        text="The tail may have any number of parts. Needs `execute`.",
        bodies=(Content("*/*", BINARY),) if method in ("post", "put", "patch", "delete") else (),
        errors=(NotFoundError, ComfyUIUnavailableError),
    )


def _machine_fields(*, with_id: bool) -> dict[str, Any]:
    return {"machine_id": "local", "name": "local"} if with_id else examples.NEW_MACHINE


OPERATIONS: tuple[Operation, ...] = (
    # -- runs ----------------------------------------------------------------------------------
    Operation(
        "post",
        "/comfyui-deploy/run",
        "run",
        "Runs",
        "Run a workflow, answer with its result",
        (
            _json(
                replies.RunReply,
                examples.RUN,
                "The run has ended or, without waiting, is queued. A node that fails is told here"
                " too: `success` is false.",
                *_OF_RUN,
            ),
        ),
        text="One of `workflow_api`, `workflow`, `workflow_id` and `workflow_api_raw` is needed.",
        headers=(KEY,),
        bodies=_RUN_BODY,
        needs=_GRAPHS,
        errors=(*_RUN_ERRORS, RunTimeoutError),
        by_service=True,
    ),
    Operation(
        "post",
        "/comfyui-deploy/run/streaming",
        "runStreaming",
        "Runs",
        "Run a workflow, answer with its events",
        (_EVENTS,),
        headers=(KEY,),
        bodies=_RUN_BODY,
        needs=_GRAPHS,
        errors=(*_RUN_ERRORS, RunTimeoutError),
    ),
    Operation(
        "get",
        "/comfyui-deploy/run/streaming",
        "followRun",
        "Runs",
        "Follow a run that exists",
        (_EVENTS,),
        query=(schemas.JoinQuery,),
        headers=(LAST_EVENT,),
        errors=(NotFoundError,),
    ),
    Operation(
        "post",
        "/comfyui-deploy/interrupt",
        "interruptRun",
        "Runs",
        "Cancel one run, queued or running",
        (_json(replies.InterruptReply, examples.INTERRUPT, "It is being cancelled."),),
        bodies=_body(schemas.InterruptRequest, {"prompt_id": RUN_ID}),
        errors=(*MACHINE, ConflictError),
    ),
    Operation(
        "get",
        "/comfyui-deploy/runs",
        "listRuns",
        "Runs",
        "The runs that are known, newest first",
        (_json(list[replies.RunReply], [examples.RUN], "The runs."),),
        query=(schemas.RunsQuery,),
    ),
    Operation(
        "get",
        "/comfyui-deploy/view",
        "viewFile",
        "Files",
        "An output or input file",
        _FILE_REPLIES,
        text="Only pictures, sounds, videos and plain text keep their type; all else is sent as"
        " application/octet-stream.",
        query=(schemas.ViewQuery,),
        headers=RANGES,
        errors=FILES,
        special=((416, InvalidRequestError),),
    ),
    Operation(
        "head",
        "/comfyui-deploy/view",
        "headFile",
        "Files",
        "The size and the version of an output or input file",
        tuple(Reply(reply.text, status=reply.status) for reply in _FILE_REPLIES),
        query=(schemas.ViewQuery,),
        headers=RANGES,
        errors=FILES,
        special=((416, InvalidRequestError),),
    ),
    # -- models and files ----------------------------------------------------------------------
    Operation(
        "get",
        "/comfyui-deploy/models",
        "listModels",
        "Files",
        "The model files",
        (
            _json(
                list[replies.ModelEntry] | dict[str, list[list[str]]],
                [examples.MODEL],
                "The models; by folder as [directories, extensions, names] with `format=folders`.",
            ),
        ),
        query=(schemas.ModelsQuery,),
        errors=MACHINE,
    ),
    Operation(
        "get",
        "/comfyui-deploy/filename_list_cache",
        "listFilenames",
        "Files",
        "The names of all model files",
        (
            _json(
                list[str] | replies.FilenameLists,
                ["checkpoints/a.safetensors"],
                "The names; by folder with `format=folders`.",
            ),
        ),
        query=(schemas.ListQuery,),
        errors=MACHINE,
    ),
    Operation(
        "post",
        "/comfyui-deploy/upload-file",
        "uploadFile",
        "Files",
        "Files into ComfyUI's folders; or a file of this machine to ComfyDeploy",
        (
            _json(
                replies.UploadReply | replies.SentFile,
                examples.UPLOADED,
                "The files are there; or, of a JSON body, the file is at ComfyDeploy.",
                Link(
                    "getFileHash",
                    {"filename": "{$response.body#/type}/{$response.body#/name}"},
                ),
                Link(
                    "viewFile",
                    {
                        "filename": "$response.body#/name",
                        "subfolder": "$response.body#/subfolder",
                        "type": "$response.body#/type",
                    },
                ),
            ),
        ),
        query=(schemas.MachineQuery,),
        headers=(KEY,),
        bodies=(
            Content(FORM, examples.UPLOAD_FORM, {"file": "hello", "type": "input"}),
            Content(
                JSON,
                schemas.SendFileRequest,
                {
                    "file_path": "output/example_00001_.png",
                    "url": "https://api.comfydeploy.com/api/file-upload",
                },
            ),
        ),
        errors=(*FILES, ConflictError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/get-file-hash",
        "getFileHash",
        "Files",
        "The SHA-256 of a file, remembered while the file stays as it is",
        (_json(replies.FileHash, examples.FILE_HASH, "The hash."),),
        text="`filename` or `file_path` is needed.",
        query=(schemas.FileQuery,),
        errors=(*FILES, ConflictError),
    ),
    Operation(
        "get",
        "/comfyui-deploy/fs/stat",
        "statPath",
        "Files",
        "Facts of a path and of its file system",
        (_json(replies.FileStat, examples.STAT, "What is there."),),
        query=(schemas.StatQuery,),
        errors=FILES,
    ),
    Operation(
        "get",
        "/comfyui-deploy/upload-queue-status",
        "getUploadQueue",
        "Transfers",
        "Uploads and downloads, each with its bytes",
        (_json(replies.UploadQueue, examples.QUEUE, "What is on its way, and what ended lately."),),
        query=(schemas.UploadQueueQuery,),
    ),
    Operation(
        "post",
        "/comfyui-deploy/cancel-uploads",
        "cancelUploads",
        "Transfers",
        "Stop the uploads of a run, one transfer, or all uploads",
        (_json(replies.CancelledUploads, {"success": True, "cancelled": 2}, "They are stopped."),),
        bodies=_body(schemas.CancelUploadsRequest, {"prompt_id": RUN_ID}),
    ),
    Operation(
        "post",
        "/comfyui-deploy/retry-uploads",
        "retryUploads",
        "Transfers",
        "Begin anew with uploads that failed: of a run, one transfer, or all",
        (
            _json(
                replies.RetriedUploads,
                {"success": True, "retried": 1, "uploads": [examples.TRANSFER]},
                "They begin anew.",
            ),
        ),
        headers=(KEY,),
        bodies=_body(schemas.RetryUploadsRequest, {"prompt_id": RUN_ID}),
        errors=(*FILES, ConflictError, OfflineError, *CLOUD),
    ),
    Operation(
        "post",
        "/comfyui-deploy/volume/model",
        "changeModels",
        "Transfers",
        "Models in ComfyUI's folders: add, list, move, delete",
        (
            _json(
                replies.VolumeModelAdded
                | replies.VolumeModelList
                | replies.VolumeModelChanged
                | replies.CloudAnswer,
                {"success": True, "models": [examples.MODEL]},
                "The list; or the model is moved, deleted, or on its way.",
                Link("cancelUploads", body={"id": "$response.body#/id"}),
                Link("retryUploads", body={"id": "$response.body#/id"}),
            ),
        ),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(schemas.VolumeModelRequest, {"action": "list", "folder": "checkpoints"}),
        errors=(*FILES, ConflictError, OfflineError, *CLOUD),
    ),
    Operation(
        "post",
        "/comfyui-deploy/volume/file/upload-part-from-path",
        "uploadPart",
        "Transfers",
        "Send a part of a local file to a presigned address",
        (_json(replies.UploadedPart, {"eTag": "9b2c", "bytesSent": 1048576}, "It is there."),),
        bodies=_body(
            schemas.UploadPartRequest,
            {
                "filePath": "models/checkpoints/a.safetensors",
                "uploadUrl": "https://storage.example.com/part",
                "start": 0,
                "end": 1048576,
            },
        ),
        errors=(*FILES, CloudError),
    ),
    _volume_step(
        "generate-upload-url",
        "generateUploadUrl",
        {"filename": "checkpoints/a.safetensors", "contentType": BYTES, "size": 1024},
    ),
    _volume_step(
        "initiate-multipart-upload",
        "initiateMultipartUpload",
        {"filename": "checkpoints/a.safetensors", "contentType": BYTES, "size": 1073741824},
    ),
    _volume_step(
        "generate-part-upload-url",
        "generatePartUploadUrl",
        {"uploadId": "u1", "key": "models/a.safetensors", "partNumber": 1},
    ),
    _volume_step(
        "complete-multipart-upload",
        "completeMultipartUpload",
        {
            "uploadId": "u1",
            "key": "models/a.safetensors",
            "parts": [{"partNumber": 1, "eTag": "9b2c"}],
        },
    ),
    _volume_step(
        "abort-multipart-upload",
        "abortMultipartUpload",
        {"uploadId": "u1", "key": "models/a.safetensors"},
    ),
    # -- graphs --------------------------------------------------------------------------------
    Operation(
        "post",
        "/comfyui-deploy/workflow/convert",
        "convertWorkflow",
        "Workflows",
        "A workflow in another format; also of a picture, video or sound",
        (_json(replies.Converted, examples.CONVERTED, "The workflow in the other format."),),
        bodies=(
            Content(JSON, schemas.ConvertRequest, {"workflow_api": GRAPH, "to": "ui"}),
            Content(FORM, examples.CONVERT_FORM, {"file": "{}", "to": "api"}),
        ),
        needs=("workflow_api", "workflow", "filename"),
        errors=FILES,
    ),
    Operation(
        "post",
        "/comfyui-deploy/workflow/validate",
        "validateWorkflow",
        "Workflows",
        "What ComfyUI would answer to a graph, without queueing it",
        (_json(replies.Judgement, examples.JUDGEMENT, "What ComfyUI would answer."),),
        bodies=_body(schemas.ValidateRequest, {"workflow_api": GRAPH}),
        needs=("workflow_api", "workflow"),
        errors=MACHINE,
    ),
    Operation(
        "post",
        "/comfyui-deploy/workflow/fetch-models",
        "fetchModels",
        "Workflows",
        "The models that a workflow names, and downloads of those that are missing",
        (
            _json(
                replies.FetchedModels,
                examples.FETCHED_MODELS,
                "What the workflow names; what was missing is on its way, unless `dry_run` is set.",
            ),
        ),
        text="One of `workflow`, `workflow_api` and `workflow_id` is needed. Links from a workflow"
        " lead to public addresses, or to the sites and mirrors that are configured.",
        bodies=_body(schemas.FetchModelsRequest, {"workflow": UI_GRAPH, "dry_run": True}),
        needs=("workflow", "workflow_api", "workflow_id"),
        errors=(*FILES, OfflineError),
    ),
    # -- status --------------------------------------------------------------------------------
    Operation(
        "get",
        "/comfyui-deploy/ws",
        "openSocket",
        "Status",
        "WebSocket with the events of a client's runs",
        (Reply("The socket is open.", status=101),),
        text="Text frames are JSON with `event` and `data`, binary frames previews as ComfyUI"
        " frames them. It takes `queue_prompt` (a body of `run`), `input` and `interrupt`.",
        query=(schemas.SocketQuery,),
        headers=_HANDSHAKE,
        special=((426, InvalidRequestError),),
    ),
    Operation(
        "get",
        "/comfyui-deploy/check-status",
        "getStatus",
        "Status",
        "How the service is, or with `prompt_id` a run",
        (
            _json(
                replies.ServiceStatus | replies.RunReply,
                examples.STATUS,
                "The state of the service, or the record of the run.",
            ),
        ),
        text="With `strict` it is a health check of ComfyUI: 503 where no run can go to it, with"
        " the same fields beside those of the error.",
        query=(schemas.StatusQuery,),
        errors=MACHINE,
    ),
    Operation(
        "head",
        "/comfyui-deploy/check-status",
        "headStatus",
        "Status",
        "Whether the service is there, or with `strict` whether ComfyUI is",
        (Reply("It is."),),
        query=(schemas.StatusQuery,),
        errors=MACHINE,
    ),
    Operation(
        "get",
        "/comfyui-deploy/check-ws-status",
        "getSocketStatus",
        "Status",
        "Whether events flow, and to how many",
        (
            _json(
                replies.SocketStatus,
                {"connected": True, "clients": 1, "last_event_at": examples.TIME},
                "How the sockets are.",
            ),
        ),
        query=(schemas.SocketStatusQuery,),
        errors=(NotFoundError,),
    ),
    # -- workflows -----------------------------------------------------------------------------
    Operation(
        "post",
        "/comfyui-deploy/workflow",
        "saveWorkflow",
        "Workflows",
        "Save a workflow: a new one, or with `workflow_id` a new version",
        (
            _json(
                replies.SavedWorkflow,
                {**examples.WORKFLOW, "success": True, "created": True, "new_version": True}
                | {"version": 1},
                "It is saved.",
                Link("getWorkflow", {"workflow_id": "$response.body#/workflow_id"}),
                Link("listVersions", {"workflow_id": "$response.body#/workflow_id"}),
                Link(
                    "getVersion",
                    {
                        "workflow_id": "$response.body#/workflow_id",
                        "version": "$response.body#/version",
                    },
                ),
                Link(
                    "saveVersion",
                    body={
                        "workflow_id": "$response.body#/workflow_id",
                        "workflow_api": GRAPH,
                        "comment": "second light",
                    },
                ),
            ),
        ),
        text="`workflow`, `workflow_json` or `workflow_api` is needed.",
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(
            schemas.WorkflowRequest,
            {"name": "Portrait", "workflow": UI_GRAPH, "comment": "first light"},
        ),
        needs=("workflow", "workflow_json", "workflow_api"),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/workflow",
        "getWorkflow",
        "Workflows",
        "A workflow with its latest version",
        (_json(replies.WorkflowDetails, examples.WORKFLOW_DETAILS, "The workflow."),),
        query=(schemas.WorkflowQuery,),
        headers=(KEY,),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/workflows",
        "listWorkflows",
        "Workflows",
        "All workflows, newest change first",
        (_json(list[replies.ListedWorkflow], [examples.WORKFLOW], "The workflows."),),
        query=(schemas.WorkflowsQuery,),
        headers=(KEY,),
        errors=CLOUD,
    ),
    Operation(
        "post",
        "/comfyui-deploy/workflow/version",
        "saveVersion",
        "Workflows",
        "Add a version to a workflow",
        (
            _json(
                replies.SavedVersion,
                {**examples.VERSION, "success": True, "created": True},
                "The version that has the content.",
                Link(
                    "getVersion",
                    {
                        "workflow_id": "$response.body#/workflow_id",
                        "version": "$response.body#/version",
                    },
                ),
                Link("validateWorkflow", body={"workflow_api": "$response.body#/workflow_api"}),
            ),
        ),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(
            schemas.VersionRequest,
            {"workflow_id": WORKFLOW_ID, "workflow_api": GRAPH, "comment": "first light"},
        ),
        needs=("workflow", "workflow_json", "workflow_api"),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/workflow/version",
        "getVersion",
        "Workflows",
        "One version with its graphs",
        (
            _json(
                replies.VersionDetails,
                examples.VERSION,
                "The version.",
                Link("convertWorkflow", body={"workflow_api": "$response.body#/workflow_api"}),
                Link("validateWorkflow", body={"workflow_api": "$response.body#/workflow_api"}),
                Link(
                    "run",
                    body={
                        "workflow_id": "$response.body#/workflow_id",
                        "version": "$response.body#/version",
                    },
                ),
            ),
        ),
        query=(schemas.VersionQuery,),
        headers=(KEY,),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/workflow/versions",
        "listVersions",
        "Workflows",
        "The versions of a workflow, newest first",
        (_json(list[replies.VersionSummary], [examples.VERSION_SUMMARY], "The versions."),),
        query=(schemas.VersionsQuery,),
        headers=(KEY,),
        errors=(NotFoundError, *CLOUD),
    ),
    # -- machines ------------------------------------------------------------------------------
    Operation(
        "get",
        "/comfyui-deploy/machine",
        "getMachine",
        "Machines",
        "What a machine is and how it is",
        (_json(replies.MachineReply, examples.MACHINE, "The machine."),),
        query=(schemas.MachineSource,),
        headers=(KEY,),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/machines",
        "listMachines",
        "Machines",
        "All machines in short",
        (_json(list[replies.MachineSummary], [examples.MACHINE_SUMMARY], "The machines."),),
    ),
    Operation(
        "post",
        "/comfyui-deploy/machine/update",
        "updateMachine",
        "Machines",
        "Change a machine, restart its ComfyUI",
        (
            _json(
                replies.MachineUpdated,
                {
                    "success": True,
                    "id": "local",
                    "machine": examples.MACHINE,
                    "restart_required": False,
                },
                "It is changed.",
            ),
        ),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(schemas.MachineUpdate, _machine_fields(with_id=True)),
        errors=(*MACHINE, ConflictError, *CLOUD),
    ),
    Operation(
        "post",
        "/comfyui-deploy/machine/create",
        "createMachine",
        "Machines",
        "Register another ComfyUI, start one more, or have one built at ComfyDeploy",
        (
            _json(
                replies.MachineCreated,
                {
                    "success": True,
                    "id": "studio",
                    "machine_id": "studio",
                    "machine": examples.MACHINE,
                },
                "It is there.",
                Link("getMachine", {"machine_id": "$response.body#/machine_id"}),
                Link("updateMachine", body={"machine_id": "$response.body#/machine_id"}),
                Link("deleteMachine", body={"machine_id": "$response.body#/machine_id"}),
            ),
        ),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(schemas.MachineCreate, _machine_fields(with_id=False)),
        errors=(*MACHINE, ConflictError, *CLOUD),
    ),
    Operation(
        "post",
        "/comfyui-deploy/machine/delete",
        "deleteMachine",
        "Machines",
        "Forget a machine",
        (_json(replies.MachineDeleted, {"success": True, "machine_id": "studio"}, "It is gone."),),
        bodies=_body(schemas.MachineDelete, {"machine_id": "studio"}),
        errors=(NotFoundError, ConflictError),
    ),
    Operation(
        "post",
        "/comfyui-deploy/snapshot-to-docker",
        "snapshotToDocker",
        "Machines",
        "The environment as a Docker build context, and as steps of a ComfyDeploy machine",
        (
            Reply(
                "The context is written; with `Accept: text/event-stream` the progress comes"
                " first, and an error as the last event.",
                (
                    Content(JSON, replies.SnapshotReply, examples.SNAPSHOT_REPLY),
                    Content(EVENTS, replies.StreamEvent, examples.SNAPSHOT_EVENTS),
                ),
            ),
        ),
        query=(schemas.CloudTarget,),
        headers=(KEY,),
        bodies=_body(schemas.SnapshotRequest, {"name": "studio", "snapshot": examples.SNAPSHOT}),
        errors=(*FILES, ConflictError, DockerUnavailableError, DockerFailedError, *CLOUD),
        special=((503, ComfyDeployError),),
    ),
    # -- tunnels -------------------------------------------------------------------------------
    _tunnel_status("/tunnel/status", "getTunnel"),
    _tunnel_status("/comfyui-deploy/tunnel/status", "getTunnelStatus"),
    Operation(
        "post",
        "/comfyui-deploy/tunnel/start",
        "startTunnel",
        "Tunnels",
        "Make ComfyUI, or Jupyter, reachable from the internet",
        (
            _json(
                replies.TunnelReply,
                {**examples.TUNNEL, "message": "The tunnel is up"},
                "It is up; or starting, with `wait: false`.",
                Link("getTunnelStatus", {"target": "$response.body#/target"}),
                Link("stopTunnel", body={"target": "$response.body#/target"}),
            ),
        ),
        bodies=_body(schemas.TunnelStartRequest, {"target": "comfyui"}),
        errors=(*MACHINE, ConflictError, OfflineError, TunnelFailedError),
    ),
    Operation(
        "post",
        "/comfyui-deploy/tunnel/stop",
        "stopTunnel",
        "Tunnels",
        "End a tunnel, or all",
        (
            _json(
                replies.TunnelReply,
                {**examples.NO_TUNNEL, "message": "Ended: comfyui"},
                "Nothing of it is left.",
            ),
        ),
        bodies=_body(schemas.TunnelQuery, {"target": "comfyui"}),
    ),
    # -- miscellaneous -------------------------------------------------------------------------
    Operation(
        "get",
        "/comfyui-deploy/auth-response",
        "getSignIn",
        "ComfyDeploy",
        "Has the user approved the sign-in at ComfyDeploy?",
        (
            _json(
                replies.SignedIn,
                {"success": True, "authenticated": True, "name": "Ada"},
                "Yes; the key is kept here, and not told.",
            ),
            _json(
                replies.SignInPending,
                examples.PENDING,
                "Not yet; `auth_url` is the page to approve it at.",
                status=202,
            ),
        ),
        query=(schemas.AuthQuery,),
        errors=(ForbiddenAPIURLError, CloudError),
    ),
    Operation(
        "get",
        "/comfyui-deploy/comfy-account",
        "getComfyAccount",
        "ComfyDeploy",
        "Is there a key of a Comfy account for partner nodes?",
        (
            _json(
                replies.ComfyAccount,
                {"has_key": True, "source": "kept"},
                "Whether, and where it is from; never the key.",
            ),
        ),
    ),
    Operation(
        "post",
        "/comfyui-deploy/comfy-account",
        "setComfyAccount",
        "ComfyDeploy",
        "Keep the key of a Comfy account for the partner nodes of all runs, or forget it",
        (
            _json(
                replies.ComfyAccountKept,
                {"success": True, "has_key": True, "source": "kept"},
                "It is kept, or forgotten.",
            ),
        ),
        bodies=_body(schemas.AccountRequest, {"api_key": "comfyui-0123456789abcdef"}),
    ),
    Operation(
        "post",
        "/comfyui-deploy/free",
        "freeMemory",
        "Machines",
        "Have ComfyUI unload its models and give up memory",
        (
            _json(
                replies.MemoryFreed,
                {
                    "success": True,
                    "machine": "local",
                    "pending": False,
                    "gpu": {"before": 1024, "after": 4096, "freed": 3072},
                    "ram": {"before": 1024, "after": 2048, "freed": 1024},
                },
                "How many bytes were gained.",
            ),
        ),
        bodies=_body(schemas.FreeRequest, {"machine": "local"}),
        errors=MACHINE,
    ),
    Operation(
        "get",
        "/comfyui-deploy/comfyui-version",
        "getComfyUIVersion",
        "Status",
        "Which ComfyUI runs, or is installed",
        (_json(replies.ComfyUIVersion, examples.COMFYUI_VERSION, "Its version."),),
        query=(schemas.VersionInfoQuery,),
        headers=(KEY,),
        errors=(*MACHINE, *CLOUD),
    ),
    Operation(
        "get",
        "/comfyui-deploy/comfyui/log",
        "getComfyUILog",
        "Status",
        "The last lines of a ComfyUI that was started here",
        (
            _json(
                replies.ComfyUILog,
                {"path": "/home/ada/comfyui.log", "lines": ["Starting server"]},
                "The lines.",
            ),
        ),
        query=(schemas.LogQuery,),
        errors=MACHINE,
    ),
    Operation(
        "get",
        "/comfyui-deploy/object_info",
        "getObjectInfo",
        "Status",
        "ComfyUI's node definitions",
        (
            _json(
                dict[str, replies.NodeDefinition],
                {"EmptyImage": {"display_name": "EmptyImage", "category": "image"}},
                "As ComfyUI says it.",
            ),
        ),
        query=(schemas.MachineQuery,),
        errors=MACHINE,
    ),
    Operation(
        "get",
        "/comfyui-deploy/openapi.json",
        "getSpecification",
        "Status",
        "This description of the routes, as OpenAPI 3.1",
        (_json(dict[str, Any], {"openapi": "3.1.0"}, "The description."),),
    ),
    *map(_page, ("get", "head", "post", "put", "patch", "delete")),
    Operation(
        "get",
        "/comfyui/ws",
        "openComfyUISocket",
        "ComfyUI",
        "ComfyUI's own WebSocket, passed on",
        (Reply("The socket is open.", status=101),),
        text="Needs `execute`.",
        headers=_HANDSHAKE,
        errors=(NotFoundError, ComfyUIUnavailableError),
        special=((426, InvalidRequestError),),
    ),
    _site("get", "/comfydeploy", "getSiteRoot"),
    _site("post", "/comfydeploy", "postSiteRoot"),
    _site("get", "/comfydeploy/{tail}", "getSitePage"),
    _site("post", "/comfydeploy/{tail}", "postSitePage"),
)
