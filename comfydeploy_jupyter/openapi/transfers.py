"""The upload queue, models on volumes, and parts of files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import CloudError, ConflictError, OfflineError
from ..schemas.examples import RUN_ID, TRANSFER_ID
from .files import ModelEntry
from .operation import (
    BYTES,
    CLOUD,
    FILES,
    KEY,
    Link,
    OpenReplyModel,
    Operation,
    ReplyModel,
    Success,
    example_of,
    json_body,
    json_reply,
)


class Transfer(ReplyModel):
    """An upload or a download; sizes in bytes."""

    id: str = Field(examples=[TRANSFER_ID])
    direction: Literal["up", "down"]
    prompt_id: str | None = Field(examples=[RUN_ID])
    node_id: str | None = Field(examples=["2"])
    filename: str = Field(examples=["example_00001_.png"])
    size: int | None = Field(examples=[81920])
    sent: int = Field(examples=[40960])
    state: Literal["queued", "active", "retrying", "done", "failed", "cancelled"] = Field(
        examples=["active"]
    )
    attempts: int = Field(examples=[1])
    error: str | None


class TransferCounts(ReplyModel):
    """The numbers of waiting, unfinished and active transfers."""

    queue_size: int = Field(description="Transfers that wait.", examples=[0])
    pending_uploads: int = Field(description="Transfers that are not finished.", examples=[0])
    active: int = Field(description="Transfers that are active.", examples=[0])


class UploadQueue(TransferCounts):
    """All unfinished transfers, and those that ended recently."""

    completed: int = Field(examples=[4])
    failed: int = Field(examples=[0])
    cancelled: int = Field(examples=[0])
    max_concurrent: int = Field(examples=[3])
    uploads: list[Transfer]


class CancelledUploads(Success):
    """The number of stopped transfers."""

    cancelled: int = Field(examples=[2])


class RetriedUploads(Success):
    """The transfers that are started again."""

    retried: int = Field(examples=[1])
    uploads: list[Transfer]


class UploadedPart(ReplyModel):
    """A part that the storage has confirmed."""

    etag: str = Field(alias="eTag", examples=["9b2c"])
    bytes_sent: int = Field(alias="bytesSent", examples=[1048576])


class VolumeModelList(Success):
    """The models in ComfyUI's folders."""

    models: list[ModelEntry]


class VolumeModelAdded(Transfer, Success):
    """A model that is being transferred."""

    message: str
    path: str = ""
    target: str = ""


class VolumeModelChanged(Success):
    """A model that was moved or deleted."""

    message: str
    path: str = ""


class CloudAnswer(OpenReplyModel):
    """The response of ComfyDeploy, unchanged."""


def _volume_step(step: str, name: str, example: dict[str, Any]) -> Operation:
    return Operation(
        method="post",
        path=f"/comfyui-deploy/volume/file/{step}",
        id=name,
        tag="ComfyDeploy",
        summary="A step of an upload to a ComfyDeploy volume, forwarded to ComfyDeploy",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.CloudBody, example=example),
        replies=(
            json_reply(
                CloudAnswer,
                "The response of ComfyDeploy.",
                example={
                    "uploadUrl": "https://storage.example.com/a",
                    "objectKey": "models/a.safetensors",
                },
            ),
        ),
        errors=CLOUD,
    )


OPERATIONS = (
    Operation(
        method="get",
        path="/comfyui-deploy/upload-queue-status",
        id="getUploadQueue",
        tag="Transfers",
        summary="Uploads and downloads, each with its bytes",
        query=schemas.UploadQueueQuery,
        replies=(
            json_reply(
                UploadQueue,
                "The unfinished transfers, and those that ended recently.",
                example={**example_of(UploadQueue), "pending_uploads": 1, "active": 1},
            ),
        ),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/cancel-uploads",
        id="cancelUploads",
        tag="Transfers",
        summary="Stop the uploads of a run, one transfer, or all uploads",
        bodies=json_body(schemas.CancelUploadsRequest, "prompt_id"),
        replies=(json_reply(CancelledUploads, "The transfers are stopped."),),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/retry-uploads",
        id="retryUploads",
        tag="Transfers",
        summary="Start failed uploads again: those of a run, one transfer, or all",
        headers=(KEY,),
        bodies=json_body(schemas.RetryUploadsRequest, "prompt_id"),
        replies=(json_reply(RetriedUploads, "The transfers are started again."),),
        errors=(*FILES, ConflictError, OfflineError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/volume/model",
        id="changeModels",
        tag="Transfers",
        summary="Models in ComfyUI's folders: add, list, move, delete",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.VolumeModelRequest, "action", "folder"),
        replies=(
            json_reply(
                VolumeModelAdded | VolumeModelList | VolumeModelChanged | CloudAnswer,
                "The list; or the model was moved or deleted, or is being transferred.",
                Link("cancelUploads", body={"id": "$response.body#/id"}),
                Link("retryUploads", body={"id": "$response.body#/id"}),
                example=example_of(VolumeModelList),
            ),
        ),
        errors=(*FILES, ConflictError, OfflineError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/volume/file/upload-part-from-path",
        id="uploadPart",
        tag="Transfers",
        summary="Send a part of a local file to a presigned address",
        bodies=json_body(schemas.UploadPartRequest, "filePath", "uploadUrl", "start", "end"),
        replies=(json_reply(UploadedPart, "The storage has the part."),),
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
)
