"""Show, list, hash and upload files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import ConflictError, InvalidRequestError
from ..schemas.examples import RUN_ID, TRANSFER_ID, WORKFLOW_ID
from .operation import (
    BINARY,
    CLOUD,
    FILES,
    FORM,
    KEY,
    MACHINE,
    Content,
    Header,
    Link,
    Operation,
    Reply,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)

SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class ModelEntry(ReplyModel):
    """A model file; size and time are null if only ComfyUI's API lists it."""

    name: str = Field(examples=["a.safetensors"])
    folder: str = Field(examples=["checkpoints"])
    path: str = Field(examples=["/home/ada/ComfyUI/models/checkpoints/a.safetensors"])
    size: int | None = Field(description="In bytes.", examples=[2132625894])
    modified: float | None = Field(
        description="When it was changed, in seconds since 1970.", examples=[1763976600.5]
    )


class WorkflowUse(ReplyModel):
    """A stored workflow that names a model."""

    workflow_id: str = Field(examples=[WORKFLOW_ID])
    name: str = Field(examples=["sunset"])
    versions: list[int] = Field(
        description="The versions that name it, oldest first.", examples=[[1, 2]]
    )


class RunUse(ReplyModel):
    """A run that names a model."""

    prompt_id: str = Field(examples=[RUN_ID])
    machine: str = Field(examples=["local"])
    status: str = Field(examples=["success"])
    created_at: str = Field(examples=["2025-11-24T10:30:00+00:00"])


class TransferUse(ReplyModel):
    """A transfer of a model that has not ended."""

    id: str = Field(examples=[TRANSFER_ID])
    direction: Literal["up", "down"]
    state: str = Field(examples=["active"])


class ModelUses(ReplyModel):
    """What uses a model, on all machines whose model folders contain it."""

    folder: str = Field(examples=["checkpoints"])
    name: str = Field(examples=["b.safetensors"])
    path: str = Field(examples=["/home/ada/ComfyUI/models/checkpoints/b.safetensors"])
    in_use: bool = Field(
        description="Whether a run that has not ended, a prompt in ComfyUI's queue or a transfer"
        " uses it now, as far as is known: see `queued`.",
        examples=[False],
    )
    workflows: list[WorkflowUse] = Field(description="The stored workflows that name it.")
    runs: list[RunUse] = Field(
        description="The first 20 runs that name it: those that have not ended, then the newest"
        " of the last 1,000 others."
    )
    run_count: int = Field(description="Number of all of these runs.", examples=[1])
    unfinished: int = Field(description="How many of them have not ended.", examples=[0])
    queued: bool | None = Field(
        description="Whether a prompt in ComfyUI's queue, of any client, names it; null if that is"
        " not known, because a ComfyUI does not answer.",
        examples=[False],
    )
    transfers: list[TransferUse] = Field(description="The transfers that have not ended.")


class FilenameLists(ReplyModel):
    """The names of model files by folder."""

    filename_list: dict[str, list[str]]


class FileHash(ReplyModel):
    """The hash of a file."""

    filename: str = Field(examples=["input/a.txt"])
    file_hash: str = Field(examples=[SHA256])
    algorithm: Literal["sha256"]
    size: int = Field(description="In bytes.", examples=[5])
    cached: bool = Field(
        description="Whether the hash is from the cache, so that the file was not read.",
        examples=[True],
    )


class FileSystem(ReplyModel):
    """A file system, in bytes."""

    total: int = Field(examples=[500000000000])
    used: int = Field(examples=[200000000000])
    free: int = Field(examples=[300000000000])


class FileStat(ReplyModel):
    """One path and its file system."""

    path: str = Field(examples=["/home/ada/ComfyUI/models"])
    type: Literal["file", "directory"] = Field(examples=["directory"])
    size: int = Field(description="In bytes.", examples=[4096])
    modified: float = Field(
        description="When it was changed, in seconds since 1970.", examples=[1763976600.5]
    )
    filesystem: FileSystem


class UploadedFile(ReplyModel):
    """An uploaded file, with the name under which it is stored."""

    filename: str = Field(examples=["a.txt"])
    name: str = Field(description="The same as `filename`.", examples=["a.txt"])
    subfolder: str = Field(examples=[""])
    type: str = Field(examples=["input"])
    size: int = Field(description="In bytes.", examples=[5])
    content_type: str = Field(examples=["text/plain"])
    file_hash: str = Field(description="The SHA-256 of the content.", examples=[SHA256])
    reused: bool = Field(
        description="Whether a file with this name and content existed.", examples=[False]
    )
    url: str | None = Field(
        description="Its address below `view`; null for models.",
        examples=["/comfyui-deploy/view?filename=a.txt&subfolder=&type=input"],
    )


class UploadReply(UploadedFile, Success):
    """The first uploaded file; if there are several, also a list of all."""

    files: list[UploadedFile] = Field(default_factory=list)


class SentFile(Success):
    """A file of this machine that was sent to ComfyDeploy."""

    message: str
    download_url: str | None


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
            "description": "Optional: the same machine as in the query. Files are written to its"
            " folders while they arrive.",
            "maxLength": 255,
        },
        "overwrite": {
            "type": "string",
            "enum": ["true", "false"],
            "description": "Whether a file of this name with other content is replaced; otherwise"
            " the new file gets a free name.",
            "default": "false",
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The file; there may be several.",
        },
    },
}
_RANGES = (
    Header("Range", "The requested bytes; several ranges are ignored.", "bytes=0-99"),
    Header("If-Range", "Use the range only if the file has this ETag or date.", '"17-2a"'),
    Header("If-None-Match", "304 if the file still has this ETag.", '"17-2a"'),
    Header(
        "If-Modified-Since",
        "304 if the file was not changed after this time.",
        "Mon, 01 Jan 2024 00:00:00 GMT",
    ),
)
_FILE_REPLIES = (
    Reply("The file.", (Content("*/*", BINARY),)),
    Reply("The requested range of the file.", (Content("*/*", BINARY),), 206),
    Reply("The file is the same as that of the client.", status=304),
)

OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/view",
        id="viewFile",
        tag="Files",
        summary="An output or input file",
        text="Pictures, sounds, videos and plain text are sent with their type; all other files"
        " as application/octet-stream.",
        query=schemas.ViewQuery,
        headers=_RANGES,
        replies=_FILE_REPLIES,
        errors=FILES,
        errors_by_status=((416, InvalidRequestError),),
    ),
    Operation(
        method="head",
        path="/comfyui-deploy/view",
        id="headFile",
        tag="Files",
        summary="The size and the version of an output or input file",
        query=schemas.ViewQuery,
        headers=_RANGES,
        replies=tuple(Reply(reply.text, status=reply.status) for reply in _FILE_REPLIES),
        errors=FILES,
        errors_by_status=((416, InvalidRequestError),),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/models",
        id="listModels",
        tag="Files",
        summary="The model files",
        query=schemas.ModelsQuery,
        replies=(
            json_reply(
                list[ModelEntry] | dict[str, list[list[str]]],
                "The models; by folder as [directories, extensions, names] with `format=folders`.",
            ),
        ),
        errors=MACHINE,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/models/uses",
        id="listModelUses",
        tag="Files",
        summary="The workflows, runs and transfers that use a model",
        query=schemas.ModelUsesQuery,
        replies=(json_reply(ModelUses, "What uses the model."),),
        errors=FILES,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/filename_list_cache",
        id="listFilenames",
        tag="Files",
        summary="The names of all model files",
        query=schemas.ListQuery,
        replies=(
            json_reply(
                list[str] | FilenameLists,
                "The names; by folder with `format=folders`.",
                example=["checkpoints/a.safetensors"],
            ),
        ),
        errors=MACHINE,
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/upload-file",
        id="uploadFile",
        tag="Files",
        summary="Upload files to ComfyUI's folders, or a file of this machine to ComfyDeploy",
        query=schemas.MachineQuery,
        headers=(KEY,),
        bodies=(
            Content(FORM, UPLOAD_FORM, {"file": "hello", "type": "input"}),
            *json_body(schemas.SendFileRequest),
        ),
        replies=(
            json_reply(
                UploadReply | SentFile,
                "The files are in their folders. After a JSON body: ComfyDeploy has the file.",
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
        errors=(*FILES, ConflictError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/get-file-hash",
        id="getFileHash",
        tag="Files",
        summary="The SHA-256 of a file, from the cache if the file has not changed",
        text="`filename` or `file_path` is needed.",
        query=schemas.FileQuery,
        replies=(json_reply(FileHash, "The hash."),),
        errors=(*FILES, ConflictError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/fs/stat",
        id="statPath",
        tag="Files",
        summary="Size, time and file system of a path",
        query=schemas.StatQuery,
        replies=(json_reply(FileStat, "Size, time and file system of the path."),),
        errors=FILES,
    ),
)
